//! The same work done by seqring and by other systems: see README.md.

mod arena;
mod copy;
mod ends;
mod follower;
mod job;
mod measure;
mod payload;
mod report;
mod row;
mod spec;
mod systems;

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum as _};
use seqring_cli::bench::peer::PeerArgs;
use seqring_cli::bench::scenario::leftovers::Session;
use seqring_cli::bench::scenario::machine;
use seqring_cli::bench::scenario::report::ReportFile;
use seqring_cli::interrupt::Interrupt;

use arena::{Arena, Pace};
use follower::STACK;
use measure::Bench;
use report::Report;
use spec::System;

/// seqring beside other systems: the same work, in the same run, in turns.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    args: Args,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Args)]
struct Args {
    /// Write the rows as JSON to this file
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,

    /// Write a page with plots to this file
    #[arg(long, value_name = "PATH")]
    html: Option<PathBuf>,

    /// Fewer rounds: under two minutes
    #[arg(long)]
    quick: bool,

    /// Which benchmarks, with commas between [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Bench>,

    /// Which systems, with commas between [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    systems: Vec<System>,

    /// Payloads of latency and throughput in bytes, with commas between [default: 8 to 1048576]
    #[arg(long, value_name = "BYTES", value_delimiter = ',', value_parser = payload::size)]
    payloads: Vec<usize>,

    /// A system that did not build, and why: it is reported as skipped
    #[arg(long, value_name = "SYSTEM=REASON", hide = true)]
    unavailable: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The second process; started by the first
    #[command(hide = true)]
    Follow(PeerArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Both sides handle messages of a megabyte by value.
    let run = move || match cli.command {
        Some(Command::Follow(args)) => follower::run(&args),
        None => run(&cli.args),
    };
    let result = match thread::Builder::new().stack_size(STACK).spawn(run) {
        Ok(thread) => {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the measuring thread panicked")))
        }
        Err(error) => Err(error.into()),
    };
    seqring_cli::finish(result)
}

fn run(args: &Args) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    let session = Session::begin()?;
    let _files = systems::Files::of(&arena::run_of(&session));
    // Nobody wants to hear after the run that its result cannot be written.
    let json = args.json.as_deref().map(ReportFile::reserve).transpose()?;
    let html = args.html.as_deref().map(ReportFile::reserve).transpose()?;

    let mut wanted = if args.systems.is_empty() {
        System::value_variants().to_vec()
    } else {
        args.systems.clone()
    };
    let mut seen = HashSet::new();
    wanted.retain(|&system| seen.insert(system));
    let (systems, left_out): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|&system| systems::is_built(system));
    let pace = if args.quick {
        Pace {
            is_quick: true,
            rounds: 15,
            warm_up: 2,
            placements: 1,
            turn_ns: 0.5e6,
            few_rounds: 5,
        }
    } else {
        Pace {
            is_quick: false,
            rounds: 100,
            warm_up: 5,
            placements: 5,
            turn_ns: 1e6,
            few_rounds: 30,
        }
    };
    // Before this process is confined to one of its CPUs.
    let machine = machine::facts();
    let payloads =
        if args.payloads.is_empty() { payload::SIZES.to_vec() } else { args.payloads.clone() };
    let mut arena = Arena::open(systems, payloads, pace, &session, &interrupt)?;
    for system in left_out {
        let reason = args
            .unavailable
            .iter()
            .find_map(|word| word.strip_prefix(system.name())?.strip_prefix('='));
        arena.skip("all", system, "everywhere", reason.unwrap_or("it was left out of this build"));
    }
    let benches = if args.only.is_empty() { Bench::value_variants() } else { &args.only };
    for bench in benches {
        bench.run(&mut arena).with_context(|| format!("{} failed", bench.name()))?;
    }

    let report = Report::of(&arena, machine, args.quick);
    drop(arena);
    if let Some(file) = json {
        file.write_text(&(serde_json::to_string_pretty(&report.rows)? + "\n"))?;
    }
    if let Some(file) = html {
        file.write_text(&report.page()?)?;
    }
    seqring_cli::console::print(&report.text())
}
