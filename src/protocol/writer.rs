//! The producer's side of the protocol, in a ring of one producer.

use crate::failpoint::{Step, hit};
use crate::layout::{
    CLOSED, EPOCH, Geometry, HEAD, LINE, MARK_SHARED_UP_TO, OPEN, Place, STATE, Shape, WORD,
};
use crate::protocol::publish::{Blocked, Claim, Publish, Upkeep};
use crate::protocol::slot::{self, is_ready};
use crate::protocol::{Blocker, gating, head, table};
use crate::sync::{AtomicU64, Ordering};
use crate::tuning::demotion::Demotion;

/// The state of a ring's sole producer. After [`Writer::resume`] it reads nothing of the segment
/// except the reader table, about once a lap.
#[derive(Debug)]
pub struct Writer {
    /// The producer refreshes the limit before it writes the message with this sequence.
    limit: u64,
    /// Once `next` reaches this sequence, an early refresh of the limit is due.
    refresh_due: u64,
    /// Decides which messages are demoted.
    demotion: Demotion,
    /// Once `next` reaches this sequence, an early refresh or a demotion is due: not later than
    /// either.
    due: u64,
    /// How many messages before the limit the early refresh is due.
    ahead: u64,
    /// Sequence of the next message.
    next: u64,
    /// The slot of the next message.
    place: Place,
    /// How many messages of a batch are written before they become ready.
    group: usize,
    /// How many slots of a batch are prefetched at once.
    fetched: usize,
}

/// Most bytes of slots in a group: they must stay in the cache until the group is made ready.
const GROUP_BYTES: usize = 64 << 10;
/// Most large messages in a group: consumers copy them out while the producer writes the next
/// group.
const LARGE_GROUP: usize = 16;
/// Most bytes of slots that are prefetched at once: they must still be in the cache when they are
/// written.
const FETCHED_BYTES: usize = 16 << 10;
/// The early refresh of the limit is due when this fraction (1/16) of the ring is left before the
/// limit. That is late enough for a refresh to gain many messages even if the gating consumers lag.
const AHEAD_PART: u64 = 16;
/// A group is at most this fraction (1/4) of the ring, so that consumers have messages to read
/// while the next group is written.
const GROUP_PART: usize = 4;

