//! Demoting messages that come one at a time: their lines are handed down to the cache that all cores share, so that who waits for them need not fetch
//! them from the producer's core.
//!
//! The hint is Intel's `cldemote`; others use it for the same (DPDK's `rte_cldemote`). It takes the producer more time than publishing does, so it is for
//! who has that: behind a message that came a while after the one before it. Of a burst only the first message is demoted.

use crate::copy::{demote, demotes, ticks};
use crate::layout::{Geometry, LINE, Shape, WORD};
use crate::sync::AtomicU64;

/// When the producer demotes what it has published. Nothing follows from it but speed.
#[derive(Debug)]
pub struct Demotion {
    /// Behind the message before this sequence it is time to look at the clock; [`u64::MAX`] if it never is.
    due: u64,
    /// How many messages come from one look to the next.
    messages: u64,
    /// What the clock said.
    since: u64,
    /// Payload bytes of a slot.
    payload_bytes: usize,
}

/// Messages from one look at the clock to the next, at most, for who publishes without a pause: a look takes as long as several messages.
const MESSAGES: u64 = 64;
/// The producer has time if messages are further apart than this, in ticks, of which a nanosecond has two to four, ...
const TICKS: u64 = 300;
/// ... and this for each line that it would demote, which takes nearly as long.
const TICKS_A_LINE: u64 = 48;
/// So many lines are demoted of any message that has them. Of a longer one half is, the second: the consumers are fetching the first already.
const FEWEST_LINES: usize = 8;
/// No more are demoted than this, which takes the producer nearly two microseconds.
const MOST_LINES: usize = 256;

impl Demotion {
    /// Whether it pays for slots like these. Shorter messages arrive a twentieth sooner by it, but publishing them takes a quarter longer by the mere question
    /// whether it is time.
    #[inline(always)]
    pub const fn pays(shape: Shape) -> bool {
        shape.stride > LINE
    }

    /// What pays on this processor.
    pub fn of(geometry: &Geometry) -> Self {
        Self {
            due: if demotes() && Self::pays(geometry.shape()) { 0 } else { u64::MAX },
            messages: 1,
            since: 0,
            payload_bytes: geometry.payload_bytes,
        }
    }

    /// Behind the message before this sequence it is time for [`Demotion::behind`].
    #[inline(always)]
    pub fn due(&self) -> u64 {
        self.due
    }

    /// Behind a message of so many bytes in `slot`, the one before `next`.
    pub fn behind(&mut self, next: u64, slot: &[AtomicU64], payload_bytes: usize) {
        let lines = self.lines(slot, payload_bytes);
        if self.has_time(next, ticks(), lines.len().div_ceil(LINE)) {
            demote(lines);
            self.since = ticks();
        }
    }

    /// Whether the producer has time to demote so many lines.
    fn has_time(&mut self, next: u64, now: u64, lines: usize) -> bool {
        let on_average = now.wrapping_sub(self.since) / self.messages;
        let has_time = on_average > TICKS + TICKS_A_LINE * lines as u64;
        self.since = now;
        self.messages = if has_time { 1 } else { (2 * self.messages).min(MESSAGES) };
        self.due = next + self.messages;
        has_time
    }

