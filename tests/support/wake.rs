//! Who sleeps, as the segment and the kernel say.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::role::{Child, PATIENCE};

/// A bell of a ring; see `docs/layout.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeWord {
    /// That by which consumers sleep.
    Consumers,
    /// That by which producers sleep.
    Producers,
}

/// The word of a bell: in the lowest bit whether somebody may be asleep, above it how often it has
/// rung.
pub fn word(ring: &Path, bell: WakeWord) -> u64 {
    /// Offset of the header's field that says at which word the reader table begins.
    const TABLE_WORD: u64 = 136;
    let file = File::open(ring).unwrap_or_else(|error| panic!("{}: {error}", ring.display()));
    let word_at = |offset: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, offset).expect("the segment is longer");
        u64::from_ne_bytes(bytes)
    };
    let word = match bell {
        WakeWord::Consumers => 0,
        WakeWord::Producers => 16,
    };
    word_at(8 * (word_at(TABLE_WORD) + word))
}

/// Whether somebody has said that it sleeps, and has not been woken since.
pub fn has_waiters(ring: &Path, bell: WakeWord) -> bool {
    word(ring, bell) & 1 != 0
}

/// Waits until somebody says that it sleeps. The bit stays until the other side rings, so what that
/// does next will ring.
#[track_caller]
pub fn wait_for_waiter(ring: &Path, bell: WakeWord) {
    wait_until(&format!("nobody says that it sleeps by {bell:?}"), || has_waiters(ring, bell));
}

/// Waits until `child` says that it sleeps, if nobody else does, and all its threads do.
#[track_caller]
pub fn wait_asleep(ring: &Path, bell: WakeWord, child: &Child) {
    wait_until(&format!("process {} does not sleep by {bell:?}", child.id()), || {
        has_waiters(ring, bell) && child.sleeps()
    });
}

/// Waits until `is_so`; says `not` if that never comes.
#[track_caller]
pub fn wait_until(not: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{not}");
        thread::sleep(Duration::from_millis(1));
    }
}
