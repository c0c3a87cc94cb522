//! The producer of a ring.

pub(crate) mod backpressure;
pub(crate) mod kind;

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytemuck::Pod;
use crossbeam_utils::CachePadded;

use crate::copy::{SlotWriter, TooLarge, store};
use crate::failpoint::is_dying;
use crate::layout::{BELL, Granularity, Shape};
use crate::message::{Message, fixed_payload, variable_payload};
use crate::producer::backpressure::{Full, limit_early, wait_for_space};
use crate::producer::kind::{Multi, ProducerKind, Single};
use crate::protocol::publish::{Blocked, Claim, Publish, Upkeep};
use crate::protocol::wake::Barrier;
use crate::protocol::{self, Group};
use crate::shared::Shared;
use crate::sync::{AtomicU64, Ordering};
use crate::tuning::cpu::prefetch_for_writing;
use crate::wait::{HELD_UP_CHECK, Timeout, WaitStrategy, Waiter, wake_sleepers};

/// Publishes messages. A ring has one producer at a time in all processes together, unless it was
/// created for several.
///
/// # A full ring
/// A producer never waits for a free consumer: it overwrites the oldest message, and a consumer
/// that had not read it learns how many messages it lost. Only a registered consumer that gates
/// holds up the producer of a full ring. Then `publish` waits until there is space,
/// `publish_timeout` waits for a limited time, and `try_publish` does not wait.
///
/// A producer that waits evicts dead consumers within about 20 milliseconds: the kernel has
/// released the lock of a dead consumer. It evicts slow consumers only after
/// [`Producer::set_eviction_timeout`].
///
/// # Closing
/// Dropping the producer closes the ring. A ring of several producers is closed when the last one
/// is dropped.
///
/// # Forks
/// A forked child inherits copies of its parent's producers. Messages that the child publishes with
/// such a copy reach no consumer, and within a lap of the ring the copy panics. Dropping the copy
/// has no effect. The child opens the ring again to get a producer of its own.
pub struct Producer<M: Message + ?Sized, K: ProducerKind = Single> {
    core: Core<K>,
    shared: Arc<Shared>,
    payload_bytes: usize,
    _message: PhantomData<fn(&M)>,
}

/// The state of a producer without the segment. It is separate because a claim borrows the segment
/// while this state changes.
struct Core<K: ProducerKind> {
    writer: CachePadded<K::Writer>,
    kind: K,
    /// Index of the word on which consumers sleep, if the ring is parkable.
    wake_word: Option<usize>,
    eviction_timeout: Option<Duration>,
    /// On the heap, so that a wait does not touch the rest of the producer's state.
    waiter: Box<Waiter>,
}

/// One of several producers of a ring that was created with
/// [`RingBuilder::max_producers`](crate::RingBuilder::max_producers); made by
/// [`Ring::shared_producer`](crate::Ring::shared_producer).
///
/// All consumers receive the messages of all producers in the same order, and the messages of each
/// producer in the order in which it published them. If a producer dies while it publishes, the
/// unfinished message becomes a tombstone. Consumers count tombstones separately from losses
/// ([`Consumer::tombstones`](crate::Consumer::tombstones)).
///
/// A producer that is alive but stopped in the middle of a message holds up the others once they
/// reach its slot, one lap later. They wait in every call, also in `try_publish`, and longer than
/// the timeout of `publish_timeout`.
pub type SharedProducer<M> = Producer<M, Multi>;

/// Why a message was not published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishError {
    /// The ring has no space for it.
    Full(Full),
    /// The message does not fit into a slot.
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

impl<M: Message + ?Sized, K: ProducerKind> Producer<M, K> {
    pub(crate) fn new(shared: Arc<Shared>, kind: K, writer: K::Writer) -> Self {
        let geometry = &shared.header.geometry;
        let core = Core {
            writer: CachePadded::new(writer),
            kind,
            wake_word: shared.header.parkable.then_some(geometry.table_word + BELL),
            eviction_timeout: None,
            waiter: Box::new(Waiter::new(WaitStrategy::default(), HELD_UP_CHECK)),
        };
        Self { core, payload_bytes: geometry.payload_bytes, shared, _message: PhantomData }
    }

    /// Sets how to wait for space. Default: [`WaitStrategy::Park`].
    pub fn set_wait_strategy(&mut self, strategy: WaitStrategy) {
        *self.core.waiter = Waiter::new(strategy, HELD_UP_CHECK);
    }

