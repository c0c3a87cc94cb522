//! One thread of this process that sleeps for all tasks which wait for messages, and wakes them.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use crate::layout::BELL;
use crate::protocol::wake::{self, Barrier};
use crate::segment::Segment;
use crate::sync::AtomicU64;
use crate::wait::{IDLE_CHECK, futex, wake_sleepers};

/// What the thread sleeps at most where nobody rings for one of the tasks.
const NAP: Duration = Duration::from_millis(1);
/// What it sleeps where nobody waits.
const IDLE: Duration = Duration::from_secs(3600);

/// A task that waits for the bell of a ring.
pub(crate) struct Interest {
    /// Tells it from others; a new interest takes the place of the last of the same key.
    pub(crate) key: usize,
    /// The page of the ring that the bell is on, mapped apart from the rest: it keeps nothing else
    /// of the ring alive.
    pub(crate) page: Arc<Segment>,
    /// What the bell's word was when the task looked last.
    pub(crate) expected: u32,
    /// Whether the bell rings for certain.
    pub(crate) relies: bool,
    pub(crate) waker: Waker,
}

struct Entry {
    interest: Interest,
    /// When to wake it, bell or not: to see whether the producer lives, or because nobody may
    /// ring.
    until: Instant,
}

impl Entry {
    fn bell(&self) -> &AtomicU64 {
        &self.interest.page.words()[BELL]
    }
}

/// The thread's side that others see.
pub(crate) struct Reactor {
    process: u32,
    /// That of the child, if this process has been forked: threads are not inherited.
    child: OnceLock<&'static Reactor>,
    entries: Mutex<Vec<Entry>>,
    /// By which the thread itself sleeps.
    bell: AtomicU64,
}

static FIRST: OnceLock<&'static Reactor> = OnceLock::new();

impl Reactor {
    /// The one of this process, started when it is first asked for.
    ///
    /// # Panics
    /// If the system has no thread for it.
    pub(crate) fn get() -> &'static Self {
        let process = process::id();
        let mut reactor = FIRST.get_or_init(Self::start);
        while reactor.process != process {
            reactor = reactor.child.get_or_init(Self::start);
        }
        reactor
    }

    fn start() -> &'static Self {
        let reactor: &'static Self = Box::leak(Box::new(Self {
            process: process::id(),
            child: OnceLock::new(),
            entries: Mutex::new(Vec::new()),
            bell: AtomicU64::new(0),
        }));
        let started = thread::Builder::new().name("seqring".into()).spawn(|| reactor.run());
        started.unwrap_or_else(|error| panic!("no thread to wait for messages in: {error}"));
        reactor
    }

    /// Wakes the task once: when its bell rings, or when it is time to look at more than the bell.
    pub(crate) fn register(&self, interest: Interest) {
        let until = Instant::now() + if interest.relies { IDLE_CHECK } else { NAP };
        let mut entries = self.entries();
        entries.retain(|entry| entry.interest.key != interest.key);
        entries.push(Entry { interest, until });
        drop(entries);
        wake_sleepers(&self.bell, Barrier::Full);
    }

    /// Forgets a task, if this process has any.
    pub(crate) fn deregister(key: usize) {
        let process = process::id();
        let mut reactor = FIRST.get();
        while let Some(other) = reactor.filter(|reactor| reactor.process != process) {
            reactor = other.child.get();
        }
        if let Some(reactor) = reactor {
            reactor.entries().retain(|entry| entry.interest.key != key);
        }
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        // A waker that panics leaves the list as it was.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let own = wake::prepare_wait(&self.bell);
            // Behind that: who registers from here on rings.
            let waiting: Vec<_> = self
                .entries()
                .iter()
                .map(|e| (e.interest.page.clone(), e.interest.expected, e.until))
                .collect();
            let now = Instant::now();
            let until = waiting.iter().map(|(.., until)| *until).min().unwrap_or(now + IDLE);
            let bells = waiting.iter().map(|(page, expected, _)| (&page.words()[BELL], *expected));
            let words: Vec<_> = [(&self.bell, own)].into_iter().chain(bells).collect();
            futex::wait_any(&words, until.saturating_duration_since(now), NAP);
            self.wake_up();
        }
    }

    /// Wakes whose bell has rung, and whose time has come.
    fn wake_up(&self) {
        let now = Instant::now();
        let mut entries = self.entries();
        let (due, rest) = mem::take(&mut *entries).into_iter().partition(|entry: &Entry| {
            now >= entry.until || wake::load_key(entry.bell()) != entry.interest.expected
        });
        *entries = rest;
        // Wakers are the runtime's code, and may come back here.
        drop(entries);
        for entry in due {
            // A waker is the runtime's code. If it panics, the others are woken all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| entry.interest.waker.wake()));
        }
    }
}
