//! seqring, in two processes: consumers map the ring read-only, or register and gate where nothing may be lost.
//!
//! Messages of up to [`LARGEST_VALUE`] bytes are typed, larger ones are bytes, as the guide says. Memory is touched before the first message.

use std::marker::PhantomData;

use anyhow::{Result, bail};
use seqring::{Consumer, ConsumerBuilder, Free, IfExists, Message, Producer, RecvError, Registered, Registration, Ring, TryRecvError};

use super::Channel;
use crate::ends::{BATCH, Receiver, Sender, batch_of, intact, one_by_one};
use crate::payload::Payload;
use crate::spec::{Mode, Spec};

/// Messages up to this many bytes are values, larger ones bytes.
pub const LARGEST_VALUE: usize = 256;

/// Messages that are values.
pub struct Values<R>(PhantomData<R>);

/// Messages that are bytes.
pub struct Bytes<R>(PhantomData<R>);

/// How a reader is attached.
pub trait Attach: Registration + Sized {
    fn attach<M: Message + ?Sized>(builder: ConsumerBuilder<M>, spec: &Spec, reader: usize) -> Result<Consumer<M, Self>>;
}

impl Attach for Free {
    fn attach<M: Message + ?Sized>(builder: ConsumerBuilder<M>, _: &Spec, _: usize) -> Result<Consumer<M, Self>> {
        Ok(builder.attach())
    }
}

impl Attach for Registered {
    fn attach<M: Message + ?Sized>(builder: ConsumerBuilder<M>, spec: &Spec, reader: usize) -> Result<Consumer<M, Self>> {
        let named = builder.name(&format!("reader {reader}"));
        Ok(match spec.mode {
            Mode::Overwrite => named.attach()?,
            Mode::Lossless => named.gating().attach()?,
        })
    }
}

/// Whether readers register: to lose nothing, and to be woken.
pub fn registers(spec: &Spec) -> bool {
    spec.mode == Mode::Lossless || spec.parks
}

/// The sending end; it also keeps the ring in existence.
pub struct RingSender<M: Message + ?Sized, const W: usize> {
    producer: Producer<M>,
    _ring: Ring<M>,
    messages: Vec<Payload<W>>,
}

/// The receiving end.
pub struct RingReceiver<M: Message + ?Sized, R: Registration, B> {
    consumer: Consumer<M, R>,
    landing: B,
}

fn sender<M: Message + ?Sized, const W: usize>(builder: seqring::Builder<M>, spec: &Spec) -> Result<RingSender<M, W>> {
    let ring = builder.slots(spec.depth).readers(spec.readers.max(1)).if_exists(IfExists::Error).prefault(true).create()?;
    Ok(RingSender { producer: ring.producer()?, _ring: ring, messages: bytemuck::zeroed_vec(batch_of(W)) })
}

fn consumer<M: Message + ?Sized, R: Attach>(spec: &Spec, reader: usize) -> Result<Consumer<M, R>> {
    R::attach(Ring::<M>::options().read_only(true).prefault(true).open(&spec.name)?.consumer(), spec, reader)
}

impl<R: Attach + 'static> Channel for Values<R> {
    type Sender<const W: usize> = RingSender<Payload<W>, W>;
    type Receiver<const W: usize> = RingReceiver<Payload<W>, R, Vec<Payload<W>>>;

    fn sender<const W: usize>(spec: &Spec) -> Result<Self::Sender<W>> {
        sender(Ring::builder(&spec.name), spec)
    }

    fn receiver<const W: usize>(spec: &Spec, reader: usize) -> Result<Self::Receiver<W>> {
        Ok(RingReceiver { consumer: consumer(spec, reader)?, landing: Vec::with_capacity(BATCH) })
    }
}

impl<const W: usize> Sender for RingSender<Payload<W>, W> {
    #[inline(always)]
    fn send(&mut self, n: u64) -> Result<()> {
        self.messages[0].mark(n);
        self.producer.publish(&self.messages[0]);
        Ok(())
    }

    #[inline(always)]
    fn send_batch(&mut self, first: u64, count: usize) -> Result<()> {
        let messages = &mut self.messages[..count];
        for (message, n) in messages.iter_mut().zip(first..) {
            message.mark(n);
        }
        self.producer.publish_batch(messages);
        Ok(())
    }
}

impl<const W: usize, R: Registration> Receiver for RingReceiver<Payload<W>, R, Vec<Payload<W>>> {
    #[inline(always)]
    fn poll(&mut self) -> Result<Option<u64>> {
        match self.consumer.try_recv() {
            Ok(message) => intact(message.number()).map(Some),
            Err(error) => nothing(error),
        }
    }