    /// Sets how long one wait of `publish` or `publish_timeout` may last because of the same gating
    /// consumer. After that time the producer evicts the consumer, whose receives then return
    /// [`CloseReason::Evicted`](crate::CloseReason::Evicted). Default: `None`, which never evicts a
    /// live consumer.
    pub fn set_eviction_timeout(&mut self, timeout: Option<Duration>) {
        self.core.eviction_timeout = timeout;
    }

    /// Evicts the registered consumer in row `row` (see
    /// [`Ring::consumers`](crate::Ring::consumers)): the producer no longer waits for it, and its
    /// receives return [`CloseReason::Evicted`](crate::CloseReason::Evicted). Returns whether the
    /// row had a consumer.
    ///
    /// # Panics
    /// If the producer was inherited by a fork.
    pub fn evict(&mut self, row: usize) -> bool {
        self.shared.expect_ours();
        let evicted =
            row < self.shared.header.geometry.readers && protocol::evict(self.shared.table(), row);
        self.shared.wake_consumers();
        evicted
    }

    /// Makes the registered consumer in row `row` (see [`Ring::consumers`](crate::Ring::consumers))
    /// skip to the next message to be published. The consumer reports the skipped messages as lost.
    /// Returns whether the row had a consumer.
    ///
    /// # Panics
    /// If the producer was inherited by a fork.
    pub fn skip_to_newest(&mut self, row: usize) -> bool {
        self.shared.expect_ours();
        let synced = row < self.shared.header.geometry.readers
            && protocol::sync(self.shared.table(), row, self.core.writer.next(self.shared.words()));
        self.shared.wake_consumers();
        synced
    }

    /// Makes all registered consumers skip to the next message to be published; see
    /// [`Producer::skip_to_newest`].
    ///
    /// # Panics
    /// If the producer was inherited by a fork.
    pub fn skip_all_to_newest(&mut self) {
        for row in 0..self.shared.header.geometry.readers {
            self.skip_to_newest(row);
        }
    }

    /// Drops the producer. If it is the only or the last one of the ring, consumers learn that no
    /// message will follow, after they have received everything that was published.
    pub fn close(self) {}
}

impl<M: Message + ?Sized> Producer<M> {
    /// Sequence of the message that will be published next.
    pub fn next_sequence(&self) -> u64 {
        self.core.writer.next_sequence()
    }

    /// Sets whether the producer moves the cache lines of a single message to the cache that all
    /// cores share, when the previous message was some time ago. Default: `true`.
    ///
    /// With `true`, consumers on other cores receive such messages sooner, and publishing takes
    /// longer; `docs/guide.md` gives figures. Use `false` if producer and consumer are threads of
    /// one core, which share its caches. The setting has an effect only on processors with the
    /// instruction `cldemote` (some from Intel).
    pub fn set_cache_demotion(&mut self, demotes: bool) {
        self.core.writer.demote(&self.shared.header.geometry, demotes);
    }
}

