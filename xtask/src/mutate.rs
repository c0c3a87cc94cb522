//! `cargo xtask mutate`: is every memory ordering of the protocols load-bearing?
//!
//! One at a time, each ordering is weakened and each fence removed, in a copy of the library, and
//! the loom models are run on it. A mutant that no model kills is an ordering that is not needed,
//! or a model that is missing.

mod copy;
mod expected;
mod find;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::models::{self, Ended, Lints, Model, Options};
use crate::workspace::Workspace;
use crate::{command, loom};
use find::Mutant;
use report::{Fate, Trial};

/// The protocol rooms: files, and directories with all that is in them.
const ROOMS: [&str; 6] =
    ["src/layout.rs", "src/layout", "src/protocol.rs", "src/protocol", "src/wait.rs", "src/wait"];

/// A mutant's model may take this many times as long as the original's, but never less than
/// `SHORTEST_LIMIT`.
const PATIENCE: u32 = 5;
const SHORTEST_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Only mutants whose `file:line function: mutation` contains this
    #[arg(long, value_name = "SUBSTR")]
    pub only: Option<String>,
    /// Only models whose name contains this: while working on them, as what they miss others may
    /// see
    #[arg(long, value_name = "SUBSTR")]
    pub model: Option<String>,
    /// List the mutants and try none
    #[arg(long)]
    pub list: bool,
    /// Run every model on every mutant, instead of stopping at the first that kills it
    #[arg(long)]
    pub all_models: bool,
    /// Write the result as JSON too
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,
}

/// Tries the mutants; fails if one survives that is not listed, or a listed one does not survive.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let mutants = find_all(&workspace.root)?;
    let allowed = expected::read(&workspace.root, &mutants)?;
    let chosen: Vec<(usize, &Mutant)> = mutants
        .iter()
        .enumerate()
        .filter(|(_, mutant)| match &args.only {
            Some(part) => report::place(mutant).contains(part.as_str()),
            None => true,
        })
        .collect();
    if chosen.is_empty() {
        bail!(
            "none of the {} mutants matches {:?}; `cargo xtask mutate --list` shows them",
            mutants.len(),
            args.only.as_deref().unwrap_or("")
        );
    }
    if args.list {
        for (_, mutant) in &chosen {
            println!("{}    {}", report::place(mutant), mutant.text);
        }
        println!("{} mutants", chosen.len());
        return Ok(());
    }

    let mut bench = Bench::set_up(workspace, args)?;
    let mut trials = Vec::new();
    for (number, (index, mutant)) in chosen.iter().enumerate() {
        let start = Instant::now();
        let fate = bench.try_one(mutant)?;
        let elapsed = start.elapsed();
        println!(
            "[{:>3}/{}] {} ... {} ({:.1} s)",
            number + 1,
            chosen.len(),
            report::place(mutant),
            fate.told(),
            elapsed.as_secs_f64()
        );
        trials.push(Trial {
            mutant,
            fate,
            elapsed,
            allowed: allowed.iter().find(|(listed, _)| listed == index).map(|(_, entry)| entry),
        });
    }
    if let Some(path) = &args.json {
        report::write_json(path, &trials)?;
    }
    report::conclude(&trials)
}

/// The mutants of all rooms.
fn find_all(root: &Path) -> Result<Vec<Mutant>> {
    let mut files = Vec::new();
    for room in ROOMS {
        let path = root.join(room);
        if path.is_dir() {
            source_files(&path, &mut files)?;
        } else if path.is_file() {
            files.push(path);
        }
    }
    let mut sources = Vec::new();
    let mut for_tests = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        // `mod x;` in ring.rs is ring/x.rs; in ring/mod.rs it would be ring/x.rs too.
        let directory = if path.ends_with("mod.rs") {
            path.parent().unwrap_or(root).to_path_buf()
        } else {
            path.with_extension("")
        };
        for module in find::test_modules(&name, &text)? {
            for_tests.push(directory.join(&module).with_extension("rs"));
        }
        sources.push((path, name, text));
    }
    let mut mutants = Vec::new();
    for (path, name, text) in &sources {
        if !for_tests.contains(path) {
            mutants.extend(find::in_source(name, text)?);
        }
    }
    if mutants.is_empty() {
        bail!("no memory ordering found in the protocol rooms ({})", ROOMS.join(", "));
    }
    Ok(mutants)
}

