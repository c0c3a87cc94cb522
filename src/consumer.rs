//! The consumers of a ring.

mod builder;
mod error;
pub(crate) mod registration;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

pub use crate::consumer::builder::{ConsumerBuilder, RegisteredBuilder};
pub use crate::consumer::error::{Lagged, RecvError, RecvTimeoutError};
pub use crate::consumer::registration::{Free, Registered, Registration};

use crate::consumer::error::without_timeout;
use crate::layout::BELL;
use crate::message::Message;
use crate::protocol::slot::Miss;
#[cfg(feature = "async")]
use crate::protocol::wake::load_key;
use crate::protocol::{CloseReason, Reader, Start, TryRecvError};
use crate::shared::Shared;
use crate::wait::{Access, Bell, Canceller, LOOKS, Timeout, Waiter, WakeReason, look};

/// Number of times that a jump to the newest message may be lapped before it is given up. This
/// bounds the call.
const LATEST_TRIES: usize = 64;

/// Receives every message of a ring, in order. A consumer that is too slow learns exactly how many
/// messages it lost.
///
/// Every consumer receives every message: a ring does not divide messages among workers.
///
/// # Free and registered consumers
/// A free consumer (`Consumer<M>`) only loads from the segment, with one exception: if the ring was
/// opened for writing, the consumer sets a bit before it sleeps, so that the producer wakes it. A
/// free consumer cannot slow down the producer or other consumers, and it may be killed at any time
/// without an effect on them. Their number is not limited.
///
/// A registered consumer (`Consumer<M, Registered>`, see [`ConsumerBuilder::name`]) also writes its
/// progress, and that it sleeps, to the ring's reader table, and nowhere else. The producer waits
/// for a registered consumer that gates. If such a consumer is killed, the producer detects that
/// and continues.
///
/// # Waiting
/// The blocking receives wait as [`WaitStrategy`](crate::WaitStrategy) says. By default they spin
/// for a short time and then sleep until the producer wakes them.
/// [`ConsumerBuilder::wait_strategy`] says which consumers can be woken. [`Consumer::canceller`]
/// ends a wait.
///
/// # Lagging
/// When the producer has overwritten the next message, the next receive returns `Lagged(n)` once:
/// `n` is the exact number of messages that this consumer will never receive. It then continues
/// where [`OnLag`](crate::OnLag) says; with [`OnLag::Stay`](crate::OnLag::Stay) it returns `Lagged`
/// again until [`Consumer::seek`]. Only [`Consumer::try_latest`] counts such messages as skipped
/// instead, as all messages that it jumps over.
///
/// # Closing
/// All published messages are delivered before `Closed`. The blocking receives notice the death of
/// a producer within a tenth of a second.
pub struct Consumer<M: Message + ?Sized, R: Registration = Free> {
    reader: CachePadded<Reader>,
    registration: R,
    waiter: Box<Waiter>,
    shared: Arc<Shared>,
    /// Buffer for messages that are passed on by reference.
    spare: Vec<u8>,
    _message: PhantomData<fn(&M)>,
}

