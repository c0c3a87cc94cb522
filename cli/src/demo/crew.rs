//! The processes of the demo, as their parent sees them.

use std::collections::VecDeque;
use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use seqring::{Consumer, IfExists, Ring, TryRecvError};

use super::stats::Stats;

/// Slots of a ring of reports: they come ten times a second and are fetched as often.
const REPORT_SLOTS: usize = 64;
/// Rates are taken over this many reports: half a second.
const RATE_REPORTS: usize = 6;
/// How long a process may take to end when it was asked to.
const PATIENCE: Duration = Duration::from_secs(5);

/// A process, and the ring it reports to. Dropping this ends the process.
#[derive(Debug)]
pub struct Member {
    /// What it is called.
    pub name: String,
    child: Child,
    /// Closing it asks the producer to stop.
    input: Option<ChildStdin>,
    _ring: Ring<Stats>,
    reports: Consumer<Stats>,
    history: VecDeque<Stats>,
    killed: bool,
}

impl Member {
    /// Starts this program again as `role`, which is told the names of its rings.
    ///
    /// # Errors
    ///
    /// When the ring or the process cannot be made.
    pub fn start(name: &str, ring: &str, report: &str, role: &[&str]) -> Result<Self> {
        let reports = Ring::<Stats>::builder(report)
            .slots(REPORT_SLOTS)
            .if_exists(IfExists::Error)
            .create()?;
        let program = env::current_exe().context("cannot find the path of this program")?;
        let mut child = Command::new(program)
            .args(role)
            .args(["--ring", ring, "--report", report])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // A terminal sends Ctrl-C to a whole group; the parent decides what follows.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let input = child.stdin.take();
        let consumer = reports.consumer().attach();
        Ok(Self {
            name: name.to_owned(),
            child,
            input,
            _ring: reports,
            reports: consumer,
            history: VecDeque::new(),
            killed: false,
        })
    }

    /// Its process id.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Its latest report; nothing before the first.
    pub fn stats(&self) -> Option<Stats> {
        self.history.back().copied()
    }

    /// Whether it was killed on purpose.
    pub fn is_killed(&self) -> bool {
        self.killed
    }

    /// Messages a second over the last reports; 0 for one that was killed.
    pub fn rate(&self) -> f64 {
        match (self.history.front(), self.history.back()) {
            (Some(first), Some(last)) if last.now_ns > first.now_ns && !self.killed => {
                (last.messages - first.messages) as f64 / (last.now_ns - first.now_ns) as f64 * 1e9
            }
            _ => 0.0,
        }
    }

    /// Fetches what it reported.
    ///
    /// # Errors
    ///
    /// When it died uninvited.
    pub fn update(&mut self) -> Result<()> {
        loop {
            match self.reports.try_recv() {
                Ok(stats) => {
                    self.history.push_back(stats);
                    if self.history.len() > RATE_REPORTS {
                        self.history.pop_front();
                    }
                }
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed(_)) => break,
            }
        }
        if !self.killed
            && let Some(status) =
                self.child.try_wait().context("cannot ask for the state of a process")?
            && !status.success()
        {
            bail!("{} (process {}) ended uninvited: {status}", self.name, self.process());
        }
        Ok(())
    }

    /// Kills it with SIGKILL: it has no chance to tell anybody.
    ///
    /// # Errors
    ///
    /// When it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .with_context(|| format!("cannot kill {}", self.name))?;
        self.killed = true;
        Ok(())
    }

    /// Asks it to stop.
    pub fn ask_to_stop(&mut self) {
        self.input = None;
    }

    /// Waits until it has ended, and returns its last word.
    ///
    /// # Errors
    ///
    /// When it failed, does not end, or had no last word.
    pub fn last_word(&mut self) -> Result<Stats> {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().context("cannot ask for the state of a process")?.is_none() {
            ensure!(
                Instant::now() < deadline,
                "{} (process {}) does not end",
                self.name,
                self.process()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        self.update()?;
        self.stats().filter(|stats| stats.done == 1).with_context(|| {
            format!("{} (process {}) ended without a last word", self.name, self.process())
        })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // One that has ended already is no failure of either call.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
