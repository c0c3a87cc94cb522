//! Whether a consumer is registered, and the row of a registered consumer in the reader table.

mod checkpoint;

use std::path::PathBuf;
use std::process;

use crate::consumer::registration::private::Hooks;
use crate::error::Error;
use crate::failpoint::{Step, hit};
use crate::layout::{Geometry, ROOM};
use crate::protocol::wake::Barrier;
use crate::protocol::{
    self, CloseReason, JoinRequest, Joined, Order, Reader, Row, Start, TryRecvError,
};
use crate::segment::{Role, Segment};
use crate::shared::Shared;
use crate::sync::AtomicU64;
use crate::wait::wake_sleepers;

/// Longest distance in messages between two published cursors. A shorter distance would move the
/// cache line of the row more often without use.
const LONGEST_STRIDE: u64 = 32;

/// Whether a consumer is registered: [`Free`] or [`Registered`]. Sealed: these are all
/// implementations.
///
/// This is a type and not a field of the consumer, so that the receive of a free consumer has no
/// branch for it.
pub trait Registration: Hooks {}

impl Registration for Free {}
impl Registration for Registered {}

/// The kind of a consumer that has no row in the reader table.
#[derive(Debug)]
pub struct Free {
    pub(crate) _private: (),
}

/// The kind of a consumer that has a row in the ring's reader table. Dropping the consumer frees
/// the row.
#[derive(Debug)]
pub struct Registered {
    /// On the heap, so that the compiler sees that writes to the table do not change the consumer's
    /// own state, and keeps that state in registers.
    seat: Box<TableHandle>,
    row: Row,
    /// The cursor that the row has.
    told: u64,
    /// How many messages the cursor may be ahead of the one in the row: a small part of the ring,
    /// so that a waiting producer sees space in time.
    stride: u64,
}

/// The state of a registered consumer besides its row.
#[derive(Debug)]
struct TableHandle {
    /// The table, mapped for writing. Its separate open file holds the lock of the row.
    table: Segment,
    slots: u64,
    gating: bool,
    resumable: bool,
    /// The file that also keeps the checkpoints.
    file: Option<checkpoint::File>,
}

/// How to register a consumer.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegisterOptions {
    pub(crate) name: String,
    pub(crate) gating: bool,
    pub(crate) resume: bool,
    pub(crate) checkpoint_file: Option<PathBuf>,
}

pub(crate) mod private {
    use super::*;

    /// The work of a consumer that depends on its kind.
    pub trait Hooks {
        /// Whether the producer has given a command; [`Hooks::apply_command`] applies it.
        fn has_command(&self) -> bool;
        /// Applies a command of the producer.
        ///
        /// # Errors
        /// The loss or the eviction that the command causes.
        fn apply_command(&mut self, reader: &mut Reader) -> Result<(), TryRecvError>;
        /// Publishes progress from time to time. A message has been received, and all messages
        /// before it have been processed.
        fn received(&mut self, reader: &Reader, words: &[AtomicU64]);
        /// Number of messages of a batch after which progress must be published, so that a waiting
        /// producer sees space in time. `usize::MAX` if no producer waits for it.
        fn pace(&self) -> usize;
        /// Publishes all progress: before a wait, after a loss, after a seek. All messages before
        /// `done` have been processed.
        fn tell(&mut self, reader: &Reader, words: &[AtomicU64], done: u64);
        /// Whether the producer has evicted the consumer.
        fn is_evicted(&self) -> bool;
        /// The reader table, if the consumer has a writable mapping of its own.
        fn table(&self) -> Option<&[AtomicU64]>;
        /// Publishes how often the consumer has slept.
        fn slept(&self, sleeps: u64);
    }
}

impl Hooks for Free {
    #[inline(always)]
    fn has_command(&self) -> bool {
        false
    }

    fn apply_command(&mut self, _: &mut Reader) -> Result<(), TryRecvError> {
        Ok(())
    }

    #[inline(always)]
    fn received(&mut self, _: &Reader, _: &[AtomicU64]) {}

