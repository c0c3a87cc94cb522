//! The library's ring as an engine.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use seqring::{CloseReason, Consumer, IfExists, Producer, RecvTimeoutError, Ring, Start};

use super::{Channel, Host, Received, Receiver, Sender, Sent};

impl Host for Ring<[u8]> {}

pub fn create(channel: &Channel) -> Result<Box<dyn Host>> {
    let ring = Ring::<[u8]>::builder(&channel.name)
        .slots(channel.slots)
        .slot_bytes(channel.slot_bytes)
        .if_exists(IfExists::Error)
        .prefault(true)
        .create()?;
    Ok(Box::new(ring))
}

pub fn sender(channel: &Channel) -> Result<Box<dyn Sender>> {
    let ring = Ring::<[u8]>::options().prefault(true).open(&channel.name)?;
    Ok(Box::new(RingSender { producer: ring.producer()? }))
}

pub fn receiver(channel: &Channel) -> Result<Box<dyn Receiver>> {
    let ring = Ring::<[u8]>::options().read_only(true).prefault(true).open(&channel.name)?;
    let consumer = ring.consumer().start(Start::Oldest).attach();
    Ok(Box::new(RingReceiver { consumer }))
}

struct RingSender {
    producer: Producer<[u8]>,
}

impl Sender for RingSender {
    fn send(&mut self, message: &[u8], _deadline_ns: u64) -> Result<Sent> {
        self.producer.publish(message).context("cannot publish")?;
        Ok(Sent { accepted: true, stalled: false })
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.producer.close();
        Ok(())
    }
}

struct RingReceiver {
    consumer: Consumer<[u8]>,
}

impl Receiver for RingReceiver {
    fn receive(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<Received> {
        Ok(match self.consumer.recv_timeout_into(message, timeout) {
            Ok(()) => Received::Message(self.consumer.cursor() - 1),
            Err(RecvTimeoutError::Lagged(lost)) => Received::Lagged(lost),
            Err(RecvTimeoutError::Closed(CloseReason::Closed)) => Received::Closed,
            // The supervisor sees a dead writer itself, and can say more about it.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Closed(CloseReason::ProducerDied)) => Received::Nothing,
            Err(RecvTimeoutError::Closed(reason)) => bail!("the ring ended under its reader: {reason}"),
        })
    }
}
