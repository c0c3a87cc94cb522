//! What a reader counts.

use serde::{Deserialize, Serialize};

use super::payload;

/// The counts of one reader, as they stand in the JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Messages that the queue delivered, whatever their state.
    pub received: u64,
    /// Messages that the queue reported as overwritten before they were read.
    pub lost: u64,
    /// Received with a wrong length or a wrong CRC.
    pub corrupt: u64,
    /// Received, intact, and received before.
    pub duplicates: u64,
    /// Received, intact, for the first time, but not where the queue said or
    /// after one of the same writer with a higher number.
    pub out_of_order: u64,
    /// Sequence numbers that the queue said never became a message, because their writer died.
    pub tombstones: u64,
    /// How often it fell asleep to be woken, where the queue knows.
    pub sleeps: Option<u64>,
}

/// Judges each message of a stream.
#[derive(Debug)]
pub struct Tally {
    message_bytes: usize,
    verify: bool,
    counts: Counts,
    /// Of each writer.
    seen: Vec<Seen>,
    /// The queue's number of the next message is not below this.
    next: u64,
    order: u64,
}

impl Tally {
    /// For messages of this many bytes by this many writers, with or without a look at their CRC.
    pub fn new(message_bytes: usize, verify: bool, writers: usize) -> Self {
        let seen = std::iter::repeat_with(Seen::default).take(writers).collect();
        Self { message_bytes, verify, counts: Counts::default(), seen, next: 0, order: 0 }
    }

    /// Counts a message that the queue delivered as the number `position`.
    pub fn received(&mut self, message: &[u8], position: u64) {
        self.counts.received += 1;
        let intact =
            message.len() == self.message_bytes && (!self.verify || payload::is_intact(message));
        let Some(head) = payload::head(message)
            .filter(|head| intact && usize::from(head.writer) < self.seen.len())
        else {
            self.counts.corrupt += 1;
            return;
        };
        // A lone writer's numbers are those of the queue; those of several only rise with them.
        let expected = if self.seen.len() == 1 {
            head.sequence == position
        } else {
            head.sequence <= position
        };
        match self.seen[usize::from(head.writer)].insert(head.sequence) {
            Order::Again => self.counts.duplicates += 1,
            Order::Late => self.counts.out_of_order += 1,
            Order::Next if !expected || position < self.next => self.counts.out_of_order += 1,
            Order::Next => {}
        }
        self.next = position + 1;
        self.order = mix(mix(self.order, head.writer.into()), head.sequence);
    }

    /// Counts messages that were overwritten before they could be read.
    pub fn lost(&mut self, messages: u64) {
        self.counts.lost += messages;
    }

    /// A number that is the same for two readers that received the same messages in the same order,
    /// and hardly ever for others.
    pub fn order(&self) -> u64 {
        self.order
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

/// Folds `value` into `digest`, so that the order matters.
fn mix(digest: u64, value: u64) -> u64 {
    // The odd number is 2^64 over the golden ratio: neighbours end up far from each other.
    (digest.rotate_left(23) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1)
}

/// How a sequence number relates to those before it.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    /// Higher than all.
    Next,
    /// Lower than some, but new.
    Late,
    /// It was there before.
    Again,
}

/// All sequence numbers seen, as ascending ranges `first..end` with gaps between
/// them: exact, and as small as the number of gaps.
#[derive(Debug, Default)]
struct Seen {
    ranges: Vec<(u64, u64)>,
}

impl Seen {
    fn insert(&mut self, sequence: u64) -> Order {
        match self.ranges.last_mut() {
            Some((_, end)) if *end == sequence => {
                *end += 1;
                return Order::Next;
            }
            Some((_, end)) if *end > sequence => {}
            _ => {
                self.ranges.push((sequence, sequence + 1));
                return Order::Next;
            }
        }
        let after = self.ranges.partition_point(|&(first, _)| first <= sequence);
        if after > 0 && sequence < self.ranges[after - 1].1 {
            return Order::Again;
        }
        self.ranges.insert(after, (sequence, sequence + 1));
        Order::Late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scenario::payload::Generator;

    fn counts(stream: &[(u64, u64)]) -> Counts {
        let mut generator = Generator::new(0, 32, 10);
        let mut tally = Tally::new(32, true, 1);
        for &(sequence, position) in stream {
            tally.received(generator.message(sequence, 1), position);
        }
        tally.counts()
    }

    #[test]
    fn a_stream_with_gaps_is_in_order() {
        let expected = Counts { received: 4, ..Counts::default() };
        assert_eq!(counts(&[(0, 0), (1, 1), (5, 5), (9, 9)]), expected);
    }

    #[test]
    fn repeated_and_late_messages_are_told_apart() {
        let expected = Counts { received: 6, duplicates: 2, out_of_order: 1, ..Counts::default() };
        assert_eq!(counts(&[(0, 0), (0, 0), (4, 4), (2, 2), (2, 2), (5, 5)]), expected);
    }

    #[test]
    fn a_message_that_is_not_where_the_queue_says_is_out_of_order() {
        let expected = Counts { received: 2, out_of_order: 1, ..Counts::default() };
        assert_eq!(counts(&[(0, 0), (2, 1)]), expected);
    }

    #[test]
    fn damage_counts_as_corrupt_and_nothing_else() {
        let mut generator = Generator::new(0, 32, 10);
        let mut tally = Tally::new(32, true, 1);
        let mut message = generator.message(0, 1).to_vec();
        message[20] ^= 1;
        tally.received(&message, 0);
        tally.received(&generator.message(1, 1)[..31], 1);
        tally.received(&[], 2);
        let expected = Counts { received: 3, corrupt: 3, ..Counts::default() };
        assert_eq!(tally.counts(), expected);
    }

    #[test]
    fn without_verification_only_the_head_counts() {
        let mut generator = Generator::new(0, 32, 10);
        let mut tally = Tally::new(32, false, 1);
        let mut message = generator.message(0, 1).to_vec();
        message[20] ^= 1;
        tally.received(&message, 0);
        assert_eq!(tally.counts(), Counts { received: 1, ..Counts::default() });
    }

    /// The tally of messages `(writer, sequence, position)` by two writers.
    fn two_writers(stream: &[(u16, u64, u64)]) -> Tally {
        let mut tally = Tally::new(32, true, 2);
        for &(writer, sequence, position) in stream {
            tally.received(Generator::new(writer, 32, 10).message(sequence, 1), position);
        }
        tally
    }

    #[test]
    fn each_of_several_writers_has_its_order() {
        let fine = two_writers(&[(0, 0, 0), (1, 0, 1), (1, 1, 2), (0, 1, 3), (1, 5, 9)]);
        assert_eq!(fine.counts(), Counts { received: 5, ..Counts::default() });
        // Late, there before, not where it can be, after one that the queue said was later.
        let wrong = two_writers(&[(0, 3, 3), (0, 2, 4), (0, 3, 5), (1, 9, 6), (1, 10, 2)]);
        assert_eq!(
            wrong.counts(),
            Counts { received: 5, duplicates: 1, out_of_order: 3, ..Counts::default() }
        );
        let unknown = two_writers(&[(2, 0, 0)]);
        assert_eq!(unknown.counts(), Counts { received: 1, corrupt: 1, ..Counts::default() });
    }

    #[test]
    fn two_orders_of_the_same_messages_differ() {
        let one = two_writers(&[(0, 0, 0), (1, 0, 1)]);
        assert_eq!(one.order(), two_writers(&[(0, 0, 0), (1, 0, 1)]).order());
        assert_ne!(one.order(), two_writers(&[(1, 0, 0), (0, 0, 1)]).order());
    }
}
