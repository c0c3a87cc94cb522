//! The consumer's side of the protocol: loads only.

use crate::layout::{
    CLOSED, Geometry, MAX_PRODUCERS, MAX_SEQUENCE, Place, STATE, SUPERSEDED, Shape, ready,
};
use crate::protocol::slot::{self, Miss, is_pending};
use crate::protocol::{claim, head};
use crate::sync::{AtomicU64, Ordering, fence};
use crate::tuning::cpu::{CpuProfile, wait_for_loads};
use crate::tuning::load_order::LoadOrder;
use crate::tuning::prefetch::Prefetch;

/// Where a consumer starts, or goes on after [`Consumer::seek`](crate::Consumer::seek).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// The next message to be published.
    #[default]
    Next,
    /// The message published last, if there is one. Among several producers it may still be on its
    /// way, or never come.
    Newest,
    /// The oldest message still in the ring. If the producer is busy, it may be overwritten before
    /// it is read; that is reported like any other loss.
    Oldest,
    /// The message with this sequence. If it has been overwritten, the first receive reports the
    /// loss; if it has not been published, the consumer waits for it and ignores what comes
    /// before.
    Sequence(u64),
}

/// What a consumer does when the producer has overwritten its next message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLag {
    /// Go on at the oldest message, plus an eighth of the ring or four slots (but less than half of
    /// it), so as not to be lapped again at once.
    #[default]
    Oldest,
    /// Go on at the newest message.
    Newest,
    /// Stay, and report the loss on every call until [`Consumer::seek`](crate::Consumer::seek).
    Stay,
}

/// Why [`Consumer::try_recv`](crate::Consumer::try_recv) has no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryRecvError {
    /// Nothing new.
    Empty,
    /// The consumer was too slow: exactly this many messages are lost to it. The next call goes on
    /// behind them.
    Lagged(u64),
    /// No message will come, for this reason; everything published before has been received.
    Closed(CloseReason),
}

/// Why a ring yields no more messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The producer closed it.
    Closed,
    /// The producer ended without closing it: its kernel lock is free. If another producer takes
    /// the ring over, receiving goes on.
    ProducerDied,
    /// Another ring has taken the name; open it again.
    Superseded,
    /// The producer gave up on this registered consumer, because it was too slow for too long.
    Evicted,
}

/// The state of one consumer.
#[derive(Debug)]
pub struct Reader {
    geometry: Geometry,
    on_lag: OnLag,
    /// Sequence of the next message.
    cursor: u64,
    /// Where its slot is.
    place: Place,
    /// Where the cursor would be without the messages received: they are counted by the distance,
    /// which spares each of them a counter. Wraps around when a consumer seeks backwards.
    unreceived: u64,
    lost: u64,
    skipped: u64,
    tombstones: u64,
    /// The producer overwrites nothing from here on that this reader has not read.
    protected: u64,
    profile: CpuProfile,
    prefetch: Prefetch,
}

/// A message that is being copied, between [`Reader::begin`] and [`Reader::validate`].
#[derive(Debug)]
pub struct Reading<'a> {
    slot: &'a [AtomicU64],
    /// The words after the stamp.
    pub body: &'a [AtomicU64],
    /// What the place of the next slot is moved by; see [`LoadOrder`].
    zero: usize,
}

impl Reader {
    /// A reader that starts at `start`.
    pub fn new(words: &[AtomicU64], geometry: Geometry, start: Start, on_lag: OnLag) -> Self {
        Self::with_profile(words, geometry, start, on_lag, CpuProfile::detect())
    }

    /// The same, whatever the processor.
    pub(super) fn with_profile(
        words: &[AtomicU64],
        geometry: Geometry,
        start: Start,
        on_lag: OnLag,
        profile: CpuProfile,
    ) -> Self {
        let mut reader = Self {
            geometry,
            on_lag,
            cursor: 0,
            place: Place::of(&geometry, 0),
            unreceived: 0,
            lost: 0,
            skipped: 0,
            tombstones: 0,
            protected: u64::MAX,
            profile,
            prefetch: match profile {
                CpuProfile::Prefetch => Prefetch::of(&geometry),
                _ => Prefetch::never(),
            },
        };
        reader.seek(words, start);
        reader
    }

