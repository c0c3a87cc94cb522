//! `cargo xtask house`: the rules of the house that a program can check.
//!
//! The tables and the levels are in `places.rs`.

mod imports;
mod reserved;
mod width;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::places::{self, Level};
use crate::sources::name_of;
use crate::workspace::Workspace;

/// One place that does not keep a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: String,
    line: usize,
    message: String,
}

impl Finding {
    fn new(file: &str, line: usize, message: String) -> Self {
        Self { file: file.to_owned(), line, message }
    }
}

/// The most warnings of one check that the gate prints.
pub const FEW: usize = 5;

/// Prints the findings, at most `warnings` of a check that only warns; fails if a check whose level
/// says so has any.
pub fn run(workspace: &Workspace, warnings: usize) -> Result<()> {
    let root = &workspace.root;
    let imports = imports::Graph::read(root)?;
    let rust = files(root, "rs")?;
    let checks = [
        ("imports", places::IMPORTS, imports.against_order(places::MODULE_ORDER)),
        ("circles", places::CIRCLES, imports.circles()),
        ("reserved", places::RESERVED, reserved::check(root, &rust)?),
        ("stale entries", places::STALE_ENTRIES, reserved::stale_entries(root, &rust)?),
        ("code width", places::CODE_WIDTH, width::code(root, &rust)?),
        ("prose width", places::PROSE_WIDTH, width::prose(root, &files(root, "md")?)?),
    ];
    let failed = report(&checks, warnings);
    if failed > 0 {
        bail!("{failed} finding(s); correct the place, or the table in xtask/src/places.rs");
    }
    Ok(())
}

/// Prints the findings and returns the number of those that fail the step.
fn report(checks: &[(&str, Level, Vec<Finding>)], warnings: usize) -> usize {
    let mut failed = 0;
    for (name, level, findings) in checks {
        let (prefix, most) = match level {
            Level::Fail => ("error", usize::MAX),
            Level::Warn => ("warning", warnings),
        };
        for Finding { file, line, message } in findings.iter().take(most) {
            println!("{prefix}: {file}:{line}: {message}");
        }
        let hint = if findings.len() > most { "; `cargo xtask house` shows all" } else { "" };
        println!("{name}: {} finding(s){hint}", findings.len());
        if *level == Level::Fail {
            failed += findings.len();
        }
    }
    failed
}

/// The names of all files of the workspace with this extension, sorted.
fn files(root: &Path, extension: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    collect(root, root, extension, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(root: &Path, directory: &Path, extension: &str, found: &mut Vec<String>) -> Result<()> {
    let entries = fs::read_dir(directory)
        .with_context(|| format!("{} cannot be read", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with('.') || places::NOT_SEARCHED.contains(&name.as_ref()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            collect(root, &path, extension, found)?;
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(name_of(root, &path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::tests::Scratch;

    #[test]
    fn only_findings_of_checks_that_fail_count() {
        let finding = Finding::new("a.rs", 1, "bad".to_owned());
        let some = vec![finding.clone(), finding];
        assert_eq!(report(&[("a", Level::Warn, some.clone())], FEW), 0);
        assert_eq!(report(&[("a", Level::Warn, some.clone()), ("b", Level::Fail, some)], FEW), 2);
        assert_eq!(report(&[("b", Level::Fail, Vec::new())], FEW), 0);
    }

    #[test]
    fn build_products_are_not_searched() {
        let scratch = Scratch::new(
            "files",
            &[("src/a.rs", ""), ("target/b.rs", ""), ("x/target/c.rs", ""), (".git/d.rs", "")],
        );
        assert_eq!(files(&scratch.0, "rs").unwrap(), ["src/a.rs"]);
    }
}
