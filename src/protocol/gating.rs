//! The limit that keeps a producer from overwriting messages that gating consumers have not read.

use crate::failpoint::{Step, hit};
use crate::layout::{FREE, GATING, Geometry, ROSTER, ROW_CURSOR, ROW_SKIP_TO, ROW_STATE};
use crate::protocol::reader_table::row_words;
use crate::sync::{AtomicU64, Ordering, fence};

/// The consumer that a producer has to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocker {
    /// Index of its row.
    pub row: usize,
    /// Its state word, by which it can be evicted.
    pub state: u64,
    /// Sequence of the next message that it will read.
    pub cursor: u64,
}

impl Blocker {
    /// Whether both are the same consumer, whatever their cursors are.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.row, self.state) == (other.row, other.state)
    }
}

/// Reads the reader table before message `next` is written. Returns the new limit: the producer may
/// write all messages before it without reading the table again.
///
/// The limit is never more than one lap after `next`. So a producer sees a consumer that joins
/// within a lap, and until then that consumer loses nothing that is newer than the head at its
/// joining.
///
/// # Errors
/// The slowest gating consumer, if message `next` would overwrite a message that this consumer has
/// not read.
pub fn refresh_limit(table: &[AtomicU64], geometry: &Geometry, next: u64) -> Result<u64, Blocker> {
    let slots = geometry.slots as u64;
    // SeqCst: pairs with the fence in `Row::join`, which explains both. It orders the heads
    // published so far before the loads below.
    fence(Ordering::SeqCst);
    // Acquire: pairs with the release in `enlist`. Every row that the roster counts is seen taken.
    let roster = table[ROSTER].load(Ordering::Acquire);
    let mut slowest: Option<Blocker> = None;
    let mut taken = 0;
    // The number of rows bounds the loop, even if the roster is corrupt.
    for index in 0..geometry.readers.min(roster as usize & 0xFFFF) {
        let row = row_words(table, index);
        // Acquire: pairs with the release in `vacate`. A consumer that has left has finished its
        // copies of everything that it received.
        let state = row[ROW_STATE].load(Ordering::Acquire);
        if state & 0xFF != FREE {
            taken = index as u64 + 1;
        }
        if state & 0xFF != GATING {
            continue;
        }
        // Acquire: pairs with the release stores of the cursor. The consumer has finished its
        // copies of all messages before the cursor.
        let cursor =
            row[ROW_CURSOR].load(Ordering::Acquire).max(row[ROW_SKIP_TO].load(Ordering::Relaxed));
        if slowest.is_none_or(|slowest| cursor < slowest.cursor) {
            slowest = Some(Blocker { row: index, state, cursor });
        }
    }
    if taken < roster & 0xFFFF {
        // Later refreshes need not read the rows after the last one that is taken. The exchange
        // fails if a consumer has joined meanwhile, because each join changes the roster.
        let _ = table[ROSTER].compare_exchange(
            roster,
            roster & !0xFFFF | taken,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        hit(Step::LookRoster);
    }
    let oldest_unread = slowest.map_or(next, |slowest| slowest.cursor.min(next));
    // At most one lap after `next`.
    let limit = oldest_unread.saturating_add(slots);
    match slowest {
        Some(slowest) if next >= limit => Err(slowest),
        _ => Ok(limit),
    }
}
