//! `cargo xtask test`: the gate that every change passes.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::builder::PossibleValuesParser;

use crate::models::{self, Run};
use crate::places::{FUZZ, Level, MODELS, MODELS_TABLE, MODELS_TABLE_LEVEL, PEERS};
use crate::workspace::Workspace;
use crate::{api, bench, command, fuzz, house, loom, msrv, mutate, package, shm, table};

/// Seconds for each fuzz target: enough to show that the targets work and to find shallow faults.
const FUZZ_SECONDS: u64 = 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on after a step that failed
    #[arg(long)]
    pub keep_going: bool,
    /// Leave out these steps, with commas between
    #[arg(long, value_name = "STEPS", value_delimiter = ',', value_parser = step_names())]
    pub skip: Vec<String>,
    /// Run these steps only, with commas between
    #[arg(
        long,
        value_name = "STEPS",
        value_delimiter = ',',
        value_parser = step_names(),
        conflicts_with = "skip"
    )]
    pub only: Vec<String>,
}

/// An unknown name is refused with a list of those that exist.
fn step_names() -> PossibleValuesParser {
    PossibleValuesParser::new(STEPS.map(|(name, _)| name))
}

/// How a step ended when it did not fail.
#[derive(Debug)]
pub enum Outcome {
    Passed,
    /// It cannot run here; the text says why, and what to do about it.
    Skipped(String),
}

impl Outcome {
    /// For a task that the user named: a task that cannot run has failed.
    pub fn or_error(self) -> Result<()> {
        match self {
            Self::Passed => Ok(()),
            Self::Skipped(reason) => bail!("{reason}"),
        }
    }
}

type Step = fn(&Workspace) -> Result<Outcome>;

/// Cheap steps come first, so that a simple mistake is reported within seconds.
const STEPS: [(&str, Step); 13] = [
    ("format", format),
    ("house", house),
    ("models", listed_models),
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

/// Runs the steps. Programs read the last line: `N passed, N failed`, with `, N skipped` if there
/// are any. Nothing follows it.
pub fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let mut report: Vec<(&str, Result<Outcome>, Duration)> = Vec::new();
    let chosen = chosen(args);
    for (number, (name, step)) in chosen.iter().enumerate() {
        println!("\n==> [{}/{}] {name}", number + 1, chosen.len());
        let start = Instant::now();
        let result = match step {
            Some(step) => step(workspace),
            None => Ok(Outcome::Skipped("--skip".to_owned())),
        };
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

/// The steps to report, in their order; `None` for those that are only reported as skipped.
fn chosen(args: &Args) -> Vec<(&'static str, Option<Step>)> {
    let names = |list: &[String], name: &str| list.iter().any(|listed| listed == name);
    STEPS
        .iter()
        .filter(|(name, _)| args.only.is_empty() || names(&args.only, name))
        .map(|(name, step)| (*name, (!names(&args.skip, name)).then_some(*step)))
        .collect()
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

/// Lints every target once with all features, and the library once more without any: code that a
/// feature leaves out must not leave anything unused.
fn clippy(workspace: &Workspace) -> Result<Outcome> {
    let lint = |words: &[&str]| {
        let mut cargo = command::cargo(workspace, ["clippy"]);
        cargo.args(words);
        cargo
    };
    let deny = ["--", "-Dwarnings"];
    let all = ["--workspace", "--all-targets", "--features", "seqring/async,seqring/failpoints"];
    command::run(lint(&all).args(deny))?;
    command::run(lint(&["--package", "seqring", "--lib"]).args(deny))?;
    // What only loom sees is linted where it is compiled, with the profile of the models.
    command::run(
        lint(&["--package", MODELS, "--all-targets", "--profile", models::PROFILE])
            .arg("--target-dir")
            .arg(models::target(workspace))
            .args(deny)
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

/// Checks that the comparison with other systems works, without their crates. Its figures are not
/// used.
fn peers(workspace: &Workspace) -> Result<Outcome> {
    let before = shm::segments();
    bench::smoke(workspace)?;
    shm::expect_no_new(&before)?;
    Ok(Outcome::Passed)
}

/// Unit, property, process and crash tests and the documentation's examples; no segment may be left
/// afterwards.
fn tests(workspace: &Workspace) -> Result<Outcome> {
    let before = shm::segments();
    let test =
        |features: &str| command::cargo(workspace, ["test", "--workspace", "--features", features]);
    command::run(&mut test("seqring/async"))?;
    // Deaths at each step of the protocol need a library that can die there. The choice of the
    // whole workspace keeps the features of its dependencies, so that none is built again.
    command::run(test("seqring/async,seqring/failpoints").args(["--test", "failpoints"]))?;
    shm::expect_no_new(&before)?;
    Ok(Outcome::Passed)
}

/// Checks that the documentation lists every model with its sentence. The numbers are compared
/// after the models have run.
fn listed_models(workspace: &Workspace) -> Result<Outcome> {
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// The chosen steps; those that are skipped have a `-` before their name.
    fn chosen_by(line: &str) -> Result<Vec<String>, clap::Error> {
        let line = Line::try_parse_from(["test"].into_iter().chain(line.split_whitespace()))?;
        let steps = chosen(&line.args).into_iter();
        Ok(steps
            .map(|(name, step)| if step.is_some() { name.into() } else { format!("-{name}") })
            .collect())
    }

    #[test]
    fn steps_are_chosen_by_name() {
        let all = chosen_by("").unwrap();
        assert_eq!(all.len(), STEPS.len());
        assert!(all.iter().all(|name| !name.starts_with('-')));
        assert_eq!(chosen_by("--only loom,format").unwrap(), ["format", "loom"]);
        let skipped = chosen_by("--skip mutate,fuzz").unwrap();
        assert_eq!(skipped.len(), STEPS.len());
        assert!(skipped.contains(&"-mutate".to_owned()) && skipped.contains(&"-fuzz".to_owned()));
        assert!(skipped.contains(&"loom".to_owned()));
    }

    #[test]
    fn unknown_steps_are_refused() {
        assert!(chosen_by("--only looms").is_err());
        assert!(chosen_by("--skip format,").is_err());
        assert!(chosen_by("--only loom --skip fuzz").is_err());
    }
}
