//! Fetching ahead, for a consumer that is behind: what it will read is asked for while it reads
//! something else.
//!
//! A processor has as many lines under way as it has loads in its window, and the code between two
//! messages takes up most of that. Hints take one instruction a line. But a line that is asked for
//! before the producer has written it has to go back, and costs both sides; so they are only for
//! what is known to be there: now and then a consumer looks at a slot far ahead, and if that is
//! ready, so are all before it (among several producers, but for the few that are being written at
//! this moment).

use crate::layout::{Geometry, LINE, Place, SLOT_STAMP, Shape, WORD, ready};
use crate::sync::{AtomicU64, Ordering};
use crate::tuning::cpu::{begins_line, prefetch_for_reading};

/// How far ahead is fetched, in bytes of slots.
const DISTANCE: usize = 1 << 10;
/// How many messages are received between two looks.
const MESSAGES: usize = 64;
/// A look goes no further than this part of the ring.
const PART: usize = 4;

/// What a consumer fetches ahead. Nothing follows from it but speed.
#[derive(Debug)]
pub struct Prefetch {
    /// The next look comes with this sequence; [`NEVER`] if there are none.
    due: u64,
    /// From a slot that is read to one that is to be fetched, in words; 0 while that is not known
    /// to be ready.
    distance: usize,
}

/// No sequence is as large.
const NEVER: u64 = u64::MAX;

impl Prefetch {
    /// Never anything.
    pub fn never() -> Self {
        Self { due: NEVER, distance: 0 }
    }

    /// What pays for slots like these: not for large messages, each of which is many loads in a
    /// row, and not in rings so small that a consumer can hardly be behind.
    pub fn of(geometry: &Geometry) -> Self {
        let looks = geometry.shape().mark == SLOT_STAMP && reach(geometry) <= geometry.slots / PART;
        if looks { Self { due: 0, distance: 0 } } else { Self::never() }
    }

    /// Goes to `sequence`, if that may be backwards.
    pub fn go_to(&mut self, sequence: u64) {
        if self.due != NEVER {
            *self = Self { due: sequence, distance: 0 };
        }
    }

    /// Before message `sequence` is read: looks ahead, if it is time.
    #[inline(always)]
    pub fn refresh(&mut self, words: &[AtomicU64], geometry: &Geometry, sequence: u64) {
        if sequence >= self.due {
            self.distance = distance(words, geometry, sequence);
            self.due = sequence + MESSAGES as u64;
        }
    }

    /// While the message in `slot` is received: fetches for a later one.
    #[inline(always)]
    pub fn hint(&self, slot: &[AtomicU64], shape: Shape) {
        if shape.mark == SLOT_STAMP && self.distance > 0 {
            prefetch_for_reading(slot, self.distance, lines(shape, begins_line(slot)));
        }
    }
}

#[cfg(all(test, not(loom)))]
impl Prefetch {
    /// How far ahead is fetched at present, in words.
    pub fn distance(&self) -> usize {
        self.distance
    }

    /// Which words are fetched with the slot at word `at`, which is aligned as in a segment.
    pub fn fetched(&self, at: usize, shape: Shape) -> std::ops::Range<usize> {
        let first = (at + self.distance) / LINE * LINE;
        if self.distance == 0 { at..at } else { first..first + lines(shape, at % LINE == 0) * LINE }
    }
}

/// How many lines are fetched with a slot.
#[inline(always)]
fn lines(shape: Shape, begins_line: bool) -> usize {
    match shape.stride {
        // Once a line is enough, and no more instructions: they count here.
        ..LINE if !begins_line => 0,
        // Slots that straddle lines are a little longer than one, and one for each comes to nearly
        // all.
        stride => (stride / LINE).max(1),
    }
}

/// How many messages a look goes ahead: what is fetched until the next look, to the end of its
/// line, lies before that.
fn reach(geometry: &Geometry) -> usize {
    MESSAGES + (DISTANCE + LINE * WORD).div_ceil(geometry.stride * WORD)
}

/// The look.
// Out of the way, and by a branch on what it finds, which the processor guesses: by a value, all
// that is fetched would wait for the slot that was looked at.
#[cold]
#[inline(never)]
fn distance(words: &[AtomicU64], geometry: &Geometry, sequence: u64) -> usize {
    let last = sequence + reach(geometry) as u64;
    // Relaxed: nothing but a hint follows from it.
    let stamp = Place::of(geometry, last).slot(words)[SLOT_STAMP].load(Ordering::Relaxed);
    if stamp == ready(last) { core::hint::black_box(DISTANCE / WORD) } else { 0 }
}
