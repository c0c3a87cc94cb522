//! The producer of a ring.

pub(crate) mod backpressure;
pub(crate) mod kind;

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytemuck::Pod;

use crate::copy::{SlotWriter, TooLarge, fetch_for_writing, store};
use crate::layout::{BELL, Granularity};
use crate::message::{Message, fixed_payload, variable_payload};
use crate::producer::backpressure::{Full, limit_early, room, wait_for_space};
use crate::producer::kind::{Multi, ProducerKind, Single};
use crate::protocol;
use crate::protocol::wake::Barrier;
use crate::shared::Shared;
use crate::sync::{AtomicU64, Ordering};
use crate::wait::{HELD_UP_CHECK, Timeout, WaitStrategy, Waiter, wake_sleepers};

/// Publishes messages. A ring has one producer at a time, whatever process it is in, unless it was
/// created for several.
///
/// Free consumers are never waited for: when the ring is full, the oldest message is overwritten,
/// and the consumers that had not read it are told how many they lost. Only a registered consumer
/// that gates makes a full ring wait: `publish` until there is room, `publish_timeout` for some
/// time, `try_publish` not at all. Dead consumers are evicted within some twenty milliseconds, by
/// proof: their kernel lock is free. Slow ones are not, unless [`Producer::set_eviction_timeout`]
/// says so.
///
/// Dropping the producer closes the ring; of several, the last.
///
/// # Forks
/// A forked child inherits copies of its parent's producers, which reach nobody. What it publishes
/// by them is lost, and within a lap of the ring it panics; dropping them changes nothing. It opens
/// the ring again for a producer of its own.
pub struct Producer<M: Message + ?Sized, S: ProducerKind = Single> {
    standing: S,
    shared: Arc<Shared>,
    payload_bytes: usize,
    eviction_timeout: Option<Duration>,
    /// The word by which consumers sleep, if they may.
    bell: Option<usize>,
    /// Elsewhere, so that who waits by it leaves the rest alone.
    waiter: Box<Waiter>,
    _message: PhantomData<fn(&M)>,
}

/// One of several producers of a ring that was created with
/// [`RingBuilder::max_producers`](crate::RingBuilder::max_producers); made by
/// [`Ring::shared_producer`](crate::Ring::shared_producer).
///
/// All consumers receive the messages of all producers in one order, in which each producer's
/// messages stand in the order of their publication. What a producer was about to publish when it
/// died is missing, and is counted by consumers as a tombstone, apart from losses
/// ([`Consumer::tombstones`](crate::Consumer::tombstones)).
///
/// A producer that is stopped in the middle of a message, and lives, holds up the others when they
/// have come round to its slot, in all of their calls: also in `try_publish` and beyond the timeout
/// of `publish_timeout`.
pub type SharedProducer<M> = Producer<M, Multi>;

/// Why a message was not published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishError {
    /// There is no room.
    Full(Full),
    /// It does not fit into a slot.
    TooLarge(TooLarge),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(full) => full.fmt(f),
            Self::TooLarge(too_large) => too_large.fmt(f),
        }
    }
}

impl std::error::Error for PublishError {}

impl From<Full> for PublishError {
    fn from(full: Full) -> Self {
        Self::Full(full)
    }
}

impl From<TooLarge> for PublishError {
    fn from(too_large: TooLarge) -> Self {
        Self::TooLarge(too_large)
    }
}

impl<M: Message + ?Sized, S: ProducerKind> Producer<M, S> {
    pub(crate) fn new(shared: Arc<Shared>, standing: S) -> Self {
        let payload_bytes = shared.header.geometry.payload_bytes;
        let bell = shared.header.parkable.then_some(shared.header.geometry.table_word + BELL);
        let waiter = Box::new(Waiter::new(WaitStrategy::default(), HELD_UP_CHECK));
        Self {
            standing,
            shared,
            payload_bytes,
            eviction_timeout: None,
            bell,
            waiter,
            _message: PhantomData,
        }
    }

    /// How to wait for room; [`WaitStrategy::Park`] unless told otherwise.
    pub fn set_wait_strategy(&mut self, strategy: WaitStrategy) {
        *self.waiter = Waiter::new(strategy, HELD_UP_CHECK);
    }

