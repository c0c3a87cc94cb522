//! The event count: one side sleeps until the other side has done something. While nobody sleeps,
//! the other side makes no system call.
//!
//! An event count is one word, the *wake word*. Its lowest bit, the *waiters bit*, says that a
//! thread may be asleep; the bits above it count the notifications. When a thread goes to sleep on
//! the word (a *futex*), the kernel compares the lower half: 31 bits of the count and the waiters
//! bit.
//!
//! ```text
//! sleeper                                      waker
//! word |= 1                 Relaxed  (1)       store what the sleeper waits for (own orderings)
//! fence(SeqCst)                      (A)       light barrier, or fence(SeqCst)    (B)
//! poll for a while; need it still wait?        is the bit of the word set?      Relaxed
//! sleep while the word is that of (1)          word <- word + 1, if it is unchanged
//!                                                  (clears the bit, counts)
//!                                              wake all threads that sleep on the word
//! ```
//!
//! Where (B) is a fence, (A) and (B) order the store before the load on each side, so at least one
//! of the two sides sees the other's store. Either the sleeper finds what it waits for, or the
//! waker finds the bit set. The word changes before the waker calls the kernel. So a sleeper that
//! has set the bit and is not asleep yet finds a different word than it expects, and does not fall
//! asleep.
//!
//! There may be any number of sleepers and wakers. The bit is a flag and not a count of sleepers,
//! which has these consequences:
//!
//! * **A sleeper that is killed** after (1) leaves the bit set: the next waker makes one system
//!   call that wakes no thread. Nothing needs repair.
//! * **A waker that is killed** between the change of the word and the wake leaves threads asleep
//!   although the bit is clear. Later wakers wake them only if another sleeper has set the bit
//!   again. Two things bound their sleep: every sleep has a longest duration, and the next producer
//!   that opens a ring wakes all of its sleeping consumers regardless of the bit.
//! * **The count wraps around**: a sleeper that is stopped between (1) and its sleep for exactly
//!   2^31 notifications, or a multiple, falls asleep although it has been notified. Each
//!   notification needs a sleeper that sets the bit and a system call that wakes it, so this takes
//!   minutes of nothing else, and again the sleep is bounded. The same holds for a task that waits
//!   again after that many notifications, and takes its bit for one that has been set all the time
//!   ([`Settled`](crate::wait::Settled)).
//!
//! # The light barrier: time
//! (B) is part of every publication, and a fence there would cost more than everything else in the
//! publication of a small message. So wakers use a *light* barrier, which keeps only the compiler
//! from moving the load before the stores. The sleeper makes up for the missing fence: after (A) it
//! keeps polling until the bit has been set for twenty microseconds, and only then sleeps.
//!
//! Consider a waker that has not seen the bit: it loaded the word before the bit was visible. Its
//! store comes before that load in program order, although the processor may execute the load
//! first. The store is then late by at most the time that the processor executes ahead, less than a
//! microsecond, because an interrupt discards whatever has not retired. After that, the store is in
//! the store buffer, which drains by itself, whatever the core does next; and if the thread is
//! taken from the core, the kernel executes a barrier. So the sleeper's last poll, twenty
//! microseconds later, sees the store.
//!
//! No memory model promises that: architectures say "in finite time". All delays measured on x86-64
//! were shorter than the twenty microseconds, also with a store buffer full of lines that another
//! core had written, and after a series of streaming stores. This crate uses no streaming stores,
//! but a program may have some before a message. Nothing was measured between sockets, after stores
//! to devices, or on aarch64.
//!
//! Were a delay ever longer, the message would be found together with the next one, or when the
//! sleeper checks whether the other side is alive. A thread makes that check first after 10
//! milliseconds, and later every 80, or every 20 for a producer that waits for space; a task makes
//! it every 80.
//!
//! The kernel offers a barrier on every core that runs a registered process (`membarrier`, global
//! expedited), but it misses cores: see `docs/design.md`.

use crate::failpoint::{Step, hit};
use crate::sync::{AtomicU64, Ordering, compiler_fence, fence};

/// The waiters bit: a thread may be asleep.
const WAITERS: u64 = 1;

/// What separates a waker's stores from its load of the waiters bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barrier {
    /// Only a barrier for the compiler: sleepers let time pass after [`prepare_wait`].
    Light,
    /// A fence of the processor.
    Full,
}

/// Sets the waiters bit: the calling thread is about to sleep. Returns the value to sleep on.
/// Before it sleeps, the thread must check once more whether it still has to wait. If the wakers'
/// barrier is light, the last check must come after the bit has been set for long enough.
pub fn prepare_wait(word: &AtomicU64) -> u32 {
    // Relaxed: the fence orders it before the check that follows.
    let raised = word.fetch_or(WAITERS, Ordering::Relaxed) | WAITERS;
    // SeqCst (A): pairs with (B) in `has_waiters`. Without it, the sleeper's check may be over
    // before the bit is visible, and the waker's load of the bit may come before that: the sleeper
    // sleeps, and no waker knows.
    fence(Ordering::SeqCst);
    hit(Step::SleepRaise);
    raised as u32
}

/// The value to sleep on for a thread that cannot set the bit. No waker knows about that thread, so
/// it must not sleep for long.
pub fn load_key(word: &AtomicU64) -> u32 {
    // Relaxed: a hint.
    word.load(Ordering::Relaxed) as u32
}

/// Whether a thread may be asleep. Called after the stores that a sleeper may wait for. If the
/// result is true, the caller calls [`notify`].
#[inline(always)]
pub fn has_waiters(word: &AtomicU64, barrier: Barrier) -> bool {
    // Loom does not model time, so in the models every waker executes a fence.
    if barrier == Barrier::Light && !cfg!(loom) {
        compiler_fence(Ordering::SeqCst);
    } else {
        // SeqCst (B): pairs with (A) in `prepare_wait`, see there.
        fence(Ordering::SeqCst);
    }
    // Relaxed: the barrier orders it, and nothing is concluded from the history of the word.
    word.load(Ordering::Relaxed) & WAITERS != 0
}

/// Clears the bit and counts the notification. Returns whether the caller must wake all threads
/// that sleep on the word.
#[must_use]
pub fn notify(word: &AtomicU64) -> bool {
    let raised = word.load(Ordering::Relaxed);
    // The count is in the bits above the waiters bit, so adding one to a word with the bit set
    // yields the next count with the bit cleared. It wraps around.
    //
    // Relaxed: a sleeper that sets the bit again checks after a fence of its own.
    //
    // If the exchange fails, another waker has notified meanwhile, and wakes those that slept. A
    // sleeper that has set the bit after that checks again after its fence, and after the time that
    // it waits for wakers with a light barrier, and finds what this waker has done.
    let rung = raised & WAITERS != 0
        && word
            .compare_exchange(raised, raised.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
    if rung {
        hit(Step::WakeBell);
    }
    rung
}

/// Tells a thread of this process to stop waiting. Its `word` is 0 until then. The caller wakes the
/// threads that sleep on the word.
pub fn cancel(word: &AtomicU64) {
    // Release: pairs with the acquire load in `is_cancelled`. A thread that is told to stop sees
    // everything that came before.
    word.store(1, Ordering::Release);
}

/// Whether [`cancel`] has been called. A thread that sleeps while the word is 0 cannot miss it.
pub fn is_cancelled(word: &AtomicU64) -> bool {
    // Acquire: pairs with the release store in `cancel`; see there.
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