impl<K: ProducerKind> Core<K> {
    /// Begins the next message, after waiting until its slot may be overwritten. The caller writes
    /// the payload into the body of the claim and then calls [`Core::finish`].
    ///
    /// # Errors
    /// [`Full`], if a consumer that gates still needs the slot after `timeout`.
    #[inline(always)]
    fn begin<'a>(
        &mut self,
        shared: &'a Shared,
        shape: Shape,
        timeout: Timeout,
    ) -> Result<Claim<'a>, Full> {
        let words = shared.words();
        loop {
            match self.writer.begin(words, shape) {
                Ok(claim) => return Ok(claim),
                Err(Blocked::NoSpace(next)) => {
                    let limit = self.wait_for_space(shared, next, timeout)?;
                    self.writer.set_limit(limit);
                }
                Err(Blocked::SlotInUse(sequence)) => self.kind.wait_for_slot(words, sequence),
            }
        }
    }

    /// As [`Core::begin`], without a timeout.
    #[inline(always)]
    fn begin_at_last<'a>(&mut self, shared: &'a Shared, shape: Shape) -> Claim<'a> {
        match self.begin(shared, shape, Timeout::Never) {
            Ok(claim) => claim,
            Err(full) => unreachable!("a wait without a timeout has ended: {full}"),
        }
    }

    /// Publishes the claimed message, whose payload has `payload_bytes` bytes, and wakes the
    /// consumers that sleep. Returns its sequence.
    #[inline(always)]
    fn finish(
        &mut self,
        shared: &Shared,
        claim: Claim<'_>,
        shape: Shape,
        payload_bytes: usize,
    ) -> u64 {
        let (words, sequence) = (shared.words(), claim.sequence);
        self.writer.commit(words, &claim);
        self.wake(words);
        self.writer.advance(claim);
        self.after(shared, shape, payload_bytes);
        sequence
    }

    /// Wakes the consumers that sleep. Call this after a message.
    #[inline(always)]
    fn wake(&self, words: &[AtomicU64]) {
        if let Some(word) = self.wake_word {
            wake_sleepers(&words[word], Barrier::Light);
        }
    }

    /// Does the occasional work that is due after a message.
    #[inline(always)]
    fn after(&mut self, shared: &Shared, shape: Shape, payload_bytes: usize) {
        match self.writer.upkeep(shared.words(), shape, payload_bytes) {
            Upkeep::Nothing => {}
            Upkeep::RefreshLimit => {
                let limit = limit_early(shared, self.writer.next(shared.words()));
                self.writer.set_early_limit(limit);
            }
            Upkeep::ResolveClaim(overdue) => {
                if self.kind.resolve(shared.words(), overdue) {
                    shared.wake_consumers();
                }
            }
        }
    }

    /// Takes no reference to the writer, so that the compiler keeps the writer's state in registers
    /// from one message to the next.
    #[inline(always)]
    fn wait_for_space(&self, shared: &Shared, next: u64, timeout: Timeout) -> Result<u64, Full> {
        wait_for_space(shared, &self.waiter, next, self.eviction_timeout, timeout)
    }

    /// Abandons a claimed message. The old message of its slot is gone.
    fn give_up(&mut self, shared: &Shared, claim: Claim<'_>) {
        if self.writer.abandon(shared.words(), claim) {
            // There may be messages after the tombstone.
            self.wake(shared.words());
        }
    }
}

impl Core<Single> {
    /// Begins a group of a batch, after waiting until its slots may be overwritten.
    #[inline(always)]
    fn begin_group<'a>(&'a mut self, shared: &'a Shared, shape: Shape) -> Group<'a> {
        let next = self.writer.next_sequence();
        if self.writer.is_at_limit() {
            match self.wait_for_space(shared, next, Timeout::Never) {
                Ok(limit) => self.writer.set_limit(limit),
                Err(full) => unreachable!("a wait without a timeout has ended: {full}"),
            }
        }
        match Group::begin(&mut self.writer, shared.words(), shape) {
            Ok(group) => group,
            Err(blocked) => unreachable!("the limit allows a message: {blocked:?}"),
        }
    }

    /// Publishes the head after a batch, and wakes the consumers that sleep.
    #[inline(always)]
    fn finish_batch(&mut self, shared: &Shared) {
        self.writer.publish_head(shared.words());
        self.wake(shared.words());
        if self.writer.refresh_early() == Upkeep::RefreshLimit {
            let limit = limit_early(shared, self.writer.next_sequence());
            self.writer.set_early_limit(limit);
        }
    }
}

impl<T: Pod, K: ProducerKind> Producer<T, K> {
    /// Publishes `message` and returns its sequence, which is 0 for the first message of a ring and
    /// grows by one with each message. Waits for space while a gating consumer is a lap behind.
    ///
    /// # Panics
    /// If the producer was inherited by a fork: at the latest within a lap of the ring.
    #[inline]
    pub fn publish(&mut self, message: &T) -> u64 {
        let Self { core, shared, .. } = self;
        let shape = T::shape(&shared.header.geometry);
        let claim = core.begin_at_last(shared, shape);
        fill(claim.body, message);
        core.finish(shared, claim, shape, size_of::<T>())
    }

    /// As [`Producer::publish`], but waits for at most `timeout`.
    ///
    /// # Errors
    /// [`Full`], with the slowest consumer. Then nothing is published.
    pub fn publish_timeout(&mut self, message: &T, timeout: Duration) -> Result<u64, Full> {
        self.publish_within(message, Timeout::After(timeout))
    }

    /// As [`Producer::publish`], but does not wait.
    ///
    /// # Errors
    /// [`Full`], with the slowest consumer. Then nothing is published.
    #[inline]
    pub fn try_publish(&mut self, message: &T) -> Result<u64, Full> {
        self.publish_within(message, Timeout::Zero)
    }

