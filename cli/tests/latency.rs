//! `seqring bench latency` and `seqring bench throughput`, in short: what they print, and what must
//! hold whatever the speed.

mod support;

use std::collections::BTreeSet;
use std::thread;

use serde_json::Value;

use support::{eventually, is_running, run, seqring, shared_files, start, stderr};

/// The rows a benchmark prints; nothing on a machine with one CPU, where it must refuse and say
/// why.
fn rows(arguments: &[&str]) -> Option<Vec<Value>> {
    let child = start(arguments);
    let process = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(shared_files(process), Vec::<String>::new());
    if thread::available_parallelism().unwrap().get() < 2 {
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("two CPUs"), "{}", stderr(&output));
        return None;
    }
    assert!(output.status.success(), "{}", stderr(&output));
    Some(serde_json::from_slice(&output.stdout).expect("standard output is JSON and nothing else"))
}

fn number(row: &Value, field: &str) -> f64 {
    row[field].as_f64().unwrap_or_else(|| panic!("{field} is no number in {row}"))
}

fn keys(row: &Value) -> BTreeSet<&str> {
    row.as_object().expect("a row is an object").keys().map(String::as_str).collect()
}

#[test]
fn latency_rows_have_the_published_fields_and_sense() {
    let arguments =
        ["bench", "latency", "--json", "--rounds", "5", "--payload-bytes", "8,48,64,300,65536"];
    let Some(rows) = rows(&arguments) else { return };
    let sizes: Vec<_> = rows.iter().map(|row| number(row, "payload_bytes") as u64).collect();
    assert_eq!(sizes, [8, 48, 64, 300, 65536]);
    for row in &rows {
        let expected = [
            "bench",
            "engine",
            "payload_bytes",
            "rounds",
            "p50_ns",
            "p99_ns",
            "p999_ns",
            "floor_ns",
            "ratio_to_floor",
            "ratio_q1",
            "ratio_q3",
        ];
        assert_eq!(keys(row), BTreeSet::from(expected));
        assert_eq!(
            (&row["bench"], &row["engine"], &row["rounds"]),
            (&"latency".into(), &"ring".into(), &5.into())
        );
        let ordered = |fields: [&str; 3]| fields.map(|field| number(row, field)).is_sorted();
        assert!(
            number(row, "p50_ns") > 0.0
                && number(row, "floor_ns") > 0.0
                && number(row, "ratio_q1") > 0.0,
            "{row}"
        );
        assert!(
            ordered(["p50_ns", "p99_ns", "p999_ns"])
                && ordered(["ratio_q1", "ratio_to_floor", "ratio_q3"]),
            "{row}"
        );
    }
}

#[test]
fn latency_of_both_engines() {
    let Some(rows) = rows(&[
        "bench",
        "latency",
        "--json",
        "--rounds",
        "1",
        "--payload-bytes",
        "9",
        "--engine",
        "ring,locked",
    ]) else {
        return;
    };
    let engines: Vec<_> = rows.iter().map(|row| row["engine"].as_str().unwrap()).collect();
    assert_eq!(engines, ["ring", "locked"]);
}

