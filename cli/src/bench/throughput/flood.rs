//! Two processes at full speed.
//!
//! Where the producer overwrites, the consumer loses what it is too slow for; counted is what it
//! received. Where it waits, everything arrives: on the ring for a consumer that gates, on the
//! locked queue always.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bytemuck::Pod;
use seqring::{Consumer, IfExists, Producer, Registration, Ring, Start, TryRecvError};
use serde::{Deserialize, Serialize};

use super::row::{Loss, Row, Timed};
use super::{Bench, WARM_UP};
use crate::bench::handoff::TRIPS;
use crate::bench::output::Bar;
use crate::bench::peer::{self, Desk};
use crate::clock::monotonic_ns;
use crate::engine::{Channel, Engine, Mode, Received, Wait};

/// Slots of each queue: what a builder of rings gives who does not ask.
const SLOTS: usize = 1024;
/// Messages the ring's producer publishes in a round.
const BURST: u64 = 100_000;
/// Messages the locked queue's writer sends in a round; it takes about as long.
const LOCKED_BURST: u64 = 500;
/// Messages per call in batches.
const BATCH: usize = 32;
/// A writer of the locked queue that waits longer than this has lost its reader.
const PATIENCE_NS: u64 = 10_000_000_000;
/// How long the locked queue's reader may sleep before it is looked whether the writer lives.
const NAP: Duration = Duration::from_millis(20);

/// What both processes have to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    channel: Channel,
    /// With those of the warm-up.
    rounds: u32,
    burst: u64,
}

/// What the consumer counted in a round.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Count {
    received: u64,
    lost: u64,
}

impl Task {
    fn new(
        bench: &Bench<'_>,
        engine: Engine,
        mode: Mode,
        payload_bytes: usize,
        burst: u64,
    ) -> Self {
        let name = bench.session.name(&format!("flood-{engine}-{payload_bytes}"));
        Self {
            channel: Channel {
                engine,
                name,
                slots: SLOTS,
                slot_bytes: payload_bytes,
                readers: 1,
                writers: 1,
                mode,
                wait: Wait::Park,
            },
            rounds: WARM_UP + bench.rounds,
            burst,
        }
    }
}

