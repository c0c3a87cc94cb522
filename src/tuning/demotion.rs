//! Demoting messages that come one at a time: their lines are moved to the cache that all cores
//! share, so that waiting consumers need not fetch them from the producer's core.
//!
//! The hint is Intel's `cldemote`; DPDK uses it for the same purpose (`rte_cldemote`). Demoting
//! takes the producer more time than publishing does, so it is only for a producer that has that
//! time: after a message of up to 4 KiB that came a while after the message before it. In a burst,
//! only the message or two at which the producer happens to read the clock are demoted.

use std::ops::Range;

use crate::layout::{Geometry, LINE, MARK_SHARED_UP_TO, Shape, WORD, payload_word};
use crate::sync::AtomicU64;
use crate::tuning::cpu::{demote, has_demote, ticks};

/// Decides when the producer demotes a message that it has published. Nothing but speed follows
/// from it.
#[derive(Debug)]
pub struct Demotion {
    /// Once this is the next sequence, it is time to read the clock; [`u64::MAX`] if it never is.
    due: u64,
    /// The number of messages between the last reading of the clock and `due`.
    interval: u64,
    /// The largest value of `interval`.
    longest_interval: u64,
    /// The next sequence at the last reading of the clock.
    looked: u64,
    /// The value of the clock at the last reading, or after the demotion that followed it.
    since: u64,
    /// Word of a slot at which the payload begins.
    payload_word: usize,
}

/// Most messages between two readings of the clock, for a producer that publishes without a pause:
/// a reading takes as long as publishing one or two small messages.
const LONGEST_INTERVAL: u64 = 64;
/// In rings whose payload size is in this range, the producer reads the clock after each message.
/// At full speed this takes no extra time there, and the demotions make messages arrive sooner.
const LOOK_WITH_EACH: Range<usize> = MARK_SHARED_UP_TO + 1..4 << 10;
/// Shortest time between messages for the producer to have time, in ticks. A nanosecond has two to
/// four ticks.
const TICKS: u64 = 300;
/// Additional ticks for each line of the message. That is more than the line takes at full speed,
/// and more than demoting it takes.
const TICKS_A_LINE: u64 = 24;
/// A message of up to this many lines is demoted as a whole. Of a longer one the second half is
/// demoted, because the consumers are already fetching the first half; but never fewer lines than
/// this.
const FEWEST_LINES: usize = 8;
/// A message of more lines (4 KiB, its stamp and its mark) is not demoted: that would take the
/// producer more time than it saves the consumers.
const MOST_LINES: usize = 66;

impl Demotion {
    /// Whether demotion pays for slots of this shape. For shorter messages, checking whether the
    /// clock is due slows the producer down by more than the demotion gains the consumers.
    #[inline(always)]
    pub const fn pays(shape: Shape) -> bool {
        shape.stride > LINE
    }

    /// The demotion that pays on this processor, for a producer whose next message is `next`.
    pub fn of(geometry: &Geometry, next: u64) -> Self {
        let due = if has_demote() && Self::pays(geometry.shape()) { next } else { u64::MAX };
        let longest_interval =
            if LOOK_WITH_EACH.contains(&geometry.payload_bytes) { 1 } else { LONGEST_INTERVAL };
        let payload_word = payload_word(geometry.kind, geometry.payload_bytes);
        Self { due, interval: 1, longest_interval, looked: next, since: 0, payload_word }
    }

    /// Never demotes.
    pub fn never(geometry: &Geometry) -> Self {
        Self { due: u64::MAX, ..Self::of(geometry, 0) }
    }

    /// Once this is the next sequence, it is time for [`Demotion::behind`].
    #[inline(always)]
    pub fn due(&self) -> u64 {
        self.due
    }

    /// Called after a message of `payload_bytes` bytes in `slot`, the one before `next`. Demotes
    /// the message if the producer has time for it.
    pub fn behind(&mut self, next: u64, slot: &[AtomicU64], payload_bytes: usize) {
        let message = &slot[..self.payload_word + payload_bytes.div_ceil(WORD)];
        if self.has_time(next, ticks(), message.len().div_ceil(LINE)) {
            demote(worth_demoting(message));
            self.since = ticks();
        }
    }

    /// Whether the producer has time to demote a message of `lines` lines.
    fn has_time(&mut self, next: u64, now: u64, lines: usize) -> bool {
        let on_average = now.wrapping_sub(self.since) / (next - self.looked).max(1);
        let has_time = lines <= MOST_LINES && on_average > TICKS + TICKS_A_LINE * lines as u64;
        self.interval = if has_time { 1 } else { (2 * self.interval).min(self.longest_interval) };
        (self.due, self.looked, self.since) = (next + self.interval, next, now);
        has_time
    }
}

/// The lines of a message that are worth demoting.
fn worth_demoting(message: &[AtomicU64]) -> &[AtomicU64] {
    let lines = message.len().div_ceil(LINE);
    let kept = lines - (lines / 2).max(FEWEST_LINES).min(lines);
    &message[kept * LINE..]
}

