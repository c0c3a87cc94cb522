//! seqring, in two processes. Consumers have the ring mapped as those of other systems have it, for
//! writing, or read-only: two systems here. Where nothing may be lost, they register and gate.
//!
//! Messages of up to [`LARGEST_VALUE`] bytes are typed, larger ones are bytes; those of [`LARGE`]
//! bytes and more are sent one by one from one piece of memory also where others come in batches,
//! as the guide says. Memory is touched before the first message.

use std::marker::PhantomData;

use anyhow::{Result, bail};
use seqring::{
    Consumer, ConsumerBuilder, Free, IfExists, Message, OnLag, Producer, RecvError, Registered,
    Registration, Ring, TryRecvError, WaitStrategy,
};

use super::Channel;
use crate::ends::{BATCH, Receiver, Sender, batch_of, each_alone, intact};
use crate::payload::Payload;
use crate::spec::{Mode, Spec, System};

/// Messages up to this many bytes are values, larger ones bytes.
pub const LARGEST_VALUE: usize = 256;

/// From this many bytes on there are few slots, and who is late goes on at the newest message; and
/// a batch gains nothing.
const LARGE: usize = 16 << 10;

/// Messages that are values.
pub struct Values<R>(PhantomData<R>);

/// Messages that are bytes.
pub struct Bytes<R>(PhantomData<R>);

/// How a reader is attached.
pub trait Attach: Registration + Sized {
    fn attach<M: Message + ?Sized>(
        builder: ConsumerBuilder<M>,
        spec: &Spec,
        reader: usize,
    ) -> Result<Consumer<M, Self>>;
}

impl Attach for Free {
    fn attach<M: Message + ?Sized>(
        builder: ConsumerBuilder<M>,
        spec: &Spec,
        _: usize,
    ) -> Result<Consumer<M, Self>> {
        Ok(builder.on_lag(if spec.bytes < LARGE { OnLag::Oldest } else { OnLag::Newest }).attach())
    }
}

