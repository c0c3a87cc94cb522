//! What travels in the demo.

use bytemuck::{Pod, Zeroable};

/// The message of the main ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Tick {
    /// Its number, which the ring must agree with.
    pub sequence: u64,
    /// When it was published, in nanoseconds on CLOCK_MONOTONIC.
    pub sent_ns: u64,
    /// Made from the two above: a torn message does not match.
    pub check: [u64; 4],
}

impl Tick {
    /// Message number `sequence`, published now.
    pub fn new(sequence: u64, sent_ns: u64) -> Self {
        Self { sequence, sent_ns, check: check(sequence, sent_ns) }
    }

    /// Whether all parts belong together.
    pub fn is_intact(&self) -> bool {
        self.check == check(self.sequence, self.sent_ns)
    }
}

fn check(sequence: u64, sent_ns: u64) -> [u64; 4] {
    let word = sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ sent_ns;
    [word, word.rotate_left(16), word.rotate_left(32), word.rotate_left(48)]
}

/// What a process says about itself, several times a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Stats {
    /// When, in nanoseconds on CLOCK_MONOTONIC.
    pub now_ns: u64,
    /// Sequence of the first message it published or could receive.
    pub start: u64,
    /// Messages published or received so far.
    pub messages: u64,
    /// Messages lost so far, as the ring told.
    pub lost: u64,
    /// Messages that arrived damaged or in the wrong place.
    pub wrong: u64,
    /// Messages published but not received yet.
    pub lag: u64,
    /// How often it has fallen asleep, to be woken by the producer.
    pub sleeps: u64,
    /// Latency since the last report, in nanoseconds; 0 if nothing was received.
    pub p50_ns: u64,
    /// As above; 99 of 100 messages were faster.
    pub p99_ns: u64,
    /// 1 when this is its last word.
    pub done: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixture_of_two_ticks_is_seen() {
        let (old, new) = (Tick::new(1, 100), Tick::new(1025, 900));
        assert!(old.is_intact() && new.is_intact());
        assert!(!Tick { sequence: new.sequence, ..old }.is_intact());
        assert!(!Tick { sent_ns: new.sent_ns, ..old }.is_intact());
        let mut torn = new;
        torn.check[3] = old.check[3];
        assert!(!torn.is_intact());
    }
}
