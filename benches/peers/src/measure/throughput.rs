//! A sender at full speed, a receiver that reads all it can: messages that arrived, per second,
//! until the last one is confirmed.

use anyhow::Result;
use seqring_cli::bench::output;

use super::depth;
use crate::arena::{Arena, Case};
use crate::job::{Job, Style};
use crate::row::Unit;
use crate::spec::Mode;
use crate::systems::{carries, offers};

/// The benchmark's name.
pub const NAME: &str = "throughput";

/// Laps of the queue in a turn: what fits into it without being read says nothing about the reader.
const LAPS: u64 = 8;
/// A turn of a slow system is this many times as long as others at most.
const LONGEST_TURNS: f64 = 10.0;
/// Most messages of a turn.
const MOST: u64 = 1_000_000;
/// From this size on the floor has copies in it.
const COPIED: usize = 1024;

pub fn run(arena: &mut Arena<'_>) -> Result<()> {
    for bytes in arena.payloads.clone() {
        for mode in [Mode::Overwrite, Mode::Lossless] {
            for style in [Style::Single, Style::Batch] {
                for _ in 0..arena.pace.placements {
                    run_case(arena, bytes, mode, style)?;
                }
            }
        }
    }
    Ok(())
}

fn run_case(arena: &mut Arena<'_>, bytes: usize, mode: Mode, style: Style) -> Result<()> {
    let name = if style == Style::Batch { format!("{mode}-batch") } else { mode.to_string() };
    let label = format!("{} {name}", output::bytes(bytes));
    arena.announce(NAME, &label);
    let mut players = Vec::new();
    for system in arena.systems.clone() {
        if let Err(reason) = offers(system, mode) {
            arena.skip(NAME, system, &mode.to_string(), reason);
            continue;
        }
        if let Err(reason) = carries(system, mode, bytes) {
            arena.skip(NAME, system, &label, reason);
            continue;
        }
        if style == Style::Batch && system.is_python() {
            arena.skip(NAME, system, "batch", "it has no call for batches");
            continue;
        }
        let spec = arena.spec(system, bytes, depth(bytes), 1, mode);
        let Some(mut player) = arena.enter(NAME, &label, Job::Flow(spec))? else { continue };
        arena.calibrate(&mut player, style, [20, MOST])?;
        let longest = (player.count as f64 * LONGEST_TURNS) as u64;
        player.count = player.count.max((LAPS * depth(bytes) as u64).min(longest));
        players.push(player);
    }
    let mut copier = if bytes >= COPIED { Some(arena.copier(bytes)?) } else { None };
    if let Some(copier) = &mut copier {
        arena.calibrate(copier, Style::Single, [10, 200])?;
    }
    let tracks = arena.rounds(
        arena.pace.rounds / arena.pace.placements,
        &mut players,
        |arena| match &mut copier {
            Some(copier) => arena.one_way(copier),
            None => arena.hand_off(),
        },
        |arena, player, _| {
            let (ns, count) = arena.turn(player, player.count, style)?;
            Ok(count.received as f64 / ns * 1e9)
        },
    )?;
    if let Some(copier) = copier {
        arena.leave(copier)?;
    }
    let case = Case {
        bench: NAME,
        bytes,
        readers: 1,
        mode: name,
        unit: Unit::MessagesPerSecond,
        has_floor: true,
    };
    let none = vec![None; players.len()];
    arena.finish(&case, players, tracks, none)
}
