//! Reports the fates of the mutants: as a table, as JSON, and as a verdict.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::expected::Entry;
use super::find::Mutant;
use crate::places::SURVIVORS;

/// How one mutant ended.
#[derive(Debug, Clone)]
pub enum Fate {
    /// Models that failed, each with its first panic's message.
    Killed(Vec<(String, String)>),
    /// Every model passed.
    Survived,
    /// No model failed, but these did not end.
    Undecided(Vec<String>),
    /// The compiler's messages.
    DoesNotBuild(String),
}

/// One mutant that was tried.
#[derive(Debug)]
pub struct Trial<'a> {
    pub mutant: &'a Mutant,
    pub fate: Fate,
    pub elapsed: Duration,
    /// The mutant's entry in the list of allowed survivors.
    pub allowed: Option<&'a Entry>,
}

impl Fate {
    /// In a few words.
    pub fn summary(&self) -> String {
        match self {
            Self::Killed(by) => {
                let models: Vec<&str> = by.iter().map(|(model, _)| model.as_str()).collect();
                format!("killed by {}", models.join(", "))
            }
            Self::Survived => "SURVIVED".to_owned(),
            Self::Undecided(models) => format!("UNDECIDED: {}", models.join(", ")),
            Self::DoesNotBuild(_) => "DOES NOT BUILD".to_owned(),
        }
    }
}

impl Trial<'_> {
    /// What is wrong with this mutant's fate, if anything.
    fn complaint(&self) -> Option<String> {
        let place = place(self.mutant);
        match (&self.fate, self.allowed) {
            (Fate::Killed(_), None) => None,
            (Fate::Killed(by), Some(_)) => Some(format!(
                "{place}: {SURVIVORS} lists it as a survivor, but {} kills it: remove the entry",
                by.first().map_or("a model", |(model, _)| model.as_str())
            )),
            (Fate::Survived | Fate::Undecided(_), Some(_)) => None,
            (Fate::Survived, None) => Some(format!(
                "{place}: no model fails; write one that does, weaken the ordering for good, or list \
                 the mutant in {SURVIVORS} with the reason"
            )),
            (Fate::Undecided(_), None) => Some(format!(
                "{place}: models were stopped before they ended; make them smaller, or list the \
                 mutant in {SURVIVORS} with the reason"
            )),
            (Fate::DoesNotBuild(messages), _) => {
                Some(format!("{place}: does not build\n{messages}"))
            }
        }
    }
}

/// `file:line function: mutation`.
pub fn place(mutant: &Mutant) -> String {
    format!("{}:{} {}: {}", mutant.file, mutant.line, mutant.function, mutant.mutation)
}

/// Prints the table and fails if the fate of a mutant is wrong.
pub fn conclude(trials: &[Trial<'_>]) -> Result<()> {
    println!();
    let width = trials.iter().map(|trial| place(trial.mutant).len()).max();
    for trial in trials {
        let reason = match trial.allowed {
            Some(entry) => format!(" (allowed: {})", entry.reason.trim()),
            None => String::new(),
        };
        println!(
            "{:width$}  {}{reason}",
            place(trial.mutant),
            trial.fate.summary(),
            width = width.unwrap_or(0),
        );
    }
    let count = |wanted: fn(&Fate) -> bool| trials.iter().filter(|t| wanted(&t.fate)).count();
    println!(
        "{} mutants: {} killed, {} survived, {} undecided, {} did not build",
        trials.len(),
        count(|fate| matches!(fate, Fate::Killed(_))),
        count(|fate| matches!(fate, Fate::Survived)),
        count(|fate| matches!(fate, Fate::Undecided(_))),
        count(|fate| matches!(fate, Fate::DoesNotBuild(_))),
    );
    let complaints: Vec<String> = trials.iter().filter_map(Trial::complaint).collect();
    if !complaints.is_empty() {
        bail!("{} mutant(s) with a wrong fate:\n{}", complaints.len(), complaints.join("\n"));
    }
    Ok(())
}

/// Writes the trials as an array of objects.
pub fn write_json(path: &Path, trials: &[Trial<'_>]) -> Result<()> {
    let rows: Vec<Value> = trials
        .iter()
        .map(|trial| {
            let (result, detail) = match &trial.fate {
                Fate::Killed(by) => {
                    let rows: Vec<Value> = by
                        .iter()
                        .map(|(model, message)| json!({ "model": model, "message": message }))
                        .collect();
                    ("killed", json!(rows))
                }
                Fate::Survived => ("survived", Value::Null),
                Fate::Undecided(models) => ("undecided", json!(models)),
                Fate::DoesNotBuild(messages) => ("does not build", json!(messages)),
            };
            json!({
                "file": trial.mutant.file,
                "line": trial.mutant.line,
                "column": trial.mutant.column,
                "function": trial.mutant.function,
                "source": trial.mutant.text,
                "mutation": trial.mutant.mutation,
                "result": result,
                "detail": detail,
                "allowed_because": trial.allowed.map(|entry| entry.reason.trim()),
                "seconds": trial.elapsed.as_secs_f64(),
            })
        })
        .collect();
    let text = serde_json::to_string_pretty(&rows)?;
    fs::write(path, text + "\n").with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::find;

    fn conclusion(fate: Fate, allowed: bool) -> Result<()> {
        let mutants = find::in_source("x.rs", "fn f() { fence(Acquire); }")?;
        let entry = Entry {
            file: "x.rs".to_owned(),
            line: "fn f() { fence(Acquire); }".to_owned(),
            mutation: "fence removed".to_owned(),
            occurrence: None,
            reason: "a test".to_owned(),
        };
        conclude(&[Trial {
            mutant: &mutants[0],
            fate,
            elapsed: Duration::ZERO,
            allowed: allowed.then_some(&entry),
        }])
    }

    #[test]
    fn only_kills_and_listed_survivors_are_accepted() {
        let killed = || Fate::Killed(vec![("m".to_owned(), "torn".to_owned())]);
        assert!(conclusion(killed(), false).is_ok());
        assert!(conclusion(killed(), true).is_err(), "a stale entry");
        assert!(conclusion(Fate::Survived, true).is_ok());
        assert!(conclusion(Fate::Survived, false).is_err());
        assert!(conclusion(Fate::Undecided(vec!["m".to_owned()]), false).is_err());
        assert!(conclusion(Fate::DoesNotBuild("e".to_owned()), true).is_err());
    }
}
