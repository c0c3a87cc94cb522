//! How a blocking receive passes the time: spin, then yield, then nap.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_utils::Backoff;

/// Looks at the slot before the first yield: some twenty microseconds, many times a hand-off between two cores.
const SPINS: u32 = 1024;
/// First nap; each is twice the one before.
const SHORTEST_NAP: Duration = Duration::from_micros(20);
/// Longest nap: bounds both the added latency and the rate of wake-ups of an idle consumer.
const LONGEST_NAP: Duration = Duration::from_millis(1);
/// How often a waiting consumer asks the kernel whether the producer is alive.
const LIVENESS_PERIOD: Duration = Duration::from_millis(10);

/// What a wait ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// There is something to receive.
    Ready,
    /// It is time to look whether there is anything to wait for.
    Check,
    /// The deadline has passed.
    Timeout,
}

/// One blocking receive's patience, from its first look to its last.
#[derive(Debug)]
pub(crate) struct Wait {
    deadline: Option<Instant>,
    backoff: Backoff,
    nap: Duration,
    checked: Instant,
}

impl Wait {
    pub(crate) fn new(deadline: Option<Instant>) -> Self {
        Self { deadline, backoff: Backoff::new(), nap: SHORTEST_NAP, checked: Instant::now() }
    }

    /// Waits while `must_wait` says so, but not beyond the deadline or the next look at the producer's life.
    pub(crate) fn until(&mut self, mut must_wait: impl FnMut() -> bool) -> Woken {
        loop {
            if !must_wait() {
                return Woken::Ready;
            }
            let now = Instant::now();
            if self.deadline.is_some_and(|deadline| now >= deadline) {
                return Woken::Timeout;
            }
            if now - self.checked >= LIVENESS_PERIOD {
                self.checked = now;
                return Woken::Check;
            }
            if !self.backoff.is_completed() {
                self.backoff.snooze();
            } else {
                let left = self.deadline.map_or(self.nap, |deadline| deadline - now);
                thread::sleep(self.nap.min(left));
                self.nap = (self.nap * 2).min(LONGEST_NAP);
            }
        }
    }
}

/// Spins while `must_wait` says so, for a short while; returns whether it still does.
#[inline(always)]
pub(crate) fn spin(mut must_wait: impl FnMut() -> bool) -> bool {
    for _ in 0..SPINS {
        if !must_wait() {
            return false;
        }
        std::hint::spin_loop();
    }
    true
}
