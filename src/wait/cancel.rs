//! Ending the wait of another thread.

use std::sync::Arc;

use crate::protocol::wake;
use crate::sync::AtomicU64;
use crate::wait::futex;

/// Ends the blocking calls of one consumer, from any thread of the process.
///
/// The waiting thread sleeps on the bell *and* on the word in here, so that a cancellation between
/// its last look and its sleep is not missed, and nothing in the segment is needed for it: a
/// consumer that may only read can be cancelled too. On kernels before 5.16 a thread sleeps on one
/// word alone, and notices within ten milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Canceller {
    word: Arc<AtomicU64>,
}

impl Canceller {
    /// Ends the blocking call that is under way, and all later ones, at once and with an error.
    /// Calls that do not wait go on as ever.
    pub fn cancel(&self) {
        wake::cancel(&self.word);
        futex::wake_all(&self.word);
    }

    /// Whether [`Canceller::cancel`] has been called, by anybody.
    pub fn is_cancelled(&self) -> bool {
        wake::is_cancelled(&self.word)
    }

    pub(super) fn word(&self) -> &AtomicU64 {
        &self.word
    }
}
