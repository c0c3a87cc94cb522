//! The producer's side of the protocol.

use crate::failpoint::{Step, hit};
use crate::layout::{
    CLOSED, EPOCH, Geometry, HEAD, LINE, MARK_SHARED_UP_TO, OPEN, Place, STATE, Shape, WORD,
};
use crate::protocol::publish::{Blocked, Claim, Publish, Upkeep};
use crate::protocol::slot::{self, is_ready};
use crate::protocol::{Blocker, gating, head, table};
use crate::sync::{AtomicU64, Ordering};
use crate::tuning::demotion::Demotion;

/// The state of the one producer of a ring. After [`Writer::resume`] it reads nothing of the
/// segment but the reader table, about once a lap.
#[derive(Debug)]
pub struct Writer {
    /// Nothing at or beyond it is written before the next look at the reader table.
    limit: u64,
    /// Behind the message before it is a good time for that look.
    refresh_due: u64,
    /// When messages are demoted.
    demotion: Demotion,
    /// Behind the message before it something is due: no later than either.
    due: u64,
    /// So many messages before the limit, if that leaves any.
    ahead: u64,
    /// Sequence of the next message.
    next: u64,
    /// Where its slot is.
    place: Place,
    /// How many messages of a batch are written before they become ready.
    group: usize,
    /// How many slots are worth fetching at once for a batch.
    fetched: usize,
}

/// Bytes of the slots of a group, at most: they stay in the cache until they are made ready.
const GROUP_BYTES: usize = 64 << 10;
/// Large messages of a group, at most: the consumers copy them out while the next group is written.
const LARGE_GROUP: usize = 16;
/// So many bytes of slots are worth fetching at once: they are still there when they are written.
const FETCHED_BYTES: usize = 16 << 10;
/// The look at the reader table is due when this part of a ring is left before the limit: so who
/// gates need not stand right behind the producer for the look to come to more.
const AHEAD_PART: u64 = 16;
/// A group is at most this part of the ring, so that consumers have something to read meanwhile.
const GROUP_PART: usize = 4;

impl Writer {
    /// Takes the ring over from its last producer, if there was one, and opens it.
    ///
    /// The caller holds the producer's lock: no other writer is alive. A predecessor that was
    /// killed may have left messages that are ready but not counted in the head, and one slot
    /// (of a batch: several) marked as being written. The former are kept; the latter is
    /// written anew under the same sequence, and its mark is already there, so no consumer can
    /// accept what the dead one left half done.
    pub fn resume(words: &[AtomicU64], geometry: Geometry) -> Self {
        let mut next = head(words);
        // At most one lap can be ready beyond the head; the bound also ends the scan of corrupt
        // memory.
        let end = next.saturating_add(geometry.slots as u64);
        while next < end && is_ready(Place::of(&geometry, next).slot(words), next) {
            next += 1;
        }
        words[EPOCH].store(words[EPOCH].load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        hit(Step::ResumeEpoch);
        // Release: as in `count`, here for the messages of the predecessor.
        words[HEAD].store(next, Ordering::Release);
        hit(Step::ResumeHead);
        // Relaxed: nobody concludes anything from an open ring.
        words[STATE].store(OPEN, Ordering::Relaxed);
        hit(Step::ResumeState);
        let is_large = geometry.payload_bytes > MARK_SHARED_UP_TO;
        let fitting = GROUP_BYTES / (geometry.stride * WORD);
        let group = if is_large { fitting.min(LARGE_GROUP) } else { fitting };
        let group = group.min(geometry.slots / GROUP_PART).max(1);
        // Not where several slots share a line, which costs more than it gains; and the copies of
        // large payloads fetch for themselves.
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

    /// The slots of the next group of a batch: at most as many as the limit allows, none if it
    /// allows none. The group is at most the rest of the lap.
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

    /// Goes on by `messages`, which are ready.
    #[inline(always)]
    pub(super) fn skip(&mut self, messages: usize) {
        self.place.skip(messages);
        self.next += messages as u64;
    }

    /// The slots of the next messages of a batch of so many that are worth fetching all at once:
    /// the consumers have their lines.
    #[inline(always)]
    pub fn next_slots<'a>(&self, words: &'a [AtomicU64], messages: usize) -> &'a [AtomicU64] {
        self.place.next_slots(words, messages.min(self.fetched))
    }

