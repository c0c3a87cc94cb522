//! What was done, and how long the survivors had to wait.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What an eviction should take at most, by the documentation.
const TARGET: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub struct Report {
    /// How many were killed, by role.
    pub killed: BTreeMap<&'static str, u64>,
    /// Of those, how many before they had found the ring.
    pub early: u64,
    /// How many in their sleep, in which others were to wake them; 0 where the kernel does not
    /// tell.
    pub asleep: u64,
    pub rings: u64,
    pub messages: u64,
    /// Sequences that were received by readers that gate, in one order.
    pub compared: u64,
    /// Of those, how many never were messages.
    pub tombstones: u64,
    /// From the death of gating readers until the producer was more than a lap further.
    pub evictions: Times,
    /// From the death of one of several producers until another was more than a lap further.
    pub burials: Times,
    /// From the start of a dead producer's successor until everybody had a message of it.
    pub takeovers: Times,
    /// The longest call of each producer, of those that came to publish.
    pub calls: Times,
}

impl Report {
    pub fn kills(&self) -> u64 {
        self.killed.values().sum()
    }

    /// A producer's longest call took so many nanoseconds; 0 of who made none.
    pub fn call(&mut self, longest: u64) {
        if longest > 0 {
            self.calls.add(Duration::from_nanos(longest));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            killed,
            early,
            asleep,
            rings,
            messages,
            compared,
            tombstones,
            evictions,
            burials,
            takeovers,
            calls,
        } = self;
        writeln!(
            f,
            "{} kills, {early} of them before the victim had found the ring, {asleep} in its sleep: {killed:?}",
            self.kills()
        )?;
        writeln!(
            f,
            "rings: {rings}, messages: {messages}; {compared} of them in one order for all who gate, {tombstones} of which are tombstones"
        )?;
        writeln!(f, "a producer is a lap behind the death of gating readers after: {evictions}")?;
        writeln!(f, "another producer is a lap behind the death of one after:     {burials}")?;
        writeln!(f, "all have a message of a new producer after its start after:   {takeovers}")?;
        write!(f, "the longest call of a producer's life:                        {calls}")
    }
}

/// Durations, for percentiles.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let Some(max) = sorted.last() else { return f.write_str("never seen") };
        let milliseconds = |time: &Duration| time.as_secs_f64() * 1e3;
        let at = |permille: usize| milliseconds(&sorted[(sorted.len() - 1) * permille / 1000]);
        let late = sorted.iter().filter(|time| **time >= TARGET).count();
        write!(
            f,
            "p50 {:.1}, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1} ms",
            at(500),
            at(900),
            at(990),
            at(999),
            milliseconds(max)
        )?;
        write!(f, "; {late} of {} took {TARGET:?} or longer", sorted.len())
    }
}
