//! From rounds to rows: medians of ratios, never ratios of medians.

use seqring_cli::bench::stats::Quartiles;
use serde::Serialize;

use crate::spec::System;

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Nanoseconds: less is better.
    #[serde(rename = "ns")]
    Nanoseconds,
    /// Messages delivered per second: more is better.
    #[serde(rename = "msg/s")]
    MessagesPerSecond,
    /// Bytes of memory: less is better.
    #[serde(rename = "bytes")]
    Bytes,
    /// Of the messages sent, those that a reader received, on average: more is better.
    #[serde(rename = "share")]
    Share,
}

/// What was measured of one system, round by round.
#[derive(Debug, Clone)]
pub struct Series {
    /// The benchmark.
    pub bench: &'static str,
    /// The system.
    pub system: System,
    /// Size of a message, if there is one.
    pub payload_bytes: usize,
    /// Readers attached.
    pub readers: usize,
    /// What was done; series of the same benchmark, size, readers and mode are compared with each
    /// other.
    pub mode: String,
    /// Of the values.
    pub unit: Unit,
    /// One per round.
    pub values: Vec<f64>,
    /// Nanoseconds of the floor in the same rounds; none where no floor applies.
    pub floors: Vec<f64>,
    /// p50, p99, p99.9 and maximum of single messages, where they were timed.
    pub quantiles: Option<[f64; 4]>,
}

/// A benchmark that a system took no part in, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// The benchmark.
    pub bench: &'static str,
    /// The system.
    pub system: System,
    /// In which of its cases.
    pub case: String,
    /// Why.
    pub reason: String,
}

/// One line of the result.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The benchmark.
    pub bench: &'static str,
    /// The system.
    pub system: System,
    /// Size of a message.
    pub payload_bytes: usize,
    /// Readers attached.
    pub readers: usize,
    /// What was done, or why it was not.
    pub mode: String,
    /// Rounds behind the medians.
    pub rounds: usize,
    /// Median over the rounds.
    pub value: Option<f64>,
    /// Of the value.
    pub unit: Option<Unit>,
    /// Of single messages, in nanoseconds.
    pub p50: Option<f64>,
    /// So too.
    pub p99: Option<f64>,
    /// So too.
    pub p999: Option<f64>,
    /// So too.
    pub max: Option<f64>,
    /// Median over the rounds of the time of a message in times of the floor.
    pub ratio_to_floor: Option<f64>,
    /// Median over the rounds of the value in values of the best system other than seqring.
    pub ratio_to_best_peer: Option<f64>,
    /// What the plots and tables show besides.
    #[serde(skip)]
    pub spread: Spread,
}

/// How far the rounds are apart.
#[derive(Debug, Clone, Default)]
pub struct Spread {
    /// Of the value.
    pub value: Option<Quartiles>,
    /// Of the ratio to the floor.
    pub floor: Option<Quartiles>,
    /// Of the ratio to the best peer.
    pub peer: Option<Quartiles>,
    /// Which that was.
    pub best_peer: Option<System>,
}

impl Unit {
    /// Whether more is better.
    pub fn is_gain(self) -> bool {
        match self {
            Self::Nanoseconds | Self::Bytes => false,
            Self::MessagesPerSecond | Self::Share => true,
        }
    }

    /// Whether the first is better.
    pub fn is_better(self, value: f64, than: f64) -> bool {
        if self.is_gain() { value > than } else { value < than }
    }

    /// The time of one message, if the value says that.
    fn nanoseconds(self, value: f64) -> Option<f64> {
        match self {
            Self::Nanoseconds => Some(value),
            Self::MessagesPerSecond => Some(1e9 / value),
            Self::Bytes | Self::Share => None,
        }
    }
}

impl Series {
    /// Whether the other is of the same case.
    pub fn is_comparable(&self, other: &Self) -> bool {
        let key = |series: &Self| (series.bench, series.payload_bytes, series.readers);
        key(self) == key(other) && self.mode == other.mode
    }

    /// Adds the rounds of the other; its quantiles are those of both.
    pub fn extend(&mut self, other: Self) {
        self.values.extend(other.values);
        self.floors.extend(other.floors);
        self.quantiles = other.quantiles;
    }

    fn median(&self) -> f64 {
        Quartiles::of(self.values.iter().copied()).median
    }

    fn ratio_to_floor(&self) -> Option<Quartiles> {
        let ratios: Option<Vec<f64>> = self
            .values
            .iter()
            .zip(&self.floors)
            .map(|(&value, floor)| Some(self.unit.nanoseconds(value)? / floor))
            .collect();
        quartiles(ratios?)
    }

    /// None if one of them was missing in some rounds: the others would be compared with what was
    /// measured at another time.
    fn ratio_to(&self, peer: &Self) -> Option<Quartiles> {
        if self.values.len() != peer.values.len() {
            return None;
        }
        quartiles(self.values.iter().zip(&peer.values).map(|(own, other)| own / other).collect())
    }
}

fn quartiles(values: Vec<f64>) -> Option<Quartiles> {
    (!values.is_empty()).then(|| Quartiles::of(values))
}

