//! The locked baseline of the `seqring` command: a lossless queue under a readers-writer lock of
//! one robust mutex and two conditions. A receiver that finds nothing sleeps.

use std::hint::black_box;

use anyhow::{Result, bail, ensure};
use seqring_cli::clock::monotonic_ns;
use seqring_cli::locked::{Geometry, Queue, Reader, Take, Writer};

use super::Channel;
use crate::ends::{Receiver, Sender, each_alone, intact};
use crate::payload::Payload;
use crate::spec::Spec;

/// A receiver sleeps no longer than this before it is looked whether the sender lives.
const NAP_NS: u64 = 20_000_000;
/// A sender that waits longer than this has lost its reader.
const PATIENCE_NS: u64 = 10_000_000_000;

/// The locked queue.
pub struct Locked;

/// The sending end; it also keeps the queue in existence.
pub struct LockedSender<const W: usize> {
    writer: Writer,
    message: Box<Payload<W>>,
    _queue: Queue,
}

/// The receiving end.
pub struct LockedReceiver<const W: usize> {
    reader: Reader,
    bytes: Vec<u8>,
}

fn geometry(spec: &Spec) -> Geometry {
    Geometry { slots: spec.depth, slot_bytes: spec.bytes, readers: spec.readers }
}

impl Channel for Locked {
    type Sender<const W: usize> = LockedSender<W>;
    type Receiver<const W: usize> = LockedReceiver<W>;

    fn sender<const W: usize>(spec: &Spec) -> Result<Self::Sender<W>> {
        let queue = Queue::create(&spec.name, geometry(spec))?;
        Ok(LockedSender {
            writer: Writer::open(&spec.name, geometry(spec))?,
            message: Payload::boxed(),
            _queue: queue,
        })
    }

    fn receiver<const W: usize>(spec: &Spec, reader: usize) -> Result<Self::Receiver<W>> {
        let reader = Reader::open(&spec.name, geometry(spec), reader)?;
        // Aligned as a message, so that it can be looked at as one.
        Ok(LockedReceiver { reader, bytes: Vec::with_capacity(spec.bytes) })
    }
}

impl<const W: usize> Sender for LockedSender<W> {
    fn send(&mut self, n: u64) -> Result<()> {
        self.message.mark(n);
        let offer = self.writer.offer(self.message.bytes(), monotonic_ns() + PATIENCE_NS)?;
        ensure!(offer.accepted, "the queue had no room for ten seconds");
        Ok(())
    }

    fn send_batch(&mut self, first: u64, count: usize) -> Result<()> {
        each_alone(self, first, count)
    }
}

impl<const W: usize> Receiver for LockedReceiver<W> {
    fn poll(&mut self) -> Result<Option<u64>> {
        self.wait()
    }

    fn poll_batch(&mut self, each: &mut impl FnMut(u64) -> Result<()>) -> Result<usize> {
        // Looking for another one would sleep.
        match self.poll()? {
            Some(n) => each(n).map(|()| 1),
            None => Ok(0),
        }
    }

    fn wait(&mut self) -> Result<Option<u64>> {
        match self.reader.take(&mut self.bytes, monotonic_ns() + NAP_NS)? {
            Take::Message(_) => {
                black_box(&self.bytes);
                let Ok(message) = bytemuck::try_from_bytes::<Payload<W>>(&self.bytes) else {
                    bail!(
                        "a message of {} bytes arrived, or a vector that is not aligned",
                        self.bytes.len()
                    );
                };
                intact(message.number()).map(Some)
            }
            Take::TimedOut => Ok(None),
            Take::Closed => bail!("the queue was closed"),
        }
    }
}
