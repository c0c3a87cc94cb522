//! The child's side of the conversation with its parent.

use std::io::{self, Write as _};
use std::process;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;

use super::protocol::{Report, START};

/// The connection to the parent. When the parent goes away, this process ends.
#[derive(Debug)]
pub struct Link {
    started: mpsc::Receiver<()>,
}

impl Link {
    /// Reads the task that the parent sends first.
    ///
    /// # Errors
    ///
    /// When standard input does not bring one: nobody but `bench scenario`
    /// should start this process.
    pub fn connect<Task: DeserializeOwned>() -> Result<(Task, Self)> {
        let mut line = String::new();
        io::stdin().read_line(&mut line).context("cannot read the task from standard input")?;
        let task = serde_json::from_str(&line)
            .context("standard input has no task: run `seqring bench scenario` instead")?;
        let (start, started) = mpsc::channel();
        thread::Builder::new().name("parent".to_owned()).spawn(move || {
            for line in io::stdin().lines() {
                match line {
                    Ok(line) if line == START => {
                        // The main thread may have failed in the meantime.
                        let _ = start.send(());
                    }
                    _ => break,
                }
            }
            process::exit(1);
        })?;
        Ok((task, Self { started }))
    }

    /// Tells the parent that this process is attached, and waits for the start.
    ///
    /// # Errors
    ///
    /// When the parent is gone.
    pub fn wait_for_start(&self) -> Result<()> {
        tell(&Report::Ready)?;
        self.started.recv().context("the parent process is gone")
    }
}

/// Sends a report to the parent.
///
/// # Errors
///
/// When the parent is gone.
pub fn tell(report: &Report) -> Result<()> {
    let mut line = serde_json::to_string(report)?;
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot report to the parent process")
}

/// Runs the work of a child and tells the parent why, if it fails.
///
/// # Errors
///
/// When the parent cannot be told.
pub fn run(work: impl FnOnce() -> Result<Report>) -> Result<()> {
    let report = work().unwrap_or_else(|error| Report::Failed(format!("{error:#}")));
    tell(&report)?;
    ensure!(!matches!(report, Report::Failed(_)), "the scenario failed; its parent says why");
    Ok(())
}
