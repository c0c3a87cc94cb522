//! The consumer's side of the protocol: loads only.

use crate::copy::{Pace, wait_for_loads};
use crate::layout::{
    CLOSED, Geometry, MAX_PRODUCERS, MAX_SEQUENCE, Place, STATE, SUPERSEDED, Shape,
};
use crate::protocol::slot::{Miss, Turn, is_pending, read, read_in_turn};
use crate::protocol::{claim, head};
use crate::sync::{AtomicU64, Ordering, fence};
use crate::tuning::prefetch::Ahead;

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
    /// Whether this processor is kept from loading ahead. What is received is the same.
    in_turn: bool,
    ahead: Ahead,
}

/// A producer that laps a jump to the newest message this many times is given up on, to bound the
/// call.
const LATEST_TRIES: usize = 64;

impl Reader {
    /// A reader that starts at `start`.
    pub fn new(words: &[AtomicU64], geometry: Geometry, start: Start, on_lag: OnLag) -> Self {
        Self::with_pace(words, geometry, start, on_lag, Pace::of_this_processor())
    }

    /// The same, whatever the processor.
    pub(super) fn with_pace(
        words: &[AtomicU64],
        geometry: Geometry,
        start: Start,
        on_lag: OnLag,
        pace: Pace,
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
            in_turn: pace == Pace::InTurn,
            ahead: if pace == Pace::Ahead { Ahead::of(&geometry) } else { Ahead::never() },
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

    /// Receives the next message: `take` copies it out of the words after the stamp. The caller may
    /// know the `shape` of the slots when it is compiled, and is faster for it.
    ///
    /// # Errors
    /// [`TryRecvError`]; [`CloseReason::ProducerDied`] is not among them, as it takes more than
    /// loads to see it.
    // `|body| take(body)`, as in `Consumer`: what calls a `&mut take` may be compiled out of reach.
    #[inline(always)]
    #[allow(clippy::redundant_closure)]
    pub fn try_read<R>(
        &mut self,
        words: &[AtomicU64],
        shape: Shape,
        mut take: impl FnMut(&[AtomicU64]) -> R,
    ) -> Result<R, TryRecvError> {
        self.ahead.look(words, &self.geometry, self.cursor);
        loop {
            let slot = self.place.slot(words);
            match read_in_turn(slot, shape.mark, self.cursor, self.turn(shape), |body| take(body)) {
                Ok((taken, zero)) => {
                    self.ahead.fetch(slot, shape);
                    self.place.move_by(zero);
                    return Ok(self.received_one(taken));
                }
                Err(Miss::NotYet) => return Err(self.not_yet(words, shape)),
                Err(Miss::Lapped) => return Err(TryRecvError::Lagged(self.lapped(words))),
                Err(Miss::Tombstone) => self.skip_tombstone(),
            }
        }
    }

    /// What to keep the processor from loading ahead where messages are received one by one. On Zen
    /// 5 with the cores far apart, slots that have lines of their own are received faster in
    /// turn, those of 48 bytes up to twice as fast; near, a tenth slower at most. Medium ones, with
    /// their payloads, 1.3 times as fast near and 1.15 times far. Smaller ones, and those that
    /// straddle lines, are slower in turn.
    #[inline(always)]
    fn turn(&self, shape: Shape) -> Turn {
        if !self.in_turn {
            Turn::Any
        } else if shape.is_medium() {
            Turn::Payload
        } else if shape.is_lines() {
            Turn::Slot
        } else {
            Turn::Any
        }
    }

    /// Goes over a sequence that was claimed by a producer which died, and will never be a message.
    // Inlined, though it is rare: behind a call the compiler would keep the cursor in memory, for
    // all messages.
    #[inline(always)]
    pub fn skip_tombstone(&mut self) {
        self.tombstones += 1;
        self.unreceived = self.unreceived.wrapping_add(1);
        self.received_one(());
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

    /// Receives what is there of the messages of this lap, one for each of `landings`: `take`
    /// copies it out, and `accept` gets it with its landing once it is known to be whole; both
    /// get the `context`. Returns how many. The reason why it were no more is left to the next
    /// [`Reader::try_read`].
    ///
    /// The caller may know the `shape` of the slots when it is compiled, and is faster for it.
    ///
    /// If `accept` panics, its message counts as received.
    #[inline(always)]
    pub fn read_run<C, R, L>(
        &mut self,
        words: &[AtomicU64],
        shape: Shape,
        landings: impl Iterator<Item = L>,
        context: &mut C,
        take: impl Fn(&mut C, &[AtomicU64]) -> R,
        accept: impl Fn(&mut C, L, R),
    ) -> usize {
        // Medium ones are a fifteenth faster for this, on Zen 5, and slower for `Turn::Payload`.
        let fences = self.in_turn && shape.is_medium();
        let slots = self.place.rest_of_lap(words).chunks_exact(shape.stride);
        let mut run = Run { received: 0, reader: self };
        for (slot, landing) in slots.zip(landings) {
            let Reader { cursor, ahead, geometry, .. } = &mut *run.reader;
            let sequence = *cursor + run.received as u64;
            ahead.look(words, geometry, sequence);
            ahead.fetch(slot, shape);
            let take = |body: &[AtomicU64]| {
                let taken = take(context, body);
                // Here, so that nobody waits with an empty slot, and what the receiver does with
                // the message goes on beside the next copy.
                if fences {
                    wait_for_loads();
                }
                taken
            };
            let Ok(taken) = read(slot, shape.mark, sequence, take) else { break };
            run.received += 1;
            accept(context, landing, taken);
        }
        run.received
    }

    /// Jumps to the newest message and receives it; the messages in between count as skipped.
    /// Without a newer message it does what [`Reader::try_read`] does.
    pub fn latest<R>(
        &mut self,
        words: &[AtomicU64],
        shape: Shape,
        mut take: impl FnMut(&[AtomicU64]) -> R,
    ) -> Result<R, TryRecvError> {
        for _ in 0..LATEST_TRIES {
            let head = self.synced_head(words);
            // Where there are several producers, the newest claims may not be messages yet, as many
            // as there are producers, or never.
            let mut pending = 0;
            let candidates =
                (self.cursor.max(head.saturating_sub(self.geometry.slots as u64))..head).rev();
            for newest in candidates.chain([self.cursor]) {
                match read(
                    Place::of(&self.geometry, newest).slot(words),
                    shape.mark,
                    newest,
                    &mut take,
                ) {
                    Ok(taken) => {
                        self.skipped += newest - self.cursor;
                        self.go_to(newest);
                        return Ok(self.received_one(taken));
                    }
                    Err(Miss::NotYet) if pending < self.geometry.producers => pending += 1,
                    Err(Miss::NotYet) => break,
                    Err(Miss::Tombstone) => {}
                    // A whole lap since the head was read: there is a newer one, and this one is
                    // jumped over at least.
                    Err(Miss::Lapped) => {
                        self.skipped += newest - self.cursor;
                        self.go_to(newest);
                        break;
                    }
                }
            }
            if self.must_wait(words) {
                return Err(self.not_yet(words, shape));
            }
        }
        self.try_read(words, shape, take)
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

    /// Messages jumped over on demand, by [`Reader::latest`].
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// How far ahead this reader fetches at present, in words.
    #[cfg(all(test, not(loom)))]
    pub fn fetches(&self) -> usize {
        self.ahead.distance()
    }

    #[inline(always)]
    fn received_one<R>(&mut self, taken: R) -> R {
        self.cursor += 1;
        self.place.advance();
        taken
    }

    /// Goes to `sequence` without receiving anything.
    fn go_to(&mut self, sequence: u64) {
        // Below the end of all sequences, from which on stamps would begin anew.
        let sequence = sequence.min(MAX_SEQUENCE - 1);
        self.unreceived = sequence.wrapping_sub(self.received());
        self.cursor = sequence;
        self.ahead.go_to(sequence);
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

    // The error is made here, and not by what stands out of the way: that would return it through
    // memory, by a byte that is loaded by words, and who polls would wait for it.
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

/// Messages that were received at one go; the reader goes on behind them also if one of them made
/// its receiver panic.
struct Run<'a> {
    reader: &'a mut Reader,
    received: usize,
}

impl Drop for Run<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.reader.cursor += self.received as u64;
        self.reader.place.skip(self.received);
    }
}
