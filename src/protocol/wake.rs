//! The bell: how one side sleeps until the other has done something, without a system call of the
//! other side while nobody sleeps.
//!
//! A bell is one word. Its lowest bit says that somebody may be asleep; the bits above it count how
//! often the bell has rung. The kernel compares the lower half of the word, 31 bits of the count
//! and the bit, when a thread goes to sleep on it (a *futex*).
//!
//! ```text
//! sleeper                                        waker
//! word |= 1                    Relaxed  (1)      what the sleeper waits for     (its own orderings)
//! fence(SeqCst)                         (A)      light barrier, or fence(SeqCst)  (B)
//! look on for a while; is it there by now?       is the bit of the word set?    Relaxed
//! sleep while the word is that of (1)            word <- word + 1, if it is still the same (clears the bit, counts)
//!                                                wake all that sleep on the word
//! ```
//!
//! Where (B) is a fence, (A) and (B) order on each side the store before the load: at least one of
//! the two sees the other's store. Either the sleeper finds what it waits for, or the waker finds
//! the bit. The word changes before the waker wakes, so a sleeper that has raised the bit
//! and is not asleep yet finds another word than it expects, and does not fall asleep.
//!
//! There may be any number of sleepers and wakers. The bit is a bit and not a count of sleepers,
//! so:
//!
//! * **A sleeper that is killed** behind (1) leaves the bit set: the next waker wakes nobody, once.
//!   Nothing is to be repaired.
//! * **A waker that is killed** between the change of the word and the wake leaves sleepers behind
//!   that nobody knows of: the bit is clear, so that later wakers wake them only if another sleeper
//!   has raised it again. What bounds their sleep is the time that they sleep at most, and for a
//!   ring's consumers also the next producer that opens it, which wakes whoever sleeps there, asked
//!   or not.
//! * **The count wraps around**: a sleeper that is stopped between (1) and its sleep for exactly
//!   2^31 rings, or a multiple, falls asleep although the bell has rung. As each ring needs a
//!   sleeper that raises the bit and a system call that wakes it, that is ten minutes of a bell
//!   that does nothing else; and again the sleep is bounded. So is that of a task which waits again
//!   after as many, and takes its bit for one that has been up ever since
//!   ([`Settled`](crate::wait::Settled)).
//!
//! # The light barrier: time
//! (B) stands in each publication, and a fence costs several of those. So what wakers execute is
//! light: it keeps the compiler, and only that, from moving the load ahead of the stores. The
//! sleeper makes up for it: behind (A) it looks on until the bit has been up for twenty
//! microseconds, and only then sleeps.
//!
//! A waker that has not seen the bit has loaded it before that time. Its store comes before the
//! load in the program, though the processor may execute them the other way round: by as much as it
//! looks ahead, less than a microsecond, as an interrupt discards what has not retired. Then the
//! store waits in the store buffer, which drains by itself, whatever the core does next; and if the
//! thread is taken from the core, the kernel executes a barrier. So the last look sees what the
//! store has done. No memory model promises that: architectures say "in finite time". Measured on
//! x86-64, a message was visible at most 1.7 microseconds behind the bit that its waker had missed,
//! with the store buffer full of lines that another core had written, and 11 behind a hundred
//! streaming stores; this crate has none, but a program may have some ahead of a message. Between
//! sockets, behind stores to devices, and on aarch64 nothing was measured. Were it ever longer, the
//! message would be found with the next one, or when the sleeper looks whether the other side is
//! alive: a thread first after 10 milliseconds, and later after 80, or 20 for a producer that waits
//! for room; a task after 80.
//!
//! The kernel's own means, a barrier on every core that runs a registered process (`membarrier`,
//! global expedited), misses cores: see `docs/design.md`.

use crate::failpoint::{Step, hit};
use crate::sync::{AtomicU64, Ordering, compiler_fence, fence};

/// Somebody may be asleep.
const WAITERS: u64 = 1;

/// What stands between a waker's stores and its look at the bell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barrier {
    /// Nothing that the processor sees: sleepers let time pass behind [`prepare_wait`].
    Light,
    /// A fence.
    Full,
}

