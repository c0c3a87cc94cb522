//! `cargo xtask fuzz`: runs every target of `fuzz/` for a limited time.

use anyhow::{Context, Result, bail};

use crate::command;
use crate::places::FUZZ;
use crate::test::Outcome;
use crate::workspace::Workspace;

/// Sanitizers, coverage instrumentation and descriptions of libraries exist only there.
pub const TOOLCHAIN: &str = "nightly";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seconds per target
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Only targets whose name contains this
    #[arg(long)]
    pub target: Option<String>,
}

/// Runs the targets; skipped if there is no nightly toolchain.
pub fn run(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    let cargo = |words: &[&str]| command::cargo_of(TOOLCHAIN, workspace, words);
    if !command::works(&mut cargo(&["--version"])) {
        return Ok(Outcome::Skipped(format!(
            "no {TOOLCHAIN} toolchain; install one with `rustup toolchain install {TOOLCHAIN}`"
        )));
    }
    if !workspace.root.join(FUZZ).exists() {
        bail!("there is no {FUZZ} in {}", workspace.root.display());
    }
    if !command::works(&mut cargo(&["fuzz", "--version"])) {
        println!("cargo-fuzz is not installed");
        command::run(&mut command::cargo(workspace, ["install", "cargo-fuzz", "--locked"]))
            .context("cargo-fuzz cannot be installed")?;
    }
    let listed = command::output(&mut cargo(&["fuzz", "list"]))?;
    let targets: Vec<&str> = listed
        .split_whitespace()
        .filter(|name| args.target.as_deref().is_none_or(|part| name.contains(part)))
        .collect();
    if targets.is_empty() {
        bail!(
            "no fuzz target matches {:?}; there are: {}",
            args.target.as_deref().unwrap_or(""),
            listed.split_whitespace().collect::<Vec<_>>().join(", ")
        );
    }
    let target_dir = workspace.target.join("fuzz");
    for target in targets {
        command::run(
            cargo(&["fuzz", "run", "--target-dir"])
                .arg(&target_dir)
                .args([target, "--"])
                .arg(format!("-max_total_time={}", args.seconds))
                // An input that makes the library loop is a fault.
                .arg("-timeout=10"),
        )?;
    }
    Ok(Outcome::Passed)
}
