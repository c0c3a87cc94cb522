//! What a forked child inherits of its parent's segments: memory to read, but no lock and no way to
//! write as the parent.
//!
//! A fork copies descriptors and mappings. The locks that say which process is alive belong to the
//! open file, which parent and child then share. Without further measures, a child would keep the
//! locks of a dead parent, and could overwrite its parent's messages. So in every child, before
//! `fork` returns, a handler (`pthread_atfork`) replaces each segment that was open for writing:
//!
//! * its descriptor becomes the same file, opened once more for reading. The child no longer shares
//!   the parent's locks. It sees them as those of any other process, so it can still check which
//!   processes are alive;
//! * its mapping becomes a private one at the same address. The child sees the parent's writes
//!   until it writes to the same page. What the child writes through inherited handles reaches no
//!   other process.
//!
//! Segments that are open for reading only have no locks and cannot be written, so they stay as
//! they are.
//!
//! # Threads
//! The registry is locked while a segment is opened and registered, and while one is unregistered
//! and closed. The handler that runs before a fork takes that lock; the handlers that run after it,
//! in parent and child, release it. So at the moment of the fork, no thread is between the two
//! steps: every registered segment is open, and no number in the registry belongs to another file.
//! The handler in the child allocates and frees no memory, and makes only system calls (`open`,
//! `dup3`, `mmap`, `mremap`, `eventfd`, `close`), because other threads may have held any lock of
//! the C library at the fork.
//!
//! A thread that holds the lock calls only the system and the allocator. The allocator installed
//! its own handlers at its first use, before ours, so before a fork they run after ours. Signal
//! handlers are the exception: one that interrupts the opening of a segment must not call `fork`
//! (POSIX now forbids it in all signal handlers), but it may call `_Fork` and execute a program.
//!
//! # Limits
//! `vfork`, `posix_spawn` and `clone` run no handlers. The first two, and with them
//! [`std::process::Command`], share the memory until they execute a program, which closes the
//! descriptors (`O_CLOEXEC`). A child by a bare `clone` or `_Fork` that does not execute a program
//! keeps its parent's locks. It must not use its parent's rings; where its process id shows this,
//! the calls refuse.

use std::cell::UnsafeCell;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use super::map::{Mapping, Span};
use crate::layout::{PAGE, STATE, SUPERSEDED, WORD};

/// Number of forks between this process and the one that first opened a segment.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// Number of forks between this process and the one that first opened a segment. A handle with
/// another number was inherited.
pub(super) fn generation() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// The segments that are open for writing, by descriptor.
static REGISTRY: Mutex<BTreeMap<RawFd, Entry>> = Mutex::new(BTreeMap::new());

/// What the handler must know of a segment.
#[derive(Debug)]
struct Entry {
    span: Span,
    /// Whether to copy all of the mapping at once: a registered consumer in the child must not
    /// react to what the parent does to its row.
    freeze: bool,
    /// The fork generation in which the segment was opened.
    generation: u64,
}

/// While this value lives, this process is not forked.
#[derive(Debug)]
pub(super) struct Held(MutexGuard<'static, BTreeMap<RawFd, Entry>>);

/// Prevents forks of this process, to open or close a segment. Must not be called twice in one
/// thread.
pub(super) fn hold() -> Held {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        // SAFETY: the handlers are functions of this library, which is never unloaded while its
        // code runs; all data that they need is static.
        let code = unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
        assert_eq!(
            code, 0,
            "no memory to install a handler for forks: error {code} of pthread_atfork"
        );
    });
    // A panic while the lock is held leaves the map as it was before or after one of its
    // operations.
    Held(REGISTRY.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Held {
    /// Registers an open segment, and allows forks again. A `frozen` mapping does not change in a
    /// child, whatever the parent does.
    pub(super) fn keep(
        mut self,
        file: File,
        mapping: Mapping,
        read_only: bool,
        frozen: bool,
    ) -> Kept {
        if !read_only {
            self.0.insert(
                file.as_raw_fd(),
                Entry { span: mapping.span(), freeze: frozen, generation: generation() },
            );
        }
        Kept { open: ManuallyDrop::new(Open { mapping, file }), read_only }
    }
}

/// An open file and its mapping.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) mapping: Mapping,
    /// The file handle, which carries the locks and identifies the inode.
    pub(super) file: File,
}