    #[inline(always)]
    fn poll_batch(&mut self, each: &mut impl FnMut(u64) -> Result<()>) -> Result<usize> {
        self.landing.clear();
        match self.consumer.recv_batch(&mut self.landing, BATCH) {
            Ok(count) => {
                self.landing.iter().try_for_each(|message| each(intact(message.number())?))?;
                Ok(count)
            }
            Err(RecvError::Lagged(_)) => Ok(0),
            Err(error @ (RecvError::Closed(_) | RecvError::Cancelled)) => bail!("the ring ended: {error}"),
        }
    }

    fn wait(&mut self) -> Result<Option<u64>> {
        match self.consumer.recv() {
            Ok(message) => intact(message.number()).map(Some),
            Err(RecvError::Lagged(_)) => Ok(None),
            Err(error @ (RecvError::Closed(_) | RecvError::Cancelled)) => bail!("the ring ended: {error}"),
        }
    }
}

/// Where a message lands that is bytes.
pub struct Landing<const W: usize> {
    bytes: Vec<u8>,
    message: Box<Payload<W>>,
}

impl<R: Attach + 'static> Channel for Bytes<R> {
    type Sender<const W: usize> = RingSender<[u8], W>;
    type Receiver<const W: usize> = RingReceiver<[u8], R, Landing<W>>;

    fn sender<const W: usize>(spec: &Spec) -> Result<Self::Sender<W>> {
        sender(Ring::<[u8]>::builder(&spec.name).slot_bytes(spec.bytes), spec)
    }

    fn receiver<const W: usize>(spec: &Spec, reader: usize) -> Result<Self::Receiver<W>> {
        Ok(RingReceiver { consumer: consumer(spec, reader)?, landing: Landing { bytes: vec![0; spec.bytes], message: Payload::boxed() } })
    }
}

impl<const W: usize> Sender for RingSender<[u8], W> {
    #[inline(always)]
    fn send(&mut self, n: u64) -> Result<()> {
        self.messages[0].mark(n);
        self.producer.publish(self.messages[0].bytes())?;
        Ok(())
    }

    #[inline(always)]
    fn send_batch(&mut self, first: u64, count: usize) -> Result<()> {
        let messages = &mut self.messages[..count];
        for (message, n) in messages.iter_mut().zip(first..) {
            message.mark(n);
        }
        self.producer.publish_batch(messages.iter().map(Payload::bytes))?;
        Ok(())
    }
}

impl<const W: usize> Landing<W> {
    /// Every message of this channel has the same length.
    #[inline(always)]
    fn number(&mut self) -> Result<u64> {
        let Self { bytes, message } = self;
        let (head, tail) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>());
        let (Some(head), Some(tail), true) = (head, tail, bytes.len() == size_of::<Payload<W>>()) else {
            bail!("a message of {} bytes arrived, instead of {}", bytes.len(), size_of::<Payload<W>>());
        };
        std::hint::black_box(&bytes);
        // Only the ends of a large message are looked at.
        message.0[0] = u64::from_le_bytes(*head);
        message.0[W - 1] = u64::from_le_bytes(*tail);
        intact(message.number())
    }
}

impl<const W: usize, R: Registration> Receiver for RingReceiver<[u8], R, Landing<W>> {
    #[inline(always)]
    fn poll(&mut self) -> Result<Option<u64>> {
        match self.consumer.try_recv_into(&mut self.landing.bytes) {
            Ok(()) => self.landing.number().map(Some),
            Err(error) => nothing(error),
        }
    }

    /// A batch of byte messages is a vector for each; receiving into one vector is what the guide advises.
    #[inline(always)]
    fn poll_batch(&mut self, each: &mut impl FnMut(u64) -> Result<()>) -> Result<usize> {
        one_by_one(self, each)
    }

    fn wait(&mut self) -> Result<Option<u64>> {
        match self.consumer.recv_into(&mut self.landing.bytes) {
            Ok(()) => self.landing.number().map(Some),
            Err(RecvError::Lagged(_)) => Ok(None),
            Err(error @ (RecvError::Closed(_) | RecvError::Cancelled)) => bail!("the ring ended: {error}"),
        }
    }
}

#[inline(always)]
fn nothing(error: TryRecvError) -> Result<Option<u64>> {
    match error {
        TryRecvError::Empty | TryRecvError::Lagged(_) => Ok(None),
        TryRecvError::Closed(reason) => bail!("the ring ended: {reason}"),
    }
}
