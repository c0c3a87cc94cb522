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

/// Where a consumer starts, or where it continues after [`Consumer::seek`](crate::Consumer::seek).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// The next message to be published.
    #[default]
    Next,
    /// The message published last, if there is one. With several producers, that message may still
    /// be on its way, or may never come.
    Newest,
    /// The oldest message still in the ring. A busy producer may overwrite it before it is read;
    /// the first receive then reports that like any other loss.
    Oldest,
    /// The message with this sequence. If it has been overwritten, the first receive reports the
    /// loss. If it has not been published yet, the consumer waits for it and ignores all earlier
    /// messages.
    Sequence(u64),
}

/// What a consumer does when the producer has overwritten its next message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLag {
    /// Continue a little after the oldest message, so as not to be lapped again at once: an eighth
    /// of the ring after it, or four slots if that is more, but always less than half of the ring.
    #[default]
    Oldest,
    /// Continue at the newest message.
    Newest,
    /// Stay in place, and report the loss on every call until
    /// [`Consumer::seek`](crate::Consumer::seek).
    Stay,
}

/// Why [`Consumer::try_recv`](crate::Consumer::try_recv) has no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryRecvError {
    /// There is no new message.
    Empty,
    /// The consumer was too slow and has lost exactly this many messages. The next call continues
    /// after them.
    Lagged(u64),
    /// No further message will come, for this reason. Everything published before has been
    /// received.
    Closed(CloseReason),
}

/// Why a ring yields no more messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The producer closed it.
    Closed,
    /// The producer ended without closing the ring: its kernel lock is free. If another producer
    /// takes over the ring, receiving continues.
    ProducerDied,
    /// Another ring has taken the name. Open the name again.
    Superseded,
    /// The producer evicted this registered consumer, because it was too slow for too long.
    Evicted,
}

/// The state of one consumer.
#[derive(Debug)]
pub struct Reader {
    geometry: Geometry,
    on_lag: OnLag,
    /// Sequence of the next message.
    cursor: u64,
    /// The slot of the next message.
    place: Place,
    /// Where the cursor would be if no message had been received. The distance to the cursor is
    /// the number of messages received, which saves a counter update for each message. Wraps
    /// around when a consumer seeks backwards.
    unreceived: u64,
    lost: u64,
    skipped: u64,
    tombstones: u64,
    /// From this sequence on, the producer overwrites nothing that this reader has not read.
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
    /// A zero that is added to the place of the next slot; see [`LoadOrder`].
    zero: usize,
}

impl Reader {
    /// A reader that starts at `start`.
    pub fn new(words: &[AtomicU64], geometry: Geometry, start: Start, on_lag: OnLag) -> Self {
        Self::with_profile(words, geometry, start, on_lag, CpuProfile::detect())
    }

    /// As [`Reader::new`], with a given profile of the processor.
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

    /// Notes that, from `sequence` on, the producer overwrites nothing that this reader has not
    /// read.
    pub fn protect(&mut self, sequence: u64) {
        self.protected = sequence;
    }

    /// Moves to `start`. Counts nothing as lost or skipped.
    pub fn seek(&mut self, words: &[AtomicU64], start: Start) {
        let head = self.synced_head(words);
        if self.protected < u64::MAX {
            // A producer that gates on this reader has overwritten nothing from the old cursor on
            // either, and will not within its present limit. A cursor beyond the head has held up
            // no producer, so the head bounds the promise.
            self.protected = self.protected.max(self.cursor.min(head));
        }
        self.go_to(match start {
            Start::Next => head,
            Start::Newest => head.saturating_sub(1),
            Start::Oldest => head.saturating_sub(self.geometry.slots as u64),
            Start::Sequence(sequence) => sequence,
        });
    }

    /// Begins to receive the next message, and returns the words to copy it from. The copy counts
    /// only after [`Reader::validate`]. Skips tombstones.
    ///
    /// The caller may know the `shape` of the slots when it is compiled, and is faster for it.
    ///
    /// # Errors
    /// [`Miss::NotYet`] or [`Miss::Lapped`]; [`Reader::resolve`] turns them into an error of the
    /// API.
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

    /// Finishes receiving a message: everything copied since [`Reader::begin`] belongs to it, and
    /// it counts as received.
    ///
    /// # Errors
    /// [`Miss::Lapped`], if the message was overwritten during the copy.
    #[inline(always)]
    pub fn validate(&mut self, reading: Reading<'_>, shape: Shape) -> Result<(), Miss> {
        slot::validate(reading.slot, shape.mark, self.cursor)?;
        self.prefetch.hint(reading.slot, shape);
        self.place.move_by(reading.zero);
        self.advance();
        Ok(())
    }

