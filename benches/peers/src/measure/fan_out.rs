//! What readers cost.
//!
//! Live readers: one thread on the second CPU looks with every reader in turn, so that the protocol
//! is measured and not the scheduler: with two CPUs there is no place for more. `publish` is the
//! sender's time per message in a burst, `deliver` the time until every reader has one message and
//! the sender knows, less one hand-off for the news. A sender that overwrites pays for the lines
//! that its readers take from it, so beside its time stands the share of the messages that they
//! received meanwhile (`overwrite-received`): who loses nearly all of them costs it little.
//!
//! Idle readers: attached and seen to be there, then never polled; only systems that overwrite can
//! go on without them.

use std::collections::HashMap;

use anyhow::Result;

use crate::arena::{Arena, Case, Player, Track};
use crate::job::{Job, Style};
use crate::row::Unit;
use crate::spec::{Mode, System};
use crate::systems::offers;

/// The benchmark's name.
pub const NAME: &str = "fan-out";

const BYTES: usize = 48;
const DEPTH: usize = 64;
const LIVE: [usize; 5] = [1, 2, 4, 8, 16];
const IDLE: [usize; 5] = [0, 1, 10, 100, 1000];
/// Most messages of a turn.
const MOST: u64 = 50_000;

pub fn run(arena: &mut Arena<'_>) -> Result<()> {
    for readers in LIVE {
        if arena.pace.is_quick && ![1, 4, 16].contains(&readers) {
            continue;
        }
        for mode in [Mode::Overwrite, Mode::Lossless] {
            live(arena, readers, mode, Style::Sent)?;
            live(arena, readers, mode, Style::Answered)?;
        }
    }
    for readers in IDLE {
        idle(arena, readers)?;
    }
    Ok(())
}

fn live(arena: &mut Arena<'_>, readers: usize, mode: Mode, style: Style) -> Result<()> {
    let what = if style == Style::Sent { "publish" } else { "deliver" };
    let name = format!("{mode}-{what}");
    let label = format!("{readers} live, {name}");
    arena.announce(NAME, &label);
    let mut players = Vec::new();
    for system in arena.systems.clone() {
        if let Err(reason) = offers(system, mode) {
            arena.skip(NAME, system, &mode.to_string(), reason);
            continue;
        }
        let spec = arena.spec(system, BYTES, DEPTH, readers, mode);
        if let Some(mut player) = arena.enter(NAME, &label, Job::Flow(spec))? {
            arena.calibrate(&mut player, style, [10, MOST])?;
            players.push(player);
        }
    }
    let mut shares: HashMap<System, Vec<f64>> = HashMap::new();
    let tracks = arena.rounds(
        arena.pace.rounds,
        &mut players,
        Arena::hand_off,
        |arena, player, floor| {
            let (ns, count) = arena.turn(player, player.count, style)?;
            shares
                .entry(player.system)
                .or_default()
                .push(count.received as f64 / (player.count * readers as u64) as f64);
            let each = ns / player.count as f64;
            Ok(if style == Style::Answered { (each - floor).max(0.0) } else { each })
        },
    )?;
    if (mode, style) == (Mode::Overwrite, Style::Sent) {
        let case = Case {
            bench: NAME,
            bytes: BYTES,
            readers,
            mode: format!("{mode}-received"),
            unit: Unit::Share,
            has_floor: false,
        };
        // Without the rounds that warm up.
        let track = |(player, track): (&Player, &Track)| {
            let shares = shares.remove(&player.system).unwrap_or_default();
            Track {
                values: shares[shares.len() - track.values.len()..].to_vec(),
                floors: Vec::new(),
            }
        };
        let shares = players.iter().zip(&tracks).map(track).collect();
        arena.keep(&case, &players, shares, vec![None; players.len()]);
    }
    finish(arena, readers, &name, players, tracks)
}

fn idle(arena: &mut Arena<'_>, readers: usize) -> Result<()> {
    let label = format!("{readers} idle");
    arena.announce(NAME, &label);
    let mut players = Vec::new();
    for system in arena.systems.clone() {
        if let Err(reason) = offers(system, Mode::Overwrite) {
            arena.skip(NAME, system, "idle", reason);
            continue;
        }
        let spec = arena.spec(system, BYTES, DEPTH, readers, Mode::Overwrite);
        if let Some(mut player) = arena.enter(NAME, &label, Job::Idle(spec))? {
            arena.calibrate(&mut player, Style::Sent, [10, MOST])?;
            players.push(player);
        }
    }
    let tracks =
        arena.rounds(arena.pace.rounds, &mut players, Arena::hand_off, |arena, player, _| {
            let (ns, _) = arena.turn(player, player.count, Style::Sent)?;
            Ok(ns / player.count as f64)
        })?;
    finish(arena, readers, "idle-publish", players, tracks)
}

fn finish(
    arena: &mut Arena<'_>,
    readers: usize,
    mode: &str,
    players: Vec<Player>,
    tracks: Vec<Track>,
) -> Result<()> {
    let case = Case {
        bench: NAME,
        bytes: BYTES,
        readers,
        mode: mode.to_owned(),
        unit: Unit::Nanoseconds,
        has_floor: true,
    };
    let none = vec![None; players.len()];
    arena.finish(&case, players, tracks, none)
}
