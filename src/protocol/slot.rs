//! The seqlock of one slot.
//!
//! ```text
//! producer, sequence s                  consumer that expects s
//! mark <- 4s+1         Relaxed          before = stamp          Relaxed
//! fence(Release)              (A)       fence(Acquire)                 (C)
//! payload words        Relaxed          copy out                Relaxed
//! stamp <- 4s+2        Release  (B)     fence(Acquire)                 (D)
//!                                       after = mark            Relaxed
//!                                       accept iff before is 4s+2, and after that, or
//!                                       4s+1 where the mark is another word
//! ```
//!
//! In small slots the mark and the stamp are one word. In large slots the mark has a cache line of
//! its own (`layout::mark_word`), because consumers poll the stamp: if the mark were on the stamp's
//! line, they would take that line from the producer during the long copy, and the producer would
//! have to fetch it back before it could make the message ready.
//!
//! The stamp counts laps. Below `4s+1` the slot still holds an earlier message than `s`; `4s+1`
//! means that `s` is being written; `4s+2` means that `s` is ready; anything above `4s+3` means
//! that `s` has been overwritten. The stamps of one slot only grow, so the stamp alone tells a
//! consumer "not yet" from "too late".
//!
//! `4s+3` is a tombstone: there is no message `s` and never will be, because the producer that had
//! claimed this sequence died before it finished the message, or gave it up. Only rings of several
//! producers have tombstones (see `protocol::claim`): a sole producer takes a sequence only
//! together with a message.
//!
//! The method is the sequence lock as given by H.-J. Boehm, "Can Seqlocks Get Along With
//! Programming Language Memory Models?" (MSPC 2012), section 4, with the lap kept in the stamp.

use crate::failpoint::{Step, hit};
use crate::layout::{SLOT_STAMP, ready, tombstone, writing};
use crate::sync::{AtomicU64, Ordering, fence};

/// Why a slot did not yield the expected message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// The message has not been published yet.
    NotYet,
    /// There is no message with this sequence, and there will be none.
    Tombstone,
    /// The message has been overwritten, or is being overwritten.
    Lapped,
}

/// Begins to write message `sequence` into `slot`, whose mark is the word at index `mark`. Returns
/// the words after the stamp. The caller writes the payload there and then calls [`commit`].
///
/// From this call on, the old message of the slot is lost. The new one appears only after
/// [`commit`]; without it, the next `begin` of the same sequence starts over.
#[inline(always)]
pub fn begin(slot: &[AtomicU64], mark: usize, sequence: u64) -> &[AtomicU64] {
    // Relaxed: ordered before the payload by the fence.
    slot[mark].store(writing(sequence), Ordering::Relaxed);
    hit(Step::PublishMark);
    // (A) pairs with (D). A consumer that has read any payload word stored after this fence sees,
    // after its own fence, a mark of at least 4s+1, and rejects its copy. Without (A), the payload
    // may become visible before the mark, and torn reads pass.
    fence(Ordering::Release);
    body(slot)
}

/// Makes message `sequence` ready. Its payload must have been written.
#[inline(always)]
pub fn commit(slot: &[AtomicU64], sequence: u64) {
    // (B) pairs with (C). A consumer that reads this stamp sees the whole payload. Without (B), the
    // stamp may become visible first, and the consumer copies the payload of the previous lap.
    slot[SLOT_STAMP].store(ready(sequence), Ordering::Release);
    hit(Step::PublishReady);
}

/// The stamp of `slot` at this moment, for [`begin_read`].
#[inline(always)]
pub fn load_stamp(slot: &[AtomicU64]) -> u64 {
    // Relaxed: ordered before the copy by the fence in `begin_read`.
    slot[SLOT_STAMP].load(Ordering::Relaxed)
}

