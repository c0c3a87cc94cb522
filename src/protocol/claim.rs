//! Several producers, one total order.
//!
//! The head is the number of sequences *claimed*. A producer announces the sequence in its own row,
//! claims it by compare-and-swap of the head, writes the slot as ever, and withdraws the
//! announcement:
//!
//! ```text
//! announce <- s+1                    Release  (1)
//! head: s -> s+1, else again         Release  (2)
//! wait until the slot is done with s - slots   (Acquire, in `slot::is_done`)
//! mark, payload, ready               (`slot::begin`, `slot::commit`)
//! announce <- 0                      Release  (3)
//! ```
//!
//! A claim whose producer has died is an *orphan*: nobody else will ever write its message. That
//! can be proved without waiting, as from before (2) until behind its ready stamp the winner's
//! announcement stands. So `s` is an orphan if and only if it is claimed and pending, and no living
//! producer announces it. (Losers of the compare-and-swap announce `s` for a moment too: an
//! announcement proves nothing, its absence does. Whether a row's producer lives, its kernel lock
//! says.) Orphans are given tombstones by any producer that meets them; consumers, which write
//! nothing, go over those that they can prove.

use crate::failpoint::{Step, hit};
use crate::layout::{
    CLOSED, EPOCH, Geometry, HEAD, MAX_PRODUCERS, MAX_SEQUENCE, OPEN, Place, ROW_ANNOUNCE, STATE,
    Shape,
};
use crate::protocol::publish::{Blocked, Claim, Publish, Upkeep};
use crate::protocol::slot::{self, bury, earliest_pending, is_done, is_pending};
use crate::protocol::{head, table};
use crate::sync::{AtomicU64, Ordering, fence};

/// One of several producers.
#[derive(Debug)]
pub struct MultiWriter {
    geometry: Geometry,
    row: usize,
    /// It claims nothing at or beyond this before its next look at the reader table.
    limit: u64,
    /// All claims before this one have been seen to be done.
    done: u64,
    /// Whether that one was pending already when this producer had written its last message. If it
    /// still is at the next, it may be an orphan.
    suspicious: bool,
    /// The sequence that we have claimed, while its slot is still in use a lap before.
    claimed: Option<u64>,
    /// The sequence of our last message.
    last: u64,
}

impl MultiWriter {
    /// Takes row `row`. The caller holds its lock, and the one that all hold who join or close.
    pub fn join(
        words: &[AtomicU64],
        geometry: Geometry,
        row: usize,
        is_alive: impl FnMut(usize) -> bool,
    ) -> Self {
        // Release: as (3), for our predecessor's last message, if it died between its ready stamp
        // and (3).
        announcement(words, &geometry, row).store(0, Ordering::Release);
        hit(Step::CrewRow);
        resolve_all(words, &geometry, is_alive);
        words[EPOCH].store(words[EPOCH].load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        hit(Step::ResumeEpoch);
        // Relaxed: nobody concludes anything from an open ring.
        words[STATE].store(OPEN, Ordering::Relaxed);
        hit(Step::ResumeState);
        Self {
            geometry,
            row,
            limit: 0,
            done: head(words),
            suspicious: false,
            claimed: None,
            last: 0,
        }
    }

    /// Says that no message will follow, if this is the last living producer, and withdraws. The
    /// caller holds the lock that all hold who join or close, and releases that of the row
    /// behind it.
    pub fn close(&mut self, words: &[AtomicU64], mut is_alive: impl FnMut(usize) -> bool) {
        if (0..self.geometry.producers).any(|row| row != self.row && is_alive(row)) {
            return;
        }
        // With nobody left, every pending claim is an orphan.
        resolve_all(words, &self.geometry, |_| false);
        // Release: pairs with the acquire fence in `Reader::ended`. A consumer that sees the ring
        // closed sees every message, and every tombstone, that was there before; without
        // it, it could report the end before the last message.
        words[STATE].store(CLOSED, Ordering::Release);
        hit(Step::CloseState);
    }

    fn announcement<'a>(&self, words: &'a [AtomicU64]) -> &'a AtomicU64 {
        announcement(words, &self.geometry, self.row)
    }

    /// Withdraws the announcement: there is no claim, or its slot is done.
    #[inline(always)]
    fn withdraw(&self, words: &[AtomicU64]) {
        // Release (3): pairs with the acquire fences in `is_orphan`. A reader that misses our
        // announcement sees that the message is ready; without it, it could be taken for an orphan.
        self.announcement(words).store(0, Ordering::Release);
    }

    /// Claims the next sequence.
    fn claim(&self, words: &[AtomicU64]) -> Result<u64, Blocked> {
        let announcement = self.announcement(words);
        let mut next = head(words);
        loop {
            assert!(
                next < MAX_SEQUENCE,
                "the head of the ring says {next}: it is corrupt, or all sequences are used up"
            );
            if next >= self.limit {
                // What was announced and not claimed must not stand while this producer waits.
                self.withdraw(words);
                return Err(Blocked::NoSpace(next));
            }
            // Release (1): pairs with the acquire fences in `is_orphan`. A reader that sees a later
            // claim of ours sees the ready stamp of the last; without it, our last message could be
            // taken for an orphan.
            announcement.store(next + 1, Ordering::Release);
            hit(Step::ClaimAnnounce);
            // Release (2): pairs with the acquire fences in `is_orphan`. A reader that sees the
            // claim sees the announcement; without it, a claim of the living could be taken for an
            // orphan.
            match words[HEAD].compare_exchange(next, next + 1, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(changed) => next = changed,
            }
        }
        hit(Step::ClaimHead);
        Ok(next)
    }
}

