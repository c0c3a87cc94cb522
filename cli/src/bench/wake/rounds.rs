//! Rounds of wake-ups: one by a bare futex, one by the ring, in turns.
//!
//! The second process goes to sleep; the first one leaves it time for that, looks at the clock and
//! wakes it; the second looks at the same clock as soon as it runs. A trip counts only if the
//! kernel says that the sleeper has left its CPU meanwhile: where it was still spinning, or held up
//! by other work, nothing was woken.

mod sleeper;
mod waker;

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::Bench;
use super::row::Wake;
use crate::bench::output::Bar;
use crate::bench::page::Page;
use crate::bench::peer::{self, Desk};
use crate::clock::{self, monotonic_ns, sleep_until};
use sleeper::Sleeper;
use waker::Waker;

/// Rounds that are not counted, until caches, clocks and the waiting itself have settled.
const WARM_UP: u32 = 5;
/// Wake-ups of each kind in a round.
const TRIPS: u32 = 10;
/// What the sleeper is left to fall asleep: several times as long as the library spins.
const PAUSE_NS: u64 = 500_000;
/// How long a sleeper sleeps before it looks whether it is still wanted.
const PATIENCE: Duration = Duration::from_millis(50);
/// Slots of the ring: so few that a consumer tells of each message it has received.
const SLOTS: usize = 4;

/// Words of the page: what the futex sleeps on, and when the first process looked at the clock.
const FUTEX: usize = 0;
const SENT: usize = 1;

/// Who sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A consumer, for a message.
    Consumer,
    /// A producer, for room.
    Producer,
}

impl Role {
    /// As it stands in the output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Producer => "producer",
        }
    }
}

/// What both processes have to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    role: Role,
    /// Of the ring.
    ring: String,
    /// Of the page.
    page: String,
    /// With those of the warm-up.
    rounds: u32,
}

/// The wake-ups of a round, in nanoseconds: those that were some.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Round {
    /// By a bare futex.
    pub bare: Vec<u64>,
    /// By the ring.
    pub ring: Vec<u64>,
}

/// Measures how `role` is woken.
///
/// # Errors
///
/// When it cannot be measured.
pub fn run(bench: &mut Bench<'_>, role: Role) -> Result<Wake> {
    let name = |what: &str| bench.session.name(&format!("wake-{}-{what}", role.name()));
    let task =
        Task { role, ring: name("ring"), page: name("page"), rounds: WARM_UP + bench.rounds };
    let page = Page::create(&task.page)?;
    let mut waker = Waker::create(&task)?;
    bench.peer.begin(&peer::Task::Wake(task.clone()))?;
    let bar = Bar::new(&format!("wake {}", role.name()), task.rounds.into());
    let (hand_off, mut check) = bench.peer.parts();
    clock::ask_for_precise_sleep();
    for _ in 0..task.rounds {
        check()?;
        for wake in [Waker::bare, Waker::ring] {
            for _ in 0..TRIPS {
                hand_off.pass();
                sleep_until(monotonic_ns() + PAUSE_NS);
                wake(&mut waker, &page)?;
                hand_off.catch(&mut check)?;
            }
        }
        bar.step();
    }
    drop(check);
    let mut rounds: Vec<Round> = bench.peer.end()?;
    ensure!(
        rounds.len() == task.rounds as usize,
        "the second process reported {} rounds of {}",
        rounds.len(),
        task.rounds
    );
    rounds.drain(..WARM_UP as usize);
    Wake::new(role, TRIPS, &rounds)
}

/// The part of the second process.
///
/// # Errors
///
/// When the ring cannot be used, or the first process is gone.
pub fn follow(task: &Task, desk: &mut Desk<'_>) -> Result<Vec<Round>> {
    let page = Page::open(&task.page)?;
    let mut sleeper = Sleeper::open(task)?;
    clock::ask_for_precise_sleep();
    desk.ready()?;
    let mut rounds = Vec::new();
    for _ in 0..task.rounds {
        let mut round = Round::default();
        for (sleep, all) in
            [(Sleeper::bare as Sleep, &mut round.bare), (Sleeper::ring, &mut round.ring)]
        {
            for _ in 0..TRIPS {
                desk.hand_off.catch(desk.check)?;
                let sleeps = clock::thread_sleeps();
                let sent_ns = sleep(&mut sleeper, &page, desk)?;
                let ns = monotonic_ns().saturating_sub(sent_ns);
                if clock::thread_sleeps() > sleeps {
                    all.push(ns);
                }
                desk.hand_off.pass();
            }
        }
        rounds.push(round);
    }
    Ok(rounds)
}

/// Waits to be woken, and returns when the first process looked at the clock.
type Sleep = fn(&mut Sleeper, &Page, &mut Desk<'_>) -> Result<u64>;
