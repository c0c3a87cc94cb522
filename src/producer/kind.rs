//! Whether a producer is the only one of its ring or one of several.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_utils::Backoff;

use crate::error::Error;
use crate::failpoint::{Step, hit};
use crate::layout::{Geometry, PRODUCER_PID, Place, ROW_PRODUCER_PID};
use crate::producer::kind::private::Kind;
use crate::protocol::claim::{self, MultiWriter};
use crate::protocol::publish::Publish;
use crate::protocol::slot::is_done;
use crate::protocol::{self, Writer};
use crate::segment::{Role, Segment};
use crate::shared::Shared;
use crate::sync::{AtomicU64, Ordering};

/// Longest time that joining or closing waits for another producer that joins or closes.
const PATIENCE: Duration = Duration::from_secs(2);
/// Interval at which a producer checks whether another one has finished: joining, closing, or a
/// message one lap earlier.
const POLL: Duration = Duration::from_micros(50);

/// Whether a producer is the only one of its ring: [`Single`] or [`Multi`]. Sealed: these are all
/// implementations.
pub trait ProducerKind: Kind {}

impl ProducerKind for Single {}
impl ProducerKind for Multi {}

/// The kind of the only producer of a ring.
#[derive(Debug)]
pub struct Single {
    shared: Arc<Shared>,
}

/// The kind of one of several producers of a ring, whose messages have the same order for all
/// consumers.
#[derive(Debug)]
pub struct Multi {
    geometry: Geometry,
    lock: Box<ProducerLock>,
}

/// The kernel lock of one of several producers.
#[derive(Debug)]
struct ProducerLock {
    /// A separate open file, which holds the lock of the producer's row.
    file: Segment,
    row: usize,
}

pub(crate) mod private {
    use super::*;

    /// The part of a producer that depends on its kind and is not part of the protocol.
    pub trait Kind {
        /// The protocol state.
        type Writer: Publish;
        /// Waits until message `sequence`, one lap earlier, is finished. If the producer of that
        /// message has died, the message gets a tombstone.
        fn wait_for_slot(&mut self, words: &[AtomicU64], sequence: u64);
        /// Gives message `sequence` a tombstone if its producer has died; returns whether it has.
        fn resolve(&mut self, words: &[AtomicU64], sequence: u64) -> bool;
        /// Tells consumers that no message will follow, if this is the last producer.
        fn close(&mut self, writer: &mut Self::Writer, words: &[AtomicU64]);
        /// Releases the lock that says that the producer is alive.
        fn release(&mut self);
    }
}

impl Single {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Kind for Single {
    type Writer = Writer;

    fn wait_for_slot(&mut self, _: &[AtomicU64], sequence: u64) {
        unreachable!("the only producer has finished message {sequence}");
    }

    fn resolve(&mut self, _: &[AtomicU64], _: u64) -> bool {
        false
    }

    fn close(&mut self, writer: &mut Writer, words: &[AtomicU64]) {
        writer.close(words);
    }

    fn release(&mut self) {
        self.shared.release_producer();
    }
}

impl Multi {
    /// Joins the producers of a ring.
    pub(crate) fn join(shared: &Shared) -> Result<(Self, MultiWriter), Error> {
        let geometry = shared.header.geometry;
        let words = shared.words();
        let io = |doing: &'static str| move |error| Error::io(&shared.name, doing, error);
        let file =
            shared.segment.part(&shared.name, geometry.table_word..geometry.slots_word, false)?;
        let mut lock = ProducerLock { file, row: usize::MAX };
        if !lock.take_joint().map_err(io("lock the segment"))? {
            return Err(Error::InUse {
                name: shared.name.clone(),
                producer_pid: words[PRODUCER_PID].load(Ordering::Relaxed),
            });
        }
        hit(Step::ResumeLock);
        // From here on, an error drops the file, which releases the lock.
        if shared.is_superseded() {
            return Err(Error::Superseded { name: shared.name.clone() });
        }
        for row in 0..geometry.producers {
            if lock.file.try_lock(Role::SharedProducer(row)).map_err(io("lock a producer's row"))? {
                lock.row = row;
                break;
            }
        }
        if lock.row == usize::MAX {
            return Err(Error::TooManyProducers {
                name: shared.name.clone(),
                producers: geometry.producers,
            });
        }
        let pid = u64::from(std::process::id());
        words[PRODUCER_PID].store(pid, Ordering::Relaxed);
        protocol::table(words, &geometry)[geometry.producer_row(lock.row) + ROW_PRODUCER_PID]
            .store(pid, Ordering::Relaxed);
        hit(Step::ResumePid);
        let writer = MultiWriter::join(words, geometry, lock.row, |row| lock.is_alive(row));
        lock.file.unlock(Role::Producer);
        Ok((Self { geometry, lock: Box::new(lock) }, writer))
    }
}

impl ProducerLock {
    /// Takes the lock that a producer holds while it joins or closes. Returns whether it was free
    /// in time: its holder needs a short time only, and a dead holder has lost it.
    fn take_joint(&self) -> io::Result<bool> {
        let patience = Instant::now() + PATIENCE;
        loop {
            match self.file.try_lock(Role::Producer) {
                Ok(false) if Instant::now() < patience => thread::sleep(POLL),
                taken => return taken,
            }
        }
    }

    /// Whether the producer with row `row` is alive.
    fn is_alive(&self, row: usize) -> bool {
        row == self.row || self.file.is_locked_elsewhere(Role::SharedProducer(row)).unwrap_or(true)
    }
}

impl Kind for Multi {
    type Writer = MultiWriter;

    #[cold]
    fn wait_for_slot(&mut self, words: &[AtomicU64], sequence: u64) {
        let slot = Place::of(&self.geometry, sequence).slot(words);
        let backoff = Backoff::new();
        while !is_done(slot, sequence) && !self.resolve(words, sequence) {
            // In a forked child, the other producers do not move: the mapping shows their state at
            // the fork.
            assert!(
                !self.lock.file.is_inherited(),
                "the ring was opened before a fork and belongs to the parent process: open it again in this one"
            );
            if backoff.is_completed() {
                thread::sleep(POLL);
            } else {
                backoff.snooze();
            }
        }
    }

    #[cold]
    fn resolve(&mut self, words: &[AtomicU64], sequence: u64) -> bool {
        claim::resolve(words, &self.geometry, sequence, |row| self.lock.is_alive(row))
    }

    fn close(&mut self, writer: &mut MultiWriter, words: &[AtomicU64]) {
        if self.lock.take_joint().unwrap_or(false) {
            writer.close(words, |row| self.lock.is_alive(row));
        }
    }

    fn release(&mut self) {
        // The order matters: a producer that takes the second lock to close must find the first one
        // free, to know whether it is the last.
        self.lock.file.unlock(Role::SharedProducer(self.lock.row));
        hit(Step::CloseLock);
        self.lock.file.unlock(Role::Producer);
    }
}
