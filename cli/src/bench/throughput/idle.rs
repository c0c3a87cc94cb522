//! Does a consumer cost the producer anything that does nothing?
//!
//! The other process attaches a thousand consumers, each with a mapping of its own, and detaches
//! them again; publishing is timed with them and without, in turns. Only the ratio of neighbouring
//! turns counts.

use anyhow::{Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use seqring::{IfExists, Ring, TryRecvError};
use serde::{Deserialize, Serialize};

use super::alone::publish;
use super::row::{Beside, Row, Timed};
use super::{Bench, WARM_UP};
use crate::bench::handoff::TRIPS;
use crate::bench::output::Bar;
use crate::bench::peer::{self, Desk};
use crate::bench::stats::Quartiles;
use crate::engine::Engine;

const CONSUMERS: usize = 1000;
const SLOTS: usize = 1024;
/// Messages of a round.
const MESSAGES: usize = 8 * SLOTS;
/// Rounds between two changes: attaching takes far longer than a round.
const ROUNDS_PER_TURN: u32 = 10;

type Message = [u64; 6];

/// What both processes have to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    name: String,
    /// Times that consumers are attached and detached, with those of the warm-up.
    turns: u32,
}

/// Measures with and without consumers.
pub fn run(bench: &mut Bench<'_>, rows: &mut Vec<Row>) -> Result<()> {
    let settle = WARM_UP.div_ceil(ROUNDS_PER_TURN);
    let task = Task {
        name: bench.session.name("idle"),
        turns: settle + bench.rounds.div_ceil(ROUNDS_PER_TURN),
    };
    let ring = Ring::<Message>::builder(&task.name)
        .slots(SLOTS)
        .if_exists(IfExists::Error)
        .prefault(true)
        .create()?;
    let mut producer = ring.producer()?;
    bench.peer.begin(&peer::Task::Idle(task.clone()))?;
    let bar = Bar::new(&format!("idle-consumers {} B", size_of::<Message>()), task.turns.into());
    let (hand_off, mut check) = bench.peer.parts();
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for turn in 0..task.turns {
        check()?;
        for all in [&mut without, &mut with] {
            // The other side detaches or attaches before it answers.
            hand_off.lead(1, &mut check)?;
            for _ in 0..ROUNDS_PER_TURN {
                let floor_ns = hand_off.lead(TRIPS, &mut check)?;
                let ns = publish(&mut producer, MESSAGES).as_nanos() as f64;
                if turn >= settle {
                    all.push(Timed { messages: MESSAGES as u64, ns, floor_ns });
                }
            }
        }
        bar.step();
    }
    drop(check);
    let attached: usize = bench.peer.end()?;
    ensure!(
        attached == CONSUMERS,
        "the second process attached {attached} consumers instead of {CONSUMERS}"
    );

    let turns = |rounds: &[Timed]| -> Vec<f64> {
        rounds
            .chunks(ROUNDS_PER_TURN as usize)
            .map(|turn| Quartiles::of(turn.iter().map(|round| round.ns)).median)
            .collect()
    };
    let ratio = Quartiles::of(
        turns(&with).iter().zip(turns(&without)).map(|(with, without)| with / without),
    );
    let beside = Beside::NoConsumers {
        ratio_to_no_consumers: ratio.median,
        ratio_q1: ratio.q1,
        ratio_q3: ratio.q3,
    };
    rows.push(Row::new(Engine::Ring, "idle-consumers-0", size_of::<Message>(), 1, &without));
    rows.push(Row {
        beside: Some(beside),
        ..Row::new(Engine::Ring, "idle-consumers-1000", size_of::<Message>(), 1, &with)
    });
    Ok(())
}

/// The part of the second process; returns how many consumers it attached each time.
///
/// # Errors
///
/// When a consumer cannot be attached, or the first process is gone.
pub fn follow(task: &Task, desk: &mut Desk<'_>) -> Result<usize> {
    // Each consumer keeps the segment's file open.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    desk.ready()?;
    let mut consumers = Vec::new();
    for _ in 0..task.turns {
        for count in [0, CONSUMERS] {
            desk.hand_off.catch(desk.check)?;
            consumers.clear();
            for _ in 0..count {
                let mut consumer = Ring::<Message>::open_read_only(&task.name)?.consumer().attach();
                // So that it has seen the ring, like one that waits for its next message.
                ensure!(
                    consumer.try_recv() == Err(TryRecvError::Empty),
                    "a message came while nothing was published"
                );
                consumers.push(consumer);
            }
            desk.hand_off.pass();
            for _ in 0..ROUNDS_PER_TURN {
                desk.hand_off.follow(TRIPS, desk.check)?;
            }
        }
    }
    Ok(consumers.len())
}
