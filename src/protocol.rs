//! The protocol of a ring: one writer, any number of readers, over `&[AtomicU64]`.
//!
//! This module holds no `unsafe` and knows neither files nor message types. The same code runs over
//! a mapped segment, over heap memory in unit tests, and over loom's atomics in the models.

mod batch;
pub mod claim;
mod gating;
pub mod publish;
mod reader;
mod reader_table;
pub mod slot;
pub mod wake;
mod writer;

pub use batch::Group;
pub use gating::Blocker;
pub use reader::{CloseReason, OnLag, Reader, Start, TryRecvError};
pub use reader_table::{
    Description, JoinRequest, Joined, Order, Row, checkpoint, describe, evict, is_kept, name_of,
    sync, vacate, waited,
};
pub use writer::{Writer, refresh_limit};

use crate::layout::{Geometry, HEAD, MAX_SEQUENCE, STATE, SUPERSEDED};
use crate::sync::{AtomicU64, Ordering};

/// The reader table of a segment that is mapped as a whole.
#[inline(always)]
pub fn table<'a>(words: &'a [AtomicU64], geometry: &Geometry) -> &'a [AtomicU64] {
    &words[geometry.table_word..geometry.slots_word]
}

/// Number of messages published. The value is bounded, so that a corrupt head cannot make sums of
/// sequences overflow.
///
/// A caller that draws conclusions about slots from the head needs an acquire fence after this
/// load.
pub fn head(words: &[AtomicU64]) -> u64 {
    words[HEAD].load(Ordering::Relaxed).min(MAX_SEQUENCE)
}

/// Marks a ring that has no producer as superseded: its consumers learn that another segment takes
/// its name.
pub fn supersede(words: &[AtomicU64]) {
    words[STATE].store(SUPERSEDED, Ordering::Release);
}

#[cfg(all(test, not(loom)))]
mod tests;
