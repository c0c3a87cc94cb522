//! This test binary again, in another process and another role.
//!
//! A test binary that uses this has a test called `role`, which does nothing in an ordinary run; a
//! child process is the binary started with only that test and with the role in the environment.
//! The two talk in lines.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::Signal;

const ROLE: &str = "SEQRING_TEST_ROLE";
const ARGUMENT: &str = "SEQRING_TEST_ARGUMENT";

/// What a child's own lines begin with, to tell them from those of the test harness.
const MARK: char = '@';

/// How long anything may take before it counts as a hang.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The role and its argument, if this process is a child.
pub fn current() -> Option<(String, String)> {
    let role = std::env::var(ROLE).ok()?;
    // A child must not outlive a test that was interrupted.
    prctl::set_pdeathsig(Signal::SIGKILL).expect("a process may ask to be killed");
    Some((role, std::env::var(ARGUMENT).expect("every role has an argument")))
}

/// Says a line to the parent.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The parent is gone if this fails, and so are we in a moment.
    let _ = writeln!(out, "\n{MARK}{line}");
    let _ = out.flush();
}

/// The next line from the parent; `None` at the end.
pub fn hear() -> Option<String> {
    std::io::stdin().lines().next()?.ok()
}

/// Gives a role to `command`, which ends up running [`Child::command`].
pub fn cast<'a>(command: &'a mut Command, role: &str, argument: &str) -> &'a mut Command {
    command.env(ROLE, role).env(ARGUMENT, argument)
}

/// A child process; killed when dropped.
#[derive(Debug)]
pub struct Child {
    role: String,
    process: std::process::Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Child {
    /// Starts this binary in `role`.
    pub fn start(role: &str, argument: &str) -> Self {
        Self::spawn(role, argument, Self::command())
    }

    /// This binary as a command that runs a role and nothing else.
    pub fn command() -> Command {
        let mut command = Command::new(std::env::current_exe().expect("the path of this binary"));
        command.args(["role", "--exact", "--nocapture", "--test-threads=1"]);
        command
    }

    /// Starts `command`, which ends up running [`Child::command`], in `role`.
    pub fn spawn(role: &str, argument: &str, mut command: Command) -> Self {
        cast(&mut command, role, argument).stdin(Stdio::piped()).stdout(Stdio::piped());
        let started = Instant::now();
        let mut process = loop {
            match command.spawn() {
                Ok(process) => break process,
                // A copy of this binary, just written: children that other threads start have the
                // file open for a moment.
                Err(error)
                    if error.kind() == ErrorKind::ExecutableFileBusy
                        && started.elapsed() < PATIENCE =>
                {
                    thread::yield_now()
                }
                Err(error) => panic!("could not start {command:?}: {error}"),
            }
        };
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let own = line.strip_prefix(MARK).map(str::to_owned);
                if own.is_some_and(|own| sender.send(own).is_err()) {
                    return;
                }
            }
        });
        Self { role: role.into(), input: process.stdin.take(), process, lines }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether all threads of the process sleep.
    pub fn sleeps(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id()))
            .expect("a child that was not waited for");
        tasks.map_while(Result::ok).all(|task| {
            // The state comes behind the name, which is in parentheses and may hold some.
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, behind)| behind.starts_with('S'))
        })
    }

    /// The next line that the child says.
    #[track_caller]
    pub fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                panic!("process {} ({}) says nothing for {PATIENCE:?}", self.id(), self.role)
            }
            Err(RecvTimeoutError::Disconnected) => {
                panic!(
                    "process {} ({}) ended unexpectedly: {:?}",
                    self.id(),
                    self.role,
                    self.process.wait()
                )
            }
        }
    }

    /// The next line that the child says; `None` if it ends first.
    #[track_caller]
    pub fn said(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => {
                panic!("process {} ({}) says nothing for {PATIENCE:?}", self.id(), self.role)
            }
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// What the child has said and nobody has asked for yet.
    pub fn lines_so_far(&self) -> impl Iterator<Item = String> + '_ {
        self.lines.try_iter()
    }

    /// Says a line to the child.
    pub fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("the input is open until finish()");
        writeln!(input, "{line}").unwrap_or_else(|error| {
            panic!("process {} ({}) does not listen: {error}", self.process.id(), self.role)
        });
    }

    /// Says a line to a child that may be dead.
    pub fn try_tell(&mut self, line: &str) {
        let _ = writeln!(self.input.as_mut().expect("the input is open until finish()"), "{line}");
    }

    /// Says a line to the child and returns its answer.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.line()
    }

    /// SIGKILL; returns when the process is gone and the kernel has released what it held.
    pub fn kill(&mut self) {
        self.process.kill().expect("a child that was not waited for can be killed");
        self.process.wait().expect("a child can be waited for");
    }

    /// Whether the process has ended by itself, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("a child can be waited for")
    }

    /// Ends the child's input and expects it to end well.
    #[track_caller]
    pub fn finish(mut self) {
        self.input = None;
        let started = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                assert!(
                    status.success(),
                    "process {} ({}) ended with {status}",
                    self.id(),
                    self.role
                );
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "process {} ({}) does not end",
                self.id(),
                self.role
            );
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
