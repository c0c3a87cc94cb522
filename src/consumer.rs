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

/// A jump to the newest message is given up after the producer has lapped it this many times, which
/// bounds the call.
const LATEST_TRIES: usize = 64;

/// Receives every message of a ring, in order, as fast as it can; what it is too slow for is
/// counted exactly.
///
/// A free consumer (`Consumer<M>`) only loads from the segment, except that one of a ring that was
/// opened for writing says so when it goes to sleep. It cannot slow the producer or other consumers
/// down, there may be any number of them, and each may be killed at any time without anybody
/// noticing. For one message to each of several workers, this is the wrong type.
///
/// A registered one (`Consumer<M, Registered>`, see [`ConsumerBuilder::name`]) also writes to the
/// ring's reader table, and to nothing else: how far it is, and that it sleeps. One that gates
/// makes the producer wait for it; when it is killed, the producer finds that out and goes on.
///
/// # Waiting
/// The blocking receives wait as [`WaitStrategy`](crate::WaitStrategy) says. By default they spin
/// for a moment and then sleep until the producer wakes them; see
/// [`ConsumerBuilder::wait_strategy`] for who can be woken, and [`Consumer::canceller`] for how to
/// end a wait.
///
/// # Lagging
/// When the producer has overwritten the next message, the next receive returns `Lagged(n)` once,
/// with the exact number of messages that this consumer will never see, and goes on as
/// [`OnLag`](crate::OnLag) says ([`OnLag::Stay`](crate::OnLag::Stay) repeats it until a seek).
/// [`Consumer::try_latest`] alone counts them as skipped instead, like all that it jumps over.
///
/// # Closing
/// All published messages are delivered before `Closed`. A producer that died is noticed by the
/// blocking receives within a tenth of a second.
pub struct Consumer<M: Message + ?Sized, R: Registration = Free> {
    reader: CachePadded<Reader>,
    registration: R,
    waiter: Box<Waiter>,
    shared: Arc<Shared>,
    /// Memory for messages that are looked at where they land.
    spare: Vec<u8>,
    _message: PhantomData<fn(&M)>,
}

impl<M: Message + ?Sized, R: Registration> Consumer<M, R> {
    /// Receives the next message if it is there. Never waits and never enters the kernel; therefore
    /// it cannot tell a dead producer from a silent one (see
    /// [`Ring::is_producer_alive`](crate::Ring::is_producer_alive)).
    ///
    /// A thread that polls one consumer does best with [`std::hint::spin_loop`] behind each
    /// `Empty`: who looks again at once takes the line from the producer's core just when that
    /// is about to write it. [`Consumer::recv`] does so.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`], [`TryRecvError::Lagged`] or [`TryRecvError::Closed`].
    // Inlined whatever the compiler thinks: a message that is returned through memory is stored by
    // words and loaded by vectors, which costs four times the receive itself (48 bytes: 6.9 ns
    // instead of 1.4).
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<M::Owned, TryRecvError> {
        self.apply_command()?;
        match self.copy_next() {
            Ok(message) => Ok(message),
            Err(miss) => Err(self.resolve(miss)),
        }
    }

    /// Receives the next message, waiting for it as [`WaitStrategy`](crate::WaitStrategy) says.
    ///
    /// # Errors
    /// [`RecvError`].
    #[inline(always)]
    pub fn recv(&mut self) -> Result<M::Owned, RecvError> {
        self.recv_within(Timeout::Never).map_err(without_timeout)
    }

