//! How a blocking call waits: by spinning, by yielding, or asleep until the other side wakes it.
//!
//! | module | holds | `unsafe` |
//! |---|---|---|
//! | `futex` | compare-and-sleep, by the kernel | system calls |
//! | `cancel` | ending the wait of another thread | none |
//! | `waiter` | the phases of a wait | none |
//!
//! The protocol between sleepers and wakers is in [`protocol::wake`](crate::protocol::wake), where
//! loom explores it.

mod cancel;
pub(crate) mod futex;
mod waiter;

pub use cancel::Canceller;
#[cfg(feature = "async")]
pub(crate) use waiter::Settled;
pub(crate) use waiter::{Access, Bell, HELD_UP_CHECK, IDLE_CHECK, LOOKS, Waiter, WakeReason, look};

use std::time::{Duration, Instant};

use crate::protocol::wake::{self, Barrier};
use crate::sync::AtomicU64;

/// How a blocking call waits for the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Poll without ever leaving the processor: the lowest latency, for a thread that has a core of
    /// its own.
    Spin,
    /// Spin for some fifty microseconds, then yield the processor to other threads between two
    /// polls. Uses all processor time that no other thread wants.
    Yield,
    /// Spin for at most seventy microseconds, and for less where spinning has not paid lately. Then
    /// sleep until the other side wakes the thread. An idle thread uses no processor time that
    /// matters, and a wake-up costs the other side a system call.
    #[default]
    Park,
}

/// How long a call may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timeout {
    Zero,
    After(Duration),
    At(Instant),
    Never,
}

impl Timeout {
    /// The timeout as it begins now: with a fixed end.
    pub(crate) fn begun(self) -> Self {
        match self {
            Self::After(_) => self.end().map_or(Self::Never, Self::At),
            begun => begun,
        }
    }

    /// Whether the timeout is over, if it has [begun](Self::begun).
    pub(crate) fn is_over(self) -> bool {
        self.end().is_some_and(|end| Instant::now() >= end)
    }

    /// When the timeout ends, or `None` if never. A timeout beyond the range of the clock never
    /// ends.
    pub(crate) fn end(self) -> Option<Instant> {
        match self {
            Self::Zero => Some(Instant::now()),
            Self::After(timeout) => Instant::now().checked_add(timeout),
            Self::At(deadline) => Some(deadline),
            Self::Never => None,
        }
    }
}

/// Wakes all threads that sleep on `word`. Called after the stores that they wait for.
#[inline(always)]
pub(crate) fn wake_sleepers(word: &AtomicU64, barrier: Barrier) {
    if wake::has_waiters(word, barrier) {
        wake(word);
    }
}

#[cold]
#[inline(never)]
fn wake(word: &AtomicU64) {
    if wake::notify(word) {
        futex::wake_all(word);
    }
}

/// Wakes all threads that sleep on `word`, even if its waiters bit is clear: a waker may have been
/// killed between clearing the bit and waking them.
pub(crate) fn wake_regardless(word: &AtomicU64) {
    // After a fence, so that a thread that has set the bit and does not see what it waits for does
    // not fall asleep either.
    let _ = wake::has_waiters(word, Barrier::Full) && wake::notify(word);
    futex::wake_all(word);
}

#[cfg(test)]
mod tests;
