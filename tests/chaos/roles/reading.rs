//! Receiving, and checking all that is received.

use std::thread;
use std::time::Duration;

use seqring::{CloseReason, Consumer, RecvTimeoutError, Registration, Ring};

use crate::board::{Board, Phase};
use crate::message::author_of;
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
/// If anything comes that is not the next message, whole and by who published it; if a loss is told to who was promised none; if the ring ends
/// for another reason.
pub fn follow<R: Registration>(stage: &mut Stage, ring: &Ring<[u8]>, consumer: &mut Consumer<[u8], R>, terms: Terms) -> Ended {
    let start = consumer.cursor();
    let mut authors = Authors::default();
    let mut next = start;
    let mut bytes = Vec::new();
    loop {
        match consumer.recv_timeout_into(&mut bytes, Duration::from_millis(50)) {
            Ok(()) => {
                assert_eq!(consumer.cursor(), next + 1, "another message than the next was received");
                authors.received(&stage.board, next, author_of(next, &bytes));
                next += 1;
            }
            Err(RecvTimeoutError::Lagged(n)) => {
                assert!(n > 0 && !terms.lossless, "{n} messages from {next} on are lost to a reader that gates and lives");
                next += n;
            }
            Err(error @ RecvTimeoutError::Cancelled) => panic!("{error}"),
            Err(RecvTimeoutError::Timeout) => {}
            // Somebody will restart it.
            Err(RecvTimeoutError::Closed(CloseReason::ProducerDied)) => thread::sleep(Duration::from_micros(300)),
            Err(RecvTimeoutError::Closed(CloseReason::Closed)) => {
                assert_eq!(next, ring.head(), "closed before the last message");
                return Ended::Closed;
            }
            Err(RecvTimeoutError::Closed(other)) => panic!("nothing but a death ends this ring: {other}"),
        }
        assert_eq!(consumer.cursor(), next);
        assert_eq!(start + consumer.received() + consumer.lost(), next);
        stage.say(next, ring.epoch());
        if consumer.received() >= terms.enough && stage.board.phase() == Phase::Play {
            return Ended::Enough;
        }
    }
}

/// Whose messages came, in which order.
#[derive(Debug, Default)]
struct Authors {
    last: Option<(u64, u64)>,
}

impl Authors {
    /// Checks that message `sequence` by `author` may follow what has come.
    fn received(&mut self, board: &Board, sequence: u64, author: u64) {
        let last = self.last.replace((sequence, author));
        if last.is_some_and(|(_, last)| last == author) {
            return;
        }
        let first = board.first_of(author).unwrap_or_else(|| panic!("message {sequence} is by {author}, who has not begun"));
        assert!(first <= sequence, "message {sequence} is by {author}, who began at {first}");
        let Some((before, last)) = last else { return };
        assert!(last < author, "message {sequence} is by {author}, but {before} was by {last}");
        // What had been received was published; no successor may publish another message in its place.
        let successor = (last + 1..=author).find_map(|epoch| Some((epoch, board.first_of(epoch)?)));
        let (epoch, first) = successor.expect("one at least has begun");
        assert!(before < first, "message {before} by {last} was received, and {epoch} began at {first}");
    }
}
