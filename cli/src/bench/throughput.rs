//! `seqring bench throughput`: how many messages, and what one costs.
//!
//! As in [`super::latency`], everything is measured in short rounds, each beside a hand-off between
//! the same two pinned processes, and beside the yardstick of its own kind: a sequentially
//! consistent fence, libc's memcpy, or the same without consumers. Ratios are taken per
//! round; their median is the result. Polls that find nothing are never counted.

mod alone;
mod bulk;
pub mod flood;
pub mod idle;
pub mod live;
mod row;
mod table;

use anyhow::Result;
use clap::value_parser;

use super::handoff::TRIPS;
use super::output::{self, Bar};
use super::peer::{Peer, Task};
use super::scenario::leftovers::Session;
use crate::engine::Engine;
use crate::interrupt::Interrupt;

const EXAMPLES: &str = "\
Examples:
  seqring bench throughput
  seqring bench throughput --engine ring --json > throughput.json

Modes:
  publish-alone        publish while nobody reads, beside a SeqCst fence
  publish-spin-only, publish-parkable    the same on a ring on which nobody can sleep, and beside it
  receive-filled       receive from a ring filled before, beside a SeqCst fence
  overwrite            a producer at full speed; counted is what a consumer receives
  overwrite-batch      the same, published 32 at a time
  lossless, lossless-batch    the same with a producer that waits: for a consumer that gates, and in the locked queue always
  live-reader-free, live-reader-gating    what a producer pays whose one consumer keeps up, without and with gating
  idle-consumers-N     publish while another process has N consumers attached that do nothing
  bulk-copy-publish, bulk-copy-receive    large messages, beside memcpy of the same size";

/// Rounds that are run but not counted, until caches and clocks have settled.
const WARM_UP: u32 = 10;

/// The options of the throughput benchmark.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ThroughputArgs {
    /// Rounds of each mode
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        default_value_t = 200,
        value_parser = value_parser!(u32).range(1..=1_000_000)
    )]
    rounds: u32,

    /// Which queues to measure, with a comma between
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ring,locked")]
    engine: Vec<Engine>,

    /// Print JSON, an array with one object per engine, mode and size
    #[arg(long)]
    json: bool,
}

/// Measures what the command line asks for and prints it.
///
/// # Errors
///
/// When it cannot be measured, or a message arrives damaged.
pub fn run(args: &ThroughputArgs) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    let session = Session::begin()?;
    let mut bench = Bench {
        peer: Peer::start(&session.name("line"), &interrupt)?,
        session: &session,
        rounds: args.rounds,
    };
    let mut rows = Vec::new();
    for &engine in &args.engine {
        match engine {
            Engine::Ring => {
                alone::run::<1>(&mut bench, &mut rows)?;
                alone::run::<6>(&mut bench, &mut rows)?;
                flood::run_ring::<1>(&mut bench, &mut rows)?;
                flood::run_ring::<6>(&mut bench, &mut rows)?;
                live::run(&mut bench, &mut rows)?;
                idle::run(&mut bench, &mut rows)?;
                bulk::run(&mut bench, &mut rows)?;
            }
            Engine::Locked => flood::run_locked(&mut bench, &mut rows)?,
        }
    }
    output::print(args.json, &rows, table::of)
}

/// What every mode has at hand.
pub struct Bench<'a> {
    peer: Peer<'a>,
    session: &'a Session,
    rounds: u32,
}

impl Bench<'_> {
    /// Rounds of something that needs only this process, each behind a round of the hand-off; the
    /// peer does nothing else.
    fn rounds_alone<Figures>(
        &mut self,
        what: &str,
        mut round: impl FnMut() -> Result<Figures>,
    ) -> Result<Vec<(f64, Figures)>> {
        let rounds = WARM_UP + self.rounds;
        self.peer.begin(&Task::HandOff { rounds })?;
        let bar = Bar::new(what, rounds.into());
        let (hand_off, mut check) = self.peer.parts();
        let mut all = Vec::new();
        for number in 0..rounds {
            check()?;
            let floor_ns = hand_off.lead(TRIPS, &mut check)?;
            let figures = round()?;
            if number >= WARM_UP {
                all.push((floor_ns, figures));
            }
            bar.step();
        }
        drop(check);
        self.peer.end::<()>()?;
        Ok(all)
    }
}
