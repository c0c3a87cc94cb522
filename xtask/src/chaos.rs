//! `cargo xtask chaos`: the chaos test with a chosen number of kills.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::command;
use crate::workspace::Workspace;

/// The test binary and the test in it.
const BINARY: &str = "chaos";
const TEST: &str = "survivors_go_on";

/// Interval at which the task looks for Ctrl-C while the test runs.
const POLL: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of processes to kill
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub kills: u64,
    /// Seed of the choices: which process is killed, and when [default: from the clock]
    #[arg(long)]
    pub seed: Option<u64>,
}

/// Runs the test; fails with the seed if it fails.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let binary = build(workspace)?;
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let seed = args.seed.unwrap_or_else(now);
    println!("{} kills, seed {seed}", args.kills);
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .with_context(|| format!("cannot handle signal {signal}"))?;
    }
    let mut test = Command::new(&binary)
        .args([TEST, "--exact", "--nocapture"])
        .env("SEQRING_CHAOS_KILLS", args.kills.to_string())
        .env("SEQRING_CHAOS_SEED", seed.to_string())
        .env("SEQRING_CHAOS_DRIVEN", "1")
        // Ctrl-C must not reach the test, because it would kill the test's actors. The test ends
        // when its input ends, and cleans up.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} cannot be started", binary.display()))?;
    let lines = lines_of(&mut test);
    follow(&mut test, &lines, args.kills, &interrupted);
    let status = test.wait()?;
    if !status.success() {
        bail!(
            "the chaos test failed ({status}); `cargo xtask chaos --kills {} --seed {seed}` repeats its choices",
            args.kills
        );
    }
    if interrupted.load(Ordering::Relaxed) {
        bail!("interrupted; no fault was found until then");
    }
    Ok(())
}

/// Builds the test with optimisation, so that its actors start and end faster.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let args = [
        "test",
        "--package",
        "seqring",
        "--test",
        BINARY,
        "--release",
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ];
    let messages = command::output(&mut command::cargo(workspace, args))?;
    let executable = |line: &str| {
        Some(PathBuf::from(serde_json::from_str::<Value>(line).ok()?["executable"].as_str()?))
    };
    messages
        .lines()
        .filter_map(executable)
        .next_back()
        .with_context(|| format!("cargo did not name the executable of the test {BINARY}"))
}

/// The lines that the test prints. The channel closes when the test ends.
fn lines_of(test: &mut Child) -> Receiver<String> {
    let output = BufReader::new(test.stdout.take().expect("piped"));
    let (sender, lines) = channel();
    thread::spawn(move || {
        output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    lines
}

/// Shows the test's progress until it ends, and asks it to end when `interrupted`.
fn follow(test: &mut Child, lines: &Receiver<String>, kills: u64, interrupted: &AtomicBool) {
    let bar = ProgressBar::new(kills);
    let style = ProgressStyle::with_template(
        "{bar:40.cyan} {pos} of {len} kills, {elapsed} ({eta} to go) {msg}",
    );
    bar.set_style(style.expect("the template is valid"));
    loop {
        match lines.recv_timeout(POLL) {
            Ok(line) => match line.strip_prefix("kills ").and_then(|number| number.parse().ok()) {
                Some(kills) => bar.set_position(kills),
                None => bar.suspend(|| println!("{line}")),
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if interrupted.load(Ordering::Relaxed) && test.stdin.take().is_some() {
            bar.set_message("- ending");
        }
    }
    bar.finish_and_clear();
}