/// An open segment in the registry.
#[derive(Debug)]
pub(super) struct Kept {
    open: ManuallyDrop<Open>,
    read_only: bool,
}

impl Deref for Kept {
    type Target = Open;

    #[inline(always)]
    fn deref(&self) -> &Open {
        &self.open
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Held to the end of the function: a child must not inherit an open segment that is no
        // longer registered.
        let mut held = hold();
        if !self.read_only {
            held.0.remove(&self.open.file.as_raw_fd());
        }
        // SAFETY: `open` is dropped only here, and is not used again.
        unsafe { ManuallyDrop::drop(&mut self.open) };
    }
}

/// Holds the registry's lock during a fork.
struct During(UnsafeCell<Option<Held>>);

// SAFETY: only the handlers access it, and only in the thread that holds the lock of the registry
// during that time.
unsafe impl Sync for During {}

static DURING: During = During(UnsafeCell::new(None));

extern "C" fn before() {
    let held = Held(REGISTRY.lock().unwrap_or_else(PoisonError::into_inner));
    // SAFETY: this thread holds the lock of the registry, so no other thread accesses `DURING`.
    unsafe { *DURING.0.get() = Some(held) };
}

/// The lock that `before` has stored.
fn held() -> Option<Held> {
    // SAFETY: the C library calls this in the thread that called `before`, or in its copy in the
    // child. That thread still holds the lock, so no other thread accesses `DURING`.
    let during = unsafe { &mut *DURING.0.get() };
    during.take()
}

extern "C" fn in_parent() {
    drop(held());
}

extern "C" fn in_child() {
    let Some(mut held) = held() else { return };
    let parent = FORKS.fetch_add(1, Ordering::Relaxed);
    for (fd, entry) in held.0.iter_mut().filter(|(_, entry)| entry.generation == parent) {
        // From now on the segment is private, and children of this process inherit it as it is. So
        // its generation stays.
        entry.disown(*fd);
    }
}

impl Entry {
    /// Replaces the parent's mapping by a private one, and the parent's open file by one of our
    /// own.
    fn disown(&self, fd: RawFd) {
        // SAFETY: the path is a C string; the call touches no other memory.
        let own = with_path(fd, |path| unsafe {
            libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK)
        });
        if own >= 0 {
            // Maps our own file: a mapping also keeps its open file alive, with the locks of that
            // file.
            self.map_privately(own);
            replace(fd, own);
        } else {
            // There is no `/proc`, no permission to read the file, or no free descriptor.
            self.map_nothing();
            replace(fd, stand_in(fd));
        }
        if self.freeze {
            self.words().step_by(PAGE / WORD).for_each(|word| {
                // Writes the value that is already there, which gives this process its own copy of
                // the page. (The compiler may remove an addition of 0.)
                word.store(word.load(Ordering::Relaxed), Ordering::Relaxed);
            });
        }
    }

    fn map_privately(&self, own: RawFd) {
        let Span { start, bytes, offset } = self.span;
        if bytes == 0 {
            return;
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
        // SAFETY: the range is a mapping of the segment (see the registry) and is replaced by one
        // of the same file, length and offset, so all pointers into it stay valid. The child has no
        // other thread.
        let at = unsafe {
            libc::mmap(start.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, own, offset)
        };
        if at == libc::MAP_FAILED {
            give_up();
        }
    }

    /// Maps memory of our own, because the file is not available. For a reader table, it is a copy.
    /// For a ring, its state says superseded, so that consumers in the child do not wait for
    /// messages that they cannot see.
    fn map_nothing(&self) {
        let Span { start, bytes, .. } = self.span;
        if bytes == 0 {
            return;
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of this
        // process.
        let new = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            )
        };
        if new == libc::MAP_FAILED {
            give_up();
        }
        let copy = Self { span: Span { start: new.cast(), ..self.span }, ..*self };
        if self.freeze {
            self.words()
                .zip(copy.words())
                .for_each(|(from, to)| to.store(from.load(Ordering::Relaxed), Ordering::Relaxed));
        } else if let Some(state) = copy.words().nth(STATE) {
            state.store(SUPERSEDED, Ordering::Relaxed);
        }
        // SAFETY: the range is a mapping of the segment, and is replaced by one of the same length,
        // whose words are valid. Nothing else points to the memory that is moved. The child has no
        // other thread.
        let at = unsafe {
            libc::mremap(new, bytes, bytes, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, start)
        };
        if at == libc::MAP_FAILED {
            give_up();
        }
    }

    /// The words of the mapping. Nothing else changes the mapping during this time.
    fn words(&self) -> impl Iterator<Item = &AtomicU64> {
        let Span { start, bytes, .. } = self.span;
        // SAFETY: the word is inside the mapping, which consists of atomic words and stays as long
        // as the entry.
        (0..bytes / WORD).map(move |word| unsafe { &*start.wrapping_add(word) })
    }
}

