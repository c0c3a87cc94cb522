//! The benchmarks.

mod fan_out;
mod latency;
mod memory;
mod start;
mod throughput;
mod wake_up;

use anyhow::Result;
use clap::ValueEnum;

use crate::arena::Arena;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Bench {
    /// One way, half of a round trip
    Latency,
    /// Messages delivered per second
    Throughput,
    /// What readers cost the sender
    FanOut,
    /// Round trip between two that sleep
    WakeUp,
    /// Bytes of shared memory
    Memory,
    /// To create, to attach, and the first message
    Start,
}

impl Bench {
    /// The name in every row.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latency => latency::NAME,
            Self::Throughput => throughput::NAME,
            Self::FanOut => fan_out::NAME,
            Self::WakeUp => wake_up::NAME,
            Self::Memory => memory::NAME,
            Self::Start => start::NAME,
        }
    }

    /// Measures it.
    ///
    /// # Errors
    ///
    /// When a message was damaged, or the run shall end.
    pub fn run(self, arena: &mut Arena<'_>) -> Result<()> {
        match self {
            Self::Latency => latency::run(arena),
            Self::Throughput => throughput::run(arena),
            Self::FanOut => fan_out::run(arena),
            Self::WakeUp => wake_up::run(arena),
            Self::Memory => memory::run(arena),
            Self::Start => start::run(arena),
        }
    }
}

/// Messages that a channel has room for, the same for every system: what a busy sender needs, and
/// few enough of the large ones to stay in the cache, which every transport gains from.
fn depth(bytes: usize) -> usize {
    match bytes {
        0..1024 => 1024,
        1024..16_384 => 128,
        _ => 8,
    }
}