/// The rows of all series, in their order, and behind them those of what was skipped.
pub fn rows(all: &[Series], skipped: &[Skip]) -> Vec<Row> {
    let measured = all.iter().filter(|series| !series.values.is_empty()).map(|series| {
        let peers = all.iter().filter(|peer| {
            !peer.system.is_ours() && !peer.values.is_empty() && series.is_comparable(peer)
        });
        let best = peers.reduce(|best, peer| {
            if series.unit.is_better(peer.median(), best.median()) { peer } else { best }
        });
        let floor = series.ratio_to_floor();
        let peer = best.and_then(|best| series.ratio_to(best));
        let quantile = |index: usize| series.quantiles.map(|quantiles| quantiles[index]);
        Row {
            bench: series.bench,
            system: series.system,
            payload_bytes: series.payload_bytes,
            readers: series.readers,
            mode: series.mode.clone(),
            rounds: series.values.len(),
            value: Some(series.median()),
            unit: Some(series.unit),
            p50: quantile(0),
            p99: quantile(1),
            p999: quantile(2),
            max: quantile(3),
            ratio_to_floor: floor.map(|ratio| ratio.median),
            ratio_to_best_peer: peer.map(|ratio| ratio.median),
            spread: Spread {
                value: quartiles(series.values.clone()),
                floor,
                peer,
                best_peer: best.map(|best| best.system),
            },
        }
    });
    let missing = skipped.iter().map(|skip| Row {
        bench: skip.bench,
        system: skip.system,
        payload_bytes: 0,
        readers: 0,
        mode: format!("skipped ({}): {}", skip.case, skip.reason),
        rounds: 0,
        value: None,
        unit: None,
        p50: None,
        p99: None,
        p999: None,
        max: None,
        ratio_to_floor: None,
        ratio_to_best_peer: None,
        spread: Spread::default(),
    });
    measured.chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(system: System, unit: Unit, values: &[f64], floors: &[f64]) -> Series {
        Series {
            bench: "test",
            system,
            payload_bytes: 8,
            readers: 1,
            mode: "poll".to_owned(),
            unit,
            values: values.to_vec(),
            floors: floors.to_vec(),
            quantiles: None,
        }
    }

    fn ratios(all: &[Series]) -> Vec<(Option<f64>, Option<f64>)> {
        rows(all, &[]).iter().map(|row| (row.ratio_to_floor, row.ratio_to_best_peer)).collect()
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The machine was three times as slow in the last round: the ratios do not show it.
        let all = [
            series(System::Seqring, Unit::Nanoseconds, &[40.0, 40.0, 120.0], &[20.0, 20.0, 60.0]),
            series(System::Ringfire, Unit::Nanoseconds, &[80.0, 80.0, 240.0], &[20.0, 20.0, 60.0]),
        ];
        assert_eq!(ratios(&all), [(Some(2.0), Some(0.5)), (Some(4.0), Some(1.0))]);
    }

    #[test]
    fn the_median_of_ratios_is_not_the_ratio_of_medians() {
        let all = [
            series(System::Seqring, Unit::Nanoseconds, &[10.0, 20.0, 90.0], &[]),
            series(System::Pipe, Unit::Nanoseconds, &[20.0, 10.0, 30.0], &[]),
        ];
        // Ratios 0.5, 2, 3; the ratio of the medians would be 1.
        assert_eq!(ratios(&all)[0], (None, Some(2.0)));
    }

    #[test]
    fn the_best_peer_is_the_one_with_more_where_more_is_better() {
        let all = [
            series(System::Seqring, Unit::MessagesPerSecond, &[1e9], &[20.0]),
            series(System::Ringfire, Unit::MessagesPerSecond, &[5e8], &[20.0]),
            series(System::Pipe, Unit::MessagesPerSecond, &[1e6], &[20.0]),
        ];
        let rows = rows(&all, &[]);
        assert_eq!(rows[0].spread.best_peer, Some(System::Ringfire));
        assert_eq!(rows[0].ratio_to_best_peer, Some(2.0));
        // One message a nanosecond: a twentieth of the floor.
        assert_eq!(rows[0].ratio_to_floor, Some(0.05));
        assert_eq!(rows[2].ratio_to_best_peer, Some(0.002));
    }

    #[test]
    fn only_the_same_case_is_compared() {
        let mut other = series(System::Ringfire, Unit::Nanoseconds, &[1.0], &[]);
        other.payload_bytes = 48;
        let mut mode = series(System::Pipe, Unit::Nanoseconds, &[1.0], &[]);
        mode.mode = "batch".to_owned();
        let all = [series(System::Seqring, Unit::Nanoseconds, &[2.0], &[]), other, mode];
        assert_eq!(ratios(&all)[0], (None, None));
    }

    #[test]
    fn rounds_of_a_second_placement_count_like_those_of_the_first() {
        let mut own = series(System::Seqring, Unit::Nanoseconds, &[10.0], &[5.0]);
        own.extend(series(System::Seqring, Unit::Nanoseconds, &[30.0, 20.0], &[5.0, 5.0]));
        assert_eq!(ratios(&[own]), [(Some(4.0), None)]);
    }

    #[test]
    fn memory_has_no_floor_and_a_series_without_rounds_no_row() {
        let all = [
            series(System::Seqring, Unit::Bytes, &[4096.0], &[30.0]),
            series(System::Pipe, Unit::Bytes, &[], &[]),
        ];
        assert_eq!(ratios(&all), [(None, None)]);
    }

    #[test]
    fn json_has_exactly_the_agreed_keys() {
        let skip = Skip {
            bench: "latency",
            system: System::Disruptor,
            case: "8 B".to_owned(),
            reason: "not built".to_owned(),
        };
        let rows = rows(&[series(System::Seqring, Unit::Nanoseconds, &[1.0], &[1.0])], &[skip]);
        let json = serde_json::to_value(&rows).unwrap();
        let expected = "bench max mode p50 p99 p999 payload_bytes ratio_to_best_peer ratio_to_floor readers rounds system unit value";
        for row in json.as_array().unwrap() {
            let mut keys: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
            keys.sort_unstable();
            assert_eq!(keys.join(" "), expected);
        }
        assert_eq!(json[0]["unit"], "ns");
        assert_eq!(json[1]["system"], "disruptor");
        assert!(json[1]["value"].is_null());
        assert_eq!(json[1]["mode"], "skipped (8 B): not built");
    }
}
