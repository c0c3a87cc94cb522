//! The figures of a run, as they stand in the JSON.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::plan::Plan;
use super::protocol::{ReaderFigures, WriterFigures};
use super::tally::Counts;
use crate::engine::{Engine, Mode, Wait, Waited};

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
    /// How the ring's readers waited; nothing for the locked queue.
    pub wait: Option<Wait>,
    /// Number of slots.
    pub slots: usize,
    /// Number of readers.
    pub readers: usize,
    /// Number of writers.
    pub writers: usize,
    /// The rate the writers together aimed for.
    pub target_writes_per_second: f64,
    /// How long the writers wrote, measured.
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
    /// CPU seconds of all writer processes.
    pub writer_cpu_seconds: f64,
    /// CPU seconds of all reader processes.
    pub readers_cpu_seconds: f64,
    /// From before a message was sent until a reader had its copy, over all readers.
    pub latency_ns: Latency,
    /// The readers that writers waited for, where the queue knows them.
    pub waited_for: Vec<Waited>,
    /// What each writer did.
    pub writers_detail: Vec<WriterDetail>,
    /// What each reader counted.
    pub readers_detail: Vec<Counts>,
    /// What each reader measured, for the tables.
    #[serde(skip)]
    pub reader_figures: Vec<ReaderFigures>,
}

/// What one of the writers did.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct WriterDetail {
    /// Messages written.
    pub writes: u64,
    /// Messages that had to wait for a reader a full lap behind.
    pub stalls: u64,
    /// How long it wrote.
    pub seconds: f64,
    /// CPU used in that time.
    pub cpu_seconds: f64,
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
    pub fn new(
        plan: &Plan,
        engine: Engine,
        writers: &[WriterFigures],
        readers: Vec<ReaderFigures>,
    ) -> Self {
        let writes = writers.iter().map(|writer| writer.writes).sum();
        let duration_seconds = writers.iter().map(|writer| writer.seconds).fold(0.0, f64::max);
        let writes_per_second = writes as f64 / duration_seconds;
        Self {
            engine,
            preset: plan.name.clone(),
            mode: match (engine, plan.mode) {
                (Engine::Locked, _) => "lossless",
                (Engine::Ring, Mode::Overwrite) => "overwrite",
                (Engine::Ring, Mode::Gating) => "gating",
            },
            wait: (engine == Engine::Ring).then_some(plan.wait),
            slot_bytes: plan.slot_bytes,
            slots: plan.slots,
            readers: plan.readers,
            writers: writers.len(),
            target_writes_per_second: plan.writes_per_second,
            duration_seconds,
            writes,
            writes_per_second,
            percent_vs_target: relative_percent(writes_per_second, plan.writes_per_second),
            mb_per_second: writes_per_second * plan.slot_bytes as f64 / 1e6,
            stalls: writers.iter().map(|writer| writer.stalls).sum(),
            writer_cpu_seconds: writers.iter().map(|writer| writer.cpu_seconds).sum(),
            readers_cpu_seconds: readers.iter().map(|reader| reader.cpu_seconds).sum(),
            latency_ns: Latency::of(&readers),
            waited_for: waited_for(writers),
            writers_detail: writers.iter().map(WriterDetail::of).collect(),
            readers_detail: readers.iter().map(|reader| reader.counts).collect(),
            reader_figures: readers,
        }
    }

    /// How often readers fell asleep, where the queue knows.
    pub fn sleeps(&self) -> Option<u64> {
        self.readers_detail.iter().map(|counts| counts.sleeps).sum()
    }

    /// Of all messages that readers should have had, the percentage that was lost.
    pub fn lost_percent(&self) -> f64 {
        let lost: u64 = self.readers_detail.iter().map(|counts| counts.lost).sum();
        let due = self.writes * self.readers_detail.len() as u64;
        if due == 0 { 0.0 } else { lost as f64 / due as f64 * 100.0 }
    }
}

impl WriterDetail {
    fn of(figures: &WriterFigures) -> Self {
        let &WriterFigures { writes, stalls, seconds, cpu_seconds, .. } = figures;
        Self { writes, stalls, seconds, cpu_seconds }
    }
}

/// Each writer tells how long all of them had waited for a reader when it had done: the last one
/// knows.
fn waited_for(writers: &[WriterFigures]) -> Vec<Waited> {
    let mut all: Vec<Waited> = Vec::new();
    for told in writers.iter().flat_map(|writer| &writer.waited_for) {
        match all.iter_mut().find(|known| known.reader == told.reader) {
            Some(known) if known.times < told.times => *known = told.clone(),
            Some(_) => {}
            None => all.push(told.clone()),
        }
    }
    all
}

/// How far `value` is above `target`, in percent of it.
pub fn relative_percent(value: f64, target: f64) -> f64 {
    (value / target - 1.0) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(latencies: &[(u64, u64)], latency_max_ns: u64) -> ReaderFigures {
        ReaderFigures {
            counts: Counts::default(),
            order: 0,
            seconds: 1.0,
            cpu_seconds: 0.25,
            latency_max_ns,
            latencies: latencies.to_vec(),
        }
    }

    #[test]
    fn latencies_of_readers_are_merged() {
        let latency = Latency::of(&[
            reader(&[(10, 98)], 10),
            reader(&[(500, 1), (9_000_000_000, 1)], 9_000_000_000),
        ]);
        assert_eq!(
            latency,
            Latency {
                p50: Some(10),
                p99: Some(500),
                p999: Some(9_000_000_000),
                max: Some(9_000_000_000)
            }
        );
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
            writers: 2,
            mode: Mode::Overwrite,
            wait: Wait::Park,
        };
        let waited = |times| vec![Waited { reader: "reader 1".to_owned(), times, seconds: 0.25 }];
        let writer = |writes, seconds, times| WriterFigures {
            writes,
            stalls: 3,
            seconds,
            cpu_seconds: 0.5,
            latest_ns: 0,
            waited_for: waited(times),
        };
        let readers = vec![reader(&[], 0), reader(&[], 0)];
        let outcome =
            Outcome::new(&plan, Engine::Ring, &[writer(100, 2.0, 5), writer(80, 1.5, 4)], readers);
        assert_eq!((outcome.writers, outcome.writes, outcome.stalls), (2, 180, 6));
        assert_eq!(outcome.waited_for, waited(5));
        assert!((outcome.writes_per_second - 90.0).abs() < 1e-9);
        assert!((outcome.percent_vs_target + 10.0).abs() < 1e-9);
        assert!((outcome.mb_per_second - 45.0).abs() < 1e-9);
        assert!((outcome.readers_cpu_seconds - 0.5).abs() < 1e-9);
    }
}
