//! `seqring demo` without a terminal.

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use support::{children, eventually, is_running, run, shared_files, start, stderr};

fn send(process: u32, signal: Signal) {
    kill(Pid::from_raw(process.try_into().unwrap()), signal).unwrap();
}

#[test]
fn it_tells_the_whole_story_and_its_numbers_add_up() {
    let child = start(&["demo", "--plain", "--seconds", "3"]);
    let process = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(shared_files(process), Vec::<String>::new());

    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "was killed with SIGKILL",
        "takes its place",
        "late joiner",
        "readers-writer lock",
        "ring",
        "locked",
        "Under the lock",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    // "NAME received R + lost L = N published since it joined"
    let mut readers = 0;
    for line in text.lines().filter(|line| line.contains("published since it joined")) {
        let numbers: Vec<u64> = line
            .split_once("received")
            .unwrap()
            .1
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let [received, lost, published] = numbers[..] else { panic!("three numbers in {line:?}") };
        assert_eq!(received + lost, published, "{line}");
        assert!(received > 0, "{line}");
        readers += 1;
    }
    // The readers are registered: they sleep until they are woken, and the table counts it.
    let sleeps =
        |line: &str| line.split_once("sleeps")?.1.split_whitespace().next()?.parse::<u64>().ok();
    assert!(text.lines().filter_map(sleeps).any(|sleeps| sleeps > 0), "{text}");
    // Five, one of which was killed, its replacement and the late joiner.
    assert_eq!(readers, 6, "{text}");
}

#[test]
fn a_reader_that_dies_uninvited_is_an_error() {
    let child = start(&["demo", "--plain", "--seconds", "600"]);
    let process = child.id();
    let readers = eventually("five readers", || {
        Some(children(process, "demo-reader")).filter(|readers| readers.len() == 5)
    });
    send(readers[3], Signal::SIGKILL);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains(&format!("(process {}) ended uninvited", readers[3])),
        "{}",
        stderr(&output)
    );
    assert_eq!(shared_files(process), Vec::<String>::new());
}

#[test]
fn an_interrupt_ends_everything() {
    let child = start(&["demo", "--plain", "--seconds", "600"]);
    let process = child.id();
    let producer = eventually("the producer", || children(process, "demo-producer").pop());
    let readers = children(process, "demo-reader");
    send(process, Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    for child in readers.into_iter().chain([producer]) {
        eventually("the end of the children", || (!is_running(child)).then_some(()));
    }
    assert_eq!(shared_files(process), Vec::<String>::new());
}

#[test]
fn a_killed_demo_takes_its_children_along_and_the_next_start_cleans_up() {
    let mut child = start(&["demo", "--plain", "--seconds", "600"]);
    let process = child.id();
    let mut all = eventually("all processes", || {
        let readers = children(process, "demo-reader");
        (readers.len() == 5 && !children(process, "demo-producer").is_empty()).then_some(readers)
    });
    all.extend(children(process, "demo-producer"));
    child.kill().unwrap();
    child.wait().unwrap();
    for child in all {
        eventually("the end of the children", || (!is_running(child)).then_some(()));
    }
    // Another test may have started the command meanwhile, so that nothing need be left to clean.
    assert!(run(&["demo", "--plain", "--seconds", "2"]).status.success());
    assert_eq!(shared_files(process), Vec::<String>::new());
}

#[test]
fn bad_arguments_are_refused() {
    for seconds in ["0", "1.9", "-5", "NaN", "soon", "1e9"] {
        let output = run(&["demo", &format!("--seconds={seconds}")]);
        assert_eq!(output.status.code(), Some(2), "{seconds}");
        assert!(stderr(&output).contains("--seconds"), "{}", stderr(&output));
    }
}
