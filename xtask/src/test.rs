//! `cargo xtask test`: the gate that every change passes.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::models::Run;
use crate::places::{FUZZ, Level, MODELS_TABLE, MODELS_TABLE_LEVEL, PEERS};
use crate::workspace::Workspace;
use crate::{api, bench, command, fuzz, house, loom, msrv, mutate, package, shm, table};

/// Seconds per fuzz target: enough to see that the targets work and find what is shallow.
const FUZZ_SECONDS: u64 = 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on after a step that failed
    #[arg(long)]
    pub keep_going: bool,
    /// Leave out the sample of mutants
    #[arg(long)]
    pub skip_mutate: bool,
    /// Leave out the fuzz targets
    #[arg(long)]
    pub skip_fuzz: bool,
}

/// How a step ended when it did not fail.
#[derive(Debug)]
pub enum Outcome {
    Passed,
    /// It could not be run here; why, and what to do about it.
    Skipped(String),
}

impl Outcome {
    /// For a step that was asked for by name: then not running it is a failure.
    pub fn or_error(self) -> Result<()> {
        match self {
            Self::Passed => Ok(()),
            Self::Skipped(reason) => bail!("{reason}"),
        }
    }
}

type Step = fn(&Workspace) -> Result<Outcome>;

/// Cheap steps first, so that a slip is told within seconds.
const STEPS: [(&str, Step); 13] = [
    ("format", format),
    ("house", house),
    ("models", models),
    ("clippy", clippy),
    ("docs", docs),
    ("tests", tests),
    ("peers", peers),
    ("package", package),
    ("api", api),
    ("loom", loom),
    ("mutate", mutate),
    ("fuzz", fuzz),
    ("msrv", msrv),
];