    /// Gives up on a gating consumer that has kept `publish` or `publish_timeout` waiting for this
    /// long at a time: it is evicted, and told. `None`, the default, never does.
    pub fn set_eviction_timeout(&mut self, timeout: Option<Duration>) {
        self.eviction_timeout = timeout;
    }

    /// Gives up on the registered consumer in row `row` (see
    /// [`Ring::consumers`](crate::Ring::consumers)): it is told, and waited for no longer.
    /// Returns whether there was one.
    pub fn evict(&mut self, row: usize) -> bool {
        self.shared.expect_ours();
        let evicted =
            row < self.shared.header.geometry.readers && protocol::evict(self.shared.table(), row);
        self.shared.wake_consumers();
        evicted
    }

    /// Makes the registered consumer in row `row` (see [`Ring::consumers`](crate::Ring::consumers))
    /// skip to the next message to be published. It is told how many it lost by that. Returns
    /// whether there is such a consumer.
    pub fn skip_to_newest(&mut self, row: usize) -> bool {
        self.shared.expect_ours();
        let synced = row < self.shared.header.geometry.readers
            && protocol::sync(self.shared.table(), row, self.standing.next(self.shared.words()));
        self.shared.wake_consumers();
        synced
    }

    /// Makes all registered consumers skip to the next message to be published.
    pub fn skip_all_to_newest(&mut self) {
        for row in 0..self.shared.header.geometry.readers {
            self.skip_to_newest(row);
        }
    }

    /// Publishes a message that `fill` writes, when there is `room`. Behind it, `payload_bytes`
    /// says how many bytes it has.
    #[inline(always)]
    fn publish_when<E>(
        &mut self,
        room: impl Fn(&Shared, &Waiter, u64, Option<Duration>) -> Result<u64, E>,
        fill: impl FnOnce(&[AtomicU64]) -> Result<(), E>,
        payload_bytes: impl FnOnce() -> usize,
    ) -> Result<u64, E> {
        let Self { standing, shared, waiter, eviction_timeout, bell, .. } = self;
        let words = shared.words();
        let room = |next| room(shared, waiter, next, *eviction_timeout);
        let shape = M::shape(&shared.header.geometry);
        let sequence = standing.publish(words, shape.mark, room, fill, || wake(words, *bell))?;
        standing.after_publish(words, shape, payload_bytes(), |next| limit_early(shared, next));
        Ok(sequence)
    }

    /// Tells all consumers that no message will follow. They receive what has been published before
    /// they see it.
    ///
    /// Dropping the producer does the same; this says it aloud.
    pub fn close(self) {}
}

impl<M: Message + ?Sized> Producer<M> {
    /// Sequence of the message that will be published next.
    pub fn next_sequence(&self) -> u64 {
        self.standing.writer.next()
    }

    /// Whether single messages that come a while after one another are handed down to the cache
    /// that all cores share: `true`, the default, or not.
    ///
    /// Consumers on other cores receive them sooner by it, and publishing takes longer;
    /// `docs/guide.md` says how much. Where producer and consumer are threads of one core,
    /// which share its caches, say no. Only some processors can do it (Intel's, by `cldemote`); on
    /// others this says nothing.
    pub fn set_cache_demotion(&mut self, demotes: bool) {
        self.standing.writer.demote(&self.shared.header.geometry, demotes);
    }

    /// What comes behind the messages of a batch.
    #[inline(always)]
    fn end_batch(&mut self) {
        let Self { standing, shared, bell, .. } = self;
        standing.writer.publish_head(shared.words());
        wake(shared.words(), *bell);
        standing.writer.refresh_early(|next| limit_early(shared, next));
    }
}

/// Wakes the consumers that sleep, behind a message.
#[inline(always)]
fn wake(words: &[AtomicU64], bell: Option<usize>) {
    if let Some(bell) = bell {
        wake_sleepers(&words[bell], Barrier::Light);
    }
}

/// Room, however long it takes.
#[inline(always)]
fn at_last<E>(
    shared: &Shared,
    waiter: &Waiter,
    next: u64,
    eviction_timeout: Option<Duration>,
) -> Result<u64, E> {
    Ok(wait_for_space(shared, waiter, next, eviction_timeout))
}

/// Room, if it comes in time.
#[inline(always)]
fn within<E: From<Full>>(
    patience: Timeout,
) -> impl Fn(&Shared, &Waiter, u64, Option<Duration>) -> Result<u64, E> {
    move |shared, waiter, next, eviction_timeout| {
        Ok(room(shared, waiter, next, eviction_timeout, patience)?)
    }
}

