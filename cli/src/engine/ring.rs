//! The library's ring as an engine.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use seqring::{CloseReason, Consumer, IfExists, Producer, PublishError, RecvTimeoutError, Registration, Ring, Start};

use super::{Channel, Host, Mode, Received, Receiver, Sender, Sent, Waited};
use crate::clock::monotonic_ns;

impl Host for Ring<[u8]> {}

pub fn create(channel: &Channel) -> Result<Box<dyn Host>> {
    let ring = Ring::<[u8]>::builder(&channel.name)
        .slots(channel.slots)
        .slot_bytes(channel.slot_bytes)
        .readers(channel.readers)
        .if_exists(IfExists::Error)
        .prefault(true)
        .create()?;
    Ok(Box::new(ring))
}

pub fn sender(channel: &Channel) -> Result<Box<dyn Sender>> {
    let ring = Ring::<[u8]>::options().prefault(true).open(&channel.name)?;
    Ok(Box::new(RingSender { producer: ring.producer()?, ring }))
}

pub fn receiver(channel: &Channel, row: usize) -> Result<Box<dyn Receiver>> {
    let ring = Ring::<[u8]>::options().read_only(true).prefault(true).open(&channel.name)?;
    let consumer = ring.consumer().start(Start::Oldest);
    Ok(match channel.mode {
        Mode::Overwrite => Box::new(RingReceiver { consumer: consumer.attach() }),
        Mode::Gating => Box::new(RingReceiver { consumer: consumer.name(&format!("reader {row}")).gating().attach()? }),
    })
}

struct RingSender {
    ring: Ring<[u8]>,
    producer: Producer<[u8]>,
}

impl Sender for RingSender {
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
        let readers = self.ring.readers().into_iter().filter(|reader| reader.waits > 0);
        readers.map(|reader| Waited { reader: reader.name, times: reader.waits, seconds: reader.waited.as_secs_f64() }).collect()
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.producer.close();
        Ok(())
    }
}

struct RingReceiver<R: Registration> {
    consumer: Consumer<[u8], R>,
}

impl<R: Registration> Receiver for RingReceiver<R> {
    fn receive(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<Received> {
        Ok(match self.consumer.recv_timeout_into(message, timeout) {
            Ok(()) => Received::Message(self.consumer.cursor() - 1),
            Err(RecvTimeoutError::Lagged(lost)) => Received::Lagged(lost),
            Err(RecvTimeoutError::Closed(CloseReason::Closed)) => Received::Closed,
            // The supervisor sees a dead writer itself, and can say more about it.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Closed(CloseReason::ProducerDied)) => Received::Nothing,
            Err(RecvTimeoutError::Closed(reason)) => bail!("the ring ended under its reader: {reason}"),
            Err(error @ RecvTimeoutError::Cancelled) => return Err(error.into()),
        })
    }
}
