//! The steps of publishing one message, the same for rings of one and of several producers.

use crate::layout::Shape;
use crate::sync::AtomicU64;

/// Why the next message cannot be begun yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// The limit does not allow the message with this sequence. The producer must refresh the limit
    /// ([`Publish::set_limit`]), and perhaps wait for a gating consumer.
    NoSpace(u64),
    /// The claimed slot still holds the message with this sequence, which another producer has not
    /// finished. Only in rings of several producers.
    SlotInUse(u64),
}

/// The slot of the next message, between [`Publish::begin`] and [`Publish::commit`].
#[derive(Debug)]
pub struct Claim<'a> {
    /// The slot.
    pub slot: &'a [AtomicU64],
    /// The words after the stamp of the slot, where the payload goes.
    pub body: &'a [AtomicU64],
    /// The sequence of the message.
    pub sequence: u64,
}

/// What a producer should do after a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upkeep {
    /// Nothing.
    Nothing,
    /// Refresh the limit without waiting, then call [`Publish::set_early_limit`].
    RefreshLimit,
    /// Find out whether this sequence, which another producer claimed, is an orphan.
    ResolveClaim(u64),
}

/// The protocol state of a producer.
pub trait Publish {
    /// Begins the next message. The caller writes the payload into the body of the claim, then
    /// calls [`Publish::commit`] or [`Publish::abandon`]. A caller that passes a `shape` known at
    /// compile time gets faster code.
    ///
    /// # Errors
    /// [`Blocked`]. The caller removes the obstacle and calls `begin` again.
    fn begin<'a>(&mut self, words: &'a [AtomicU64], shape: Shape) -> Result<Claim<'a>, Blocked>;

    /// Makes the message of the claim ready and counts it. After that the caller wakes sleeping
    /// consumers and calls [`Publish::advance`].
    fn commit(&mut self, words: &[AtomicU64], claim: &Claim<'_>);

    /// Gives up the message of the claim; the old message of its slot is lost. Returns whether the
    /// sequence is used up, so that consumers must skip it.
    fn abandon(&mut self, words: &[AtomicU64], claim: Claim<'_>) -> bool;

    /// Moves on to the message after that of the claim.
    fn advance(&mut self, claim: Claim<'_>);

    /// Notes the result of an early refresh; see [`Upkeep::RefreshLimit`].
    fn set_early_limit(&mut self, limit: Option<u64>);

    /// Notes that all messages before `limit` may be written before the next refresh.
    fn set_limit(&mut self, limit: u64);

    /// Called after [`Publish::advance`], with the payload size of the message just published. Does
    /// the occasional work that is due, and returns the work that is left to the caller.
    fn upkeep(&mut self, words: &[AtomicU64], shape: Shape, payload_bytes: usize) -> Upkeep;

    /// Sequence of the next message. Where there are several producers, another one may claim it
    /// first.
    fn next(&self, words: &[AtomicU64]) -> u64;
}