    /// Receives the next message, waiting for it as [`Consumer::recv`] does, for at most `timeout`.
    ///
    /// # Errors
    /// [`RecvTimeoutError`].
    #[inline(always)]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<M::Owned, RecvTimeoutError> {
        self.recv_within(Timeout::After(timeout))
    }

    /// Receives the next message, waiting for it as [`Consumer::recv`] does, until `deadline`.
    ///
    /// # Errors
    /// [`RecvTimeoutError`].
    #[inline(always)]
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<M::Owned, RecvTimeoutError> {
        self.recv_within(Timeout::At(deadline))
    }

    /// A handle that ends the blocking calls of this consumer from another thread. Make it before
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

    /// Waits for the next message and appends it, and what else is there already, to `messages`: at
    /// most `max`, and at most as many as the ring has slots. Returns how many. With `max` 0 it
    /// returns 0 at once.
    ///
    /// # Errors
    /// As [`Consumer::recv`], and only if nothing was received: a loss behind received messages is
    /// reported by the next call.
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
    /// As [`Consumer::try_recv`], and only if nothing was received.
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

    /// Waits for the next message and hands it, and what else is there already, to `each`, one
    /// after the other: at most `max`, and at most as many as the ring has slots. Returns how
    /// many. With `max` 0 it returns 0 at once.
    ///
    /// As [`Consumer::recv_batch`] without the vector: messages are looked at where they land, and
    /// byte messages all land in the same memory, which the consumer keeps. If `each` panics,
    /// its message counts as received.
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
    /// As [`Consumer::recv`], and only if nothing was received: a loss behind received messages is
    /// reported by the next call.
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
    /// As [`Consumer::try_recv`], and only if nothing was received.
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

    /// Iterates over messages, waiting for each; ends when the ring is closed, for whatever reason
    /// ([`Consumer::try_recv`] or [`Consumer::recv`] tells it afterwards). Losses are items.
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

    /// Jumps to the newest message and receives it; those in between are counted as skipped. If
    /// there is none that is newer than what has been received, it does what
    /// [`Consumer::try_recv`] does.
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

    /// Goes to another position. What is jumped over is counted neither as lost nor as skipped.
    pub fn seek(&mut self, start: Start) {
        self.reader.seek(self.shared.words(), start);
        self.tell(self.reader.cursor());
    }

    /// Sequence of the next message; that of the message received last is one less.
    pub fn cursor(&self) -> u64 {
        self.reader.cursor()
    }

    /// Messages published but not received yet. May be more than there are slots: then some are
    /// lost already.
    pub fn lag(&self) -> u64 {
        self.reader.lag(self.shared.words())
    }

    /// Messages received since this consumer was attached.
    pub fn received(&self) -> u64 {
        self.reader.received()
    }

    /// Messages lost since this consumer was attached, because it was too slow: the sum of all
    /// reported losses, except under [`OnLag::Stay`](crate::OnLag::Stay), which reports without
    /// moving and counts nothing.
    ///
    /// Without [`Consumer::seek`], start + received + lost + skipped = cursor at all times.
    pub fn lost(&self) -> u64 {
        self.reader.lost()
    }

    /// Sequences that never were messages, since this consumer was attached: claims of producers
    /// that died over them, in a ring of several producers. Waiting receives go over those of
    /// the dead by themselves; [`Consumer::try_recv`] once a living producer has come by.
    ///
    /// Without [`Consumer::seek`], start + received + lost + skipped + tombstones = cursor at all
    /// times.
    pub fn tombstones(&self) -> u64 {
        self.reader.tombstones()
    }

    /// Messages jumped over by [`Consumer::try_latest`] since this consumer was attached.
    pub fn skipped(&self) -> u64 {
        self.reader.skipped()
    }

    /// Appends what is there behind the first message of a batch of at most `max`. Returns how many
    /// the batch has.
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

    /// Hands the first message of a batch of at most `max`, which is in `landing` if it could be
    /// had, and what is there behind it, to `each`. Returns how many the batch has.
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

    /// Tells about progress within a batch that began with `first`, if the producer may wait for
    /// it.
    #[inline(always)]
    fn tell_within_batch(&mut self, first: u64) {
        if self.registration.pace() < usize::MAX {
            self.tell(first);
        }
    }

    /// Copies the next message out of its slot, and counts it as received if the slot still holds it
    /// after the copy.
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

    /// As [`Consumer::try_recv`], into memory that is used again and again.
    #[inline(always)]
    fn try_recv_to(&mut self, landing: &mut M::Reused) -> Result<(), TryRecvError> {
        self.apply_command()?;
        match self.copy_next_to(landing) {
            Ok(()) => Ok(()),
            Err(miss) => Err(self.resolve(miss)),
        }
    }

    /// As [`Consumer::copy_next`], into memory that is used again and again.
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

    /// Why there is no message; moves on after a loss.
    #[inline(always)]
    fn resolve(&mut self, miss: Miss) -> TryRecvError {
        let shape = M::shape(&self.shared.header.geometry);
        let error = self.reader.resolve(self.shared.words(), shape, miss);
        self.tell(self.reader.cursor());
        // A producer that was killed between evicting and telling has not told.
        if error == TryRecvError::Empty && self.registration.is_evicted() {
            TryRecvError::Closed(CloseReason::Evicted)
        } else {
            error
        }
    }

    /// Does what the producer wants of a registered consumer.
    #[inline(always)]
    fn apply_command(&mut self) -> Result<(), TryRecvError> {
        if self.registration.has_command() {
            self.registration.apply_command(&mut self.reader)
        } else {
            Ok(())
        }
    }

    /// Tells the reader table about all progress; what comes before `done` has been dealt with.
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

    /// Waits until there is something to receive, or to see to.
    #[inline(always)]
    fn wait_for_next(&mut self, timeout: &mut Timeout) -> Result<(), RecvTimeoutError> {
        if self.reader.must_wait(self.shared.words()) {
            // A producer that waits for this consumer must see how far it is before the two wait
            // for each other.
            self.tell(self.reader.cursor());
            *timeout = timeout.begun();
            // The first polls come before the wait, not in it: what a wait does after its last poll
            // would make the message older.
            if look(LOOKS, || self.reader.must_wait(self.shared.words()))
                && self.wait(*timeout)? == Wanted::GoOver
            {
                // The message behind may be there, also if there is no time left.
                self.skip_tombstone();
            }
        }
        Ok(())
    }

    /// Waits until there is something to receive, or to see to. The patience has begun.
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

    /// What a wait that ended with `roused` has come to, if there is no more to wait for: what is
    /// to be done, or why no message will come.
    pub(crate) fn outcome(&self, roused: WakeReason) -> Option<Result<Wanted, CloseReason>> {
        // Nobody rings for a death.
        let died = !matches!(roused, WakeReason::Ready) && !self.shared.is_producer_alive();
        // Looked at behind the question for the producer: its last message may have come before its
        // death.
        if self.has_next() {
            return Some(Ok(Wanted::Receive));
        }
        if matches!(roused, WakeReason::Check | WakeReason::Timeout) && self.is_at_orphan() {
            return Some(Ok(Wanted::GoOver));
        }
        let ended = self.reader.ended(self.shared.words());
        // Behind the look at the end, which shows what was wanted before it: who was evicted, and
        // then the ring closed, learns of the first.
        if self.registration.has_command() {
            // What is wanted is the business of the receive that follows.
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

    /// Whether the next sequence is there, be it a message or not.
    pub(crate) fn has_next(&self) -> bool {
        !self.reader.must_wait(self.shared.words())
    }

    /// Goes over the next sequence, at which [`Consumer::outcome`] has found [`Wanted::GoOver`],
    /// and over those like it that follow.
    pub(crate) fn skip_tombstone(&mut self) {
        for _ in 0..self.shared.header.geometry.producers {
            self.reader.skip_tombstone();
            if !self.is_at_orphan() {
                return;
            }
        }
    }

    /// Tells the reader table how often a wait that is not this consumer's own has slept.
    pub(crate) fn slept(&self, sleeps: u64) {
        self.registration.slept(sleeps);
    }

    /// Whether the next sequence was claimed by a producer that died over it. Asks the kernel.
    fn is_at_orphan(&self) -> bool {
        self.reader
            .is_at_orphan(self.shared.words(), |row| self.shared.is_shared_producer_alive(row))
    }

    /// Whether there is something that a waiting consumer must see to.
    pub(crate) fn has_news(&self) -> bool {
        let words = self.shared.words();
        !self.reader.must_wait(words)
            || self.reader.ended(words).is_some()
            || self.registration.has_command()
    }

    /// Says that it is about to wait, and returns the bell's value to wait by, and whether somebody
    /// rings, once that has [settled](crate::wait::Settled). It must look once more.
    #[cfg(feature = "async")]
    pub(crate) fn prepare_to_sleep(&self) -> (u32, bool) {
        self.bell().map_or_else(|| (load_key(self.shared.bell()), false), |bell| bell.prepare())
    }

    #[cfg(feature = "async")]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What it sleeps by. Nothing, and so it naps, if it was inherited by a fork: a bit that is
    /// raised in a private page reaches nobody, and the kernel makes a page private that a
    /// futex is on, so that we would see no more of the reader table.
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
    /// Says that all messages received so far have been dealt with: a consumer of the same name
    /// that is attached with [`RegisteredBuilder::resume`] after this one has ended, or was
    /// killed, goes on behind them.
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
    /// As [`Consumer::try_recv`], into a vector that is used again and again: its content is
    /// replaced, its capacity kept.
    ///
    /// # Errors
    /// As [`Consumer::try_recv`]; the content of the vector is unspecified then.
    #[inline]
    pub fn try_recv_into(&mut self, message: &mut Vec<u8>) -> Result<(), TryRecvError> {
        self.try_recv_to(message)
    }

    /// As [`Consumer::recv`], into a vector that is used again and again: its content is replaced,
    /// its capacity kept.
    ///
    /// # Errors
    /// As [`Consumer::recv`]; the content of the vector is unspecified then.
    #[inline]
    pub fn recv_into(&mut self, message: &mut Vec<u8>) -> Result<(), RecvError> {
        self.recv_to(message, Timeout::Never).map_err(without_timeout)
    }

    /// As [`Consumer::recv_timeout`], into a vector that is used again and again: its content is
    /// replaced, its capacity kept.
    ///
    /// # Errors
    /// As [`Consumer::recv_timeout`]; the content of the vector is unspecified then.
    #[inline]
    pub fn recv_timeout_into(
        &mut self,
        message: &mut Vec<u8>,
        timeout: Duration,
    ) -> Result<(), RecvTimeoutError> {
        self.recv_to(message, Timeout::After(timeout))
    }

    /// As [`Consumer::try_latest`], into a vector that is used again and again: its content is
    /// replaced, its capacity kept.
    ///
    /// # Errors
    /// As [`Consumer::try_latest`]; the content of the vector is unspecified then.
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

/// What a wait was good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// There is something to receive, or to apply_command.
    Receive,
    /// The next sequence will never be a message.
    GoOver,
}

/// What is left of the timeout of a consumer that has received nothing, if the wait goes on: there
/// was a tombstone, or a command that came to nothing. (Or memory is corrupt, which must not keep
/// anybody beyond a timeout.)
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
