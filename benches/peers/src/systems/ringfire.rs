//! ringfire 0.5: slots of a fixed size for small messages, its payload arena ("blobs") for large
//! ones, as its own benchmarks have it.
//!
//! The arena has no lossless mode, so large lossless messages go through slots.

use std::hint::black_box;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use ringfire::{
    BlobConsumer, BlobProducer, FlowControl, FutexWait, RingConsumer, RingProducer,
    RingProducerBuilder,
};

use super::Channel;
use crate::ends::{BATCH, Receiver, Sender, batch_of, each_alone, intact, one_by_one};
use crate::payload::Payload;
use crate::spec::{Mode, Spec};

/// Its benchmarks put up to this many bytes into slots, more into the arena.
pub const LARGEST_SLOT: usize = 1024;

/// Readers that its registry has room for unless it is asked for more.
const DEFAULT_READERS: usize = 64;

fn path(spec: &Spec) -> PathBuf {
    PathBuf::from("/dev/shm").join(&spec.name)
}

/// Slots of a fixed size.
pub struct Slots;

/// The sending end of [`Slots`].
pub struct SlotSender<const W: usize> {
    producer: RingProducer<[u64; W]>,
    messages: Vec<Payload<W>>,
    batch: Vec<[u64; W]>,
}

/// The receiving end of [`Slots`].
pub struct SlotReceiver<const W: usize> {
    consumer: RingConsumer<[u64; W]>,
    batch: Vec<[u64; W]>,
    futex: FutexWait,
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

impl Channel for Slots {
    type Sender<const W: usize> = SlotSender<W>;
    type Receiver<const W: usize> = SlotReceiver<W>;

    fn sender<const W: usize>(spec: &Spec) -> Result<Self::Sender<W>> {
        let builder = RingProducerBuilder::new(spec.depth as u64);
        let builder = match spec.mode {
            Mode::Overwrite => builder,
            Mode::Lossless => builder
                .flow_control(FlowControl::LosslessBackpressure)
                .max_readers(spec.readers.max(DEFAULT_READERS)),
        };
        let producer = builder.build(path(spec)).context("ringfire cannot create a ring")?;
        Ok(SlotSender { producer, messages: Payload::several(1), batch: Vec::new() })
    }

    fn receiver<const W: usize>(spec: &Spec, _reader: usize) -> Result<Self::Receiver<W>> {
        let consumer = RingConsumer::builder()
            .start_from_head()
            .attach(path(spec))
            .context("ringfire cannot attach")?;
        Ok(SlotReceiver { consumer, batch: Vec::new(), futex: FutexWait::default() })
    }
}

impl<const W: usize> Sender for SlotSender<W> {
    #[inline(always)]
    fn send(&mut self, n: u64) -> Result<()> {
        self.messages[0].mark(n);
        self.producer.push(&self.messages[0].0);
        Ok(())
    }

    #[inline(always)]
    fn send_batch(&mut self, first: u64, count: usize) -> Result<()> {
        let messages = &mut room(&mut self.batch)[..count];
        for (message, n) in messages.iter_mut().zip(first..) {
            bytemuck::cast_mut::<_, Payload<W>>(message).mark(n);
        }
        self.producer.push_batch(messages);
        Ok(())
    }
}

impl<const W: usize> Receiver for SlotReceiver<W> {
    #[inline(always)]
    fn poll(&mut self) -> Result<Option<u64>> {
        match self.consumer.try_recv() {
            Some(words) => {
                let message = Payload(words);
                black_box(&message);
                intact(message.number()).map(Some)
            }
            None => Ok(None),
        }
    }

    #[inline(always)]
    fn poll_batch(&mut self, each: &mut impl FnMut(u64) -> Result<()>) -> Result<usize> {
        let count = self.consumer.recv_batch(room(&mut self.batch));
        for words in &self.batch[..count] {
            each(intact(bytemuck::cast_ref::<_, Payload<W>>(words).number())?)?;
        }
        Ok(count)
    }

    fn wait(&mut self) -> Result<Option<u64>> {
        intact(Payload(self.consumer.recv_blocking(&mut self.futex)).number()).map(Some)
    }
}

/// The payload arena.
pub struct Blobs;

/// The sending end of [`Blobs`].
pub struct BlobSender<const W: usize> {
    producer: BlobProducer<()>,
    message: Box<Payload<W>>,
}

/// The receiving end of [`Blobs`].
pub struct BlobReceiver<const W: usize> {
    consumer: BlobConsumer<()>,
    message: Box<Payload<W>>,
}

impl Channel for Blobs {
    type Sender<const W: usize> = BlobSender<W>;
    type Receiver<const W: usize> = BlobReceiver<W>;

    fn sender<const W: usize>(spec: &Spec) -> Result<Self::Sender<W>> {
        // Room for as many messages as there are slots; a blob's own header takes some bytes more.
        let arena = (spec.depth * (spec.bytes + 64)).next_power_of_two();
        let producer = BlobProducer::create(path(spec), spec.depth as u64, arena)
            .context("ringfire cannot create an arena")?;
        Ok(BlobSender { producer, message: Payload::boxed() })
    }

    fn receiver<const W: usize>(spec: &Spec, _reader: usize) -> Result<Self::Receiver<W>> {
        Ok(BlobReceiver {
            consumer: BlobConsumer::attach(path(spec)).context("ringfire cannot attach")?,
            message: Payload::boxed(),
        })
    }
}

impl<const W: usize> Sender for BlobSender<W> {
    #[inline(always)]
    fn send(&mut self, n: u64) -> Result<()> {
        self.message.mark(n);
        self.producer.push_payload(self.message.bytes())?;
        Ok(())
    }

    #[inline(always)]
    fn send_batch(&mut self, first: u64, count: usize) -> Result<()> {
        debug_assert!(count <= BATCH);
        each_alone(self, first, count)
    }
}

impl<const W: usize> Receiver for BlobReceiver<W> {
    #[inline(always)]
    fn poll(&mut self) -> Result<Option<u64>> {
        match self.consumer.recv_payload(self.message.bytes_mut())? {
            Some(_) => {
                black_box(&self.message);
                intact(self.message.number()).map(Some)
            }
            None => Ok(None),
        }
    }

    #[inline(always)]
    fn poll_batch(&mut self, each: &mut impl FnMut(u64) -> Result<()>) -> Result<usize> {
        one_by_one(self, each)
    }

    fn wait(&mut self) -> Result<Option<u64>> {
        self.poll()
    }
}
