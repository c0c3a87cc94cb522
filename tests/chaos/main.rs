//! Actors in several roles, each a process, that are killed at random: whoever is alive goes on,
//! loses nothing that it was promised, and sees nothing but whole messages in order.
//!
//! `cargo xtask chaos` runs it for longer.

mod actor;
mod board;
mod director;
mod leaks;
mod message;
mod order;
mod random;
mod report;
mod roles;
mod stage;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use seqring::Ring;

use crate::director::Director;
use crate::random::Random;
use crate::report::Report;
use crate::roles::SCENES;
use crate::stage::{Part, Stage};
use crate::support::{Name, monotonic_ns, role};

/// How many to kill, if not told otherwise: some seconds' worth.
const KILLS: u64 = 300;
/// A ring's life, at most; then comes another, for creation and closing have their dead, too.
const KILLS_OF_A_RING: u64 = 500;

/// Set by `cargo xtask chaos`.
const KILLS_VARIABLE: &str = "SEQRING_CHAOS_KILLS";
const SEED_VARIABLE: &str = "SEQRING_CHAOS_SEED";
/// With it, progress is said in lines, and the end of the input ends the run early.
const DRIVEN_VARIABLE: &str = "SEQRING_CHAOS_DRIVEN";

#[test]
fn role() {
    if let Some((role, part)) = role::current() {
        let part: Part = serde_json::from_str(&part)
            .unwrap_or_else(|error| panic!("{part:?} is no part: {error}"));
        (roles::named(&role).play)(&mut Stage::enter(part));
    }
}

#[test]
fn survivors_go_on() {
    let kills = number(KILLS_VARIABLE).unwrap_or(KILLS);
    // Another run, another choice; printed to tell which when it fails.
    let seed = number(SEED_VARIABLE).unwrap_or_else(monotonic_ns);
    println!("seed {seed}");
    let driven = std::env::var_os(DRIVEN_VARIABLE).is_some();
    let stop = if driven { end_of_input() } else { Arc::default() };
    // However few, they are for all scenes.
    let kills_of_a_ring = KILLS_OF_A_RING.min(kills.div_ceil(SCENES.len() as u64));
    let mut random = Random(seed);
    let mut report = Report::default();
    while report.kills() < kills && !stop.load(Ordering::Relaxed) {
        let name = Name::new("chaos");
        let left = kills - report.kills();
        let scene = SCENES[report.rings as usize % SCENES.len()];
        let mut director = Director::open(&name, scene, random.next(), &mut report);
        director.kill(left.min(kills_of_a_ring), |report| {
            if driven {
                println!("kills {}", report.kills());
            }
            stop.load(Ordering::Relaxed)
        });
        director.close();
        clean_up(&name);
    }
    println!("{report}");
    // Every role is in a scene that was played.
    if report.kills() >= KILLS && report.rings >= SCENES.len() as u64 {
        let all = roles::all().all(|role| report.killed.contains_key(role.name));
        let covered = all
            && !report.evictions.is_empty()
            && !report.burials.is_empty()
            && !report.takeovers.is_empty()
            && report.early > 0;
        assert!(covered, "the kills did not cover the ground");
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse().unwrap_or_else(|error| {
            panic!("{variable} is {text:?}, which is not a number: {error}")
        }),
    )
}

/// Becomes true at the end of the input.
fn end_of_input() -> Arc<AtomicBool> {
    let end = Arc::new(AtomicBool::new(false));
    let ended = end.clone();
    thread::spawn(move || {
        while role::hear().is_some() {}
        ended.store(true, Ordering::Relaxed);
    });
    end
}

/// The next of the name finds what is left stale, and leaves nothing.
fn clean_up(name: &Name) {
    let next =
        Ring::<[u8]>::builder(name).slots(4).slot_bytes(8).create().expect("what is left is stale");
    assert_eq!((next.head(), next.slots()), (0, 4));
    drop(next);
    let left = leaks::files(name);
    assert!(left.is_empty(), "{left:?} are left");
}
