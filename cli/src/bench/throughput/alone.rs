//! One process alone: what the call costs that publishes, and the call that receives.

use std::hint::black_box;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytemuck::Pod;
use seqring::{Consumer, IfExists, Producer, Ring, Start, TryRecvError};

use super::Bench;
use super::row::{Beside, Row, Timed};
use crate::bench::stats::Quartiles;
use crate::engine::Engine;

/// Slots of the ring: what a builder gives who does not ask.
const SLOTS: usize = 1024;
/// Laps of the ring in a round.
const LAPS: usize = 8;
/// Fences in a round: they take about as long as the messages.
const FENCES: u32 = 2000;

/// Measures messages of `WORDS` words.
pub fn run<const WORDS: usize>(bench: &mut Bench<'_>, rows: &mut Vec<Row>) -> Result<()>
where
    [u64; WORDS]: Pod,
{
    let bytes = 8 * WORDS;
    let ring = Ring::<[u64; WORDS]>::builder(&bench.session.name(&format!("alone-{bytes}")))
        .slots(SLOTS)
        .if_exists(IfExists::Error)
        .prefault(true)
        .create()?;
    let mut producer = ring.producer()?;

    let rounds = bench.rounds_alone(&format!("publish-alone {bytes} B"), || {
        Ok((fence_ns(), publish(&mut producer, LAPS * SLOTS)))
    })?;
    rows.push(row("publish-alone", bytes, &rounds));

    spin_only::<WORDS>(bench, rows, &mut producer)?;

    let mut consumer = ring.consumer().start(Start::Next).attach();
    let rounds = bench.rounds_alone(&format!("receive-filled {bytes} B"), || {
        let fence_ns = fence_ns();
        let mut elapsed = Duration::ZERO;
        for _ in 0..LAPS {
            let first = consumer.cursor();
            publish(&mut producer, SLOTS);
            let start = Instant::now();
            let sum = black_box(receive(&mut consumer, SLOTS)?);
            elapsed += start.elapsed();
            let expected: u64 =
                (first..first + SLOTS as u64).map(|n| (n..n + WORDS as u64).sum::<u64>()).sum();
            ensure!(
                sum == expected,
                "the messages from {first} on add up to {sum} instead of {expected}"
            );
        }
        Ok((fence_ns, elapsed))
    })?;
    rows.push(row("receive-filled", bytes, &rounds));
    Ok(())
}

/// Measures a ring on which nobody can sleep, and what the look for sleepers costs on an ordinary
/// one.
fn spin_only<const WORDS: usize>(
    bench: &mut Bench<'_>,
    rows: &mut Vec<Row>,
    parkable: &mut Producer<[u64; WORDS]>,
) -> Result<()>
where
    [u64; WORDS]: Pod,
{
    let bytes = 8 * WORDS;
    let ring = Ring::<[u64; WORDS]>::builder(&bench.session.name(&format!("spin-only-{bytes}")))
        .slots(SLOTS)
        .parkable(false)
        .if_exists(IfExists::Error)
        .prefault(true)
        .create()?;
    let mut spin_only = ring.producer()?;
    let rounds = bench.rounds_alone(&format!("publish-spin-only {bytes} B"), || {
        Ok((publish(&mut spin_only, LAPS * SLOTS), publish(parkable, LAPS * SLOTS)))
    })?;
    let messages = (LAPS * SLOTS) as u64;
    let timed = |of: fn(&(Duration, Duration)) -> Duration| -> Vec<Timed> {
        rounds
            .iter()
            .map(|(floor_ns, both)| Timed {
                messages,
                ns: of(both).as_nanos() as f64,
                floor_ns: *floor_ns,
            })
            .collect()
    };
    let ratio = Quartiles::of(
        rounds
            .iter()
            .map(|(_, (spin_only, parkable))| parkable.as_secs_f64() / spin_only.as_secs_f64()),
    );
    let beside = Beside::SpinOnly {
        ratio_to_spin_only: ratio.median,
        ratio_q1: ratio.q1,
        ratio_q3: ratio.q3,
    };
    rows.push(Row::new(Engine::Ring, "publish-spin-only", bytes, 1, &timed(|both| both.0)));
    rows.push(Row {
        beside: Some(beside),
        ..Row::new(Engine::Ring, "publish-parkable", bytes, 1, &timed(|both| both.1))
    });
    Ok(())
}

/// Publishes so many messages; the words of one count up from its sequence. The stores are atomic,
/// so none can be optimised away.
#[inline(never)]
pub fn publish<const WORDS: usize>(
    producer: &mut Producer<[u64; WORDS]>,
    messages: usize,
) -> Duration
where
    [u64; WORDS]: Pod,
{
    let first = producer.next_sequence();
    let start = Instant::now();
    for sequence in first..first + messages as u64 {
        producer.publish(&std::array::from_fn(|word| sequence + word as u64));
    }
    start.elapsed()
}

/// Receives so many messages, which are there, and returns the sum of their words.
// A function of its own: among all that surrounds it, it is a matter of luck what the compiler
// keeps in registers.
#[inline(never)]
fn receive<const WORDS: usize>(
    consumer: &mut Consumer<[u64; WORDS]>,
    messages: usize,
) -> Result<u64, TryRecvError>
where
    [u64; WORDS]: Pod,
{
    let mut sum = 0;
    for _ in 0..messages {
        sum += consumer.try_recv()?.iter().sum::<u64>();
    }
    Ok(sum)
}

/// Nanoseconds of a sequentially consistent fence behind a store, which it has to wait for.
fn fence_ns() -> f64 {
    let mut word = 0_u64;
    let start = Instant::now();
    for _ in 0..FENCES {
        word = black_box(word + 1);
        fence(Ordering::SeqCst);
    }
    start.elapsed().as_nanos() as f64 / f64::from(FENCES)
}

fn row(mode: &'static str, bytes: usize, rounds: &[(f64, (f64, Duration))]) -> Row {
    let messages = (LAPS * SLOTS) as u64;
    let timed: Vec<_> = rounds
        .iter()
        .map(|&(floor_ns, (_, elapsed))| Timed {
            messages,
            ns: elapsed.as_nanos() as f64,
            floor_ns,
        })
        .collect();
    let ratio =
        Quartiles::of(rounds.iter().map(|(_, (fence_ns, elapsed))| {
            elapsed.as_nanos() as f64 / messages as f64 / fence_ns
        }));
    let fence_ns = Quartiles::of(rounds.iter().map(|(_, (fence_ns, _))| *fence_ns)).median;
    let beside = Beside::Fence {
        fence_ns,
        ratio_to_fence: ratio.median,
        ratio_q1: ratio.q1,
        ratio_q3: ratio.q3,
    };
    Row { beside: Some(beside), ..Row::new(Engine::Ring, mode, bytes, 1, &timed) }
}
