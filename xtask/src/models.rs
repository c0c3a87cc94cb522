//! Builds the loom models and runs each in a process of its own.
//!
//! Loom explores one model in one thread; separate processes use all cores, can be given a time
//! limit, and survive a model that aborts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command;
use crate::places::MODELS;
use crate::workspace::Workspace;

/// The profile that the models are built with.
pub const PROFILE: &str = "loom";

/// Interval at which a running model is checked.
const POLL: Duration = Duration::from_millis(10);

/// One model: a test function in one test binary.
#[derive(Debug, Clone)]
pub struct Model {
    /// The test's path, after the name of its test target unless that is the library.
    pub name: String,
    /// Marked `#[ignore]`: it takes too long for the gate.
    pub long: bool,
    /// The test target that holds it; `None` is the package's library.
    pub target: Option<String>,
    test: String,
    binary: PathBuf,
}

/// How a model's run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    Passed,
    /// The model found a fault; the message of the first panic.
    Failed(String),
    /// The model showed nothing: it reached a limit, or an outcome that it is about never happened.
    Inconclusive(String),
    /// It was stopped at the time limit.
    TimedOut,
    /// It was stopped, or not started, because another model had failed.
    Stopped,
}

/// One run of one model.
#[derive(Debug)]
pub struct Run {
    pub model: String,
    pub ended: Ended,
    pub elapsed: Duration,
    /// Everything that the model printed.
    pub log: PathBuf,
}

/// How to run models.
#[derive(Debug)]
pub struct Options<'a> {
    /// Loom's bound on preemptions per execution; `None` explores them all.
    pub preemptions: Option<usize>,
    pub log_dir: &'a Path,
    /// Stop the others as soon as one has failed.
    pub stop_on_failure: bool,
}

/// Where the models are built. Their compiler flags are not those of other builds, so the directory
/// is their own.
pub fn target(workspace: &Workspace) -> PathBuf {
    workspace.target.join("loom")
}

/// Builds the models of the workspace that `cargo` runs in, or those of one test `target` alone; an
/// error holds the compiler's messages.
pub fn build(mut cargo: Command, target_dir: &Path, target: Option<&str>) -> Result<Vec<Model>> {
    match target {
        Some(target) => cargo.args(["test", "--test", target]),
        None => cargo.args(["test", "--lib", "--tests"]),
    };
    cargo
        .args(["--no-run", "--quiet", "--package", MODELS, "--profile", PROFILE])
        .args(["--message-format", "json-render-diagnostics"])
        .arg("--target-dir")
        .arg(target_dir)
        .env("RUSTFLAGS", "--cfg loom")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    let messages = command::output(&mut cargo)?;
    let mut models = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line).context("cargo printed broken JSON")?;
        if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
            continue;
        }
        if let Some(binary) = message["executable"].as_str() {
            let is_library = message["target"]["kind"][0] == "lib";
            let target = message["target"]["name"].as_str().filter(|_| !is_library);
            list(Path::new(binary), target, &mut models)?;
        }
    }
    if models.is_empty() {
        bail!("the package {MODELS} holds no model (no #[test] under --cfg loom)");
    }
    Ok(models)
}

fn list(binary: &Path, target: Option<&str>, models: &mut Vec<Model>) -> Result<()> {
    let prefix = target.map(|name| format!("{name}::")).unwrap_or_default();
    let listing = |args: &[&str]| -> Result<Vec<String>> {
        let text =
            command::output(Command::new(binary).args(["--list", "--format", "terse"]).args(args))?;
        let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
        Ok(names.map(str::to_owned).collect())
    };
    let long = listing(&["--ignored"])?;
    for test in listing(&[])? {
        models.push(Model {
            name: format!("{prefix}{test}"),
            long: long.contains(&test),
            target: target.map(str::to_owned),
            test,
            binary: binary.to_path_buf(),
        });
    }
    Ok(())
}

