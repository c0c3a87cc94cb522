//! The kept result of the full check: which mutant ended how, and on what sources.
//!
//! The file is lines of fields with tabs between them: `hash`, one `input` for each thing that the
//! fates depend on, one `mutant` for each mutant.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::find::Mutant;
use super::inputs::{Input, total};
use super::report::{Fate, Trial};
use crate::places::MUTANTS_LOCK;
use crate::sources::read;

/// What renews the file.
const COMMAND: &str = "cargo xtask mutate";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    pub inputs: Vec<Input>,
    /// In the order of the sources.
    pub mutants: Vec<Locked>,
}

/// One mutant and its fate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    pub key: Key,
    pub fate: LockedFate,
}

/// What a mutant is, independent of line numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    file: String,
    function: String,
    /// The source line without its comment, and which of several equal ones if there are several.
    line: String,
    mutation: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockedFate {
    /// By this model.
    Killed(String),
    /// No model failed, and the list of survivors holds the mutant.
    Survived,
}

/// The keys of all mutants, in their order.
pub fn keys(mutants: &[Mutant]) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for mutant in mutants {
        let line = mutant.text.split(" //").next().unwrap_or_default().trim().to_owned();
        let mut key = Key {
            file: mutant.file.clone(),
            function: mutant.function.clone(),
            line: line.clone(),
            mutation: mutant.mutation.clone(),
        };
        let mut number = 1;
        while keys.contains(&key) {
            number += 1;
            key.line = format!("{line} #{number}");
        }
        keys.push(key);
    }
    keys
}

impl Lock {
    /// Of trials that are all as they should be.
    pub fn of(inputs: Vec<Input>, keys: Vec<Key>, trials: &[Trial<'_>]) -> Result<Self> {
        if keys.len() != trials.len() {
            bail!("{} of {} mutants were tried", trials.len(), keys.len());
        }
        let fates = trials.iter().map(|trial| match &trial.fate {
            Fate::Killed(by) => match by.first() {
                Some((model, _)) => Ok(LockedFate::Killed(model.clone())),
                None => bail!("a killed mutant without a killer"),
            },
            Fate::Survived | Fate::Undecided(_) => Ok(LockedFate::Survived),
            Fate::DoesNotBuild(_) => bail!("a mutant does not build"),
        });
        let pairs = keys.into_iter().zip(fates);
        let mutants =
            pairs.map(|(key, fate)| Ok(Locked { key, fate: fate? })).collect::<Result<_>>()?;
        Ok(Self { inputs, mutants })
    }

    /// Reads the file of the workspace at `root`; `None` if there is none.
    pub fn read(root: &Path) -> Result<Option<Self>> {
        let path = root.join(MUTANTS_LOCK);
        if !path.exists() {
            return Ok(None);
        }
        let lock = Self::parse(&read(&path)?);
        lock.map(Some)
            .with_context(|| format!("{MUTANTS_LOCK} is damaged; `{COMMAND}` writes it again"))
    }

    pub fn write(&self, root: &Path) -> Result<()> {
        let path = root.join(MUTANTS_LOCK);
        fs::write(&path, self.text())
            .with_context(|| format!("{} cannot be written", path.display()))
    }

    fn text(&self) -> String {
        let mut text = format!(
            "# How each mutant of the protocol ended, and with which sources. Written by `{COMMAND}`,\n\
             # compared by `{COMMAND} --check`; do not edit.\n"
        );
        let _ = writeln!(text, "hash\t{}", total(&self.inputs));
        for Input { name, hash } in &self.inputs {
            let _ = writeln!(text, "input\t{hash}\t{name}");
        }
        for Locked { key, fate } in &self.mutants {
            let Key { file, function, line, mutation } = key;
            let _ = write!(text, "mutant\t{file}\t{function}\t{line}\t{mutation}\t");
            let _ = match fate {
                LockedFate::Killed(model) => writeln!(text, "killed\t{model}"),
                LockedFate::Survived => writeln!(text, "survived"),
            };
        }
        text
    }

    fn parse(text: &str) -> Result<Self> {
        let mut lock = Self { inputs: Vec::new(), mutants: Vec::new() };
        let mut hash = None;
        let owned = |text: &str| text.to_owned();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            match fields.as_slice() {
                ["hash", value] => hash = Some(owned(value)),
                ["input", value, name] => {
                    lock.inputs.push(Input { name: owned(name), hash: owned(value) });
                }
                ["mutant", file, function, line, mutation, fate @ ..] => {
                    let fate = match fate {
                        ["killed", model] => LockedFate::Killed(owned(model)),
                        ["survived"] => LockedFate::Survived,
                        _ => bail!("a mutant's line has no fate: {line:?}"),
                    };
                    let key = Key {
                        file: owned(file),
                        function: owned(function),
                        line: owned(line),
                        mutation: owned(mutation),
                    };
                    lock.mutants.push(Locked { key, fate });
                }
                _ => bail!("this line is not understood: {line:?}"),
            }
        }
        if hash != Some(total(&lock.inputs)) {
            bail!("the hash is not the one of the inputs");
        }
        Ok(lock)
    }

