//! The second process of a benchmark: this program again, pinned to another CPU.
//!
//! Parent and peer speak JSON, one message a line: the parent sends a [`Task`], the peer says that
//! it is ready, both do their part, and the peer answers with what it counted.

use std::env;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::{CommandExt as _, parent_id};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::handoff::HandOff;
use super::spin::Check;
use super::{latency, pin, throughput, wake};
use crate::interrupt::Interrupt;

/// What a peer is asked to do.
#[derive(Debug, Serialize, Deserialize)]
pub enum Task {
    /// Send every message back.
    Latency(latency::Task),
    /// Bounce the line and nothing else: so many rounds.
    HandOff {
        /// Rounds of [`super::handoff::TRIPS`].
        rounds: u32,
    },
    /// Receive what a producer at full speed sends.
    Flood(throughput::flood::Task),
    /// Attach consumers that do nothing, and detach them.
    Idle(throughput::idle::Task),
    /// A live consumer each of two kinds.
    Live(throughput::live::Task),
    /// Sleep, and be woken.
    Wake(wake::rounds::Task),
    /// Wait for a message that never comes.
    Doze(wake::idle::Task),
}

/// The peer, as its parent sees it. Dropping this ends it.
#[derive(Debug)]
pub struct Peer<'a> {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// The line that both bounce.
    pub hand_off: HandOff,
    interrupt: &'a Interrupt,
}

impl<'a> Peer<'a> {
    /// Pins this process to one CPU and starts the peer on another one.
    ///
    /// # Errors
    ///
    /// When there is only one CPU, or the process cannot be started.
    pub fn start(line: &str, interrupt: &'a Interrupt) -> Result<Self> {
        let cpus = pin::two_cpus()?;
        Self::start_as(&["bench-peer"], cpus, line, interrupt)
    }

    /// The same for a program that serves its tasks under another name, on CPUs that the caller
    /// chose: `arguments` come before those of [`PeerArgs`].
    ///
    /// # Errors
    ///
    /// When the process cannot be started.
    pub fn start_as(
        arguments: &[&str],
        [own, other]: [usize; 2],
        line: &str,
        interrupt: &'a Interrupt,
    ) -> Result<Self> {
        let hand_off = HandOff::create(line)?;
        let program = env::current_exe().context("cannot find the path of this program")?;
        let mut child = Command::new(program)
            .args(arguments)
            .args(["--cpu", &other.to_string(), "--line", line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A terminal sends Ctrl-C to a whole group; the parent decides what follows.
            .process_group(0)
            .spawn()
            .context("cannot start the second process")?;
        let input = child.stdin.take().expect("it was asked for");
        let output = BufReader::new(child.stdout.take().expect("it was asked for"));
        let peer = Self { child, input, output, hand_off, interrupt };
        pin::pin_to(own)?;
        Ok(peer)
    }

    /// Gives the peer a task and waits until it is ready for it.
    ///
    /// # Errors
    ///
    /// When it fails to prepare.
    pub fn begin<T: Serialize>(&mut self, task: &T) -> Result<()> {
        self.interrupt.check()?;
        if writeln!(self.input, "{}", serde_json::to_string(task)?).is_err() {
            return Err(self.silence());
        }
        self.hear()
    }

    /// Waits for what the peer has to say at the end of its task.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn end<Answer: DeserializeOwned>(&mut self) -> Result<Answer> {
        self.hear()
    }

    /// The line, and the check to spin with.
    pub fn parts(&mut self) -> (&mut HandOff, impl FnMut() -> Result<()> + use<'_, 'a>) {
        let Self { child, hand_off, interrupt, .. } = self;
        (hand_off, move || {
            interrupt.check()?;
            match child.try_wait().context("cannot ask for the state of the second process")? {
                None => Ok(()),
                Some(status) => {
                    bail!("the second process (process {}) ended too early: {status}", child.id())
                }
            }
        })
    }

    fn hear<Answer: DeserializeOwned>(&mut self) -> Result<Answer> {
        let mut line = String::new();
        match self.output.read_line(&mut line) {
            Ok(bytes) if bytes > 0 => {}
            _ => return Err(self.silence()),
        }
        match serde_json::from_str(&line)
            .with_context(|| format!("the second process said {line:?}"))?
        {
            Reply::Done(answer) => Ok(answer),
            Reply::Failed(reason) => {
                bail!("the second process (process {}) failed: {reason}", self.child.id())
            }
        }
    }

    fn silence(&mut self) -> anyhow::Error {
        let process = self.child.id();
        match self.child.wait() {
            Ok(status) => {
                anyhow::anyhow!("the second process (process {process}) ended too early: {status}")
            }
            Err(error) => anyhow::anyhow!(
                "the second process (process {process}) went silent, and waiting for it failed: {error}"
            ),
        }
    }
}

impl Drop for Peer<'_> {
    fn drop(&mut self) {
        // One that has ended already is no failure of either call.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Serialize, Deserialize)]
enum Reply<Answer> {
    Done(Answer),
    Failed(String),
}

/// How the peer is started; not for people.
#[derive(Debug, clap::Args)]
pub struct PeerArgs {
    /// The CPU to run on
    #[arg(long)]
    cpu: usize,
    /// The name of the line to bounce
    #[arg(long)]
    line: String,
}

/// What the peer has at hand for its tasks.
pub struct Desk<'a> {
    /// The line that both bounce.
    pub hand_off: HandOff,
    /// Whether the parent lives.
    pub check: &'a mut Check<'a>,
}

impl std::fmt::Debug for Desk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("hand_off", &self.hand_off).finish_non_exhaustive()
    }
}

