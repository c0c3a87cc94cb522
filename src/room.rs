//! How a producer waits for room: for the gating consumers that have not read what it would overwrite.

use std::fmt;
use std::time::{Duration, Instant};

use crate::layout::{EVICTED, FREE};
use crate::open::Shared;
use crate::ring::{self, Blocker};
use crate::wait::{Wait, Woken, spin};

/// There is no room: a consumer that gates has not received the oldest message in the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// Name of the slowest consumer.
    pub reader: String,
    /// How many messages it has not received.
    pub lag: u64,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the ring is full: consumer {:?} is {} messages behind; wait, drop the message, or let it go with sync or evict_after",
            self.reader, self.lag
        )
    }
}

impl std::error::Error for Full {}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    None,
    For(Duration),
    Endless,
}

impl Patience {
    /// When it ends, if ever: a timeout beyond the clock's range never does.
    fn end(self) -> Option<Instant> {
        match self {
            Self::For(timeout) => Instant::now().checked_add(timeout),
            Self::None | Self::Endless => None,
        }
    }
}

// These get what they need by value, and no reference into the producer: so the compiler can keep the producer's state in
// registers from one message to the next, though they may be called in between.

/// As [`room`], however long it takes.
#[cold]
#[inline(never)]
pub(crate) fn room_at_last(shared: &Shared, next: u64, evict_after: Option<Duration>) -> u64 {
    match room(shared, next, evict_after, Patience::Endless) {
        Ok(limit) => limit,
        Err(full) => unreachable!("endless patience has ended: {full}"),
    }
}

/// Waits until message `next` may be written, and returns up to where it and its successors may.
///
/// Gating consumers that have died are evicted, and those that have kept the producer waiting for `evict_after`.
#[cold]
#[inline(never)]
pub(crate) fn room(shared: &Shared, next: u64, evict_after: Option<Duration>, patience: Patience) -> Result<u64, Full> {
    let table = shared.table();
    let look = || ring::look(shared.words(), &shared.header.geometry, next);
    let full = |blocker: Blocker| Full { reader: ring::describe(table, blocker.row).name, lag: next.saturating_sub(blocker.cursor) };
    let mut seen = look();
    let Err(blocker) = seen else { return seen.map_err(full) };
    let mut since = Instant::now();
    if patience != Patience::None {
        spin(|| {
            seen = look();
            seen.is_err()
        });
        if seen.is_ok() {
            ring::waited(table, blocker.row, since.elapsed().as_nanos() as u64);
        }
    }
    let mut wait = Wait::new(patience.end());
    loop {
        let blocker = match seen {
            Ok(limit) => return Ok(limit),
            Err(blocker) => blocker,
        };
        // Who is dead is not waited for at all.
        if !shared.is_reader_alive(blocker.row) {
            ring::vacate(table, blocker.row, blocker.state, FREE);
        } else if evict_after.is_some_and(|patience| since.elapsed() >= patience) {
            ring::vacate(table, blocker.row, blocker.state, EVICTED);
        } else if patience == Patience::None {
            return Err(full(blocker));
        }
        let woken = wait.until(|| {
            seen = look();
            matches!(seen, Err(slowest) if (slowest.row, slowest.state) == (blocker.row, blocker.state))
        });
        if woken != Woken::Check {
            let now = Instant::now();
            ring::waited(table, blocker.row, (now - since).as_nanos() as u64);
            since = now;
        }
        if let (Err(slowest), Woken::Timeout) = (seen, woken) {
            return Err(full(slowest));
        }
    }
}
