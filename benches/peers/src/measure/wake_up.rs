//! Round trip between two that sleep: the reader is left alone for a millisecond before each
//! message, and both wait by the system's call for sleeping.

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::arena::{Arena, Case};
use crate::job::{Job, Style, quantiles};
use crate::row::Unit;
use crate::spec::{Mode, Spec};
use crate::systems::{offers, sleeps};

/// The benchmark's name.
pub const NAME: &str = "wake-up";

const BYTES: usize = 8;
const DEPTH: usize = 64;
/// Messages of a turn: each comes after a pause.
const COUNT: u64 = 5;
const LONGEST_NS: u64 = 60_000_000_000;

pub fn run(arena: &mut Arena<'_>) -> Result<()> {
    arena.announce(NAME, "a sleeping reader");
    let mut players = Vec::new();
    for system in arena.systems.clone() {
        if let Err(reason) = sleeps(system) {
            arena.skip(NAME, system, "everywhere", reason);
            continue;
        }
        let mode =
            if offers(system, Mode::Overwrite).is_ok() { Mode::Overwrite } else { Mode::Lossless };
        let spec = Spec { parks: true, ..arena.spec(system, BYTES, DEPTH, 1, mode) };
        if let Some(mut player) = arena.enter(NAME, "", Job::Wake(spec))? {
            arena.turn(&mut player, COUNT, Style::Single)?;
            players.push(player);
        }
    }
    let rounds = arena.pace.rounds;
    let mut histograms = vec![Histogram::<u64>::new_with_max(LONGEST_NS, 3)?; players.len()];
    let tracks = arena.rounds(rounds, &mut players, Arena::hand_off, |arena, player, _| {
        let (ns, _) = arena.turn(player, COUNT, Style::Single)?;
        Ok(ns / COUNT as f64)
    })?;
    for _ in 0..rounds.div_ceil(2) {
        for (player, histogram) in players.iter_mut().zip(&mut histograms) {
            arena.sample(player, COUNT, histogram)?;
        }
    }
    let case = Case {
        bench: NAME,
        bytes: BYTES,
        readers: 1,
        mode: "round-trip".to_owned(),
        unit: Unit::Nanoseconds,
        has_floor: false,
    };
    let quantiles = histograms.iter().map(|histogram| Some(quantiles(histogram, 1.0))).collect();
    arena.finish(&case, players, tracks, quantiles)
}
