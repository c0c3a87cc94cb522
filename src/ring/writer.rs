//! The producer's side of the protocol.

use core::ops::Range;

use crate::layout::{CLOSED, EPOCH, Geometry, HEAD, OPEN, Place, STATE};
use crate::ring::head;
use crate::slot::{is_ready, write};
use crate::sync::{AtomicU64, Ordering};

/// The state of the one producer of a ring. It never reads the ring's memory after [`Writer::resume`].
#[derive(Debug)]
pub struct Writer {
    geometry: Geometry,
    /// Sequence of the next message.
    next: u64,
    /// Where its slot is.
    place: Place,
}

impl Writer {
    /// Takes the ring over from its last producer, if there was one, and opens it.
    ///
    /// The caller holds the producer's lock: no other writer is alive. A predecessor that was killed may have left
    /// messages that are ready but not counted in the head, and one slot (of a batch: several) marked as being
    /// written. The former are kept; the latter is written anew under the same sequence, and its mark is already
    /// there, so no consumer can accept what the dead one left half done.
    pub fn resume(words: &[AtomicU64], geometry: Geometry) -> Self {
        let mut next = head(words);
        // At most one lap can be ready beyond the head; the bound also ends the scan of corrupt memory.
        let end = next.saturating_add(geometry.slots as u64);
        while next < end && is_ready(Place::of(&geometry, next).slot(words), next) {
            next += 1;
        }
        words[EPOCH].store(words[EPOCH].load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        // Release: as in `publish_head`, here for the messages of the predecessor.
        words[HEAD].store(next, Ordering::Release);
        // Relaxed: nobody concludes anything from an open ring.
        words[STATE].store(OPEN, Ordering::Relaxed);
        Self { geometry, next, place: Place::of(&geometry, next) }
    }

    /// Sequence of the next message.
    #[inline(always)]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Publishes one message, written by `fill`, and returns its sequence.
    ///
    /// # Errors
    /// Those of `fill`; nothing is published then, and the oldest message of the ring is gone.
    #[inline(always)]
    pub fn publish<E>(&mut self, words: &[AtomicU64], fill: impl FnOnce(&[AtomicU64]) -> Result<(), E>) -> Result<u64, E> {
        let sequence = self.write_next(words, fill)?;
        self.publish_head(words);
        Ok(sequence)
    }

    /// Publishes what each of `fills` writes and returns the sequences. Moves the head once, behind the last, or once a lap in
    /// a batch of more than that.
    ///
    /// Consumers that poll the slots receive each message as soon as it is written.
    ///
    /// # Errors
    /// The first error of a fill; the messages before it are published.
    #[inline(always)]
    pub fn publish_batch<E, F: FnOnce(&[AtomicU64]) -> Result<(), E>>(
        &mut self,
        words: &[AtomicU64],
        fills: impl Iterator<Item = F>,
    ) -> Result<Range<u64>, E> {
        let first = self.next;
        // A batch that a panic cut short has left messages uncounted.
        self.publish_head(words);
        let mut uncounted = 0;
        let mut result = Ok(());
        for fill in fills {
            // Never a whole lap: one more message would take the slot at the head, by which `resume` knows how many there are.
            if uncounted == self.geometry.slots {
                self.publish_head(words);
                uncounted = 0;
            }
            result = self.write_next(words, fill).map(drop);
            if result.is_err() {
                break;
            }
            uncounted += 1;
        }
        self.publish_head(words);
        result.map(|()| first..self.next)
    }

    /// Says that no message will follow.
    pub fn close(&mut self, words: &[AtomicU64]) {
        // A batch that a panic cut short has left messages uncounted.
        self.publish_head(words);
        // Release: pairs with the acquire fence in `Reader::ended`. A consumer that sees the ring closed sees every
        // message that was published before; without it, it could report the end before the last message.
        words[STATE].store(CLOSED, Ordering::Release);
    }

    #[inline(always)]
    fn write_next<E>(&mut self, words: &[AtomicU64], fill: impl FnOnce(&[AtomicU64]) -> Result<(), E>) -> Result<u64, E> {
        let sequence = self.next;
        write(self.place.slot(words), sequence, fill)?;
        self.next = sequence + 1;
        self.place.advance();
        Ok(sequence)
    }

    #[inline(always)]
    fn publish_head(&self, words: &[AtomicU64]) {
        // Release: pairs with the acquire fences behind the consumers' loads of the head. Who sees that a message has
        // been counted finds its slot ready; without it, a consumer that starts at the newest message could find
        // nothing there.
        words[HEAD].store(self.next, Ordering::Release);
    }
}