/// Runs the steps. The last line, `N passed, N failed` (and `, N skipped` if some were), is for
/// programs: nothing follows it, and the failures are told before.
pub fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let mut report: Vec<(&str, Result<Outcome>, Duration)> = Vec::new();
    for (number, (name, step)) in STEPS.iter().enumerate() {
        println!("\n==> [{}/{}] {name}", number + 1, STEPS.len());
        let start = Instant::now();
        let left_out =
            (*name == "mutate" && args.skip_mutate) || (*name == "fuzz" && args.skip_fuzz);
        let result =
            if left_out { Ok(Outcome::Skipped(format!("--skip-{name}"))) } else { step(workspace) };
        let elapsed = start.elapsed();
        println!("{}", verdict(name, &result, elapsed));
        let stop = result.is_err() && !args.keep_going;
        report.push((name, result, elapsed));
        if stop {
            println!("stopped at the first failing step; --keep-going runs the others too");
            break;
        }
    }

    println!("\n==> summary");
    for (name, result, elapsed) in &report {
        println!("{}", verdict(name, result, *elapsed));
    }
    let failed = report.iter().filter(|(_, result, _)| result.is_err()).count();
    let skipped =
        report.iter().filter(|(_, result, _)| matches!(result, Ok(Outcome::Skipped(_)))).count();
    let passed = report.len() - failed - skipped;
    let tail = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    println!("{passed} passed, {failed} failed{tail}");
    Ok(if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn verdict(name: &str, result: &Result<Outcome>, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    match result {
        Ok(Outcome::Passed) => format!("{name}: ok, {seconds:.1} s"),
        Ok(Outcome::Skipped(reason)) => format!("{name}: SKIPPED: {reason}"),
        Err(error) => format!("{name}: FAILED, {seconds:.1} s: {error:#}"),
    }
}

fn format(workspace: &Workspace) -> Result<Outcome> {
    command::run(&mut command::cargo(workspace, ["fmt", "--all", "--check"]))?;
    // Workspaces of their own: the fuzz targets, and the comparison with other systems.
    for manifest in [FUZZ, PEERS] {
        if workspace.root.join(manifest).exists() {
            command::run(&mut command::cargo(
                workspace,
                ["fmt", "--check", "--manifest-path", manifest],
            ))?;
        }
    }
    Ok(Outcome::Passed)
}

fn house(workspace: &Workspace) -> Result<Outcome> {
    house::run(workspace, house::FEW).map(|()| Outcome::Passed)
}

fn clippy(workspace: &Workspace) -> Result<Outcome> {
    let all = ["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"];
    command::run(&mut command::cargo(workspace, all))?;
    let features = [
        "clippy",
        "--package",
        "seqring",
        "--all-targets",
        "--features",
        "async,failpoints",
        "--",
        "-Dwarnings",
    ];
    command::run(&mut command::cargo(workspace, features))?;
    // What only loom sees is linted where it is compiled.
    command::run(
        command::cargo(workspace, ["clippy", "--package", "loom-tests"])
            .args(["--all-targets", "--target-dir"])
            .arg(workspace.target.join("loom"))
            .args(["--", "-Dwarnings"])
            .env("RUSTFLAGS", "--cfg loom"),
    )?;
    Ok(Outcome::Passed)
}

fn docs(workspace: &Workspace) -> Result<Outcome> {
    // `--lib`: the command's binary has the library's name, and both cannot have one directory.
    command::run(
        command::cargo(
            workspace,
            ["doc", "--workspace", "--no-deps", "--lib", "--features", "seqring/async"],
        )
        .env("RUSTDOCFLAGS", "-Dwarnings"),
    )?;
    Ok(Outcome::Passed)
}

fn api(workspace: &Workspace) -> Result<Outcome> {
    api::run(workspace, &api::Args { check: true })
}

fn package(workspace: &Workspace) -> Result<Outcome> {
    package::run(workspace).map(|()| Outcome::Passed)
}

/// That the comparison with other systems works, without their crates: nothing is concluded from
/// its figures.
fn peers(workspace: &Workspace) -> Result<Outcome> {
    let before = shm::segments();
    bench::smoke(workspace)?;
    shm::expect_no_new(&before)?;
    Ok(Outcome::Passed)
}

/// Unit, property, process and crash tests and the documentation's examples; afterwards no segment
/// may be left.
fn tests(workspace: &Workspace) -> Result<Outcome> {
    let before = shm::segments();
    command::run(&mut command::cargo(
        workspace,
        ["test", "--workspace", "--features", "seqring/async"],
    ))?;
    // Deaths at each step of the protocols take a library that can die there.
    command::run(&mut command::cargo(
        workspace,
        ["test", "--package", "seqring", "--features", "failpoints", "--test", "failpoints"],
    ))?;
    shm::expect_no_new(&before)?;
    Ok(Outcome::Passed)
}

/// Every model is in the documentation, with its sentence. The numbers are compared after the run.
fn models(workspace: &Workspace) -> Result<Outcome> {
    models_table(workspace, None)
}

fn models_table(workspace: &Workspace, runs: Option<&[Run]>) -> Result<Outcome> {
    let result = table::check(workspace, &workspace.root.join(MODELS_TABLE), runs);
    match (result, MODELS_TABLE_LEVEL) {
        (Err(error), Level::Warn) => println!("warning: {error:#}"),
        (result, _) => result?,
    }
    Ok(Outcome::Passed)
}

fn loom(workspace: &Workspace) -> Result<Outcome> {
    let runs = loom::run(workspace, &loom::Args::default())?;
    models_table(workspace, Some(&runs))
}

fn mutate(workspace: &Workspace) -> Result<Outcome> {
    mutate::check(workspace, mutate::SAMPLE, None).map(|()| Outcome::Passed)
}

fn fuzz(workspace: &Workspace) -> Result<Outcome> {
    let args = fuzz::Args { seconds: FUZZ_SECONDS, target: None };
    fuzz::run(workspace, &args)
}

fn msrv(workspace: &Workspace) -> Result<Outcome> {
    msrv::run(workspace)
}
