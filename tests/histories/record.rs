//! Carries out a plan on a ring and writes down what happens.

use std::sync::atomic::{Ordering, fence};
use std::time::Duration;
use std::{panic, thread};

use bytemuck::Pod;
use seqring::{
    CloseReason, Consumer, ConsumerBuilder, Free, Full, Message, Producer, PublishError, RecvError,
    RecvTimeoutError, Registered, Registration, Ring, RingBuilder, TryRecvError,
};

use crate::history::{Attempt, Counters, Event, Outcome, Read, Reason, Refusal, Span, Written};
use crate::payload;
use crate::plan::{Call, ConsumerKind, From, Plan, Policy, Publish, Reading, Shape};
use crate::support::monotonic_ns;

/// How messages of one type are made and recognised.
pub trait Traffic: 'static {
    type Message: Message + ?Sized;

    fn builder(name: &str, plan: &Plan) -> RingBuilder<Self::Message>;
    /// Publishes the next message, of `slot_bytes` at most, as all below.
    fn publish(producer: &mut Producer<Self::Message>, slot_bytes: usize);
    /// Publishes the next message if there is room, at once or within a timeout.
    fn try_publish(
        producer: &mut Producer<Self::Message>,
        slot_bytes: usize,
        timeout: Option<Duration>,
    ) -> Result<(), Full>;
    fn publish_batch(producer: &mut Producer<Self::Message>, slot_bytes: usize, count: u64);
    /// Publishes the next message piece by piece; whether this type can do that.
    fn build(producer: &mut Producer<Self::Message>, slot_bytes: usize) -> bool;
    /// Gives a message up half-way; whether this type can do that.
    fn abort(producer: &mut Producer<Self::Message>, slot_bytes: usize, with_panic: bool) -> bool;
    fn try_recv_into<R: Registration>(
        consumer: &mut Consumer<Self::Message, R>,
    ) -> Result<<Self::Message as Message>::Owned, TryRecvError>;
    fn owned(message: &Self::Message) -> <Self::Message as Message>::Owned;
    /// Which message this is, if it is one; probably `hint`.
    fn identify(
        message: &<Self::Message as Message>::Owned,
        slot_bytes: usize,
        hint: u64,
    ) -> Option<u64>;
}

/// Arrays of `N` words.
pub struct Words<const N: usize>;

impl<const N: usize> Traffic for Words<N>
where
    [u64; N]: Pod,
{
    type Message = [u64; N];

    fn builder(name: &str, plan: &Plan) -> RingBuilder<[u64; N]> {
        Ring::builder(name).slots(plan.slots)
    }

    fn publish(producer: &mut Producer<[u64; N]>, _: usize) {
        let sequence = producer.next_sequence();
        assert_eq!(producer.publish(&payload::array(sequence)), sequence);
    }

    fn try_publish(
        producer: &mut Producer<[u64; N]>,
        _: usize,
        timeout: Option<Duration>,
    ) -> Result<(), Full> {
        let sequence = producer.next_sequence();
        let message = payload::array(sequence);
        let published = match timeout {
            None => producer.try_publish(&message),
            Some(timeout) => producer.publish_timeout(&message, timeout),
        };
        published.map(|published| assert_eq!(published, sequence))
    }

    fn publish_batch(producer: &mut Producer<[u64; N]>, _: usize, count: u64) {
        let first = producer.next_sequence();
        let messages: Vec<[u64; N]> = (first..first + count).map(payload::array).collect();
        assert_eq!(producer.publish_batch(&messages), first..first + count);
    }

    fn build(_: &mut Producer<[u64; N]>, _: usize) -> bool {
        false
    }

    fn abort(_: &mut Producer<[u64; N]>, _: usize, _: bool) -> bool {
        false
    }

    fn try_recv_into<R: Registration>(
        consumer: &mut Consumer<[u64; N], R>,
    ) -> Result<[u64; N], TryRecvError> {
        consumer.try_recv()
    }

    fn owned(message: &[u64; N]) -> [u64; N] {
        *message
    }

    fn identify(message: &[u64; N], _: usize, _: u64) -> Option<u64> {
        payload::identify_array(message)
    }
}

