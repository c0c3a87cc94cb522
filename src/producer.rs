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
pub struct Producer<M: Message + ?Sized, K: ProducerKind = Single> {
    core: Core<K>,
    shared: Arc<Shared>,
    payload_bytes: usize,
    _message: PhantomData<fn(&M)>,
}

/// All of a producer but the segment: a message's slot is borrowed from that, while this changes.
struct Core<K: ProducerKind> {
    writer: CachePadded<K::Writer>,
    kind: K,
    /// The word that consumers sleep on, if they may.
    wake_word: Option<usize>,
    eviction_timeout: Option<Duration>,
    /// Elsewhere, so that a wait leaves the rest alone.
    waiter: Box<Waiter>,
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

    /// How to wait for space; default: [`WaitStrategy::Park`].
    pub fn set_wait_strategy(&mut self, strategy: WaitStrategy) {
        *self.core.waiter = Waiter::new(strategy, HELD_UP_CHECK);
    }

    /// Gives up on a gating consumer that has kept `publish` or `publish_timeout` waiting for this
    /// long at a time: it is evicted, and told. `None`, the default, never does.
    pub fn set_eviction_timeout(&mut self, timeout: Option<Duration>) {
        self.core.eviction_timeout = timeout;
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
            && protocol::sync(self.shared.table(), row, self.core.writer.next(self.shared.words()));
        self.shared.wake_consumers();
        synced
    }

    /// Makes all registered consumers skip to the next message to be published.
    pub fn skip_all_to_newest(&mut self) {
        for row in 0..self.shared.header.geometry.readers {
            self.skip_to_newest(row);
        }
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
        self.core.writer.next_sequence()
    }

    /// Whether single messages that come a while after one another are handed down to the cache
    /// that all cores share: `true`, the default, or not.
    ///
    /// Consumers on other cores receive them sooner by it, and publishing takes longer;
    /// `docs/guide.md` says how much. Where producer and consumer are threads of one core,
    /// which share its caches, say no. Only some processors can do it (Intel's, by `cldemote`); on
    /// others this says nothing.
    pub fn set_cache_demotion(&mut self, demotes: bool) {
        self.core.writer.demote(&self.shared.header.geometry, demotes);
    }
}

impl<K: ProducerKind> Core<K> {
    /// Begins the next message, after waiting until its slot may be overwritten. The payload goes
    /// into the body of the claim, then follows [`Core::finish`].
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

    /// As [`Core::begin`], for as long as it takes.
    #[inline(always)]
    fn begin_at_last<'a>(&mut self, shared: &'a Shared, shape: Shape) -> Claim<'a> {
        match self.begin(shared, shape, Timeout::Never) {
            Ok(claim) => claim,
            Err(full) => unreachable!("a wait without a timeout has ended: {full}"),
        }
    }

    /// Publishes the message of the claim, whose payload has so many bytes, and wakes the consumers
    /// that sleep. Returns its sequence.
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

    /// Wakes the consumers that sleep, after a message.
    #[inline(always)]
    fn wake(&self, words: &[AtomicU64]) {
        if let Some(word) = self.wake_word {
            wake_sleepers(&words[word], Barrier::Light);
        }
    }

    /// Does what is due now and then after a message.
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

    /// Gets what it needs without a reference to the writer, so that the compiler keeps the state
    /// of that in registers from one message to the next.
    #[inline(always)]
    fn wait_for_space(&self, shared: &Shared, next: u64, timeout: Timeout) -> Result<u64, Full> {
        wait_for_space(shared, &self.waiter, next, self.eviction_timeout, timeout)
    }

    /// Gives up the message of a claim: the old message of its slot is gone.
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

    /// Counts the messages of a batch, and wakes the consumers that sleep.
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
    /// Publishes `message` and returns its sequence: 0 for the first message of a ring, then one
    /// more each. Waits for room if a gating consumer is a lap behind.
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
    /// [`Full`], with the slowest consumer.
    pub fn publish_timeout(&mut self, message: &T, timeout: Duration) -> Result<u64, Full> {
        self.publish_within(message, Timeout::After(timeout))
    }

    /// As [`Producer::publish`], but does not wait.
    ///
    /// # Errors
    /// [`Full`], with the slowest consumer.
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
    /// Publishes `messages` in order and returns their sequences. Waits for room as
    /// [`Producer::publish`] does.
    ///
    /// They become ready to be received together with the others in their line of memory, or, where
    /// a slot is more than a line, in groups of up to 64 KiB, a quarter of the ring, or 16
    /// messages of more than 256 bytes, so that consumers do not take each line from under the
    /// producer's hands. The ring's head, which late joiners and
    /// [`Consumer::lag`](crate::Consumer::lag) go by, moves once for as many as there is room for.
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

/// Copies `message` into a slot, after whose stamp `body` begins.
#[inline(always)]
fn fill<T: Pod>(body: &[AtomicU64], message: &T) {
    store(Granularity::of(size_of::<T>()), fixed_payload::<T>(body), bytemuck::bytes_of(message));
}

impl<K: ProducerKind> Producer<[u8], K> {
    /// Publishes `message` and returns its sequence: 0 for the first message of a ring, then one
    /// more each. Waits for room if a gating consumer is a lap behind.
    ///
    /// # Errors
    /// [`TooLarge`] if the message is larger than the slots; the ring is unchanged.
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

/// A message that the caller's code writes. Unless it is finished, it is given up when this is
/// dropped: that code may fail or panic.
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
        // A forked child has a copy of the producer, and must not close its parent's ring.
        if self.shared.is_ours() {
            // Close first: between the two, a consumer must not take the free lock for a death.
            self.core.kind.close(&mut self.core.writer, self.shared.words());
            self.shared.wake_consumers();
            self.core.kind.release();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