impl Writer {
    /// Takes over the ring from its last producer, if there was one, and opens it.
    ///
    /// The caller holds the producer's lock, so no other writer is alive. A predecessor that was
    /// killed may have left messages that are ready but not counted in the head, and one slot
    /// (several in a batch) that is marked as being written. The ready messages are kept. The
    /// marked ones are written again under the same sequences; their marks are already in place, so
    /// no consumer can accept what the predecessor left half written.
    pub fn resume(words: &[AtomicU64], geometry: Geometry) -> Self {
        let mut next = head(words);
        // At most one lap can be ready beyond the head. The bound also ends the scan if memory is
        // corrupt.
        let end = next.saturating_add(geometry.slots as u64);
        while next < end && is_ready(Place::of(&geometry, next).slot(words), next) {
            next += 1;
        }
        words[EPOCH].store(words[EPOCH].load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        hit(Step::ResumeEpoch);
        // Release: as in `publish_head`, here for the predecessor's messages.
        words[HEAD].store(next, Ordering::Release);
        hit(Step::ResumeHead);
        // Relaxed: no reader concludes anything from the fact that a ring is open.
        words[STATE].store(OPEN, Ordering::Relaxed);
        hit(Step::ResumeState);
        let is_large = geometry.payload_bytes > MARK_SHARED_UP_TO;
        let fitting = GROUP_BYTES / (geometry.stride * WORD);
        let group = if is_large { fitting.min(LARGE_GROUP) } else { fitting };
        let group = group.min(geometry.slots / GROUP_PART).max(1);
        // No prefetch where several slots share a line, because it costs more than it gains. None
        // for large payloads either: their copies prefetch by themselves.
        let fetched = match geometry.stride {
            ..LINE => 0,
            _ if is_large => 0,
            stride => (FETCHED_BYTES / (stride * WORD)).min(group),
        };
        let ahead = geometry.slots as u64 / AHEAD_PART;
        let demotion = Demotion::of(&geometry, next);
        Self {
            limit: 0,
            refresh_due: u64::MAX,
            due: demotion.due(),
            demotion,
            ahead,
            next,
            place: Place::of(&geometry, next),
            group,
            fetched,
        }
    }

    /// Sequence of the next message.
    #[inline(always)]
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// The slots of the next group of a batch: at most as many as the limit allows, and none beyond
    /// the end of the lap. Empty if the limit allows no message.
    #[inline(always)]
    pub(super) fn group_slots<'a>(&self, words: &'a [AtomicU64]) -> &'a [AtomicU64] {
        let allowed = self.limit.saturating_sub(self.next);
        let most = usize::try_from(allowed).unwrap_or(usize::MAX).min(self.group);
        self.place.next_slots(words, most)
    }

    /// Word index of the slot of the next message.
    #[inline(always)]
    pub(super) fn word(&self) -> usize {
        self.place.word()
    }

    /// Moves on by `messages`, all of which are ready.
    #[inline(always)]
    pub(super) fn skip(&mut self, messages: usize) {
        self.place.skip(messages);
        self.next += messages as u64;
    }

    /// The slots to prefetch for a batch of `messages` more messages: the lines of these slots are
    /// in the consumers' caches.
    #[inline(always)]
    pub fn next_slots<'a>(&self, words: &'a [AtomicU64], messages: usize) -> &'a [AtomicU64] {
        self.place.next_slots(words, messages.min(self.fetched))
    }

    // A single call, so that the compiler has as little as possible to keep for it from one message
    // to the next.
    #[cold]
    #[inline(never)]
    fn do_what_is_due(&mut self, words: &[AtomicU64], payload_bytes: usize) -> Upkeep {
        if self.next >= self.demotion.due() {
            self.demotion.behind(self.next, self.place.previous_slot(words), payload_bytes);
        }
        self.due = self.refresh_due.min(self.demotion.due());
        self.refresh_early()
    }

    /// Sets whether messages are demoted. Even then, only messages for which demotion pays are.
    pub fn demote(&mut self, geometry: &Geometry, demotes: bool) {
        self.demotion =
            if demotes { Demotion::of(geometry, self.next) } else { Demotion::never(geometry) };
        self.due = self.refresh_due.min(self.demotion.due());
    }

    /// Whether an early refresh of the limit is due, so that the next messages need not wait for
    /// one. The caller passes the result to [`Publish::set_early_limit`].
    #[inline(always)]
    pub fn refresh_early(&self) -> Upkeep {
        if self.next >= self.refresh_due { Upkeep::RefreshLimit } else { Upkeep::Nothing }
    }

    /// Whether the limit must be refreshed before the next message.
    #[inline(always)]
    pub fn is_at_limit(&self) -> bool {
        self.next >= self.limit
    }

    /// Publishes the head after all messages written.
    #[inline(always)]
    pub fn publish_head(&self, words: &[AtomicU64]) {
        publish_head(words, self.next);
    }

    /// Closes the ring: no message will follow.
    pub fn close(&mut self, words: &[AtomicU64]) {
        // A batch that a panic cut short has left messages that are not counted yet.
        self.publish_head(words);
        // Release: pairs with the acquire fence in `Reader::ended`. A consumer that sees the ring
        // closed sees every message published before. Without it, the consumer could report the end
        // before the last message.
        words[STATE].store(CLOSED, Ordering::Release);
        hit(Step::CloseState);
    }
}

