//! The library's ring as an engine.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use seqring::{
    CloseReason, Consumer, IfExists, Producer, ProducerKind, PublishError, RecvTimeoutError,
    Registered, Registration, Ring, Start, WaitStrategy,
};

use super::{Channel, Host, Mode, Received, Receiver, Sender, Sent, Wait, Waited};
use crate::clock::monotonic_ns;

impl Host for Ring<[u8]> {}

pub fn create(channel: &Channel) -> Result<Box<dyn Host>> {
    let ring = Ring::<[u8]>::builder(&channel.name)
        .slots(channel.slots)
        .slot_bytes(channel.slot_bytes)
        .max_registered(channel.readers)
        .max_producers(channel.writers)
        .if_exists(IfExists::Error)
        .prefault(true)
        .create()?;
    Ok(Box::new(ring))
}

pub fn sender(channel: &Channel) -> Result<Box<dyn Sender>> {
    let ring = Ring::<[u8]>::options(&channel.name).prefault(true).open()?;
    Ok(if channel.writers == 1 {
        Box::new(RingSender { producer: ring.producer()?, ring })
    } else {
        Box::new(RingSender { producer: ring.shared_producer()?, ring })
    })
}

pub fn receiver(channel: &Channel, row: usize) -> Result<Box<dyn Receiver>> {
    let ring = Ring::<[u8]>::options(&channel.name).read_only(true).prefault(true).open()?;
    let strategy = match channel.wait {
        Wait::Spin => WaitStrategy::Spin,
        Wait::Yield => WaitStrategy::Yield,
        Wait::Park => WaitStrategy::Park,
    };
    let free = ring.consumer().start(Start::Oldest).wait_strategy(strategy);
    let name = format!("reader {row}");
    Ok(match (channel.mode, channel.wait) {
        (Mode::Gating, _) => registered(ring, free.name(&name).gating().attach()?, name),
        // One that is to be woken leaves a note for the writer, and has a row to do so.
        (Mode::Overwrite, Wait::Park) => registered(ring, free.name(&name).attach()?, name),
        (Mode::Overwrite, Wait::Spin | Wait::Yield) => {
            Box::new(RingReceiver { consumer: free.attach(), row: None })
        }
    })
}

fn registered(
    ring: Ring<[u8]>,
    consumer: Consumer<[u8], Registered>,
    name: String,
) -> Box<dyn Receiver> {
    Box::new(RingReceiver { consumer, row: Some(TableRow { ring, name }) })
}

struct RingSender<S: ProducerKind> {
    ring: Ring<[u8]>,
    producer: Producer<[u8], S>,
}

impl<S: ProducerKind> Sender for RingSender<S> {
    fn send(&mut self, message: &[u8], deadline_ns: u64) -> Result<Sent> {
        match self.producer.try_publish(message) {
            Ok(_) => return Ok(Sent { accepted: true, stalled: false }),
            Err(PublishError::TooLarge(error)) => return Err(error).context("cannot publish"),
            Err(PublishError::Full(_)) => {}
        }
        let left = Duration::from_nanos(deadline_ns.saturating_sub(monotonic_ns()));
        Ok(Sent { accepted: self.producer.publish_timeout(message, left).is_ok(), stalled: true })
    }

    fn waited_for(&self) -> Vec<Waited> {
        let readers = self.ring.consumers().into_iter().filter(|reader| reader.waits > 0);
        readers
            .map(|reader| Waited {
                reader: reader.name,
                times: reader.waits,
                seconds: reader.waited.as_secs_f64(),
            })
            .collect()
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.producer.close();
        Ok(())
    }
}

struct RingReceiver<R: Registration> {
    consumer: Consumer<[u8], R>,
    row: Option<TableRow>,
}

/// Where the ring's table of readers tells about one.
struct TableRow {
    ring: Ring<[u8]>,
    name: String,
}

impl<R: Registration> Receiver for RingReceiver<R> {
    fn receive(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<Received> {
        Ok(match self.consumer.recv_timeout_into(message, timeout) {
            Ok(()) => Received::Message(self.consumer.cursor() - 1),
            Err(RecvTimeoutError::Lagged(lost)) => Received::Lagged(lost),
            Err(RecvTimeoutError::Closed(CloseReason::Closed)) => Received::Closed,
            // The supervisor sees a dead writer itself, and can say more about it.
            Err(
                RecvTimeoutError::Timeout | RecvTimeoutError::Closed(CloseReason::ProducerDied),
            ) => Received::Nothing,
            Err(RecvTimeoutError::Closed(reason)) => {
                bail!("the ring ended under its reader: {reason}")
            }
            Err(error @ RecvTimeoutError::Cancelled) => return Err(error.into()),
        })
    }
    fn tombstones(&self) -> u64 {
        self.consumer.tombstones()
    }

    fn sleeps(&self) -> Option<u64> {
        let row = self.row.as_ref()?;
        row.ring
            .consumers()
            .into_iter()
            .find(|reader| reader.name == row.name)
            .map(|reader| reader.sleeps)
    }
}
