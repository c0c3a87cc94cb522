//! `seqring bench wake`: how long it takes to wake who sleeps in another process, and what a
//! sleeper uses meanwhile.
//!
//! As in [`super::latency`], short rounds of both kinds alternate between two pinned processes:
//! wake-ups of a parked consumer, or of a producer parked for room, and wake-ups by a bare futex,
//! which no wait that is left to the kernel can beat. The ratio of the medians is taken per round;
//! its median is the result.

mod futex;
pub mod idle;
pub mod rounds;
mod row;
mod table;

use anyhow::Result;
use clap::value_parser;

use super::output;
use super::peer::Peer;
use super::scenario::leftovers::Session;
use crate::interrupt::Interrupt;
use idle::Kind;
use rounds::Role;
use row::Row;

const EXAMPLES: &str = "\
Examples:
  seqring bench wake
  seqring bench wake --rounds 1000 --idle-seconds 60
  seqring bench wake --json > wake.json

Both wake-ups count from a look at the clock just before the waking call to one as soon as the
sleeper runs; the sleeper had half a millisecond to fall asleep, and the kernel says that
it did. The bare futex is FUTEX_WAIT and FUTEX_WAKE on a word of the same kind of memory.

CPU time is what getrusage says of the process of a consumer that waits for a message that never
comes: one that is registered, and so can be woken, and one that only reads, and so has to nap.";

/// The options of the wake-up benchmark.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct WakeArgs {
    /// Rounds of ten wake-ups of each kind
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        default_value_t = 200,
        value_parser = value_parser!(u32).range(1..=100_000)
    )]
    rounds: u32,

    /// How long each idle consumer waits
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        default_value_t = 10.0,
        value_parser = seconds
    )]
    idle_seconds: f64,

    /// Print JSON, an array with one object per sleeper
    #[arg(long)]
    json: bool,
}

/// What the parts have at hand.
pub struct Bench<'a> {
    peer: Peer<'a>,
    session: &'a Session,
    rounds: u32,
}

/// Measures and prints it.
///
/// # Errors
///
/// When it cannot be measured.
pub fn run(args: &WakeArgs) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    let session = Session::begin()?;
    let mut bench = Bench {
        peer: Peer::start(&session.name("line"), &interrupt)?,
        session: &session,
        rounds: args.rounds,
    };
    let mut rows = Vec::new();
    for role in [Role::Consumer, Role::Producer] {
        rows.push(Row::Wake(rounds::run(&mut bench, role)?));
    }
    for kind in [Kind::Parked, Kind::Napping] {
        rows.push(Row::Idle(idle::run(&mut bench, kind, args.idle_seconds)?));
    }
    output::print(args.json, &rows, table::of)
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    // The CPU clock counts in microseconds, and nobody waits for more than a day.
    if (0.01..=86_400.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("use 0.01 to 86400".to_owned())
    }
}