    #[inline(always)]
    fn publish_within(&mut self, message: &T, timeout: Timeout) -> Result<u64, Full> {
        let Self { core, shared, .. } = self;
        let shape = T::shape(&shared.header.geometry);
        let claim = core.begin(shared, shape, timeout)?;
        fill(claim.body, message);
        Ok(core.finish(shared, claim, shape, size_of::<T>()))
    }
}

impl<T: Pod> Producer<T> {
    /// Publishes `messages` in order and returns their sequences. Waits for space as
    /// [`Producer::publish`] does.
    ///
    /// Consumers can receive the messages of one cache line only together. If a slot is larger than
    /// a cache line, they can receive a group of messages only together: at most 64 KiB, at most a
    /// quarter of the ring, and at most 16 messages of more than 256 bytes. So consumers do not
    /// fetch a cache line while the producer still writes to it. The ring's head, which
    /// [`Start::Next`](crate::Start::Next) and [`Consumer::lag`](crate::Consumer::lag) use, moves
    /// once for all messages for which there is space.
    pub fn publish_batch(&mut self, messages: &[T]) -> Range<u64> {
        let Self { core, shared, .. } = self;
        let shape = T::shape(&shared.header.geometry);
        let first = core.writer.next_sequence();
        let mut messages = messages.iter();
        while !messages.as_slice().is_empty() {
            prefetch_for_writing(core.writer.next_slots(shared.words(), messages.len()));
            let mut group = core.begin_group(shared, shape);
            'group: while let Some(run) = group.next_run() {
                for slot in run.chunks_exact(shape.stride) {
                    let Some(message) = messages.next() else { break 'group };
                    fill(group.begin_message(slot), message);
                    group.end_message();
                }
                group.commit_run(run);
            }
        }
        core.finish_batch(shared);
        first..core.writer.next_sequence()
    }
}

/// Copies `message` into the body of a slot: the words after its stamp.
#[inline(always)]
fn fill<T: Pod>(body: &[AtomicU64], message: &T) {
    store(Granularity::of(size_of::<T>()), fixed_payload::<T>(body), bytemuck::bytes_of(message));
}

impl<K: ProducerKind> Producer<[u8], K> {
    /// Publishes `message` and returns its sequence, which is 0 for the first message of a ring and
    /// grows by one with each message. Waits for space while a gating consumer is a lap behind.
    ///
    /// # Errors
    /// [`TooLarge`] if the message is larger than a slot. Then nothing is published.
    ///
    /// # Panics
    /// If the producer was inherited by a fork: at the latest within a lap of the ring.
    #[inline]
    pub fn publish(&mut self, message: &[u8]) -> Result<u64, TooLarge> {
        check(message, self.payload_bytes)?;
        let Self { core, shared, payload_bytes, .. } = self;
        let shape = <[u8]>::shape(&shared.header.geometry);
        let claim = core.begin_at_last(shared, shape);
        fill_bytes(claim.body, *payload_bytes, message);
        Ok(core.finish(shared, claim, shape, message.len()))
    }

    /// As [`Producer::publish`], but waits for at most `timeout`.
    ///
    /// # Errors
    /// [`PublishError`]. Then nothing is published.
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
    /// [`PublishError`]. Then nothing is published.
    #[inline]
    pub fn try_publish(&mut self, message: &[u8]) -> Result<u64, PublishError> {
        self.publish_within(message, Timeout::Zero)
    }

    /// Publishes a message that `build` writes in pieces, directly into the slot, and returns its
    /// sequence. Waits for space as [`Producer::publish`] does.
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
    /// Those of `build`. Then no message is published, but the slot has been used: in a full ring,
    /// the oldest message is gone. The same holds if `build` panics.
    pub fn publish_with<E>(
        &mut self,
        build: impl FnOnce(&mut SlotWriter<'_>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let Self { core, shared, payload_bytes, .. } = self;
        let shape = <[u8]>::shape(&shared.header.geometry);
        let claim = core.begin_at_last(shared, shape);
        let (length, payload) = variable_payload(claim.body, *payload_bytes);
        let mut unfinished = Unfinished { core, shared, claim: Some(claim) };
        let mut message = SlotWriter::new(Granularity::of(*payload_bytes), payload, *payload_bytes);
        build(&mut message)?;
        length.store(message.written() as u64, Ordering::Relaxed);
        Ok(unfinished.finish(shape, message.written()))
    }

    #[inline(always)]
    fn publish_within(&mut self, message: &[u8], timeout: Timeout) -> Result<u64, PublishError> {
        check(message, self.payload_bytes)?;
        let Self { core, shared, payload_bytes, .. } = self;
        let shape = <[u8]>::shape(&shared.header.geometry);
        let claim = core.begin(shared, shape, timeout)?;
        fill_bytes(claim.body, *payload_bytes, message);
        Ok(core.finish(shared, claim, shape, message.len()))
    }
}

/// A message that the caller's code writes. That code may fail or panic: dropping this value
/// abandons the message, unless it was finished.
struct Unfinished<'a, K: ProducerKind> {
    core: &'a mut Core<K>,
    shared: &'a Shared,
    claim: Option<Claim<'a>>,
}