impl<M: Message + ?Sized, R: Registration> Consumer<M, R> {
    /// Receives the next message if there is one. Never waits and makes no system call, except that
    /// a gating consumer wakes a producer that sleeps until there is space. Therefore it cannot
    /// distinguish a dead producer from a silent one (see
    /// [`Ring::is_producer_alive`](crate::Ring::is_producer_alive)).
    ///
    /// A thread that polls one consumer should call [`std::hint::spin_loop`] after each `Empty`. An
    /// immediate second poll takes the cache line from the producer's core just before the producer
    /// writes to it. [`Consumer::recv`] does this by itself.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`], [`TryRecvError::Lagged`] or [`TryRecvError::Closed`].
    // Always inlined: a message that is returned through memory is stored by words and loaded by
    // vectors, which costs more than the receive itself.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<M::Owned, TryRecvError> {
        self.apply_command()?;
        match self.copy_next() {
            Ok(message) => Ok(message),
            Err(miss) => Err(self.resolve(miss)),
        }
    }

    /// Receives the next message; waits for it as [`WaitStrategy`](crate::WaitStrategy) says.
    ///
    /// # Errors
    /// [`RecvError`]: a loss, the end of the ring, or a cancelled wait.
    #[inline(always)]
    pub fn recv(&mut self) -> Result<M::Owned, RecvError> {
        self.recv_within(Timeout::Never).map_err(without_timeout)
    }

    /// As [`Consumer::recv`], but waits for at most `timeout`.
    ///
    /// # Errors
    /// [`RecvTimeoutError`]: as [`RecvError`], or the timeout.
    #[inline(always)]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<M::Owned, RecvTimeoutError> {
        self.recv_within(Timeout::After(timeout))
    }

    /// As [`Consumer::recv`], but waits until `deadline` at most.
    ///
    /// # Errors
    /// [`RecvTimeoutError`]: as [`RecvError`], or the timeout.
    #[inline(always)]
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<M::Owned, RecvTimeoutError> {
        self.recv_within(Timeout::At(deadline))
    }

    /// Makes a handle that ends blocking calls of this consumer from another thread. Make it before
    /// the call that it is to end.
    ///
    /// ```
    /// # let name = format!("doc-cancel-{}", std::process::id());
    /// use seqring::{RecvError, Ring};
    ///
    /// let ring = Ring::<u32>::builder(&name).slots(8).create()?;
    /// let mut consumer = ring.consumer().attach();
    /// let canceller = consumer.canceller();
    /// let waiting = std::thread::spawn(move || consumer.recv());
    /// canceller.cancel();
    /// assert_eq!(waiting.join().unwrap(), Err(RecvError::Cancelled));
    /// # Ok::<(), seqring::Error>(())
    /// ```
    pub fn canceller(&self) -> Canceller {
        self.waiter.canceller()
    }

    /// Waits for the next message, and appends it and all messages that are available by then to
    /// `messages`: at most `max`, and at most as many as the ring has slots. Returns the number of
    /// messages. With `max` 0 it returns 0 at once.
    ///
    /// # Errors
    /// As [`Consumer::recv`], and only if no message was received. The next call reports a loss
    /// that follows received messages.
    #[inline]
    pub fn recv_batch(
        &mut self,
        messages: &mut Vec<M::Owned>,
        max: usize,
    ) -> Result<usize, RecvError> {
        if max == 0 {
            return Ok(0);
        }
        messages.push(self.recv()?);
        Ok(self.append(messages, max))
    }

    /// As [`Consumer::recv_batch`], but does not wait.
    ///
    /// # Errors
    /// As [`Consumer::try_recv`], and only if no message was received.
    #[inline]
    pub fn try_recv_batch(
        &mut self,
        messages: &mut Vec<M::Owned>,
        max: usize,
    ) -> Result<usize, TryRecvError> {
        if max == 0 {
            return Ok(0);
        }
        messages.push(self.try_recv()?);
        Ok(self.append(messages, max))
    }

    /// Waits for the next message, and calls `each` with it and with every message that is
    /// available by then: at most `max`, and at most as many as the ring has slots. Returns the
    /// number of messages. With `max` 0 it returns 0 at once.
    ///
    /// Unlike [`Consumer::recv_batch`] this needs no vector, and byte messages are all copied into
    /// the same buffer, which the consumer keeps. If `each` panics, its message counts as received.
    ///
    /// ```
    /// # let name = format!("doc-each-{}", std::process::id());
    /// let ring = seqring::Ring::<[u8]>::builder(&name).slots(8).slot_bytes(64).create()?;
    /// let mut producer = ring.producer()?;
    /// let mut consumer = ring.consumer().attach();
    /// producer.publish_batch(["one", "two", "three"])?;
    /// let mut bytes = 0;
    /// consumer.recv_each(32, |message| bytes += message.len())?;
    /// assert_eq!(bytes, 11);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Consumer::recv`], and only if no message was received. The next call reports a loss
    /// that follows received messages.
    #[inline(always)]
    pub fn recv_each(&mut self, max: usize, each: impl FnMut(&M)) -> Result<usize, RecvError> {
        if max == 0 {
            return Ok(0);
        }
        let mut landing = M::landing(&mut self.spare);
        let first = self.recv_to(&mut landing, Timeout::Never);
        self.hand_out(first, landing, max, each).map_err(without_timeout)
    }

    /// As [`Consumer::recv_each`], but does not wait.
    ///
    /// # Errors
    /// As [`Consumer::try_recv`], and only if no message was received.
    #[inline(always)]
    pub fn try_recv_each(
        &mut self,
        max: usize,
        each: impl FnMut(&M),
    ) -> Result<usize, TryRecvError> {
        if max == 0 {
            return Ok(0);
        }
        let mut landing = M::landing(&mut self.spare);
        let first = self.try_recv_to(&mut landing);
        self.hand_out(first, landing, max, each)
    }

    /// Iterates over messages; waits for each. A loss is an item `Err(Lagged)`. The iterator ends
    /// when the ring is closed or the wait is cancelled; a call of [`Consumer::try_recv`] or
    /// [`Consumer::recv`] after that returns the reason of the close.
    ///
    /// ```
    /// # let name = format!("doc-iter-{}", std::process::id());
    /// let ring = seqring::Ring::<u32>::builder(&name).slots(8).create()?;
    /// let mut producer = ring.producer()?;
    /// let mut consumer = ring.consumer().attach();
    /// producer.publish_batch(&[1, 2, 3]);
    /// producer.close();
    /// let sum: u32 = consumer.iter().map(|item| item.expect("no loss")).sum();
    /// assert_eq!(sum, 6);
    /// # Ok::<(), seqring::Error>(())
    /// ```
    pub fn iter(&mut self) -> Iter<'_, M, R> {
        Iter { consumer: self }
    }

    /// Jumps to the newest message and receives it. The messages in between are counted as skipped.
    /// If no message is newer than the last received one, this does what [`Consumer::try_recv`]
    /// does.
    ///
    /// # Errors
    /// As [`Consumer::try_recv`]; `Lagged` only if the producer laps the ring many times during the
    /// call.
    pub fn try_latest(&mut self) -> Result<M::Owned, TryRecvError> {
        self.apply_command()?;
        for _ in 0..LATEST_TRIES {
            self.reader.skip_to_newest(self.shared.words());
            match self.copy_next() {
                Ok(message) => {
                    self.tell(self.reader.cursor() - 1);
                    return Ok(message);
                }
                Err(Miss::Lapped) => {}
                Err(miss) => return Err(self.resolve(miss)),
            }
        }
        self.try_recv()
    }

    /// Moves to another position. Messages that are jumped over are counted neither as lost nor as
    /// skipped.
    pub fn seek(&mut self, start: Start) {
        self.reader.seek(self.shared.words(), start);
        self.tell(self.reader.cursor());
    }

    /// Sequence of the next message. The sequence of the message received last is one less.
    pub fn cursor(&self) -> u64 {
        self.reader.cursor()
    }

    /// Number of messages published but not received yet. If it exceeds the number of slots, some
    /// of them are already lost.
    pub fn lag(&self) -> u64 {
        self.reader.lag(self.shared.words())
    }

    /// Number of messages received since this consumer was attached.
    pub fn received(&self) -> u64 {
        self.reader.received()
    }

    /// Number of messages lost since this consumer was attached, because it was too slow: the sum
    /// of all reported losses. Losses under [`OnLag::Stay`](crate::OnLag::Stay), which do not move
    /// the consumer, are not counted.
    ///
    /// Without [`Consumer::seek`], start + received + lost + skipped + tombstones = cursor at all
    /// times.
    pub fn lost(&self) -> u64 {
        self.reader.lost()
    }

    /// Number of sequences since this consumer was attached that never became messages, because a
    /// producer died between its claim and its message. Only rings of several producers have them.
    /// Waiting receives pass such a sequence by themselves; [`Consumer::try_recv`] passes it after
    /// a live producer has marked it.
    ///
    /// Without [`Consumer::seek`], start + received + lost + skipped + tombstones = cursor at all
    /// times.
    pub fn tombstones(&self) -> u64 {
        self.reader.tombstones()
    }

    /// Number of messages jumped over by [`Consumer::try_latest`] since this consumer was attached.
    pub fn skipped(&self) -> u64 {
        self.reader.skipped()
    }

    /// Appends the messages that are available after the first message of a batch, up to `max` in
    /// all. Returns the number of messages of the batch.
    #[inline(always)]
    fn append(&mut self, messages: &mut Vec<M::Owned>, max: usize) -> usize {
        let (first, pace) = (self.reader.cursor() - 1, self.registration.pace());
        let max = max.min(self.shared.header.geometry.slots);
        let mut received = 1;
        messages.reserve(max - 1);
        while received < max {
            let free = messages.spare_capacity_mut().iter_mut().take((max - received).min(pace));
            let geometry = &self.shared.header.geometry;
            let mut run = self.reader.begin_run(self.shared.words(), M::shape(geometry));
            for place in free {
                let Some(body) = run.begin() else { break };
                let landing = M::take(body, geometry);
                if !run.validate() {
                    break;
                }
                place.write(M::accept(landing));
            }
            let run = run.finish();
            // SAFETY: the first `run` of the free places were written just now.
            unsafe { messages.set_len(messages.len() + run) };
            received += run;
            if run == 0 {
                break;
            }
            self.tell_within_batch(first);
        }
        self.tell(first);
        received
    }

    /// Calls `each` with the first message of a batch, which is in `landing` if `first` is `Ok`,
    /// and with those that are available after it, up to `max` in all. Returns the number of
    /// messages of the batch.
    ///
    /// # Errors
    /// That of the first message.
    #[inline(always)]
    fn hand_out<E>(
        &mut self,
        first: Result<(), E>,
        mut landing: M::Reused,
        max: usize,
        mut each: impl FnMut(&M),
    ) -> Result<usize, E> {
        if let Err(error) = first {
            M::done(landing, &mut self.spare);
            return Err(error);
        }
        let (first, pace) = (self.reader.cursor() - 1, self.registration.pace());
        let max = max.min(self.shared.header.geometry.slots);
        each(M::view(&landing));
        let mut received = 1usize;
        while received < max {
            let most = (max - received).min(pace);
            let geometry = &self.shared.header.geometry;
            let mut run = self.reader.begin_run(self.shared.words(), M::shape(geometry));
            while run.received() < most {
                let Some(body) = run.begin() else { break };
                M::take_to(&mut landing, body, geometry);
                if !run.validate() {
                    break;
                }
                each(M::view(&landing));
            }
            let run = run.finish();
            received += run;
            if run == 0 {
                break;
            }
            self.tell_within_batch(first);
        }
        M::done(landing, &mut self.spare);
        self.tell(first);
        Ok(received)
    }

    /// Publishes progress within a batch that began with `first`, if the producer may wait for it.
    #[inline(always)]
    fn tell_within_batch(&mut self, first: u64) {
        if self.registration.pace() < usize::MAX {
            self.tell(first);
        }
    }

    /// Copies the next message out of its slot, and counts it as received if the slot still holds
    /// it after the copy.
    #[inline(always)]
    fn copy_next(&mut self) -> Result<M::Owned, Miss> {
        let (words, geometry) = (self.shared.words(), &self.shared.header.geometry);
        let shape = M::shape(geometry);
        let reading = self.reader.begin(words, shape)?;
        let landing = M::take(reading.body, geometry);
        self.reader.validate(reading, shape)?;
        self.registration.received(&self.reader, words);
        Ok(M::accept(landing))
    }

    /// As [`Consumer::try_recv`], into a buffer that is reused.
    #[inline(always)]
    fn try_recv_to(&mut self, landing: &mut M::Reused) -> Result<(), TryRecvError> {
        self.apply_command()?;
        match self.copy_next_to(landing) {
            Ok(()) => Ok(()),
            Err(miss) => Err(self.resolve(miss)),
        }
    }

    /// As [`Consumer::copy_next`], into a buffer that is reused.
    #[inline(always)]
    fn copy_next_to(&mut self, landing: &mut M::Reused) -> Result<(), Miss> {
        let (words, geometry) = (self.shared.words(), &self.shared.header.geometry);
        let shape = M::shape(geometry);
        let reading = self.reader.begin(words, shape)?;
        M::take_to(landing, reading.body, geometry);
        self.reader.validate(reading, shape)?;
        self.registration.received(&self.reader, words);
        Ok(())
    }

    /// Returns why there is no message; moves on after a loss.
    #[inline(always)]
    fn resolve(&mut self, miss: Miss) -> TryRecvError {
        let shape = M::shape(&self.shared.header.geometry);
        let error = self.reader.resolve(self.shared.words(), shape, miss);
        self.tell(self.reader.cursor());
        // A producer that was killed during an eviction may not have published the command.
        if error == TryRecvError::Empty && self.registration.is_evicted() {
            TryRecvError::Closed(CloseReason::Evicted)
        } else {
            error
        }
    }

    /// Applies a pending command of the producer to a registered consumer.
    #[inline(always)]
    fn apply_command(&mut self) -> Result<(), TryRecvError> {
        if self.registration.has_command() {
            self.registration.apply_command(&mut self.reader)
        } else {
            Ok(())
        }
    }

    /// Publishes all progress in the reader table. All messages before `done` have been processed.
    #[inline(always)]
    pub(crate) fn tell(&mut self, done: u64) {
        self.registration.tell(&self.reader, self.shared.words(), done);
    }

    #[inline(always)]
    fn recv_within(&mut self, mut timeout: Timeout) -> Result<M::Owned, RecvTimeoutError> {
        loop {
            self.wait_for_next(&mut timeout)?;
            match self.try_recv() {
                Ok(message) => return Ok(message),
                Err(error) => timeout = go_on(error, timeout)?,
            }
        }
    }

    #[inline(always)]
    fn recv_to(
        &mut self,
        landing: &mut M::Reused,
        mut timeout: Timeout,
    ) -> Result<(), RecvTimeoutError> {
        loop {
            self.wait_for_next(&mut timeout)?;
            match self.try_recv_to(landing) {
                Ok(()) => return Ok(()),
                Err(error) => timeout = go_on(error, timeout)?,
            }
        }
    }

    /// Waits until there is a message, a loss, the end, or a command.
    #[inline(always)]
    fn wait_for_next(&mut self, timeout: &mut Timeout) -> Result<(), RecvTimeoutError> {
        if self.reader.must_wait(self.shared.words()) {
            // A producer that waits for this consumer must see the consumer's progress; otherwise
            // the two wait for each other.
            self.tell(self.reader.cursor());
            *timeout = timeout.begun();
            // The first polls come before the wait and not inside it: the work of a wait after its
            // last poll would add to the latency.
            if look(LOOKS, || self.reader.must_wait(self.shared.words()))
                && self.wait(*timeout)? == Wanted::GoOver
            {
                // The message after the tombstone may be there, even if the timeout is over.
                self.skip_tombstone();
            }
        }
        Ok(())
    }

    /// Waits until there is a message, a loss, the end, or a command. The time of the timeout
    /// already runs.
    #[cold]
    #[inline(never)]
    fn wait(&self, patience: Timeout) -> Result<Wanted, RecvTimeoutError> {
        let mut waiting = self.waiter.start(patience.end());
        let sleeps = self.waiter.sleeps();
        let woken = loop {
            let roused = waiting.until(self.bell().as_slice(), || !self.has_news());
            if let Some(outcome) = self.outcome(roused) {
                break outcome.map_err(RecvTimeoutError::Closed);
            }
            match roused {
                WakeReason::Timeout => break Err(RecvTimeoutError::Timeout),
                WakeReason::Cancelled => break Err(RecvTimeoutError::Cancelled),
                WakeReason::Ready | WakeReason::Check => {}
            }
        };
        if self.waiter.sleeps() != sleeps {
            self.registration.slept(self.waiter.sleeps());
        }
        woken
    }

    /// The result of a wait that ended with `roused`: what to do, or why no message will come.
    /// `None` if the wait must continue.
    pub(crate) fn outcome(&self, roused: WakeReason) -> Option<Result<Wanted, CloseReason>> {
        // No notification announces the death of a producer.
        let died = !matches!(roused, WakeReason::Ready) && !self.shared.is_producer_alive();
        // This check follows the check of the producer: the producer may have published a last
        // message before its death.
        if self.has_next() {
            return Some(Ok(Wanted::Receive));
        }
        if matches!(roused, WakeReason::Check | WakeReason::Timeout) && self.is_at_orphan() {
            return Some(Ok(Wanted::GoOver));
        }
        let ended = self.reader.ended(self.shared.words());
        // This check follows the load of the end, so that a command that was given before the end
        // is seen: a consumer that was evicted before the ring closed reports the eviction.
        if self.registration.has_command() {
            // The receive that follows applies the command.
            return Some(Ok(Wanted::Receive));
        }
        if self.registration.is_evicted() {
            return Some(Err(CloseReason::Evicted));
        }
        if let Some(reason) = ended {
            return Some(Err(reason));
        }
        died.then_some(Err(CloseReason::ProducerDied))
    }

    /// Whether the next sequence is available: a message, a tombstone or a loss.
    pub(crate) fn has_next(&self) -> bool {
        !self.reader.must_wait(self.shared.words())
    }

    /// Moves past the next sequence, for which [`Consumer::outcome`] returned [`Wanted::GoOver`],
    /// and past orphans that follow it.
    pub(crate) fn skip_tombstone(&mut self) {
        for _ in 0..self.shared.header.geometry.producers {
            self.reader.skip_tombstone();
            if !self.is_at_orphan() {
                return;
            }
        }
    }

    /// Publishes in the reader table how often a wait outside of this consumer has slept.
    pub(crate) fn slept(&self, sleeps: u64) {
        self.registration.slept(sleeps);
    }

    /// Whether the next sequence was claimed by a producer that died before it finished. Makes
    /// system calls.
    fn is_at_orphan(&self) -> bool {
        self.reader
            .is_at_orphan(self.shared.words(), |row| self.shared.is_shared_producer_alive(row))
    }

    /// Whether there is anything for which a wait must end.
    pub(crate) fn has_news(&self) -> bool {
        let words = self.shared.words();
        !self.reader.must_wait(words)
            || self.reader.ended(words).is_some()
            || self.registration.has_command()
    }

    /// Prepares a wait: returns the value of the wake word to wait on, and whether a notification
    /// is certain once the wait has [settled](crate::wait::Settled). The caller must check for news
    /// once more before it sleeps.
    #[cfg(feature = "async")]
    pub(crate) fn prepare_to_sleep(&self) -> (u32, bool) {
        self.bell().map_or_else(|| (load_key(self.shared.bell()), false), |bell| bell.prepare())
    }

    #[cfg(feature = "async")]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The wake word on which this consumer sleeps. `None` if the consumer was inherited by a fork,
    /// so that it polls between short sleeps. In a forked child, a bit set in a private page
    /// reaches no other process. Also, the kernel makes the page of a futex private, and the
    /// consumer would no longer see changes to the reader table.
    pub(crate) fn bell(&self) -> Option<Bell<'_>> {
        let shared = &*self.shared;
        if shared.is_inherited() {
            return None;
        }
        let raise = |word| Bell { word, access: Access::Raise };
        Some(match self.registration.table() {
            Some(table) if shared.header.parkable => raise(&table[BELL]),
            None if shared.header.parkable && shared.is_writable() => raise(shared.bell()),
            _ => Bell { word: shared.bell(), access: Access::ReadOnly },
        })
    }
}