    /// Notes that the producer overwrites nothing from `sequence` on that this reader has not read.
    pub fn protect(&mut self, sequence: u64) {
        self.protected = sequence;
    }

    /// Goes to `start`. Counts nothing as lost or skipped.
    pub fn seek(&mut self, words: &[AtomicU64], start: Start) {
        let head = self.synced_head(words);
        if self.protected < u64::MAX {
            // Whoever waited for us has overwritten nothing from the cursor on, either, and will
            // not by what it was allowed so far. A cursor ahead of the head has kept
            // nobody waiting.
            self.protected = self.protected.max(self.cursor.min(head));
        }
        self.go_to(match start {
            Start::Next => head,
            Start::Newest => head.saturating_sub(1),
            Start::Oldest => head.saturating_sub(self.geometry.slots as u64),
            Start::Sequence(sequence) => sequence,
        });
    }

    /// Begins to receive the next message, and returns where to copy it from. The copy counts only
    /// after [`Reader::validate`]. Skips tombstones.
    ///
    /// The caller may know the `shape` of the slots when it is compiled, and is faster for it.
    ///
    /// # Errors
    /// [`Miss::NotYet`] or [`Miss::Lapped`]; [`Reader::resolve`] says what follows from it.
    #[inline(always)]
    pub fn begin<'a>(&mut self, words: &'a [AtomicU64], shape: Shape) -> Result<Reading<'a>, Miss> {
        self.prefetch.refresh(words, &self.geometry, self.cursor);
        let order = LoadOrder::of(self.profile, shape);
        loop {
            let slot = self.place.slot(words);
            let stamp = slot::load_stamp(slot);
            let zero = order.zero(stamp, ready(self.cursor));
            match slot::begin_read(slot, stamp, self.cursor) {
                Ok(body) => {
                    return Ok(Reading { slot, body: &body[order.of_payload(zero)..], zero });
                }
                Err(Miss::Tombstone) => self.skip_tombstone(),
                Err(miss) => return Err(miss),
            }
        }
    }

    /// Ends to receive a message: all that was copied since [`Reader::begin`] belongs to it, and it
    /// counts as received.
    ///
    /// # Errors
    /// [`Miss::Lapped`], if it was overwritten meanwhile.
    #[inline(always)]
    pub fn validate(&mut self, reading: Reading<'_>, shape: Shape) -> Result<(), Miss> {
        slot::validate(reading.slot, shape.mark, self.cursor)?;
        self.prefetch.hint(reading.slot, shape);
        self.place.move_by(reading.zero);
        self.advance();
        Ok(())
    }

    /// Why there is no message; moves on after a loss. [`CloseReason::ProducerDied`] is not among
    /// the answers, as it takes more than loads to see it.
    // The error is made here, and not by a function that stands out of the way: that would return
    // it through memory, by a byte that is loaded by words, and a poll would wait for it.
    #[inline(always)]
    pub fn resolve(&mut self, words: &[AtomicU64], shape: Shape, miss: Miss) -> TryRecvError {
        match miss {
            Miss::NotYet | Miss::Tombstone => self.not_yet(words, shape),
            Miss::Lapped => TryRecvError::Lagged(self.lapped(words)),
        }
    }

    /// Goes over a sequence that was claimed by a producer which died, and will never be a message.
    // Inlined, though it is rare: behind a call the compiler would keep the cursor in memory, for
    // all messages.
    #[inline(always)]
    pub fn skip_tombstone(&mut self) {
        self.tombstones += 1;
        self.unreceived = self.unreceived.wrapping_add(1);
        self.advance();
    }

    /// Whether the next sequence is such a one, though nobody has marked it as that; see
    /// [`claim::is_orphan`].
    pub fn is_at_orphan(&self, words: &[AtomicU64], is_alive: impl FnMut(usize) -> bool) -> bool {
        // Further ahead than this no honest head is while a claim is open.
        let open = self.cursor.saturating_add((self.geometry.slots + MAX_PRODUCERS) as u64);
        self.geometry.producers > 1
            && head(words) <= open
            && claim::is_orphan(words, &self.geometry, self.cursor, is_alive)
    }

    /// Begins to receive what is there of the messages of this lap, one after the other.
    ///
    /// The caller may know the `shape` of the slots when it is compiled, and is faster for it.
    #[inline(always)]
    pub fn begin_run<'a>(&'a mut self, words: &'a [AtomicU64], shape: Shape) -> Run<'a> {
        let slots = self.place.rest_of_lap(words).chunks_exact(shape.stride);
        Run { reader: self, words, shape, slots, slot: &[], received: 0 }
    }

    /// Jumps to the newest message that is ready, if that is ahead; the messages in between count
    /// as skipped. It may be overwritten before it is read.
    pub fn skip_to_newest(&mut self, words: &[AtomicU64]) {
        let head = self.synced_head(words);
        let oldest = self.cursor.max(head.saturating_sub(self.geometry.slots as u64));
        // Where there are several producers, the newest claims may not be messages yet, as many as
        // there are producers, or never.
        let mut pending = 0;
        for newest in (oldest..head).rev() {
            let slot = Place::of(&self.geometry, newest).slot(words);
            match slot::begin_read(slot, slot::load_stamp(slot), newest) {
                // Lapped: a whole lap since the head was read. There is a newer one, and this one
                // is jumped over at least.
                Ok(_) | Err(Miss::Lapped) => {
                    self.skipped += newest - self.cursor;
                    self.go_to(newest);
                    return;
                }
                Err(Miss::NotYet) if pending < self.geometry.producers => pending += 1,
                Err(Miss::NotYet) => return,
                Err(Miss::Tombstone) => {}
            }
        }
    }

    /// Whether the next message has still not been published: the cheapest poll there is, one load.
    #[inline(always)]
    pub fn must_wait(&self, words: &[AtomicU64]) -> bool {
        is_pending(self.place.slot(words), self.cursor)
    }

    /// Goes on at `sequence`, if that is ahead, at the producer's wish; returns how many messages
    /// are lost by that.
    pub fn skip_to(&mut self, sequence: u64) -> u64 {
        let lost = sequence.min(MAX_SEQUENCE - 1).saturating_sub(self.cursor);
        if lost > 0 {
            self.lost += lost;
            self.go_to(self.cursor + lost);
        }
        lost
    }

    /// Why there will be no message after those received, if the ring says so.
    #[cold]
    #[inline(never)]
    pub fn ended(&self, words: &[AtomicU64]) -> Option<CloseReason> {
        let reason = match words[STATE].load(Ordering::Relaxed) {
            CLOSED => CloseReason::Closed,
            SUPERSEDED => CloseReason::Superseded,
            _ => return None,
        };
        // Acquire: pairs with the release store in `Writer::close`. A look at the slot that came
        // before this one may have missed the last message; behind the fence, every message
        // before the close is visible.
        fence(Ordering::Acquire);
        self.must_wait(words).then_some(reason)
    }

    /// Messages published but not received yet.
    pub fn lag(&self, words: &[AtomicU64]) -> u64 {
        head(words).saturating_sub(self.cursor)
    }

    /// Sequence of the next message.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Messages received.
    pub fn received(&self) -> u64 {
        self.cursor.wrapping_sub(self.unreceived)
    }

    /// Messages lost to being too slow.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Sequences gone over that never were messages.
    pub fn tombstones(&self) -> u64 {
        self.tombstones
    }

    /// Messages jumped over on demand, by [`Reader::skip_to_newest`].
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// How far ahead this reader fetches at present, in words.
    #[cfg(all(test, not(loom)))]
    pub fn fetches(&self) -> usize {
        self.prefetch.distance()
    }

    #[inline(always)]
    fn advance(&mut self) {
        self.cursor += 1;
        self.place.advance();
    }

    /// Goes to `sequence` without receiving anything.
    fn go_to(&mut self, sequence: u64) {
        // Below the end of all sequences, from which on stamps would begin anew.
        let sequence = sequence.min(MAX_SEQUENCE - 1);
        self.unreceived = sequence.wrapping_sub(self.received());
        self.cursor = sequence;
        self.prefetch.go_to(sequence);
        self.place = Place::of(&self.geometry, sequence);
    }

    /// The head, ordered before all later loads of this reader.
    fn synced_head(&self, words: &[AtomicU64]) -> u64 {
        let head = head(words);
        // Acquire: pairs with the release store in `Writer::count`: slots of counted messages are
        // seen ready.
        fence(Ordering::Acquire);
        head
    }

    #[inline(always)]
    fn not_yet(&self, words: &[AtomicU64], shape: Shape) -> TryRecvError {
        // Who polls comes here with every look that finds nothing: one load more and no call, as
        // long as the ring is open. Relaxed, as in `ended`. Not for larger messages, which
        // take longer to be written than from look to look: there a faster look disturbs more than
        // it gains.
        if shape.is_small() && words[STATE].load(Ordering::Relaxed) < CLOSED {
            return TryRecvError::Empty;
        }
        self.ended(words).map_or(TryRecvError::Empty, TryRecvError::Closed)
    }

    /// The message has been overwritten: find the next position and count what is lost.
    #[cold]
    #[inline(never)]
    fn lapped(&mut self, words: &[AtomicU64]) -> u64 {
        let head = self.synced_head(words);
        let slots = self.geometry.slots as u64;
        // The slot of the message `head` may be under the producer's hands: the oldest that is safe
        // for now is one on.
        let oldest = (head + 1).saturating_sub(slots);
        // The stamp has proved that at least one message is gone, whatever an old value of the head
        // says.
        let at_least = self.cursor + 1;
        let target = match self.on_lag {
            OnLag::Oldest => oldest + margin(slots),
            OnLag::Newest => head.saturating_sub(1),
            OnLag::Stay => oldest,
        };
        // Never beyond what is still there for certain: that is no loss.
        let target = if self.cursor < self.protected { target.min(self.protected) } else { target };
        let lost = target.max(at_least) - self.cursor;
        if self.on_lag == OnLag::Stay {
            return lost;
        }
        self.lost += lost;
        self.go_to(self.cursor + lost);
        lost
    }
}

