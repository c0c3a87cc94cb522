//! `cargo xtask package`: what would be published builds without the repository around it.
//!
//! The packages are unpacked into a workspace of their own below the target directory. There the
//! command finds the packaged library instead of a registry's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use crate::command;
use crate::places::{NOT_PACKAGED, PACKAGED, PACKAGES};
use crate::sources::read;
use crate::workspace::Workspace;

pub fn run(workspace: &Workspace) -> Result<()> {
    let names = PACKAGES.map(|(name, _)| name);
    for name in names {
        // What is packaged is what is in the checkout, committed or not.
        let list = ["package", "--list", "--allow-dirty", "--package", name];
        let listed = command::output(&mut command::cargo(workspace, list))?;
        expect_contents(name, &listed)?;
    }
    let mut package = command::cargo(workspace, ["package", "--no-verify", "--allow-dirty"]);
    // Together: cargo then resolves the command with the packaged library.
    package.args(names.iter().flat_map(|name| ["--package", name]));
    package.arg("--target-dir").arg(&workspace.target);
    let output = package.output().context("cargo package cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    print!("$ {}\n{said}", command::show(&package));
    if !output.status.success() {
        bail!("cargo package failed: {}", output.status);
    }
    expect_all_targets(&said)?;

    let alone = workspace.target.join("package").join("alone");
    if alone.exists() {
        fs::remove_dir_all(&alone)
            .with_context(|| format!("{} cannot be removed", alone.display()))?;
    }
    fs::create_dir_all(&alone).with_context(|| format!("{} cannot be created", alone.display()))?;
    let mut directories = Vec::new();
    for (name, directory) in PACKAGES {
        let version = version(&workspace.root, directory)?;
        directories.push(unpack(&workspace.target.join("package"), &alone, name, &version)?);
    }
    fs::write(alone.join("Cargo.toml"), manifest(&directories))?;
    // The versions that the other steps have tested, and built.
    fs::copy(workspace.root.join("Cargo.lock"), alone.join("Cargo.lock"))?;

    for (name, _) in PACKAGES {
        build(workspace, &alone, name, &["build"])?;
        build(workspace, &alone, name, &["check", "--all-targets"])?;
    }
    // With all features, so that the tests that need one are compiled, too.
    build(workspace, &alone, names[0], &["check", "--all-targets", "--all-features"])
}

/// `listed`: the names of the files, one a line.
fn expect_contents(package: &str, listed: &str) -> Result<()> {
    let files: Vec<&str> = listed.lines().collect();
    for wanted in PACKAGED {
        if !files.contains(&wanted) {
            bail!("the package {package} lacks {wanted}; see `include` in its manifest");
        }
    }
    for file in files {
        let name = file.rsplit('/').next().unwrap_or(file);
        if NOT_PACKAGED.contains(&name) {
            bail!("the package {package} holds {file}; see `include` in its manifest");
        }
    }
    Ok(())
}

/// Cargo only warns of a test, example or bench whose file the package leaves out.
fn expect_all_targets(said: &str) -> Result<()> {
    match said.lines().find(|line| line.starts_with("warning: ignoring ")) {
        Some(line) => bail!("{}; see `include` in its manifest", line.replace("warning: ", "")),
        None => Ok(()),
    }
}

/// The version in a package's manifest, which may be the workspace's.
fn version(root: &Path, directory: &str) -> Result<String> {
    let table = |path: PathBuf| -> Result<Table> {
        read(&path)?.parse().with_context(|| format!("{} is not TOML", path.display()))
    };
    let own = table(root.join(directory).join("Cargo.toml"))?;
    let of_workspace = table(root.join("Cargo.toml"))?;
    let own = own.get("package").and_then(|package| package.get("version"));
    let shared = of_workspace
        .get("workspace")
        .and_then(|workspace| workspace.get("package"))
        .and_then(|package| package.get("version"));
    own.and_then(Value::as_str)
        .or_else(|| shared.and_then(Value::as_str))
        .map(str::to_owned)
        .with_context(|| format!("{directory}/Cargo.toml states no version"))
}

/// Unpacks one package and returns its directory's name.
fn unpack(packages: &Path, to: &Path, name: &str, version: &str) -> Result<String> {
    let directory = format!("{name}-{version}");
    let archive = packages.join(format!("{directory}.crate"));
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&archive).arg("-C").arg(to);
    command::output(&mut tar)?;
    // A nested lock file would only be passed over.
    let lock = to.join(&directory).join("Cargo.lock");
    if lock.exists() {
        fs::remove_file(&lock)?;
    }
    Ok(directory)
}

/// A workspace of the unpacked packages; it takes the library from the first of them.
fn manifest(directories: &[String]) -> String {
    let members: Vec<String> = directories.iter().map(|name| format!("\"{name}\"")).collect();
    format!(
        "[workspace]\nmembers = [{}]\nresolver = \"3\"\n\n[patch.crates-io]\n{} = {{ path = \"{}\" }}\n",
        members.join(", "),
        PACKAGES[0].0,
        directories[0]
    )
}

fn build(workspace: &Workspace, alone: &Path, package: &str, words: &[&str]) -> Result<()> {
    let mut cargo = command::cargo(workspace, words);
    cargo.args(["--quiet", "--package", package]);
    // The target directory of the other steps, where the dependencies are built already.
    cargo.arg("--target-dir").arg(&workspace.target);
    cargo.current_dir(alone);
    command::run(&mut cargo).with_context(|| {
        format!("{package} does not build from its package; see `include` in its manifest")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::tests::Scratch;

    #[test]
    fn packages_hold_what_they_must_and_no_more() {
        let good = PACKAGED.join("\n");
        expect_contents("p", &good).unwrap();
        for wanted in PACKAGED {
            assert!(expect_contents("p", &good.replace(wanted, "other")).is_err(), "{wanted}");
        }
        for unwanted in NOT_PACKAGED {
            let list = format!("{good}\ndocs/{unwanted}");
            assert!(expect_contents("p", &list).is_err(), "{unwanted}");
        }
    }

    #[test]
    fn a_target_that_is_left_out_is_refused() {
        let said = "   Packaging p v0.1.0\nwarning: ignoring test `t` as `tests/t.rs` is not \
                    included in the published package\n";
        assert!(expect_all_targets(said).is_err());
        assert!(expect_all_targets("   Packaging p v0.1.0\n").is_ok());
    }

    #[test]
    fn versions_are_the_packages_or_the_workspaces() {
        let root = "[workspace.package]\nversion = '0.2.0'\n[package]\nversion.workspace = true\n";
        let scratch = Scratch::new(
            "versions",
            &[("Cargo.toml", root), ("cli/Cargo.toml", "[package]\nversion = '0.3.0'\n")],
        );
        assert_eq!(version(&scratch.0, ".").unwrap(), "0.2.0");
        assert_eq!(version(&scratch.0, "cli").unwrap(), "0.3.0");
    }
}