impl<M: Message + ?Sized> Consumer<M, Registered> {
    /// Records that all messages received so far have been processed. A consumer of the same name
    /// that is later attached with [`RegisteredBuilder::resume`] starts after them.
    ///
    /// # Errors
    /// Those of the checkpoint file, if there is one.
    pub fn checkpoint(&mut self) -> std::io::Result<()> {
        self.checkpoint_before(self.reader.cursor())
    }

    /// As [`Consumer::checkpoint`], for the messages before `done`.
    pub(crate) fn checkpoint_before(&mut self, done: u64) -> std::io::Result<()> {
        self.registration.checkpoint(&self.reader, self.shared.words(), done)
    }
}

impl<R: Registration> Consumer<[u8], R> {
    /// As [`Consumer::try_recv`], into a vector: its content is replaced and its capacity reused.
    ///
    /// # Errors
    /// As [`Consumer::try_recv`]; then the content of the vector is unspecified.
    #[inline]
    pub fn try_recv_into(&mut self, message: &mut Vec<u8>) -> Result<(), TryRecvError> {
        self.try_recv_to(message)
    }

    /// As [`Consumer::recv`], into a vector: its content is replaced and its capacity reused.
    ///
    /// # Errors
    /// As [`Consumer::recv`]; then the content of the vector is unspecified.
    #[inline]
    pub fn recv_into(&mut self, message: &mut Vec<u8>) -> Result<(), RecvError> {
        self.recv_to(message, Timeout::Never).map_err(without_timeout)
    }

