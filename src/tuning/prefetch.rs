//! Prefetching for a consumer that lags: later messages are fetched while the consumer reads
//! earlier ones.
//!
//! A processor fetches as many lines at a time as it has loads in its window, and the code between
//! two messages takes up most of that window. A prefetch takes only one instruction for a line. But
//! a line that is prefetched before the producer has written it must go back to the producer, which
//! costs both sides. So only slots that are known to be ready are prefetched: at intervals, the
//! consumer checks a slot far ahead. If that slot is ready, all slots before it are ready too (with
//! several producers, except for the few that are being written at that moment).

use crate::layout::{Geometry, LINE, Place, SLOT_STAMP, Shape, WORD, ready};
use crate::sync::{AtomicU64, Ordering};
use crate::tuning::cpu::{begins_line, prefetch_for_reading};

/// How far ahead slots are prefetched, in bytes.
const DISTANCE: usize = 1 << 10;
/// Number of messages between two checks.
const MESSAGES: usize = 64;
/// A check reaches no further than this fraction (1/4) of the ring.
const PART: usize = 4;

/// Decides which slots a consumer prefetches. Nothing but speed follows from it.
#[derive(Debug)]
pub struct Prefetch {
    /// The next check is before the message with this sequence; [`NEVER`] if there are no checks.
    due: u64,
    /// Distance from the slot being read to the slot to prefetch, in words; 0 while that slot is
    /// not known to be ready.
    distance: usize,
}

/// Larger than every sequence.
const NEVER: u64 = u64::MAX;

impl Prefetch {
    /// Never prefetches.
    pub fn never() -> Self {
        Self { due: NEVER, distance: 0 }
    }

    /// The prefetching that pays for slots of this geometry. It does not pay for large messages,
    /// each of which is a sequence of many loads, nor in rings so small that a consumer can hardly
    /// lag.
    pub fn of(geometry: &Geometry) -> Self {
        let looks = geometry.shape().mark == SLOT_STAMP && reach(geometry) <= geometry.slots / PART;
        if looks { Self { due: 0, distance: 0 } } else { Self::never() }
    }

    /// Notes that the consumer moves to `sequence`, possibly backwards.
    pub fn go_to(&mut self, sequence: u64) {
        if self.due != NEVER {
            *self = Self { due: sequence, distance: 0 };
        }
    }

    /// Called before message `sequence` is read: checks the slot ahead, if a check is due.
    #[inline(always)]
    pub fn refresh(&mut self, words: &[AtomicU64], geometry: &Geometry, sequence: u64) {
        if sequence >= self.due {
            self.distance = distance(words, geometry, sequence);
            self.due = sequence + MESSAGES as u64;
        }
    }

    /// Called while the message in `slot` is received: prefetches a later slot.
    #[inline(always)]
    pub fn hint(&self, slot: &[AtomicU64], shape: Shape) {
        if shape.mark == SLOT_STAMP && self.distance > 0 {
            prefetch_for_reading(slot, self.distance, lines(shape, begins_line(slot)));
        }
    }
}

#[cfg(all(test, not(loom)))]
impl Prefetch {
    /// How far ahead slots are prefetched at present, in words.
    pub fn distance(&self) -> usize {
        self.distance
    }

    /// The words that are prefetched with the slot at word `at`, which is aligned as in a segment.
    pub fn fetched(&self, at: usize, shape: Shape) -> std::ops::Range<usize> {
        let first = (at + self.distance) / LINE * LINE;
        if self.distance == 0 { at..at } else { first..first + lines(shape, at % LINE == 0) * LINE }
    }
}

/// How many lines are prefetched with a slot.
#[inline(always)]
fn lines(shape: Shape, begins_line: bool) -> usize {
    match shape.stride {
        // Slots that share a line need one prefetch for each line. More instructions would cost
        // more than they gain here.
        ..LINE if !begins_line => 0,
        // Slots that straddle lines are a little longer than a line, so one prefetch for each slot
        // covers nearly all lines.
        stride => (stride / LINE).max(1),
    }
}

/// How many messages ahead the check is. Everything that is prefetched until the next check, to the
/// end of its line, lies before the slot that is checked.
fn reach(geometry: &Geometry) -> usize {
    MESSAGES + (DISTANCE + LINE * WORD).div_ceil(geometry.stride * WORD)
}

/// Checks the slot ahead, and returns the distance at which to prefetch.
// Out of line, and with a branch on the stamp, which the processor predicts. If the distance were
// computed from the stamp, every prefetch would wait for the slot that was checked.
#[cold]
#[inline(never)]
fn distance(words: &[AtomicU64], geometry: &Geometry, sequence: u64) -> usize {
    let last = sequence + reach(geometry) as u64;
    // Relaxed: only a hint follows from it.
    let stamp = Place::of(geometry, last).slot(words)[SLOT_STAMP].load(Ordering::Relaxed);
    if stamp == ready(last) { core::hint::black_box(DISTANCE / WORD) } else { 0 }
}