fn source_files(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries = fs::read_dir(directory)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            source_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The copy of the workspace, and what is known about the models.
#[derive(Debug)]
struct Bench {
    copy: PathBuf,
    target: PathBuf,
    logs: PathBuf,
    all_models: bool,
    records: Vec<Record>,
}

/// How one model does.
#[derive(Debug)]
struct Record {
    model: String,
    /// On the original.
    duration: Duration,
    kills: usize,
}

impl Bench {
    /// Copies the workspace, builds the models and runs the chosen ones on the original, which must
    /// pass.
    fn set_up(workspace: &Workspace, args: &Args) -> Result<Self> {
        let directory = workspace.target.join("mutants");
        let mut bench = Self {
            copy: directory.join("ws"),
            target: directory.join("target"),
            logs: directory.join("logs"),
            all_models: args.all_models,
            records: Vec::new(),
        };
        copy::make(&workspace.root, &bench.copy)?;
        println!("building the models and running them on the original");
        let models = models::build(bench.cargo(), &bench.target, Lints::Capped)
            .context("before any mutation")?;
        let part = args.model.as_deref().unwrap_or("");
        let daily: Vec<&Model> =
            models.iter().filter(|model| !model.long && model.name.contains(part)).collect();
        if daily.is_empty() {
            bail!("no model matches {part:?}");
        }
        let runs = models::run(&daily, &bench.options(false), |_| None, |_| {})?;
        for run in runs {
            if run.ended != Ended::Passed {
                bail!(
                    "the model {} fails before any mutation ({:?}); see `cargo xtask loom`",
                    run.model,
                    run.ended
                );
            }
            println!("    {}: {:.1} s", run.model, run.elapsed.as_secs_f64());
            bench.records.push(Record { model: run.model, duration: run.elapsed, kills: 0 });
        }
        Ok(bench)
    }

    /// Mutates, builds, runs the models, and puts the original back.
    fn try_one(&mut self, mutant: &Mutant) -> Result<Fate> {
        let path = self.copy.join(&mutant.file);
        let original = fs::read_to_string(&path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let write = |text: &str| {
            fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
        };
        write(&mutant.apply(&original))?;
        let fate = self.fate();
        write(&original)?;
        fate
    }

    fn fate(&mut self) -> Result<Fate> {
        let models = match models::build(self.cargo(), &self.target, Lints::Capped) {
            Ok(models) => models,
            Err(error) => return Ok(Fate::DoesNotBuild(format!("{error:#}"))),
        };
        // The models that have killed most, then the shortest: most mutants die within a second.
        self.records.sort_by_key(|record| (std::cmp::Reverse(record.kills), record.duration));
        let ordered: Vec<&Model> = self
            .records
            .iter()
            .filter_map(|record| models.iter().find(|model| model.name == record.model))
            .collect();
        let limit = |model: &Model| {
            let record = self.records.iter().find(|r| r.model == model.name)?;
            Some((record.duration * PATIENCE).max(SHORTEST_LIMIT))
        };
        let runs = models::run(&ordered, &self.options(!self.all_models), limit, |_| {})?;
        let mut killers = Vec::new();
        let mut undecided = Vec::new();
        for run in runs {
            match run.ended {
                Ended::Failed(message) => {
                    for record in &mut self.records {
                        record.kills += usize::from(record.model == run.model);
                    }
                    killers.push((run.model, message));
                }
                Ended::TimedOut => undecided.push(format!("{} (timeout)", run.model)),
                Ended::Inconclusive(message) => {
                    undecided.push(format!("{} ({message})", run.model))
                }
                Ended::Passed | Ended::Stopped => {}
            }
        }
        Ok(if !killers.is_empty() {
            Fate::Killed(killers)
        } else if !undecided.is_empty() {
            Fate::Undecided(undecided)
        } else {
            Fate::Survived
        })
    }

    fn cargo(&self) -> Command {
        let mut cargo = Command::new(command::cargo_program());
        cargo.current_dir(&self.copy);
        cargo
    }

    fn options(&self, stop_on_failure: bool) -> Options<'_> {
        Options { preemptions: Some(loom::PREEMPTIONS), log_dir: &self.logs, stop_on_failure }
    }
}
