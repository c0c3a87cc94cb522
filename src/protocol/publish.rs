//! What publishing one message takes, whether a ring has one producer or several.

use crate::layout::Shape;
use crate::sync::AtomicU64;

/// Why a message cannot be begun yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// The limit does not allow the message with this sequence: the reader table must be read again
    /// ([`Publish::set_limit`]), and perhaps a consumer waited for.
    NoSpace(u64),
    /// The claimed slot still holds this sequence, which another producer has not finished. Only
    /// among several producers.
    SlotInUse(u64),
}

/// The next message's slot, between [`Publish::begin`] and [`Publish::commit`].
#[derive(Debug)]
pub struct Claim<'a> {
    /// The slot.
    pub slot: &'a [AtomicU64],
    /// The words after its stamp, where the payload goes.
    pub body: &'a [AtomicU64],
    /// The sequence of the message.
    pub sequence: u64,
}

/// What a producer should do after a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upkeep {
    /// Nothing.
    Nothing,
    /// Refresh the limit, without waiting; then [`Publish::set_early_limit`].
    RefreshLimit,
    /// Find out whether this sequence, claimed by another producer, is an orphan.
    ResolveClaim(u64),
}

/// The protocol state of a producer.
pub trait Publish {
    /// Begins the next message: its payload goes into the body of the claim, then follows
    /// [`Publish::commit`] or [`Publish::abandon`]. The caller may know the `shape` of the slots
    /// when it is compiled, and is faster for it.
    ///
    /// # Errors
    /// [`Blocked`]; then it is called again after the obstacle is out of the way.
    fn begin<'a>(&mut self, words: &'a [AtomicU64], shape: Shape) -> Result<Claim<'a>, Blocked>;

    /// Makes the message of the claim ready and counts it. After that, sleeping consumers are
    /// woken, and then comes [`Publish::advance`].
    fn commit(&mut self, words: &[AtomicU64], claim: &Claim<'_>);

    /// Gives up the message of the claim: the old message of its slot is gone. Returns whether its
    /// sequence is used up, so that consumers must go past it.
    fn abandon(&mut self, words: &[AtomicU64], claim: Claim<'_>) -> bool;

    /// Goes on to the message after that of the claim.
    fn advance(&mut self, claim: Claim<'_>);

    /// Notes the result of an early refresh; see [`Upkeep::RefreshLimit`].
    fn set_early_limit(&mut self, limit: Option<u64>);

    /// Notes that messages before `limit` may be written without another look at the reader table.
    fn set_limit(&mut self, limit: u64);

    /// After a message of so many bytes and [`Publish::advance`]: does what is due now and then, and
    /// says what is left to the caller.
    fn upkeep(&mut self, words: &[AtomicU64], shape: Shape, payload_bytes: usize) -> Upkeep;

    /// Sequence of the next message, unless another producer is faster.
    fn next(&self, words: &[AtomicU64]) -> u64;
}