    /// Fails unless the file is of these inputs and mutants.
    pub fn expect_current(&self, inputs: &[Input], keys: &[Key]) -> Result<()> {
        let changed = differing(&self.inputs, inputs);
        if !changed.is_empty() {
            bail!(
                "{MUTANTS_LOCK} is stale: {} changed; run `{COMMAND}` and commit the file",
                changed.join("; ")
            );
        }
        if !self.mutants.iter().map(|locked| &locked.key).eq(keys) {
            bail!(
                "{MUTANTS_LOCK} lists other mutants than the sources have; run `{COMMAND}` and \
                 commit the file"
            );
        }
        Ok(())
    }
}

/// The names of inputs that are not the same in both.
fn differing<'a>(old: &'a [Input], new: &'a [Input]) -> Vec<&'a str> {
    let gone = old.iter().filter(|input| !new.contains(input));
    let added = new.iter().filter(|input| !old.contains(input));
    let names: BTreeSet<&str> = gone.chain(added).map(|input| input.name.as_str()).collect();
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::mutate::find;

    fn inputs() -> Vec<Input> {
        let input = |name: &str| Input { name: name.to_owned(), hash: "0123".to_owned() };
        vec![input("a.rs"), input("b.rs")]
    }

    fn mutants() -> Vec<Mutant> {
        let source =
            "fn f() {\nfence(Acquire); // why\nfence(Acquire);\n}\nfn g() { a.load(Acquire); }";
        find::in_source("x.rs", source).unwrap()
    }

    fn lock() -> Lock {
        let keys = keys(&mutants());
        let killed = LockedFate::Killed("slot::m".to_owned());
        let fates = [killed.clone(), LockedFate::Survived, killed];
        assert_eq!(keys.len(), fates.len());
        let pairs = keys.into_iter().zip(fates);
        Lock { inputs: inputs(), mutants: pairs.map(|(key, fate)| Locked { key, fate }).collect() }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Lock::parse(&lock().text()).unwrap(), lock());
        let text = lock().text();
        assert!(text.contains("x.rs\tf\tfence(Acquire); #2\tfence removed\tsurvived\n"), "{text}");
    }

    #[test]
    fn a_current_file_is_accepted() {
        lock().expect_current(&inputs(), &keys(&mutants())).unwrap();
    }

    #[test]
    fn a_stale_file_is_refused_with_the_command() {
        let mut other = inputs();
        other[1].hash = "4567".to_owned();
        let error = lock().expect_current(&other, &keys(&mutants())).unwrap_err().to_string();
        assert!(error.contains("b.rs changed") && error.contains(COMMAND), "{error}");
        assert!(!error.contains("a.rs"), "{error}");
        let error = lock().expect_current(&inputs()[..1], &keys(&mutants())).unwrap_err();
        assert!(error.to_string().contains("b.rs"), "{error}");
        assert!(lock().expect_current(&inputs(), &keys(&mutants()[1..])).is_err());
    }

    #[test]
    fn an_edited_file_is_refused() {
        let text = lock().text();
        for (from, to) in [("\t0123\ta.rs", "\t0124\ta.rs"), ("killed", "died"), ("hash\t", "#")] {
            assert!(text.contains(from));
            assert!(Lock::parse(&text.replacen(from, to, 1)).is_err(), "{from}");
        }
        assert!(Lock::parse("").is_err());
    }

    #[test]
    fn comments_and_lines_do_not_name_a_mutant() {
        let moved = "\n\nfn f() {\nfence(Acquire);\n\nfence(Acquire); // other\n}\n\
                     fn g() { a.load(Acquire); }";
        let moved = find::in_source("x.rs", moved).unwrap();
        assert_eq!(keys(&moved), keys(&mutants()));
    }

    #[test]
    fn only_a_complete_result_is_kept() {
        let mutants = mutants();
        let trial = |mutant, fate| Trial { mutant, fate, elapsed: Duration::ZERO, allowed: None };
        let keys = || keys(&mutants);
        let killed = || Fate::Killed(vec![("slot::m".to_owned(), "torn".to_owned())]);
        let all: Vec<Trial<'_>> = mutants.iter().map(|mutant| trial(mutant, killed())).collect();
        assert!(Lock::of(inputs(), keys(), &all).is_ok());
        assert!(Lock::of(inputs(), keys(), &all[1..]).is_err());
        let mut broken = all;
        broken[0].fate = Fate::DoesNotBuild("e".to_owned());
        assert!(Lock::of(inputs(), keys(), &broken).is_err());
    }
}
