//! How a producer waits for room: for the gating consumers that have not read what it would overwrite.

use std::fmt;
use std::time::{Duration, Instant};

use crate::layout::{EVICTED, FREE};
use crate::open::Shared;
use crate::ring::bell::Barrier;
use crate::ring::{self, Blocker, crew};
use crate::wait::{Access, Bell, Patience, Roused, Waiter};

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

// These get what they need by value, and no reference into the producer: so the compiler can keep the producer's state in
// registers from one message to the next, though they may be called in between.

/// As [`room`], however long it takes.
#[cold]
#[inline(never)]
pub(crate) fn room_at_last(shared: &Shared, waiter: &Waiter, next: u64, evict_after: Option<Duration>) -> u64 {
    match room(shared, waiter, next, evict_after, Patience::Endless) {
        Ok(limit) => limit,
        Err(full) => unreachable!("endless patience has ended: {full}"),
    }
}

/// Waits until message `next` may be written, and returns up to where it and its successors may.
///
/// Gating consumers that have died are evicted, and those that have kept the producer waiting for `evict_after`.
#[cold]
#[inline(never)]
pub(crate) fn room(shared: &Shared, waiter: &Waiter, next: u64, evict_after: Option<Duration>, patience: Patience) -> Result<u64, Full> {
    let table = shared.table();
    let geometry = &shared.header.geometry;
    let look = || ring::look(shared.words(), geometry, next);
    let full = |blocker: Blocker| Full { reader: ring::describe(table, blocker.row).name, lag: next.saturating_sub(blocker.cursor) };
    shared.expect_ours();
    let mut seen = look();
    let Err(first) = seen else { return seen.map_err(full) };
    // In the middle of a batch: who is waited for may sleep until it is told of the messages before.
    shared.wake_consumers(Barrier::Full);
    let end = patience.end();
    let bell = Bell { word: shared.room(), access: Access::Raise(Barrier::Full) };
    let mut blocker = first;
    let mut since = Instant::now();
    // When the consumer that holds us up is to be evicted.
    let due = |since: Instant| evict_after.and_then(|patience| since.checked_add(patience));
    let mut waiting = waiter.start(end.into_iter().chain(due(since)).min());
    loop {
        let roused = match patience {
            Patience::None => Roused::Timeout,
            _ => waiting.until(&[bell], || {
                seen = look();
                matches!(seen, Err(slowest) if (slowest.row, slowest.state) == (blocker.row, blocker.state))
            }),
        };
        let now = Instant::now();
        let is_due = due(since).is_some_and(|due| now >= due);
        let slowest = match seen {
            Ok(limit) => {
                ring::waited(table, blocker.row, (now - since).as_nanos() as u64);
                return Ok(limit);
            }
            Err(slowest) => slowest,
        };
        let gone = if (slowest.row, slowest.state) != (blocker.row, blocker.state) {
            false
        } else if !shared.is_reader_alive(blocker.row) {
            // Nobody rings for a death.
            ring::vacate(table, blocker.row, blocker.state, FREE);
            true
        } else if is_due && patience != Patience::None {
            ring::vacate(table, blocker.row, blocker.state, EVICTED);
            shared.wake_consumers(Barrier::Full);
            true
        } else {
            // It may stand before the claim of a producer that died.
            if geometry.producers > 1 && crew::resolve(shared.words(), geometry, blocker.cursor, |row| shared.is_member_alive(row)) {
                shared.wake_consumers(Barrier::Full);
            }
            if roused == Roused::Timeout {
                if patience != Patience::None {
                    ring::waited(table, blocker.row, (now - since).as_nanos() as u64);
                }
                return Err(full(slowest));
            }
            blocker = slowest;
            continue;
        };
        // Another holds us up now, or nobody.
        if patience != Patience::None {
            ring::waited(table, blocker.row, (now - since).as_nanos() as u64);
        }
        if gone {
            seen = look();
        }
        blocker = match seen {
            Ok(limit) => return Ok(limit),
            Err(slowest) => slowest,
        };
        since = now;
        waiting = waiter.start(end.into_iter().chain(due(since)).min());
    }
}