/// Begins to read message `sequence` from `slot`, whose stamp was `stamp`. Returns the words after
/// the stamp. These words may change at any time: a copy of them counts only after [`validate`].
///
/// # Errors
/// [`Miss`], if the slot does not hold the message.
#[inline(always)]
pub fn begin_read(slot: &[AtomicU64], stamp: u64, sequence: u64) -> Result<&[AtomicU64], Miss> {
    if stamp != ready(sequence) {
        return Err(miss(stamp, sequence));
    }
    // (C) pairs with (B); see `commit`.
    fence(Ordering::Acquire);
    Ok(body(slot))
}

/// Checks that everything copied since [`begin_read`] belongs to message `sequence`. The mark of
/// the slot is the word at index `mark`.
///
/// # Errors
/// [`Miss::Lapped`], if the slot has changed since then.
#[inline(always)]
pub fn validate(slot: &[AtomicU64], mark: usize, sequence: u64) -> Result<(), Miss> {
    // (D) pairs with (A); see `begin`. It also keeps the load below from moving before the copy,
    // which an acquire *load* of the mark would not do.
    fence(Ordering::Acquire);
    let unchanged = if mark == SLOT_STAMP { ready(sequence) } else { writing(sequence) };
    if slot[mark].load(Ordering::Relaxed) == unchanged { Ok(()) } else { Err(Miss::Lapped) }
}

/// Whether message `sequence` is ready in `slot` at this moment.
pub fn is_ready(slot: &[AtomicU64], sequence: u64) -> bool {
    slot[SLOT_STAMP].load(Ordering::Relaxed) == ready(sequence)
}

/// Whether message `sequence` is still to come at this moment: it is neither ready nor given up nor
/// overwritten.
#[inline(always)]
pub fn is_pending(slot: &[AtomicU64], sequence: u64) -> bool {
    slot[SLOT_STAMP].load(Ordering::Relaxed) < ready(sequence)
}

/// Whether message `sequence` is done in `slot`: ready or given up. Only then may the next message
/// of this slot be written.
pub fn is_done(slot: &[AtomicU64], sequence: u64) -> bool {
    // Acquire: pairs with (B) and with the release stores of the tombstones below. Everything that
    // the producer of `sequence` wrote into this slot comes before the caller's own writes. Without
    // it, words of `sequence` may replace words of the next message.
    slot[SLOT_STAMP].load(Ordering::Acquire) >= ready(sequence)
}

/// Gives up message `sequence`, which the caller has claimed and cannot publish.
pub fn abandon(slot: &[AtomicU64], sequence: u64) {
    // Release: pairs with the acquire in `is_done`, for the words of the message that the caller
    // has written.
    slot[SLOT_STAMP].store(tombstone(sequence), Ordering::Release);
}

/// Gives up message `sequence` on behalf of its producer, which is known to have died with the
/// message pending.
pub fn bury(slot: &[AtomicU64], sequence: u64) {
    let seen = slot[SLOT_STAMP].load(Ordering::Relaxed);
    if seen < ready(sequence) {
        // Release: pairs with the acquire in `is_done`, for the words of the message that the dead
        // producer has written. The exchange fails only if another process has already written the
        // tombstone.
        let _ = slot[SLOT_STAMP].compare_exchange(
            seen,
            tombstone(sequence),
            Ordering::Release,
            Ordering::Relaxed,
        );
    }
}

/// The earliest message of `slot` that is not done, among those up to `sequence`, in a ring of
/// `slots` slots. If the stamp is corrupt, the result may be any sequence.
pub fn earliest_pending(slot: &[AtomicU64], sequence: u64, slots: u64) -> Option<u64> {
    let stamp = slot[SLOT_STAMP].load(Ordering::Relaxed);
    let in_slot = stamp / 4;
    match stamp % 4 {
        _ if stamp >= ready(sequence) => None,
        _ if stamp == 0 => Some(sequence % slots),
        2 | 3 => Some(in_slot.saturating_add(slots)),
        _ => Some(in_slot),
    }
}

