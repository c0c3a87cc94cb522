//! The protocol of a ring: one writer, any number of readers, over `&[AtomicU64]`.
//!
//! This room holds no `unsafe` and knows neither files nor types; the same code runs over a mapped
//! segment, over heap memory in unit tests, and over loom's atomics in the models.

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

/// The reader table, where all of the segment is mapped alike.
#[inline(always)]
pub fn table<'a>(words: &'a [AtomicU64], geometry: &Geometry) -> &'a [AtomicU64] {
    &words[geometry.table_word..geometry.slots_word]
}

/// Number of messages published, bounded: a corrupt head must not make sums of sequences overflow.
///
/// Whoever draws conclusions about slots from it needs an acquire fence behind it.
pub fn head(words: &[AtomicU64]) -> u64 {
    words[HEAD].load(Ordering::Relaxed).min(MAX_SEQUENCE)
}

/// Tells the consumers of a ring that has no producer that another segment takes its name.
pub fn supersede(words: &[AtomicU64]) {
    words[STATE].store(SUPERSEDED, Ordering::Release);
}

#[cfg(all(test, not(loom)))]
mod tests;
