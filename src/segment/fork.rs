//! What a forked child takes along of its parent's segments: memory to read, and nothing that
//! speaks for the parent.
//!
//! A fork copies descriptors and mappings. The locks that say who is alive belong to the open file,
//! which parent and child then share: a child would keep the locks of a dead parent held, and could
//! write its parent's messages. So in every child, before `fork` returns, a handler
//! (`pthread_atfork`) puts in the place of each segment that was open for writing
//!
//! * over its descriptor: the same file, opened once more, for reading. The child has no part in
//!   the parent's locks any more, and sees them as it sees those of other processes, so it can
//!   still ask who is alive;
//! * over its mapping: a private one, at the same address. What the parent writes is seen there
//!   until the child writes to the same page; what the child writes, by handles that it inherited,
//!   reaches nobody.
//!
//! Segments open for reading only have no locks and cannot be written, so they stay as they are.
//!
//! # Threads
//! The registry is locked while a segment is opened and registered, and while one is unregistered
//! and closed. The handler that runs before a fork takes that lock, and those that run behind it,
//! in parent and child, give it back. So at the moment of the fork no thread is between the two:
//! what is registered is what is open, and a number in the registry is no other file's. No
//! memory is allocated or freed by the handler in the child, and it makes nothing but system calls
//! (`open`, `dup3`, `mmap`, `mremap`, `eventfd`, `close`), as other threads may have held any lock
//! of the C library when they were left behind.
//!
//! Who holds the lock calls only the system and the allocator; the latter's own handlers were
//! installed at its first use, before ours, and so run behind ours before a fork. The exception are
//! signal handlers: one that interrupts the opening of a segment must not call `fork` (as POSIX now
//! says of all of them), but may call `_Fork` and execute.
//!
//! # What this does not see
//! `vfork`, `posix_spawn` and `clone` run no handlers. The first two, and with them
//! [`std::process::Command`], share the memory until they execute, which closes the descriptors
//! (`O_CLOEXEC`). A child by a bare `clone` or `_Fork` that does not execute keeps its parent's
//! locks; it must not use its parent's rings, and is told so where that is noticed, by its process
//! id.

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

/// How many forks lie between this process and the one that first opened a segment.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// How many forks lie between this process and the first that opened a segment: a handle with
/// another number was inherited.
pub(super) fn generation() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// The segments that are open for writing, by descriptor.
static REGISTRY: Mutex<BTreeMap<RawFd, Entry>> = Mutex::new(BTreeMap::new());

/// What the handler has to know of a segment.
#[derive(Debug)]
struct Entry {
    span: Span,
    /// Copy all of the mapping, at once: a registered consumer in the child must not be told by
    /// what the parent does to its row.
    freeze: bool,
    /// The fork that took it along.
    generation: u64,
}

/// No process is forked while this lives.
#[derive(Debug)]
pub(super) struct Held(MutexGuard<'static, BTreeMap<RawFd, Entry>>);

/// Keeps this process from being forked, to open or close a segment. Not twice in one thread.
pub(super) fn hold() -> Held {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        // SAFETY: the handlers are functions of this library, which is never unloaded while its
        // code runs; what they need is static.
        let code = unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
        assert_eq!(
            code, 0,
            "no memory to install a handler for forks: error {code} of pthread_atfork"
        );
    });
    // A panic under the lock leaves the map as it was before or behind one of its operations.
    Held(REGISTRY.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Held {
    /// Registers an open segment, and lets forks go on. A mapping that is `frozen` does not change
    /// in a child, whatever the parent does.
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

/// An open file and the mapping of it.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) mapping: Mapping,
    /// Our own handle: it carries the locks and stands for the inode.
    pub(super) file: File,
}

/// An open segment that the handler knows.
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
        // To the end of the function: a child must not inherit what is no longer registered.
        let mut held = hold();
        if !self.read_only {
            held.0.remove(&self.open.file.as_raw_fd());
        }
        // SAFETY: it is dropped only here, and not used again.
        unsafe { ManuallyDrop::drop(&mut self.open) };
    }
}

/// Where the lock is kept during a fork.
struct During(UnsafeCell<Option<Held>>);

// SAFETY: it is touched only by the handlers, and only by the thread that holds the lock on the
// registry meanwhile.
unsafe impl Sync for During {}

static DURING: During = During(UnsafeCell::new(None));

extern "C" fn before() {
    let held = Held(REGISTRY.lock().unwrap_or_else(PoisonError::into_inner));
    // SAFETY: we hold the lock, so no other thread is at this place.
    unsafe { *DURING.0.get() = Some(held) };
}

