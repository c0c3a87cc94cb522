//! The developer tasks of the workspace; `cargo xtask --help` lists them.

mod api;
mod bench;
mod chaos;
mod command;
mod fuzz;
mod house;
mod loom;
mod models;
mod msrv;
mod mutate;
mod package;
mod pictures;
mod places;
mod shm;
mod sources;
mod table;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Debug, Parser)]
#[command(
    name = "xtask",
    bin_name = "cargo xtask",
    about = "The developer tasks of the seqring workspace"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run the gate: every check that a change must pass
    Test(test::Args),
    /// Check the rules of the house: imports, `unsafe`, atomics, width of lines
    House,
    /// Run the loom models of the protocol
    Loom(loom::Args),
    /// Write the table of the loom models into the documentation, or compare it
    Models(table::Args),
    /// Weaken every memory ordering and fence, one at a time: a model must fail each time
    Mutate(mutate::Args),
    /// Run every fuzz target for a while (nightly toolchain)
    Fuzz(fuzz::Args),
    /// Kill processes of a ring at random; the survivors must go on
    Chaos(chaos::Args),
    /// Run the benchmarks
    Bench(bench::Args),
    /// Write the pictures of the documentation
    Pictures(pictures::Args),
    /// Write the list of all that the library exports, or compare it (nightly toolchain)
    Api(api::Args),
    /// Package the library and the command, and build each from its package alone
    Package,
    /// Check the library with the oldest compiler that its manifest promises
    Msrv,
}

fn main() -> ExitCode {
    let task = Cli::parse().task;
    let result = Workspace::find().and_then(|workspace| match task {
        Task::Test(args) => test::run(&workspace, &args),
        Task::House => house::run(&workspace, usize::MAX).map(done),
        Task::Loom(args) => loom::run(&workspace, &args).map(|_| done(())),
        Task::Models(args) => table::run(&workspace, &args).map(done),
        Task::Mutate(args) => mutate::run(&workspace, &args).map(done),
        Task::Fuzz(args) => fuzz::run(&workspace, &args)?.or_error().map(done),
        Task::Chaos(args) => chaos::run(&workspace, &args).map(done),
        Task::Bench(args) => bench::run(&workspace, &args).map(done),
        Task::Pictures(args) => pictures::run(&workspace, &args).map(done),
        Task::Api(args) => api::run(&workspace, &args)?.or_error().map(done),
        Task::Package => package::run(&workspace).map(done),
        Task::Msrv => msrv::run(&workspace)?.or_error().map(done),
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn done((): ()) -> ExitCode {
    ExitCode::SUCCESS
}
