//! A page of shared memory with a few words that two processes use, each on lines of its own.

use std::fs::File;
use std::sync::atomic::AtomicU64;

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::posix_fallocate;
use shared_memory::{Shmem, ShmemConf};

const BYTES: usize = 4096;
/// Two cache lines: some processors fetch lines in pairs.
const WORD_BYTES: usize = 128;
/// Words of a page.
pub const WORDS: usize = BYTES / WORD_BYTES;

/// The page, mapped. Dropping the creator's unlinks it.
pub struct Page {
    segment: Shmem,
}

impl Page {
    /// Creates the page; all words are 0.
    ///
    /// # Errors
    ///
    /// When the name is taken or there is no space.
    pub fn create(name: &str) -> Result<Self> {
        let segment = ShmemConf::new()
            .os_id(name)
            .size(BYTES)
            .create()
            .with_context(|| format!("cannot create the shared memory {name:?}"))?;
        let path = format!("/dev/shm/{name}");
        let file = File::options()
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {path}"))?;
        // Otherwise a full /dev/shm is noticed by the first store, which is a SIGBUS.
        posix_fallocate(file, 0, BYTES as i64)
            .with_context(|| format!("cannot reserve {BYTES} bytes for {path}"))?;
        Ok(Self { segment })
    }

    /// Opens the page that the other process created.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn open(name: &str) -> Result<Self> {
        let segment = ShmemConf::new()
            .os_id(name)
            .open()
            .with_context(|| format!("cannot open the shared memory {name:?}"))?;
        ensure!(
            segment.len() >= BYTES,
            "the shared memory {name:?} has only {} bytes",
            segment.len()
        );
        Ok(Self { segment })
    }

    /// One of its [`WORDS`] words.
    ///
    /// # Panics
    ///
    /// When there is no such word.
    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < WORDS, "a page has no word {index}");
        let place = self.segment.as_ptr().wrapping_add(index * WORD_BYTES).cast::<AtomicU64>();
        // SAFETY: the mapping begins on a page, so `place` is aligned; it has at least `BYTES`
        // (asked for or checked), and the word ends before that (asserted). They are
        // initialised (a new segment is zero) and stay mapped while `self` is borrowed. Both
        // processes access these bytes only through such references, atomically; that
        // atomics work between processes that map the same memory is outside the
        // language but what every platform does.
        unsafe { &*place }
    }
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Page").field(&self.segment.get_os_id()).finish()
    }
}