    #[inline(always)]
    fn pace(&self) -> usize {
        usize::MAX
    }

    #[inline(always)]
    fn tell(&mut self, _: &Reader, _: &[AtomicU64], _: u64) {}

    #[inline(always)]
    fn is_evicted(&self) -> bool {
        false
    }

    fn table(&self) -> Option<&[AtomicU64]> {
        None
    }

    fn slept(&self, _: u64) {}
}

impl Registered {
    /// Registers the consumer with this `reader`, and moves the reader to the start: the checkpoint
    /// to resume from, if there is one, else `start`.
    pub(crate) fn join(
        shared: &Shared,
        wishes: RegisterOptions,
        start: Start,
        reader: &mut Reader,
    ) -> Result<Self, Error> {
        if !shared.is_ours() {
            return Err(Error::Forked { name: shared.name.clone() });
        }
        let geometry = shared.header.geometry;
        let table =
            shared.segment.part(&shared.name, geometry.table_word..geometry.slots_word, false)?;
        let file =
            wishes.checkpoint_file.map(|path| checkpoint::File::new(path, shared.header.instance));
        let (row, checkpoint) = take_row(shared, &table, &geometry, &wishes.name, wishes.resume)?;
        let resumed = match (&file, checkpoint) {
            (Some(file), None) if wishes.resume => {
                file.read().map_err(|e| Error::io(&shared.name, "read the checkpoint file", e))?
            }
            (_, resumed) => resumed,
        };
        let start = resumed.map_or(start, Start::Sequence);
        // The seek bounds a position from shared memory or from the file.
        reader.seek(shared.words(), start);
        let start = (start != Start::Next).then(|| reader.cursor());
        let joiner = JoinRequest {
            name: &wishes.name,
            pid: process::id().into(),
            gating: wishes.gating,
            start,
            checkpoint,
        };
        let Joined { row, first, head } = Row::join(shared.words(), table.words(), row, joiner);
        reader.seek(shared.words(), Start::Sequence(first));
        if wishes.gating {
            reader.protect(head);
        }
        let seat = TableHandle {
            table,
            slots: geometry.slots as u64,
            gating: wishes.gating,
            resumable: wishes.resume,
            file,
        };
        if wishes.resume && checkpoint.is_none() {
            row.checkpoint(seat.table.words(), first);
        }
        let stride = (geometry.slots as u64 / 8).clamp(1, LONGEST_STRIDE);
        Ok(Self { seat: Box::new(seat), row, told: first, stride })
    }

    /// Records `done` as the position where a successor starts: all messages before it have been
    /// processed.
    pub(crate) fn checkpoint(
        &mut self,
        reader: &Reader,
        words: &[AtomicU64],
        done: u64,
    ) -> std::io::Result<()> {
        self.tell(reader, words, done);
        self.row.checkpoint(self.seat.table.words(), done);
        self.seat.file.as_ref().map_or(Ok(()), |file| file.write(done))
    }
}

/// Locks a row, and returns its number and the checkpoint to resume from, if any.
///
/// The first choice is a row with a checkpoint of the same name, if the consumer wants to resume;
/// the second is a row that keeps no checkpoint; the last is any row.
fn take_row(
    shared: &Shared,
    table: &Segment,
    geometry: &Geometry,
    name: &str,
    resume: bool,
) -> Result<(usize, Option<u64>), Error> {
    let lock = |row: &usize| {
        table
            .try_lock(Role::Consumer(*row))
            .map_err(|e| Error::io(&shared.name, "lock a row of the reader table", e))
    };
    let words = table.words();
    let rows = 0..geometry.readers;
    let (kept, rest): (Vec<_>, Vec<_>) = rows.partition(|row| protocol::is_kept(words, *row));
    let (mut ours, kept): (Vec<_>, Vec<_>) = kept
        .into_iter()
        .partition(|row| resume && protocol::checkpoint(words, *row, name).is_some());
    // If there are several of the same name, the furthest checkpoint comes first.
    ours.sort_by_key(|row| std::cmp::Reverse(protocol::checkpoint(words, *row, name)));
    for row in ours.into_iter().chain(rest).chain(kept) {
        if lock(&row)? {
            hit(Step::JoinLock);
            // The checkpoint is read again after the lock, because the row's owner may have been
            // alive until then.
            return Ok((row, protocol::checkpoint(words, row, name).filter(|_| resume)));
        }
    }
    Err(Error::TableFull { name: shared.name.clone(), readers: geometry.readers })
}

