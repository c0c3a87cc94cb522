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
//! In small slots mark and stamp are one word, in large ones the mark is on a line of its own
//! (`layout::mark_word`): consumers poll the stamp, and would take its line from the producer
//! between the mark and the end of a long copy, so that the producer would have to get it back
//! before they could see the message.
//!
//! The stamp counts laps: below `4s+1` the slot still holds a message that came before `s`, `4s+1`
//! means that `s` is being written, `4s+2` that it is ready, and anything above `4s+3` that it has
//! been overwritten. Stamps of one slot only grow, so a consumer can tell "not yet" from "too late"
//! without looking anywhere else.
//!
//! `4s+3` is a tombstone: there is no message `s`, and there will be none, because the producer
//! that had claimed its sequence died over it or gave it up. Only rings of several producers have
//! them (see `protocol::claim`); a sole producer has no sequence before it has a message.
//!
//! The method is the sequence lock as given by H.-J. Boehm, "Can Seqlocks Get Along With
//! Programming Language Memory Models?" (MSPC 2012), section 4, with the lap kept in the stamp.

use crate::failpoint::{Step, hit};
use crate::layout::{SLOT_STAMP, ready, tombstone, writing};
use crate::sync::{AtomicU64, Ordering, fence};

/// Why a slot did not yield the expected message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// The message has not been published.
    NotYet,
    /// There is no message of this sequence, and there will be none.
    Tombstone,
    /// The message has been overwritten, or is being overwritten.
    Lapped,
}

/// Begins to write message `sequence` into `slot`, whose mark is word `mark`, and returns the words
/// after the stamp. The payload goes there, then follows [`commit`].
///
/// From here on the slot's old message is gone. Without a [`commit`] the new one does not appear,
/// and the next `begin` of the same sequence starts over.
#[inline(always)]
pub fn begin(slot: &[AtomicU64], mark: usize, sequence: u64) -> &[AtomicU64] {
    // Relaxed: ordered before the payload by the fence.
    slot[mark].store(writing(sequence), Ordering::Relaxed);
    hit(Step::PublishMark);
    // (A) pairs with (D). A consumer that has read any payload word stored after this sees, after
    // its fence, a mark of at least 4s+1, and rejects its copy. Without it, the payload may be
    // visible before the mark: torn reads pass.
    fence(Ordering::Release);
    body(slot)
}

/// Makes message `sequence` ready, whose payload is written.
#[inline(always)]
pub fn commit(slot: &[AtomicU64], sequence: u64) {
    // (B) pairs with (C). A consumer that reads this stamp sees the whole payload. Without it, the
    // stamp may be visible first, and the consumer copies the payload of the last lap.
    slot[SLOT_STAMP].store(ready(sequence), Ordering::Release);
    hit(Step::PublishReady);
}

/// The stamp of `slot` at this moment, for [`begin_read`].
#[inline(always)]
pub fn load_stamp(slot: &[AtomicU64]) -> u64 {
    // Relaxed: ordered before the copy by the fence in `begin_read`.
    slot[SLOT_STAMP].load(Ordering::Relaxed)
}

/// Begins to read message `sequence` from `slot`, whose stamp was `stamp`, and returns the words
/// after it. They may change at any time: whatever is copied from them counts only after
/// [`validate`].
///
/// # Errors
/// [`Miss`], if the slot does not hold the message.
#[inline(always)]
pub fn begin_read(slot: &[AtomicU64], stamp: u64, sequence: u64) -> Result<&[AtomicU64], Miss> {
    if stamp != ready(sequence) {
        return Err(miss(stamp, sequence));
    }
    // (C) pairs with (B), see there.
    fence(Ordering::Acquire);
    Ok(body(slot))
}

/// Whether all that was copied since [`begin_read`] belongs to message `sequence`. The `mark` is
/// that word of the slot.
///
/// # Errors
/// [`Miss::Lapped`], if the slot has changed meanwhile.
#[inline(always)]
pub fn validate(slot: &[AtomicU64], mark: usize, sequence: u64) -> Result<(), Miss> {
    // (D) pairs with (A), see there. It also keeps the load below from moving above the copy, which
    // an acquire *load* of the mark would not do.
    fence(Ordering::Acquire);
    let unchanged = if mark == SLOT_STAMP { ready(sequence) } else { writing(sequence) };
    if slot[mark].load(Ordering::Relaxed) == unchanged { Ok(()) } else { Err(Miss::Lapped) }
}

/// Whether message `sequence` is ready in `slot` at this moment.
pub fn is_ready(slot: &[AtomicU64], sequence: u64) -> bool {
    slot[SLOT_STAMP].load(Ordering::Relaxed) == ready(sequence)
}

/// Whether message `sequence` is still to come at this moment: neither ready nor given up nor
/// overwritten.
#[inline(always)]
pub fn is_pending(slot: &[AtomicU64], sequence: u64) -> bool {
    slot[SLOT_STAMP].load(Ordering::Relaxed) < ready(sequence)
}

/// Whether the slot's next message may be written, as far as `sequence`, the one before it, is
/// concerned: it is ready or given up.
pub fn is_done(slot: &[AtomicU64], sequence: u64) -> bool {
    // Acquire: pairs with (B) and with the releases of the tombstones below. What the producer of
    // `sequence` wrote into this slot comes before what the caller is going to write; without
    // it, words of `sequence` may replace those of the next message.
    slot[SLOT_STAMP].load(Ordering::Acquire) >= ready(sequence)
}

/// Gives up message `sequence`, which the caller has claimed and cannot publish.
pub fn abandon(slot: &[AtomicU64], sequence: u64) {
    // Release: pairs with the acquire in `is_done`, for what the caller has written of the message.
    slot[SLOT_STAMP].store(tombstone(sequence), Ordering::Release);
}

/// Gives up message `sequence`, whose producer is known to be dead and to have left it pending.
pub fn bury(slot: &[AtomicU64], sequence: u64) {
    let seen = slot[SLOT_STAMP].load(Ordering::Relaxed);
    if seen < ready(sequence) {
        // Release: pairs with the acquire in `is_done`, for what the dead producer has written of
        // the message. If it fails, somebody else has buried it.
        let _ = slot[SLOT_STAMP].compare_exchange(
            seen,
            tombstone(sequence),
            Ordering::Release,
            Ordering::Relaxed,
        );
    }
}

/// The first message that is not done in this slot, up to `sequence`, of those that come into it in
/// a ring of `slots` slots. Corrupt stamps yield any.
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

/// Why a slot with this stamp does not have the message.
// Out of the way is only what is rare: who polls comes here with every look that finds nothing.
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