    /// Says why there is no message, and moves on after a loss. Never returns
    /// [`CloseReason::ProducerDied`], because loads alone cannot show that.
    // The error is made here and not in an out-of-line function. Such a function would return the
    // error through memory, written by bytes and then loaded by words, and a poll would wait for
    // that.
    #[inline(always)]
    pub fn resolve(&mut self, words: &[AtomicU64], shape: Shape, miss: Miss) -> TryRecvError {
        match miss {
            Miss::NotYet | Miss::Tombstone => self.not_yet(words, shape),
            Miss::Lapped => TryRecvError::Lagged(self.lapped(words)),
        }
    }

    /// Skips a sequence that was claimed by a producer which died, and that will never be a
    /// message.
    // Inlined, although it is rare: with a call here, the compiler would keep the cursor in memory
    // for all messages.
    #[inline(always)]
    pub fn skip_tombstone(&mut self) {
        self.tombstones += 1;
        self.unreceived = self.unreceived.wrapping_add(1);
        self.advance();
    }

    /// Whether the next sequence is an orphan without a tombstone yet; see [`claim::is_orphan`].
    pub fn is_at_orphan(&self, words: &[AtomicU64], is_alive: impl FnMut(usize) -> bool) -> bool {
        // While the claim at the cursor is open, a valid head cannot be further ahead than this.
        let open = self.cursor.saturating_add((self.geometry.slots + MAX_PRODUCERS) as u64);
        self.geometry.producers > 1
            && head(words) <= open
            && claim::is_orphan(words, &self.geometry, self.cursor, is_alive)
    }

    /// Begins to receive the messages of this lap that are ready, one after the other.
    ///
    /// The caller may know the `shape` of the slots when it is compiled, and is faster for it.
    #[inline(always)]
    pub fn begin_run<'a>(&'a mut self, words: &'a [AtomicU64], shape: Shape) -> Run<'a> {
        let slots = self.place.rest_of_lap(words).chunks_exact(shape.stride);
        Run { reader: self, words, shape, slots, slot: &[], received: 0 }
    }