#[test]
fn throughput_rows_have_the_published_fields_and_add_up() {
    let Some(rows) = rows(&["bench", "throughput", "--json", "--rounds", "5"]) else { return };
    let modes: Vec<_> = rows
        .iter()
        .map(|row| (row["engine"].as_str().unwrap(), row["mode"].as_str().unwrap()))
        .collect();
    for mode in [
        "publish-alone",
        "receive-filled",
        "overwrite",
        "overwrite-batch",
        "idle-consumers-0",
        "idle-consumers-1000",
        "bulk-copy-publish",
        "bulk-copy-receive",
    ] {
        assert!(modes.contains(&("ring", mode)), "{mode} is not among {modes:?}");
    }
    assert!(modes.contains(&("locked", "lossless")), "{modes:?}");
    for row in &rows {
        assert_eq!(row["bench"], "throughput");
        for field in [
            "payload_bytes",
            "batch",
            "messages_per_second",
            "bytes_per_second",
            "messages_per_floor",
            "floor_ns",
        ] {
            assert!(number(row, field) > 0.0, "{field} in {row}");
        }
        let bytes = number(row, "messages_per_second") * number(row, "payload_bytes");
        assert!((bytes / number(row, "bytes_per_second") - 1.0).abs() < 1e-9, "{row}");
        if row.get("published").is_some() {
            assert_eq!(
                number(row, "received") + number(row, "lost"),
                number(row, "published"),
                "{row}"
            );
        }
        let ratio = match row["mode"].as_str().unwrap() {
            "publish-alone" | "receive-filled" => "ratio_to_fence",
            "idle-consumers-1000" => "ratio_to_no_consumers",
            "bulk-copy-publish" | "bulk-copy-receive" => "ratio_to_memcpy",
            _ => continue,
        };
        assert!(
            ["ratio_q1", ratio, "ratio_q3"].map(|field| number(row, field)).is_sorted(),
            "{row}"
        );
    }
    let lossless = rows.iter().find(|row| row["mode"] == "lossless").unwrap();
    assert_eq!(number(lossless, "lost"), 0.0);
}

#[test]
fn tables_are_for_people() {
    if thread::available_parallelism().unwrap().get() < 2 {
        return;
    }
    let output = run(&["bench", "latency", "--rounds", "1", "--payload-bytes", "8"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("one way / floor") && text.contains("8 B"), "{text}");
}

#[test]
fn bad_arguments_are_refused() {
    for arguments in [
        &["latency", "--payload-bytes", "0"][..],
        &["latency", "--payload-bytes", "7"],
        &["latency", "--payload-bytes", "-8"],
        &["latency", "--payload-bytes", "8,x"],
        &["latency", "--rounds", "0"],
        &["latency", "--slots", "0"],
        &["latency", "--engine", "pigeon"],
        &["throughput", "--rounds", "0"],
        &["throughput", "--engine", ""],
    ] {
        let output = run(&[&["bench"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            stderr(&output).contains(&format!("'{}", arguments[1])),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn a_payload_beyond_all_memory_is_an_error_and_leaves_nothing() {
    let Ok(mut child) =
        seqring(&["bench", "latency", "--payload-bytes", "1073741824", "--slots", "16777216"])
            .stderr(std::process::Stdio::piped())
            .spawn()
    else {
        panic!("the command can be started")
    };
    let process = child.id();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(shared_files(process), Vec::<String>::new());
}

#[test]
fn without_its_second_process_it_ends_with_an_error() {
    if thread::available_parallelism().unwrap().get() < 2 {
        return;
    }
    for engine in ["ring", "locked"] {
        let child = start(&["bench", "latency", "--rounds", "1000000", "--engine", engine]);
        let process = child.id();
        let peer =
            eventually("the second process", || support::children(process, "bench-peer").pop());
        kill(peer, nix::sys::signal::Signal::SIGKILL);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{engine}");
        // The lock may notice first.
        let text = stderr(&output);
        assert!(
            text.contains("second process")
                || text.contains("a process died while it held the lock"),
            "{engine}: {text}"
        );
        assert_eq!(shared_files(process), Vec::<String>::new());
    }
}

#[test]
fn an_interrupt_ends_both_processes_and_leaves_nothing() {
    if thread::available_parallelism().unwrap().get() < 2 {
        return;
    }
    let child = start(&["bench", "latency", "--rounds", "1000000"]);
    let process = child.id();
    let peer = eventually("the second process", || support::children(process, "bench-peer").pop());
    kill(process, nix::sys::signal::Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    eventually("the end of the second process", || (!is_running(peer)).then_some(()));
    assert_eq!(shared_files(process), Vec::<String>::new());
}

fn kill(process: u32, signal: nix::sys::signal::Signal) {
    let process = nix::unistd::Pid::from_raw(process.try_into().unwrap());
    nix::sys::signal::kill(process, signal).unwrap();
}
