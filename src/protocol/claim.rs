//! Several producers, one total order.
//!
//! The head is the number of sequences *claimed*. A producer announces a sequence in its own row,
//! claims it by compare-and-swap of the head, writes the slot as a sole producer does, and
//! withdraws the announcement:
//!
//! ```text
//! announce <- s+1                    Release  (1)
//! head: s -> s+1, else again         Release  (2)
//! wait until the slot is done with s - slots   (Acquire, in `slot::is_done`)
//! mark, payload, ready               (`slot::begin`, `slot::commit`)
//! announce <- 0                      Release  (3)
//! ```
//!
//! A claim whose producer has died is an *orphan*: no other producer will ever write its message.
//! Orphans can be proved without waiting, because the announcement of the producer that won a claim
//! stands from before (2) until after its ready stamp. So `s` is an orphan if and only if it is
//! claimed and pending, and no living producer announces it. Producers that lose the
//! compare-and-swap also announce `s` for a moment: an announcement proves nothing, only its
//! absence does. The kernel lock of a row says whether the producer of that row is alive.
//!
//! Any producer that finds an orphan gives it a tombstone. Consumers, which write nothing, skip the
//! orphans that they can prove.

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
    /// The producer refreshes the limit before it claims this sequence.
    limit: u64,
    /// All claims before this one are known to be done.
    done: u64,
    /// Whether claim `done` was already pending after this producer's last message. If it is still
    /// pending after the next one, it may be an orphan.
    suspicious: bool,
    /// The sequence that this producer has claimed, while its slot is still in use a lap before.
    claimed: Option<u64>,
    /// The sequence of this producer's last message.
    last: u64,
}

impl MultiWriter {
    /// Takes row `row`. The caller holds the lock of that row, and the lock that serialises joining
    /// and closing.
    pub fn join(
        words: &[AtomicU64],
        geometry: Geometry,
        row: usize,
        is_alive: impl FnMut(usize) -> bool,
    ) -> Self {
        // Release: as (3), for the last message of the row's previous owner, if it died between its
        // ready stamp and (3).
        announcement(words, &geometry, row).store(0, Ordering::Release);
        hit(Step::CrewRow);
        resolve_all(words, &geometry, is_alive);
        words[EPOCH].store(words[EPOCH].load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        hit(Step::ResumeEpoch);
        // Relaxed: no reader concludes anything from the fact that a ring is open.
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

    /// Closes the ring if this is the last living producer: no message will follow. The caller
    /// holds the lock that serialises joining and closing, and releases the lock of the row
    /// afterwards.
    pub fn close(&mut self, words: &[AtomicU64], mut is_alive: impl FnMut(usize) -> bool) {
        if (0..self.geometry.producers).any(|row| row != self.row && is_alive(row)) {
            return;
        }
        // With no other producer left, every pending claim is an orphan.
        resolve_all(words, &self.geometry, |_| false);
        // Release: pairs with the acquire fence in `Reader::ended`. A consumer that sees the ring
        // closed sees every message and every tombstone from before the close. Without it, the
        // consumer could report the end before the last message.
        words[STATE].store(CLOSED, Ordering::Release);
        hit(Step::CloseState);
    }

    fn announcement<'a>(&self, words: &'a [AtomicU64]) -> &'a AtomicU64 {
        announcement(words, &self.geometry, self.row)
    }

    /// Withdraws the announcement: this producer has no claim, or the slot of its claim is done.
    #[inline(always)]
    fn withdraw(&self, words: &[AtomicU64]) {
        // Release (3): pairs with the acquire fences in `is_orphan`. A process that misses this
        // announcement sees that the message is ready. Without (3), the message could be taken for
        // an orphan.
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
                // The announcement was not followed by a claim, and must not stand while this
                // producer waits.
                self.withdraw(words);
                return Err(Blocked::NoSpace(next));
            }
            // Release (1): pairs with the acquire fences in `is_orphan`. A process that sees a
            // later claim of this producer sees the ready stamp of its previous message. Without
            // (1), that message could be taken for an orphan.
            announcement.store(next + 1, Ordering::Release);
            hit(Step::ClaimAnnounce);
            // Release (2): pairs with the acquire fences in `is_orphan`. A process that sees the
            // claim sees the announcement. Without (2), a claim of a living producer could be taken
            // for an orphan.
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
    /// Claims a sequence. Does not wait: if the slot is still in use, the next call continues with
    /// the same claim.
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

    /// Looks for claims of dead producers before this producer's last message. A slow producer is
    /// not disturbed: because the proof takes system calls, a claim becomes suspicious only if it
    /// is still pending after this producer's next message.
    fn upkeep(&mut self, words: &[AtomicU64], _: Shape, _: usize) -> Upkeep {
        let sequence = self.last;
        let pending =
            |sequence: u64| is_pending(Place::of(&self.geometry, sequence).slot(words), sequence);
        let was = self.done;
        // Everything a lap before is done, as this producer's slot was free.
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
    // Relaxed loads and fences, because consumers call this too, and their mapping is read-only.
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
    // Acquire: pairs with (1) and (3). Announcements are withdrawn after the ready stamp.
    fence(Ordering::Acquire);
    is_pending(Place::of(geometry, sequence).slot(words), sequence)
}

/// Gives a tombstone to the earliest pending claim in the slot of `sequence`, up to `sequence`, if
/// that claim is an orphan. Returns whether it gave one.
pub fn resolve(
    words: &[AtomicU64],
    geometry: &Geometry,
    sequence: u64,
    is_alive: impl FnMut(usize) -> bool,
) -> bool {
    let slot = Place::of(geometry, sequence).slot(words);
    let slots = geometry.slots as u64;
    // The earliest claim comes first: no tombstone may replace a claim while the slot is still in
    // use by the lap before.
    let Some(mut earliest) = earliest_pending(slot, sequence, slots) else { return false };
    let laps = sequence
        .checked_sub(earliest)
        .filter(|ahead| ahead % slots == 0)
        .map(|ahead| ahead / slots);
    if laps.is_none_or(|laps| laps > MAX_PRODUCERS as u64) {
        // No claim of this sequence belongs in this slot, or more laps would be open than is
        // possible: the memory is corrupt, and must not hold up the caller.
        earliest = sequence;
    }
    let orphan = is_orphan(words, geometry, earliest, is_alive);
    if orphan {
        bury(slot, earliest);
        hit(Step::ClaimBury);
    }
    orphan
}

/// Gives a tombstone to every orphan.
fn resolve_all(words: &[AtomicU64], geometry: &Geometry, mut is_alive: impl FnMut(usize) -> bool) {
    let head = head(words);
    for sequence in head.saturating_sub(geometry.slots as u64)..head {
        // Bounded, so that corrupt memory cannot hold up the caller.
        let _ = (0..=MAX_PRODUCERS)
            .take_while(|_| resolve(words, geometry, sequence, &mut is_alive))
            .count();
    }
}

/// The announcement word of the producer in row `row`.
fn announcement<'a>(words: &'a [AtomicU64], geometry: &Geometry, row: usize) -> &'a AtomicU64 {
    &table(words, geometry)[geometry.producer_row(row) + ROW_ANNOUNCE]
}