impl Publish for MultiWriter {
    /// Claims a sequence, and waits for nothing: if the slot is still in use, the next call goes on
    /// with the same claim.
    #[inline]
    fn begin<'a>(&mut self, words: &'a [AtomicU64], shape: Shape) -> Result<Claim<'a>, Blocked> {
        let sequence = match self.claimed {
            Some(sequence) => sequence,
            None => self.claim(words)?,
        };
        let slot = Place::of(&self.geometry, sequence).slot(words);
        // The message that was in the slot a lap before, if there was one.
        if let Some(last) = sequence.checked_sub(self.geometry.slots as u64) {
            if !is_done(slot, last) {
                self.claimed = Some(sequence);
                return Err(Blocked::SlotInUse(last));
            }
        }
        self.claimed = None;
        Ok(Claim { slot, body: slot::begin(slot, shape.mark, sequence), sequence })
    }

    #[inline(always)]
    fn commit(&mut self, words: &[AtomicU64], claim: &Claim<'_>) {
        hit(Step::PublishPayload);
        slot::commit(claim.slot, claim.sequence);
        self.withdraw(words);
        hit(Step::ClaimDone);
    }

    /// Gives the claim a tombstone.
    fn abandon(&mut self, words: &[AtomicU64], claim: Claim<'_>) -> bool {
        slot::abandon(claim.slot, claim.sequence);
        self.withdraw(words);
        hit(Step::ClaimDone);
        self.advance(claim);
        true
    }

    #[inline(always)]
    fn advance(&mut self, claim: Claim<'_>) {
        self.last = claim.sequence;
    }

    fn set_early_limit(&mut self, limit: Option<u64>) {
        self.limit = limit.unwrap_or(self.limit);
    }

    #[inline(always)]
    fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Finds out whether producers that died have left claims before ours. A slow producer is not
    /// disturbed: only a claim that is still pending at our next message is suspicious, because to
    /// find out takes system calls.
    fn upkeep(&mut self, words: &[AtomicU64], _: Shape, _: usize) -> Upkeep {
        let sequence = self.last;
        let pending =
            |sequence: u64| is_pending(Place::of(&self.geometry, sequence).slot(words), sequence);
        let was = self.done;
        // What is a lap behind is done, as our slot was free.
        self.done = self.done.max((sequence + 1).saturating_sub(self.geometry.slots as u64));
        while self.done <= sequence && !pending(self.done) {
            self.done += 1;
        }
        if self.done > sequence {
            self.suspicious = false;
        } else if self.suspicious && self.done == was {
            return Upkeep::ResolveClaim(self.done);
        } else {
            self.suspicious = true;
        }
        Upkeep::Nothing
    }

    fn next(&self, words: &[AtomicU64]) -> u64 {
        head(words)
    }
}

/// Whether `sequence` was claimed by a producer that has died, and will never be a message.
pub fn is_orphan(
    words: &[AtomicU64],
    geometry: &Geometry,
    sequence: u64,
    mut is_alive: impl FnMut(usize) -> bool,
) -> bool {
    // Relaxed loads and fences: consumers ask this too, whose memory is read-only.
    if words[HEAD].load(Ordering::Relaxed) <= sequence {
        return false;
    }
    // Acquire: pairs with (2), through all claims that followed.
    fence(Ordering::Acquire);
    let announced =
        |row: usize| announcement(words, geometry, row).load(Ordering::Relaxed) == sequence + 1;
    if (0..geometry.producers).any(|row| announced(row) && is_alive(row)) {
        return false;
    }
    // Acquire: pairs with (1) and (3). The announcements are withdrawn behind the ready stamp.
    fence(Ordering::Acquire);
    is_pending(Place::of(geometry, sequence).slot(words), sequence)
}

/// Gives tombstones to what is pending in the slot of `sequence`, up to that, as far as it is
/// orphans. Returns whether it gave any.
pub fn resolve(
    words: &[AtomicU64],
    geometry: &Geometry,
    sequence: u64,
    is_alive: impl FnMut(usize) -> bool,
) -> bool {
    let slot = Place::of(geometry, sequence).slot(words);
    let slots = geometry.slots as u64;
    // The earliest first: over a claim whose slot is still in use a lap before, no tombstone may be
    // written.
    let Some(mut earliest) = earliest_pending(slot, sequence, slots) else { return false };
    let laps = sequence
        .checked_sub(earliest)
        .filter(|ahead| ahead % slots == 0)
        .map(|ahead| ahead / slots);
    if laps.is_none_or(|laps| laps > MAX_PRODUCERS as u64) {
        // No such claim belongs here, and as many cannot be open: memory is corrupt, and must not
        // keep us.
        earliest = sequence;
    }
    let orphan = is_orphan(words, geometry, earliest, is_alive);
    if orphan {
        bury(slot, earliest);
        hit(Step::ClaimBury);
    }
    orphan
}

/// Gives tombstones to all orphans.
fn resolve_all(words: &[AtomicU64], geometry: &Geometry, mut is_alive: impl FnMut(usize) -> bool) {
    let head = head(words);
    for sequence in head.saturating_sub(geometry.slots as u64)..head {
        // Corrupt memory must not keep us.
        let _ = (0..=MAX_PRODUCERS)
            .take_while(|_| resolve(words, geometry, sequence, &mut is_alive))
            .count();
    }
}

/// What the producer with row `row` announces.
fn announcement<'a>(words: &'a [AtomicU64], geometry: &Geometry, row: usize) -> &'a AtomicU64 {
    &table(words, geometry)[geometry.producer_row(row) + ROW_ANNOUNCE]
}
