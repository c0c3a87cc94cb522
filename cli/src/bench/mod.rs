//! `seqring bench`.

pub mod handoff;
pub mod latency;
pub mod output;
mod page;
pub mod peer;
pub mod pin;
pub mod scenario;
pub mod spin;
pub mod stats;
pub mod throughput;
pub mod wake;

use anyhow::Result;
use clap::Subcommand;

use latency::LatencyArgs;
use scenario::ScenarioArgs;
use throughput::ThroughputArgs;
use wake::WakeArgs;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// One writer process streams to many reader processes, checked and measured
    Scenario(ScenarioArgs),
    /// Time one way between two pinned processes, beside a bare cache line
    Latency(LatencyArgs),
    /// Count messages a second, beside a fence, memcpy and a bare cache line
    Throughput(ThroughputArgs),
    /// Time waking who sleeps in another process, beside a bare futex, and what an idle sleeper
    /// uses
    Wake(WakeArgs),
}

/// Runs a benchmark.
///
/// # Errors
///
/// Whatever keeps it from being measured.
pub fn run(command: BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Scenario(args) => scenario::run(&args),
        BenchCommand::Latency(args) => latency::run(&args),
        BenchCommand::Throughput(args) => throughput::run(&args),
        BenchCommand::Wake(args) => wake::run(&args),
    }
}