impl Publish for Writer {
    // Calls and fences come after the loads of this writer's state and before the stores to it, so
    // that the compiler keeps the state in registers from one message to the next.
    #[inline(always)]
    fn begin<'a>(&mut self, words: &'a [AtomicU64], shape: Shape) -> Result<Claim<'a>, Blocked> {
        let sequence = self.next;
        if sequence >= self.limit {
            return Err(Blocked::NoSpace(sequence));
        }
        let slot = self.place.slot(words);
        Ok(Claim { slot, body: slot::begin(slot, shape.mark, sequence), sequence })
    }

    #[inline(always)]
    fn commit(&mut self, words: &[AtomicU64], claim: &Claim<'_>) {
        hit(Step::PublishPayload);
        slot::commit(claim.slot, claim.sequence);
        publish_head(words, claim.sequence + 1);
    }

    /// The next message takes the same slot and sequence.
    #[inline(always)]
    fn abandon(&mut self, _: &[AtomicU64], _: Claim<'_>) -> bool {
        false
    }

    #[inline(always)]
    fn advance(&mut self, claim: Claim<'_>) {
        self.next = claim.sequence + 1;
        self.place.advance();
    }

    /// Notes the result of an early refresh. `None` means that the limit could not be raised
    /// without waiting; then the next refresh happens when a message reaches the limit.
    #[inline(always)]
    fn set_early_limit(&mut self, limit: Option<u64>) {
        match limit {
            Some(limit) => self.set_limit(limit),
            None => self.refresh_due = u64::MAX,
        }
        self.due = self.refresh_due.min(self.demotion.due());
    }

    #[inline(always)]
    fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
        // No early refresh while the slowest consumer is nearly a lap behind: refreshes at the
        // limit then have more messages between them than early ones would have.
        let pays = limit.saturating_sub(self.next) > 2 * self.ahead;
        self.refresh_due = if pays { limit - self.ahead } else { u64::MAX };
        self.due = self.due.min(self.refresh_due);
    }

    #[inline(always)]
    fn upkeep(&mut self, words: &[AtomicU64], shape: Shape, payload_bytes: usize) -> Upkeep {
        if !Demotion::pays(shape) {
            self.refresh_early()
        } else if self.next >= self.due {
            self.do_what_is_due(words, payload_bytes)
        } else {
            Upkeep::Nothing
        }
    }

    fn next(&self, _: &[AtomicU64]) -> u64 {
        self.next
    }
}

#[cfg(all(test, not(loom)))]
impl Writer {
    /// The writer, demoting as on a processor that has the instruction.
    pub fn demoting(self, geometry: &Geometry) -> Self {
        let demotion = Demotion::wherever(geometry, self.next);
        Self { due: demotion.due(), demotion, ..self }
    }

    /// The sequences at which any of the two, the early refresh, and the demotion are due.
    pub fn dues(&self) -> [u64; 3] {
        [self.due, self.refresh_due, self.demotion.due()]
    }
}

/// Refreshes the limit of a producer whose next message is `next`; see [`gating::refresh_limit`].
///
/// # Errors
/// The slowest gating consumer, if it has not read the message that `next` would overwrite.
pub fn refresh_limit(words: &[AtomicU64], geometry: &Geometry, next: u64) -> Result<u64, Blocker> {
    // A consumer that joins starts at the head, and the limit is computed from the next sequence:
    // both must be equal here, also in the middle of a batch. And a successor finds the messages
    // that were not counted by the slot at the head, so a batch must not wrap around to that slot
    // before the head has been published. With several producers the head counts claims, and is
    // ahead of the messages.
    if geometry.producers == 1 {
        publish_head(words, next);
    }
    gating::refresh_limit(table(words, geometry), geometry, next)
}

#[inline(always)]
fn publish_head(words: &[AtomicU64], next: u64) {
    // Release: pairs with the acquire fences after the consumers' loads of the head. A consumer
    // that sees that a message has been counted finds its slot ready. Without it, a consumer that
    // starts at the newest message could find no message there.
    words[HEAD].store(next, Ordering::Release);
    hit(Step::PublishCount);
}
