//! The copy of the workspace that gets mutated: the library and its models, nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use toml::{Table, Value};

use crate::places::MODELS;

/// The members that the copy keeps.
const MEMBERS: [&str; 2] = [".", MODELS];

/// Directories that are copied whole; doc comments include files of `docs`.
const DIRECTORIES: [&str; 3] = ["src", MODELS, "docs"];

/// Copies what is needed to build the models from `root` into the fresh directory `copy`.
pub fn make(root: &Path, copy: &Path) -> Result<()> {
    if copy.exists() {
        fs::remove_dir_all(copy)
            .with_context(|| format!("{} cannot be removed", copy.display()))?;
    }
    fs::create_dir_all(copy).with_context(|| format!("{} cannot be created", copy.display()))?;
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            copy_file(&entry.path(), &copy.join(entry.file_name()))?;
        }
    }
    for directory in DIRECTORIES.map(PathBuf::from) {
        if root.join(&directory).is_dir() {
            copy_tree(&root.join(&directory), &copy.join(&directory))?;
        }
    }
    let manifest = copy.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)
        .with_context(|| format!("{} cannot be read", manifest.display()))?;
    fs::write(&manifest, reduced(&text)?)
        .with_context(|| format!("{} cannot be written", manifest.display()))
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("{} cannot be created", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("{} cannot be read", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            copy_file(&entry.path(), &target)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .with_context(|| format!("{} cannot be copied to {}", from.display(), to.display()))?;
    Ok(())
}

/// The root manifest without what the copy does not hold.
fn reduced(manifest: &str) -> Result<String> {
    let mut table: Table = manifest.parse().context("the root Cargo.toml is not TOML")?;
    let workspace = table
        .get_mut("workspace")
        .and_then(Value::as_table_mut)
        .context("the root Cargo.toml has no [workspace]")?;
    let members = MEMBERS.map(|member| Value::String(member.to_owned()));
    workspace.insert("members".to_owned(), Value::Array(members.to_vec()));
    workspace.remove("default-members");
    workspace.remove("exclude");
    // A mutant may use an ordering that the compiler refuses by default.
    let mut lints = workspace.get("lints").cloned().unwrap_or_else(|| Value::Table(Table::new()));
    let rust = lints
        .as_table_mut()
        .context("[workspace.lints] is no table")?
        .entry("rust")
        .or_insert_with(|| Value::Table(Table::new()));
    rust.as_table_mut()
        .context("[workspace.lints.rust] is no table")?
        .insert("invalid_atomic_ordering".to_owned(), Value::String("allow".to_owned()));
    workspace.insert("lints".to_owned(), lints);
    for absent in ["bench", "test", "example", "dev-dependencies"] {
        table.remove(absent);
    }
    toml::to_string(&table).context("the reduced Cargo.toml cannot be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_keeps_the_library_and_the_models() {
        let manifest = r#"
            [workspace]
            members = [".", "cli", "loom-tests"]
            default-members = ["."]
            [workspace.lints.rust]
            missing_docs = "warn"
            [package]
            name = "x"
            [[bench]]
            name = "b"
            [dev-dependencies]
            y = "1"
            [target.'cfg(loom)'.dependencies]
            loom = "0.7"
            [profile.loom]
            inherits = "release"
        "#;
        let table: Table = reduced(manifest).unwrap().parse().unwrap();
        let members = table["workspace"]["members"].as_array().unwrap();
        assert_eq!(members.len(), 2);
        assert!(table["workspace"].get("default-members").is_none());
        let lints = &table["workspace"]["lints"]["rust"];
        assert_eq!(lints["invalid_atomic_ordering"].as_str(), Some("allow"));
        assert_eq!(lints["missing_docs"].as_str(), Some("warn"));
        assert!(!table.contains_key("bench") && !table.contains_key("dev-dependencies"));
        assert_eq!(table["target"]["cfg(loom)"]["dependencies"]["loom"].as_str(), Some("0.7"));
        assert_eq!(table["profile"]["loom"]["inherits"].as_str(), Some("release"));
    }
}
