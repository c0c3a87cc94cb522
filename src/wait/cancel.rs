//! Ending the wait of another thread.

use std::sync::Arc;

use crate::protocol::wake;
use crate::sync::AtomicU64;
use crate::wait::futex;

/// Ends the blocking calls of one consumer, from any thread of the process.
///
/// The waiting thread sleeps on the wake word *and* on the word in this handle, so that a
/// cancellation between its last poll and its sleep is not missed. No word of the segment is
/// written for that: a consumer with read-only access can be cancelled too. On kernels before 5.16
/// a thread sleeps on one word alone, and notices a cancellation within ten milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Canceller {
    word: Arc<AtomicU64>,
}

impl Canceller {
    /// Ends the blocking call that is in progress, and all later ones, at once and with an error.
    /// Calls that do not wait work as before.
    pub fn cancel(&self) {
        wake::cancel(&self.word);
        futex::wake_all(&self.word);
    }

    /// Whether [`Canceller::cancel`] has been called on any clone of this handle.
    pub fn is_cancelled(&self) -> bool {
        wake::is_cancelled(&self.word)
    }

    pub(super) fn word(&self) -> &AtomicU64 {
        &self.word
    }
}
