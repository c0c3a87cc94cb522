//! The producer's side of the protocol.

use crate::failpoint::{Step, hit, is_dying};
use crate::layout::{
    CLOSED, EPOCH, Geometry, HEAD, LINE, MARK_SHARED_UP_TO, OPEN, Place, STATE, Shape, WORD,
};
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
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Publishes one message, written by `fill`, and returns its sequence. Before that, `room` is
    /// asked with the sequence for what a [`look`] at the reader table allows, if no look so
    /// far has allowed it, the last of them less than a lap ago; behind it, `wake` is called. The
    /// `mark` is that word of each slot: the caller may know it when it is compiled.
    ///
    /// # Errors
    /// Those of `room`; and those of `fill`: nothing is published then, and the oldest message of
    /// the ring is gone.
    #[inline(always)]
    pub fn publish<E>(
        &mut self,
        words: &[AtomicU64],
        mark: usize,
        room: impl FnOnce(u64) -> Result<u64, E>,
        fill: impl FnOnce(&[AtomicU64]) -> Result<(), E>,
        wake: impl FnOnce(),
    ) -> Result<u64, E> {
        // Rare calls and fences come behind the reading of our own state and ahead of its writing,
        // so that the compiler keeps it in registers from one message to the next.
        let sequence = self.next;
        let slot = self.place.slot(words);
        if sequence >= self.limit {
            let limit = room(sequence)?;
            self.set_limit(limit);
        }
        slot::write(slot, mark, sequence, fill)?;
        let following = self.place.following();
        publish_head(words, sequence + 1);
        wake();
        self.next = sequence + 1;
        self.place.go_to(following);
        Ok(sequence)
    }

    /// Writes some of the `messages` of a batch, of which there is one at least: as many as there
    /// is room for in this lap. The head does not move until [`Writer::publish_head`], or the
    /// next look at the reader table.
    ///
    /// It writes no more than a group, and makes them ready when all of that are written, or all
    /// that share a line: so the consumers, who read what is ready, do not take each line from
    /// under the producer's hands.
    ///
    /// The caller may know the `shape` of the slots when it is compiled, and is faster for it.
    ///
    /// # Errors
    /// Those of `room`; and those of `fill`, behind which nothing more is written.
    #[inline(always)]
    pub fn write_group<T, E>(
        &mut self,
        words: &[AtomicU64],
        shape: Shape,
        room: impl FnOnce(u64) -> Result<u64, E>,
        messages: &mut impl Iterator<Item = T>,
        fill: impl Fn(&[AtomicU64], T) -> Result<(), E>,
    ) -> Result<(), E> {
        let first = self.next;
        if first >= self.limit {
            let limit = room(first)?;
            self.set_limit(limit);
        }
        let most = usize::try_from(self.limit - first).unwrap_or(usize::MAX).min(self.group);
        let mut rest = self.place.next_slots(words, most);
        let at = self.place.word();
        let mut group = Group { writer: self, slots: rest, shape, ready: first, next: first };
        // To the end of the line, which may have been begun.
        let mut together = match shape.stride {
            // Said for the compiler, which then knows that they are one at a time.
            LINE => LINE,
            stride if LINE % stride == 0 => LINE - at % LINE,
            _ => rest.len(),
        };
        while !rest.is_empty() {
            let slots;
            (slots, rest) = rest.split_at(together.min(rest.len()));
            if !group.write(slots, messages, &fill)? {
                break;
            }
            together = LINE;
        }
        Ok(())
    }

    /// The slots of the next messages of a batch of so many that are worth fetching all at once:
    /// the consumers have their lines.
    #[inline(always)]
    pub fn next_slots<'a>(&self, words: &'a [AtomicU64], messages: usize) -> &'a [AtomicU64] {
        self.place.next_slots(words, messages.min(self.fetched))
    }

    /// Behind a message of so many bytes that is on its way, does what is due now and then:
    /// [`Writer::refresh_early`], and [demoting](Demotion) it.
    ///
    /// The caller may know the `shape` of the slots when it is compiled, and is faster for it.
    #[inline(always)]
    pub fn after_publish(
        &mut self,
        words: &[AtomicU64],
        shape: Shape,
        payload_bytes: usize,
        look: impl FnOnce(u64) -> Option<u64>,
    ) {
        if !Demotion::pays(shape) {
            self.refresh_early(look);
        } else if self.next >= self.due {
            self.do_what_is_due(words, payload_bytes, look);
        }
    }

    // One call, so that the compiler has as little as possible to keep for it from one message to
    // the next.
    #[cold]
    #[inline(never)]
    fn do_what_is_due(
        &mut self,
        words: &[AtomicU64],
        payload_bytes: usize,
        look: impl FnOnce(u64) -> Option<u64>,
    ) {
        if self.next >= self.demotion.due() {
            self.demotion.behind(self.next, self.place.previous_slot(words), payload_bytes);
        }
        self.refresh_early(look);
        self.due = self.refresh_due.min(self.demotion.due());
    }

    /// Says whether messages are to be demoted, where that pays.
    pub fn demote(&mut self, geometry: &Geometry, demotes: bool) {
        self.demotion =
            if demotes { Demotion::of(geometry, self.next) } else { Demotion::never(geometry) };
        self.due = self.refresh_due.min(self.demotion.due());
    }

    /// Behind messages that are on their way, looks at the reader table ahead of time, if that is
    /// due: the next ones need not wait for it. `look` does [what it is called](look) with the
    /// sequence of the next message, and does not wait; if it comes to nothing, the matter is left
    /// to the limit.
    #[inline(always)]
    pub fn refresh_early(&mut self, look: impl FnOnce(u64) -> Option<u64>) {
        if self.next >= self.refresh_due {
            match look(self.next) {
                Some(limit) => self.set_limit(limit),
                None => self.refresh_due = u64::MAX,
            }
        }
    }

    /// Notes a new limit.
    #[inline(always)]
    fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
        // Not while the slowest consumer is nearly a lap behind: from look to look there are more
        // messages than that.
        let pays = limit.saturating_sub(self.next) > 2 * self.ahead;
        self.refresh_due = if pays { limit - self.ahead } else { u64::MAX };
        self.due = self.due.min(self.refresh_due);
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

