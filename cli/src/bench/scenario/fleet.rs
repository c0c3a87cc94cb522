//! The parent's side: starting the processes of a scenario and hearing from them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, iter};

use anyhow::{Context as _, Error, Result, anyhow};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;

use super::protocol::{Report, START};
use crate::interrupt::Interrupt;

/// How long an interrupt may go unnoticed.
const TICK: Duration = Duration::from_millis(50);

/// How long to look for the process whose death made another one fail.
const BLAME_TIME: Duration = Duration::from_millis(300);

/// Child processes. Dropping this ends those that still run.
#[derive(Debug)]
pub struct Fleet {
    members: Vec<Member>,
    mailbox: mpsc::Receiver<(usize, Mail)>,
    postbox: mpsc::Sender<(usize, Mail)>,
}

#[derive(Debug)]
struct Member {
    name: String,
    child: Child,
    stdin: ChildStdin,
    /// It has said all it had to say.
    done: bool,
}

#[derive(Debug)]
enum Mail {
    Report(Report),
    /// Not a report; what it was.
    Noise(String),
    /// Its standard output ended.
    End,
}

impl Fleet {
    /// No processes yet.
    pub fn new() -> Self {
        let (postbox, mailbox) = mpsc::channel();
        // Two pipes per child; the usual soft limit is for programs that use `select`.
        if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
        }
        Self { members: Vec::new(), mailbox, postbox }
    }

    /// Starts this program again with other arguments and sends it a task.
    ///
    /// # Errors
    ///
    /// When the process cannot be started.
    pub fn start(&mut self, name: &str, arguments: &[&str], task: &impl Serialize) -> Result<()> {
        let program = env::current_exe().context("cannot find the path of this program")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A terminal sends Ctrl-C to a whole group; the parent decides what follows.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let stdin = child.stdin.take().expect("it was asked for");
        let stdout = child.stdout.take().expect("it was asked for");
        let index = self.members.len();
        self.members.push(Member { name: name.to_owned(), child, stdin, done: false });

        let postbox = self.postbox.clone();
        thread::Builder::new().name(format!("listen to {name}")).spawn(move || {
            let mails = BufReader::new(stdout)
                .lines()
                .map_while(Result::ok)
                .map(|line| serde_json::from_str(&line).map_or(Mail::Noise(line), Mail::Report));
            for mail in mails.chain(iter::once(Mail::End)) {
                // Nobody listens when the fleet is being ended.
                let _ = postbox.send((index, mail));
            }
        })?;
        self.send(index, &serde_json::to_string(task)?)
    }

    /// Gives a process the start signal.
    ///
    /// # Errors
    ///
    /// When it died.
    pub fn signal_start(&mut self, index: usize) -> Result<()> {
        self.send(index, START)
    }

    fn send(&mut self, index: usize, line: &str) -> Result<()> {
        let sent = writeln!(self.members[index].stdin, "{line}");
        sent.map_err(|_| self.blame(index))
    }

    /// The next report of any process, with its index in the order of starting.
    ///
    /// # Errors
    ///
    /// When a process failed or died, or this one is asked to end.
    pub fn next_report(&mut self, interrupt: &Interrupt) -> Result<(usize, Report)> {
        loop {
            interrupt.check()?;
            match self.mailbox.recv_timeout(TICK) {
                Ok((index, Mail::Report(Report::Failed(reason)))) => {
                    let error = anyhow!("{} failed: {reason}", self.describe(index));
                    // A reason may be that another process was killed: say that first.
                    return Err(self.killed_member().unwrap_or(error));
                }
                Ok((index, Mail::Report(report))) => {
                    self.members[index].done |=
                        matches!(report, Report::Writer(_) | Report::Reader(_));
                    return Ok((index, report));
                }
                Ok((index, Mail::Noise(line))) => {
                    return Err(anyhow!(
                        "{} said {line:?}, which is no report",
                        self.describe(index)
                    ));
                }
                Ok((index, Mail::End)) if self.members[index].done => {}
                Ok((index, Mail::End)) => return Err(self.blame(index)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    unreachable!("the fleet has a sender itself")
                }
            }
        }
    }

    /// Name and process id, for messages.
    pub fn describe(&self, index: usize) -> String {
        let member = &self.members[index];
        format!("{} (process {})", member.name, member.child.id())
    }

    /// The error of a process that went silent.
    fn blame(&mut self, index: usize) -> Error {
        let who = self.describe(index);
        let deadline = Instant::now() + BLAME_TIME;
        while Instant::now() < deadline {
            match self.members[index].child.try_wait() {
                Ok(Some(status)) => return anyhow!("{who} died unexpectedly: {}", cause(status)),
                Ok(None) => thread::sleep(Duration::from_millis(5)),
                Err(error) => {
                    return anyhow!("{who} went silent, and waiting for it failed: {error}");
                }
            }
        }
        anyhow!("{who} closed its standard output but still runs")
    }

    /// The error of a process that a signal killed, if there is one.
    fn killed_member(&mut self) -> Option<Error> {
        let deadline = Instant::now() + BLAME_TIME;
        loop {
            for index in 0..self.members.len() {
                let status = self.members[index].child.try_wait().ok().flatten();
                if let Some(status) = status.filter(|status| status.signal().is_some()) {
                    let who = self.describe(index);
                    return Some(anyhow!("{who} died unexpectedly: {}", cause(status)));
                }
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn cause(status: ExitStatus) -> String {
    match status.signal() {
        Some(number) => {
            let name = signal_hook::low_level::signal_name(number).unwrap_or("unknown");
            format!("killed by signal {number} ({name})")
        }
        None => format!("{status}"),
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // A process that has ended already is no failure of either call.
        for member in &mut self.members {
            let _ = member.child.kill();
        }
        for member in &mut self.members {
            let _ = member.child.wait();
        }
    }
}
