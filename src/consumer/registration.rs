//! Whether a consumer is registered, and a registered one's row in the reader table of a segment.

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

/// Cursors are published at least every this many messages; more often would only make the line
/// travel.
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
    /// On the heap, so that the compiler sees that what is done to it leaves the consumer's own
    /// state alone, and keeps that in registers.
    seat: Box<TableHandle>,
    row: Row,
    /// Cursor that the row has.
    told: u64,
    /// How far the cursor may be ahead of what the row has: a small part of the ring, so that a
    /// producer that waits sees room in time.
    stride: u64,
}

/// What a registered consumer has beside its row.
#[derive(Debug)]
struct TableHandle {
    /// The table, mapped for writing, on an open file of its own that holds the row's lock.
    table: Segment,
    slots: u64,
    gating: bool,
    resumable: bool,
    /// Where its checkpoints are kept too.
    file: Option<checkpoint::File>,
}

/// How a consumer wants to be registered.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegisterOptions {
    pub(crate) name: String,
    pub(crate) gating: bool,
    pub(crate) resume: bool,
    pub(crate) checkpoint_file: Option<PathBuf>,
}

pub(crate) mod private {
    use super::*;

    /// What a consumer has to do beside receiving.
    pub trait Hooks {
        /// Whether the producer wants something; [`Hooks::apply_command`] does it.
        fn has_command(&self) -> bool;
        /// Does what the producer wants, and says what that meant, if anything.
        fn apply_command(&mut self, reader: &mut Reader) -> Result<(), TryRecvError>;
        /// Tells the table about progress, now and then: a message has been received, and all
        /// before it have been dealt with.
        fn received(&mut self, reader: &Reader, words: &[AtomicU64]);
        /// Messages of a batch after which the table is to be told, so that a producer that waits
        /// sees room in time; no bound where that has no use.
        fn pace(&self) -> usize;
        /// Tells the table about all progress: before a pause, after a loss, after a seek. What
        /// comes before `done` has been dealt with.
        fn tell(&mut self, reader: &Reader, words: &[AtomicU64], done: u64);
        /// Whether the producer has given up on the consumer.
        fn is_evicted(&self) -> bool;
        /// The reader table, if the consumer has it mapped for writing on its own account.
        fn table(&self) -> Option<&[AtomicU64]>;
        /// Tells the table how often the consumer has slept.
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
    /// Registers the consumer whose reader this is, and puts that where it starts: at `start`, if
    /// there is nothing to resume.
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
        // Bounds what the memory or the file says.
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

    /// Keeps where a successor is to go on: at `done`, before which all that has been received has
    /// been dealt with.
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

/// Takes a row's lock, and says where the row's last owner wanted a successor of its name to go on.
///
/// That of a consumer of the same name that wants to be resumed, if there is one; else one that
/// nobody wants to be resumed from; else any.
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
    // The one that has come furthest, if several of the name have been.
    ours.sort_by_key(|row| std::cmp::Reverse(protocol::checkpoint(words, *row, name)));
    for row in ours.into_iter().chain(rest).chain(kept) {
        if lock(&row)? {
            hit(Step::JoinLock);
            // Behind the lock, as its owner may have lived a moment ago.
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
        // Wrapping: a seek may have gone back.
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
        // What a batch begins with is what a successor begins with: of one that can be resumed, it
        // must not be overwritten before all of the batch is dealt with.
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

/// Gets its numbers by value, and no reference into the consumer: see [`Registered::seat`].
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
    // Once a lap: the head's line is the producer's, who writes it with every message.
    if cursor / seat.slots != told / seat.slots {
        row.report_lag(table, protocol::head(words).saturating_sub(cursor));
    }
}

/// Wakes a producer that sleeps until there is room, behind what has made some.
fn ring_for_room(table: &[AtomicU64]) {
    wake_sleepers(&table[ROOM], Barrier::Light);
}

impl Drop for Registered {
    fn drop(&mut self) {
        let table = &self.seat.table;
        // A forked child has a copy, and must not leave for its parent.
        if table.is_ours() {
            self.row.leave(table.words());
            ring_for_room(table.words());
            table.unlock(Role::Consumer(self.row.index()));
            hit(Step::LeaveLock);
        }
    }
}
