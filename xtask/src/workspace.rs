//! Where the workspace is, and where its build products go.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The directories that every task works in.
#[derive(Debug)]
pub struct Workspace {
    /// The directory of the root `Cargo.toml`.
    pub root: PathBuf,
    /// Cargo's target directory. Tasks with other compiler flags use a directory of their own
    /// inside it, so that no task rebuilds the products of another.
    pub target: PathBuf,
}

impl Workspace {
    /// Finds the workspace around this package, which `cargo run` names, or the current directory.
    pub fn find() -> Result<Self> {
        let start = match env::var_os("CARGO_MANIFEST_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => env::current_dir().context("the current directory cannot be read")?,
        };
        let Some(root) = start.ancestors().find(|dir| is_root(dir)) else {
            bail!(
                "no Cargo.toml with a [workspace] in {} or above it; run `cargo xtask` inside the repository",
                start.display()
            );
        };
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => root.join(dir),
            None => root.join("target"),
        };
        Ok(Self { root: root.to_path_buf(), target })
    }
}

fn is_root(dir: &Path) -> bool {
    std::fs::read_to_string(dir.join("Cargo.toml"))
        .is_ok_and(|text| text.lines().any(|line| line.trim() == "[workspace]"))
}
