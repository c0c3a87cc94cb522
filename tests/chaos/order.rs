//! The one order of a ring's messages, as the gating readers saw it: a small file with a word for
//! each sequence.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::message::Id;

const WORD: usize = size_of::<u64>();
/// So many sequences are compared at a time.
const BLOCK: usize = 64;
/// The word of a sequence that was received by nobody yet.
const UNKNOWN: u64 = 0;
/// The word of a sequence that never was a message.
const TOMBSTONE: u64 = 1;

/// The file of the order, beside that of the board.
pub fn path(board: &Path) -> PathBuf {
    board.with_extension("order")
}

pub fn create(board: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path(board)).map(drop)
}

pub fn remove(board: &Path) {
    let _ = fs::remove_file(path(board));
}

/// How many of the sequences below `end` are known, and how many of these are tombstones.
pub fn count(board: &Path, end: u64) -> (u64, u64) {
    let bytes = fs::read(path(board)).expect("the order can be read");
    assert!(
        bytes.len() as u64 <= end * WORD as u64,
        "{} sequences were received of {end}",
        bytes.len() / WORD
    );
    let words = bytes
        .chunks_exact(WORD)
        .map(|word| u64::from_ne_bytes(word.try_into().expect("of a word's size")));
    let known = words.filter(|word| *word != UNKNOWN);
    known.fold((0, 0), |(known, tombstones), word| {
        (known + 1, tombstones + u64::from(word == TOMBSTONE))
    })
}

/// What one reader sees of the order, compared with what others saw, a block at a time: a system
/// call for each message would be much.
#[derive(Debug)]
pub struct Order {
    file: File,
    /// Whether others are to be compared with this reader: one that loses nothing.
    leads: bool,
    /// Sequence of the first word below.
    first: u64,
    words: Vec<u64>,
    /// The block before, looked at once more: two readers may have written at once.
    before: (u64, Vec<u64>),
}

impl Order {
    pub fn open(board: &Path, first: u64, leads: bool) -> Self {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path(board))
            .expect("the order is there");
        Self { file, leads, first, words: Vec::new(), before: (first, Vec::new()) }
    }

    /// The next sequence is this message.
    pub fn message(&mut self, id: Id) {
        let word = (id.author.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ id.number.rotate_left(32))
            .max(TOMBSTONE + 1);
        self.push(word);
    }

    /// The next `n` sequences never were messages.
    pub fn tombstones(&mut self, n: u64) {
        (0..n).for_each(|_| self.push(TOMBSTONE));
    }

    /// The next `n` sequences are lost to this reader.
    pub fn lost(&mut self, n: u64) {
        self.settle();
        self.first += n;
    }

    fn push(&mut self, word: u64) {
        self.words.push(word);
        if self.words.len() == BLOCK {
            self.settle();
        }
    }

    /// Compares what has come so far, and writes it down if this reader leads.
    pub fn settle(&mut self) {
        self.compare(self.before.0, &self.before.1, !self.leads);
        self.compare(self.first, &self.words, true);
        if self.leads {
            let bytes: Vec<u8> = self.words.iter().copied().flat_map(u64::to_ne_bytes).collect();
            self.file
                .write_all_at(&bytes, self.first * WORD as u64)
                .expect("the order can be written");
        }
        let words = std::mem::take(&mut self.words);
        let first = self.first;
        self.first += words.len() as u64;
        self.before = (first, words);
    }

    /// # Panics
    /// If somebody saw another message at one of these sequences; or nobody any, though that is not
    /// `open`.
    fn compare(&self, first: u64, own: &[u64], open: bool) {
        let mut bytes = vec![0; own.len() * WORD];
        let mut read = 0;
        // It may end before.
        while let Ok(more @ 1..) =
            self.file.read_at(&mut bytes[read..], first * WORD as u64 + read as u64)
        {
            read += more;
        }
        let words = bytes
            .chunks_exact(WORD)
            .map(|word| u64::from_ne_bytes(word.try_into().expect("of a word's size")));
        for (sequence, (own, other)) in (first..).zip(own.iter().zip(words)) {
            let same = *own == other || open && other == UNKNOWN;
            assert!(
                same,
                "two orders: sequence {sequence} is {own:#x} here and {other:#x} there (1: a tombstone)"
            );
        }
    }
}