impl<K: ProducerKind> Unfinished<'_, K> {
    fn finish(&mut self, shape: Shape, payload_bytes: usize) -> u64 {
        let claim = self.claim.take().expect("a message is finished once");
        self.core.finish(self.shared, claim, shape, payload_bytes)
    }
}

impl<K: ProducerKind> Drop for Unfinished<'_, K> {
    fn drop(&mut self) {
        if is_dying() {
            return;
        }
        if let Some(claim) = self.claim.take() {
            self.core.give_up(self.shared, claim);
        }
    }
}

impl Producer<[u8]> {
    /// Publishes `messages` in order and returns their sequences. Waits for space as
    /// [`Producer::publish`] does.
    ///
    /// Consumers can receive the messages of one cache line only together. If a slot is larger than
    /// a cache line, they can receive a group of messages only together: at most 64 KiB, at most a
    /// quarter of the ring, and at most 16 messages of more than 256 bytes. So consumers do not
    /// fetch a cache line while the producer still writes to it. The ring's head, which
    /// [`Start::Next`](crate::Start::Next) and [`Consumer::lag`](crate::Consumer::lag) use, moves
    /// once for all messages for which there is space.
    ///
    /// The iterator must not wait for an answer to a message of the same batch: it is asked for the
    /// next message before consumers can receive the previous ones of the group.
    ///
    /// # Errors
    /// [`TooLarge`] for the first message that is larger than a slot. The messages before it are
    /// published.
    pub fn publish_batch<B: AsRef<[u8]>>(
        &mut self,
        messages: impl IntoIterator<Item = B>,
    ) -> Result<Range<u64>, TooLarge> {
        let Self { core, shared, payload_bytes, .. } = self;
        let slot_bytes = *payload_bytes;
        let shape = <[u8]>::shape(&shared.header.geometry);
        let first = core.writer.next_sequence();
        let mut refused = Ok(());
        let fitting = messages.into_iter().map_while(|message| {
            refused = check(message.as_ref(), slot_bytes);
            refused.is_ok().then_some(message)
        });
        let mut messages = fitting.fuse().peekable();
        while messages.peek().is_some() {
            let (least, most) = messages.size_hint();
            let slots = core.writer.next_slots(shared.words(), most.unwrap_or(least));
            prefetch_for_writing(slots);
            let mut group = core.begin_group(shared, shape);
            'group: while let Some(run) = group.next_run() {
                for slot in run.chunks_exact(shape.stride) {
                    let Some(message) = messages.next() else { break 'group };
                    fill_bytes(group.begin_message(slot), slot_bytes, message.as_ref());
                    group.end_message();
                }
                group.commit_run(run);
            }
        }
        drop(messages);
        core.finish_batch(shared);
        refused.map(|()| first..core.writer.next_sequence())
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
fn fill_bytes(body: &[AtomicU64], payload_bytes: usize, message: &[u8]) {
    let (length, payload) = variable_payload(body, payload_bytes);
    length.store(message.len() as u64, Ordering::Relaxed);
    store(Granularity::of(payload_bytes), payload, message);
}

impl<M: Message + ?Sized, K: ProducerKind + fmt::Debug> fmt::Debug for Producer<M, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("kind", &self.core.kind).finish_non_exhaustive()
    }
}

impl<M: Message + ?Sized, K: ProducerKind> Drop for Producer<M, K> {
    fn drop(&mut self) {
        // A forked child has a copy of the producer and must not close the parent's ring.
        if self.shared.is_ours() {
            // Close before the lock is released: otherwise a consumer could take the free lock for
            // the death of the producer.
            self.core.kind.close(&mut self.core.writer, self.shared.words());
            self.shared.wake_consumers();
            self.core.kind.release();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