impl<T: Pod, S: ProducerKind> Producer<T, S> {
    /// Publishes `message` and returns its sequence: 0 for the first message of a ring, then one
    /// more each. Waits for room if a gating consumer is a lap behind.
    #[inline]
    pub fn publish(&mut self, message: &T) -> u64 {
        let Ok(sequence) =
            self.publish_when(at_last::<Infallible>, |body| fill(body, message), || size_of::<T>());
        sequence
    }

    /// As [`Producer::publish`], but waits for at most `timeout`.
    ///
    /// # Errors
    /// [`Full`], with the slowest consumer.
    pub fn publish_timeout(&mut self, message: &T, timeout: Duration) -> Result<u64, Full> {
        self.publish_when(
            within(Timeout::After(timeout)),
            |body| fill(body, message),
            || size_of::<T>(),
        )
    }

    /// As [`Producer::publish`], but does not wait.
    ///
    /// # Errors
    /// [`Full`], with the slowest consumer.
    #[inline]
    pub fn try_publish(&mut self, message: &T) -> Result<u64, Full> {
        self.publish_when(within(Timeout::Zero), |body| fill(body, message), || size_of::<T>())
    }
}

impl<T: Pod> Producer<T> {
    /// Publishes `messages` in order and returns their sequences. Waits for room as
    /// [`Producer::publish`] does.
    ///
    /// They become ready to be received together with the others in their line of memory, or, where
    /// a slot is more than a line, in groups of up to 64 KiB, a quarter of the ring, or 16
    /// messages of more than 256 bytes, so that consumers do not take each line from under the
    /// producer's hands. The ring's head, which late joiners and
    /// [`Consumer::lag`](crate::Consumer::lag) go by, moves once for as many as there is room for.
    pub fn publish_batch(&mut self, messages: &[T]) -> Range<u64> {
        let first = self.next_sequence();
        let Self { standing, shared, waiter, eviction_timeout, .. } = self;
        let shape = T::shape(&shared.header.geometry);
        let mut messages = messages.iter();
        while !messages.as_slice().is_empty() {
            fetch_for_writing(standing.writer.next_slots(shared.words(), messages.len()));
            let room =
                |next| Ok::<_, Infallible>(wait_for_space(shared, waiter, next, *eviction_timeout));
            let Ok(()) = standing.writer.write_group(
                shared.words(),
                shape,
                room,
                &mut messages,
                fill::<T, _>,
            );
        }
        self.end_batch();
        first..self.next_sequence()
    }
}

#[inline(always)]
fn fill<T: Pod, E>(body: &[AtomicU64], message: &T) -> Result<(), E> {
    store(Granularity::of(size_of::<T>()), fixed_payload::<T>(body), bytemuck::bytes_of(message));
    Ok(())
}

impl<S: ProducerKind> Producer<[u8], S> {
    /// Publishes `message` and returns its sequence: 0 for the first message of a ring, then one
    /// more each. Waits for room if a gating consumer is a lap behind.
    ///
    /// # Errors
    /// [`TooLarge`] if the message is larger than the slots; the ring is unchanged.
    #[inline]
    pub fn publish(&mut self, message: &[u8]) -> Result<u64, TooLarge> {
        check(message, self.payload_bytes)?;
        let payload_bytes = self.payload_bytes;
        self.publish_when(
            at_last,
            |body| fill_bytes(body, payload_bytes, message),
            || message.len(),
        )
    }

    /// As [`Producer::publish`], but waits for at most `timeout`.
    ///
    /// # Errors
    /// [`PublishError`]; nothing is published then.
    pub fn publish_timeout(
        &mut self,
        message: &[u8],
        timeout: Duration,
    ) -> Result<u64, PublishError> {
        self.publish_within(message, Timeout::After(timeout))
    }

    /// As [`Producer::publish`], but does not wait.
    ///
    /// # Errors
    /// [`PublishError`]; nothing is published then.
    #[inline]
    pub fn try_publish(&mut self, message: &[u8]) -> Result<u64, PublishError> {
        self.publish_within(message, Timeout::Zero)
    }

