//! `cargo xtask bench`: criterion inside one process, then the command's benches across processes.

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::command;
use crate::workspace::Workspace;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run one group of benches instead of all
    #[arg(long, value_enum)]
    pub only: Option<Group>,
    /// Handed on to the benches; they differ in what they take, so this needs --only
    #[arg(last = true)]
    pub pass: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// `cargo bench`: publish and receive inside one process
    Criterion,
    /// `seqring bench latency --json`: one way between two processes
    Latency,
    /// `seqring bench throughput --json`
    Throughput,
}

/// Runs the chosen groups, or all of them.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if args.only.is_none() && !args.pass.is_empty() {
        bail!("{:?} cannot be handed to all benches at once; say --only criterion, latency or throughput", args.pass.join(" "));
    }
    let wanted = |group| args.only.is_none_or(|only| only == group);
    if wanted(Group::Criterion) {
        let mut bench = command::cargo(workspace, ["bench", "--package", "seqring"]);
        if !args.pass.is_empty() {
            bench.arg("--").args(&args.pass);
        }
        command::run(&mut bench)?;
    }
    for (group, name) in [(Group::Latency, "latency"), (Group::Throughput, "throughput")] {
        if wanted(group) {
            command::run(
                command::cargo(workspace, ["run", "--quiet", "--release"])
                    .args(["--package", "seqring-cli", "--", "bench", name, "--json"])
                    .args(&args.pass),
            )?;
        }
    }
    Ok(())
}
