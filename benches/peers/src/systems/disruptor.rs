//! disruptor 4, between threads: one producer, busy spinning, event pollers, so that the reading
//! thread is ours to pin. It is always lossless. Messages are copied into their events and out of
//! them, like those of everybody else.

use std::hint::black_box;

use anyhow::{Result, bail, ensure};
use disruptor::{
    BusySpin, EventPoller, MultiConsumerBarrier, Polling, Producer as _, SingleConsumerBarrier,
    SingleProducer, SingleProducerBarrier, build_single_producer,
};

use super::{Channel, switchboard};
use crate::ends::{BATCH, Receiver, Sender, intact};
use crate::payload::Payload;
use crate::spec::{Mode, Spec};

/// disruptor.
pub struct Disruptor;

type Event<const W: usize> = Payload<W>;
type Poller<const W: usize> = EventPoller<Event<W>, SingleProducerBarrier>;

/// The producer's type depends on whether there are several readers.
enum Producer<const W: usize> {
    One(SingleProducer<Event<W>, SingleConsumerBarrier>),
    Many(SingleProducer<Event<W>, MultiConsumerBarrier>),
}

/// The sending end.
pub struct DisruptorSender<const W: usize> {
    producer: Producer<W>,
    message: Box<Payload<W>>,
}

/// The receiving end.
pub struct DisruptorReceiver<const W: usize> {
    poller: Poller<W>,
    message: Box<Payload<W>>,
}

impl Channel for Disruptor {
    type Sender<const W: usize> = DisruptorSender<W>;
    type Receiver<const W: usize> = DisruptorReceiver<W>;

    fn sender<const W: usize>(spec: &Spec) -> Result<Self::Sender<W>> {
        ensure!(spec.mode == Mode::Lossless, "disruptor does not overwrite what was not read");
        let builder = build_single_producer(spec.depth, || Payload([0; W]), BusySpin);
        let (first, builder) = builder.new_event_poller();
        switchboard::leave(spec.leg(0), first);
        let producer = if spec.readers == 1 {
            Producer::One(builder.build())
        } else {
            let (second, mut builder) = builder.new_event_poller();
            switchboard::leave(spec.leg(1), second);
            for reader in 2..spec.readers {
                let (poller, more) = builder.new_event_poller();
                builder = more;
                switchboard::leave(spec.leg(reader), poller);
            }
            Producer::Many(builder.build())
        };
        Ok(DisruptorSender { producer, message: Payload::boxed() })
    }

    fn receiver<const W: usize>(spec: &Spec, reader: usize) -> Result<Self::Receiver<W>> {
        Ok(DisruptorReceiver {
            poller: switchboard::take(&spec.leg(reader))?,
            message: Payload::boxed(),
        })
    }
}

impl<const W: usize> Sender for DisruptorSender<W> {
    #[inline(always)]
    fn send(&mut self, n: u64) -> Result<()> {
        self.message.mark(n);
        let message = &self.message;
        match &mut self.producer {
            Producer::One(producer) => {
                producer.publish(|event| event.0.copy_from_slice(&message.0))
            }
            Producer::Many(producer) => {
                producer.publish(|event| event.0.copy_from_slice(&message.0))
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn send_batch(&mut self, first: u64, count: usize) -> Result<()> {
        let Self { producer, message } = self;
        macro_rules! publish {
            ($producer:expr) => {
                $producer.batch_publish(count, |events| {
                    for (event, n) in events.zip(first..) {
                        message.mark(n);
                        event.0.copy_from_slice(&message.0);
                    }
                })
            };
        }
        match producer {
            Producer::One(producer) => publish!(producer),
            Producer::Many(producer) => publish!(producer),
        }
        Ok(())
    }
}

impl<const W: usize> DisruptorReceiver<W> {
    #[inline(always)]
    fn take(&mut self, limit: usize, each: &mut impl FnMut(u64) -> Result<()>) -> Result<usize> {
        match self.poller.take(limit as u64) {
            Ok(mut events) => {
                let mut count = 0;
                for event in &mut events {
                    self.message.0.copy_from_slice(&event.0);
                    black_box(&self.message);
                    each(intact(self.message.number())?)?;
                    count += 1;
                }
                Ok(count)
            }
            Err(Polling::NoEvents) => Ok(0),
            Err(Polling::Shutdown) => bail!("the disruptor was shut down"),
        }
    }
}

impl<const W: usize> Receiver for DisruptorReceiver<W> {
    #[inline(always)]
    fn poll(&mut self) -> Result<Option<u64>> {
        let mut number = None;
        self.take(1, &mut |n| {
            number = Some(n);
            Ok(())
        })?;
        Ok(number)
    }

    #[inline(always)]
    fn poll_batch(&mut self, each: &mut impl FnMut(u64) -> Result<()>) -> Result<usize> {
        self.take(BATCH, each)
    }

    fn wait(&mut self) -> Result<Option<u64>> {
        bail!("disruptor has no way to sleep until a message comes, only to nap")
    }
}
