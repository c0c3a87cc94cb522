//! What an actor has at hand.

use std::path::PathBuf;

use seqring::WaitStrategy;
use serde::{Deserialize, Serialize};

use crate::board::{Board, Line, Phase};
use crate::random::Random;

/// What an actor is told when it starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Part {
    pub ring: String,
    pub board: PathBuf,
    /// Rows that the reader table is to have.
    pub rows: usize,
    /// How many producers the ring is for.
    pub producers: usize,
    /// Which process it is of all that play on this ring: no other has this number, not even in
    /// the same place.
    pub entry: u64,
    /// Its line on the board.
    pub place: usize,
    pub seed: u64,
}

#[derive(Debug)]
pub struct Stage {
    pub ring: String,
    pub board: Board,
    pub rows: usize,
    pub producers: usize,
    pub entry: u64,
    pub random: Random,
    place: usize,
    line: Line,
}

impl Stage {
    pub fn enter(part: Part) -> Self {
        let board = Board::open(&part.board)
            .unwrap_or_else(|error| panic!("no board at {}: {error}", part.board.display()));
        let Part { ring, rows, producers, entry, place, seed, .. } = part;
        Self {
            ring,
            board,
            rows,
            producers,
            entry,
            random: Random(seed),
            place,
            line: Line::default(),
        }
    }

    /// Writes down how far it is.
    pub fn say(&mut self, progress: u64, epoch: u64) {
        // Who attaches anew may start behind where it was: at a head that its producer had not
        // moved before it died.
        (self.line.progress, self.line.epoch) = (self.line.progress.max(progress), epoch);
        self.board.set_line(self.place, self.line);
    }

    /// A call took so many nanoseconds.
    pub fn took(&mut self, nanoseconds: u64) {
        self.line.longest = self.line.longest.max(nanoseconds);
    }

    pub fn is_over(&self) -> bool {
        self.board.phase() == Phase::Close
    }

    /// A way to wait: most sleep until they are woken, so that sleepers are among the killed. Many
    /// who do not would leave no processor to others.
    pub fn wait_strategy(&mut self) -> WaitStrategy {
        if self.random.one_in(8) { WaitStrategy::Yield } else { WaitStrategy::Park }
    }
}
