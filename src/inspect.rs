//! What tools see of a ring: its registered consumers.

use std::time::Duration;

use crate::layout::{EVICTED, FREE, GATING};
use crate::message::Message;
use crate::protocol;
use crate::ring::Ring;

impl<M: Message + ?Sized> Ring<M> {
    /// The registered consumers, in the order of their rows. What a row says changes while it is
    /// read; each field is from some moment of its own.
    pub fn consumers(&self) -> Vec<ConsumerInfo> {
        let head = self.head();
        let table = self.shared.table();
        let taken = (0..self.geometry().readers)
            .map(|row| (row, protocol::describe(table, row)))
            .filter(|(_, row)| row.state != FREE);
        let info = |(row, found): (usize, protocol::Description)| ConsumerInfo {
            row,
            name: found.name,
            pid: found.pid,
            is_gating: found.state == GATING,
            is_evicted: found.state == EVICTED,
            is_alive: self.shared.is_consumer_alive(row),
            cursor: found.cursor,
            lag: head.saturating_sub(found.cursor),
            longest_lag: found.longest_lag,
            sleeps: found.sleeps,
            received: found.received,
            lost: found.lost,
            waits: found.waits,
            waited: Duration::from_nanos(found.waited),
        };
        // The row of one that was evicted and has died says nothing any more.
        taken.map(info).filter(|reader| reader.is_alive || !reader.is_evicted).collect()
    }
}

/// What the reader table says about a registered consumer; from [`Ring::consumers`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Its row in the table.
    pub row: usize,
    /// Its name.
    pub name: String,
    /// Its process id, in its own PID namespace.
    pub pid: u64,
    /// Whether the producer waits for it.
    pub is_gating: bool,
    /// Whether the producer has given up on it.
    pub is_evicted: bool,
    /// Whether its kernel lock is held.
    pub is_alive: bool,
    /// Sequence of its next message, up to 32 messages ago.
    pub cursor: u64,
    /// Messages published but not received by it.
    pub lag: u64,
    /// The longest lag it has seen itself have; it looks once a lap.
    pub longest_lag: u64,
    /// How often it has slept, waiting for a message.
    pub sleeps: u64,
    /// Messages it has received.
    pub received: u64,
    /// Messages it has lost.
    pub lost: u64,
    /// How often the producer has waited for it.
    pub waits: u64,
    /// How long the producer has waited for it, all in all.
    pub waited: Duration,
}