    // One call, so that the compiler has as little as possible to keep for it from one message to
    // the next.
    #[cold]
    #[inline(never)]
    fn do_what_is_due(&mut self, words: &[AtomicU64], payload_bytes: usize) -> Upkeep {
        if self.next >= self.demotion.due() {
            self.demotion.behind(self.next, self.place.previous_slot(words), payload_bytes);
        }
        self.due = self.refresh_due.min(self.demotion.due());
        self.refresh_early()
    }

    /// Says whether messages are to be demoted, where that pays.
    pub fn demote(&mut self, geometry: &Geometry, demotes: bool) {
        self.demotion =
            if demotes { Demotion::of(geometry, self.next) } else { Demotion::never(geometry) };
        self.due = self.refresh_due.min(self.demotion.due());
    }

    /// After messages: whether it is a good time to refresh the limit, so that the next ones need
    /// not wait for that. The result goes to [`Publish::set_early_limit`].
    #[inline(always)]
    pub fn refresh_early(&self) -> Upkeep {
        if self.next >= self.refresh_due { Upkeep::RefreshLimit } else { Upkeep::Nothing }
    }

    /// Whether the limit must be refreshed before the next message.
    #[inline(always)]
    pub fn is_at_limit(&self) -> bool {
        self.next >= self.limit
    }

    /// Moves the head behind all messages written.
    #[inline(always)]
    pub fn publish_head(&self, words: &[AtomicU64]) {
        publish_head(words, self.next);
    }

    /// Says that no message will follow.
    pub fn close(&mut self, words: &[AtomicU64]) {
        // A batch that a panic cut short has left messages uncounted.
        self.publish_head(words);
        // Release: pairs with the acquire fence in `Reader::ended`. A consumer that sees the ring
        // closed sees every message that was published before; without it, it could report
        // the end before the last message.
        words[STATE].store(CLOSED, Ordering::Release);
        hit(Step::CloseState);
    }
}

impl Publish for Writer {
    // Calls and fences come after the loads of our own state and before its stores, so that the
    // compiler keeps that state in registers from one message to the next.
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

    /// Notes the result of an early refresh: a new limit, or that there is none without waiting.
    /// Then the refresh is left to the message that stands at the limit.
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
        // Not while the slowest consumer is nearly a lap behind: then more messages lie between two
        // refreshes than an early one would allow.
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
    /// Demotes as on a processor that has the hint.
    pub fn demoting(self, geometry: &Geometry) -> Self {
        let demotion = Demotion::wherever(geometry, self.next);
        Self { due: demotion.due(), demotion, ..self }
    }

    /// When something is due, at the earliest; when the look is, and when the demotion.
    pub fn dues(&self) -> [u64; 3] {
        [self.due, self.refresh_due, self.demotion.due()]
    }
}

/// Looks at the reader table for a producer whose next message is `next`; see
/// [`gating::refresh_limit`].
///
/// # Errors
/// The slowest gating consumer, if that has not read the message whose slot is the next to be used.
pub fn refresh_limit(words: &[AtomicU64], geometry: &Geometry, next: u64) -> Result<u64, Blocker> {
    // A consumer that joins goes by the head, and the gate by the next sequence: they must be the
    // same here, also in the middle of a batch. And a successor finds the messages that were
    // not counted by the slot at the head: no batch may come round to it before this.
    // Among several producers the head is what they claim by, and moves ahead of the messages.
    if geometry.producers == 1 {
        publish_head(words, next);
    }
    gating::refresh_limit(table(words, geometry), geometry, next)
}

#[inline(always)]
fn publish_head(words: &[AtomicU64], next: u64) {
    // Release: pairs with the acquire fences behind the consumers' loads of the head. Who sees that
    // a message has been counted finds its slot ready; without it, a consumer that starts at
    // the newest message could find nothing there.
    words[HEAD].store(next, Ordering::Release);
    hit(Step::PublishCount);
}
