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

use core::hint::black_box;

use crate::failpoint::{Step, hit};
use crate::layout::SLOT_STAMP;
use crate::sync::{AtomicU64, Ordering, fence};

/// The stamp while `sequence` is being written.
pub const fn writing(sequence: u64) -> u64 {
    stamp_of(sequence, 1)
}

/// The stamp once `sequence` can be read.
pub const fn ready(sequence: u64) -> u64 {
    stamp_of(sequence, 2)
}

/// The stamp when there is no message `sequence` and will be none.
pub const fn tombstone(sequence: u64) -> u64 {
    stamp_of(sequence, 3)
}

/// Sequences stay below 2^62; corrupt memory, which may hold larger ones, must not make an overflow
/// of them.
const fn stamp_of(sequence: u64, step: u64) -> u64 {
    sequence.wrapping_mul(4).wrapping_add(step)
}

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

/// Writes message `sequence` into `slot`, whose mark is word `mark`, with `fill`, which gets the
/// words after the stamp.
///
/// If `fill` fails or panics, the slot keeps the stamp of a message being written: its old message
/// is gone, the new one is not there yet, and the next `write` of the same sequence starts over.
#[inline(always)]
pub fn write<E>(
    slot: &[AtomicU64],
    mark: usize,
    sequence: u64,
    fill: impl FnOnce(&[AtomicU64]) -> Result<(), E>,
) -> Result<(), E> {
    prepare(slot, mark, sequence, fill)?;
    complete(slot, sequence);
    Ok(())
}

/// The first part of [`write`]: all but the ready stamp.
#[inline(always)]
pub fn prepare<E>(
    slot: &[AtomicU64],
    mark: usize,
    sequence: u64,
    fill: impl FnOnce(&[AtomicU64]) -> Result<(), E>,
) -> Result<(), E> {
    let (_, body) = split(slot);
    // Relaxed: ordered before the payload by the fence.
    slot[mark].store(writing(sequence), Ordering::Relaxed);
    hit(Step::PublishMark);
    // (A) pairs with (D). A consumer that has read any payload word stored below sees, after its
    // fence, a stamp of at least 4s+1, and rejects its copy. Without it, the payload may be
    // visible before the mark: torn reads pass.
    fence(Ordering::Release);
    fill(body)?;
    hit(Step::PublishPayload);
    Ok(())
}

/// The second part of [`write`], behind [`prepare`].
#[inline(always)]
pub fn complete(slot: &[AtomicU64], sequence: u64) {
    // (B) pairs with (C). A consumer that reads this stamp sees the whole payload. Without it, the
    // stamp may be visible first and the consumer copies the payload of the last lap.
    slot[SLOT_STAMP].store(ready(sequence), Ordering::Release);
    hit(Step::PublishReady);
}

/// Copies message `sequence` out of `slot`, whose mark is word `mark`, with `take`, which gets the
/// words after the stamp.
///
/// `take` runs on words that may change under its hands; its result is returned only if they did
/// not.
#[inline(always)]
pub fn read<R>(
    slot: &[AtomicU64],
    mark: usize,
    sequence: u64,
    take: impl FnOnce(&[AtomicU64]) -> R,
) -> Result<R, Miss> {
    read_in_turn(slot, mark, sequence, Turn::Any, take).map(|(taken, _)| taken)
}

/// What the processor is kept from loading before the stamp of a slot is there. It would guess that
/// the message is ready, and each load out of a slot that the producer is about to write takes a
/// line from that, and is thrown away with all that follows when the line changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    Any,
    /// The slot behind it.
    Slot,
    /// That, and the payload.
    Payload,
}

