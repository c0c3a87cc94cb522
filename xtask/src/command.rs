//! Runs other programs. Each is shown before it starts, and an error names the one that failed.

use std::env;
use std::ffi::{OsStr, OsString};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// The cargo that runs this task.
pub fn cargo_program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The cargo that runs this task, at the root of the workspace.
pub fn cargo<S: AsRef<OsStr>>(workspace: &Workspace, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(cargo_program());
    command.current_dir(&workspace.root).args(args);
    command
}

/// Cargo of another toolchain, through rustup's proxy: `CARGO` names one toolchain's binary, which
/// does not understand `+toolchain`.
pub fn cargo_of<S: AsRef<OsStr>>(
    toolchain: &str,
    workspace: &Workspace,
    args: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new("cargo");
    command
        .current_dir(&workspace.root)
        .env_remove("CARGO")
        .arg(format!("+{toolchain}"))
        .args(args);
    command
}

/// Shows the command, runs it to its end with inherited output, and fails if it failed.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    println!("$ {shown}");
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs the command and returns what it printed on its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!(
            "`{shown}` failed: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` did not print UTF-8"))
}

/// Whether the command starts and succeeds; its output is dropped.
pub fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The command as one would type it, with the variables that were set for it.
pub fn show(command: &Command) -> String {
    let mut words: Vec<String> = command
        .get_envs()
        .filter_map(|(key, value)| {
            let value = value?.to_string_lossy().into_owned();
            Some(format!("{}={}", key.to_string_lossy(), quoted(&value)))
        })
        .collect();
    let program = std::path::Path::new(command.get_program());
    words.push(program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned());
    words.extend(command.get_args().map(|arg| quoted(&arg.to_string_lossy())));
    words.join(" ")
}

fn quoted(word: &str) -> String {
    if word.is_empty() || word.contains([' ', '*', '"', '$']) {
        format!("'{word}'")
    } else {
        word.to_owned()
    }
}
