//! `seqring bench latency`: how long a message takes from one process to another.
//!
//! Two processes, each pinned to a CPU of its own, play ping-pong over two queues, one per
//! direction; one way is half of the round trip. Short rounds alternate with rounds of the hand-off
//! (see [`super::handoff`]); whole rounds are timed, because a look at the clock costs as much as a
//! message; the ratio is taken per round, and its median is the result. Percentiles per message
//! come from a run of their own, with two looks at the clock per round trip.

mod rally;
mod table;

use std::time::Instant;

use anyhow::{Result, ensure};
use clap::value_parser;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::handoff::{TRIPS, one_way_ns};
use super::output::{self, Bar};
use super::peer::{self, Desk, Peer};
use super::scenario::leftovers::Session;
use super::stats::Quartiles;
use crate::engine::Engine;
use crate::interrupt::Interrupt;
use rally::Side;

const EXAMPLES: &str = "\
Examples:
  seqring bench latency
  seqring bench latency --payload-bytes 8,48,64,256,1024,4096,65536,1048576
  seqring bench latency --engine ring,locked --json > latency.json

Messages of 8 and 48 bytes are typed, [u64; 1] and [u64; 6], and checked word by word; others
are bytes, copied out whole and checked at both ends. The floor is the hand-off: half the
round trip of one cache line that the same two processes bounce in between. A ring has another
line for each direction; the table tells what two bare ones take.";

/// Rounds that are played but not counted, until caches and clocks have settled.
const WARM_UP: u32 = 20;
/// A round of large messages is shorter: about this many bytes each way.
const ROUND_BYTES: usize = 4 << 20;
/// A round of large messages or of a slow queue has at least this many round trips.
const SHORTEST_ROUND: usize = 20;
/// The locked queue sleeps and wakes, so that a round of it takes as long with a tenth of the round
/// trips.
const LOCKED_TRIPS: usize = 100;

/// The options of the latency benchmark.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct LatencyArgs {
    /// Bytes of a message; several with commas between
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_delimiter = ',',
        default_value = "8,48",
        value_parser = value_parser!(u64).range(8..=1 << 30)
    )]
    payload_bytes: Vec<u64>,

    /// Rounds of each size
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        default_value_t = 1000,
        value_parser = value_parser!(u32).range(1..=1_000_000)
    )]
    rounds: u32,

    /// Slots of a queue [default: 1024 for messages of 8 and 48 bytes, 8 for others]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = value_parser!(u64).range(1..=1 << 24)
    )]
    slots: Option<u64>,

    /// Which queue carries the messages; both with a comma between
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ring")]
    engine: Vec<Engine>,

    /// Print JSON, an array with one object per engine and size
    #[arg(long)]
    json: bool,
}

/// What was measured of one size.
#[derive(Debug, Serialize)]
pub struct Row {
    bench: &'static str,
    engine: Engine,
    payload_bytes: usize,
    rounds: u32,
    p50_ns: f64,
    p99_ns: f64,
    p999_ns: f64,
    /// Median of the hand-off, one way.
    floor_ns: f64,
    /// Median over the rounds.
    ratio_to_floor: f64,
    ratio_q1: f64,
    ratio_q3: f64,
    /// To two bare lines, one for each direction. Not among the fields that are published.
    #[serde(skip)]
    ratio_to_apart: f64,
}

/// What both processes have to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    engine: Engine,
    name: String,
    payload_bytes: usize,
    slots: usize,
    /// With those of the warm-up.
    rounds: u32,
    /// Round trips of a round.
    trips: u32,
}

/// Measures what the command line asks for and prints it.
///
/// # Errors
///
/// When it cannot be measured, or a message arrives damaged.
pub fn run(args: &LatencyArgs) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    let session = Session::begin()?;
    let mut peer = Peer::start(&session.name("line"), &interrupt)?;
    let mut rows = Vec::new();
    for &engine in &args.engine {
        for &payload_bytes in &args.payload_bytes {
            let task = args.task(
                engine,
                payload_bytes as usize,
                session.name(&format!("{engine}-{payload_bytes}")),
            );
            rows.push(lead(&task, &mut peer)?);
        }
    }
    output::print(args.json, &rows, table::of)
}