/// Bytes of any length.
pub struct Bytes;

impl Traffic for Bytes {
    type Message = [u8];

    fn builder(name: &str, plan: &Plan) -> RingBuilder<[u8]> {
        let Shape::Bytes(slot_bytes) = plan.shape else { panic!("{:?} are not bytes", plan.shape) };
        Ring::builder(name).slots(plan.slots).slot_bytes(slot_bytes)
    }

    fn publish(producer: &mut Producer<[u8]>, slot_bytes: usize) {
        let sequence = producer.next_sequence();
        assert_eq!(producer.publish(&payload::bytes(sequence, slot_bytes)), Ok(sequence));
    }

    fn try_publish(
        producer: &mut Producer<[u8]>,
        slot_bytes: usize,
        timeout: Option<Duration>,
    ) -> Result<(), Full> {
        let sequence = producer.next_sequence();
        let message = payload::bytes(sequence, slot_bytes);
        let published = match timeout {
            None => producer.try_publish(&message),
            Some(timeout) => producer.publish_timeout(&message, timeout),
        };
        match published {
            Ok(published) => assert_eq!(published, sequence),
            Err(PublishError::Full(full)) => return Err(full),
            Err(PublishError::TooLarge(too_large)) => panic!("{too_large}"),
        }
        Ok(())
    }

    fn publish_batch(producer: &mut Producer<[u8]>, slot_bytes: usize, count: u64) {
        let first = producer.next_sequence();
        let messages: Vec<Vec<u8>> =
            (first..first + count).map(|sequence| payload::bytes(sequence, slot_bytes)).collect();
        assert_eq!(producer.publish_batch(&messages), Ok(first..first + count));
    }

    fn build(producer: &mut Producer<[u8]>, slot_bytes: usize) -> bool {
        let sequence = producer.next_sequence();
        let message = payload::bytes(sequence, slot_bytes);
        // Pieces of lengths that have nothing in common with words.
        let pieces = message.chunks(1 + sequence as usize % 37);
        let published =
            producer.publish_with(|slot| pieces.clone().try_for_each(|piece| slot.write(piece)));
        assert_eq!(published, Ok(sequence));
        true
    }

    fn abort(producer: &mut Producer<[u8]>, slot_bytes: usize, with_panic: bool) -> bool {
        let half = vec![0xee; slot_bytes / 2];
        let given_up = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            producer.publish_with(|slot| {
                slot.write(&half).expect("half a slot fits");
                // Without the panic hook, which would print.
                if with_panic {
                    panic::resume_unwind(Box::new("given up"))
                } else {
                    Err("given up")
                }
            })
        }));
        assert!(given_up.is_err() || given_up.is_ok_and(|result| result == Err("given up")));
        true
    }

    fn try_recv_into<R: Registration>(
        consumer: &mut Consumer<[u8], R>,
    ) -> Result<Vec<u8>, TryRecvError> {
        let mut message = vec![1, 2, 3];
        consumer.try_recv_into(&mut message).map(|()| message)
    }

    fn owned(message: &[u8]) -> Vec<u8> {
        message.to_vec()
    }

    fn identify(message: &Vec<u8>, slot_bytes: usize, hint: u64) -> Option<u64> {
        payload::identify_bytes(message, slot_bytes, hint)
    }
}

/// The clock, between fences: what was stored before is visible to all by then, and what is loaded
/// afterwards is loaded after it. Without them a store that waits in a processor's buffer would
/// look like a broken rule.
pub fn clock() -> u64 {
    fence(Ordering::SeqCst);
    let now = monotonic_ns();
    fence(Ordering::SeqCst);
    now
}

pub fn timed<R>(call: impl FnOnce() -> R) -> (R, Span) {
    let invoked = clock();
    let result = call();
    (result, Span { invoked, returned: clock() })
}

