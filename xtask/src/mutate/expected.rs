//! The list of survivors: the mutants that no model can kill, each with the reason.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::find::Mutant;
use crate::places::SURVIVORS;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    survivor: Vec<Entry>,
}

/// One mutant that may survive.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Path from the workspace's root.
    pub file: String,
    /// The source line without the space around it.
    pub line: String,
    /// The name in the report, for example `Release -> Relaxed`.
    pub mutation: String,
    /// The number of the mutant among those that are equal in all of the above, from 1 in the
    /// order of the file.
    pub occurrence: Option<usize>,
    /// Why no model can fail on it, and why the ordering stays.
    pub reason: String,
}

/// Reads the list and finds the mutant of each entry. Returns pairs of an index into `mutants` and
/// the entry. A missing file is an empty list.
pub fn read(root: &Path, mutants: &[Mutant]) -> Result<Vec<(usize, Entry)>> {
    let path = root.join(SURVIVORS);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text =
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    assign(&text, mutants).with_context(|| format!("{SURVIVORS} is wrong"))
}

fn assign(text: &str, mutants: &[Mutant]) -> Result<Vec<(usize, Entry)>> {
    let list: List = toml::from_str(text)?;
    let mut assigned: Vec<(usize, Entry)> = Vec::new();
    for entry in list.survivor {
        let shown = format!("{}, line `{}`, `{}`", entry.file, entry.line, entry.mutation);
        if entry.reason.trim().is_empty() {
            bail!("the entry for {shown} gives no reason");
        }
        let alike: Vec<usize> = mutants
            .iter()
            .enumerate()
            .filter(|(_, mutant)| {
                mutant.file == entry.file
                    && mutant.text == entry.line
                    && mutant.mutation == entry.mutation
            })
            .map(|(index, _)| index)
            .collect();
        let index = match (alike.as_slice(), entry.occurrence) {
            ([], _) => bail!(
                "there is no mutant for {shown}; the source has changed: remove or correct the entry"
            ),
            ([only], None) => *only,
            (several, None) => bail!(
                "{} mutants match {shown}; say which with `occurrence = N`, from 1",
                several.len()
            ),
            (several, Some(number)) => match number.checked_sub(1).and_then(|n| several.get(n)) {
                Some(index) => *index,
                None => bail!(
                    "{shown} has {} occurrence(s), there is no number {number}",
                    several.len()
                ),
            },
        };
        if assigned.iter().any(|(other, _)| *other == index) {
            bail!("two entries are for {shown}");
        }
        assigned.push((index, entry));
    }
    Ok(assigned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::find;

    const SOURCE: &str = "fn f() {\nfence(Acquire);\nfence(Acquire);\na.load(Acquire);\n}";

    fn entry(line: &str, mutation: &str, more: &str) -> String {
        format!("[[survivor]]\nfile = 'x.rs'\nline = '{line}'\nmutation = '{mutation}'\n{more}\n")
    }

    fn indices(list: &str) -> Result<Vec<usize>> {
        let mutants = find::in_source("x.rs", SOURCE)?;
        let assigned = assign(list, &mutants)?;
        Ok(assigned.into_iter().map(|(index, _)| index).collect())
    }

    #[test]
    fn entries_find_their_mutants() {
        let load = entry("a.load(Acquire);", "Acquire -> Relaxed", "reason = 'r'");
        let second = entry("fence(Acquire);", "fence removed", "reason = 'r'\noccurrence = 2");
        assert_eq!(indices(&format!("{load}{second}")).unwrap(), [2, 1]);
        assert_eq!(indices("").unwrap(), [] as [usize; 0]);
    }

    #[test]
    fn entries_that_mean_nothing_or_too_much_are_refused() {
        let refused = [
            entry("a.load(Acquire);", "Acquire -> Relaxed", "reason = ' '"),
            entry("a.load(Acquire);", "Acquire -> Relaxed", ""),
            entry("b.load(Acquire);", "Acquire -> Relaxed", "reason = 'r'"),
            entry("fence(Acquire);", "fence removed", "reason = 'r'"),
            entry("fence(Acquire);", "fence removed", "reason = 'r'\noccurrence = 3"),
            entry("fence(Acquire);", "fence removed", "reason = 'r'\noccurrence = 0"),
            entry("a.load(Acquire);", "Acquire -> Relaxed", "reason = 'r'\nwhy = 1"),
            entry("a.load(Acquire);", "Acquire -> Relaxed", "reason = 'r'").repeat(2),
        ];
        for list in refused {
            assert!(indices(&list).is_err(), "accepted:\n{list}");
        }
    }
}
