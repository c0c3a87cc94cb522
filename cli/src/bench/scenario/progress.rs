//! What the user sees while a scenario runs, on standard error.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::figure::short;
use super::plan::Plan;
use super::protocol::WriterProgress;
use crate::console::note;
use crate::engine::Engine;

/// A bar on a terminal; elsewhere one line per run.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    debug: bool,
}

impl Progress {
    /// Announces a run.
    pub fn new(plan: &Plan, engine: Engine, debug: bool) -> Self {
        // The bar counts milliseconds of the run.
        let bar = ProgressBar::new((plan.duration_seconds * 1e3) as u64);
        let style = ProgressStyle::with_template("{prefix:22} {bar:30.cyan} {percent:>3}%  {msg}");
        bar.set_style(style.expect("the template is valid"));
        bar.set_prefix(format!("{} {engine}", plan.name));
        bar.enable_steady_tick(Duration::from_millis(100));
        if !io::stderr().is_terminal() {
            let Plan { name, readers, writers, .. } = plan;
            let writers =
                if *writers == 1 { String::new() } else { format!(", writers: {writers}") };
            note(format_args!(
                "{name} with the {engine} engine: {} s, readers: {readers}{writers}",
                short(plan.duration_seconds)
            ));
        }
        Self { bar, debug }
    }

    /// So many processes are attached.
    pub fn attached(&self, processes: usize, of: usize) {
        self.bar.set_message(format!("{processes} of {of} processes attached"));
    }

    /// The writer is that far.
    pub fn writing(&self, progress: WriterProgress) {
        let seconds = progress.elapsed_ns as f64 / 1e9;
        let rate = progress.writes as f64 / seconds;
        self.bar.set_position(progress.elapsed_ns / 1_000_000);
        self.bar.set_message(format!(
            "{} messages, {rate:.1} a second, {} stalls",
            progress.writes, progress.stalls
        ));
    }

    /// The writer is done, and so many readers are.
    pub fn draining(&self, readers: usize, of: usize) {
        self.bar.set_message(format!("{readers} of {of} readers done"));
    }

    /// A detail for those who asked for details.
    pub fn detail(&self, line: impl FnOnce() -> String) {
        if self.debug {
            self.bar.suspend(|| note(line()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
