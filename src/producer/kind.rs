//! Whether a producer is the only one of its ring, or one of several.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_utils::{Backoff, CachePadded};

use crate::error::Error;
use crate::failpoint::{Step, hit};
use crate::layout::{PRODUCER_PID, ROW_PRODUCER_PID, Shape};
use crate::producer::kind::private::Write;
use crate::protocol::claim::{MultiWriter, Surroundings};
use crate::protocol::{self, Writer};
use crate::segment::{Role, Segment};
use crate::shared::Shared;
use crate::sync::{AtomicU64, Ordering};

/// How long joining or closing may take another producer of the ring before it is given up on.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether it is done, or whether a living producer a lap behind has
/// finished its message.
const POLL: Duration = Duration::from_micros(50);

/// Whether a producer is alone: [`Single`] or [`Multi`]. Nobody else implements it.
pub trait ProducerKind: Write {}

impl ProducerKind for Single {}
impl ProducerKind for Multi {}

/// The only producer of its ring.
#[derive(Debug)]
pub struct Single {
    pub(crate) writer: CachePadded<Writer>,
    shared: Arc<Shared>,
}

/// One of several producers of a ring, whose messages have one order for all consumers.
#[derive(Debug)]
pub struct Multi {
    member: MultiWriter,
    desk: Box<ProducerLock>,
}

/// What one of several producers has beside its protocol state.
#[derive(Debug)]
struct ProducerLock {
    /// An open file of its own, which holds the lock of its row.
    file: Segment,
    row: usize,
}

pub(crate) mod private {
    use super::*;

    /// What a producer does that depends on its standing.
    pub trait Write {
        /// Publishes a message that `fill` writes, in what `room` allows, and calls `wake` behind
        /// it; returns its sequence. The `mark` is that word of each slot.
        ///
        /// # Errors
        /// Those of `room` and `fill`.
        fn publish<E>(
            &mut self,
            words: &[AtomicU64],
            mark: usize,
            room: impl FnMut(u64) -> Result<u64, E>,
            fill: impl FnOnce(&[AtomicU64]) -> Result<(), E>,
            wake: impl FnOnce(),
        ) -> Result<u64, E>;
        /// Behind a message of so many bytes, does what is due; see [`Writer::after_publish`].
        fn after_publish(
            &mut self,
            words: &[AtomicU64],
            shape: Shape,
            payload_bytes: usize,
            look: impl FnOnce(u64) -> Option<u64>,
        );
        /// Sequence of the next message, if nobody else is faster.
        fn next(&self, words: &[AtomicU64]) -> u64;
        /// Says that no message will follow, if that is so.
        fn close(&mut self, words: &[AtomicU64]);
        /// Stops to pass for alive.
        fn release(&mut self);
    }
}

impl Single {
    pub(crate) fn new(shared: Arc<Shared>, writer: Writer) -> Self {
        Self { writer: CachePadded::new(writer), shared }
    }
}

impl Write for Single {
    #[inline(always)]
    fn publish<E>(
        &mut self,
        words: &[AtomicU64],
        mark: usize,
        room: impl FnMut(u64) -> Result<u64, E>,
        fill: impl FnOnce(&[AtomicU64]) -> Result<(), E>,
        wake: impl FnOnce(),
    ) -> Result<u64, E> {
        self.writer.publish(words, mark, room, fill, wake)
    }

    #[inline(always)]
    fn after_publish(
        &mut self,
        words: &[AtomicU64],
        shape: Shape,
        payload_bytes: usize,
        look: impl FnOnce(u64) -> Option<u64>,
    ) {
        self.writer.after_publish(words, shape, payload_bytes, look);
    }

    fn next(&self, _: &[AtomicU64]) -> u64 {
        self.writer.next()
    }

    fn close(&mut self, words: &[AtomicU64]) {
        self.writer.close(words);
    }

    fn release(&mut self) {
        self.shared.release_producer();
    }
}

