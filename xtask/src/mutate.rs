//! `cargo xtask mutate`: does the protocol need every one of its memory orderings?
//!
//! One at a time, each ordering is weakened and each fence removed, in a copy of the library, and
//! the loom models run on the copy. A mutant that no model kills shows an ordering that is not
//! needed, or a model that is missing.
//!
//! The full check takes long, so its result is kept in a file of the repository, under a hash of
//! everything that it depends on. `--check` compares the hash and runs a random sample again.

mod copy;
mod expected;
mod find;
mod inputs;
mod lock;
mod report;
mod sample;
mod trial;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::places::{MUTANTS_LOCK, MUTATED};
use crate::sources::{self, name_of, read};
use crate::workspace::Workspace;
use find::Mutant;
use lock::{Key, Lock, Locked, LockedFate};
use report::{Fate, Trial};
use trial::Runner;

/// How many mutants `--check` runs again.
pub const SAMPLE: usize = 6;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Compare the kept result with the sources, and run a random sample of the mutants again
    #[arg(long)]
    pub check: bool,
    /// Number of mutants that --check runs again
    #[arg(long, value_name = "N", requires = "check", default_value_t = SAMPLE)]
    pub sample: usize,
    /// Seed of the sample [default: from the commit's id]
    #[arg(long, value_name = "S", requires = "check")]
    pub seed: Option<u64>,
    /// Only mutants whose `file:line function: mutation` contains this; the result is not kept
    #[arg(long, value_name = "SUBSTR", conflicts_with = "check")]
    pub only: Option<String>,
    /// Only models whose name contains this; the result is not kept, because other models may kill
    /// what these miss
    #[arg(long, value_name = "SUBSTR", conflicts_with = "check")]
    pub model: Option<String>,
    /// List the mutants without running any
    #[arg(long, conflicts_with = "check")]
    pub list: bool,
    /// Run every model on every mutant, instead of stopping at the first that kills it
    #[arg(long, conflicts_with = "check")]
    pub all_models: bool,
    /// Write the result as JSON, too
    #[arg(long, value_name = "PATH", conflicts_with = "check")]
    pub json: Option<PathBuf>,
}

pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if args.check { check(workspace, args.sample, args.seed) } else { try_all(workspace, args) }
}

/// Runs the chosen mutants; fails if one survives that is not listed, or a listed one does not
/// survive. Keeps the result if no mutant and no model was left out.
fn try_all(workspace: &Workspace, args: &Args) -> Result<()> {
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

    let inputs = inputs::all(&workspace.root)?;
    let keys = lock::keys(&mutants);
    // An old result is only a hint which model to run first, so a damaged one is none.
    let old = Lock::read(&workspace.root).ok().flatten();
    let mut runner = Runner::set_up(workspace, args.all_models)?;
    runner.run_originals(|model| match &args.model {
        Some(part) => model.contains(part.as_str()),
        None => true,
    })?;
    let mut trials = Vec::new();
    for (number, (index, mutant)) in chosen.iter().enumerate() {
        let start = Instant::now();
        let likely = old.as_ref().and_then(|old| killer(old, &keys[*index]));
        let fate = runner.try_all_models(mutant, likely)?;
        let elapsed = start.elapsed();
        println!(
            "[{:>3}/{}] {} ... {} ({:.1} s)",
            number + 1,
            chosen.len(),
            report::place(mutant),
            fate.summary(),
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
    report::conclude(&trials)?;
    if args.only.is_none() && args.model.is_none() {
        Lock::of(inputs, keys, &trials)?.write(&workspace.root)?;
        println!("the result is kept in {MUTANTS_LOCK}; commit it");
    }
    Ok(())
}

/// The model that killed a mutant when the result was kept.
fn killer<'a>(old: &'a Lock, key: &Key) -> Option<&'a str> {
    let locked = old.mutants.iter().find(|locked| locked.key == *key)?;
    match &locked.fate {
        LockedFate::Killed(model) => Some(model),
        LockedFate::Survived => None,
    }
}

/// Fails if the kept result is not of these sources, or a mutant of the sample ends differently.
pub fn check(workspace: &Workspace, sample: usize, seed: Option<u64>) -> Result<()> {
    let mutants = find_all(&workspace.root)?;
    // Also without a run, the list must fit the sources.
    let allowed = expected::read(&workspace.root, &mutants)?;
    let lock = Lock::read(&workspace.root)?.with_context(|| {
        format!("there is no {MUTANTS_LOCK}; run `cargo xtask mutate` and commit the file")
    })?;
    let inputs = inputs::all(&workspace.root)?;
    lock.expect_current(&inputs, &lock::keys(&mutants))?;
    println!("{MUTANTS_LOCK} is current: {} mutants, {} inputs", mutants.len(), inputs.len());
    for (index, (locked, mutant)) in lock.mutants.iter().zip(&mutants).enumerate() {
        let is_allowed = allowed.iter().any(|(listed, _)| *listed == index);
        if is_allowed != (locked.fate == LockedFate::Survived) {
            bail!(
                "{}: {MUTANTS_LOCK} and the list of survivors contradict each other; run `cargo \
                 xtask mutate`",
                report::place(mutant)
            );
        }
    }
    let seed = seed.or_else(|| sample::seed_of_commit(&workspace.root)).unwrap_or(0);
    let chosen: Vec<(&Locked, &Mutant)> = sample::choose(mutants.len(), sample, seed)
        .into_iter()
        .map(|index| (&lock.mutants[index], &mutants[index]))
        .collect();
    if chosen.is_empty() {
        return Ok(());
    }
    println!("running {} of them again; `--seed {seed}` repeats the choice", chosen.len());
    run_again(workspace, &chosen)
}