    /// As [`Consumer::recv_timeout`], into a vector: its content is replaced and its capacity
    /// reused.
    ///
    /// # Errors
    /// As [`Consumer::recv_timeout`]; then the content of the vector is unspecified.
    #[inline]
    pub fn recv_timeout_into(
        &mut self,
        message: &mut Vec<u8>,
        timeout: Duration,
    ) -> Result<(), RecvTimeoutError> {
        self.recv_to(message, Timeout::After(timeout))
    }

    /// As [`Consumer::try_latest`], into a vector: its content is replaced and its capacity reused.
    ///
    /// # Errors
    /// As [`Consumer::try_latest`]; then the content of the vector is unspecified.
    pub fn try_latest_into(&mut self, message: &mut Vec<u8>) -> Result<(), TryRecvError> {
        self.apply_command()?;
        for _ in 0..LATEST_TRIES {
            self.reader.skip_to_newest(self.shared.words());
            match self.copy_next_to(message) {
                Ok(()) => {
                    self.tell(self.reader.cursor() - 1);
                    return Ok(());
                }
                Err(Miss::Lapped) => {}
                Err(miss) => return Err(self.resolve(miss)),
            }
        }
        self.try_recv_into(message)
    }
}

/// What a consumer must do after a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Receive: there is a message, a loss, or a command to apply.
    Receive,
    /// Skip the next sequence, which will never be a message.
    GoOver,
}

