//! Backpressure: how a producer waits for space while gating consumers have not read the messages
//! that it would overwrite.

use std::fmt;
use std::time::{Duration, Instant};

use crate::layout::{EVICTED, FREE};
use crate::protocol::{self, Blocker, claim};
use crate::shared::Shared;
use crate::wait::{Access, Bell, Timeout, Waiter, WakeReason};

/// The ring has no space: a consumer that gates has not received the oldest message in the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// Name of the slowest consumer.
    pub consumer: String,
    /// Number of published messages that this consumer has not received.
    pub lag: u64,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the ring is full: consumer {:?} is {} messages behind; wait, drop the message, or release it with skip_to_newest or set_eviction_timeout",
            self.consumer, self.lag
        )
    }
}

impl std::error::Error for Full {}

// The functions below take their arguments by value, without a reference into the producer. So the
// compiler can keep the producer's state in registers from one message to the next, although a call
// may stand in between.

/// The limit up to which messages from `next` on may be written, if it is known without waiting.
/// This runs after a message, so it does not panic in a forked child: [`wait_for_space`] does, at
/// the limit.
#[cold]
#[inline(never)]
pub(crate) fn limit_early(shared: &Shared, next: u64) -> Option<u64> {
    if shared.is_inherited() {
        None
    } else {
        protocol::refresh_limit(shared.words(), &shared.header.geometry, next).ok()
    }
}

/// Waits until message `next` may be written, and returns the new limit.
///
/// Evicts gating consumers that have died, and those that have kept the producer waiting for
/// `eviction_timeout`.
#[cold]
#[inline(never)]
pub(crate) fn wait_for_space(
    shared: &Shared,
    waiter: &Waiter,
    next: u64,
    eviction_timeout: Option<Duration>,
    timeout: Timeout,
) -> Result<u64, Full> {
    let table = shared.table();
    let geometry = &shared.header.geometry;
    let look = || protocol::refresh_limit(shared.words(), geometry, next);
    shared.expect_ours();
    let mut seen = look();
    if seen.is_err() {
        // In the middle of a batch, the slowest consumer may be asleep and not know of the messages
        // published before.
        shared.wake_consumers();
    }
    let end = timeout.end();
    let bell = Bell { word: shared.room(), access: Access::Raise };
    // Each round waits for one consumer, for as long as it is the slowest.
    loop {
        let blocker = match seen {
            Ok(limit) => return Ok(limit),
            Err(slowest) => slowest,
        };
        let since = Instant::now();
        let due = eviction_timeout.and_then(|patience| since.checked_add(patience));
        let mut waiting = waiter.start(end.into_iter().chain(due).min());
        let outcome = loop {
            let roused = match timeout {
                Timeout::Zero => WakeReason::Timeout,
                _ => waiting.until(&[bell], || {
                    seen = look();
                    seen.is_err_and(|slowest| slowest.is_same(&blocker))
                }),
            };
            let slowest = match seen {
                Err(slowest) if slowest.is_same(&blocker) => slowest,
                _ => break Outcome::Free,
            };
            if !shared.is_consumer_alive(blocker.row) {
                break Outcome::Gone(FREE);
            }
            if timeout != Timeout::Zero && due.is_some_and(|due| Instant::now() >= due) {
                break Outcome::Gone(EVICTED);
            }
            // The consumer may be unable to pass the claim of a producer that died.
            if geometry.producers > 1
                && claim::resolve(shared.words(), geometry, slowest.cursor, |row| {
                    shared.is_shared_producer_alive(row)
                })
            {
                shared.wake_consumers();
            }
            if roused == WakeReason::Timeout {
                break Outcome::Timeout(slowest);
            }
        };
        if timeout != Timeout::Zero {
            protocol::waited(table, blocker.row, since.elapsed().as_nanos() as u64);
        }
        match outcome {
            Outcome::Free => continue,
            Outcome::Gone(state) => {
                protocol::vacate(table, blocker.row, blocker.state, state);
                if state == EVICTED {
                    shared.wake_consumers();
                }
            }
            Outcome::Timeout(slowest) => {
                if let Some(reader) = protocol::name_of(table, slowest.row, slowest.state) {
                    return Err(Full {
                        consumer: reader,
                        lag: next.saturating_sub(slowest.cursor),
                    });
                }
                // The consumer has left at this moment.
            }
        }
        seen = look();
    }
}

/// Result of waiting for one consumer.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    /// The producer no longer waits for this consumer.
    Free,
    /// The consumer has died or is to be evicted; the value is the new state of its row.
    Gone(u64),
    /// The consumer is still the slowest, and the timeout is over.
    Timeout(Blocker),
}
