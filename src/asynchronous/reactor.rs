//! One thread of this process, which waits on behalf of all tasks that wait for messages, and wakes
//! them.

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

/// Longest sleep of the thread while a task waits for which no notification is certain.
const NAP: Duration = Duration::from_millis(1);
/// Longest sleep of the thread while no task waits.
const IDLE: Duration = Duration::from_secs(3600);

/// A task that waits on the wake word of a ring.
pub(crate) struct Interest {
    /// Identifies the task's consumer: a new interest replaces the previous one of the same key.
    pub(crate) key: usize,
    /// A separate mapping of the page that contains the wake word. It keeps no other part of the
    /// ring alive.
    pub(crate) page: Arc<Segment>,
    /// Value of the wake word when the task last checked for news.
    pub(crate) expected: u32,
    /// Whether a notification is certain.
    pub(crate) relies: bool,
    pub(crate) waker: Waker,
}

struct Entry {
    interest: Interest,
    /// When to wake the task in any case: to check whether the producer is alive, or because a
    /// notification is not certain.
    until: Instant,
}

impl Entry {
    fn bell(&self) -> &AtomicU64 {
        &self.interest.page.words()[BELL]
    }
}

/// The handle of the thread, for tasks.
pub(crate) struct Reactor {
    process: u32,
    /// The reactor of a forked child of this process: threads are not inherited.
    child: OnceLock<&'static Reactor>,
    entries: Mutex<Vec<Entry>>,
    /// The wake word on which the thread itself sleeps.
    bell: AtomicU64,
}

static FIRST: OnceLock<&'static Reactor> = OnceLock::new();

impl Reactor {
    /// The reactor of this process; the first call starts its thread.
    ///
    /// # Panics
    /// If the system cannot start a thread.
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

    /// Wakes the task once: when its wake word changes, or when it is time to check more than that
    /// word.
    pub(crate) fn register(&self, interest: Interest) {
        let until = Instant::now() + if interest.relies { IDLE_CHECK } else { NAP };
        let mut entries = self.entries();
        entries.retain(|entry| entry.interest.key != interest.key);
        entries.push(Entry { interest, until });
        drop(entries);
        wake_sleepers(&self.bell, Barrier::Full);
    }

    /// Forgets a task, if this process has a reactor.
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
            // The list is read after the wait is prepared: a task that registers from here on
            // notifies the thread.
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

    /// Wakes the tasks whose wake word has changed or whose time has come.
    fn wake_up(&self) {
        let now = Instant::now();
        let mut entries = self.entries();
        let (due, rest) = mem::take(&mut *entries).into_iter().partition(|entry: &Entry| {
            now >= entry.until || wake::load_key(entry.bell()) != entry.interest.expected
        });
        *entries = rest;
        // Wakers are code of the runtime and may call this module again.
        drop(entries);
        for entry in due {
            // A waker is code of the runtime. If it panics, the other tasks are woken all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| entry.interest.waker.wake()));
        }
    }
}
