//! What the tests of the command share.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The command, with nothing on its standard input.
pub fn seqring(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seqring"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs the command to its end.
pub fn run(arguments: &[&str]) -> Output {
    seqring(arguments).output().expect("the command can be started")
}

/// Starts the command and captures what it writes.
pub fn start(arguments: &[&str]) -> Child {
    seqring(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command can be started")
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The names in `/dev/shm` that belong to the run of this process.
pub fn shared_files(process: u32) -> Vec<String> {
    let pattern = format!("seqring-bench-{process}-");
    let entries = fs::read_dir("/dev/shm").expect("Linux has /dev/shm");
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains(&pattern))
        .collect()
}

/// The process ids of a process's children whose command line has this word.
pub fn children(process: u32, word: &str) -> Vec<u32> {
    let path = format!("/proc/{process}/task/{process}/children");
    let list = fs::read_to_string(path).unwrap_or_default();
    let ids = list.split_whitespace().map(|id| id.parse().expect("the kernel lists numbers"));
    ids.filter(|id: &u32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
    })
    .collect()
}

/// Whether a process runs, and is not merely waiting to be reaped.
pub fn is_running(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses and may contain anything.
    status.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Waits for something that has to happen; the limit is only there to fail instead of hanging.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
