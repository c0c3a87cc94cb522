//! Receiving, and checking all that is received.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use seqring::{CloseReason, Consumer, RecvTimeoutError, Registration, Ring};

use crate::board::{Board, Phase};
use crate::message::{Id, id_of};
use crate::order::Order;
use crate::stage::Stage;

/// What a reader was promised, and wants.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// No message is lost to it.
    pub lossless: bool,
    /// So many messages are enough.
    pub enough: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Closed,
    /// It has received as many as it wanted.
    Enough,
}

/// Receives until the ring is closed, or enough messages have come and there is no finale.
///
/// # Panics
/// If anything comes that is not the next message, whole and by who published it; if others see
/// another order; if a loss is told to who was promised none; if the ring ends for another reason.
pub fn follow<R: Registration>(
    stage: &mut Stage,
    ring: &Ring<[u8]>,
    consumer: &mut Consumer<[u8], R>,
    terms: Terms,
) -> Ended {
    let start = consumer.cursor();
    let mut authors = Authors::new(stage.producers, terms.lossless);
    let mut order = Order::open(stage.board.path(), start, terms.lossless);
    let mut next = start;
    let mut tombstones = 0;
    let mut bytes = Vec::new();
    loop {
        let received = consumer.recv_timeout_into(&mut bytes, Duration::from_millis(50));
        // They come before whatever was received.
        let passed = consumer.tombstones() - tombstones;
        tombstones += passed;
        next += passed;
        order.tombstones(passed);
        match received {
            Ok(()) => {
                assert_eq!(
                    consumer.cursor(),
                    next + 1,
                    "another message than the next was received"
                );
                let id = id_of(next, &bytes);
                authors.received(&stage.board, next, id);
                order.message(id);
                next += 1;
            }
            Err(RecvTimeoutError::Lagged(n)) => {
                assert!(
                    n > 0 && !terms.lossless,
                    "{n} messages from {next} on are lost to a reader that gates and lives"
                );
                order.lost(n);
                next += n;
            }
            Err(error @ RecvTimeoutError::Cancelled) => panic!("{error}"),
            Err(RecvTimeoutError::Timeout) => {}
            // Somebody will restart it.
            Err(RecvTimeoutError::Closed(CloseReason::ProducerDied)) => {
                thread::sleep(Duration::from_micros(300))
            }
            Err(RecvTimeoutError::Closed(CloseReason::Closed)) => {
                assert_eq!(next, ring.head(), "closed before the last message");
                // Twice: what was written just now is looked at once more.
                order.settle();
                order.settle();
                return Ended::Closed;
            }
            Err(RecvTimeoutError::Closed(other)) => {
                panic!("nothing but a death ends this ring: {other}")
            }
        }
        assert_eq!(consumer.cursor(), next);
        assert_eq!(start + consumer.received() + consumer.lost() + tombstones, next);
        stage.say(next, ring.epoch());
        if consumer.received() >= terms.enough && stage.board.phase() == Phase::Play {
            order.settle();
            return Ended::Enough;
        }
    }
}

/// Whose messages came, in which order.
#[derive(Debug)]
enum Authors {
    /// One behind the other, an epoch each: the last sequence and author.
    Single(Option<(u64, u64)>),
    /// Together: the last number of each.
    Several { last: HashMap<u64, u64>, lossless: bool },
}

impl Authors {
    fn new(producers: usize, lossless: bool) -> Self {
        if producers == 1 {
            Self::Single(None)
        } else {
            Self::Several { last: HashMap::new(), lossless }
        }
    }

    /// Checks that the message `sequence` may follow what has come.
    fn received(&mut self, board: &Board, sequence: u64, Id { author, number }: Id) {
        match self {
            Self::Single(last) => {
                assert_eq!(number, sequence, "the message of {author} is in the place of another");
                succeed(board, last.replace((sequence, author)), sequence, author);
            }
            Self::Several { last, lossless } => {
                let Some(before) = last.insert(author, number) else { return };
                let follows = if *lossless { number == before + 1 } else { number > before };
                assert!(follows, "{sequence} is message {number} of {author}, behind its {before}");
            }
        }
    }
}

/// Checks that message `sequence` by `author` may follow the `last`, where one producer succeeds
/// another.
fn succeed(board: &Board, last: Option<(u64, u64)>, sequence: u64, author: u64) {
    if last.is_some_and(|(_, last)| last == author) {
        return;
    }
    let first = board
        .first_of(author)
        .unwrap_or_else(|| panic!("message {sequence} is by {author}, who has not begun"));
    assert!(first <= sequence, "message {sequence} is by {author}, who began at {first}");
    let Some((before, last)) = last else { return };
    assert!(last < author, "message {sequence} is by {author}, but {before} was by {last}");
    // What had been received was published; no successor may publish another message in its place.
    let successor = (last + 1..=author).find_map(|epoch| Some((epoch, board.first_of(epoch)?)));
    let (epoch, first) = successor.expect("one at least has begun");
    assert!(
        before < first,
        "message {before} by {last} was received, and {epoch} began at {first}"
    );
}
