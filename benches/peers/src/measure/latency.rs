//! Ping-pong: one message under way at a time, both sides polling; one way is half of the round
//! trip.
//!
//! Whole turns are timed for the value and the ratios, because a look at the clock costs as much as
//! a small message. The quantiles come from turns of their own in which every round trip is timed
//! by itself.

use std::collections::HashMap;

use anyhow::Result;
use hdrhistogram::Histogram;
use seqring_cli::bench::output;

use crate::arena::{Arena, Case};
use crate::job::{Job, Style, quantiles};
use crate::row::Unit;
use crate::spec::{Mode, System};
use crate::systems::{carries, offers};

/// The benchmark's name.
pub const NAME: &str = "latency";

/// Fewest and most round trips of a turn.
const TRIPS: [u64; 2] = [10, 1000];
/// One message is under way: a short queue stays in the cache of everybody.
fn depth(bytes: usize) -> usize {
    match bytes {
        0..16_384 => 64,
        16_384..1_048_576 => 8,
        _ => 2,
    }
}
/// From this size on the floor has copies in it.
const COPIED: usize = 1024;
/// A latency beyond a minute is not worth telling from one of a minute.
const LONGEST_NS: u64 = 60_000_000_000;

pub fn run(arena: &mut Arena<'_>) -> Result<()> {
    for bytes in arena.payloads.clone() {
        let mut histograms = HashMap::new();
        for _ in 0..arena.pace.placements {
            run_size(arena, bytes, &mut histograms)?;
        }
    }
    Ok(())
}

fn run_size(
    arena: &mut Arena<'_>,
    bytes: usize,
    histograms: &mut HashMap<System, Histogram<u64>>,
) -> Result<()> {
    let label = output::bytes(bytes);
    arena.announce(NAME, &label);
    let depth = depth(bytes);
    let mut players = Vec::new();
    for system in arena.systems.clone() {
        // Nothing is ever overwritten here; the mode that costs less is the one to use.
        let mode =
            if offers(system, Mode::Overwrite).is_ok() { Mode::Overwrite } else { Mode::Lossless };
        if let Err(reason) = carries(system, mode, bytes) {
            arena.skip(NAME, system, &label, reason);
            continue;
        }
        let spec = arena.spec(system, bytes, depth, 1, mode);
        if let Some(mut player) = arena.enter(NAME, &label, Job::PingPong(spec))? {
            arena.calibrate(&mut player, Style::Single, TRIPS)?;
            players.push(player);
        }
    }
    let mut copier = if bytes >= COPIED { Some(arena.copier(bytes)?) } else { None };
    if let Some(copier) = &mut copier {
        arena.calibrate(copier, Style::Single, TRIPS)?;
    }
    let rounds = arena.pace.rounds / arena.pace.placements;
    let tracks = arena.rounds(
        rounds,
        &mut players,
        |arena| match &mut copier {
            Some(copier) => arena.one_way(copier),
            None => arena.hand_off(),
        },
        |arena, player, _| arena.one_way(player),
    )?;
    let new = Histogram::<u64>::new_with_max(LONGEST_NS, 3)?;
    for round in 0..rounds {
        for place in 0..players.len() {
            let index = (place + round) % players.len();
            let player = &mut players[index];
            let histogram = histograms.entry(player.system).or_insert_with(|| new.clone());
            let count = player.count;
            arena.sample(player, count, histogram)?;
        }
    }
    if let Some(copier) = copier {
        arena.leave(copier)?;
    }
    let case = Case {
        bench: NAME,
        bytes,
        readers: 1,
        mode: "poll".to_owned(),
        unit: Unit::Nanoseconds,
        has_floor: true,
    };
    let quantiles = players
        .iter()
        .map(|player| histograms.get(&player.system).map(|histogram| quantiles(histogram, 2.0)))
        .collect();
    arena.finish(&case, players, tracks, quantiles)
}