/// Publishes as planned, and closes.
pub fn write<T: Traffic>(
    ring: &Ring<T::Message>,
    producer: Producer<T::Message>,
    plan: &Plan,
) -> Written {
    let mut scribe = Scribe::<T>::new(ring, producer);
    plan.publishing.iter().for_each(|step| scribe.step(*step));
    let written = scribe.close();
    let published: u64 = written.attempts.iter().map(|attempt| attempt.count).sum();
    assert_eq!(
        published + written.refusals.len() as u64,
        plan.messages() + plan.tries(),
        "not all was published or refused"
    );
    written
}

/// Publishes, and writes down when.
pub struct Scribe<T: Traffic> {
    producer: Producer<T::Message>,
    slot_bytes: usize,
    attempts: Vec<Attempt>,
    refusals: Vec<Refusal>,
}

impl<T: Traffic> Scribe<T> {
    pub fn new(ring: &Ring<T::Message>, producer: Producer<T::Message>) -> Self {
        Self { producer, slot_bytes: ring.slot_bytes(), attempts: Vec::new(), refusals: Vec::new() }
    }

    pub fn step(&mut self, step: Publish) {
        let bytes = self.slot_bytes;
        match step {
            Publish::Single(n) => (0..n).for_each(|_| {
                self.attempt(1, |producer| {
                    T::publish(producer, bytes);
                    true
                });
            }),
            Publish::Batch(n) => self.attempt(n, |producer| {
                T::publish_batch(producer, bytes, n);
                // A batch of none does not touch a slot.
                n > 0
            }),
            Publish::Try(n) => (0..n).for_each(|_| self.attempt_to(None)),
            Publish::Timeout(n, micros) => {
                (0..n).for_each(|_| self.attempt_to(Some(Duration::from_micros(micros))))
            }
            Publish::Built(n) => {
                (0..n).for_each(|_| self.attempt(1, |producer| T::build(producer, bytes)))
            }
            Publish::Aborted => self.attempt(0, |producer| T::abort(producer, bytes, false)),
            Publish::Panicked => self.attempt(0, |producer| T::abort(producer, bytes, true)),
            Publish::Pause(micros) => thread::sleep(Duration::from_micros(micros)),
        }
    }

    pub fn close(self) -> Written {
        let ((), close) = timed(|| self.producer.close());
        Written { attempts: self.attempts, refusals: self.refusals, close }
    }

    /// A call that publishes one message if there is room.
    fn attempt_to(&mut self, timeout: Option<Duration>) {
        let sequence = self.producer.next_sequence();
        let (published, span) =
            timed(|| T::try_publish(&mut self.producer, self.slot_bytes, timeout));
        let count = u64::from(published.is_ok());
        assert_eq!(self.producer.next_sequence(), sequence + count);
        match published {
            Ok(()) => self.attempts.push(Attempt { first: sequence, count, span }),
            Err(Full { consumer: reader, lag }) => {
                let reader =
                    reader.parse().unwrap_or_else(|_| panic!("no consumer is called {reader:?}"));
                self.refusals.push(Refusal { sequence, reader, lag, span });
            }
        }
    }

    /// A call that publishes `count` messages, unless it says that it does nothing.
    fn attempt(&mut self, count: u64, call: impl FnOnce(&mut Producer<T::Message>) -> bool) {
        let first = self.producer.next_sequence();
        let (done, span) = timed(|| call(&mut self.producer));
        if done {
            assert_eq!(self.producer.next_sequence(), first + count);
            self.attempts.push(Attempt { first, count, span });
        }
    }
}

/// Receives as planned, and then until the end or not at all. `attached` is called once the
/// consumer is there; `index` is its name.
pub fn read<T: Traffic>(
    ring: &Ring<T::Message>,
    reading: &Reading,
    index: usize,
    attached: impl FnOnce(),
) -> Read {
    let &Reading { start, on_lag, .. } = reading;
    match reading.standing {
        ConsumerKind::Free => Recorder::<T>::attach(ring, start, on_lag).follow(reading, attached),
        ConsumerKind::Registered => {
            Recorder::<T, _>::register(ring, start, on_lag, index).follow(reading, attached)
        }
        ConsumerKind::Gating => {
            Recorder::<T, _>::gate(ring, start, on_lag, index).follow(reading, attached)
        }
    }
}