/// A group of messages that is being written, from the writer's next to before `next`.
struct Group<'a> {
    writer: &'a mut Writer,
    /// The slots from that of the writer's next on.
    slots: &'a [AtomicU64],
    shape: Shape,
    /// Messages before it are ready.
    ready: u64,
    /// Messages before it are written.
    next: u64,
}

impl Group<'_> {
    /// Writes messages into the next `slots`, and makes those ready when the last is written.
    /// Returns whether there were enough.
    ///
    /// # Errors
    /// Those of `fill`.
    #[inline(always)]
    fn write<T, E>(
        &mut self,
        slots: &[AtomicU64],
        messages: &mut impl Iterator<Item = T>,
        fill: &impl Fn(&[AtomicU64], T) -> Result<(), E>,
    ) -> Result<bool, E> {
        for slot in slots.chunks_exact(self.shape.stride) {
            let Some(message) = messages.next() else { return Ok(false) };
            slot::prepare(slot, self.shape.mark, self.next, |body| fill(body, message))?;
            self.next += 1;
        }
        self.complete(slots);
        Ok(true)
    }

    /// Makes all that is in these slots ready, of which the first is that of `ready`.
    #[inline(always)]
    fn complete(&mut self, slots: &[AtomicU64]) {
        for slot in slots.chunks_exact(self.shape.stride) {
            slot::complete(slot, self.ready);
            self.ready += 1;
        }
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

impl Drop for Group<'_> {
    /// Makes what was written ready, also if the next message could not be had.
    #[inline(always)]
    fn drop(&mut self) {
        if is_dying() {
            return;
        }
        let place = |sequence| (sequence - self.writer.next) as usize;
        let (ready, written) = (place(self.ready), place(self.next));
        self.complete(&self.slots[ready * self.shape.stride..written * self.shape.stride]);
        self.writer.place.skip(written);
        self.writer.next = self.next;
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
