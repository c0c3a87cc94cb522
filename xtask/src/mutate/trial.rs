//! Running the models on mutants, in a copy of the workspace.

use std::cmp::Reverse;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::copy;
use super::find::Mutant;
use super::report::Fate;
use crate::models::{self, Ended, Model, Options, Run};
use crate::workspace::Workspace;
use crate::{command, loom};

/// A mutant's model may take this many times as long as the original's, but never less than
/// `SHORTEST_LIMIT`.
const TIMES_ALLOWED: u32 = 5;
const SHORTEST_LIMIT: Duration = Duration::from_secs(30);

/// The copy of the workspace, and what is known about the models.
#[derive(Debug)]
pub struct Runner {
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
    /// The test target to build for it; `None` builds all.
    target: Option<String>,
    /// On the original.
    duration: Duration,
    kills: usize,
}

impl Runner {
    /// Copies the workspace. With `all_models`, a mutant's trial does not stop at the first kill.
    pub fn set_up(workspace: &Workspace, all_models: bool) -> Result<Self> {
        let copy = workspace.target.join("mutants");
        copy::make(&workspace.root, &copy)?;
        Ok(Self {
            copy,
            // The target directory of `cargo xtask loom`, so that loom itself is built once.
            target: models::target(workspace),
            logs: models::target(workspace).join("mutant-logs"),
            all_models,
            records: Vec::new(),
        })
    }

    /// Builds the models and runs the wanted ones on the original: they must pass.
    pub fn run_originals(&mut self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        println!("building the models and running them on the original");
        let models =
            models::build(self.cargo(), &self.target, None).context("before any mutation")?;
        let daily: Vec<&Model> =
            models.iter().filter(|model| !model.long && wanted(&model.name)).collect();
        if daily.is_empty() {
            let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
            bail!("no model matches; there are: {}", names.join(", "));
        }
        let runs = models::run(&daily, &self.options(false), |_| None, |_| {})?;
        for (model, run) in daily.iter().zip(runs) {
            if run.ended != Ended::Passed {
                bail!(
                    "the model {} fails before any mutation ({:?}); see `cargo xtask loom`",
                    run.model,
                    run.ended
                );
            }
            println!("    {}: {:.1} s", run.model, run.elapsed.as_secs_f64());
            self.records.push(Record {
                model: run.model,
                target: model.target.clone(),
                duration: run.elapsed,
                kills: 0,
            });
        }
        Ok(())
    }

    /// Runs all models that `run_originals` ran, on a mutant. The `likely` killer comes first and
    /// alone, because a single test target is built faster than all of them.
    pub fn try_all_models(&mut self, mutant: &Mutant, likely: Option<&str>) -> Result<Fate> {
        let is_known = |model: &&str| self.records.iter().any(|record| record.model == **model);
        if let Some(model) = likely.filter(is_known)
            && !self.all_models
        {
            let fate = self.try_one_model(mutant, model)?;
            if matches!(fate, Fate::Killed(_)) {
                return Ok(fate);
            }
        }
        // First the models that have killed most, then the shortest: so most mutants end within a
        // second.
        self.records.sort_by_key(|record| (Reverse(record.kills), record.duration));
        let order: Vec<String> = self.records.iter().map(|record| record.model.clone()).collect();
        self.try_models(mutant, &order, None)
    }

    /// Runs a single model on a mutant.
    pub fn try_one_model(&mut self, mutant: &Mutant, model: &str) -> Result<Fate> {
        let record = self.records.iter().find(|record| record.model == model);
        let target = record.and_then(|record| record.target.clone());
        self.try_models(mutant, &[model.to_owned()], target.as_deref())
    }

    /// Mutates, builds, runs the models, and puts the original back.
    fn try_models(
        &mut self,
        mutant: &Mutant,
        order: &[String],
        target: Option<&str>,
    ) -> Result<Fate> {
        let path = self.copy.join(&mutant.file);
        let original = fs::read_to_string(&path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let write = |text: &str| {
            fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
        };
        write(&mutant.apply(&original))?;
        let runs = self.build_and_run(order, target);
        write(&original)?;
        Ok(match runs? {
            Ok(runs) => self.judge(runs),
            Err(messages) => Fate::DoesNotBuild(messages),
        })
    }

    /// The inner error holds the compiler's messages.
    fn build_and_run(
        &self,
        order: &[String],
        target: Option<&str>,
    ) -> Result<Result<Vec<Run>, String>> {
        let models = match models::build(self.cargo(), &self.target, target) {
            Ok(models) => models,
            Err(error) => return Ok(Err(format!("{error:#}"))),
        };
        let ordered = order
            .iter()
            .map(|name| {
                models
                    .iter()
                    .find(|model| model.name == *name)
                    .with_context(|| format!("there is no model {name}"))
            })
            .collect::<Result<Vec<&Model>>>()?;
        let limit = |model: &Model| {
            let record = self.records.iter().find(|record| record.model == model.name)?;
            Some((record.duration * TIMES_ALLOWED).max(SHORTEST_LIMIT))
        };
        models::run(&ordered, &self.options(!self.all_models), limit, |_| {}).map(Ok)
    }

    fn judge(&mut self, runs: Vec<Run>) -> Fate {
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
                    undecided.push(format!("{} ({message})", run.model));
                }
                Ended::Passed | Ended::Stopped => {}
            }
        }
        if !killers.is_empty() {
            Fate::Killed(killers)
        } else if !undecided.is_empty() {
            Fate::Undecided(undecided)
        } else {
            Fate::Survived
        }
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
