//! `seqring bench wake`, in short: what it prints, and what must hold whatever the speed.

mod support;

use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use support::{children, eventually, is_running, shared_files, start, stderr};

/// Whether two processes can be pinned to two CPUs; elsewhere the benchmark refuses, which the
/// tests of latency see to.
fn has_two_cpus() -> bool {
    thread::available_parallelism().unwrap().get() >= 2
}

#[test]
fn its_rows_have_the_published_fields_and_sense() {
    if !has_two_cpus() {
        return;
    }
    let child = start(&["bench", "wake", "--rounds", "20", "--idle-seconds", "0.5", "--json"]);
    let process = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(shared_files(process), Vec::<String>::new());
    let rows: Vec<Value> =
        serde_json::from_slice(&output.stdout).expect("standard output is JSON and nothing else");
    let roles: Vec<_> = rows.iter().map(|row| row["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["consumer", "producer", "idle-consumer", "idle-consumer"]);
    let number = |row: &Value, field: &str| {
        row[field].as_f64().unwrap_or_else(|| panic!("{field} is no number in {row}"))
    };
    for row in &rows[..2] {
        let sorted = |fields: &[&str]| fields.iter().map(|field| number(row, field)).is_sorted();
        assert!(sorted(&["p50_ns", "p99_ns", "p999_ns", "max_ns"]), "{row}");
        assert!(sorted(&["bare_p50_ns", "bare_p99_ns", "bare_p999_ns", "bare_max_ns"]), "{row}");
        assert!(
            sorted(&["ratio_q1", "ratio_to_bare", "ratio_q3"]) && number(row, "ratio_q1") > 0.0,
            "{row}"
        );
        assert_eq!((&row["rounds"], &row["trips"]), (&20.into(), &200.into()));
        assert!(
            (1.0..=200.0).contains(&number(row, "asleep"))
                && (1.0..=200.0).contains(&number(row, "bare_asleep")),
            "{row}"
        );
    }
    for (row, wait) in rows[2..].iter().zip(["parked", "napping"]) {
        assert_eq!(row["wait"], wait);
        assert!(number(row, "seconds") >= 0.5, "{row}");
        let percent = number(row, "cpu_seconds") / number(row, "seconds") * 100.0;
        assert!((number(row, "cpu_percent") - percent).abs() < 1e-9, "{row}");
    }
    // Hundreds of naps against a few looks at the producer's life: not even close, unless the
    // kernel counts by its ticks.
    assert!(number(&rows[2], "cpu_seconds") <= number(&rows[3], "cpu_seconds"), "{rows:?}");
}

#[test]
fn an_interrupt_ends_both_processes_and_leaves_nothing() {
    if !has_two_cpus() {
        return;
    }
    // While it measures wake-ups, and while it waits for the idle.
    for rounds in ["100000", "1"] {
        let child = start(&["bench", "wake", "--rounds", rounds, "--idle-seconds", "600"]);
        let process = child.id();
        let peer = eventually("the second process", || children(process, "bench-peer").pop());
        if rounds == "1" {
            eventually("the idle consumer", || {
                shared_files(process).iter().any(|name| name.contains("idle")).then_some(())
            });
        }
        kill(Pid::from_raw(process.try_into().unwrap()), Signal::SIGINT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
        eventually("the end of the second process", || (!is_running(peer)).then_some(()));
        assert_eq!(shared_files(process), Vec::<String>::new());
    }
}
