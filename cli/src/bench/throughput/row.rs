//! What was measured of one mode.

use serde::Serialize;

use crate::bench::stats::Quartiles;
use crate::engine::Engine;

/// One row of the output.
#[derive(Debug, Serialize)]
pub struct Row {
    pub bench: &'static str,
    pub engine: Engine,
    pub mode: &'static str,
    pub payload_bytes: usize,
    /// Messages per call.
    pub batch: usize,
    pub rounds: usize,
    pub messages_per_second: f64,
    pub bytes_per_second: f64,
    /// Messages in the time of a hand-off.
    pub messages_per_floor: f64,
    /// Median of the hand-off, one way.
    pub floor_ns: f64,
    #[serde(flatten)]
    pub beside: Option<Beside>,
    #[serde(flatten)]
    pub loss: Option<Loss>,
}

/// The yardstick of a mode's own kind, and the ratio to it.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub enum Beside {
    /// Time of a message in times of a sequentially consistent fence.
    Fence { fence_ns: f64, ratio_to_fence: f64, ratio_q1: f64, ratio_q3: f64 },
    /// Speed of a message in speeds of memcpy.
    Memcpy { memcpy_bytes_per_second: f64, ratio_to_memcpy: f64, ratio_q1: f64, ratio_q3: f64 },
    /// Time of a message in times of one on a ring on which nobody can sleep.
    SpinOnly { ratio_to_spin_only: f64, ratio_q1: f64, ratio_q3: f64 },
    /// Time of a message in times of one whose consumer does not gate.
    FreeReader { ratio_to_free_reader: f64, ratio_q1: f64, ratio_q3: f64 },
    /// Time of a message in times of one without consumers.
    NoConsumers { ratio_to_no_consumers: f64, ratio_q1: f64, ratio_q3: f64 },
}

/// What a producer that does not wait sent, and what became of it.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Loss {
    pub published: u64,
    pub received: u64,
    pub lost: u64,
}

/// One round: so many messages took so long.
#[derive(Debug, Clone, Copy)]
pub struct Timed {
    pub messages: u64,
    pub ns: f64,
    /// The hand-off just before, one way.
    pub floor_ns: f64,
}

impl Row {
    /// Sums up the rounds of a mode.
    pub fn new(
        engine: Engine,
        mode: &'static str,
        payload_bytes: usize,
        batch: usize,
        rounds: &[Timed],
    ) -> Self {
        let median = |of: fn(&Timed) -> f64| Quartiles::of(rounds.iter().map(of)).median;
        let messages_per_second = median(|round| round.messages as f64 / round.ns * 1e9);
        Self {
            bench: "throughput",
            engine,
            mode,
            payload_bytes,
            batch,
            rounds: rounds.len(),
            messages_per_second,
            bytes_per_second: messages_per_second * payload_bytes as f64,
            messages_per_floor: median(|round| round.messages as f64 * round.floor_ns / round.ns),
            floor_ns: median(|round| round.floor_ns),
            beside: None,
            loss: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_median_round() {
        let round = |messages, floor_ns| Timed { messages, ns: 1e6, floor_ns };
        let row = Row::new(
            Engine::Ring,
            "publish-alone",
            8,
            1,
            &[round(1000, 30.0), round(3000, 40.0), round(2000, 90.0)],
        );
        assert_eq!(
            (row.messages_per_second, row.bytes_per_second, row.floor_ns),
            (2e6, 16e6, 40.0)
        );
        // 0.03, 0.12 and 0.18
        assert!((row.messages_per_floor - 0.12).abs() < 1e-12);
    }
}