    /// The lines that are worth demoting.
    fn lines<'a>(&self, slot: &'a [AtomicU64], payload_bytes: usize) -> &'a [AtomicU64] {
        let message = &slot[..slot.len() - (self.payload_bytes - payload_bytes) / WORD];
        let lines = message.len().div_ceil(LINE);
        let kept = lines - (lines / 2).clamp(FEWEST_LINES.min(lines), MOST_LINES);
        &message[kept * LINE..]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::layout::{Kind, Sizes};
    use crate::sync::zeroed;

    fn geometry(kind: Kind, payload_bytes: usize) -> Geometry {
        Geometry::plan(kind, Sizes { payload_bytes, payload_align: 8, slots: 8, readers: 1, producers: 1 }, 0).unwrap()
    }

    fn demotion(geometry: &Geometry) -> Demotion {
        Demotion { due: 0, messages: 1, since: 0, payload_bytes: geometry.payload_bytes }
    }

    /// The messages, `ticks` from one to the next, behind which was time.
    fn with_time(demotion: &mut Demotion, messages: std::ops::Range<u64>, ticks: u64, lines: usize) -> Vec<u64> {
        let mut now = demotion.since;
        messages
            .filter(|message| {
                now += ticks;
                message + 1 >= demotion.due() && demotion.has_time(message + 1, now, lines)
            })
            .collect()
    }

    #[test]
    fn who_publishes_now_and_then_has_time_behind_each_message_and_who_does_on_end_behind_the_first() {
        let mut demotion = demotion(&geometry(Kind::Fixed, 256));
        assert_eq!(with_time(&mut demotion, 0..5, 10_000, 5), [0, 1, 2, 3, 4]);
        assert_eq!(with_time(&mut demotion, 5..500, 50, 5), []);
        assert!(demotion.due() <= 500 + MESSAGES, "looks at the clock again at {}", demotion.due());
        // How far apart the messages are on average counts.
        let again = with_time(&mut demotion, 500..600, 10_000, 5);
        assert_eq!(again, (again[0]..600).collect::<Vec<_>>());
        assert!(again[0] < 500 + MESSAGES);
    }

    #[test]
    fn long_messages_take_more_time() {
        for (lines, ticks) in [(1, 300), (8, 600), (256, 12_000)] {
            let mut demotion = demotion(&geometry(Kind::Variable, 64 << 10));
            assert_eq!(with_time(&mut demotion, 0..100, ticks, lines), [], "{lines} lines");
            assert_eq!(with_time(&mut demotion, 200..201, 100 * ticks, lines), [200], "{lines} lines");
        }
    }

    #[test]
    fn a_clock_that_jumps_back_harms_nobody() {
        let mut demotion = demotion(&geometry(Kind::Fixed, 256));
        demotion.since = u64::MAX;
        for message in 0..100 {
            demotion.has_time(message + 1, 1_000_000 - 10_000 * message, 5);
        }
    }

    /// The lines of the slot that are demoted behind a message.
    fn demoted(kind: Kind, slot_bytes: usize, message_bytes: usize) -> std::ops::Range<usize> {
        let geometry = geometry(kind, slot_bytes);
        let slot = zeroed(geometry.stride);
        let lines = demotion(&geometry).lines(&slot, message_bytes);
        let first = (lines.as_ptr().addr() - slot.as_ptr().addr()) / (LINE * WORD);
        first..first + lines.len().div_ceil(LINE)
    }

    #[test]
    fn the_last_lines_of_a_message_are_demoted_however_large_its_slot_is() {
        assert_eq!(demoted(Kind::Fixed, 64, 64), 0..2);
        assert_eq!(demoted(Kind::Fixed, 256, 256), 0..5);
        assert_eq!(demoted(Kind::Fixed, 1 << 10, 1 << 10), 9..18);
        assert_eq!(demoted(Kind::Fixed, 4 << 10, 4 << 10), 33..66);
        assert_eq!(demoted(Kind::Fixed, 1 << 20, 1 << 20), (16 << 10) + 2 - MOST_LINES..(16 << 10) + 2);
        // Two lines of a large slot are the stamp's and the mark's.
        assert_eq!(demoted(Kind::Variable, 1 << 20, 0), 0..2);
        assert_eq!(demoted(Kind::Variable, 1 << 20, 100), 0..4);
        assert_eq!(demoted(Kind::Variable, 1 << 20, 4 << 10), 33..66);
    }

    #[test]
    fn short_messages_are_not_worth_the_question() {
        let due = |payload_bytes| Demotion::of(&geometry(Kind::Fixed, payload_bytes)).due();
        assert_eq!([8, 48].map(due), [u64::MAX; 2]);
        assert_eq!(due(64), if demotes() { 0 } else { u64::MAX });
    }
}
