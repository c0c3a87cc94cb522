//! `cargo xtask msrv`: the library builds with the oldest compiler that its manifest promises.
//!
//! The compiler is rustup's if that toolchain is installed. Otherwise, if apt offers a Debian
//! package of that version, the package is unpacked below the target directory. Nothing is
//! installed, and the state of apt does not change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::test::Outcome;
use crate::workspace::Workspace;

/// Debian's names of a compiler and its standard library. Stable releases carry the second pair for
/// building browsers; it is newer.
const DEBIAN_PACKAGES: [[&str; 2]; 2] =
    [["rustc", "libstd-rust-dev"], ["rustc-web", "libstd-rust-web-dev"]];

/// Checks the library; skipped if the compiler is not available.
pub fn run(workspace: &Workspace) -> Result<Outcome> {
    let version = promised(&workspace.root.join("Cargo.toml"))?;
    let mut check = if let Some(toolchain) = rustup_toolchain(&version) {
        command::cargo_of(&toolchain, workspace, ["check"])
    } else {
        let directory = workspace.target.join("msrv").join(&version);
        let compiler = match debian_compiler(&directory, &version) {
            Ok(compiler) => compiler,
            Err(reason) => {
                return Ok(Outcome::Skipped(format!(
                    "no {version} toolchain: rustup has none (`rustup toolchain install {version}`) and \
                     apt offers none ({reason:#})"
                )));
            }
        };
        let mut check = command::cargo(workspace, ["check"]);
        compiler.apply(&mut check);
        check.env("RUSTC", &compiler.rustc);
        check
    };
    check
        .args(["--package", "seqring", "--lib", "--target-dir"])
        .arg(workspace.target.join("msrv").join("check"));
    command::run(&mut check)
        .with_context(|| format!("the library does not build with rustc {version}"))?;
    Ok(Outcome::Passed)
}

/// The `rust-version` of the library.
fn promised(manifest: &Path) -> Result<String> {
    let text = fs::read_to_string(manifest)
        .with_context(|| format!("{} cannot be read", manifest.display()))?;
    let table: toml::Table =
        text.parse().with_context(|| format!("{} is not TOML", manifest.display()))?;
    let version = table
        .get("package")
        .and_then(|package| package.get("rust-version"))
        .and_then(toml::Value::as_str);
    match version {
        Some(version) => Ok(version.to_owned()),
        None => bail!("{} states no package.rust-version", manifest.display()),
    }
}

fn rustup_toolchain(version: &str) -> Option<String> {
    let list = command::output(Command::new("rustup").args(["toolchain", "list"])).ok()?;
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| is_toolchain_of(name, version)).map(str::to_owned).next()
}

/// Whether a toolchain `1.85-x86_64-unknown-linux-gnu` or `1.85.1-...` is of the version `1.85`.
fn is_toolchain_of(name: &str, version: &str) -> bool {
    name.strip_prefix(version).is_some_and(|rest| rest.starts_with(['-', '.']))
}

/// A compiler that was unpacked but not installed. It needs the path of its libraries.
#[derive(Debug)]
struct Unpacked {
    rustc: PathBuf,
    libraries: PathBuf,
}

impl Unpacked {
    fn apply(&self, command: &mut Command) {
        command.env("LD_LIBRARY_PATH", &self.libraries);
    }

    /// Fails unless the compiler starts and is of this version.
    fn verify(&self, version: &str) -> Result<()> {
        let mut command = Command::new(&self.rustc);
        command.arg("--version");
        self.apply(&mut command);
        let said = command::output(&mut command)?;
        match said.strip_prefix(&format!("rustc {version}.")) {
            Some(_) => Ok(()),
            None => bail!("the unpacked compiler reports {:?}", said.trim()),
        }
    }
}

fn debian_compiler(directory: &Path, version: &str) -> Result<Unpacked> {
    let root = directory.join("root");
    if let Ok(compiler) = unpacked(&root, version) {
        return Ok(compiler);
    }
    // An interrupted run may have left files.
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("{} cannot be removed", directory.display()))?;
    }
    download(directory, version)?;
    for entry in fs::read_dir(directory.join("archives"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            command::output(Command::new("dpkg").arg("-x").arg(&path).arg(&root))?;
        }
    }
    // The packages and apt's lists are as large as the compiler.
    for directory in ["archives", "lists"].map(|name| directory.join(name)) {
        fs::remove_dir_all(&directory)
            .with_context(|| format!("{} cannot be removed", directory.display()))?;
    }
    unpacked(&root, version)
}

fn unpacked(root: &Path, version: &str) -> Result<Unpacked> {
    let rustc = root.join("usr/bin/rustc");
    if !rustc.exists() {
        bail!("{} does not exist", rustc.display());
    }
    // `/usr/lib/<architecture>`: the directory of the compiler's own driver library.
    for entry in fs::read_dir(root.join("usr/lib"))? {
        let libraries = entry?.path();
        let has_driver = fs::read_dir(&libraries).is_ok_and(|files| {
            files
                .flatten()
                .any(|file| file.file_name().to_string_lossy().starts_with("librustc_driver"))
        });
        if has_driver {
            let compiler = Unpacked { rustc, libraries };
            compiler.verify(version)?;
            return Ok(compiler);
        }
    }
    bail!("the package of rustc {version} holds no librustc_driver")
}

/// Lets apt choose and fetch the packages that this system lacks. It works in separate directories,
/// so it needs neither root nor fresh package lists.
fn download(directory: &Path, version: &str) -> Result<()> {
    fs::create_dir_all(directory.join("lists/partial"))?;
    fs::create_dir_all(directory.join("archives/partial"))?;
    let apt = || {
        let mut command = Command::new("apt-get");
        command.arg("--quiet").arg("--yes");
        for (key, value) in [
            ("Dir::State::Lists", directory.join("lists")),
            ("Dir::Cache", directory.to_path_buf()),
            ("Dir::Cache::Archives", directory.join("archives")),
            ("Debug::NoLocking", "true".into()),
            ("APT::Sandbox::User", "".into()),
            ("APT::Update::Post-Invoke", "".into()),
        ] {
            command.arg("--option").arg(format!("{key}={}", value.display()));
        }
        command
    };
    println!("rustc {version}: fetching it with apt");
    command::output(apt().arg("update"))?;
    let mut refusal = None;
    for packages in DEBIAN_PACKAGES {
        let mut install = apt();
        install.args(["install", "--download-only", "--no-install-recommends"]);
        // A compiler that is installed in another version is no obstacle: nothing gets installed.
        install.args(["--allow-downgrades", "--reinstall"]);
        install.args(packages.map(|package| format!("{package}={version}.*")));
        match command::output(&mut install) {
            Ok(_) => return Ok(()),
            Err(error) => refusal = Some(error),
        }
    }
    let reason = match refusal.as_ref().map(ToString::to_string) {
        Some(text) => {
            text.lines().rfind(|line| line.starts_with("E: ")).unwrap_or("it failed").to_owned()
        }
        None => "no package to ask for".to_owned(),
    };
    bail!("apt-get: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toolchains_are_matched_by_whole_numbers() {
        assert!(is_toolchain_of("1.85-x86_64-unknown-linux-gnu", "1.85"));
        assert!(is_toolchain_of("1.85.1-x86_64-unknown-linux-gnu", "1.85"));
        assert!(!is_toolchain_of("1.851-x86_64-unknown-linux-gnu", "1.85"));
        assert!(!is_toolchain_of("stable-x86_64-unknown-linux-gnu", "1.85"));
    }
}
