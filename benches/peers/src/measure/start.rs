//! To create a channel, to attach to it, and its first message until it is confirmed, less one
//! hand-off.

use anyhow::Result;

use crate::arena::{Arena, Case, Track};
use crate::job::{Job, Style};
use crate::row::{Series, Unit};
use crate::spec::{Mode, System};
use crate::systems::offers;

/// The benchmark's name.
pub const NAME: &str = "start";

const BYTES: usize = 48;
const DEPTH: usize = 1024;

pub fn run(arena: &mut Arena<'_>) -> Result<()> {
    arena.announce(NAME, "create, attach, first message");
    let mut tracks: Vec<(System, [Track; 3])> =
        arena.systems.iter().map(|&system| (system, Default::default())).collect();
    for round in 0..arena.pace.few_rounds {
        for place in 0..tracks.len() {
            let index = (place + round) % tracks.len();
            let system = tracks[index].0;
            let mode = if offers(system, Mode::Overwrite).is_ok() {
                Mode::Overwrite
            } else {
                Mode::Lossless
            };
            let spec = arena.spec(system, BYTES, DEPTH, 1, mode);
            let floor = arena.hand_off()?;
            let Some(mut player) = arena.enter(NAME, "", Job::Flow(spec))? else { continue };
            let (first, _) = arena.turn(&mut player, 1, Style::Answered)?;
            let opened = player.opened;
            arena.leave(player)?;
            for (track, value) in tracks[index].1.iter_mut().zip([
                opened.create_ns,
                opened.attach_ns,
                (first - floor).max(0.0),
            ]) {
                // A system whose sides are born together attaches nothing.
                if value > 0.0 {
                    track.values.push(value);
                    track.floors.push(floor);
                }
            }
        }
    }
    for (index, what) in ["create", "attach", "first-message"].into_iter().enumerate() {
        for (system, tracks) in &tracks {
            let case = Case {
                bench: NAME,
                bytes: BYTES,
                readers: 1,
                mode: what.to_owned(),
                unit: Unit::Nanoseconds,
                has_floor: false,
            };
            arena.all.push(Series {
                bench: case.bench,
                system: *system,
                payload_bytes: case.bytes,
                readers: case.readers,
                mode: case.mode,
                unit: case.unit,
                values: tracks[index].values.clone(),
                floors: Vec::new(),
                quantiles: None,
            });
        }
    }
    Ok(())
}