    /// Skips to the newest message that is ready, if the cursor is before it. The messages in
    /// between count as skipped. The newest message may still be overwritten before it is read.
    pub fn skip_to_newest(&mut self, words: &[AtomicU64]) {
        let head = self.synced_head(words);
        let oldest = self.cursor.max(head.saturating_sub(self.geometry.slots as u64));
        // With several producers, the newest claims may not be messages yet, and may never be. As
        // many claims can be open as there are producers.
        let mut pending = 0;
        for newest in (oldest..head).rev() {
            let slot = Place::of(&self.geometry, newest).slot(words);
            match slot::begin_read(slot, slot::load_stamp(slot), newest) {
                // Lapped means that a whole lap has been published since the head was read. So
                // there is a newer message, but skipping to this one is still progress.
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

    /// Whether the next message is still pending. This is the cheapest poll there is: one load.
    #[inline(always)]
    pub fn must_wait(&self, words: &[AtomicU64]) -> bool {
        is_pending(self.place.slot(words), self.cursor)
    }

    /// Moves on to `sequence` as the producer commands, if the cursor is before it. Returns how
    /// many messages are lost by that.
    pub fn skip_to(&mut self, sequence: u64) -> u64 {
        let lost = sequence.min(MAX_SEQUENCE - 1).saturating_sub(self.cursor);
        if lost > 0 {
            self.lost += lost;
            self.go_to(self.cursor + lost);
        }
        lost
    }

    /// Why no message will follow those received, if the state of the ring says so.
    #[cold]
    #[inline(never)]
    pub fn ended(&self, words: &[AtomicU64]) -> Option<CloseReason> {
        let reason = match words[STATE].load(Ordering::Relaxed) {
            CLOSED => CloseReason::Closed,
            SUPERSEDED => CloseReason::Superseded,
            _ => return None,
        };
        // Acquire: pairs with the release store in `Writer::close`. The check of the slot that led
        // here may have missed the last message. After this fence, every message published before
        // the close is visible.
        fence(Ordering::Acquire);
        self.must_wait(words).then_some(reason)
    }

    /// Number of messages published but not received yet.
    pub fn lag(&self, words: &[AtomicU64]) -> u64 {
        head(words).saturating_sub(self.cursor)
    }

    /// Sequence of the next message.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Number of messages received.
    pub fn received(&self) -> u64 {
        self.cursor.wrapping_sub(self.unreceived)
    }

    /// Number of messages lost because the consumer was too slow.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Number of tombstones skipped: sequences that never became messages.
    pub fn tombstones(&self) -> u64 {
        self.tombstones
    }

    /// Number of messages skipped on request, by [`Reader::skip_to_newest`].
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// How far ahead this reader prefetches at present, in words.
    #[cfg(all(test, not(loom)))]
    pub fn fetches(&self) -> usize {
        self.prefetch.distance()
    }

    #[inline(always)]
    fn advance(&mut self) {
        self.cursor += 1;
        self.place.advance();
    }

    /// Moves to `sequence` without receiving a message.
    fn go_to(&mut self, sequence: u64) {
        // Bounded, because stamps would wrap around after the last sequence.
        let sequence = sequence.min(MAX_SEQUENCE - 1);
        self.unreceived = sequence.wrapping_sub(self.received());
        self.cursor = sequence;
        self.prefetch.go_to(sequence);
        self.place = Place::of(&self.geometry, sequence);
    }

    /// The head, ordered before all later loads of this reader.
    fn synced_head(&self, words: &[AtomicU64]) -> u64 {
        let head = head(words);
        // Acquire: pairs with the release store of the head in `publish_head`. The slots of all
        // counted messages are seen ready.
        fence(Ordering::Acquire);
        head
    }

    #[inline(always)]
    fn not_yet(&self, words: &[AtomicU64], shape: Shape) -> TryRecvError {
        // Every poll that finds no message comes here. While the ring is open, it takes one more
        // load and no call. Relaxed, as in `ended`. Not for larger messages, which take longer to
        // write than one poll takes: for them, faster polling disturbs the producer more than it
        // gains.
        if shape.is_small() && words[STATE].load(Ordering::Relaxed) < CLOSED {
            return TryRecvError::Empty;
        }
        self.ended(words).map_or(TryRecvError::Empty, TryRecvError::Closed)
    }

    /// The next message has been overwritten: finds the position to continue at, and counts the
    /// messages that are lost.
    #[cold]
    #[inline(never)]
    fn lapped(&mut self, words: &[AtomicU64]) -> u64 {
        let head = self.synced_head(words);
        let slots = self.geometry.slots as u64;
        // The producer may already be writing message `head`, so the message before it in the same
        // slot is not safe. The oldest message that is safe for now is the one after that.
        let oldest = (head + 1).saturating_sub(slots);
        // The stamp has proved that at least one message is lost, even if the head read here is
        // old.
        let at_least = self.cursor + 1;
        let target = match self.on_lag {
            OnLag::Oldest => oldest + margin(slots),
            OnLag::Newest => head.saturating_sub(1),
            OnLag::Stay => oldest,
        };
        // Never beyond a message that is certainly still there: that one is not lost.
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

/// How far after the oldest message of a ring a lapped consumer continues. In a ring of few slots,
/// a slot lasts only about as long as the copy of one message.
fn margin(slots: u64) -> u64 {
    (slots / 8).max(4).min((slots - 1) / 2)
}

/// Messages of one lap that are received one after the other; made by [`Reader::begin_run`]. When
/// the run is dropped, the reader continues after the last message that was validated.
#[derive(Debug)]
pub struct Run<'a> {
    reader: &'a mut Reader,
    words: &'a [AtomicU64],
    shape: Shape,
    /// The remaining slots of the lap.
    slots: std::slice::ChunksExact<'a, AtomicU64>,
    /// The slot of the message that is being copied.
    slot: &'a [AtomicU64],
    received: usize,
}

impl<'a> Run<'a> {
    /// Begins to receive the next message, and returns the words to copy it from. The copy counts
    /// only after [`Run::validate`]. Returns `None` if the message is not there or the lap has
    /// ended; the next [`Reader::begin`] finds out which.
    #[inline(always)]
    pub fn begin(&mut self) -> Option<&'a [AtomicU64]> {
        self.slot = self.slots.next()?;
        let Reader { cursor, prefetch, geometry, .. } = &mut *self.reader;
        let sequence = *cursor + self.received as u64;
        prefetch.refresh(self.words, geometry, sequence);
        prefetch.hint(self.slot, self.shape);
        slot::begin_read(self.slot, slot::load_stamp(self.slot), sequence).ok()
    }

    /// Whether everything copied since [`Run::begin`] belongs to the message. If so, the message
    /// counts as received.
    #[inline(always)]
    pub fn validate(&mut self) -> bool {
        // The wait is here, where the slot is known to be filled, so that the caller's work on the
        // message overlaps with the next copy. [`LoadOrder::Payload`] would be slower for batches.
        if self.reader.profile == CpuProfile::InOrder && self.shape.is_medium() {
            wait_for_loads();
        }
        let sequence = self.reader.cursor + self.received as u64;
        let valid = slot::validate(self.slot, self.shape.mark, sequence).is_ok();
        self.received += usize::from(valid);
        valid
    }

    /// Number of messages received in this run.
    #[inline(always)]
    pub fn received(&self) -> usize {
        self.received
    }

    /// Ends the run, and returns the number of messages received in it.
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
