//! The `seqring` command.

mod args;
mod bench;
mod clock;
mod console;
mod demo;
mod engine;
mod interrupt;
mod locked;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use args::{Cli, Command};
use interrupt::Interrupted;

fn main() -> ExitCode {
    match run(Cli::parse()) {
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
