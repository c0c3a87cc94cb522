//! The locked baseline as an engine.

use std::time::Duration;

use anyhow::Result;

use super::{Channel, Host, Received, Receiver, Sender, Sent};
use crate::clock::monotonic_ns;
use crate::locked::{Geometry, Queue, Reader, Take, Writer};

impl Channel {
    fn geometry(&self) -> Geometry {
        Geometry { slots: self.slots, slot_bytes: self.slot_bytes, readers: self.readers }
    }
}

impl Host for Queue {}

pub fn create(channel: &Channel) -> Result<Box<dyn Host>> {
    Ok(Box::new(Queue::create(&channel.name, channel.geometry())?))
}

pub fn sender(channel: &Channel) -> Result<Box<dyn Sender>> {
    Ok(Box::new(Writer::open(&channel.name, channel.geometry())?))
}

pub fn receiver(channel: &Channel, row: usize) -> Result<Box<dyn Receiver>> {
    Ok(Box::new(Reader::open(&channel.name, channel.geometry(), row)?))
}

impl Sender for Writer {
    fn send(&mut self, message: &[u8], deadline_ns: u64) -> Result<Sent> {
        let offer = self.offer(message, deadline_ns)?;
        Ok(Sent { accepted: offer.accepted, stalled: offer.stalled })
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(Writer::close(*self)?)
    }
}

impl Receiver for Reader {
    fn receive(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<Received> {
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let deadline_ns = monotonic_ns().saturating_add(timeout);
        Ok(match self.take(message, deadline_ns)? {
            Take::Message(sequence) => Received::Message(sequence),
            Take::TimedOut => Received::Nothing,
            Take::Closed => Received::Closed,
        })
    }
}
