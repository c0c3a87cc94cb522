//! Runs that do not come to their natural end: nothing hangs, nothing is left.

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{children, eventually, is_running, shared_files, start, stderr};

/// A scenario in the middle of its work.
struct Run {
    child: Child,
    stderr: BufReader<ChildStderr>,
    processes: Vec<u32>,
}

impl Run {
    /// Starts a scenario that would take an hour and waits until it is on its way.
    fn endless(engine: &str) -> Self {
        let mut child = start(&[
            "bench",
            "scenario",
            "--engine",
            engine,
            "--slot-bytes=20000",
            "--slots=8",
            "--readers=3",
            "--writes-per-second=1000",
            "--duration-seconds=3600",
            "--debug",
        ]);
        let id = child.id();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("all attached") {
            assert!(stderr.read_line(&mut said).unwrap() > 0, "it ended already: {said}");
        }
        // Whatever follows is true at any moment; this one is more likely to be in the stream.
        thread::sleep(Duration::from_millis(50));
        let processes = [children(id, "scenario-reader"), children(id, "scenario-writer")].concat();
        assert_eq!(processes.len(), 4, "three readers and a writer");
        assert!(!shared_files(id).is_empty());
        Self { child, stderr, processes }
    }

    /// Waits for the end; returns the exit code and what was said meanwhile.
    fn end(&mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        assert_eq!(stdout, "", "there is nothing to print about half a run");
        (self.child.wait().unwrap().code(), said)
    }

    fn processes_are_gone(&self) {
        eventually("the processes to end", || {
            self.processes.iter().all(|id| !is_running(*id)).then_some(())
        });
    }

    fn nothing_is_left(&self) {
        self.processes_are_gone();
        assert_eq!(shared_files(self.child.id()), Vec::<String>::new());
    }
}

fn send(signal: Signal, process: u32) {
    kill(Pid::from_raw(process.try_into().unwrap()), signal).unwrap();
}

#[test]
fn an_interrupted_run_cleans_up_and_says_so() {
    for engine in ["ring", "locked"] {
        for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
            let mut run = Run::endless(engine);
            send(signal, run.child.id());
            let (exit, said) = run.end();
            assert_eq!(exit, Some(code), "{said}");
            assert!(said.contains(signal.as_str()), "{said}");
            run.nothing_is_left();
        }
    }
}

#[test]
fn a_killed_process_is_named() {
    for engine in ["ring", "locked"] {
        for (role, name) in [("scenario-reader", "reader "), ("scenario-writer", "the writer")] {
            let mut run = Run::endless(engine);
            let victim = children(run.child.id(), role)[0];
            send(Signal::SIGKILL, victim);
            let (exit, said) = run.end();
            assert_eq!(exit, Some(1), "{said}");
            let error = said.lines().last().unwrap();
            assert!(
                error.contains(name)
                    && error.contains(&format!("process {victim}"))
                    && error.contains("SIGKILL"),
                "{said}"
            );
            run.nothing_is_left();
        }
    }
}

#[test]
fn what_a_killed_run_leaves_is_removed_by_the_next() {
    for engine in ["ring", "locked"] {
        let mut run = Run::endless(engine);
        send(Signal::SIGKILL, run.child.id());
        assert_eq!(run.end().0, None, "killed");
        // Nobody is there to unlink anything, and any start from here on may do it,
        // also that of a test which runs at the same time.
        run.processes_are_gone();

        let short = [
            "--slot-bytes=64",
            "--slots=4",
            "--readers=1",
            "--writes-per-second=100",
            "--duration-seconds=0.05",
        ];
        let output = support::run(&[&["bench", "scenario"], &short[..]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        run.nothing_is_left();
    }
}