impl Hooks for Registered {
    #[inline(always)]
    fn has_command(&self) -> bool {
        self.row.has_command(self.seat.table.words())
    }

    #[cold]
    #[inline(never)]
    fn apply_command(&mut self, reader: &mut Reader) -> Result<(), TryRecvError> {
        match self.row.order(self.seat.table.words()) {
            Order::Evicted => Err(TryRecvError::Closed(CloseReason::Evicted)),
            Order::Sync(sequence) => match reader.skip_to(sequence) {
                0 => Ok(()),
                lost => Err(TryRecvError::Lagged(lost)),
            },
            Order::Nothing => Ok(()),
        }
    }

    #[inline(always)]
    fn received(&mut self, reader: &Reader, words: &[AtomicU64]) {
        let cursor = reader.cursor();
        // The subtraction wraps if a seek went back.
        if cursor.wrapping_sub(self.told) >= self.stride {
            tell(
                &self.seat,
                self.row,
                words,
                [self.told, cursor, cursor - 1, reader.received(), reader.lost()],
            );
            self.told = cursor;
        }
    }

    #[inline(always)]
    fn pace(&self) -> usize {
        // A batch is processed when the call for it ends, and a successor restarts at the first
        // message of its last batch. So a resumable consumer keeps the whole batch from being
        // overwritten until then.
        if self.seat.gating && !self.seat.resumable { self.stride as usize } else { usize::MAX }
    }

    #[inline]
    fn tell(&mut self, reader: &Reader, words: &[AtomicU64], done: u64) {
        let cursor = reader.cursor();
        if cursor != self.told || self.seat.resumable {
            tell(
                &self.seat,
                self.row,
                words,
                [self.told, cursor, done, reader.received(), reader.lost()],
            );
            self.told = cursor;
        }
    }

    #[inline]
    fn is_evicted(&self) -> bool {
        self.row.is_evicted(self.seat.table.words())
    }

    fn table(&self) -> Option<&[AtomicU64]> {
        Some(self.seat.table.words())
    }

    fn slept(&self, sleeps: u64) {
        self.row.slept(self.seat.table.words(), sleeps);
    }
}

/// Takes numbers by value and no reference into the consumer, for the same reason as
/// [`Registered::seat`].
#[cold]
#[inline(never)]
fn tell(
    seat: &TableHandle,
    row: Row,
    words: &[AtomicU64],
    [told, cursor, done, received, lost]: [u64; 5],
) {
    let table = seat.table.words();
    row.report(table, received, lost);
    if seat.resumable {
        row.checkpoint(table, done);
    }
    row.advance(table, cursor);
    if seat.gating {
        ring_for_room(table);
    }
    // Once a lap only: the producer writes the cache line of the head with every message.
    if cursor / seat.slots != told / seat.slots {
        row.report_lag(table, protocol::head(words).saturating_sub(cursor));
    }
}

/// Wakes a producer that sleeps until there is space. Call this after the store that frees space.
fn ring_for_room(table: &[AtomicU64]) {
    wake_sleepers(&table[ROOM], Barrier::Light);
}

impl Drop for Registered {
    fn drop(&mut self) {
        let table = &self.seat.table;
        // A forked child has a copy and must not free the parent's row.
        if table.is_ours() {
            self.row.leave(table.words());
            ring_for_room(table.words());
            table.unlock(Role::Consumer(self.row.index()));
            hit(Step::LeaveLock);
        }
    }
}
