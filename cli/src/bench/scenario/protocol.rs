//! What parent and children say to each other: JSON, one message a line.
//!
//! The parent writes the task and then the start signal to a child's standard
//! input, whose end tells the child to end too. The child answers on its
//! standard output.

use serde::{Deserialize, Serialize};

use super::tally::Counts;
use crate::engine::{Channel, Waited};

/// The line that starts the measurement.
pub const START: &str = "start";

/// What a writer process has to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct WriterTask {
    /// Where to write.
    pub channel: Channel,
    /// Which writer this is, counted from 0.
    pub writer: usize,
    /// The rate that all writers together aim for.
    pub writes_per_second: f64,
    /// How long.
    pub duration_seconds: f64,
}

/// What a reader process has to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReaderTask {
    /// Where to read.
    pub channel: Channel,
    /// Whether to check CRCs.
    pub verify: bool,
    /// CPU time to burn on each message.
    pub burn_ns: u64,
}

/// What a child tells.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// It is attached and waits for the start signal.
    Ready,
    /// From a writer, now and then.
    Progress(WriterProgress),
    /// A writer is done.
    Writer(WriterFigures),
    /// A reader is done.
    Reader(ReaderFigures),
    /// It cannot go on, and why.
    Failed(String),
}

/// How far a writer is.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct WriterProgress {
    /// Nanoseconds since the first message was due.
    pub elapsed_ns: u64,
    /// Messages written.
    pub writes: u64,
    /// Messages that had to wait for a reader.
    pub stalls: u64,
}

impl WriterProgress {
    /// Of all writers.
    pub fn sum(all: &[Self]) -> Self {
        Self {
            elapsed_ns: all.iter().map(|one| one.elapsed_ns).max().unwrap_or(0),
            writes: all.iter().map(|one| one.writes).sum(),
            stalls: all.iter().map(|one| one.stalls).sum(),
        }
    }
}

/// What a writer measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WriterFigures {
    /// Messages written.
    pub writes: u64,
    /// Messages that had to wait for a reader.
    pub stalls: u64,
    /// From the start signal to the end of the duration.
    pub seconds: f64,
    /// CPU used in that time.
    pub cpu_seconds: f64,
    /// How far a message was behind its schedule, at most.
    pub latest_ns: u64,
    /// The readers that it and the other writers waited for, where the queue knows them.
    pub waited_for: Vec<Waited>,
}

/// What a reader measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReaderFigures {
    /// What it counted.
    pub counts: Counts,
    /// Which messages it received in which order.
    pub order: u64,
    /// From the start signal until the queue was drained.
    pub seconds: f64,
    /// CPU used in that time.
    pub cpu_seconds: f64,
    /// The longest latency, exactly.
    pub latency_max_ns: u64,
    /// The latencies as pairs of (nanoseconds, messages), from a histogram
    /// with three significant digits.
    pub latencies: Vec<(u64, u64)>,
}