/// Receives, and writes down what and when.
pub struct Recorder<T: Traffic, R: Registration = Free> {
    consumer: Consumer<T::Message, R>,
    slot_bytes: usize,
    read: Read,
}

impl<T: Traffic> Recorder<T> {
    /// Attaches a free consumer.
    pub fn attach(ring: &Ring<T::Message>, start: From, on_lag: Policy) -> Self {
        Self::new(ring, start, on_lag, ConsumerKind::Free, ConsumerBuilder::attach)
    }
}

impl<T: Traffic> Recorder<T, Registered> {
    /// Attaches a consumer that the producer knows of; `index` is its name.
    pub fn register(ring: &Ring<T::Message>, start: From, on_lag: Policy, index: usize) -> Self {
        let name = index.to_string();
        Self::new(ring, start, on_lag, ConsumerKind::Registered, |builder| {
            builder.name(&name).attach().expect("there are rows enough")
        })
    }

    /// Attaches a consumer that the producer waits for; `index` is its name.
    pub fn gate(ring: &Ring<T::Message>, start: From, on_lag: Policy, index: usize) -> Self {
        let name = index.to_string();
        Self::new(ring, start, on_lag, ConsumerKind::Gating, |builder| {
            builder.name(&name).gating().attach().expect("there are rows enough")
        })
    }
}

impl<T: Traffic, R: Registration + std::fmt::Debug> Recorder<T, R> {
    fn new(
        ring: &Ring<T::Message>,
        start: From,
        on_lag: Policy,
        standing: ConsumerKind,
        attach: impl FnOnce(ConsumerBuilder<T::Message>) -> Consumer<T::Message, R>,
    ) -> Self {
        let builder = ring.consumer().start(start.into()).on_lag(on_lag.into());
        let (consumer, attach) = timed(|| attach(builder));
        // When it leaves, and whether before the end, is told by `leave` and `drain`.
        let read = Read {
            start,
            on_lag,
            standing,
            leaves: false,
            attach,
            cursor: consumer.cursor(),
            events: Vec::new(),
            leave: attach,
        };
        Self { consumer, slot_bytes: ring.slot_bytes(), read }
    }

    fn follow(mut self, reading: &Reading, attached: impl FnOnce()) -> Read {
        attached();
        for _ in 0..reading.rounds {
            reading.calls.iter().for_each(|call| drop(self.call(*call)));
        }
        if reading.leaves { self.leave() } else { self.drain() }
    }

    /// Receives until the end.
    pub fn drain(mut self) -> Read {
        loop {
            match self.call(Call::Recv) {
                Some(Outcome::Closed(_)) => return Read { leaves: false, ..self.leave() },
                // Who stays must go on by itself. (Not to the oldest: a message given up half-way
                // has taken that, too.)
                Some(Outcome::Lagged(n)) if self.read.on_lag == Policy::Stay => {
                    let behind = self.consumer.cursor() + n;
                    self.call(Call::Seek(From::Sequence(behind)));
                }
                _ => {}
            }
        }
    }

    /// Receives no more.
    pub fn leave(self) -> Read {
        let ((), leave) = timed(|| drop(self.consumer));
        Read { leaves: true, leave, ..self.read }
    }