/// The rest of the timeout after a receive that returned no message, if the wait continues: there
/// was a tombstone or a command without effect. Corrupt memory can also lead here, and the timeout
/// still bounds the call.
#[inline(always)]
fn go_on(error: TryRecvError, timeout: Timeout) -> Result<Timeout, RecvTimeoutError> {
    match error {
        TryRecvError::Lagged(n) => Err(RecvTimeoutError::Lagged(n)),
        TryRecvError::Closed(reason) => Err(RecvTimeoutError::Closed(reason)),
        TryRecvError::Empty => rest_of(timeout),
    }
}

#[cold]
#[inline(never)]
fn rest_of(timeout: Timeout) -> Result<Timeout, RecvTimeoutError> {
    let timeout = timeout.begun();
    if timeout.is_over() { Err(RecvTimeoutError::Timeout) } else { Ok(timeout) }
}

/// Iterates over the messages of a ring; made by [`Consumer::iter`].
pub struct Iter<'a, M: Message + ?Sized, R: Registration = Free> {
    consumer: &'a mut Consumer<M, R>,
}

impl<M: Message + ?Sized, R: Registration> Iterator for Iter<'_, M, R> {
    type Item = Result<M::Owned, Lagged>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.consumer.recv() {
            Ok(message) => Some(Ok(message)),
            Err(RecvError::Lagged(n)) => Some(Err(Lagged(n))),
            Err(RecvError::Closed(_) | RecvError::Cancelled) => None,
        }
    }
}

impl<'a, M: Message + ?Sized, R: Registration> IntoIterator for &'a mut Consumer<M, R> {
    type Item = Result<M::Owned, Lagged>;
    type IntoIter = Iter<'a, M, R>;

    fn into_iter(self) -> Iter<'a, M, R> {
        self.iter()
    }
}

impl<M: Message + ?Sized, R: Registration + fmt::Debug> fmt::Debug for Consumer<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("reader", &self.reader)
            .field("registration", &self.registration)
            .finish_non_exhaustive()
    }
}

impl<M: Message + ?Sized, R: Registration> fmt::Debug for Iter<'_, M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("reader", &self.consumer.reader).finish()
    }
}
