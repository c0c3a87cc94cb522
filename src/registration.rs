//! Whether a consumer is registered, and a registered one's row in the reader table of a segment.

use std::process;

use crate::error::Error;
use crate::open::Shared;
use crate::registration::private::Hooks;
use crate::ring::{CloseReason, Joiner, Reader, Row, TryRecvError};
use crate::segment::{Role, Segment};
use crate::sync::AtomicU64;

/// Cursors are published at least every this many messages; more often would only make the line travel.
const LONGEST_STRIDE: u64 = 32;

/// Whether a consumer is registered: [`Free`] or [`Registered`]. Nobody else implements it.
///
/// It is a type, not a field of the consumer, so that a free one's receive has nothing to ask.
pub trait Registration: Hooks {}

impl Registration for Free {}
impl Registration for Registered {}

/// A consumer that registers nowhere and only loads.
#[derive(Debug)]
pub struct Free {
    pub(crate) _private: (),
}

/// A consumer with a row in the ring's reader table, which it leaves when it is dropped.
#[derive(Debug)]
pub struct Registered {
    /// The table, mapped for writing, on an open file of its own that holds the row's lock.
    table: Segment,
    row: Row,
    /// Cursor that the row has.
    told: u64,
    /// How far the cursor may be ahead of what the row has: a small part of the ring, so that a producer that waits sees room in time.
    stride: u64,
}

pub(crate) mod private {
    use super::*;

    /// What a consumer has to do beside receiving.
    pub trait Hooks {
        /// Whether the producer wants something; [`Hooks::obey`] does it.
        fn is_ordered(&self, reader: &Reader) -> bool;
        /// Does what the producer wants, and says what that meant.
        fn obey(&self, reader: &mut Reader) -> TryRecvError;
        /// Tells the table about progress, now and then.
        fn received(&mut self, reader: &Reader, words: &[AtomicU64]);
        /// Tells the table about all progress: before a pause, after a loss, after a seek.
        fn tell(&mut self, reader: &Reader, words: &[AtomicU64]);
        /// Whether the producer has given up on the consumer.
        fn is_evicted(&self) -> bool;
    }
}

impl Hooks for Free {
    #[inline(always)]
    fn is_ordered(&self, _: &Reader) -> bool {
        false
    }

    fn obey(&self, _: &mut Reader) -> TryRecvError {
        unreachable!("nobody knows of a free consumer")
    }

    #[inline(always)]
    fn received(&mut self, _: &Reader, _: &[AtomicU64]) {}

    #[inline(always)]
    fn tell(&mut self, _: &Reader, _: &[AtomicU64]) {}

    fn is_evicted(&self) -> bool {
        false
    }
}

impl Registered {
    /// Registers a consumer that would like to start at `start`, or at the head, and returns the sequence to start at.
    pub(crate) fn join(shared: &Shared, name: &str, gating: bool, start: Option<u64>) -> Result<(Self, u64), Error> {
        let geometry = shared.header.geometry;
        let table = shared.segment.part(&shared.name, geometry.table_word..geometry.slots_word)?;
        for index in 0..geometry.readers {
            if table.try_lock(Role::Reader(index)).map_err(|e| Error::io(&shared.name, "lock a row of the reader table", e))? {
                let joiner = Joiner { name, pid: process::id().into(), gating, start };
                let (row, first) = Row::join(shared.words(), table.words(), index, joiner);
                let stride = (geometry.slots as u64 / 8).clamp(1, LONGEST_STRIDE);
                return Ok((Self { table, row, told: first, stride }, first));
            }
        }
        Err(Error::TableFull { name: shared.name.clone(), readers: geometry.readers })
    }
}

impl Hooks for Registered {
    #[inline(always)]
    fn is_ordered(&self, reader: &Reader) -> bool {
        let table = self.table.words();
        self.row.is_evicted(table) || self.row.sync_to(table) > reader.cursor()
    }

    #[cold]
    #[inline(never)]
    fn obey(&self, reader: &mut Reader) -> TryRecvError {
        if self.is_evicted() {
            return TryRecvError::Closed(CloseReason::Evicted);
        }
        TryRecvError::Lagged(reader.forced_to(self.row.sync_to(self.table.words())))
    }

    #[inline(always)]
    fn received(&mut self, reader: &Reader, words: &[AtomicU64]) {
        // Wrapping: a seek may have gone back.
        if reader.cursor().wrapping_sub(self.told) >= self.stride {
            self.tell(reader, words);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell(&mut self, reader: &Reader, words: &[AtomicU64]) {
        if reader.cursor() == self.told {
            return;
        }
        let table = self.table.words();
        self.row.report(table, reader.received(), reader.lost(), reader.lag(words));
        self.row.advance(table, reader.cursor());
        self.told = reader.cursor();
    }

    fn is_evicted(&self) -> bool {
        self.row.is_evicted(self.table.words())
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // A forked child has a copy, and must not leave for its parent.
        if self.table.is_ours() {
            self.row.leave(self.table.words());
            self.table.unlock(Role::Reader(self.row.index()));
        }
    }
}