/// How far behind the oldest message of a ring a lapped consumer goes on. A slot of a ring of few
/// lasts about as long as the copy of a message.
fn margin(slots: u64) -> u64 {
    (slots / 8).max(4).min((slots - 1) / 2)
}

/// Messages of one lap that are received one after the other; made by [`Reader::begin_run`]. When it
/// is dropped, the reader goes on after the last one that was validated.
#[derive(Debug)]
pub struct Run<'a> {
    reader: &'a mut Reader,
    words: &'a [AtomicU64],
    shape: Shape,
    /// The slots of the lap that have not been begun.
    slots: std::slice::ChunksExact<'a, AtomicU64>,
    /// The slot of the message that is being copied.
    slot: &'a [AtomicU64],
    received: usize,
}

impl<'a> Run<'a> {
    /// Begins to receive the next message, and returns where to copy it from. The copy counts only
    /// after [`Run::validate`]. Nothing, if the message is not there, or the lap has ended: the
    /// reason is left to the next [`Reader::begin`].
    #[inline(always)]
    pub fn begin(&mut self) -> Option<&'a [AtomicU64]> {
        self.slot = self.slots.next()?;
        let Reader { cursor, prefetch, geometry, .. } = &mut *self.reader;
        let sequence = *cursor + self.received as u64;
        prefetch.refresh(self.words, geometry, sequence);
        prefetch.hint(self.slot, self.shape);
        slot::begin_read(self.slot, slot::load_stamp(self.slot), sequence).ok()
    }

    /// Whether all that was copied since [`Run::begin`] belongs to the message. Then it counts as
    /// received.
    #[inline(always)]
    pub fn validate(&mut self) -> bool {
        // Here, so that no thread waits with an empty slot, and the receiver's work on the message
        // goes on beside the next copy. [`LoadOrder::Payload`] would be slower for batches.
        if self.reader.profile == CpuProfile::InOrder && self.shape.is_medium() {
            wait_for_loads();
        }
        let sequence = self.reader.cursor + self.received as u64;
        let valid = slot::validate(self.slot, self.shape.mark, sequence).is_ok();
        self.received += usize::from(valid);
        valid
    }

    /// How many messages have been received.
    #[inline(always)]
    pub fn received(&self) -> usize {
        self.received
    }

    /// Ends the run; returns how many messages have been received.
    #[inline(always)]
    pub fn finish(self) -> usize {
        self.received
    }
}

impl Drop for Run<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.reader.cursor += self.received as u64;
        self.reader.place.skip(self.received);
    }
}