/// Why a slot with this stamp does not hold message `sequence`.
// Only the rare cases are out of line: every poll that finds no message comes through here.
#[inline(always)]
fn miss(stamp: u64, sequence: u64) -> Miss {
    if stamp >= ready(sequence) { gone(stamp, sequence) } else { Miss::NotYet }
}

#[cold]
#[inline(never)]
fn gone(stamp: u64, sequence: u64) -> Miss {
    if stamp == tombstone(sequence) { Miss::Tombstone } else { Miss::Lapped }
}

/// The words after the stamp.
#[inline(always)]
fn body(slot: &[AtomicU64]) -> &[AtomicU64] {
    &slot[SLOT_STAMP + 1..]
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::zeroed;

    fn put(slot: &[AtomicU64], sequence: u64, value: u64) {
        begin(slot, SLOT_STAMP, sequence)[0].store(value, Ordering::Relaxed);
        commit(slot, sequence);
    }

    fn get(slot: &[AtomicU64], sequence: u64) -> Result<u64, Miss> {
        let body = begin_read(slot, load_stamp(slot), sequence)?;
        let value = body[0].load(Ordering::Relaxed);
        validate(slot, SLOT_STAMP, sequence).map(|()| value)
    }

    #[test]
    fn every_lap_tells_not_yet_ready_and_lapped_apart() {
        let slot = zeroed(2);
        let get = |sequence| get(&slot, sequence);
        assert_eq!(get(0), Err(Miss::NotYet));
        put(&slot, 0, 7);
        assert_eq!(get(0), Ok(7));
        assert_eq!(get(4), Err(Miss::NotYet));
        put(&slot, 4, 8);
        assert_eq!(get(0), Err(Miss::Lapped));
        assert_eq!(get(4), Ok(8));
    }

    #[test]
    fn a_write_that_is_not_committed_takes_the_old_message_and_brings_no_new_one() {
        let slot = zeroed(2);
        put(&slot, 0, 7);
        begin(&slot, SLOT_STAMP, 1);
        let get = |sequence| get(&slot, sequence);
        assert_eq!(get(0), Err(Miss::Lapped));
        assert_eq!(get(1), Err(Miss::NotYet));
        put(&slot, 1, 9);
        assert_eq!(get(1), Ok(9));
    }

    #[test]
    fn a_tombstone_is_neither_to_come_nor_a_loss() {
        let slot = zeroed(2);
        let get = |sequence| get(&slot, sequence);
        put(&slot, 0, 7);
        assert!(is_done(&slot, 0) && !is_done(&slot, 4));
        begin(&slot, SLOT_STAMP, 4);
        assert!(is_pending(&slot, 4) && !is_done(&slot, 4));
        bury(&slot, 4);
        assert_eq!(
            (get(0), get(4), get(8)),
            (Err(Miss::Lapped), Err(Miss::Tombstone), Err(Miss::NotYet))
        );
        assert!(!is_pending(&slot, 4) && is_done(&slot, 4));
        put(&slot, 8, 9);
        bury(&slot, 8);
        assert_eq!((get(4), get(8)), (Err(Miss::Lapped), Ok(9)));
        abandon(&slot, 12);
        assert_eq!((get(8), get(12)), (Err(Miss::Lapped), Err(Miss::Tombstone)));
    }

    #[test]
    fn the_stamps_of_the_last_sequences_do_not_overflow() {
        let last = crate::layout::MAX_SEQUENCE - 1;
        assert_eq!(
            (writing(last), ready(last), tombstone(last)),
            (u64::MAX - 2, u64::MAX - 1, u64::MAX)
        );
    }

    #[test]
    fn a_copy_that_is_overwritten_meanwhile_is_rejected() {
        let slot = zeroed(2);
        put(&slot, 0, 7);
        begin_read(&slot, load_stamp(&slot), 0).unwrap();
        put(&slot, 1, 8);
        assert_eq!(validate(&slot, SLOT_STAMP, 0), Err(Miss::Lapped));
    }
}
