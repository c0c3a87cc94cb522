//! `cargo xtask api`: the list of all that the library exports.
//!
//! A change of the public API is seen in the diff of the list, whether it was meant or not. Nothing
//! has been released yet, so there is no promise that the list could break. From the first release
//! on, the gate should also run `cargo semver-checks` against it; until then that command has
//! nothing to compare with.

use std::fs;

use anyhow::{Context, Result, bail};
use public_api::{Builder, MINIMUM_NIGHTLY_RUST_VERSION};

use crate::command;
use crate::fuzz::TOOLCHAIN;
use crate::places::API;
use crate::sources::read;
use crate::test::Outcome;
use crate::workspace::Workspace;

const COMMAND: &str = "cargo xtask api";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Compare the list with the library instead of writing it
    #[arg(long)]
    pub check: bool,
}

/// Writes or compares the list; skipped where the nightly toolchain, which alone can describe a
/// library, is missing.
pub fn run(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    if !command::works(&mut command::cargo_of(TOOLCHAIN, workspace, ["--version"])) {
        return Ok(Outcome::Skipped(format!(
            "no {TOOLCHAIN} toolchain; install one with `rustup toolchain install {TOOLCHAIN}`"
        )));
    }
    let current = list(workspace)?;
    let path = workspace.root.join(API);
    if args.check {
        let kept = read(&path).with_context(|| format!("run `{COMMAND}` and commit {API}"))?;
        compare(&kept, &current)?;
        println!("{API} is current: {} items", current.lines().count());
    } else {
        fs::write(&path, &current)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        println!("{API} holds {} items; commit it", current.lines().count());
    }
    Ok(Outcome::Passed)
}

/// One exported item a line, sorted, as docs.rs shows the library: with the feature `async`.
fn list(workspace: &Workspace) -> Result<String> {
    let target = workspace.target.join("api");
    let mut rustdoc = command::cargo_of(TOOLCHAIN, workspace, ["rustdoc", "--quiet", "--lib"]);
    rustdoc.args(["--package", "seqring", "--features", "async", "--target-dir"]).arg(&target);
    rustdoc.args(["--", "-Zunstable-options", "--output-format", "json", "--cfg", "docsrs"]);
    // Lints are the business of other steps.
    rustdoc.args(["--cap-lints", "allow"]);
    command::run(&mut rustdoc)?;
    let api = Builder::from_rustdoc_json(target.join("doc/seqring.json"))
        // These hold for every type.
        .omit_blanket_impls(true)
        .build()
        .with_context(|| {
            format!(
                "the description of the library is not understood; the crate public-api needs \
                 {MINIMUM_NIGHTLY_RUST_VERSION} or newer, and for a newer format `cargo update \
                 --package public-api`"
            )
        })?;
    let items = api.items().map(ToString::to_string);
    let lines: Vec<String> = items.filter(|item| !is_of_the_compiler(item)).collect();
    Ok(lines.join("\n") + "\n")
}

/// Implementations of automatic traits other than `Send`, `Sync` and `Unpin`: which there are
/// depends on the compiler.
fn is_of_the_compiler(item: &str) -> bool {
    ["core::marker::Freeze for", "core::marker::UnsafeUnpin for", "core::panic::unwind_safe::"]
        .iter()
        .any(|name| item.starts_with("impl") && item.contains(name))
}

/// Fails unless the two lists are the same.
fn compare(kept: &str, current: &str) -> Result<()> {
    let without = |all: &str, other: &str, sign: &str| -> Vec<String> {
        let other: Vec<&str> = other.lines().collect();
        let lines = all.lines().filter(|line| !other.contains(line));
        lines.map(|line| format!("{sign} {line}")).collect()
    };
    if kept == current {
        return Ok(());
    }
    let mut changes = without(kept, current, "-");
    changes.extend(without(current, kept, "+"));
    bail!(
        "the public API is not the one in {API}; if that is meant, run `{COMMAND}` and commit the \
         file\n{}",
        changes.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_api_is_told_item_by_item() {
        compare("pub fn a()\npub fn b()\n", "pub fn a()\npub fn b()\n").unwrap();
        let error = compare("pub fn a()\npub fn b()\n", "pub fn a()\npub fn c()\n").unwrap_err();
        let error = error.to_string();
        assert!(error.ends_with("\n- pub fn b()\n+ pub fn c()"), "{error}");
        assert!(error.contains(COMMAND), "{error}");
        // The order and the number of lines count, too.
        assert!(compare("pub fn a()\npub fn b()\n", "pub fn b()\npub fn a()\n").is_err());
        assert!(compare("pub fn a()\npub fn a()\n", "pub fn a()\n").is_err());
    }

    #[test]
    fn only_traits_that_users_rely_on_are_listed() {
        assert!(is_of_the_compiler("impl core::marker::Freeze for seqring::Ring"));
        assert!(is_of_the_compiler("impl !core::panic::unwind_safe::UnwindSafe for seqring::Ring"));
        assert!(!is_of_the_compiler("impl core::marker::Send for seqring::Ring"));
        assert!(!is_of_the_compiler("pub fn f() -> core::panic::unwind_safe::AssertUnwindSafe"));
    }
}