    /// Publishes a message that `build` writes piece by piece, straight into the slot, and returns
    /// its sequence.
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
    /// Those of `build`. Nothing is published then, but the slot has been used: the oldest message
    /// of a full ring is gone. The same holds if `build` panics.
    pub fn publish_with<E>(
        &mut self,
        build: impl FnOnce(&mut SlotWriter<'_>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let payload_bytes = self.payload_bytes;
        let written = Cell::new(0);
        let fill = |body: &[AtomicU64]| {
            let (length, payload) = variable_payload(body, payload_bytes);
            let mut message =
                SlotWriter::new(Granularity::of(payload_bytes), payload, payload_bytes);
            build(&mut message)?;
            length.store(message.written() as u64, Ordering::Relaxed);
            written.set(message.written());
            Ok(())
        };
        self.publish_when(at_last, fill, || written.get())
    }

    #[inline(always)]
    fn publish_within(&mut self, message: &[u8], patience: Timeout) -> Result<u64, PublishError> {
        check(message, self.payload_bytes)?;
        let payload_bytes = self.payload_bytes;
        self.publish_when(
            within(patience),
            |body| fill_bytes(body, payload_bytes, message),
            || message.len(),
        )
    }
}

impl Producer<[u8]> {
    /// Publishes `messages` in order and returns their sequences. Waits for room as
    /// [`Producer::publish`] does.
    ///
    /// They become ready to be received together with the others in their line of memory, or, where
    /// a slot is more than a line, in groups of up to 64 KiB, a quarter of the ring, or 16
    /// messages of more than 256 bytes, so that consumers do not take each line from under the
    /// producer's hands. The ring's head, which late joiners and
    /// [`Consumer::lag`](crate::Consumer::lag) go by, moves once for as many as there is room for.
    ///
    /// The iterator is asked for the next message before those of the group are ready: it must not
    /// wait for an answer to one of them.
    ///
    /// # Errors
    /// [`TooLarge`] for the first message that is larger than the slots; those before it are
    /// published.
    pub fn publish_batch<B: AsRef<[u8]>>(
        &mut self,
        messages: impl IntoIterator<Item = B>,
    ) -> Result<Range<u64>, TooLarge> {
        let first = self.next_sequence();
        let Self { standing, shared, waiter, eviction_timeout, payload_bytes, .. } = self;
        let slot_bytes = *payload_bytes;
        let shape = <[u8]>::shape(&shared.header.geometry);
        let mut refused = Ok(());
        let fitting = messages.into_iter().map_while(|message| {
            refused = check(message.as_ref(), slot_bytes);
            refused.is_ok().then_some(message)
        });
        let mut messages = fitting.fuse().peekable();
        while messages.peek().is_some() {
            let (least, most) = messages.size_hint();
            fetch_for_writing(standing.writer.next_slots(shared.words(), most.unwrap_or(least)));
            let room =
                |next| Ok::<_, Infallible>(wait_for_space(shared, waiter, next, *eviction_timeout));
            let fill =
                |body: &[AtomicU64], message: B| fill_bytes(body, slot_bytes, message.as_ref());
            let Ok(()) =
                standing.writer.write_group(shared.words(), shape, room, &mut messages, fill);
        }
        drop(messages);
        self.end_batch();
        refused.map(|()| first..self.next_sequence())
    }
}

fn check(message: &[u8], slot_bytes: usize) -> Result<(), TooLarge> {
    if message.len() <= slot_bytes {
        Ok(())
    } else {
        Err(TooLarge { bytes: message.len(), slot_bytes })
    }
}

#[inline(always)]
fn fill_bytes<E>(body: &[AtomicU64], payload_bytes: usize, message: &[u8]) -> Result<(), E> {
    let (length, payload) = variable_payload(body, payload_bytes);
    length.store(message.len() as u64, Ordering::Relaxed);
    store(Granularity::of(payload_bytes), payload, message);
    Ok(())
}

impl<M: Message + ?Sized, S: ProducerKind + fmt::Debug> fmt::Debug for Producer<M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("standing", &self.standing).finish_non_exhaustive()
    }
}

impl<M: Message + ?Sized, S: ProducerKind> Drop for Producer<M, S> {
    fn drop(&mut self) {
        // A forked child has a copy of the producer, and must not close its parent's ring.
        if self.shared.is_ours() {
            // Close first: between the two, a consumer must not take the free lock for a death.
            self.standing.close(self.shared.words());
            self.shared.wake_consumers();
            self.standing.release();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