/// Runs mutants again: of a killed one the model that killed it, of a survivor every model.
fn run_again(workspace: &Workspace, chosen: &[(&Locked, &Mutant)]) -> Result<()> {
    let mut runner = Runner::set_up(workspace, false)?;
    let killers: Vec<&str> = chosen
        .iter()
        .filter_map(|(locked, _)| match &locked.fate {
            LockedFate::Killed(model) => Some(model.as_str()),
            LockedFate::Survived => None,
        })
        .collect();
    let all = killers.len() < chosen.len();
    runner.run_originals(|model| all || killers.contains(&model))?;
    let mut wrong = Vec::new();
    for (locked, mutant) in chosen {
        let start = Instant::now();
        let place = report::place(mutant);
        let fate = match &locked.fate {
            LockedFate::Killed(model) => runner.try_one_model(mutant, model)?,
            LockedFate::Survived => runner.try_all_models(mutant, None)?,
        };
        println!("    {place} ... {} ({:.1} s)", fate.summary(), start.elapsed().as_secs_f64());
        if let Some(complaint) = contradiction(&locked.fate, &fate) {
            wrong.push(format!("{place}: {complaint}"));
        }
    }
    if !wrong.is_empty() {
        bail!(
            "{MUTANTS_LOCK} does not tell the truth about {} of {} mutants:\n{}\nrun `cargo xtask \
             mutate`",
            wrong.len(),
            chosen.len(),
            wrong.join("\n")
        );
    }
    Ok(())
}

/// What is wrong if a mutant that is locked as `locked` ended as `fate`.
fn contradiction(locked: &LockedFate, fate: &Fate) -> Option<String> {
    match (locked, fate) {
        (LockedFate::Killed(_), Fate::Killed(_)) => None,
        (LockedFate::Survived, Fate::Survived | Fate::Undecided(_)) => None,
        (LockedFate::Killed(model), other) => {
            Some(format!("locked as killed by {model}, but now: {}", other.summary()))
        }
        (LockedFate::Survived, other) => {
            Some(format!("locked as a survivor, but now: {}", other.summary()))
        }
    }
}

/// The files that hold mutants, with their text; those of test modules are left out.
fn mutated_files(root: &Path) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for place in MUTATED {
        let path = root.join(place);
        if path.is_dir() {
            files.extend(sources::rust_files(&path)?);
        } else if path.is_file() {
            files.push(path);
        }
    }
    let mut found = Vec::new();
    let mut for_tests = Vec::new();
    for path in files {
        let (name, text) = (name_of(root, &path), read(&path)?);
        // `mod x;` in protocol.rs is protocol/x.rs; in protocol/mod.rs it is protocol/x.rs, too.
        let directory = if path.ends_with("mod.rs") {
            path.parent().unwrap_or(root).to_path_buf()
        } else {
            path.with_extension("")
        };
        for module in find::test_modules(&name, &text)? {
            for_tests.push(directory.join(&module).with_extension("rs"));
            for_tests.push(directory.join(&module));
        }
        found.push((path, name, text));
    }
    // A test module's own modules are in its directory.
    found.retain(|(path, ..)| !for_tests.iter().any(|tests| path.starts_with(tests)));
    Ok(found.into_iter().map(|(_, name, text)| (name, text)).collect())
}

/// The mutants of all files, in their order.
fn find_all(root: &Path) -> Result<Vec<Mutant>> {
    let mut mutants = Vec::new();
    for (name, text) in mutated_files(root)? {
        mutants.extend(find::in_source(&name, &text)?);
    }
    if mutants.is_empty() {
        bail!("no memory ordering found in {}", MUTATED.join(", "));
    }
    Ok(mutants)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fate_that_is_not_the_locked_one_is_a_contradiction() {
        let killed = LockedFate::Killed("slot::m".to_owned());
        let kill = Fate::Killed(vec![("slot::m".to_owned(), "torn".to_owned())]);
        let undecided = Fate::Undecided(vec!["slot::m (timeout)".to_owned()]);
        assert!(contradiction(&killed, &kill).is_none());
        assert!(contradiction(&LockedFate::Survived, &Fate::Survived).is_none());
        assert!(contradiction(&LockedFate::Survived, &undecided).is_none());
        assert!(contradiction(&killed, &Fate::Survived).is_some());
        assert!(contradiction(&killed, &undecided).is_some());
        assert!(contradiction(&killed, &Fate::DoesNotBuild("e".to_owned())).is_some());
        assert!(contradiction(&LockedFate::Survived, &kill).is_some());
        assert!(
            contradiction(&LockedFate::Survived, &Fate::DoesNotBuild("e".to_owned())).is_some()
        );
    }

    #[test]
    fn files_of_test_modules_hold_no_mutants() {
        let load = "fn f() { a.load(Acquire); }";
        let scratch = sources::tests::Scratch::new(
            "mutated",
            &[
                ("src/protocol.rs", "mod slot;\n#[cfg(test)]\nmod tests;"),
                ("src/protocol/slot.rs", load),
                ("src/protocol/tests.rs", load),
                ("src/protocol/tests/more.rs", load),
                ("src/ring.rs", load),
            ],
        );
        let mutants = find_all(&scratch.0).unwrap();
        let files: Vec<&str> = mutants.iter().map(|mutant| mutant.file.as_str()).collect();
        assert_eq!(files, ["src/protocol/slot.rs"]);
    }
}
