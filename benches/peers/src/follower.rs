//! The other side of every measurement: a process, or a thread for systems that have no other
//! processes. Both are on the second CPU and do the same when told; only one of them is told at a
//! time, the other sleeps.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use seqring_cli::bench::handoff::HandOff;
use seqring_cli::bench::peer::{self, Desk, Peer, PeerArgs};
use seqring_cli::bench::pin;
use seqring_cli::console::note;
use seqring_cli::interrupt::Interrupt;
use serde::{Deserialize, Serialize};

use crate::job::{Count, Follow, Job, Lead, Style, follow};

/// Messages of a megabyte that are values take several times that of stack.
pub const STACK: usize = 256 << 20;

/// What a follower is told.
#[derive(Debug, Serialize, Deserialize)]
enum Command {
    Open { id: u32, job: Job },
    Turn { id: u32, count: u64, style: Style },
    Close { id: u32 },
}

/// What comes of it. Only opening may fail without consequences.
type Outcome = Result<Count, String>;

/// A follower, as its leader sees it.
pub enum Follower<'a> {
    /// In a process of its own.
    Process(Peer<'a>),
    /// In this process.
    Thread(ThreadPeer<'a>),
}

/// The thread. Dropping this ends it.
pub struct ThreadPeer<'a> {
    commands: Option<Sender<Command>>,
    outcomes: Receiver<Outcome>,
    /// An outcome that came while somebody looked whether the thread lives.
    early: Option<Outcome>,
    line: HandOff,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    interrupt: &'a Interrupt,
}

impl<'a> Follower<'a> {
    /// Starts the process.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn process(line: &str, cpus: [usize; 2], interrupt: &'a Interrupt) -> Result<Self> {
        Ok(Self::Process(Peer::start_as(&["follow"], cpus, line, interrupt)?))
    }

    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn thread(line: &str, cpu: usize, interrupt: &'a Interrupt) -> Result<Self> {
        let hand_off = HandOff::create(line)?;
        let name = line.to_owned();
        let (commands, orders) = channel();
        let (answers, outcomes) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("follower".to_owned()).stack_size(STACK).spawn(
            move || {
                let mut check = || {
                    ensure!(!stopped.load(Ordering::Relaxed), "the leading thread is gone");
                    Ok(())
                };
                let opened = pin::pin_to(cpu).and_then(|()| HandOff::open(&name));
                let hand_off = match opened {
                    Ok(hand_off) => hand_off,
                    Err(error) => {
                        // It is heard by whoever gives the first order.
                        let _ = answers.send(Err(format!("{error:#}")));
                        return;
                    }
                };
                let mut desk = Desk { hand_off, check: &mut check };
                let mut jobs = Jobs::default();
                for command in orders {
                    let outcome =
                        jobs.perform(&command, &mut desk).map_err(|error| format!("{error:#}"));
                    if answers.send(outcome).is_err() {
                        break;
                    }
                }
            },
        )?;
        Ok(Self::Thread(ThreadPeer {
            commands: Some(commands),
            outcomes,
            early: None,
            line: hand_off,
            stop,
            thread: Some(thread),
            interrupt,
        }))
    }

    fn tell(&mut self, command: Command) -> Result<()> {
        match self {
            Self::Process(peer) => peer.begin(&command),
            Self::Thread(thread) => {
                thread.interrupt.check()?;
                let commands =
                    thread.commands.as_ref().context("the following thread was ended")?;
                commands.send(command).context("the following thread is gone")
            }
        }
    }

    fn hear(&mut self) -> Result<Count> {
        let outcome: Outcome = match self {
            Self::Process(peer) => peer.end()?,
            Self::Thread(thread) => match thread.early.take() {
                Some(outcome) => outcome,
                None => thread.outcomes.recv().context("the following thread is gone")?,
            },
        };
        outcome.map_err(anyhow::Error::msg)
    }

    /// Lets the follower prepare for a job, and returns how long that took.
    ///
    /// # Errors
    ///
    /// When it cannot.
    pub fn open(&mut self, id: u32, job: &Job) -> Result<Count> {
        self.tell(Command::Open { id, job: job.clone() })?;
        self.hear()
    }

    /// Lets the follower give up a job.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn close(&mut self, id: u32) -> Result<()> {
        self.tell(Command::Close { id })?;
        self.hear().map(drop)
    }

    /// Plays a turn and returns its nanoseconds, and what the follower counted.
    ///
    /// # Errors
    ///
    /// When a side fails, which is the end of both.
    pub fn turn(
        &mut self,
        id: u32,
        lead: &mut dyn Lead,
        count: u64,
        style: Style,
    ) -> Result<(f64, Count)> {
        self.tell(Command::Turn { id, count, style })?;
        let ns = match self {
            Self::Process(peer) => {
                let (line, mut check) = peer.parts();
                lead.turn(count, style, line, &mut check)
            }
            Self::Thread(thread) => {
                let (line, mut check) = thread.parts();
                lead.turn(count, style, line, &mut check)
            }
        };
        self.settle(ns)
    }

    /// Plays a turn of which every part is timed by itself.
    ///
    /// # Errors
    ///
    /// Those of [`Self::turn`].
    pub fn sample(
        &mut self,
        id: u32,
        lead: &mut dyn Lead,
        count: u64,
        histogram: &mut Histogram<u64>,
    ) -> Result<()> {
        self.tell(Command::Turn { id, count, style: Style::Answered })?;
        let sampled = match self {
            Self::Process(peer) => {
                let (line, mut check) = peer.parts();
                lead.sample(count, line, &mut check, histogram)
            }
            Self::Thread(thread) => {
                let (line, mut check) = thread.parts();
                lead.sample(count, line, &mut check, histogram)
            }
        };
        self.settle(sampled.map(|()| 0.0)).map(drop)
    }

    /// If this side failed, the follower may never answer; it may also be the one that knows why.
    fn settle(&mut self, led: Result<f64>) -> Result<(f64, Count)> {
        let ns = led?;
        Ok((ns, self.hear()?))
    }
}

