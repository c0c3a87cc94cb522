//! Several producers of a model's ring, and the kernel's locks on their rows.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use loom::sync::atomic::AtomicBool;
use loom::thread;
use seqring::protocol::Blocker;
use seqring::protocol::claim::{self, MultiWriter};
use seqring::protocol::publish::{Blocked, Publish, Upkeep};

use crate::{Ring, payload, store_payload};

/// The locks of the producers' rows. Asking the kernel for one orders what its holder did before it
/// let go of it.
#[derive(Debug, Clone)]
pub struct Locks(Arc<[AtomicBool]>);

impl Locks {
    /// Those of `producers` rows, which nobody holds.
    pub fn new(producers: usize) -> Self {
        Self((0..producers).map(|_| AtomicBool::new(false)).collect())
    }

    /// Whether somebody holds the lock of row `row`.
    pub fn is_held(&self, row: usize) -> bool {
        self.0[row].load(Ordering::Acquire)
    }

    /// Takes or releases the lock of row `row`.
    pub fn set(&self, row: usize, held: bool) {
        self.0[row].store(held, Ordering::Release);
    }
}

/// One of several producers, with its lock.
#[derive(Debug)]
pub struct Author {
    ring: Ring,
    locks: Locks,
    row: usize,
    member: MultiWriter,
}

impl Author {
    /// Takes row `row`, behind its lock.
    pub fn join(ring: &Ring, locks: &Locks, row: usize) -> Self {
        locks.set(row, true);
        let member =
            MultiWriter::join(ring.words(), ring.geometry(), row, |row| locks.is_held(row));
        Self { ring: ring.clone(), locks: locks.clone(), row, member }
    }

    /// Publishes a message and returns its sequence.
    ///
    /// # Errors
    /// The slowest gating consumer, if there is no room.
    pub fn try_publish(&mut self) -> Result<u64, Blocker> {
        self.publish_where(|| ())
    }

    /// Publishes a message on a ring without gating consumers; calls `midway` when it is half
    /// written.
    pub fn publish_with(&mut self, midway: impl FnOnce()) -> u64 {
        self.publish_where(midway).expect("nobody gates")
    }

    /// Publishes a message that fails when it is written, on a ring without gating consumers.
    pub fn fail(&mut self) {
        self.write(|| (), false).expect("nobody gates");
    }

    fn publish_where(&mut self, midway: impl FnOnce()) -> Result<u64, Blocker> {
        self.write(midway, true)
    }

    /// Writes a message, and commits it, or gives it up.
    fn write(&mut self, midway: impl FnOnce(), commits: bool) -> Result<u64, Blocker> {
        let Self { ring, locks, row, member } = self;
        let resolve = |sequence| {
            claim::resolve(ring.words(), &ring.geometry(), sequence, |other| {
                other == *row || locks.is_held(other)
            })
        };
        let claim = loop {
            match member.begin(ring.words(), ring.shape()) {
                Ok(claim) => break claim,
                Err(Blocked::NoSpace(next)) => member.set_limit(ring.refresh_limit(next)?),
                Err(Blocked::SlotInUse(last)) => {
                    if !resolve(last) {
                        thread::yield_now();
                    }
                }
            }
        };
        let sequence = claim.sequence;
        ring.begin(sequence);
        ring.ghost(sequence).with_mut(|_| store_payload(claim.body, payload(sequence)));
        if commits {
            midway();
            member.commit(ring.words(), &claim);
            member.advance(claim);
        } else {
            member.abandon(ring.words(), claim);
        }
        if let Upkeep::ResolveClaim(overdue) = member.upkeep(ring.words(), ring.shape(), 0) {
            resolve(overdue);
        }
        Ok(sequence)
    }

    /// Publishes a message on a ring without gating consumers, and returns its sequence.
    pub fn publish(&mut self) -> u64 {
        self.try_publish().expect("nobody gates")
    }

    /// Closes, behind the lock that all hold who join or close, and releases its row.
    pub fn close(mut self) {
        let locks = self.locks.clone();
        self.member.close(self.ring.words(), |row| locks.is_held(row));
        self.locks.set(self.row, false);
    }

    /// What the kernel does when it dies.
    pub fn die(self) {
        self.locks.set(self.row, false);
    }
}