/// What `before` has put down.
fn held() -> Option<Held> {
    // SAFETY: the C library calls this in the thread that called `before`, or in its image in the
    // child; it still holds the lock.
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
        // What was inherited by us as it should be is inherited by our own children as it is: its
        // generation stays.
        entry.disown(*fd);
    }
}

impl Entry {
    /// Puts a private mapping and an open file of our own in the place of the parent's.
    fn disown(&self, fd: RawFd) {
        // SAFETY: the path is a C string; the call touches no other memory.
        let own = with_path(fd, |path| unsafe {
            libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK)
        });
        if own >= 0 {
            // By our own file: a mapping, too, keeps its open file, and the locks of that, alive.
            self.map_privately(own);
            replace(fd, own);
        } else {
            // Without `/proc`, without the permission to read the file, or without a descriptor to
            // spare.
            self.map_nothing();
            replace(fd, stand_in(fd));
        }
        if self.freeze {
            self.words().step_by(PAGE / WORD).for_each(|word| {
                // A write of what is there already, which makes the page our own. (Compilers know
                // that an addition of 0 is none.)
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
        // SAFETY: the range is a mapping of the segment, see the registry, and is replaced by one
        // of the same file, length and offset, so all pointers into it stay good. No other
        // thread exists in the child.
        let at = unsafe {
            libc::mmap(start.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, own, offset)
        };
        if at == libc::MAP_FAILED {
            give_up();
        }
    }

    /// For want of the file: memory of our own. Of a reader table it is a copy; a ring says that it
    /// was superseded, so that consumers in the child do not wait for messages that they cannot
    /// see.
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
        // whose words are valid; nothing else points to where that was. No other thread
        // exists in the child.
        let at = unsafe {
            libc::mremap(new, bytes, bytes, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, start)
        };
        if at == libc::MAP_FAILED {
            give_up();
        }
    }

    /// The words of the mapping; nothing else changes the mapping meanwhile.
    fn words(&self) -> impl Iterator<Item = &AtomicU64> {
        let Span { start, bytes, .. } = self.span;
        // SAFETY: inside the mapping, which is of atomic words and stays as long as the entry.
        (0..bytes / WORD).map(move |word| unsafe { &*start.wrapping_add(word) })
    }
}

/// Puts the file of `own` in the place of that of `fd`, which is a segment's.
fn replace(fd: RawFd, own: RawFd) {
    if own == fd {
        return;
    }
    // SAFETY: a system call on numbers. `fd` is the segment's, see the registry, and stays taken,
    // so its handle will not close somebody else's file when it is dropped.
    let code = unsafe { libc::dup3(own, fd, libc::O_CLOEXEC) };
    if code < 0 {
        give_up();
    }
    // SAFETY: nobody else knows the descriptor that was just opened.
    unsafe { libc::close(own) };
}

/// Calls `then` with the path that opens the file of a descriptor anew.
fn with_path(fd: RawFd, then: impl FnOnce(&CStr) -> libc::c_int) -> libc::c_int {
    // Room for the longest number and the zero behind it.
    let mut path = [0; 32];
    let written = write!(&mut path[..], "/proc/self/fd/{fd}");
    match CStr::from_bytes_until_nul(&path) {
        Ok(path) if written.is_ok() => then(path),
        _ => -1,
    }
}

/// A descriptor of nothing, which takes no path, as `/dev/null` would; closes `fd` for it if there
/// is none to spare.
fn stand_in(fd: RawFd) -> RawFd {
    for _ in 0..2 {
        // SAFETY: a system call without memory in it.
        let own = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if own >= 0 {
            return own;
        }
        // SAFETY: `fd` is the segment's; its number is taken again by our caller before anybody
        // else opens a file.
        unsafe { libc::close(fd) };
    }
    give_up()
}

/// A child that could write its parent's messages, or keep its parent's locks, must not go on.
fn give_up() -> ! {
    let text = b"seqring: a forked child could not let go of its parent's rings: the system has no memory or descriptors left\n";
    // SAFETY: the text is as long as it says.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
    // SAFETY: ends the process, and is allowed in a handler, which `std::process::abort` does not
    // promise.
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
            // Only by another test's segment may the number have been taken again meanwhile.
            let again = hold();
            assert!(again.0.get(&fd).is_none_or(|entry| entry.span.bytes != PAGE));
        }
        std::fs::remove_file(&path).unwrap();
    }
}
