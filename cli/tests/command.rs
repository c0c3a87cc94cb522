//! The command line itself: help, completions, and what bad input gets.

mod support;

use std::{fs, io};

use support::{run, seqring, stderr};

/// A scenario that is over at once, should a test fail to be refused.
const SMALL: [&str; 11] = [
    "bench",
    "scenario",
    "--slot-bytes=64",
    "--slots=4",
    "--readers=1",
    "--writes-per-second=100",
    "--duration-seconds=0.05",
    "--engine",
    "locked",
    "--json",
    "--debug",
];

fn with<'a>(extra: &[&'a str]) -> Vec<&'a str> {
    SMALL.iter().copied().chain(extra.iter().copied()).collect()
}

#[test]
fn help_is_everywhere_and_has_examples() {
    for arguments in [
        vec!["--help"],
        vec!["bench", "scenario", "--help"],
        vec!["bench", "wake", "--help"],
        vec!["completions", "--help"],
    ] {
        let output = run(&arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(text.contains("Examples:"), "{arguments:?}: {text}");
    }
    let text = String::from_utf8(run(&["--help"]).stdout).unwrap();
    assert!(
        !text.contains("scenario-reader"),
        "the processes of a scenario are nobody's commands: {text}"
    );
}

#[test]
fn the_version_is_that_of_the_package() {
    let text = String::from_utf8(run(&["--version"]).stdout).unwrap();
    assert_eq!(text.trim(), format!("seqring {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_know_the_options() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0));
        for option in ["reader-burn-cpu-milliseconds", "writers", "idle-seconds"] {
            assert!(text.contains(option), "{shell}: {option}");
        }
        assert!(
            !text.contains("scenario-writer") && !text.contains("scenario__writer"),
            "{shell} offers an internal process"
        );
    }
}

#[test]
fn bad_usage_is_explained_and_exits_with_2() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage"),
        (&["bench", "scenario"], "PRESET"),
        (&["bench", "scenario", "steadi"], "steady"),
        (&["bench", "scenario", "--slots=3"], "--slot-bytes <N>"),
        (&["bench", "scenario", "steady", "--slots=0"], "--slots"),
        (&["bench", "scenario", "steady", "--slots", "-1"], "invalid value '-1' for '--slots <N>'"),
        (&["bench", "scenario", "steady", "--readers=0"], "--readers"),
        (&["bench", "scenario", "steady", "--readers=1000000"], "1..=4096"),
        (&["bench", "scenario", "steady", "--slot-bytes=0"], "at least 20 bytes"),
        (&["bench", "scenario", "steady", "--slot-bytes=99999999999999999999"], "too large"),
        (&["bench", "scenario", "steady", "--writes-per-second=0"], "at least 0.001"),
        (&["bench", "scenario", "steady", "--duration-seconds=inf"], "at most 1e9"),
        (&["bench", "scenario", "steady", "--engine=fast"], "possible values"),
        (&["bench", "scenario", "steady", "--writers=0"], "1..=256"),
        (
            &["bench", "scenario", "steady", "--writers=2"],
            "the locked queue has one writer; add '--engine ring'",
        ),
        (&["bench", "scenario", "steady", "--wait=nap"], "possible values: spin, yield, park"),
        (&["bench", "wake", "--rounds=0"], "--rounds"),
        (&["bench", "wake", "--idle-seconds=-1"], "use 0.01 to 86400"),
        (&["bench", "wake", "--idle-seconds=x"], "--idle-seconds"),
        (&["completions", "tcsh"], "possible values"),
    ];
    for (arguments, expected) in cases {
        let output = run(arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}

#[test]
fn a_standard_error_that_nobody_reads_is_no_failure() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let output = seqring(&SMALL).stderr(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.starts_with(b"["), "the run has its figures");
}

#[test]
fn what_does_not_fit_into_memory_is_refused_with_the_free_space() {
    for size in ["--slot-bytes=4611686018427387904", "--slots=1099511627776"] {
        let output = run(&["bench", "scenario", "steady", size]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("/dev/shm has") && text.contains("free"), "{text}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join("missing").join("report.html");
    for path in [directory.path(), &inside] {
        let output = run(&with(&["--report", path.to_str().unwrap()]));
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains("cannot write the report") && text.contains(path.to_str().unwrap()),
            "{text}"
        );
        assert!(output.stdout.is_empty() && !text.contains("attached"), "nothing ran: {text}");
    }
}

#[test]
fn a_failed_run_leaves_no_report_and_an_old_one_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.html");
    let refused = |path: &str| {
        let output =
            run(&["bench", "scenario", "steady", "--slots=1099511627776", "--report", path]);
        assert_eq!(output.status.code(), Some(1));
    };
    refused(path.to_str().unwrap());
    assert!(!path.exists());
    fs::write(&path, "old").unwrap();
    refused(path.to_str().unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
}

#[test]
fn the_processes_of_a_scenario_do_not_run_alone() {
    for arguments in [vec!["scenario-writer"], vec!["scenario-reader", "0"]] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("seqring bench scenario"), "{text}");
    }
}
