//! How a blocking call passes the time: spinning, yielding, or asleep until the other side rings.
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
    /// Look again and again, without leaving the processor: the lowest latency, for a core of its
    /// own.
    Spin,
    /// Spin for some fifty microseconds, then offer the processor to other threads between two
    /// looks. Uses as much of it as nobody else wants.
    Yield,
    /// Spin for at most seventy microseconds, and for less where that has not paid lately; then
    /// sleep until the other side wakes us. An idle thread uses no processor time that matters,
    /// and a wake-up costs the other side a system call.
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
    /// From now on: with an end that does not move.
    pub(crate) fn begun(self) -> Self {
        match self {
            Self::After(_) => self.end().map_or(Self::Never, Self::At),
            begun => begun,
        }
    }

    /// Whether it has ended, if it has [begun](Self::begun).
    pub(crate) fn is_over(self) -> bool {
        self.end().is_some_and(|end| Instant::now() >= end)
    }

    /// When it ends, if ever: a timeout beyond the clock's range never does.
    pub(crate) fn end(self) -> Option<Instant> {
        match self {
            Self::Zero => Some(Instant::now()),
            Self::After(timeout) => Instant::now().checked_add(timeout),
            Self::At(deadline) => Some(deadline),
            Self::Never => None,
        }
    }
}

/// Wakes all who sleep by `word`, behind what they wait for.
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

/// Wakes all who sleep by `word`, asked or not: who was to wake them may have been killed between
/// lowering the bit and waking.
pub(crate) fn wake_regardless(word: &AtomicU64) {
    // Behind a fence, so that who raises the bit and does not see what it waits for does not fall
    // asleep, either.
    let _ = wake::has_waiters(word, Barrier::Full) && wake::notify(word);
    futex::wake_all(word);
}

#[cfg(test)]
mod tests;
