//! Where the actors write down how far they are: a small file. A line costs its writer one system
//! call and no reader at its other end, and stays when the writer is killed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::order;

const WORD: usize = size_of::<u64>();
const LINE: usize = 4;
const MAX_PLACES: usize = 64;
/// Behind the phase and the lines, at this word, the chronicle has one word an epoch: the first
/// sequence of its producer, plus one.
const CHRONICLE: usize = LINE * (1 + MAX_PLACES);

/// What the actors are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Whatever their roles say.
    Play,
    /// Stay.
    Finale,
    /// End.
    Close,
}

/// What an actor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Line {
    /// Sequence of the next message that it will publish or receive.
    pub progress: u64,
    /// The ring's epoch as it sees it.
    pub epoch: u64,
    /// The longest time that it has spent in one call, in nanoseconds.
    pub longest: u64,
}

#[derive(Debug)]
pub struct Board {
    file: File,
    path: PathBuf,
    owned: bool,
}

impl Board {
    /// A new board for the ring `name`, which goes with its owner.
    pub fn create(name: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("seqring.{name}.board"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        file.set_len((CHRONICLE * WORD) as u64)?;
        order::create(&path)?;
        Ok(Self { file, path, owned: true })
    }

    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { file, path: path.into(), owned: false })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn phase(&self) -> Phase {
        match self.read::<1>(0) {
            [0] => Phase::Play,
            [1] => Phase::Finale,
            _ => Phase::Close,
        }
    }

    pub fn set_phase(&self, phase: Phase) {
        self.write(0, [phase as u64]);
    }

    pub fn line(&self, place: usize) -> Line {
        loop {
            let [sum, progress, epoch, longest] = self.read(LINE * (1 + place));
            // It may be read while it is written.
            if sum == check(progress, epoch, longest) {
                return Line { progress, epoch, longest };
            }
        }
    }

    pub fn set_line(&self, place: usize, Line { progress, epoch, longest }: Line) {
        assert!(place < MAX_PLACES, "there are {MAX_PLACES} places");
        self.write(LINE * (1 + place), [check(progress, epoch, longest), progress, epoch, longest]);
    }

    /// The first sequence of the producer of this epoch. `None` if it was killed before it could
    /// say: then it has published nothing.
    pub fn first_of(&self, epoch: u64) -> Option<u64> {
        let [entry] = self.read(CHRONICLE + epoch as usize);
        entry.checked_sub(1)
    }

    pub fn set_first_of(&self, epoch: u64, first: u64) {
        self.write(CHRONICLE + epoch as usize, [first + 1]);
    }

    /// The words at `at`; zeros behind the end.
    fn read<const N: usize>(&self, at: usize) -> [u64; N] {
        let mut bytes = vec![0; N * WORD];
        let _ = self.file.read_at(&mut bytes, (at * WORD) as u64).expect("the board can be read");
        let mut words = bytes
            .chunks_exact(WORD)
            .map(|word| u64::from_ne_bytes(word.try_into().expect("of a word's size")));
        std::array::from_fn(|_| words.next().expect("as many"))
    }

    fn write<const N: usize>(&self, at: usize, words: [u64; N]) {
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
        self.file.write_all_at(&bytes, (at * WORD) as u64).expect("the board can be written");
    }
}

fn check(progress: u64, epoch: u64, longest: u64) -> u64 {
    progress.rotate_left(1) ^ epoch.rotate_left(21) ^ longest.rotate_left(41)
}

impl Drop for Board {
    fn drop(&mut self) {
        if self.owned {
            let _ = fs::remove_file(&self.path);
            order::remove(&self.path);
        }
    }
}
