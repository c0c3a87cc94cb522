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
    /// Number of bytes that are mapped before `base`, and unmapped with it.
    before: usize,
    /// Number of bytes to unmap; 0 for an empty file, of which nothing is mapped.
    bytes: usize,
    /// Offset of the mapping in the file.
    offset: libc::off_t,
}

/// Which part of the address space shows which part of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: *mut AtomicU64,
    pub(super) bytes: usize,
    pub(super) offset: libc::off_t,
}

// SAFETY: an address, which is not tied to a thread.
unsafe impl Send for Span {}

// SAFETY: the mapping is owned, not tied to a thread, and unmapped once, by drop.
unsafe impl Send for Mapping {}
// SAFETY: shared references give access to atomics only.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `bytes` bytes of `file`.
    pub(super) fn of(file: &File, bytes: usize, read_only: bool) -> io::Result<Self> {
        Self::part(file, 0, bytes, read_only)
    }

    /// Maps `bytes` bytes of `file`, starting at `offset`. If the system's pages are larger than
    /// the alignment of `offset`, some of the bytes before it are mapped too.
    pub(super) fn part(
        file: &File,
        offset: usize,
        bytes: usize,
        read_only: bool,
    ) -> io::Result<Self> {
        if bytes == 0 {
            // The system does not map an empty range.
            return Ok(Self {
                base: NonNull::dangling(),
                words: 0,
                before: 0,
                bytes: 0,
                offset: 0,
            });
        }
        // SAFETY: a system call that takes no memory.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).map_err(|_| io::Error::last_os_error())?;
        let before = offset % page;
        let start = libc::off_t::try_from(offset - before).map_err(io::Error::other)?;
        let protection =
            if read_only { libc::PROT_READ } else { libc::PROT_READ | libc::PROT_WRITE };
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of this
        // process; the descriptor is open.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                before + bytes,
                protection,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                start,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `before` is inside the mapping just made.
        let base = unsafe { base.byte_add(before) };
        let base = NonNull::new(base.cast()).expect("a successful mapping is not null");
        Ok(Self { base, words: bytes / WORD, before, bytes: before + bytes, offset: start })
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is aligned to words, as `offset` was, has at least `words` words
        // (none, if it is dangling) and lives as long as `self`. Any bytes are valid `AtomicU64`s.
        // Other processes change them concurrently, for which atomics are made. The memory model of
        // Rust does not mention other processes; the usual reading is that they act as other
        // threads do, as long as they access the words atomically or in bulk copies (see `copy`),
        // and all of this library does so. On a read-only mapping only relaxed loads are defined,
        // and consumers use nothing else ("Atomic accesses to read-only memory" in
        // `core::sync::atomic`). Truncation of the file by its owner is outside of the model.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }

    /// Enters all pages into the page table, so that no later access faults.
    pub(super) fn prefault(&self, read_only: bool) {
        let advice = if read_only { libc::MADV_POPULATE_READ } else { libc::MADV_POPULATE_WRITE };
        // SAFETY: the range is our mapping; populating does not change its content.
        let code = unsafe { libc::madvise(self.start(), self.bytes, advice) };
        if code != 0 {
            // A kernel before 5.14 has no such advice; a read of each page has the same effect.
            for word in self.words().iter().step_by(PAGE) {
                std::hint::black_box(word.load(Ordering::Relaxed));
            }
        }
    }

    /// The whole mapping, for code that replaces it.
    pub(super) fn span(&self) -> Span {
        Span { start: self.start().cast(), bytes: self.bytes, offset: self.offset }
    }

    /// Where the mapping begins.
    fn start(&self) -> *mut libc::c_void {
        self.base.as_ptr().wrapping_byte_sub(self.before).cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: the range was mapped by `part` and is unmapped only here; `words` borrows
            // `self`, so no reference into it is left.
            unsafe { libc::munmap(self.start(), self.bytes) };
        }
    }
}
