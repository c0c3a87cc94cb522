//! The mapping of a segment, seen as atomic words.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use crate::layout::{PAGE, WORD};
use crate::sync::{AtomicU64, Ordering};

/// Memory shared with other processes, mapped for as long as this lives.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<AtomicU64>,
    words: usize,
    /// Bytes to unmap; 0 for an empty file, of which nothing is mapped.
    bytes: usize,
}

// SAFETY: the mapping is owned, not tied to a thread, and unmapped once, by drop.
unsafe impl Send for Mapping {}
// SAFETY: shared references give access to atomics only.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn of(file: &File, bytes: usize, read_only: bool) -> io::Result<Self> {
        if bytes == 0 {
            // The system does not map nothing.
            return Ok(Self { base: NonNull::dangling(), words: 0, bytes: 0 });
        }
        let protection = if read_only { libc::PROT_READ } else { libc::PROT_READ | libc::PROT_WRITE };
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of this process; the descriptor
        // is open.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).expect("a successful mapping is not null");
        Ok(Self { base, words: bytes / WORD, bytes })
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, has at least `words` words (none, if it is dangling) and lives as long as
        // `self`. Any bytes are
        // valid `AtomicU64`s. Other processes change them concurrently, which is what atomics are for: the memory model
        // of Rust says nothing about other processes, and the usual reading is that they are as other threads, as long
        // as they access the words atomically or in bulk copies (see `copy`), which all of this library does. On a
        // read-only mapping only relaxed loads are defined, and consumers use nothing else ("Atomic accesses to
        // read-only memory" in `core::sync::atomic`). Truncation of the file by its owner is outside of the model.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }

    /// Enters all pages into the page table, so that no later access faults.
    pub(super) fn prefault(&self, read_only: bool) {
        let advice = if read_only { libc::MADV_POPULATE_READ } else { libc::MADV_POPULATE_WRITE };
        // SAFETY: the range is our mapping; populating does not change its content.
        let code = unsafe { libc::madvise(self.base.as_ptr().cast(), self.words * WORD, advice) };
        if code != 0 {
            // A kernel before 5.14: a read of each page does it too.
            for word in self.words().iter().step_by(PAGE) {
                std::hint::black_box(word.load(Ordering::Relaxed));
            }
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: the range was mapped by `of` and is unmapped only here; `words` borrows `self`, so no reference
            // into it is left.
            unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
        }
    }
}