impl Desk<'_> {
    /// Tells the parent that the task can begin.
    ///
    /// # Errors
    ///
    /// When the parent is gone.
    pub fn ready(&self) -> Result<()> {
        say(&Reply::Done(()))
    }
}

/// The peer: does tasks until its parent has no more.
///
/// # Errors
///
/// When a task fails, which the parent is told.
pub fn run(args: &PeerArgs) -> Result<()> {
    serve(args, perform)
}

/// Performs one task after the other until the parent has no more; the first that fails is the
/// last.
///
/// # Errors
///
/// When standard input or output fails, or a task is none.
pub fn serve<T: DeserializeOwned>(
    args: &PeerArgs,
    mut perform: impl FnMut(T, &mut Desk<'_>) -> Result<()>,
) -> Result<()> {
    pin::pin_to(args.cpu)?;
    let parent = parent_id();
    let mut check = move || {
        ensure!(parent_id() == parent, "the first process is gone");
        Ok(())
    };
    let mut desk = Desk { hand_off: HandOff::open(&args.line)?, check: &mut check };
    for line in io::stdin().lines() {
        let line = line.context("cannot read a task from standard input")?;
        let task = serde_json::from_str(&line)
            .context("standard input has no task: run `seqring bench latency` instead")?;
        if let Err(error) = perform(task, &mut desk) {
            return say(&Reply::<()>::Failed(format!("{error:#}")));
        }
    }
    Ok(())
}

fn perform(task: Task, desk: &mut Desk<'_>) -> Result<()> {
    match task {
        Task::Latency(task) => say(&Reply::Done(latency::follow(&task, desk)?)),
        Task::HandOff { rounds } => {
            desk.ready()?;
            for _ in 0..rounds {
                desk.hand_off.follow(super::handoff::TRIPS, desk.check)?;
            }
            say(&Reply::Done(()))
        }
        Task::Flood(task) => say(&Reply::Done(throughput::flood::follow(&task, desk)?)),
        Task::Live(task) => say(&Reply::Done(throughput::live::follow(&task, desk)?)),
        Task::Wake(task) => say(&Reply::Done(wake::rounds::follow(&task, desk)?)),
        Task::Doze(task) => say(&Reply::Done(wake::idle::follow(&task, desk)?)),
        Task::Idle(task) => say(&Reply::Done(throughput::idle::follow(&task, desk)?)),
    }
}

/// Answers the parent: what a task counted, or why it failed.
///
/// # Errors
///
/// When the parent is gone.
pub fn answer<Answer: Serialize>(count: Answer) -> Result<()> {
    say(&Reply::Done(count))
}

fn say<Answer: Serialize>(reply: &Reply<Answer>) -> Result<()> {
    let mut line = serde_json::to_string(reply)?;
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot answer the first process")
}
