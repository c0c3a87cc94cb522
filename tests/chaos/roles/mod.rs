//! The roles, a file each. To add one, write its file and put its [`Role`] into a scene.

mod crew;
mod free;
mod gating;
mod guest;
mod producer;
mod reading;

use crate::stage::Stage;

/// Slots of the ring: few, so that it is full all the time.
pub const SLOTS: usize = 32;

/// What an actor does in every process that plays it.
#[derive(Debug)]
pub struct Role {
    pub name: &'static str,
    pub kind: Kind,
    /// How many actors have it that are killed and started again.
    pub mortals: usize,
    /// How many have it that live as long as the ring.
    pub veterans: usize,
    /// How often each mortal is killed, relative to those of the other roles.
    pub weight: u64,
    /// All of its life.
    pub play: fn(&mut Stage),
}

/// What others have to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Publishes,
    /// Registers nowhere.
    Receives,
    /// Has a row of the reader table, at times.
    Registers,
    /// Has a row as long as it lives, and is waited for.
    Gates,
}

/// Who plays together on a ring; rings take turns.
pub type Scene = &'static [&'static Role];

/// A sole producer and every kind of reader.
static SOLE_PRODUCER: [&Role; 4] = [&producer::ROLE, &gating::ROLE, &free::ROLE, &guest::ROLE];

/// Several producers, and the same readers.
static SEVERAL_PRODUCERS: [&Role; 4] = [&crew::ROLE, &gating::ROLE, &free::ROLE, &guest::ROLE];

pub static SCENES: [Scene; 2] = [&SOLE_PRODUCER, &SEVERAL_PRODUCERS];

/// Rows of the reader table: as many as can be taken at a time, so that a leak of one is found at
/// the next joining.
pub fn rows(scene: Scene) -> usize {
    number(scene, |kind| matches!(kind, Kind::Registers | Kind::Gates))
}

/// How many producers the ring is for: as many as there can be at a time, for the same reason.
pub fn producers(scene: Scene) -> usize {
    number(scene, |kind| kind == Kind::Publishes)
}

fn number(scene: Scene, of_kind: impl Fn(Kind) -> bool) -> usize {
    scene.iter().filter(|role| of_kind(role.kind)).map(|role| role.mortals + role.veterans).sum()
}

pub fn all() -> impl Iterator<Item = &'static Role> {
    SCENES.into_iter().flatten().copied()
}

pub fn named(name: &str) -> &'static Role {
    all().find(|role| role.name == name).unwrap_or_else(|| panic!("no role is called {name:?}"))
}
