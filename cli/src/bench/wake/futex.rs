//! The kernel's compare-and-sleep itself, as the yardstick: what any wake-up in another process
//! costs, whoever asks for it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Sleeps while the lower half of `word` is that of `expected`, until it is woken, or for at most
/// `timeout`. Returns whether it was woken; otherwise the word was another one, the time was up, or
/// there was a signal.
///
/// # Errors
///
/// When the kernel refuses.
pub fn wait(word: &AtomicU64, expected: u64, timeout: Duration) -> Result<bool> {
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // The kernel compares 32 bits.
    let expected = expected as u32;
    // SAFETY: the address is that of four mapped, aligned bytes as long as `word` is borrowed; the
    // kernel loads them atomically, and only that. `timeout` lives through the call.
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
    if code == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ETIMEDOUT | libc::EINTR) => Ok(false),
        _ => Err(error).context("the kernel refuses to let this process sleep on a futex"),
    }
}

/// Adds one to `word` and wakes who sleeps on it.
pub fn advance(word: &AtomicU64) {
    // Release: what was written before is seen by who sees the number.
    word.fetch_add(1, Ordering::Release);
    // SAFETY: the kernel does not access the word, only its address, which is mapped as long as
    // `word` is borrowed. It cannot fail in any way that matters: who sleeps does so for a
    // bounded time.
    unsafe { libc::syscall(libc::SYS_futex, lower_half(word), libc::FUTEX_WAKE, 1) };
}

/// Where the lower 32 bits of `word` are.
fn lower_half(word: &AtomicU64) -> *const u32 {
    let halves = word.as_ptr().cast::<u32>().cast_const();
    if cfg!(target_endian = "big") { halves.wrapping_add(1) } else { halves }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_word_that_changed_is_not_slept_on() {
        assert!(!wait(&AtomicU64::new(1), 0, Duration::from_secs(60)).unwrap());
        assert!(!wait(&AtomicU64::new(0), 0, Duration::from_millis(1)).unwrap());
    }

    #[test]
    fn whoever_sleeps_is_woken() {
        let word = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                while word.load(Ordering::Acquire) == 0 {
                    // Returns early or late, but at all: a minute would fail the test by its
                    // length.
                    wait(&word, 0, Duration::from_secs(60)).unwrap();
                }
            });
            advance(&word);
        });
        assert_eq!(word.load(Ordering::Relaxed), 1);
    }
}
