//! The `seqring` command.
//!
//! It is a library so that the comparison with other systems (`benches/peers`) can use the same
//! hand-off, pinning, second process and locked baseline as the command's own benchmarks. Nothing
//! in it is meant for anybody else.

// Handles of queues and processes, which nobody prints.
#![allow(missing_debug_implementations)]

mod args;
pub mod bench;
pub mod clock;
pub mod console;
mod demo;
pub mod engine;
pub mod interrupt;
pub mod locked;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use args::{Cli, Command};
use interrupt::Interrupted;

/// Does what the command line asks for.
pub fn main() -> ExitCode {
    finish(run(Cli::parse()))
}

/// The exit status of a command: 0, or 1 with a line that says why, or what a shell would report if
/// it was interrupted.
pub fn finish(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::note(format_args!("seqring: {error:#}"));
            // The convention of shells: 128 and the signal that ended it.
            let code = error.downcast_ref::<Interrupted>().map_or(1, Interrupted::exit_code);
            ExitCode::from(code)
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Bench(command) => bench::run(command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut args::public_command(), "seqring", &mut script);
            console::print(&String::from_utf8(script)?)
        }
        Command::Demo(args) => demo::run(&args),
        Command::DemoProducer(args) => demo::child::produce(&args),
        Command::DemoReader(args) => demo::child::read(&args),
        Command::BenchPeer(args) => bench::peer::run(&args),
        Command::ScenarioWriter => bench::scenario::writer::run(),
        Command::ScenarioReader { row } => bench::scenario::reader::run(row),
    }
}
