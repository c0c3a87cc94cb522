//! State that all handles of one opened segment share.

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

/// State that all producers, consumers and [`Ring`](crate::Ring) handles of one opened segment
/// share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) segment: Segment,
    pub(crate) header: Header,
    pub(crate) name: String,
    /// A producer made from this handle is alive. Kernel locks cannot say this, because locks of
    /// the same open file never conflict with each other.
    pub(crate) has_producer: AtomicBool,
    /// This process holds [`Role::Owner`].
    pub(crate) owner: bool,
    /// Dropping the last handle does not unlink the name.
    pub(crate) persistent: bool,
}

impl Shared {
    #[inline(always)]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.segment.words()
    }

    /// Whether some process holds a producer lock, or the ring is so new that its owner has not
    /// made a producer yet.
    pub(crate) fn is_producer_alive(&self) -> bool {
        // The state is loaded before the locks are checked: a producer that starts in between holds
        // its lock by the time of the check.
        let idle = self.words()[STATE].load(Ordering::Relaxed) == IDLE;
        let elsewhere = |role| self.segment.is_locked_elsewhere(role).unwrap_or(true);
        // In a forked child, inherited locks and flags belong to the parent, so the kernel is asked
        // about them as about any other process.
        let ours = self.is_ours();
        if (ours && self.has_producer.load(Ordering::Acquire)) || elsewhere(Role::Producer) {
            return true;
        }
        if self.header.geometry.producers > 1 && elsewhere(Role::AnySharedProducer) {
            return true;
        }
        idle && ((ours && self.owner) || elsewhere(Role::Owner))
    }

    /// The reader table in the mapping of the whole segment.
    pub(crate) fn table(&self) -> &[AtomicU64] {
        protocol::table(self.words(), &self.header.geometry)
    }

    /// Whether the shared producer with row `row` is alive.
    pub(crate) fn is_shared_producer_alive(&self, row: usize) -> bool {
        self.segment.is_locked_elsewhere(Role::SharedProducer(row)).unwrap_or(true)
    }

    /// Whether the registered consumer with row `row` of the reader table is alive.
    pub(crate) fn is_consumer_alive(&self, row: usize) -> bool {
        self.segment.is_locked_elsewhere(Role::Consumer(row)).unwrap_or(true)
    }

    /// The wake word on which consumers sleep.
    #[inline(always)]
    pub(crate) fn bell(&self) -> &AtomicU64 {
        &self.words()[self.header.geometry.table_word + BELL]
    }

    /// A second mapping of the page that contains the consumers' wake word.
    #[cfg(feature = "async")]
    pub(crate) fn bell_page(&self) -> Result<Segment, Error> {
        let first = self.header.geometry.table_word;
        self.segment.part(&self.name, first..first + PAGE, true)
    }

    /// Wakes the consumers that sleep. Call this after the store that they wait for.
    #[inline(always)]
    pub(crate) fn wake_consumers(&self) {
        wake_sleepers(self.bell(), Barrier::Full);
    }

    /// Whether another ring has taken the name. The caller must hold [`Role::Producer`], as every
    /// process does that replaces a ring. If the state says superseded and the name still means
    /// this segment, the replacing process died before it removed the name, and the ring may be
    /// continued.
    pub(crate) fn is_superseded(&self) -> bool {
        self.words()[STATE].load(Ordering::Relaxed) == SUPERSEDED && !self.segment.is_named()
    }

    /// Whether the whole segment is mapped for writing.
    pub(crate) fn is_writable(&self) -> bool {
        !self.segment.is_read_only()
    }

    /// The wake word on which producers sleep.
    pub(crate) fn room(&self) -> &AtomicU64 {
        &self.table()[ROOM]
    }

    /// Whether this process inherited the segment by a fork, with private copies of the writable
    /// pages. Costs a load.
    pub(crate) fn is_inherited(&self) -> bool {
        self.segment.is_inherited()
    }

    /// Whether this process opened the ring itself, and did not inherit it by a fork.
    pub(crate) fn is_ours(&self) -> bool {
        self.segment.is_ours()
    }

    /// Checks that the producer was not inherited by a fork. Costs a load.
    ///
    /// # Panics
    /// If the producer was inherited.
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
        // Every process that removes a name holds both locks. While another process owns the ring
        // or produces into it, that process is responsible for the name.
        let free = |role| self.segment.try_lock(role).unwrap_or(false);
        let members = || self.segment.is_locked_elsewhere(Role::AnySharedProducer).unwrap_or(true);
        if !self.persistent
            && self.segment.is_ours()
            && free(Role::Owner)
            && free(Role::Producer)
            && !members()
        {
            // No producer is left to notify consumers. The next creator of this name finds the
            // segment stale.
            hit(Step::RemoveLock);
            let _ = self.segment.unlink();
            hit(Step::RemoveName);
        }
    }
}
