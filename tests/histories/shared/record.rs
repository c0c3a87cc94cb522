//! Publishing with several producers, written down as it happens, so that what a killed producer
//! did is known.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use seqring::{Full, PublishError, Ring, RingBuilder, SharedProducer};
use serde::{Deserialize, Serialize};

use crate::history::{self, Read, Reason, Span};
use crate::payload;
use crate::plan::{ConsumerKind, Plan, Publish};
use crate::record::{Bytes, Traffic, Words, clock, timed};
use crate::shared::{Call, Event, Id, Outcome, Seen};

/// The payload that stands for a message of bytes has to be long enough to tell which.
const TELLING: usize = 8;

/// How several producers publish messages of one type.
pub trait Crew: Traffic {
    /// Publishes message `code` in one of the ways there are and returns its sequence.
    fn publish_shared(
        producer: &mut SharedProducer<Self::Message>,
        code: u64,
        slot_bytes: usize,
        how: Publish,
    ) -> Result<u64, Full>;
}

impl<const N: usize> Crew for Words<N>
where
    [u64; N]: bytemuck::Pod,
{
    fn publish_shared(
        producer: &mut SharedProducer<[u64; N]>,
        code: u64,
        _: usize,
        how: Publish,
    ) -> Result<u64, Full> {
        let message = payload::array(code);
        match how {
            Publish::Try(_) => producer.try_publish(&message),
            Publish::Timeout(_, micros) => {
                producer.publish_timeout(&message, Duration::from_micros(micros))
            }
            _ => Ok(producer.publish(&message)),
        }
    }
}

impl Crew for Bytes {
    fn publish_shared(
        producer: &mut SharedProducer<[u8]>,
        code: u64,
        slot_bytes: usize,
        how: Publish,
    ) -> Result<u64, Full> {
        let message = payload::bytes(code, slot_bytes);
        let published = match how {
            Publish::Try(_) => producer.try_publish(&message),
            Publish::Timeout(_, micros) => {
                producer.publish_timeout(&message, Duration::from_micros(micros))
            }
            Publish::Built(_) => producer
                .publish_with(|slot| {
                    message.chunks(1 + code as usize % 37).try_for_each(|piece| {
                        thread::yield_now();
                        slot.write(piece)
                    })
                })
                .map_err(PublishError::from),
            _ => producer.publish(&message).map_err(PublishError::from),
        };
        published.map_err(|error| match error {
            PublishError::Full(full) => full,
            PublishError::TooLarge(too_large) => panic!("{too_large}"),
        })
    }
}

pub fn builder<T: Traffic>(name: &str, plan: &Plan, producers: usize) -> RingBuilder<T::Message> {
    T::builder(name, plan).max_producers(producers)
}

/// The number that message `id` is made of. What is left of it is chosen so that the payload tells
/// it.
fn code(id: Id, slot_bytes: usize) -> u64 {
    let code = |salt: u64| (id.producer as u64) << 48 | (id.number as u64) << 16 | salt;
    let telling =
        |code: &u64| slot_bytes < TELLING || payload::bytes(*code, slot_bytes).len() >= TELLING;
    (0..1 << 16).map(code).find(telling).expect("one of many is long enough")
}

/// Which message is made of `code`.
fn id(code: u64) -> Id {
    Id { producer: (code >> 48) as usize, number: (code >> 16) as usize & 0xFFFF_FFFF }
}

/// The calls of one producer, in a file that outlives it.
#[derive(Debug)]
pub struct Journal(File);

/// When it began, when it returned, and its sequence plus one, which is 0 until it returns.
const ENTRY: usize = 4 * size_of::<u64>();

impl Journal {
    pub fn create(path: &Path) -> Self {
        Self(
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(path)
                .expect("a directory for temporary files"),
        )
    }

    /// The call `number` begins. If the last of this number has failed, it counts no more.
    fn begin(&self, number: usize) {
        self.write(number, [clock(), 0, 0, 0]);
    }

    fn end(&self, number: usize, span: Span, sequence: u64) {
        self.write(number, [span.invoked, span.returned, sequence + 1, 0]);
    }

    /// The call `number` was not made, after all.
    fn withdraw(&self, number: usize) {
        self.0.set_len((number * ENTRY) as u64).expect("the journal can be written");
    }

