//! What keeps a producer from overwriting what gating consumers have not read.

use crate::failpoint::{Step, hit};
use crate::layout::{FREE, GATING, Geometry, ROSTER, ROW_CURSOR, ROW_SKIP_TO, ROW_STATE};
use crate::protocol::reader_table::row_words;
use crate::sync::{AtomicU64, Ordering, fence};

/// The consumer that a producer has to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocker {
    /// Index of its row.
    pub row: usize,
    /// Its state word, to evict it by.
    pub state: u64,
    /// Sequence of the next message it will read.
    pub cursor: u64,
}

impl Blocker {
    /// Whether it is the same consumer, wherever that is by now.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.row, self.state) == (other.row, other.state)
    }
}

/// Looks at the reader table before message `next`: the sequence that bounds what may be written
/// without another look, or the slowest consumer, if that is to be waited for.
///
/// The bound is never further than one lap ahead of `next`, so that a consumer that joins is seen
/// within a lap, and until then loses nothing that is newer than the head at its joining.
pub fn refresh_limit(table: &[AtomicU64], geometry: &Geometry, next: u64) -> Result<u64, Blocker> {
    let slots = geometry.slots as u64;
    // SeqCst: pairs with the fence in `Row::join`, see there. It orders the heads published so far
    // before the loads below.
    fence(Ordering::SeqCst);
    // Acquire: pairs with `enlist`: rows that the roster counts are seen taken.
    let roster = table[ROSTER].load(Ordering::Acquire);
    let mut slowest: Option<Blocker> = None;
    let mut taken = 0;
    // Bounded, whatever corrupt memory says.
    for index in 0..geometry.readers.min(roster as usize & 0xFFFF) {
        let row = row_words(table, index);
        // Acquire: pairs with the release in `vacate`. What a consumer that has left received, it
        // has copied.
        let state = row[ROW_STATE].load(Ordering::Acquire);
        if state & 0xFF != FREE {
            taken = index as u64 + 1;
        }
        if state & 0xFF != GATING {
            continue;
        }
        // Acquire: pairs with the release stores of the cursor. What the consumer has read, it has
        // copied.
        let cursor =
            row[ROW_CURSOR].load(Ordering::Acquire).max(row[ROW_SKIP_TO].load(Ordering::Relaxed));
        if slowest.is_none_or(|slowest| cursor < slowest.cursor) {
            slowest = Some(Blocker { row: index, state, cursor });
        }
    }
    if taken < roster & 0xFFFF {
        // Spare the looks to come the rows behind the last one taken, unless somebody is joining
        // there.
        let _ = table[ROSTER].compare_exchange(
            roster,
            roster & !0xFFFF | taken,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        hit(Step::LookRoster);
    }
    let oldest_unread = slowest.map_or(next, |slowest| slowest.cursor.min(next));
    // At most `next` and a lap.
    let limit = oldest_unread.saturating_add(slots);
    match slowest {
        Some(slowest) if next >= limit => Err(slowest),
        _ => Ok(limit),
    }
}