impl Attach for Registered {
    fn attach<M: Message + ?Sized>(
        builder: ConsumerBuilder<M>,
        spec: &Spec,
        reader: usize,
    ) -> Result<Consumer<M, Self>> {
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
pub struct RingReceiver<M: Message + ?Sized, R: Registration, const W: usize> {
    consumer: Consumer<M, R>,
    /// Where bytes land.
    bytes: Vec<u8>,
}

fn sender<M: Message + ?Sized, const W: usize>(
    builder: seqring::RingBuilder<M>,
    spec: &Spec,
) -> Result<RingSender<M, W>> {
    let ring = builder
        .slots(spec.depth)
        .max_registered(spec.readers.max(1))
        .if_exists(IfExists::Error)
        .prefault(true)
        .create()?;
    Ok(RingSender {
        producer: ring.producer()?,
        _ring: ring,
        messages: Payload::several(batch_of(W)),
    })
}

fn consumer<M: Message + ?Sized, R: Attach>(spec: &Spec, reader: usize) -> Result<Consumer<M, R>> {
    let ring = Ring::<M>::options(&spec.name)
        .read_only(spec.system == System::SeqringReadOnly)
        .prefault(true)
        .open()?;
    let wait = if spec.parks { WaitStrategy::Park } else { WaitStrategy::Spin };
    R::attach(ring.consumer().wait_strategy(wait), spec, reader)
}

impl<R: Attach + 'static> Channel for Values<R> {
    type Sender<const W: usize> = RingSender<Payload<W>, W>;
    type Receiver<const W: usize> = RingReceiver<Payload<W>, R, W>;

    fn sender<const W: usize>(spec: &Spec) -> Result<Self::Sender<W>> {
        sender(Ring::builder(&spec.name), spec)
    }

    fn receiver<const W: usize>(spec: &Spec, reader: usize) -> Result<Self::Receiver<W>> {
        Ok(RingReceiver { consumer: consumer(spec, reader)?, bytes: Vec::new() })
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

impl<const W: usize, R: Registration> Receiver for RingReceiver<Payload<W>, R, W> {
    #[inline(always)]
    fn poll(&mut self) -> Result<Option<u64>> {
        match self.consumer.try_recv() {
            Ok(message) => intact(message.number()).map(Some),
            Err(error) => nothing(error),
        }
    }

    #[inline(always)]
    fn poll_batch(&mut self, each: &mut impl FnMut(u64) -> Result<()>) -> Result<usize> {
        let mut result = Ok(());
        let count = self.consumer.try_recv_each(BATCH, |message| {
            if result.is_ok() {
                result = intact(message.number()).and_then(&mut *each);
            }
        });
        batch(count, result)
    }

    #[inline(always)]
    fn attend(&mut self) -> Result<Option<u64>> {
        match self.consumer.recv() {
            Ok(message) => intact(message.number()).map(Some),
            Err(RecvError::Lagged(_)) => Ok(None),
            Err(error @ (RecvError::Closed(_) | RecvError::Cancelled)) => {
                bail!("the ring ended: {error}")
            }
        }
    }

    fn wait(&mut self) -> Result<Option<u64>> {
        self.attend()
    }
}

impl<R: Attach + 'static> Channel for Bytes<R> {
    type Sender<const W: usize> = RingSender<[u8], W>;
    type Receiver<const W: usize> = RingReceiver<[u8], R, W>;

    fn sender<const W: usize>(spec: &Spec) -> Result<Self::Sender<W>> {
        sender(Ring::<[u8]>::builder(&spec.name).slot_bytes(spec.bytes), spec)
    }

    fn receiver<const W: usize>(spec: &Spec, reader: usize) -> Result<Self::Receiver<W>> {
        Ok(RingReceiver { consumer: consumer(spec, reader)?, bytes: vec![0; spec.bytes] })
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
        if W * 8 >= LARGE {
            return each_alone(self, first, count);
        }
        let messages = &mut self.messages[..count];
        for (message, n) in messages.iter_mut().zip(first..) {
            message.mark(n);
        }
        self.producer.publish_batch(messages.iter().map(Payload::bytes))?;
        Ok(())
    }
}

/// The number of a message that came as bytes; every message of this channel has the same length.
#[inline(always)]
fn number<const W: usize>(bytes: &[u8]) -> Option<u64> {
    std::hint::black_box(bytes);
    // Only the ends of a large message are looked at.
    let head = u64::from_le_bytes(*bytes.first_chunk()?);
    let tail = u64::from_le_bytes(*bytes.last_chunk()?);
    (bytes.len() == size_of::<Payload<W>>() && tail == !head).then_some(head)
}

impl<const W: usize, R: Registration> Receiver for RingReceiver<[u8], R, W> {
    #[inline(always)]
    fn poll(&mut self) -> Result<Option<u64>> {
        match self.consumer.try_recv_into(&mut self.bytes) {
            Ok(()) => intact(number::<W>(&self.bytes)).map(Some),
            Err(error) => nothing(error),
        }
    }

    #[inline(always)]
    fn poll_batch(&mut self, each: &mut impl FnMut(u64) -> Result<()>) -> Result<usize> {
        let mut result = Ok(());
        let count = self.consumer.try_recv_each(BATCH, |bytes| {
            if result.is_ok() {
                result = intact(number::<W>(bytes)).and_then(&mut *each);
            }
        });
        batch(count, result)
    }

    #[inline(always)]
    fn attend(&mut self) -> Result<Option<u64>> {
        match self.consumer.recv_into(&mut self.bytes) {
            Ok(()) => intact(number::<W>(&self.bytes)).map(Some),
            Err(RecvError::Lagged(_)) => Ok(None),
            Err(error @ (RecvError::Closed(_) | RecvError::Cancelled)) => {
                bail!("the ring ended: {error}")
            }
        }
    }

    fn wait(&mut self) -> Result<Option<u64>> {
        self.attend()
    }
}

/// What has become of a batch: how many came, and what the look at each has shown.
#[inline(always)]
fn batch(count: Result<usize, TryRecvError>, result: Result<()>) -> Result<usize> {
    match count {
        Ok(count) => result.map(|()| count),
        Err(error) => nothing(error).map(|_| 0),
    }
}

#[inline(always)]
fn nothing(error: TryRecvError) -> Result<Option<u64>> {
    match error {
        TryRecvError::Empty | TryRecvError::Lagged(_) => Ok(None),
        TryRecvError::Closed(reason) => bail!("the ring ended: {reason}"),
    }
}