    /// At once, as an entry is within a page.
    fn write(&self, number: usize, words: [u64; 4]) {
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
        self.0.write_all_at(&bytes, (number * ENTRY) as u64).expect("the journal can be written");
    }

    pub fn read(path: &Path) -> Vec<Call> {
        let bytes = std::fs::read(path).expect("the journal can be read");
        let entry = |entry: &[u8]| {
            let mut words = entry
                .chunks_exact(size_of::<u64>())
                .map(|word| u64::from_ne_bytes(word.try_into().expect("of a word's size")));
            let [invoked, returned, sequence] =
                std::array::from_fn(|_| words.next().expect("four"));
            let sequence = sequence.checked_sub(1);
            Call {
                sequence,
                span: Span {
                    invoked,
                    returned: if sequence.is_some() { returned } else { u64::MAX },
                },
            }
        };
        bytes.chunks_exact(ENTRY).map(entry).collect()
    }
}

/// One of several producers, and its journal.
pub struct Author<T: Crew> {
    producer: SharedProducer<T::Message>,
    slot_bytes: usize,
    index: usize,
    number: usize,
    journal: Journal,
}

impl<T: Crew> Author<T> {
    /// Joins as producer `index` of the run.
    pub fn join(ring: &Ring<T::Message>, index: usize, journal: &Path) -> Self {
        let producer = ring.shared_producer().expect("there are rows enough");
        Self {
            producer,
            slot_bytes: ring.slot_bytes(),
            index,
            number: 0,
            journal: Journal::create(journal),
        }
    }

    /// Publishes as planned.
    pub fn publish(&mut self, steps: &[Publish]) {
        for step in steps {
            match *step {
                Publish::Single(n)
                | Publish::Batch(n)
                | Publish::Try(n)
                | Publish::Timeout(n, _)
                | Publish::Built(n) => {
                    (0..n).for_each(|_| self.one(*step));
                }
                Publish::Pause(micros) => thread::sleep(Duration::from_micros(micros)),
                Publish::Aborted | Publish::Panicked => {}
            }
        }
    }

    fn one(&mut self, how: Publish) {
        let (number, id) = (self.number, Id { producer: self.index, number: self.number });
        let code = code(id, self.slot_bytes);
        self.journal.begin(number);
        match timed(|| T::publish_shared(&mut self.producer, code, self.slot_bytes, how)) {
            (Ok(sequence), span) => {
                self.journal.end(number, span, sequence);
                self.number += 1;
            }
            (Err(Full { .. }), _) => self.journal.withdraw(number),
        }
    }

    pub fn close(self) -> Span {
        timed(|| self.producer.close()).1
    }
}

/// What a consumer saw, with payloads as the messages that they are.
#[derive(Debug, Serialize, Deserialize)]
pub struct Told(pub Read);

impl From<Told> for Seen {
    fn from(Told(read): Told) -> Self {
        let event = |event: history::Event| {
            let outcome = match event.outcome {
                history::Outcome::Messages(codes) => {
                    Outcome::Messages(codes.into_iter().map(|code| code.map(id)).collect())
                }
                history::Outcome::Empty | history::Outcome::Timeout => Outcome::Empty,
                history::Outcome::Lagged(n) => Outcome::Lagged(n),
                history::Outcome::Closed(Reason::Closed) => Outcome::Closed,
                history::Outcome::Lag(_) => return None,
                other => panic!("no plan leads to this: {other:?}"),
            };
            Some(Event { span: event.span, outcome, after: event.after })
        };
        Self {
            on_lag: read.on_lag,
            gating: read.standing == ConsumerKind::Gating,
            attach: read.attach,
            cursor: read.cursor,
            events: read.events.into_iter().filter_map(event).collect(),
        }
    }
}

#[test]
fn every_message_has_a_number_that_its_payload_tells() {
    for (producer, number) in [(0, 0), (3, 77), (9, 100_000)] {
        for slot_bytes in [TELLING, 9, 100, 4200] {
            let expected = Id { producer, number };
            let payload = payload::bytes(code(expected, slot_bytes), slot_bytes);
            assert_eq!(payload::identify_bytes(&payload, slot_bytes, 0).map(id), Some(expected));
        }
    }
}