/// Replaces the file of `fd`, which belongs to a segment, by the file of `own`.
fn replace(fd: RawFd, own: RawFd) {
    if own == fd {
        return;
    }
    // SAFETY: a system call on numbers. `fd` belongs to the segment (see the registry) and stays in
    // use, so dropping its handle will not close a file of other code.
    let code = unsafe { libc::dup3(own, fd, libc::O_CLOEXEC) };
    if code < 0 {
        give_up();
    }
    // SAFETY: no other code knows the descriptor, which was just opened.
    unsafe { libc::close(own) };
}

/// Calls `then` with a path that opens the file of descriptor `fd` anew.
fn with_path(fd: RawFd, then: impl FnOnce(&CStr) -> libc::c_int) -> libc::c_int {
    // Space for the longest number and the terminating zero.
    let mut path = [0; 32];
    let written = write!(&mut path[..], "/proc/self/fd/{fd}");
    match CStr::from_bytes_until_nul(&path) {
        Ok(path) if written.is_ok() => then(path),
        _ => -1,
    }
}

/// A descriptor without a file, for which no path is needed, unlike `/dev/null`. Closes `fd` if
/// there is no free descriptor.
fn stand_in(fd: RawFd) -> RawFd {
    for _ in 0..2 {
        // SAFETY: a system call without memory in it.
        let own = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if own >= 0 {
            return own;
        }
        // SAFETY: `fd` belongs to the segment. The caller takes its number again before any other
        // code opens a file.
        unsafe { libc::close(fd) };
    }
    give_up()
}

/// Ends a child that could write as its parent or keep its parent's locks.
fn give_up() -> ! {
    let text = b"seqring: a forked child could not let go of its parent's rings: the system has no memory or descriptors left\n";
    // SAFETY: the pointer and the length are those of `text`.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
    // SAFETY: `abort` ends the process, and is allowed in a handler, which `std::process::abort`
    // does not promise.
    unsafe { libc::abort() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_for_writing_is_registered_as_long_as_that() {
        let path = std::env::temp_dir().join(format!("seqring-fork-{}", std::process::id()));
        let open = |held: Held, read_only: bool| {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .unwrap();
            file.set_len(PAGE as u64).unwrap();
            let mapping = Mapping::of(&file, PAGE, read_only).unwrap();
            held.keep(file, mapping, read_only, false)
        };
        for _ in 0..1000 {
            let (kept, watching) = (open(hold(), false), open(hold(), true));
            let held = hold();
            assert_eq!(held.0[&kept.file.as_raw_fd()].span.bytes, PAGE);
            assert!(
                !held.0.contains_key(&watching.file.as_raw_fd()),
                "it has nothing that a child must not have"
            );
            let fd = kept.file.as_raw_fd();
            drop(held);
            drop(kept);
            // Only a segment of another test may have taken the number again in the meantime.
            let again = hold();
            assert!(again.0.get(&fd).is_none_or(|entry| entry.span.bytes != PAGE));
        }
        std::fs::remove_file(&path).unwrap();
    }
}