/// Measures the ring with messages of `WORDS` words, one by one and in batches.
pub fn run_ring<const WORDS: usize>(bench: &mut Bench<'_>, rows: &mut Vec<Row>) -> Result<()>
where
    [u64; WORDS]: Pod,
{
    use Mode::{Gating, Overwrite};
    let modes = [
        ("overwrite", Overwrite, 1),
        ("overwrite-batch", Overwrite, BATCH),
        ("lossless", Gating, 1),
        ("lossless-batch", Gating, BATCH),
    ];
    for (name, mode, batch) in modes {
        let task = Task::new(bench, Engine::Ring, mode, 8 * WORDS, BURST);
        let ring = Ring::<[u64; WORDS]>::builder(&task.channel.name)
            .slots(SLOTS)
            .if_exists(IfExists::Error)
            .prefault(true)
            .create()?;
        let mut producer = ring.producer()?;
        rows.push(lead(bench, name, batch, &task, |burst| {
            publish(&mut producer, burst, batch);
            Ok(())
        })?);
    }
    Ok(())
}

fn publish<const WORDS: usize>(producer: &mut Producer<[u64; WORDS]>, burst: u64, batch: usize)
where
    [u64; WORDS]: Pod,
{
    let first = producer.next_sequence();
    if batch == 1 {
        for sequence in first..first + burst {
            producer.publish(black_box(&[sequence; WORDS]));
        }
        return;
    }
    let mut messages = Vec::with_capacity(batch);
    let mut next = first;
    while next < first + burst {
        let end = (next + batch as u64).min(first + burst);
        messages.clear();
        messages.extend((next..end).map(|sequence| [sequence; WORDS]));
        producer.publish_batch(black_box(&messages));
        next = end;
    }
}

/// Measures the locked queue.
pub fn run_locked(bench: &mut Bench<'_>, rows: &mut Vec<Row>) -> Result<()> {
    for payload_bytes in [8, 48] {
        let task = Task::new(bench, Engine::Locked, Mode::Gating, payload_bytes, LOCKED_BURST);
        let _host = task.channel.create()?;
        let mut sender = task.channel.sender()?;
        let mut message = vec![0x5A; payload_bytes];
        let mut next = 0_u64;
        rows.push(lead(bench, "lossless", 1, &task, |burst| {
            for _ in 0..burst {
                message[..8].copy_from_slice(&next.to_ne_bytes());
                ensure!(
                    sender.send(&message, monotonic_ns() + PATIENCE_NS)?.accepted,
                    "the reader takes no more messages"
                );
                next += 1;
            }
            Ok(())
        })?);
    }
    Ok(())
}

/// The producer's part: rounds of a hand-off and a burst.
fn lead(
    bench: &mut Bench<'_>,
    mode: &'static str,
    batch: usize,
    task: &Task,
    mut send: impl FnMut(u64) -> Result<()>,
) -> Result<Row> {
    bench.peer.begin(&peer::Task::Flood(task.clone()))?;
    let Channel { engine, slot_bytes, .. } = task.channel;
    let bar = Bar::new(&format!("{mode} {engine} {slot_bytes} B"), task.rounds.into());
    let (hand_off, mut check) = bench.peer.parts();
    let mut times = Vec::new();
    for _ in 0..task.rounds {
        check()?;
        let floor_ns = hand_off.lead(TRIPS, &mut check)?;
        let start = Instant::now();
        send(task.burst)?;
        // The other side answers when it has seen the end of the burst.
        hand_off.lead(1, &mut check)?;
        times.push((floor_ns, start.elapsed().as_nanos() as f64));
        bar.step();
    }
    drop(check);
    let counts: Vec<Count> = bench.peer.end()?;
    ensure!(
        counts.len() == times.len(),
        "the second process counted {} rounds of {}",
        counts.len(),
        times.len()
    );

    let mut timed = Vec::new();
    let mut loss = Loss::default();
    for (&(floor_ns, ns), count) in times.iter().zip(counts).skip(WARM_UP as usize) {
        ensure!(
            count.received + count.lost == task.burst,
            "{count:?} does not add up to the {} messages of a round",
            task.burst
        );
        timed.push(Timed { messages: count.received, ns, floor_ns });
        loss.published += task.burst;
        loss.received += count.received;
        loss.lost += count.lost;
    }
    Ok(Row { loss: Some(loss), ..Row::new(engine, mode, slot_bytes, batch, &timed) })
}

/// The consumer's part; returns what it counted in each round.
///
/// # Errors
///
/// When a message arrives damaged, or the first process is gone.
pub fn follow(task: &Task, desk: &mut Desk<'_>) -> Result<Vec<Count>> {
    match (task.channel.engine, task.channel.slot_bytes) {
        (Engine::Ring, 8) => follow_ring::<1>(task, desk),
        (Engine::Ring, 48) => follow_ring::<6>(task, desk),
        (Engine::Ring, bytes) => bail!("there is no such benchmark with messages of {bytes} bytes"),
        (Engine::Locked, _) => follow_locked(task, desk),
    }
}

fn follow_ring<const WORDS: usize>(task: &Task, desk: &mut Desk<'_>) -> Result<Vec<Count>>
where
    [u64; WORDS]: Pod,
{
    let ring =
        Ring::<[u64; WORDS]>::options(&task.channel.name).read_only(true).prefault(true).open()?;
    let consumer = ring.consumer().start(Start::Oldest);
    match task.channel.mode {
        Mode::Overwrite => receive(task, desk, consumer.attach()),
        Mode::Gating => receive(task, desk, consumer.name("flooded").gating().attach()?),
    }
}

fn receive<const WORDS: usize, R: Registration>(
    task: &Task,
    desk: &mut Desk<'_>,
    mut consumer: Consumer<[u64; WORDS], R>,
) -> Result<Vec<Count>>
where
    [u64; WORDS]: Pod,
{
    let mut end = 0;
    rounds(task, desk, |check| {
        let before = Count { received: consumer.received(), lost: consumer.lost() };
        end += task.burst;
        crate::bench::spin::until(check, || {
            match consumer.try_recv() {
                Ok(message) => {
                    let sequence = consumer.cursor() - 1;
                    ensure!(
                        message.iter().all(|&word| word == sequence),
                        "message {sequence} arrived damaged"
                    );
                }
                Err(TryRecvError::Empty) => std::hint::spin_loop(),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Closed(reason)) => bail!("in the middle of a burst, {reason}"),
            }
            Ok(consumer.cursor() >= end)
        })?;
        Ok(Count {
            received: consumer.received() - before.received,
            lost: consumer.lost() - before.lost,
        })
    })
}

fn follow_locked(task: &Task, desk: &mut Desk<'_>) -> Result<Vec<Count>> {
    let mut receiver = task.channel.receiver(0)?;
    let mut message = Vec::new();
    let mut next = 0_u64;
    rounds(task, desk, |check| {
        let end = next + task.burst;
        while next < end {
            match receiver.receive(&mut message, NAP)? {
                Received::Message(_) => {
                    ensure!(
                        message.starts_with(&next.to_ne_bytes()),
                        "message {next} arrived damaged"
                    );
                    next += 1;
                }
                Received::Nothing => check()?,
                other => bail!("waiting for message {next}, the queue reported {other:?}"),
            }
        }
        Ok(Count { received: task.burst, lost: 0 })
    })
}

fn rounds(
    task: &Task,
    desk: &mut Desk<'_>,
    mut burst: impl FnMut(&mut crate::bench::spin::Check<'_>) -> Result<Count>,
) -> Result<Vec<Count>> {
    desk.ready()?;
    let mut counts = Vec::with_capacity(task.rounds as usize);
    for _ in 0..task.rounds {
        desk.hand_off.follow(TRIPS, desk.check)?;
        counts.push(burst(desk.check)?);
        desk.hand_off.follow(1, desk.check)?;
    }
    Ok(counts)
}
