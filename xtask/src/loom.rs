//! `cargo xtask loom`: runs the loom models of the protocol and shows their numbers of executions.

use std::sync::Mutex;

use anyhow::{Result, bail};

use crate::command;
use crate::models::{self, Ended, Model, Options, Run};
use crate::workspace::Workspace;

/// Preemptions per execution. Two show nearly all concurrency faults; a third is needed where both
/// sides of a handshake can be interrupted.
pub const PREEMPTIONS: usize = 3;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only models whose name contains this
    #[arg(long)]
    pub model: Option<String>,
    /// Preemptions explored per execution
    #[arg(long, default_value_t = PREEMPTIONS)]
    pub preemptions: usize,
    /// Explore every execution, without a bound on preemptions; also run the models marked
    /// #[ignore]
    #[arg(long, conflicts_with = "preemptions")]
    pub long: bool,
}

impl Default for Args {
    fn default() -> Self {
        Self { model: None, preemptions: PREEMPTIONS, long: false }
    }
}

/// Builds and runs the models; fails if one fails, or if there is none to run.
pub fn run(workspace: &Workspace, args: &Args) -> Result<Vec<Run>> {
    let target = models::target(workspace);
    let all = models::build(command::cargo(workspace, [] as [&str; 0]), &target, None)?;
    let wanted: Vec<&Model> = all
        .iter()
        .filter(|model| match &args.model {
            Some(part) => model.name.contains(part.as_str()),
            None => args.long || !model.long,
        })
        .collect();
    if wanted.is_empty() {
        let names: Vec<&str> = all.iter().map(|model| model.name.as_str()).collect();
        bail!(
            "no model matches {:?}; there are: {}",
            args.model.as_deref().unwrap_or(""),
            names.join(", ")
        );
    }
    let bound = (!args.long).then_some(args.preemptions);
    match bound {
        Some(bound) => println!("{} models, at most {bound} preemptions", wanted.len()),
        None => println!("{} models, every interleaving", wanted.len()),
    }
    let options =
        Options { preemptions: bound, log_dir: &target.join("logs"), stop_on_failure: false };
    let printing = Mutex::new(());
    let runs = models::run(
        &wanted,
        &options,
        |_| None,
        |run| {
            // One model prints at a time.
            let _turn = printing.lock();
            let verdict = match &run.ended {
                Ended::Passed => "ok",
                _ => "FAILED",
            };
            println!("{}: {verdict}, {:.1} s", run.model, run.elapsed.as_secs_f64());
            let text = std::fs::read(&run.log).unwrap_or_default();
            for line in String::from_utf8_lossy(&text).lines() {
                if let Some(line) = without_harness(line) {
                    println!("    {line}");
                }
            }
        },
    )?;
    let failed: Vec<&str> = runs
        .iter()
        .filter(|run| run.ended != Ended::Passed)
        .map(|run| run.model.as_str())
        .collect();
    if !failed.is_empty() {
        bail!("{} of {} models failed: {}", failed.len(), runs.len(), failed.join(", "));
    }
    println!("{} models passed", runs.len());
    Ok(runs)
}

/// A line of a model's output without the words of the test harness, which prints `test name ... `
/// before the model's first line.
fn without_harness(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("test ") {
        Some(rest) => rest.split_once(" ... ").map_or(line, |(_, own)| own),
        None => line,
    };
    let is_harness = matches!(line, "" | "ok" | "FAILED" | "failures:")
        || line.starts_with("running 1 test")
        || line.starts_with("test result: ");
    (!is_harness).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_words_of_the_harness_are_removed() {
        assert_eq!(without_harness("test wrap ... 12 runs"), Some("12 runs"));
        assert_eq!(without_harness("test wrap ... ok"), None);
        assert_eq!(without_harness("test result: ok. 1 passed"), None);
        assert_eq!(without_harness("a test of words"), Some("a test of words"));
    }
}
