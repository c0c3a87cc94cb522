//! `seqring demo`: what a newcomer should see first.
//!
//! One producer process and several reader processes, live, each measured by itself and reporting
//! over a small ring of its own. Under way a reader is killed and replaced, and another one joins
//! late. In the end, the same load on the ring and on a locked queue.

pub mod child;
mod closing;
mod crew;
mod live;
mod plain;
mod screen;
mod stats;
mod story;

use std::io::{self, IsTerminal as _};

use anyhow::Result;

use crate::bench::scenario::leftovers::Session;
use crate::console::print;
use crate::interrupt::Interrupt;

/// Share of the time for the live part; the comparison has the rest, half for each queue.
const LIVE_SHARE: f64 = 2.0 / 3.0;

/// The options of the demo.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Press q or Ctrl-C to end it early. Without a terminal it prints lines, about one block a second."
)]
pub struct DemoArgs {
    /// How long it takes, about
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        default_value_t = 15.0,
        value_parser = seconds
    )]
    seconds: f64,

    /// Print lines instead of taking over the terminal
    #[arg(long)]
    plain: bool,
}

/// Runs the demo.
///
/// # Errors
///
/// When a process cannot be started or dies uninvited, a promise is broken, or the user interrupts.
pub fn run(args: &DemoArgs) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    let session = Session::begin()?;
    let live_seconds = args.seconds * LIVE_SHARE;
    let is_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    let ending = if args.plain || !is_terminal {
        live::run(live_seconds, &session, &interrupt, &mut plain::Plain::new())?
    } else {
        let ending = live::run(live_seconds, &session, &interrupt, &mut screen::Screen::open()?)?;
        // They went with the screen.
        print(&ending.events)?;
        ending
    };
    print(&ending.summary)?;
    if ending.quit {
        return Ok(());
    }
    closing::run((args.seconds - live_seconds) / 2.0, &session, &interrupt)
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (2.0..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("use 2 to 3600".to_owned()) }
}