impl ThreadPeer<'_> {
    fn parts(&mut self) -> (&mut HandOff, impl FnMut() -> Result<()>) {
        let Self { line, interrupt, thread, outcomes, early, .. } = self;
        (line, move || {
            interrupt.check()?;
            if thread.as_ref().is_none_or(JoinHandle::is_finished) {
                bail!("the following thread ended too early");
            }
            match outcomes.try_recv() {
                Ok(Err(reason)) => bail!("the following thread failed: {reason}"),
                Ok(done) => *early = Some(done),
                Err(_) => {}
            }
            Ok(())
        })
    }
}

impl Drop for ThreadPeer<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.commands.take());
        if let Some(thread) = self.thread.take() {
            // It has said why if it panicked.
            let _ = thread.join();
        }
    }
}

/// The jobs that a follower has prepared for.
#[derive(Default)]
struct Jobs(HashMap<u32, Box<dyn Follow>>);

impl Jobs {
    fn perform(&mut self, command: &Command, desk: &mut Desk<'_>) -> Result<Count> {
        match command {
            Command::Open { id, job } => {
                let (follow, count) = follow(job)?;
                self.0.insert(*id, follow);
                Ok(count)
            }
            Command::Turn { id, count, style } => {
                let job = self.0.get_mut(id).with_context(|| format!("there is no job {id}"))?;
                job.turn(*count, *style, desk)
            }
            Command::Close { id } => {
                self.0.remove(id);
                Ok(Count::default())
            }
        }
    }
}

/// The process: does what it is told until its leader has no more.
///
/// # Errors
///
/// When the leader is gone, or a turn failed.
pub fn run(args: &PeerArgs) -> Result<()> {
    // Every idle reader keeps files open.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let mut jobs = Jobs::default();
    peer::serve(args, |command: Command, desk| {
        desk.ready()?;
        let outcome = jobs.perform(&command, desk);
        if let (Err(error), Command::Turn { .. }) = (&outcome, &command) {
            // The leader may be spinning and see only that this process ended.
            note(format_args!("the following process failed: {error:#}"));
            bail!("{error:#}");
        }
        peer::answer(outcome.map_err(|error| format!("{error:#}")))
    })
}
