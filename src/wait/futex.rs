//! The kernel's compare-and-sleep on a word of memory, between processes.
//!
//! All calls are for shared memory (no `FUTEX_PRIVATE_FLAG`): the kernel finds the sleepers of a
//! word by the position of the word in the file, whatever the address at which a process has mapped
//! it. A read-only mapping is enough for sleeping and for waking.

use std::io;
use std::thread;
use std::time::Duration;

use crate::sync::AtomicU64;

/// The kernel sleeps on at most this many words at once.
const MOST_WORDS: usize = 128;

/// Length of the sleep where the kernel refuses the system call: bounds both the load and the
/// delay.
const NAP: Duration = Duration::from_millis(1);

/// One word of [`wait_any`], in the kernel's layout (`struct futex_waitv`).
#[repr(C)]
struct Waiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// From <linux/futex.h>: the word has 32 bits. Older versions of the crate `libc` do not have it.
const SIZE_32: u32 = 2;

/// Sleeps while the lower half of `word` is `expected`, until another thread wakes it, or for at
/// most `timeout`. May return at any time, for example because of a signal: the caller checks again
/// what it waits for.
///
/// Where the kernel refuses (in a sandbox), the thread sleeps for a millisecond instead, or for the
/// timeout if that is shorter.
pub(crate) fn wait(word: &AtomicU64, expected: u32, timeout: Duration) {
    let timeout = timespec(timeout);
    // SAFETY: the address points at four mapped, aligned bytes as long as `word` is borrowed. The
    // kernel loads them atomically and does nothing else with them. Other threads access the whole
    // word: the kernel's load is not one of the language, and yields nothing to the language but
    // equal or not equal. `timeout` lives through the call.
    let code = unsafe {
        libc::syscall(
            libc::SYS_futex,
            lower_half(word),
            libc::FUTEX_WAIT,
            expected,
            &raw const timeout,
            std::ptr::null::<u32>(),
            0,
        )
    };
    if code == -1 && is_refusal(&io::Error::last_os_error()) {
        thread::sleep(duration(&timeout).min(NAP));
    }
}

/// Wakes all threads that sleep on `word`, in any process.
pub(crate) fn wake_all(word: &AtomicU64) {
    // SAFETY: the kernel does not access the word, only its address, which is mapped as long as
    // `word` is borrowed. The call cannot fail in any way that matters: sleepers sleep for a
    // bounded time.
    unsafe { libc::syscall(libc::SYS_futex, lower_half(word), libc::FUTEX_WAKE, i32::MAX) };
}

/// As [`wait`], for several words: sleeps while each of them is as expected, until a thread wakes
/// one of them.
///
/// Where the kernel cannot do that (before 5.16, or in a sandbox), the thread sleeps on the first
/// word alone, for at most `nap`. Words beyond the kernel's limit of 128 are not slept on, so with
/// more words `nap` bounds the sleep too.
pub(crate) fn wait_any(words: &[(&AtomicU64, u32)], timeout: Duration, nap: Duration) {
    let (first, timeout) = match words {
        [] => return thread::sleep(timeout),
        [(only, expected)] => return wait(only, *expected, timeout),
        [first, ..] if words.len() > MOST_WORDS => (first, timeout.min(nap)),
        [first, ..] => (first, timeout),
    };
    let Some(deadline) = deadline(timeout) else {
        return wait(first.0, first.1, timeout.min(nap));
    };
    let waiters: Vec<Waiter> = words
        .iter()
        .take(MOST_WORDS)
        .map(|(word, expected)| Waiter {
            value: (*expected).into(),
            address: lower_half(word) as u64,
            flags: SIZE_32,
            reserved: 0,
        })
        .collect();
    // SAFETY: as in `wait`, for each of the words. The list and the deadline live through the call,
    // and the length is that of the list.
    let code = unsafe {
        libc::syscall(
            libc::SYS_futex_waitv,
            waiters.as_ptr(),
            waiters.len(),
            0,
            &raw const deadline,
            libc::CLOCK_MONOTONIC,
        )
    };
    if code == -1 && is_refusal(&io::Error::last_os_error()) {
        wait(first.0, first.1, timeout.min(nap));
    }
}

/// Whether the kernel refused the call. Otherwise the word had another value, the time is up, or
/// there was a signal.
fn is_refusal(error: &io::Error) -> bool {
    !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ETIMEDOUT | libc::EINTR))
}

/// The address of the lower 32 bits of `word`.
fn lower_half(word: &AtomicU64) -> *const u32 {
    let halves = word.as_ptr().cast::<u32>().cast_const();
    if cfg!(target_endian = "big") { halves.wrapping_add(1) } else { halves }
}

/// The time `timeout` from now, on the clock that the kernel is asked to use.
fn deadline(timeout: Duration) -> Option<libc::timespec> {
    let mut now = std::mem::MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `now` is writable and lives through the call.
    let code = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr()) };
    if code != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so it has filled the structure.
    let now = unsafe { now.assume_init() };
    Some(timespec(duration(&now).saturating_add(timeout)))
}

fn timespec(duration: Duration) -> libc::timespec {
    // Bounded to a range that the kernel accepts; no caller waits for longer.
    const LONGEST: u64 = u32::MAX as u64;
    libc::timespec {
        tv_sec: duration.as_secs().min(LONGEST) as libc::time_t,
        tv_nsec: duration.subsec_nanos().into(),
    }
}

fn duration(timespec: &libc::timespec) -> Duration {
    Duration::new(timespec.tv_sec as u64, timespec.tv_nsec as u32)
}
