//! What all handles of one opened segment share.

use std::sync::atomic::AtomicBool;

use crate::error::Error;
use crate::failpoint::{Step, hit};
#[cfg(feature = "async")]
use crate::layout::PAGE;
use crate::layout::{BELL, Header, IDLE, ROOM, STATE, SUPERSEDED};
use crate::protocol;
use crate::protocol::wake::Barrier;
use crate::segment::{Role, Segment};
use crate::sync::{AtomicU64, Ordering};
use crate::wait::wake_sleepers;

/// What all users of one opened segment share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) segment: Segment,
    pub(crate) header: Header,
    pub(crate) name: String,
    /// A producer made from this handle lives. The kernel's locks do not tell: they never conflict
    /// with those of the same open file.
    pub(crate) has_producer: AtomicBool,
    /// We hold [`Role::Owner`].
    pub(crate) owner: bool,
    /// Leave the name behind when the last handle goes.
    pub(crate) persistent: bool,
}

impl Shared {
    #[inline(always)]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.segment.words()
    }

    /// Whether somebody holds the producer's lock, or the ring is so new that its owner has not
    /// made one yet.
    pub(crate) fn is_producer_alive(&self) -> bool {
        // The state first: a producer that starts between the two looks has its lock by the second.
        let idle = self.words()[STATE].load(Ordering::Relaxed) == IDLE;
        let elsewhere = |role| self.segment.is_locked_elsewhere(role).unwrap_or(true);
        // What a forked child has inherited is its parent's, which is asked for as any other.
        let ours = self.is_ours();
        if (ours && self.has_producer.load(Ordering::Acquire)) || elsewhere(Role::Producer) {
            return true;
        }
        if self.header.geometry.producers > 1 && elsewhere(Role::AnySharedProducer) {
            return true;
        }
        idle && ((ours && self.owner) || elsewhere(Role::Owner))
    }

    /// The reader table, as the producer's mapping has it.
    pub(crate) fn table(&self) -> &[AtomicU64] {
        protocol::table(self.words(), &self.header.geometry)
    }

    /// Whether the one of several producers that has row `row` is alive.
    pub(crate) fn is_shared_producer_alive(&self, row: usize) -> bool {
        self.segment.is_locked_elsewhere(Role::SharedProducer(row)).unwrap_or(true)
    }

    /// Whether the consumer that has row `row` of the reader table is alive.
    pub(crate) fn is_consumer_alive(&self, row: usize) -> bool {
        self.segment.is_locked_elsewhere(Role::Consumer(row)).unwrap_or(true)
    }

    /// The word by which consumers sleep.
    #[inline(always)]
    pub(crate) fn bell(&self) -> &AtomicU64 {
        &self.words()[self.header.geometry.table_word + BELL]
    }

    /// The page that the bell is on, mapped once more.
    #[cfg(feature = "async")]
    pub(crate) fn bell_page(&self) -> Result<Segment, Error> {
        let first = self.header.geometry.table_word;
        self.segment.part(&self.name, first..first + PAGE, true)
    }

    /// Wakes the consumers that sleep, behind what they sleep for.
    #[inline(always)]
    pub(crate) fn wake_consumers(&self) {
        wake_sleepers(self.bell(), Barrier::Full);
    }

    /// Whether another ring has taken the name. Only for who holds [`Role::Producer`], as all do
    /// who replace a ring: if the state says so and the name still means this segment, who was
    /// replacing it died over that, and the ring is open to be continued.
    pub(crate) fn is_superseded(&self) -> bool {
        self.words()[STATE].load(Ordering::Relaxed) == SUPERSEDED && !self.segment.is_named()
    }

    /// Whether all of the segment is mapped for writing.
    pub(crate) fn is_writable(&self) -> bool {
        !self.segment.is_read_only()
    }

    /// The word by which producers sleep.
    pub(crate) fn room(&self) -> &AtomicU64 {
        &self.table()[ROOM]
    }

    /// Whether a fork has brought it here, as private copies of what was writable. Costs a load.
    pub(crate) fn is_inherited(&self) -> bool {
        self.segment.is_inherited()
    }

    /// Whether this process opened the ring, and did not inherit it by a fork.
    pub(crate) fn is_ours(&self) -> bool {
        self.segment.is_ours()
    }

    /// Refuses to go on with a producer that was inherited by a fork. Costs a load.
    ///
    /// # Panics
    /// If it was.
    #[track_caller]
    pub(crate) fn expect_ours(&self) {
        assert!(
            !self.is_inherited(),
            "{}; what was published here since the fork has reached nobody",
            Error::Forked { name: self.name.clone() }
        );
    }

    pub(crate) fn release_producer(&self) {
        self.segment.unlock(Role::Producer);
        hit(Step::CloseLock);
        self.has_producer.store(false, Ordering::Release);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // With both locks, as everybody who removes a name: while somebody else owns the ring or
        // produces into it, it is theirs to remove.
        let free = |role| self.segment.try_lock(role).unwrap_or(false);
        let members = || self.segment.is_locked_elsewhere(Role::AnySharedProducer).unwrap_or(true);
        if !self.persistent
            && self.segment.is_ours()
            && free(Role::Owner)
            && free(Role::Producer)
            && !members()
        {
            // Nobody is left to be told; the next of this name finds it stale.
            hit(Step::RemoveLock);
            let _ = self.segment.unlink();
            hit(Step::RemoveName);
        }
    }
}