/// Says that the calling thread is about to sleep, and returns the value to sleep on. It must look
/// once more before it does, and, for wakers whose barrier is light, when the bit has been up for
/// long enough.
pub fn prepare_wait(word: &AtomicU64) -> u32 {
    // Relaxed: ordered before the look that follows by the fence.
    let raised = word.fetch_or(WAITERS, Ordering::Relaxed) | WAITERS;
    // SeqCst (A): pairs with (B) in `has_waiters`. Without it, the look that follows may be over
    // before the bit is visible, and the waker's look at the bit before the sleeper's: it
    // sleeps, and nobody knows.
    fence(Ordering::SeqCst);
    hit(Step::SleepRaise);
    raised as u32
}

/// The value to sleep on for who cannot raise the bit: nobody needs to wake it, so it must not
/// sleep for long.
pub fn load_key(word: &AtomicU64) -> u32 {
    // Relaxed: a hint.
    word.load(Ordering::Relaxed) as u32
}

/// Whether somebody may be asleep; asked behind what a sleeper may wait for. If so, [`notify`].
#[inline(always)]
pub fn has_waiters(word: &AtomicU64, barrier: Barrier) -> bool {
    // Loom knows no time, so in the models each executes a barrier.
    if barrier == Barrier::Light && !cfg!(loom) {
        compiler_fence(Ordering::SeqCst);
    } else {
        // SeqCst (B): pairs with (A) in `prepare_wait`, see there.
        fence(Ordering::SeqCst);
    }
    // Relaxed: ordered by the barrier; nothing is concluded from the word's past.
    word.load(Ordering::Relaxed) & WAITERS != 0
}

/// Lowers the bit and counts; returns whether the caller must wake all who sleep on the word.
#[must_use]
pub fn notify(word: &AtomicU64) -> bool {
    let raised = word.load(Ordering::Relaxed);
    // The count stands above the bit, so one more is the next count with the bit cleared. It wraps
    // around.
    //
    // Relaxed: whoever raises the bit anew looks behind a fence of its own.
    //
    // If the word has changed, another waker has rung since, and wakes those who slept; who raised
    // the bit behind that looks once more behind its fence, and behind the time that it owes to
    // wakers whose barrier is light, and finds what this one has done.
    let rung = raised & WAITERS != 0
        && word
            .compare_exchange(raised, raised.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
    if rung {
        hit(Step::WakeBell);
    }
    rung
}

/// Says that a thread of this process shall not go on waiting; its `word` is 0 until then. The
/// caller wakes who sleeps on it.
pub fn cancel(word: &AtomicU64) {
    // Release: pairs with the acquire load in `is_cancelled`. A thread that is told to stop sees
    // why.
    word.store(1, Ordering::Release);
}

/// Whether [`cancel`] has been called. A thread that sleeps while the word is 0 cannot miss it.
pub fn is_cancelled(word: &AtomicU64) -> bool {
    // Acquire: pairs with the release store in `cancel`, see there.
    word.load(Ordering::Acquire) != 0
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_bell_rings_once_for_any_number_of_sleepers() {
        let word = AtomicU64::new(0);
        assert!(!has_waiters(&word, Barrier::Light));
        assert!(!notify(&word), "nobody sleeps");
        let first = prepare_wait(&word);
        assert_eq!(prepare_wait(&word), first, "the second sleeper sleeps on the same value");
        assert_eq!(load_key(&word), first);
        assert!(has_waiters(&word, Barrier::Light) && has_waiters(&word, Barrier::Full));
        assert!(notify(&word));
        assert!(!has_waiters(&word, Barrier::Full));
        assert!(!notify(&word), "who has been woken need not be woken again");
        assert_ne!(load_key(&word), first, "who was about to sleep must not");
        assert_ne!(prepare_wait(&word), first);
    }

    #[test]
    fn the_count_wraps_around() {
        for last in [u64::from(u32::MAX), u64::MAX] {
            let word = AtomicU64::new(last - 1);
            let expected = prepare_wait(&word);
            assert_eq!(expected, u32::MAX);
            assert!(notify(&word));
            assert_eq!(load_key(&word), 0, "the next count, without the bit");
            assert_eq!(prepare_wait(&word), 1);
        }
    }

    #[test]
    fn a_cancelled_word_is_no_longer_the_one_to_sleep_on() {
        let word = AtomicU64::new(0);
        assert!(!is_cancelled(&word));
        cancel(&word);
        assert!(is_cancelled(&word));
        assert_ne!(load_key(&word), 0);
    }
}
