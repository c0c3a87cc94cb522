//! How a blocking call passes the time: spinning, yielding, or asleep until the other side rings.
//!
//! | module | holds | `unsafe` |
//! |---|---|---|
//! | `futex` | compare-and-sleep, by the kernel | system calls |
//! | `cancel` | ending the wait of another thread | none |
//! | `waiter` | the phases of a wait | none |
//!
//! The protocol between sleepers and wakers is in [`ring::bell`](crate::ring::bell), where loom explores it.

mod cancel;
pub(crate) mod futex;
mod waiter;

pub use cancel::Canceller;
#[cfg(feature = "async")]
pub(crate) use waiter::Settled;
pub(crate) use waiter::{Access, Bell, HELD_UP_CHECK, IDLE_CHECK, LOOKS, Roused, Waiter, look};

use std::time::{Duration, Instant};

use crate::ring::bell::{self, Barrier};
use crate::sync::AtomicU64;

/// How a blocking call waits for the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Look again and again, without leaving the processor: the lowest latency, for a core of its own.
    Spin,
    /// Spin for some fifty microseconds, then offer the processor to other threads between two looks. Uses as much of it as nobody else wants.
    Yield,
    /// Spin for at most seventy microseconds, and for less where that has not paid lately; then sleep until the other side wakes us. An
    /// idle thread uses no processor time that matters, and a wake-up costs the other side a system call.
    #[default]
    Park,
}

/// How long a call may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    None,
    For(Duration),
    Until(Instant),
    Endless,
}

impl Patience {
    /// From now on: with an end that does not move.
    pub(crate) fn begun(self) -> Self {
        match self {
            Self::For(_) => self.end().map_or(Self::Endless, Self::Until),
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
            Self::None => Some(Instant::now()),
            Self::For(timeout) => Instant::now().checked_add(timeout),
            Self::Until(deadline) => Some(deadline),
            Self::Endless => None,
        }
    }
}

/// Wakes all who sleep by `word`, behind what they wait for.
#[inline(always)]
pub(crate) fn wake_sleepers(word: &AtomicU64, barrier: Barrier) {
    if bell::is_raised(word, barrier) {
        wake(word);
    }
}

#[cold]
#[inline(never)]
fn wake(word: &AtomicU64) {
    if bell::ring(word) {
        futex::wake_all(word);
    }
}

/// Wakes all who sleep by `word`, asked or not: who was to wake them may have been killed between lowering the bit and waking.
pub(crate) fn wake_regardless(word: &AtomicU64) {
    // Behind a fence, so that who raises the bit and does not see what it waits for does not fall asleep, either.
    let _ = bell::is_raised(word, Barrier::Full) && bell::ring(word);
    futex::wake_all(word);
}

#[cfg(test)]
mod tests;
