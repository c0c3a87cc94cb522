//! Inspection of a ring: its registered consumers.

use std::time::Duration;

use crate::layout::{EVICTED, FREE, GATING};
use crate::message::Message;
use crate::protocol;
use crate::ring::Ring;

impl<M: Message + ?Sized> Ring<M> {
    /// The registered consumers, in the order of their rows. Rows may change while they are read,
    /// so each field may be from a different moment.
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
        // A consumer that was evicted and has died is of no interest.
        taken.map(info).filter(|reader| reader.is_alive || !reader.is_evicted).collect()
    }
}

/// State of a registered consumer, from the reader table; made by [`Ring::consumers`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Its row in the reader table, from 0; see [`Producer::evict`](crate::Producer::evict).
    pub row: usize,
    /// Its name: at most the first 80 bytes.
    pub name: String,
    /// Its process id, in its own PID namespace.
    pub pid: u64,
    /// Whether the producer waits for it.
    pub is_gating: bool,
    /// Whether the producer has evicted it.
    pub is_evicted: bool,
    /// Whether it holds the kernel lock of its row.
    pub is_alive: bool,
    /// Sequence of its next message. It may be up to 32 messages old.
    pub cursor: u64,
    /// Number of published messages that it has not received.
    pub lag: u64,
    /// Largest lag that it has measured, in messages. It measures once a lap.
    pub longest_lag: u64,
    /// Number of times that it slept while it waited for a message.
    pub sleeps: u64,
    /// Number of messages that it has received.
    pub received: u64,
    /// Number of messages that it has lost.
    pub lost: u64,
    /// Number of times that the producer has waited for it.
    pub waits: u64,
    /// Total time that the producer has waited for it.
    pub waited: Duration,
}
