//! Short scenarios with real processes, and what they print.

mod support;

use std::fs;

use serde_json::Value;
use support::{run, stderr};

/// Every object of the JSON has exactly these.
const FIELDS: [&str; 21] = [
    "duration_seconds",
    "engine",
    "latency_ns",
    "mb_per_second",
    "mode",
    "percent_vs_target",
    "preset",
    "readers",
    "readers_cpu_seconds",
    "readers_detail",
    "slot_bytes",
    "slots",
    "stalls",
    "target_writes_per_second",
    "wait",
    "waited_for",
    "writer_cpu_seconds",
    "writers",
    "writers_detail",
    "writes",
    "writes_per_second",
];

fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<_> =
        object.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// Runs scenarios and checks what has to hold whatever the machine did meanwhile.
fn outcomes(arguments: &[&str]) -> Vec<Value> {
    let output = run(&[&["bench", "scenario", "--json"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let outcomes: Vec<Value> =
        serde_json::from_slice(&output.stdout).expect("standard output is JSON and nothing else");
    for outcome in &outcomes {
        check(outcome);
    }
    outcomes
}

fn check(outcome: &Value) {
    assert_eq!(keys(outcome), FIELDS);
    let count = |name: &str| outcome[name].as_u64().unwrap_or_else(|| panic!("{name}: {outcome}"));
    let number = |name: &str| outcome[name].as_f64().unwrap_or_else(|| panic!("{name}: {outcome}"));

    let writes = count("writes");
    assert!(writes > 0, "{outcome}");
    let rate = writes as f64 / number("duration_seconds");
    assert!((number("writes_per_second") / rate - 1.0).abs() < 1e-9);
    let percent = (rate / number("target_writes_per_second") - 1.0) * 100.0;
    assert!((number("percent_vs_target") - percent).abs() < 1e-6);
    assert!(
        (number("mb_per_second") - rate * number("slot_bytes") / 1e6).abs()
            < 1e-6 * rate * number("slot_bytes")
    );
    assert!(number("writer_cpu_seconds") > 0.0 && number("readers_cpu_seconds") > 0.0);

    let latency = &outcome["latency_ns"];
    assert_eq!(keys(latency), ["max", "p50", "p99", "p999"]);
    let percentiles: Vec<_> =
        ["p50", "p99", "p999", "max"].map(|name| latency[name].as_u64().unwrap()).to_vec();
    assert!(percentiles.is_sorted() && percentiles[0] > 0, "{latency}");

    let readers = outcome["readers_detail"].as_array().expect("an array");
    assert_eq!(readers.len() as u64, count("readers"));
    for reader in readers {
        assert_eq!(
            keys(reader),
            ["corrupt", "duplicates", "lost", "out_of_order", "received", "sleeps", "tombstones"]
        );
        let count = |name: &str| reader[name].as_u64().unwrap();
        assert_eq!(count("received") + count("lost"), writes, "{outcome}");
        assert_eq!(
            count("corrupt") + count("duplicates") + count("out_of_order") + count("tombstones"),
            0,
            "{outcome}"
        );
    }

    let writers = outcome["writers_detail"].as_array().expect("an array");
    assert_eq!(writers.len() as u64, count("writers"));
    assert_eq!(
        writers.iter().map(|writer| writer["writes"].as_u64().unwrap()).sum::<u64>(),
        writes,
        "{outcome}"
    );
}

#[test]
fn a_custom_scenario_with_both_engines() {
    let sizes = [
        "--slot-bytes=5003",
        "--slots=64",
        "--readers=3",
        "--writes-per-second=500",
        "--duration-seconds=0.4",
    ];
    let outcomes = outcomes(&sizes);
    assert_eq!(outcomes.len(), 2);
    for (outcome, engine) in outcomes.iter().zip(["ring", "locked"]) {
        assert_eq!(outcome["engine"], engine);
        assert_eq!(outcome["preset"], "custom");
        assert_eq!(outcome["slot_bytes"], 5003);
        assert_eq!(outcome["slots"], 64);
        assert_eq!(outcome["readers"], 3);
        assert_eq!(outcome["target_writes_per_second"], 500.0);
        assert_eq!(outcome["wait"].as_str(), (engine == "ring").then_some("park"));
        assert_eq!(outcome["writers"], 1);
        assert!(
            outcome["writes"].as_u64().unwrap() <= 200,
            "never faster than the target: {outcome}"
        );
    }
}

#[test]
fn readers_that_gate_lose_nothing_and_the_writer_says_whom_it_waited_for() {
    let sizes = [
        "--slot-bytes=100",
        "--slots=4",
        "--readers=2",
        "--writes-per-second=500",
        "--duration-seconds=0.5",
    ];
    let outcomes = outcomes(
        &[&sizes[..], &["--engine=ring", "--mode=gating", "--reader-burn-cpu-milliseconds=20"]]
            .concat(),
    );
    let [ring] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(ring["mode"], "gating");
    assert!(
        ring["readers_detail"].as_array().unwrap().iter().all(|reader| reader["lost"] == 0),
        "{ring}"
    );
    assert!(ring["stalls"].as_u64().unwrap() > 0, "{ring}");
    let waited = ring["waited_for"].as_array().unwrap();
    assert!(
        !waited.is_empty()
            && waited.iter().all(|w| w["reader"].as_str().unwrap().starts_with("reader ")),
        "{ring}"
    );
    assert!(
        waited
            .iter()
            .all(|w| w["times"].as_u64().unwrap() > 0 && w["seconds"].as_f64().unwrap() > 0.0),
        "{ring}"
    );
}

#[test]
fn several_writers_share_the_rate_and_lose_nothing_while_readers_gate() {
    let sizes = [
        "--slot-bytes=100",
        "--slots=64",
        "--readers=2",
        "--writes-per-second=3000",
        "--duration-seconds=0.5",
    ];
    let outcomes =
        outcomes(&[&sizes[..], &["--engine=ring", "--mode=gating", "--writers=3"]].concat());
    let [ring] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(ring["writers"], 3);
    assert!(
        ring["writes"].as_u64().unwrap() <= 1500,
        "together not faster than the target: {ring}"
    );
    assert!(
        ring["writers_detail"]
            .as_array()
            .unwrap()
            .iter()
            .all(|writer| writer["writes"].as_u64().unwrap() > 0),
        "{ring}"
    );
    assert!(
        ring["readers_detail"].as_array().unwrap().iter().all(|reader| reader["lost"] == 0),
        "{ring}"
    );
}

#[test]
fn several_writers_at_full_speed_overwrite_each_other_and_all_is_accounted_for() {
    let sizes = [
        "--slot-bytes=4096",
        "--slots=4",
        "--readers=2",
        "--writes-per-second=1000000",
        "--duration-seconds=0.3",
    ];
    outcomes(&[&sizes[..], &["--engine=ring", "--writers=2"]].concat());
}

#[test]
fn readers_wait_as_they_are_told() {
    let sizes = [
        "--slot-bytes=100",
        "--slots=64",
        "--readers=2",
        "--writes-per-second=200",
        "--duration-seconds=0.3",
        "--engine=ring",
    ];
    let sleeps = |wait: &str, mode: &str| -> Vec<Option<u64>> {
        let outcomes = outcomes(&[&sizes[..], &["--wait", wait, "--mode", mode]].concat());
        assert_eq!((&outcomes[0]["wait"], &outcomes[0]["mode"]), (&wait.into(), &mode.into()));
        outcomes[0]["readers_detail"]
            .as_array()
            .unwrap()
            .iter()
            .map(|reader| reader["sleeps"].as_u64())
            .collect()
    };
    for mode in ["overwrite", "gating"] {
        // Between two messages are five milliseconds: nobody spins for that long who is to park.
        assert!(sleeps("park", mode).iter().all(|sleeps| sleeps.is_some_and(|sleeps| sleeps > 0)));
    }
    for wait in ["spin", "yield"] {
        assert_eq!(sleeps(wait, "gating"), [Some(0); 2]);
        assert_eq!(sleeps(wait, "overwrite"), [None; 2], "free readers have no row");
    }
}

#[test]
fn options_change_a_preset_but_not_its_name() {
    let changes =
        ["contended", "--engine=ring", "--readers=12", "--slot-bytes=20", "--duration-seconds=0.3"];
    let outcomes = outcomes(&changes);
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[0]["preset"], "contended");
    assert_eq!(outcomes[0]["slots"], 10);
    assert_eq!(outcomes[0]["readers"], 12);
    assert_eq!(outcomes[0]["slot_bytes"], 20);
}

#[test]
fn slow_readers_lose_in_the_ring_and_stall_the_locked_queue() {
    // Each message takes a reader 20 ms, and there are 10 every 20 ms.
    let sizes = [
        "--slot-bytes=100",
        "--slots=4",
        "--readers=2",
        "--writes-per-second=500",
        "--duration-seconds=0.5",
    ];
    let outcomes = outcomes(&[&sizes[..], &["--reader-burn-cpu-milliseconds=20"]].concat());
    let [ring, locked] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    let lost = |outcome: &Value| -> Vec<u64> {
        outcome["readers_detail"]
            .as_array()
            .unwrap()
            .iter()
            .map(|reader| reader["lost"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(ring["stalls"], 0);
    assert!(lost(ring).iter().all(|lost| *lost > 0), "{ring}");
    assert_eq!(lost(locked), [0, 0]);
    assert!(locked["stalls"].as_u64().unwrap() > 0, "{locked}");
    assert!(locked["writes"].as_u64() < ring["writes"].as_u64());
    assert!(
        locked["readers_cpu_seconds"].as_f64().unwrap()
            >= 0.02 * 2.0 * locked["writes"].as_f64().unwrap()
    );
}

#[test]
fn many_laps_without_verification_are_still_accounted_for() {
    // As fast as one slot can be overwritten: this is about laps, not about rates.
    let sizes = [
        "--slot-bytes=4096",
        "--slots=2",
        "--readers=2",
        "--writes-per-second=1000000",
        "--duration-seconds=0.3",
    ];
    outcomes(&[&sizes[..], &["--no-verify"]].concat());
    outcomes(&sizes);
}

#[test]
fn without_json_there_are_tables() {
    let arguments =
        ["steady", "--slot-bytes=1000", "--readers=9", "--duration-seconds=0.2", "--debug"];
    let output = run(&[&["bench", "scenario"], &arguments[..]].concat());
    let details = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{details}");
    let text = String::from_utf8(output.stdout).unwrap();
    for word in [
        "steady, ring engine",
        "steady, locked engine",
        "side by side",
        "readers, median",
        "out of order",
        "p99.9",
        "vs target",
        "tombstones",
        "sleeps",
        "readers wait",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("reader 3"), "nine readers are summed up: {text}");
    assert!(details.contains("reader 8 (process "), "{details}");
}

#[test]
fn the_report_is_one_file_that_needs_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.html");
    fs::write(&path, "x".repeat(1_000_000)).unwrap();
    let arguments = [
        "--slot-bytes=1000",
        "--duration-seconds=0.1",
        "--readers=2",
        "--json",
        "--report",
        path.to_str().unwrap(),
    ];
    let output =
        run(&[&["bench", "scenario", "all", "--reader-burn-cpu-milliseconds=0"], &arguments[..]]
            .concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let page = fs::read_to_string(&path).unwrap();
    assert!(
        page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"),
        "all of it, and nothing of what was there"
    );
    assert_eq!(page.matches("<svg").count(), 4);
    for outside in ["src=", "href=", "@import", "url(", "<script", "<link", "<iframe"] {
        assert!(!page.contains(outside), "{outside} refers to something outside");
    }
    for word in [
        "steady",
        "contended",
        "fast",
        "large",
        "slow-readers",
        "bench scenario all",
        "kernel",
        "CPU seconds",
    ] {
        assert!(page.contains(word), "{word}");
    }
    let plots = page.split("<svg").skip(1).map(|rest| rest.split("</svg>").next().unwrap());
    for plot in plots {
        assert!(!plot.contains("\"#"), "every color of a plot comes from the style sheet: {plot}");
    }
}
