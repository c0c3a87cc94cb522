//! Any sequence of calls on one ring, against a model that keeps the messages in a queue.
#![no_main]

use std::collections::VecDeque;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use seqring::{
    CloseReason, Consumer, OnLag, Producer, RecvError, Ring, Start, TooLarge, TryRecvError,
};

#[derive(Debug, Arbitrary)]
struct Input {
    slots: u8,
    slot_bytes: u16,
    on_lag: Policy,
    calls: Vec<Call>,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Policy {
    Oldest,
    Newest,
    Stay,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum From {
    Next,
    Newest,
    Oldest,
    Sequence(u16),
    Far(u64),
}

#[derive(Debug, Arbitrary)]
enum Call {
    Publish(u16),
    PublishBatch(Vec<u16>),
    /// Pieces of these lengths; given up at the end or not.
    PublishWith(Vec<u16>, bool),
    /// Close, and open again.
    Restart,
    /// Close; whoever publishes next opens again.
    Close,
    TryRecv,
    TryRecvInto,
    RecvBatch(u8),
    Latest,
    Seek(From),
    Lag,
}

/// What a ring and one consumer of it should do.
struct Model {
    slots: u64,
    slot_bytes: usize,
    on_lag: Policy,
    /// The messages that the slots hold, the newest last; one less if the oldest is being
    /// overwritten.
    held: VecDeque<Vec<u8>>,
    head: u64,
    closed: bool,
    cursor: u64,
    received: u64,
    lost: u64,
    skipped: u64,
}

impl Model {
    fn publish(&mut self, message: Vec<u8>) {
        self.begin();
        self.held.push_back(message);
        self.head += 1;
    }

    /// The slot of the next message is taken.
    fn begin(&mut self) {
        if self.held.len() as u64 == self.slots {
            self.held.pop_front();
        }
    }

    fn oldest_held(&self) -> u64 {
        self.head - self.held.len() as u64
    }

    fn position(&self, from: From) -> u64 {
        match from {
            From::Next => self.head,
            From::Newest => self.head.saturating_sub(1),
            From::Oldest => self.head.saturating_sub(self.slots),
            From::Sequence(sequence) => sequence.into(),
            From::Far(sequence) => sequence.min((1 << 62) - 1),
        }
    }

    fn try_recv(&mut self) -> Result<Vec<u8>, TryRecvError> {
        if self.cursor >= self.head {
            return Err(if self.closed {
                TryRecvError::Closed(CloseReason::Closed)
            } else {
                TryRecvError::Empty
            });
        }
        if self.cursor < self.oldest_held() {
            let oldest = (self.head + 1).saturating_sub(self.slots);
            let target = match self.on_lag {
                Policy::Oldest => oldest + (self.slots / 8).max(4).min((self.slots - 1) / 2),
                Policy::Newest => self.head.saturating_sub(1),
                Policy::Stay => oldest,
            };
            let lost = target.max(self.cursor + 1) - self.cursor;
            if !matches!(self.on_lag, Policy::Stay) {
                self.cursor += lost;
                self.lost += lost;
            }
            return Err(TryRecvError::Lagged(lost));
        }
        let message = self.held[(self.cursor - self.oldest_held()) as usize].clone();
        self.cursor += 1;
        self.received += 1;
        Ok(message)
    }

    fn latest(&mut self) -> Result<Vec<u8>, TryRecvError> {
        let newest = self.head.saturating_sub(1).max(self.cursor);
        self.skipped += newest - self.cursor;
        self.cursor = newest;
        self.try_recv()
    }

    /// Also what it would wait for: `None`.
    fn recv_batch(&mut self, max: usize) -> Option<Result<Vec<Vec<u8>>, RecvError>> {
        if max == 0 {
            return Some(Ok(vec![]));
        }
        let mut messages = match self.try_recv() {
            Ok(message) => vec![message],
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Lagged(n)) => return Some(Err(RecvError::Lagged(n))),
            Err(TryRecvError::Closed(reason)) => return Some(Err(RecvError::Closed(reason))),
        };
        while messages.len() < max && self.cursor < self.head {
            messages.push(self.try_recv().expect("behind one that is held"));
        }
        Some(Ok(messages))
    }

    fn compare(&self, consumer: &Consumer<[u8]>, ring: &Ring<[u8]>) {
        let counters =
            (consumer.cursor(), consumer.received(), consumer.lost(), consumer.skipped());
        assert_eq!(counters, (self.cursor, self.received, self.lost, self.skipped));
        assert_eq!(
            (consumer.lag(), ring.head()),
            (self.head.saturating_sub(self.cursor), self.head)
        );
    }
}

/// A message that differs from the one before: of `length` bytes.
fn message(length: usize, head: u64) -> Vec<u8> {
    (0..length).map(|i| (i as u64 ^ head.wrapping_mul(31)) as u8).collect()
}

fn publish_batch(producer: &mut Producer<[u8]>, model: &mut Model, lengths: &[u16]) {
    let messages: Vec<Vec<u8>> = (model.head..)
        .zip(lengths)
        .map(|(head, length)| message(usize::from(*length) % (model.slot_bytes + 2), head))
        .collect();
    let first = model.head;
    let result = producer.publish_batch(&messages);
    let mut expected = Ok(());
    for message in messages {
        if message.len() > model.slot_bytes {
            expected = Err(TooLarge { bytes: message.len(), slot_bytes: model.slot_bytes });
            break;
        }
        model.publish(message);
    }
    assert_eq!(result, expected.map(|()| first..model.head));
}

fn publish_with(producer: &mut Producer<[u8]>, model: &mut Model, lengths: &[u16], give_up: bool) {
    let whole = message(lengths.iter().map(|length| usize::from(*length) % 50).sum(), model.head);
    let mut rest = &whole[..];
    let result = producer.publish_with(|slot| {
        for length in lengths {
            let (piece, behind) = rest.split_at(usize::from(*length) % 50);
            slot.write(piece).map_err(|_| "too large")?;
            rest = behind;
        }
        if give_up { Err("given up") } else { Ok(()) }
    });
    if whole.len() > model.slot_bytes || give_up {
        assert!(result.is_err());
        model.begin();
    } else {
        assert_eq!(result, Ok(model.head));
        model.publish(whole);
    }
}

fuzz_target!(|input: Input| {
    let slots = usize::from(input.slots) % 20 + 1;
    let slot_bytes = usize::from(input.slot_bytes) % 600 + 1;
    let name = format!("fuzz-ring-{}", std::process::id());
    let ring = Ring::<[u8]>::builder(&name)
        .slots(slots)
        .slot_bytes(slot_bytes)
        .create()
        .expect("a new ring");
    let reader = Ring::<[u8]>::open_read_only(&name).expect("a ring");
    // Now, so that nothing is left if the rest fails.
    std::fs::remove_file(ring.path()).expect("our own file");

    let on_lag = match input.on_lag {
        Policy::Oldest => OnLag::Oldest,
        Policy::Newest => OnLag::Newest,
        Policy::Stay => OnLag::Stay,
    };
    let mut consumer = reader.consumer().start(Start::Oldest).on_lag(on_lag).attach();
    let mut producer = Some(ring.producer().expect("the only producer"));
    let mut model = Model {
        slots: slots as u64,
        slot_bytes,
        on_lag: input.on_lag,
        held: VecDeque::new(),
        head: 0,
        closed: false,
        cursor: 0,
        received: 0,
        lost: 0,
        skipped: 0,
    };
    for call in input.calls {
        if matches!(
            call,
            Call::Publish(_) | Call::PublishBatch(_) | Call::PublishWith(..) | Call::Restart
        ) {
            if matches!(call, Call::Restart) {
                producer = None;
            }
            if producer.is_none() {
                producer = Some(ring.producer().expect("the last one has gone"));
                model.closed = false;
            }
        }
        match (call, &mut producer) {
            (Call::Publish(length), Some(producer)) => {
                let message = message(usize::from(length) % (slot_bytes + 2), model.head);
                let result = producer.publish(&message);
                if message.len() > slot_bytes {
                    assert_eq!(result, Err(TooLarge { bytes: message.len(), slot_bytes }));
                } else {
                    assert_eq!(result, Ok(model.head));
                    model.publish(message);
                }
            }
            (Call::PublishBatch(lengths), Some(producer)) => {
                publish_batch(producer, &mut model, &lengths)
            }
            (Call::PublishWith(lengths, give_up), Some(producer)) => {
                publish_with(producer, &mut model, &lengths, give_up)
            }
            (Call::Publish(_) | Call::PublishBatch(_) | Call::PublishWith(..), None) => {
                unreachable!("made above")
            }
            (Call::Restart, _) => {}
            (Call::Close, _) => {
                producer = None;
                model.closed = true;
            }
            (Call::TryRecv, _) => assert_eq!(consumer.try_recv(), model.try_recv()),
            (Call::TryRecvInto, _) => {
                let mut message = vec![1, 2, 3];
                assert_eq!(
                    consumer.try_recv_into(&mut message).map(|()| message),
                    model.try_recv()
                );
            }
            (Call::RecvBatch(max), _) => {
                if let Some(expected) = model.recv_batch(max.into()) {
                    let mut messages = Vec::new();
                    let result = consumer.recv_batch(&mut messages, max.into());
                    assert_eq!(
                        result.map(|count| (count, messages)),
                        expected.map(|messages| (messages.len(), messages))
                    );
                }
            }
            (Call::Latest, _) => assert_eq!(consumer.try_latest(), model.latest()),
            (Call::Seek(from), _) => {
                model.cursor = model.position(from);
                consumer.seek(match from {
                    From::Next => Start::Next,
                    From::Newest => Start::Newest,
                    From::Oldest => Start::Oldest,
                    From::Sequence(sequence) => Start::Sequence(sequence.into()),
                    From::Far(sequence) => Start::Sequence(sequence),
                });
            }
            (Call::Lag, _) => {}
        }
        model.compare(&consumer, &ring);
    }
});