/// Runs the models in the given order, one on each core, and calls `done` after each. `limit` is
/// the time allowed for a model. The result has the order of `models`.
pub fn run(
    models: &[&Model],
    options: &Options<'_>,
    limit: impl Fn(&Model) -> Option<Duration> + Sync,
    done: impl Fn(&Run) + Sync,
) -> Result<Vec<Run>> {
    fs::create_dir_all(options.log_dir)
        .with_context(|| format!("{} cannot be created", options.log_dir.display()))?;
    let next = Mutex::new(0);
    let stop = AtomicBool::new(false);
    let runs = Mutex::new(Vec::new());
    let worker = || -> Result<()> {
        loop {
            let index = {
                let mut next = next.lock().expect("no worker panics while it picks a model");
                *next += 1;
                *next - 1
            };
            let Some(model) = models.get(index) else {
                return Ok(());
            };
            let run = run_one(model, options, limit(model), &stop)?;
            if options.stop_on_failure && matches!(run.ended, Ended::Failed(_)) {
                stop.store(true, Ordering::Relaxed);
            }
            done(&run);
            let mut runs = runs.lock().expect("no worker panics while it adds a run");
            runs.push((index, run));
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    let mut runs = runs.into_inner().expect("all workers ended well");
    runs.sort_by_key(|(index, _)| *index);
    Ok(runs.into_iter().map(|(_, run)| run).collect())
}

fn run_one(
    model: &Model,
    options: &Options<'_>,
    limit: Option<Duration>,
    stop: &AtomicBool,
) -> Result<Run> {
    let log = options.log_dir.join(format!("{}.log", model.name.replace("::", ".")));
    let output =
        File::create(&log).with_context(|| format!("{} cannot be created", log.display()))?;
    let start = Instant::now();
    let ended = if stop.load(Ordering::Relaxed) {
        Ended::Stopped
    } else {
        let mut child = model
            .command(options)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("{} cannot be started", model.binary.display()))?;
        loop {
            if let Some(status) = child.try_wait()? {
                let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
                break if status.success() {
                    Ended::Passed
                } else {
                    judge(&text).unwrap_or_else(|| Ended::Failed(status.to_string()))
                };
            }
            let ended = if stop.load(Ordering::Relaxed) {
                Some(Ended::Stopped)
            } else if limit.is_some_and(|limit| start.elapsed() > limit) {
                Some(Ended::TimedOut)
            } else {
                None
            };
            if let Some(ended) = ended {
                child.kill()?;
                child.wait()?;
                break ended;
            }
            thread::sleep(POLL);
        }
    };
    Ok(Run { model: model.name.clone(), ended, elapsed: start.elapsed(), log })
}

impl Model {
    fn command(&self, options: &Options<'_>) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args([&self.test, "--exact", "--include-ignored", "--nocapture"])
            .env("RUST_BACKTRACE", "0");
        // Loom returns success when it runs into these limits; a run must be complete instead.
        for cap in ["LOOM_MAX_DURATION", "LOOM_MAX_PERMUTATIONS", "LOOM_CHECKPOINT_FILE"] {
            command.env_remove(cap);
        }
        match options.preemptions {
            Some(bound) => command.env("LOOM_MAX_PREEMPTIONS", bound.to_string()),
            // The variable replaces the limit that each model has. Loom's bound is a byte.
            None => command
                .env("LOOM_MAX_PREEMPTIONS", "255")
                .env("SEQRING_LOOM_MAX_ITERATIONS", u64::MAX.to_string()),
        };
        command
    }
}

/// How a model that failed ended, by the message of its first panic.
fn judge(output: &str) -> Option<Ended> {
    let mut lines = output.lines().skip_while(|line| !line.contains("panicked at"));
    let heading = lines.next()?;
    let message = lines.map(str::trim).find(|line| !line.is_empty()).unwrap_or(heading).to_owned();
    // With a weaker ordering, loom may let a spinning thread read an old value again and again.
    // That is no fault: hardware makes a store visible in finite time.
    let out_of_steps = message.contains("exceeded maximum number of branches");
    // `loom-tests` reports a model with too many executions, or without an announced outcome.
    let proves_nothing = message.starts_with("capped:") || message.starts_with("void:");
    if out_of_steps || proves_nothing {
        Some(Ended::Inconclusive(message))
    } else {
        Some(Ended::Failed(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure_with_its_message() {
        let output =
            "running 1 test\n\nthread 'm' (7) panicked at src/a.rs:3:5:\nassertion failed: x\n";
        assert_eq!(judge(output), Some(Ended::Failed("assertion failed: x".to_owned())));
    }

    #[test]
    fn a_run_that_proves_nothing_is_no_failure() {
        let output = "thread 'm' panicked at path.rs:1:1:\nModel exceeded maximum number of branches. \
                      This is often caused by an algorithm requiring the processor to make progress\n";
        assert!(matches!(judge(output), Some(Ended::Inconclusive(_))));
        for word in ["capped", "void"] {
            let output = format!("thread 'm' panicked at a.rs:1:1:\n{word}: model m\n");
            assert!(matches!(judge(&output), Some(Ended::Inconclusive(_))), "{word}");
        }
    }

    #[test]
    fn an_abort_without_a_panic_says_nothing() {
        assert_eq!(judge("running 1 test\n"), None);
    }
}