/// As [`read`], for who goes on to the slot behind this one, and moves its place by what is
/// returned beside the copy. That is zero; unless the `turn` is [`Turn::Any`] it is computed from
/// the stamp, and the compiler does not know it: so the processor cannot know the place before the
/// stamp is there.
#[inline(always)]
pub fn read_in_turn<R>(
    slot: &[AtomicU64],
    mark: usize,
    sequence: u64,
    turn: Turn,
    take: impl FnOnce(&[AtomicU64]) -> R,
) -> Result<(R, usize), Miss> {
    let (stamp, body) = split(slot);
    let before = stamp.load(Ordering::Relaxed);
    // Ahead of the comparison: behind it, the compiler would put the stamp that is expected in the
    // place of the one that was loaded, and nothing would wait.
    let zero = if turn == Turn::Any {
        0
    } else {
        black_box(before).wrapping_sub(ready(sequence)) as usize
    };
    if before != ready(sequence) {
        return Err(miss(before, sequence));
    }
    // (C) pairs with (B), see there.
    fence(Ordering::Acquire);
    let taken = take(if turn == Turn::Payload { &body[zero..] } else { body });
    // (D) pairs with (A), see there. It also keeps the load below from moving above the copy, which
    // an acquire *load* of the stamp would not do.
    fence(Ordering::Acquire);
    let after = slot[mark].load(Ordering::Relaxed);
    let unchanged = if mark == SLOT_STAMP { before } else { writing(sequence) };
    if after == unchanged { Ok((taken, zero)) } else { Err(changed(after, sequence)) }
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

/// The same behind a copy.
#[cold]
#[inline(never)]
fn changed(mark: u64, sequence: u64) -> Miss {
    miss(mark, sequence)
}

#[inline(always)]
fn split(slot: &[AtomicU64]) -> (&AtomicU64, &[AtomicU64]) {
    slot.split_first().expect("a slot has at least a stamp")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::zeroed;

    fn put(slot: &[AtomicU64], sequence: u64, value: u64) {
        let filled: Result<(), ()> = write(slot, SLOT_STAMP, sequence, |body| {
            body[0].store(value, Ordering::Relaxed);
            Ok(())
        });
        filled.unwrap();
    }

    #[test]
    fn every_lap_tells_not_yet_ready_and_lapped_apart() {
        let slot = zeroed(2);
        let get =
            |sequence| read(&slot, SLOT_STAMP, sequence, |body| body[0].load(Ordering::Relaxed));
        assert_eq!(get(0), Err(Miss::NotYet));
        put(&slot, 0, 7);
        assert_eq!(get(0), Ok(7));
        assert_eq!(get(4), Err(Miss::NotYet));
        put(&slot, 4, 8);
        assert_eq!(get(0), Err(Miss::Lapped));
        assert_eq!(get(4), Ok(8));
    }

    #[test]
    fn a_failed_write_takes_the_old_message_and_brings_no_new_one() {
        let slot = zeroed(2);
        put(&slot, 0, 7);
        assert_eq!(write(&slot, SLOT_STAMP, 1, |_| Err("no")), Err("no"));
        let get =
            |sequence| read(&slot, SLOT_STAMP, sequence, |body| body[0].load(Ordering::Relaxed));
        assert_eq!(get(0), Err(Miss::Lapped));
        assert_eq!(get(1), Err(Miss::NotYet));
        put(&slot, 1, 9);
        assert_eq!(get(1), Ok(9));
    }

    #[test]
    fn a_tombstone_is_neither_to_come_nor_a_loss() {
        let slot = zeroed(2);
        let get =
            |sequence| read(&slot, SLOT_STAMP, sequence, |body| body[0].load(Ordering::Relaxed));
        put(&slot, 0, 7);
        assert!(is_done(&slot, 0) && !is_done(&slot, 4));
        assert_eq!(write(&slot, SLOT_STAMP, 4, |_| Err("no")), Err("no"));
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
    fn in_turn_the_place_is_moved_by_nothing() {
        for (words, mark) in [(8, SLOT_STAMP), (24, crate::layout::LINE)] {
            for sequence in [0, 1, crate::layout::MAX_SEQUENCE - 1] {
                for turn in [Turn::Any, Turn::Slot, Turn::Payload] {
                    let slot = zeroed(words);
                    let get = || {
                        read_in_turn(&slot, mark, sequence, turn, |body| {
                            (body.len(), body[words - 2].load(Ordering::Relaxed))
                        })
                    };
                    assert_eq!(get(), Err(Miss::NotYet));
                    let fill = |body: &[AtomicU64]| {
                        body[words - 2].store(9, Ordering::Relaxed);
                        Ok::<_, ()>(())
                    };
                    write(&slot, mark, sequence, fill).unwrap();
                    assert_eq!(get(), Ok(((words - 1, 9), 0)), "{sequence}, {turn:?}");
                    abandon(&slot, sequence);
                    assert_eq!(get(), Err(Miss::Tombstone));
                }
            }
        }
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
        let torn = read(&slot, SLOT_STAMP, 0, |body| {
            put(&slot, 1, 8);
            body[0].load(Ordering::Relaxed)
        });
        assert_eq!(torn, Err(Miss::Lapped));
    }
}
