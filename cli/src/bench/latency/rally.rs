//! Ping-pong over two queues.

use anyhow::{Context as _, Result, bail, ensure};
use bytemuck::Pod;
use seqring::{Consumer, IfExists, Message, Producer, Ring, Start, TryRecvError};
use std::time::Duration;

use super::Task;
use crate::bench::spin::{Check, until};
use crate::clock::monotonic_ns;
use crate::engine::{Channel, Engine, Host, Mode, Received, Receiver, Sender, Wait};

/// Which of the two processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Creates the queues and serves.
    Lead,
    /// Returns.
    Follow,
}

/// How long the locked queue may sleep before it is looked whether the other process lives.
const NAP: Duration = Duration::from_millis(20);
/// The locked queue always has room for the one message under way.
const PATIENCE_NS: u64 = 1_000_000_000;

/// One side of the ping-pong, whatever the messages.
pub trait Rally {
    /// Plays so many round trips, serving.
    ///
    /// # Errors
    ///
    /// Those of `check`, and damaged messages.
    fn lead(&mut self, trips: u32, check: &mut Check<'_>) -> Result<()>;

    /// Plays so many round trips, returning.
    ///
    /// # Errors
    ///
    /// Those of `check`, and damaged messages.
    fn follow(&mut self, trips: u32, check: &mut Check<'_>) -> Result<()>;

    /// Round trips so far.
    fn trips(&self) -> u64;
}

/// Whether messages of this size are values rather than bytes.
pub fn is_typed(engine: Engine, payload_bytes: usize) -> bool {
    engine == Engine::Ring && [8, 48].contains(&payload_bytes)
}

/// Creates or opens the two queues of a task.
///
/// # Errors
///
/// When there is no space, or the other process has not created them.
pub fn connect(task: &Task, side: Side) -> Result<Box<dyn Rally>> {
    let name = |way| format!("{}-{way}", task.name);
    let (out, back) = match side {
        Side::Lead => (name("ping"), name("pong")),
        Side::Follow => (name("pong"), name("ping")),
    };
    Ok(match (task.engine, task.payload_bytes) {
        (Engine::Ring, 8) => Box::new(Game::new(Values::<1>(Rings::connect(
            task,
            side,
            &out,
            &back,
            Ring::builder,
        )?))),
        (Engine::Ring, 48) => Box::new(Game::new(Values::<6>(Rings::connect(
            task,
            side,
            &out,
            &back,
            Ring::builder,
        )?))),
        (Engine::Ring, bytes) => {
            let rings = Rings::connect(task, side, &out, &back, |name| {
                Ring::builder(name).slot_bytes(bytes)
            })?;
            Box::new(Game::new(Bytes { rings, message: vec![0x5A; bytes], landing: Vec::new() }))
        }
        (Engine::Locked, _) => Box::new(Game::new(Queues::connect(task, side, &out, &back)?)),
    })
}

/// Both ends that one side has.
trait Ends {
    /// Writes message number `n`.
    fn send(&mut self, n: u64) -> Result<()>;

    /// Looks for message number `n`, and reads it if it is there.
    fn poll(&mut self, n: u64) -> Result<bool>;

    /// Waits for message number `n` and reads it.
    #[inline(always)]
    fn wait(&mut self, n: u64, check: &mut Check<'_>) -> Result<()> {
        until(check, || {
            let is_there = self.poll(n)?;
            if !is_there {
                // As the library's documentation has it for those who poll.
                std::hint::spin_loop();
            }
            Ok(is_there)
        })
    }
}

struct Game<E> {
    ends: E,
    trips: u64,
}

impl<E: Ends> Game<E> {
    fn new(ends: E) -> Self {
        Self { ends, trips: 0 }
    }
}

impl<E: Ends> Rally for Game<E> {
    fn lead(&mut self, trips: u32, check: &mut Check<'_>) -> Result<()> {
        for _ in 0..trips {
            self.ends.send(self.trips)?;
            self.ends.wait(self.trips, check)?;
            self.trips += 1;
        }
        Ok(())
    }

    fn follow(&mut self, trips: u32, check: &mut Check<'_>) -> Result<()> {
        for _ in 0..trips {
            self.ends.wait(self.trips, check)?;
            self.ends.send(self.trips)?;
            self.trips += 1;
        }
        Ok(())
    }

    fn trips(&self) -> u64 {
        self.trips
    }
}

struct Rings<M: Message + ?Sized> {
    producer: Producer<M>,
    consumer: Consumer<M>,
    /// The creator keeps them in existence.
    _created: Vec<Ring<M>>,
}

impl<M: Message + ?Sized> Rings<M> {
    fn connect(
        task: &Task,
        side: Side,
        out: &str,
        back: &str,
        builder: impl Fn(&str) -> seqring::RingBuilder<M>,
    ) -> Result<Self> {
        let mut created = Vec::new();
        if side == Side::Lead {
            for name in [out, back] {
                created.push(
                    builder(name)
                        .slots(task.slots)
                        .if_exists(IfExists::Error)
                        .prefault(true)
                        .create()?,
                );
            }
        }
        let producer = match created.first() {
            Some(ring) => ring.producer()?,
            None => Ring::options(out).prefault(true).open()?.producer()?,
        };
        let consumer = Ring::options(back)
            .read_only(true)
            .prefault(true)
            .open()?
            .consumer()
            .start(Start::Oldest)
            .attach();
        Ok(Self { producer, consumer, _created: created })
    }
}

/// Messages that are values.
struct Values<const WORDS: usize>(Rings<[u64; WORDS]>)
where
    [u64; WORDS]: Pod;

impl<const WORDS: usize> Ends for Values<WORDS>
where
    [u64; WORDS]: Pod,
{
    #[inline(always)]
    fn send(&mut self, n: u64) -> Result<()> {
        self.0.producer.publish(&std::array::from_fn(|word| n + word as u64));
        Ok(())
    }

    #[inline(always)]
    fn poll(&mut self, n: u64) -> Result<bool> {
        match self.0.consumer.try_recv() {
            Ok(message) => {
                let intact = message.iter().zip(n..).all(|(&word, expected)| word == expected);
                if intact { Ok(true) } else { damaged(n) }
            }
            Err(error) => missing(n, error),
        }
    }
}

/// Messages of any length, with the number at both ends.
struct Bytes {
    rings: Rings<[u8]>,
    message: Vec<u8>,
    landing: Vec<u8>,
}

impl Ends for Bytes {
    #[inline(always)]
    fn send(&mut self, n: u64) -> Result<()> {
        mark(&mut self.message, n);
        self.rings.producer.publish(&self.message)?;
        Ok(())
    }

    #[inline(always)]
    fn poll(&mut self, n: u64) -> Result<bool> {
        match self.rings.consumer.try_recv_into(&mut self.landing) {
            Ok(()) if is_marked(&self.landing, self.message.len(), n) => Ok(true),
            Ok(()) => damaged(n),
            Err(error) => missing(n, error),
        }
    }
}

fn mark(message: &mut [u8], n: u64) {
    let number = n.to_le_bytes();
    let (head, rest) = message.split_at_mut(number.len());
    head.copy_from_slice(&number);
    let tail = rest.len().min(number.len());
    let last = rest.len() - tail;
    rest[last..].copy_from_slice(&number[..tail]);
}

fn is_marked(message: &[u8], bytes: usize, n: u64) -> bool {
    let number = n.to_le_bytes();
    // A message of less than two numbers has room for the lower bytes of the second.
    let tail = bytes.saturating_sub(number.len()).min(number.len());
    message.len() == bytes && message.starts_with(&number) && message.ends_with(&number[..tail])
}

/// Any messages, through the locked queue.
struct Queues {
    sender: Box<dyn Sender>,
    receiver: Box<dyn Receiver>,
    message: Vec<u8>,
    landing: Vec<u8>,
    _created: Vec<Box<dyn Host>>,
}

impl Queues {
    fn connect(task: &Task, side: Side, out: &str, back: &str) -> Result<Self> {
        let channel = |name: &str| Channel {
            engine: task.engine,
            name: name.to_owned(),
            slots: task.slots,
            slot_bytes: task.payload_bytes,
            readers: 1,
            writers: 1,
            mode: Mode::Overwrite,
            wait: Wait::Park,
        };
        let (out, back) = (channel(out), channel(back));
        let mut created = Vec::new();
        if side == Side::Lead {
            for channel in [&out, &back] {
                created.push(channel.create()?);
            }
        }
        let message = vec![0x5A; task.payload_bytes];
        Ok(Self {
            sender: out.sender()?,
            receiver: back.receiver(0)?,
            message,
            landing: Vec::new(),
            _created: created,
        })
    }
}

impl Ends for Queues {
    fn send(&mut self, n: u64) -> Result<()> {
        mark(&mut self.message, n);
        let sent = self.sender.send(&self.message, monotonic_ns() + PATIENCE_NS)?;
        ensure!(sent.accepted, "the queue has no room for message {n}");
        Ok(())
    }

    fn poll(&mut self, n: u64) -> Result<bool> {
        match self.receiver.receive(&mut self.landing, NAP)? {
            Received::Message(_) if is_marked(&self.landing, self.message.len(), n) => Ok(true),
            Received::Message(_) => damaged(n),
            Received::Nothing => Ok(false),
            other => bail!("waiting for message {n}, the queue reported {other:?}"),
        }
    }

    /// A poll may sleep for a whole nap, so there is time to check after each.
    fn wait(&mut self, n: u64, check: &mut Check<'_>) -> Result<()> {
        while !self.poll(n)? {
            check()?;
        }
        Ok(())
    }
}

#[cold]
fn damaged(n: u64) -> Result<bool> {
    bail!("message {n} arrived damaged")
}

#[inline(always)]
fn missing(n: u64, error: TryRecvError) -> Result<bool> {
    if error == TryRecvError::Empty {
        Ok(false)
    } else {
        Err(error).with_context(|| format!("waiting for message {n}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_every_length_carry_their_number() {
        for bytes in 8..40 {
            let mut message = vec![0x5A; bytes];
            for n in [0, 1, 255, 256, u64::MAX] {
                mark(&mut message, n);
                assert!(is_marked(&message, bytes, n), "{bytes} bytes, message {n}");
                assert!(!is_marked(&message, bytes, n ^ 1), "{bytes} bytes, message {n}");
                assert!(!is_marked(&message[1..], bytes, n), "{bytes} bytes, message {n}");
            }
        }
    }

    #[test]
    fn waiting_at_the_locked_queue_ends_when_the_check_fails() {
        let name = format!("seqring-test-{}-rally", std::process::id());
        let task =
            Task { engine: Engine::Locked, name, payload_bytes: 8, slots: 2, rounds: 1, trips: 1 };
        let mut rally = connect(&task, Side::Lead).unwrap();
        let error = rally.lead(1, &mut || bail!("nobody there")).unwrap_err();
        assert_eq!(error.to_string(), "nobody there");
    }
}