    /// Makes a call and returns its outcome, if it was one.
    ///
    /// # Panics
    /// If there have been more calls than any plan can need: the consumer does not come to an end.
    pub fn call(&mut self, call: Call) -> Option<Outcome> {
        assert!(self.read.events.len() < 100_000, "this does not end: {:?}", self.consumer);
        let consumer = &mut self.consumer;
        let mut messages = Vec::new();
        let mut keep = |message| messages.push(message);
        let (failure, span) = match call {
            Call::TryRecv => timed(|| consumer.try_recv().map(&mut keep).err().map(trying)),
            Call::TryRecvInto => {
                timed(|| T::try_recv_into(consumer).map(&mut keep).err().map(trying))
            }
            Call::Latest => timed(|| consumer.try_latest().map(&mut keep).err().map(trying)),
            Call::Recv => timed(|| consumer.recv().map(&mut keep).err().map(waiting)),
            Call::Next => timed(|| match consumer.iter().next() {
                Some(Ok(message)) => {
                    keep(message);
                    None
                }
                Some(Err(lagged)) => Some(Outcome::Lagged(lagged.0)),
                // The iterator does not say why.
                None => Some(Outcome::Closed(Reason::Closed)),
            }),
            Call::RecvBatch(max) => {
                let (result, span) =
                    timed(|| consumer.recv_batch(&mut messages, max).map_err(waiting));
                (counted(result, messages.len(), max), span)
            }
            Call::TryRecvBatch(max) => {
                let (result, span) =
                    timed(|| consumer.try_recv_batch(&mut messages, max).map_err(trying));
                (counted(result, messages.len(), max), span)
            }
            Call::RecvEach(max) => {
                let (result, span) = timed(|| {
                    consumer.recv_each(max, |message| keep(T::owned(message))).map_err(waiting)
                });
                (counted(result, messages.len(), max), span)
            }
            Call::TryRecvEach(max) => {
                let (result, span) = timed(|| {
                    consumer.try_recv_each(max, |message| keep(T::owned(message))).map_err(trying)
                });
                (counted(result, messages.len(), max), span)
            }
            Call::RecvTimeout(micros) => {
                timed(|| match consumer.recv_timeout(Duration::from_micros(micros)) {
                    Ok(message) => {
                        keep(message);
                        None
                    }
                    Err(RecvTimeoutError::Timeout) => Some(Outcome::Timeout),
                    Err(RecvTimeoutError::Lagged(n)) => Some(Outcome::Lagged(n)),
                    Err(RecvTimeoutError::Closed(reason)) => Some(Outcome::Closed(said(reason))),
                    Err(error @ RecvTimeoutError::Cancelled) => {
                        panic!("no plan leads to this: {error}")
                    }
                })
            }
            Call::Seek(from) => timed(|| {
                consumer.seek(from.into());
                Some(Outcome::Sought)
            }),
            Call::Lag => timed(|| Some(Outcome::Lag(consumer.lag()))),
            Call::Pause(micros) => {
                thread::sleep(Duration::from_micros(micros));
                return None;
            }
        };
        let first = consumer.cursor().wrapping_sub(messages.len() as u64);
        let identify = |(hint, message)| T::identify(message, self.slot_bytes, hint);
        let outcome = failure
            .unwrap_or_else(|| Outcome::Messages((first..).zip(&messages).map(identify).collect()));
        let after = Counters {
            cursor: consumer.cursor(),
            received: consumer.received(),
            lost: consumer.lost(),
            skipped: consumer.skipped(),
            tombstones: consumer.tombstones(),
        };
        self.read.events.push(Event { call, span, outcome: outcome.clone(), after });
        Some(outcome)
    }
}

fn trying(error: TryRecvError) -> Outcome {
    match error {
        TryRecvError::Empty => Outcome::Empty,
        TryRecvError::Lagged(n) => Outcome::Lagged(n),
        TryRecvError::Closed(reason) => Outcome::Closed(said(reason)),
    }
}

fn waiting(error: RecvError) -> Outcome {
    match error {
        RecvError::Lagged(n) => Outcome::Lagged(n),
        RecvError::Closed(reason) => Outcome::Closed(said(reason)),
        RecvError::Cancelled => panic!("no plan leads to this: {error}"),
    }
}

fn said(reason: CloseReason) -> Reason {
    match reason {
        CloseReason::Closed => Reason::Closed,
        CloseReason::ProducerDied => Reason::ProducerDied,
        CloseReason::Superseded => Reason::Superseded,
        other => panic!("no plan leads to this end: {other}"),
    }
}

/// How a call for at most `max` messages failed, which has received so many.
fn counted(result: Result<usize, Outcome>, received: usize, max: usize) -> Option<Outcome> {
    assert!(received <= max);
    assert_eq!(*result.as_ref().unwrap_or(&0), received);
    result.err()
}
