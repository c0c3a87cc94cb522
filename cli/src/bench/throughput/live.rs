//! What a live consumer that gates costs the producer, beside one that does not.
//!
//! The consumer of the other process keeps up: the producer publishes what the ring can hold, then
//! lets it come after. So what is timed is publishing, with the consumer's traffic on the same
//! lines, and never a wait.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use seqring::{Consumer, IfExists, Registration, Ring, Start, TryRecvError};
use serde::{Deserialize, Serialize};

use super::row::{Beside, Row, Timed};
use super::{Bench, WARM_UP};
use crate::bench::handoff::TRIPS;
use crate::bench::output::Bar;
use crate::bench::peer::{self, Desk};
use crate::bench::spin::until;
use crate::bench::stats::Quartiles;
use crate::engine::Engine;

const SLOTS: usize = 1024;
/// Messages between two pauses.
const BURST: u64 = SLOTS as u64;
/// Bursts of a round.
const BURSTS: u32 = 20;

type Message = [u64; 6];

/// What both processes have to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// The ring whose consumer does not gate, and the one whose consumer does.
    names: [String; 2],
    /// With those of the warm-up.
    rounds: u32,
}

/// Measures both kinds of consumers, in turns.
pub fn run(bench: &mut Bench<'_>, rows: &mut Vec<Row>) -> Result<()> {
    let names = [bench.session.name("live-free"), bench.session.name("live-gating")];
    let task = Task { names, rounds: WARM_UP + bench.rounds };
    let create = |name: &String| {
        let ring = Ring::<Message>::builder(name)
            .slots(SLOTS)
            .if_exists(IfExists::Error)
            .prefault(true)
            .create()?;
        Ok::<_, seqring::Error>((ring.producer()?, ring))
    };
    let mut rings = [create(&task.names[0])?, create(&task.names[1])?];
    bench.peer.begin(&peer::Task::Live(task.clone()))?;
    let bar = Bar::new(&format!("live-reader {} B", size_of::<Message>()), task.rounds.into());
    let (hand_off, mut check) = bench.peer.parts();
    let mut timed = [Vec::new(), Vec::new()];
    for round in 0..task.rounds {
        check()?;
        for ((producer, _), all) in rings.iter_mut().zip(&mut timed) {
            let floor_ns = hand_off.lead(TRIPS, &mut check)?;
            let mut ns = 0.0;
            for _ in 0..BURSTS {
                let first = producer.next_sequence();
                let start = Instant::now();
                for sequence in first..first + BURST {
                    producer.publish(black_box(&[sequence; 6]));
                }
                ns += start.elapsed().as_nanos() as f64;
                // The other side answers when it has received them all.
                hand_off.lead(1, &mut check)?;
            }
            if round >= WARM_UP {
                all.push(Timed { messages: u64::from(BURSTS) * BURST, ns, floor_ns });
            }
        }
        bar.step();
    }
    drop(check);
    let received: u64 = bench.peer.end()?;
    let sent = 2 * u64::from(task.rounds) * u64::from(BURSTS) * BURST;
    ensure!(received == sent, "the second process received {received} messages of {sent}");

    let [free, gating] = timed;
    let ratio = Quartiles::of(gating.iter().zip(&free).map(|(gating, free)| gating.ns / free.ns));
    let beside = Beside::FreeReader {
        ratio_to_free_reader: ratio.median,
        ratio_q1: ratio.q1,
        ratio_q3: ratio.q3,
    };
    rows.push(Row::new(Engine::Ring, "live-reader-free", size_of::<Message>(), 1, &free));
    rows.push(Row {
        beside: Some(beside),
        ..Row::new(Engine::Ring, "live-reader-gating", size_of::<Message>(), 1, &gating)
    });
    Ok(())
}

/// The part of the second process; returns how many messages it received.
///
/// # Errors
///
/// When a message is lost or arrives damaged, or the first process is gone.
pub fn follow(task: &Task, desk: &mut Desk<'_>) -> Result<u64> {
    let open = |name: &String| Ring::<Message>::options(name).read_only(true).prefault(true).open();
    let [free, gating] = [open(&task.names[0])?, open(&task.names[1])?];
    let mut free = free.consumer().start(Start::Oldest).attach();
    let mut gating = gating.consumer().start(Start::Oldest).name("live").gating().attach()?;
    desk.ready()?;
    for _ in 0..task.rounds {
        receive(&mut free, desk)?;
        receive(&mut gating, desk)?;
    }
    Ok(free.received() + gating.received())
}

fn receive<R: Registration>(
    consumer: &mut Consumer<Message, R>,
    desk: &mut Desk<'_>,
) -> Result<()> {
    desk.hand_off.follow(TRIPS, desk.check)?;
    for _ in 0..BURSTS {
        let end = consumer.cursor() + BURST;
        until(desk.check, || {
            match consumer.try_recv() {
                Ok(message) => {
                    let sequence = consumer.cursor() - 1;
                    ensure!(message == [sequence; 6], "message {sequence} arrived damaged");
                }
                Err(TryRecvError::Empty) => std::hint::spin_loop(),
                Err(error) => bail!("in the middle of a burst, {error}"),
            }
            Ok(consumer.cursor() >= end)
        })?;
        desk.hand_off.follow(1, desk.check)?;
    }
    Ok(())
}