#[cfg(all(test, not(loom)))]
impl Demotion {
    /// Demotes as on a processor that has the instruction.
    pub fn wherever(geometry: &Geometry, next: u64) -> Self {
        Self { due: next, ..Self::of(geometry, next) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::layout::{Kind, Sizes};
    use crate::sync::zeroed;

    fn geometry(kind: Kind, payload_bytes: usize) -> Geometry {
        Geometry::plan(
            kind,
            Sizes { payload_bytes, payload_align: 8, slots: 8, readers: 1, producers: 1 },
            0,
        )
        .unwrap()
    }

    /// The messages after which the producer had time, when messages are `ticks` apart and the
    /// clock stands at `now`.
    fn with_time(
        demotion: &mut Demotion,
        now: &mut u64,
        messages: Range<u64>,
        ticks: u64,
        lines: usize,
    ) -> Vec<u64> {
        messages
            .filter(|message| {
                *now = now.wrapping_add(ticks);
                message + 1 >= demotion.due() && demotion.has_time(message + 1, *now, lines)
            })
            .collect()
    }

    #[test]
    fn who_publishes_now_and_then_has_time_behind_each_message() {
        let (mut demotion, mut now) = (Demotion::wherever(&geometry(Kind::Fixed, 256), 0), 0);
        assert_eq!(with_time(&mut demotion, &mut now, 0..5, 10_000, 5), [0, 1, 2, 3, 4]);
        assert_eq!(with_time(&mut demotion, &mut now, 5..500, 50, 5), Vec::<u64>::new());
        let again = with_time(&mut demotion, &mut now, 500..600, 10_000, 5);
        assert!(again[0] < 500 + LONGEST_INTERVAL, "again behind {}", again[0]);
        assert_eq!(again, (again[0]..600).collect::<Vec<_>>());
    }

    #[test]
    fn of_a_burst_of_messages_of_a_kilobyte_the_first_is_demoted() {
        let (mut demotion, mut now) = (Demotion::wherever(&geometry(Kind::Fixed, 1 << 10), 0), 0);
        for first in (0..200).step_by(20) {
            now += 1_000_000;
            assert_eq!(with_time(&mut demotion, &mut now, first..first + 20, 100, 18), [first]);
        }
    }

    #[test]
    fn how_far_apart_the_messages_are_on_average_counts_also_those_of_batches() {
        let mut demotion = Demotion::wherever(&geometry(Kind::Fixed, 256), 0);
        assert!(demotion.has_time(1, 10_000, 5));
        // A batch of 32 messages, and one more message.
        assert!(!demotion.has_time(34, 10_000 + 33 * 100, 5));
        assert!(demotion.has_time(67, 13_300 + 33 * 1_000, 5));
    }

    #[test]
    fn long_messages_take_more_time() {
        for (lines, ticks) in [(1, 300), (8, 450), (MOST_LINES, 1800)] {
            let (mut demotion, mut now) =
                (Demotion::wherever(&geometry(Kind::Fixed, 1 << 10), 0), 0);
            assert_eq!(
                with_time(&mut demotion, &mut now, 0..100, ticks, lines),
                Vec::<u64>::new(),
                "{lines} lines"
            );
            assert_eq!(
                with_time(&mut demotion, &mut now, 100..101, 2 * ticks, lines),
                [100],
                "{lines} lines"
            );
        }
        let mut demotion = Demotion::wherever(&geometry(Kind::Fixed, 1 << 10), 0);
        assert_eq!(
            with_time(&mut demotion, &mut 0, 0..100, 1 << 40, MOST_LINES + 1),
            Vec::<u64>::new()
        );
    }

    #[test]
    fn a_clock_that_jumps_back_is_followed_soon() {
        let mut demotion = Demotion::wherever(&geometry(Kind::Fixed, 256), 7);
        demotion.since = u64::MAX;
        assert!(with_time(&mut demotion, &mut 0, 7..100, 50, 5).len() <= 1);
    }

    /// The lines of the slot that are worth demoting after a message.
    fn demoted(kind: Kind, slot_bytes: usize, message_bytes: usize) -> Range<usize> {
        let geometry = geometry(kind, slot_bytes);
        let words = Demotion::of(&geometry, 0).payload_word + message_bytes.div_ceil(WORD);
        let slot = zeroed(geometry.stride);
        let lines = worth_demoting(&slot[..words]);
        let first = (lines.as_ptr().addr() - slot.as_ptr().addr()) / (LINE * WORD);
        first..first + lines.len().div_ceil(LINE)
    }

    #[test]
    fn the_last_lines_of_a_message_are_demoted_however_large_its_slot_is() {
        assert_eq!(demoted(Kind::Fixed, 64, 64), 0..2);
        assert_eq!(demoted(Kind::Fixed, 256, 256), 0..5);
        assert_eq!(demoted(Kind::Fixed, 1 << 10, 1 << 10), 9..18);
        assert_eq!(demoted(Kind::Fixed, 4 << 10, 4 << 10), 33..66);
        // The first two lines of a large slot hold the stamp and the mark.
        assert_eq!(demoted(Kind::Variable, 1 << 20, 0), 0..2);
        assert_eq!(demoted(Kind::Variable, 1 << 20, 100), 0..4);
        assert_eq!(demoted(Kind::Variable, 1 << 20, 4 << 10), 33..66);
    }

    #[test]
    fn short_messages_are_not_worth_the_question() {
        let pays = |payload_bytes| Demotion::pays(geometry(Kind::Fixed, payload_bytes).shape());
        assert_eq!([8, 48, 56, 64, 256].map(pays), [false, false, false, true, true]);
        assert_eq!(Demotion::of(&geometry(Kind::Fixed, 48), 0).due(), u64::MAX);
    }
}
