//! `cargo xtask bench`: runs the comparison with other systems, or one of the other benchmarks.

use anyhow::{Result, bail};
use clap::ValueEnum;
use std::path::PathBuf;
use std::process::Command;

use crate::command;
use crate::places::PEERS;
use crate::workspace::Workspace;

/// The other systems that are crates. Each is a feature of the same name, so that the comparison
/// builds without a crate that does not build.
const CRATES: [&str; 4] = ["ringfire", "photon-ring", "iceoryx2", "disruptor"];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write the rows of the comparison as JSON to this file
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,
    /// Write a page with plots of the comparison to this file
    #[arg(long, value_name = "PATH")]
    pub html: Option<PathBuf>,
    /// Fewer rounds of the comparison
    #[arg(long)]
    pub quick: bool,
    /// Only these benchmarks of the comparison, with commas between: latency, throughput, fan-out,
    /// wake-up, memory, start
    #[arg(long, value_name = "BENCH")]
    pub only: Option<String>,
    /// Only these systems, with commas between
    #[arg(long, value_name = "SYSTEM")]
    pub systems: Option<String>,
    /// Only these payloads of latency and throughput, in bytes, with commas between
    #[arg(long, value_name = "BYTES")]
    pub payloads: Option<String>,
    /// Run one of the other benchmarks instead of the comparison
    #[arg(
        long,
        value_enum,
        conflicts_with_all = ["json", "html", "quick", "only", "systems", "payloads"]
    )]
    pub group: Option<Group>,
    /// Arguments for the benchmark of --group
    #[arg(last = true)]
    pub pass: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// `seqring bench latency --json`: one way between two processes
    Latency,
    /// `seqring bench throughput --json`
    Throughput,
}

/// Runs the comparison, or the chosen group.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    match args.group {
        None if !args.pass.is_empty() => {
            bail!("{:?} can only be passed to the benchmark of --group", args.pass.join(" "))
        }
        None => peers(workspace, args),
        Some(Group::Latency) => of_command(workspace, "latency", &args.pass),
        Some(Group::Throughput) => of_command(workspace, "throughput", &args.pass),
    }
}

fn of_command(workspace: &Workspace, name: &str, pass: &[String]) -> Result<()> {
    command::run(
        command::cargo(workspace, ["run", "--quiet", "--release"])
            .args(["--package", "seqring-cli", "--", "bench", name, "--json"])
            .args(pass),
    )
}

/// Builds the comparison with every other system that builds, and runs it.
fn peers(workspace: &Workspace, args: &Args) -> Result<()> {
    let mut features: Vec<&str> = CRATES.to_vec();
    let mut missing = Vec::new();
    if command::run(&mut cargo_peers(workspace, "build", &features)).is_err() {
        // Build each by itself to find those that fail.
        features.retain(|feature| {
            let builds = command::run(&mut cargo_peers(workspace, "check", &[feature])).is_ok();
            if !builds {
                missing.push(format!("--unavailable={feature}=it does not build here: cargo check --release --features {feature}"));
            }
            builds
        });
        command::run(&mut cargo_peers(workspace, "build", &features))?;
    }
    let mut run = cargo_peers(workspace, "run", &features);
    run.arg("--").args(missing);
    for (option, path) in [("--json", &args.json), ("--html", &args.html)] {
        if let Some(path) = path {
            run.arg(option).arg(std::path::absolute(path)?);
        }
    }
    if args.quick {
        run.arg("--quick");
    }
    for (option, list) in
        [("--only", &args.only), ("--systems", &args.systems), ("--payloads", &args.payloads)]
    {
        if let Some(list) = list {
            run.args([option, list]);
        }
    }
    command::run(&mut run)
}

/// Lints the comparison with all systems, tests it, and runs its shortest benchmarks with the
/// systems that need no crate.
pub fn smoke(workspace: &Workspace) -> Result<()> {
    let peers = |what: &str, features: &str| {
        let args = [what, "--quiet", "--locked", "--manifest-path", PEERS, features];
        let mut cargo = command::cargo(workspace, args);
        // The target directory of the other steps, where most of the dependencies are built
        // already.
        cargo.arg("--target-dir").arg(&workspace.target);
        cargo
    };
    command::run(peers("clippy", "--all-features").args(["--all-targets", "--", "-Dwarnings"]))?;
    command::run(&mut peers("test", "--no-default-features"))?;
    let only = [
        "--",
        "--quick",
        "--only",
        "latency,wake-up,memory,start",
        "--systems",
        "seqring,unix-socket,locked",
    ];
    command::run(peers("run", "--no-default-features").args(only))
}

fn cargo_peers(workspace: &Workspace, what: &str, features: &[&str]) -> Command {
    let mut cargo = command::cargo(
        workspace,
        [
            what,
            "--quiet",
            "--release",
            "--locked",
            "--manifest-path",
            PEERS,
            "--no-default-features",
        ],
    );
    cargo.arg("--features").arg(features.join(","));
    cargo
}
