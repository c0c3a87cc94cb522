//! What was measured.

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::idle::{Kind, Usage};
use super::rounds::{Role, Round};
use crate::bench::stats::Quartiles;

/// One row of the output.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Row {
    /// Of a sleeper that is woken.
    Wake(Wake),
    /// Of one that is not.
    Idle(Idle),
}

/// How a role is woken.
#[derive(Debug, Serialize)]
pub struct Wake {
    pub bench: &'static str,
    pub role: &'static str,
    pub rounds: usize,
    /// Wake-ups of each kind.
    pub trips: u64,
    /// Those for which the sleeper had left its CPU; the others are not counted.
    pub asleep: u64,
    pub p50_ns: f64,
    pub p99_ns: f64,
    pub p999_ns: f64,
    pub max_ns: f64,
    /// The same by a bare futex.
    pub bare_asleep: u64,
    pub bare_p50_ns: f64,
    pub bare_p99_ns: f64,
    pub bare_p999_ns: f64,
    pub bare_max_ns: f64,
    /// Median over the rounds of the ratio of their medians.
    pub ratio_to_bare: f64,
    pub ratio_q1: f64,
    pub ratio_q3: f64,
}

/// What an idle consumer used.
#[derive(Debug, Serialize)]
pub struct Idle {
    pub bench: &'static str,
    pub role: &'static str,
    pub wait: &'static str,
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub cpu_percent: f64,
}

impl Wake {
    /// Sums up rounds of so many trips of each kind.
    ///
    /// # Errors
    ///
    /// When there was no round with wake-ups of both kinds.
    pub fn new(role: Role, trips: u32, rounds: &[Round]) -> Result<Self> {
        let median = |all: &[u64]| Quartiles::of(all.iter().map(|&ns| ns as f64)).median;
        let both = rounds.iter().filter(|round| !round.bare.is_empty() && !round.ring.is_empty());
        let ratios: Vec<_> = both.map(|round| median(&round.ring) / median(&round.bare)).collect();
        let name = role.name();
        ratios.first().with_context(|| {
            format!("in {} rounds the {name} was never found asleep: use more", rounds.len())
        })?;
        let ratio = Quartiles::of(ratios);
        let ring = histogram(rounds.iter().map(|round| &round.ring))?;
        let bare = histogram(rounds.iter().map(|round| &round.bare))?;
        let at =
            |all: &Histogram<u64>, quantile| all.value_at_quantile(quantile).min(all.max()) as f64;
        Ok(Self {
            bench: "wake",
            role: name,
            rounds: rounds.len(),
            trips: rounds.len() as u64 * u64::from(trips),
            asleep: ring.len(),
            p50_ns: at(&ring, 0.5),
            p99_ns: at(&ring, 0.99),
            p999_ns: at(&ring, 0.999),
            max_ns: ring.max() as f64,
            bare_asleep: bare.len(),
            bare_p50_ns: at(&bare, 0.5),
            bare_p99_ns: at(&bare, 0.99),
            bare_p999_ns: at(&bare, 0.999),
            bare_max_ns: bare.max() as f64,
            ratio_to_bare: ratio.median,
            ratio_q1: ratio.q1,
            ratio_q3: ratio.q3,
        })
    }
}

fn histogram<'a>(rounds: impl Iterator<Item = &'a Vec<u64>>) -> Result<Histogram<u64>> {
    // A wake-up beyond a minute is not worth telling from one of a minute.
    let mut histogram = Histogram::new_with_max(60_000_000_000, 3)?;
    rounds.flatten().for_each(|&ns| histogram.saturating_record(ns));
    Ok(histogram)
}

impl Idle {
    /// Puts the usage of a kind of consumer into a row.
    pub fn new(kind: Kind, usage: Usage) -> Self {
        let Usage { seconds, cpu_seconds } = usage;
        Self {
            bench: "wake",
            role: "idle-consumer",
            wait: kind.name(),
            seconds,
            cpu_seconds,
            cpu_percent: cpu_seconds / seconds * 100.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_taken_per_round_and_awake_rounds_do_not_count() {
        let round = |bare: &[u64], ring: &[u64]| Round { bare: bare.to_vec(), ring: ring.to_vec() };
        let rounds = [
            round(&[100, 300, 200], &[260]),
            round(&[], &[9]),
            round(&[1000], &[1100]),
            round(&[10], &[10]),
            round(&[5], &[]),
        ];
        let wake = Wake::new(Role::Consumer, 3, &rounds).unwrap();
        assert!((wake.ratio_to_bare - 1.1).abs() < 1e-9, "{wake:?}");
        assert_eq!((wake.rounds, wake.trips, wake.asleep, wake.bare_asleep), (5, 15, 4, 6));
        assert_eq!((wake.p50_ns, wake.bare_max_ns), (10.0, 1000.0));
        let error = Wake::new(Role::Producer, 3, &rounds[1..2]).unwrap_err().to_string();
        assert!(error.contains("producer"), "{error}");
    }

    #[test]
    fn idle_use_is_in_percent() {
        let idle = Idle::new(Kind::Parked, Usage { seconds: 10.0, cpu_seconds: 0.005 });
        assert!((idle.cpu_percent - 0.05).abs() < 1e-12);
    }
}