impl Multi {
    /// Joins the producers of a ring.
    pub(crate) fn join(shared: &Shared) -> Result<Self, Error> {
        let geometry = shared.header.geometry;
        let words = shared.words();
        let io = |doing: &'static str| move |error| Error::io(&shared.name, doing, error);
        let file =
            shared.segment.part(&shared.name, geometry.table_word..geometry.slots_word, false)?;
        let mut desk = ProducerLock { file, row: usize::MAX };
        if !desk.lock().map_err(io("lock the segment"))? {
            return Err(Error::InUse {
                name: shared.name.clone(),
                producer_pid: words[PRODUCER_PID].load(Ordering::Relaxed),
            });
        }
        hit(Step::ResumeLock);
        // From here on the lock goes with the file, if we fail.
        if shared.is_superseded() {
            return Err(Error::Superseded { name: shared.name.clone() });
        }
        for row in 0..geometry.producers {
            if desk.file.try_lock(Role::SharedProducer(row)).map_err(io("lock a producer's row"))? {
                desk.row = row;
                break;
            }
        }
        if desk.row == usize::MAX {
            return Err(Error::TooManyProducers {
                name: shared.name.clone(),
                producers: geometry.producers,
            });
        }
        let pid = u64::from(std::process::id());
        words[PRODUCER_PID].store(pid, Ordering::Relaxed);
        protocol::table(words, &geometry)[geometry.producer_row(desk.row) + ROW_PRODUCER_PID]
            .store(pid, Ordering::Relaxed);
        hit(Step::ResumePid);
        let member = MultiWriter::join(words, geometry, desk.row, |row| desk.is_alive(row));
        desk.file.unlock(Role::Producer);
        Ok(Self { member, desk: Box::new(desk) })
    }
}

impl ProducerLock {
    /// Takes the lock that all hold who join or close; returns whether it could be had. Who has it
    /// is quick, or dead and without the lock.
    fn lock(&self) -> io::Result<bool> {
        let patience = Instant::now() + PATIENCE;
        loop {
            match self.file.try_lock(Role::Producer) {
                Ok(false) if Instant::now() < patience => thread::sleep(POLL),
                taken => return taken,
            }
        }
    }

    /// Whether the producer that has row `row` lives.
    fn is_alive(&self, row: usize) -> bool {
        row == self.row || self.file.is_locked_elsewhere(Role::SharedProducer(row)).unwrap_or(true)
    }
}

impl Write for Multi {
    #[inline]
    fn publish<E>(
        &mut self,
        words: &[AtomicU64],
        mark: usize,
        room: impl FnMut(u64) -> Result<u64, E>,
        fill: impl FnOnce(&[AtomicU64]) -> Result<(), E>,
        wake: impl FnOnce(),
    ) -> Result<u64, E> {
        let mut around = Around { room, desk: &self.desk, backoff: Backoff::new() };
        self.member.publish(words, mark, &mut around, |body, _| fill(body), wake)
    }

    /// Nothing: what a message of several producers waits for is the claim, whose line is fought
    /// over.
    fn after_publish(
        &mut self,
        _: &[AtomicU64],
        _: Shape,
        _: usize,
        _: impl FnOnce(u64) -> Option<u64>,
    ) {
    }

    fn next(&self, words: &[AtomicU64]) -> u64 {
        protocol::head(words)
    }

    fn close(&mut self, words: &[AtomicU64]) {
        if self.desk.lock().unwrap_or(false) {
            self.member.close(words, |row| self.desk.is_alive(row));
        }
    }

    fn release(&mut self) {
        // In this order: who waits for the second lock, to be the last, must find the first one
        // free.
        self.desk.file.unlock(Role::SharedProducer(self.desk.row));
        hit(Step::CloseLock);
        self.desk.file.unlock(Role::Producer);
    }
}

/// What one of several producers has around it while it publishes.
struct Around<'a, R> {
    room: R,
    desk: &'a ProducerLock,
    backoff: Backoff,
}

impl<E, R: FnMut(u64) -> Result<u64, E>> Surroundings<E> for Around<'_, R> {
    #[inline]
    fn room(&mut self, next: u64) -> Result<u64, E> {
        (self.room)(next)
    }

    fn is_alive(&mut self, row: usize) -> bool {
        self.desk.is_alive(row)
    }

    fn wait(&mut self) {
        // In a child the others stand still, as they were at the fork.
        assert!(
            !self.desk.file.is_inherited(),
            "the ring was opened before a fork and belongs to the parent process: open it again in this one"
        );
        if self.backoff.is_completed() {
            thread::sleep(POLL);
        } else {
            self.backoff.snooze();
        }
    }
}
