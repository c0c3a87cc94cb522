//! photon-ring 3, between threads: `channel` where it overwrites, `channel_bounded` with no
//! watermark where nothing may be lost, as in its benches.

use std::hint::black_box;

use anyhow::{Result, bail};
use photon_ring::{Publisher, Subscriber, TryRecvError, channel, channel_bounded};

use super::{Channel, switchboard};
use crate::ends::{Receiver, Sender, batch_of, intact};
use crate::payload::Payload;
use crate::spec::{Mode, Spec};

/// photon-ring.
pub struct Photon;

/// The sending end.
pub struct PhotonSender<const W: usize> {
    publisher: Publisher<[u64; W]>,
    message: Box<Payload<W>>,
    batch: Vec<[u64; W]>,
}

/// The receiving end.
pub struct PhotonReceiver<const W: usize> {
    subscriber: Subscriber<[u64; W]>,
    batch: Vec<[u64; W]>,
}

/// Room for a batch, made by the first one: who measures memory sends none, and it would not be the
/// system's.
#[inline(always)]
fn room<const W: usize>(batch: &mut Vec<[u64; W]>) -> &mut [[u64; W]] {
    if batch.is_empty() {
        batch.resize(batch_of(W), [0; W]);
    }
    batch
}

impl Channel for Photon {
    type Sender<const W: usize> = PhotonSender<W>;
    type Receiver<const W: usize> = PhotonReceiver<W>;

    fn sender<const W: usize>(spec: &Spec) -> Result<Self::Sender<W>> {
        let (publisher, subscribers) = match spec.mode {
            Mode::Overwrite => channel(spec.depth),
            Mode::Lossless => channel_bounded(spec.depth, 0),
        };
        for reader in 0..spec.readers {
            switchboard::leave(spec.leg(reader), subscribers.subscribe());
        }
        Ok(PhotonSender { publisher, message: Payload::boxed(), batch: Vec::new() })
    }

    fn receiver<const W: usize>(spec: &Spec, reader: usize) -> Result<Self::Receiver<W>> {
        Ok(PhotonReceiver { subscriber: switchboard::take(&spec.leg(reader))?, batch: Vec::new() })
    }
}

impl<const W: usize> Sender for PhotonSender<W> {
    #[inline(always)]
    fn send(&mut self, n: u64) -> Result<()> {
        self.message.mark(n);
        self.publisher.publish(self.message.0);
        Ok(())
    }

    #[inline(always)]
    fn send_batch(&mut self, first: u64, count: usize) -> Result<()> {
        let messages = &mut room(&mut self.batch)[..count];
        for (message, n) in messages.iter_mut().zip(first..) {
            bytemuck::cast_mut::<_, Payload<W>>(message).mark(n);
        }
        self.publisher.publish_batch(messages);
        Ok(())
    }
}

impl<const W: usize> Receiver for PhotonReceiver<W> {
    #[inline(always)]
    fn poll(&mut self) -> Result<Option<u64>> {
        match self.subscriber.try_recv() {
            Ok(words) => {
                let message = Payload(words);
                black_box(&message);
                intact(message.number()).map(Some)
            }
            Err(TryRecvError::Empty | TryRecvError::Lagged { .. }) => Ok(None),
        }
    }

    #[inline(always)]
    fn poll_batch(&mut self, each: &mut impl FnMut(u64) -> Result<()>) -> Result<usize> {
        let count = self.subscriber.recv_batch(room(&mut self.batch));
        for words in &self.batch[..count] {
            each(intact(bytemuck::cast_ref::<_, Payload<W>>(words).number())?)?;
        }
        Ok(count)
    }

    fn wait(&mut self) -> Result<Option<u64>> {
        bail!("photon-ring has no way to sleep until a message comes")
    }
}
