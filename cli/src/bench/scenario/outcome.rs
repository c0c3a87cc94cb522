//! The figures of a run, as they stand in the JSON.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::plan::Plan;
use super::protocol::{ReaderFigures, WriterFigures};
use super::tally::Counts;
use crate::engine::{Engine, Mode, Waited};

/// What one scenario with one engine measured.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Which queue carried the messages.
    pub engine: Engine,
    /// The preset, or "custom".
    pub preset: String,
    /// Bytes of each message.
    pub slot_bytes: usize,
    /// Whether slow readers lose messages or hold the writer up.
    pub mode: &'static str,
    /// Number of slots.
    pub slots: usize,
    /// Number of readers.
    pub readers: usize,
    /// The rate the writer aimed for.
    pub target_writes_per_second: f64,
    /// How long the writer wrote, measured.
    pub duration_seconds: f64,
    /// Messages written.
    pub writes: u64,
    /// Messages written per second.
    pub writes_per_second: f64,
    /// How far that is above the target, in percent of it; negative below.
    pub percent_vs_target: f64,
    /// Millions of bytes written per second.
    pub mb_per_second: f64,
    /// Messages that had to wait for a reader a full lap behind.
    pub stalls: u64,
    /// CPU seconds of the writer process.
    pub writer_cpu_seconds: f64,
    /// CPU seconds of all reader processes.
    pub readers_cpu_seconds: f64,
    /// From before a message was sent until a reader had its copy, over all readers.
    pub latency_ns: Latency,
    /// The readers that the writer waited for, where the queue knows them.
    pub waited_for: Vec<Waited>,
    /// What each reader counted.
    pub readers_detail: Vec<Counts>,
    /// What each reader measured, for the tables.
    #[serde(skip)]
    pub reader_figures: Vec<ReaderFigures>,
}

/// A distribution of latencies in nanoseconds; nothing if no message was received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// The median.
    pub p50: Option<u64>,
    /// 99 of 100 are not above.
    pub p99: Option<u64>,
    /// 999 of 1000 are not above.
    pub p999: Option<u64>,
    /// The longest.
    pub max: Option<u64>,
}

/// An empty histogram of nanoseconds up to an hour, with three significant digits.
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("the bounds are valid")
}

impl Latency {
    /// Merges the latencies of these readers.
    pub fn of<'a>(readers: impl IntoIterator<Item = &'a ReaderFigures>) -> Self {
        let mut merged = latency_histogram();
        let mut max = None;
        for reader in readers {
            for &(nanoseconds, messages) in &reader.latencies {
                merged.saturating_record_n(nanoseconds, messages);
                max = max.max(Some(reader.latency_max_ns));
            }
        }
        // The bucket of a percentile may reach beyond the longest latency itself.
        let at = |quantile| max.map(|max| merged.value_at_quantile(quantile).min(max));
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), max }
    }
}

impl Outcome {
    /// Puts together what the processes of a run measured.
    pub fn new(plan: &Plan, engine: Engine, writer: &WriterFigures, readers: Vec<ReaderFigures>) -> Self {
        let writes_per_second = writer.writes as f64 / writer.seconds;
        Self {
            engine,
            preset: plan.name.clone(),
            mode: match (engine, plan.mode) {
                (Engine::Locked, _) => "lossless",
                (Engine::Ring, Mode::Overwrite) => "overwrite",
                (Engine::Ring, Mode::Gating) => "gating",
            },
            slot_bytes: plan.slot_bytes,
            slots: plan.slots,
            readers: plan.readers,
            target_writes_per_second: plan.writes_per_second,
            duration_seconds: writer.seconds,
            writes: writer.writes,
            writes_per_second,
            percent_vs_target: relative_percent(writes_per_second, plan.writes_per_second),
            mb_per_second: writes_per_second * plan.slot_bytes as f64 / 1e6,
            stalls: writer.stalls,
            writer_cpu_seconds: writer.cpu_seconds,
            readers_cpu_seconds: readers.iter().map(|reader| reader.cpu_seconds).sum(),
            latency_ns: Latency::of(&readers),
            waited_for: writer.waited_for.clone(),
            readers_detail: readers.iter().map(|reader| reader.counts).collect(),
            reader_figures: readers,
        }
    }

    /// Of all messages that readers should have had, the percentage that was lost.
    pub fn lost_percent(&self) -> f64 {
        let lost: u64 = self.readers_detail.iter().map(|counts| counts.lost).sum();
        let due = self.writes * self.readers_detail.len() as u64;
        if due == 0 { 0.0 } else { lost as f64 / due as f64 * 100.0 }
    }
}

/// How far `value` is above `target`, in percent of it.
pub fn relative_percent(value: f64, target: f64) -> f64 {
    (value / target - 1.0) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(latencies: &[(u64, u64)], latency_max_ns: u64) -> ReaderFigures {
        ReaderFigures { counts: Counts::default(), seconds: 1.0, cpu_seconds: 0.25, latency_max_ns, latencies: latencies.to_vec() }
    }

    #[test]
    fn latencies_of_readers_are_merged() {
        let latency = Latency::of(&[reader(&[(10, 98)], 10), reader(&[(500, 1), (9_000_000_000, 1)], 9_000_000_000)]);
        assert_eq!(latency, Latency { p50: Some(10), p99: Some(500), p999: Some(9_000_000_000), max: Some(9_000_000_000) });
    }

    #[test]
    fn no_messages_have_no_latency() {
        assert_eq!(Latency::of(&[reader(&[], 0)]), Latency::default());
    }

    #[test]
    fn rates_are_relative_to_the_measured_time() {
        let plan = Plan {
            name: "custom".to_owned(),
            slot_bytes: 500_000,
            slots: 4,
            readers: 2,
            writes_per_second: 100.0,
            duration_seconds: 2.0,
            reader_burn_cpu_milliseconds: 0.0,
            verify: true,
            mode: Mode::Overwrite,
        };
        let writer = WriterFigures { writes: 180, stalls: 3, seconds: 2.0, cpu_seconds: 0.5, latest_ns: 0, waited_for: Vec::new() };
        let readers = vec![reader(&[], 0), reader(&[], 0)];
        let outcome = Outcome::new(&plan, Engine::Ring, &writer, readers);
        assert!((outcome.writes_per_second - 90.0).abs() < 1e-9);
        assert!((outcome.percent_vs_target + 10.0).abs() < 1e-9);
        assert!((outcome.mb_per_second - 45.0).abs() < 1e-9);
        assert!((outcome.readers_cpu_seconds - 0.5).abs() < 1e-9);
    }
}
