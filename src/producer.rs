//! The producer of a ring.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use bytemuck::Pod;
use crossbeam_utils::CachePadded;

use crate::copy::{SlotWriter, TooLarge, store};
use crate::layout::Granularity;
use crate::message::{Message, fixed_payload, variable_payload};
use crate::open::Shared;
use crate::ring::Writer;
use crate::sync::{AtomicU64, Ordering};

/// Publishes messages. A ring has one producer at a time, whatever process it is in.
///
/// Publishing never waits for a consumer and never fails: when the ring is full, the oldest message is overwritten,
/// and the consumers that had not read it are told how many they lost. Dropping the producer closes the ring.
pub struct Producer<M: Message + ?Sized> {
    writer: CachePadded<Writer>,
    shared: Arc<Shared>,
    payload_bytes: usize,
    _message: PhantomData<fn(&M)>,
}

impl<M: Message + ?Sized> Producer<M> {
    pub(crate) fn new(shared: Arc<Shared>, writer: Writer) -> Self {
        let payload_bytes = shared.header.geometry.payload_bytes;
        Self { writer: CachePadded::new(writer), shared, payload_bytes, _message: PhantomData }
    }

    /// Sequence of the message that will be published next.
    pub fn next_sequence(&self) -> u64 {
        self.writer.next()
    }

    /// Tells all consumers that no message will follow. They receive what has been published before they see it.
    ///
    /// Dropping the producer does the same; this says it aloud.
    pub fn close(self) {}
}

impl<T: Pod> Producer<T> {
    /// Publishes `message` and returns its sequence: 0 for the first message of a ring, then one more each.
    #[inline]
    pub fn publish(&mut self, message: &T) -> u64 {
        let Ok(sequence) = self.writer.publish(self.shared.words(), |body| -> Result<(), Infallible> {
            put(body, message);
            Ok(())
        });
        sequence
    }

    /// Publishes `messages` in order and returns their sequences.
    ///
    /// Each message can be received as soon as it is written; only the ring's head, which late joiners and
    /// [`Consumer::lag`](crate::Consumer::lag) go by, moves once for all of them (once a lap, if there are more).
    pub fn publish_batch(&mut self, messages: &[T]) -> Range<u64> {
        let fills = messages.iter().map(|message| {
            move |body: &[AtomicU64]| -> Result<(), Infallible> {
                put(body, message);
                Ok(())
            }
        });
        let Ok(sequences) = self.writer.publish_batch(self.shared.words(), fills);
        sequences
    }
}

#[inline(always)]
fn put<T: Pod>(body: &[AtomicU64], message: &T) {
    store(Granularity::of(size_of::<T>()), fixed_payload::<T>(body), bytemuck::bytes_of(message));
}

impl Producer<[u8]> {
    /// Publishes `message` and returns its sequence: 0 for the first message of a ring, then one more each.
    ///
    /// # Errors
    /// [`TooLarge`] if the message is larger than the slots; the ring is unchanged.
    #[inline]
    pub fn publish(&mut self, message: &[u8]) -> Result<u64, TooLarge> {
        self.check(message)?;
        let payload_bytes = self.payload_bytes;
        self.writer.publish(self.shared.words(), |body| {
            put_bytes(body, payload_bytes, message);
            Ok(())
        })
    }

    /// Publishes `messages` in order and returns their sequences.
    ///
    /// Each message can be received as soon as it is written; only the ring's head, which late joiners and
    /// [`Consumer::lag`](crate::Consumer::lag) go by, moves once for all of them (once a lap, if there are more).
    ///
    /// # Errors
    /// [`TooLarge`] for the first message that is larger than the slots; those before it are published.
    pub fn publish_batch<B: AsRef<[u8]>>(&mut self, messages: impl IntoIterator<Item = B>) -> Result<Range<u64>, TooLarge> {
        let first = self.next_sequence();
        let payload_bytes = self.payload_bytes;
        let mut too_large = None;
        let fitting = messages.into_iter().map_while(|message| match check(message.as_ref(), payload_bytes) {
            Ok(()) => Some(move |body: &[AtomicU64]| -> Result<(), Infallible> {
                put_bytes(body, payload_bytes, message.as_ref());
                Ok(())
            }),
            Err(error) => {
                too_large = Some(error);
                None
            }
        });
        let Ok(sequences) = self.writer.publish_batch(self.shared.words(), fitting);
        debug_assert_eq!(sequences.start, first);
        too_large.map_or(Ok(sequences), Err)
    }

    /// Publishes a message that `build` writes piece by piece, straight into the slot, and returns its sequence.
    ///
    /// ```
    /// # let name = format!("doc-publish-with-{}", std::process::id());
    /// let ring = seqring::Ring::<[u8]>::builder(&name).slots(8).slot_bytes(64).create()?;
    /// let mut producer = ring.producer()?;
    /// let mut consumer = ring.consumer().attach();
    /// producer.publish_with(|message| {
    ///     message.write(&7u32.to_le_bytes())?;
    ///     message.write(b"payload")
    /// })?;
    /// assert_eq!(consumer.recv()?, b"\x07\0\0\0payload");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of `build`. Nothing is published then, but the slot has been used: the oldest message of a full ring is
    /// gone. The same holds if `build` panics.
    pub fn publish_with<E>(&mut self, build: impl FnOnce(&mut SlotWriter<'_>) -> Result<(), E>) -> Result<u64, E> {
        let payload_bytes = self.payload_bytes;
        self.writer.publish(self.shared.words(), |body| {
            let (length, payload) = variable_payload(body, payload_bytes);
            let mut message = SlotWriter::new(Granularity::of(payload_bytes), payload, payload_bytes);
            build(&mut message)?;
            length.store(message.written() as u64, Ordering::Relaxed);
            Ok(())
        })
    }

    fn check(&self, message: &[u8]) -> Result<(), TooLarge> {
        check(message, self.payload_bytes)
    }
}

fn check(message: &[u8], slot_bytes: usize) -> Result<(), TooLarge> {
    if message.len() <= slot_bytes { Ok(()) } else { Err(TooLarge { bytes: message.len(), slot_bytes }) }
}

#[inline(always)]
fn put_bytes(body: &[AtomicU64], payload_bytes: usize, message: &[u8]) {
    let (length, payload) = variable_payload(body, payload_bytes);
    length.store(message.len() as u64, Ordering::Relaxed);
    store(Granularity::of(payload_bytes), payload, message);
}

debug_of!(Producer: writer);

impl<M: Message + ?Sized> Drop for Producer<M> {
    fn drop(&mut self) {
        // A forked child has a copy of the producer, and must not close its parent's ring.
        if self.shared.is_ours() {
            // Close first: between the two, a consumer must not take the free lock for a death.
            self.writer.close(self.shared.words());
            self.shared.release_producer();
        }
    }
}