impl LatencyArgs {
    fn task(&self, engine: Engine, payload_bytes: usize, name: String) -> Task {
        let slots = self
            .slots
            .map_or(if rally::is_typed(engine, payload_bytes) { 1024 } else { 8 }, |slots| {
                slots as usize
            });
        let most = match engine {
            Engine::Ring => TRIPS as usize,
            Engine::Locked => LOCKED_TRIPS,
        };
        let trips = (ROUND_BYTES / payload_bytes).clamp(SHORTEST_ROUND, most) as u32;
        Task { engine, name, payload_bytes, slots, rounds: WARM_UP + self.rounds, trips }
    }
}

/// The part of the first process.
fn lead(task: &Task, peer: &mut Peer<'_>) -> Result<Row> {
    let mut rally = rally::connect(task, Side::Lead)?;
    peer.begin(&peer::Task::Latency(task.clone()))?;
    let bar = Bar::new(
        &format!("latency {} {} B", task.engine, task.payload_bytes),
        2 * u64::from(task.rounds),
    );
    let (hand_off, mut check) = peer.parts();
    let mut floors = Vec::new();
    let mut apart = Vec::new();
    let mut ratios = Vec::new();
    for _ in 0..task.rounds {
        check()?;
        let two_lines = hand_off.lead_apart(TRIPS, &mut check)?;
        let floor = hand_off.lead(TRIPS, &mut check)?;
        let start = Instant::now();
        rally.lead(task.trips, &mut check)?;
        let one_way = one_way_ns(start.elapsed(), task.trips);
        floors.push(floor);
        ratios.push(one_way / floor);
        apart.push(one_way / two_lines);
        bar.step();
        check()?;
    }
    // A latency beyond a minute is not worth telling from one of a minute.
    let mut histogram = Histogram::<u64>::new_with_max(60_000_000_000, 3)?;
    for _ in 0..task.rounds {
        check()?;
        for _ in 0..task.trips {
            let start = Instant::now();
            rally.lead(1, &mut check)?;
            histogram.saturating_record(start.elapsed().as_nanos() as u64);
        }
        bar.step();
        check()?;
    }
    drop(check);
    let trips = peer.end::<u64>()?;
    ensure!(
        trips == rally.trips(),
        "the second process sent back {trips} messages of {}",
        rally.trips()
    );

    let settled = WARM_UP as usize;
    let ratio = Quartiles::of(ratios.drain(settled..));
    let one_way = |quantile| histogram.value_at_quantile(quantile) as f64 / 2.0;
    Ok(Row {
        bench: "latency",
        engine: task.engine,
        payload_bytes: task.payload_bytes,
        rounds: task.rounds - WARM_UP,
        p50_ns: one_way(0.5),
        p99_ns: one_way(0.99),
        p999_ns: one_way(0.999),
        floor_ns: Quartiles::of(floors.drain(settled..)).median,
        ratio_to_floor: ratio.median,
        ratio_q1: ratio.q1,
        ratio_q3: ratio.q3,
        ratio_to_apart: Quartiles::of(apart.drain(settled..)).median,
    })
}

/// The part of the second process; returns how many messages it sent back.
///
/// # Errors
///
/// When a message arrives damaged, or the first process is gone.
pub fn follow(task: &Task, desk: &mut Desk<'_>) -> Result<u64> {
    let mut rally = rally::connect(task, Side::Follow)?;
    desk.ready()?;
    for _ in 0..task.rounds {
        desk.hand_off.follow_apart(TRIPS, desk.check)?;
        desk.hand_off.follow(TRIPS, desk.check)?;
        rally.follow(task.trips, desk.check)?;
    }
    for _ in 0..task.rounds {
        rally.follow(task.trips, desk.check)?;
    }
    Ok(rally.trips())
}
