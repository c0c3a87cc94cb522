//! The kernel's compare-and-sleep, as far as the bell relies on it.

use std::sync::atomic::Ordering;

use loom::sync::{Condvar, Mutex};
use seqring::sync::AtomicU64;

/// Where threads sleep on words. Comparing and falling asleep is one step, as far as wakers are
/// concerned; who is woken does not learn by which word. The clock stands still until
/// [`Futex::expire`]: before that, a sleeper that nobody wakes sleeps for ever, which loom calls
/// a deadlock.
#[derive(Debug)]
pub struct Futex {
    expired: Mutex<bool>,
    woken: Condvar,
}

impl Default for Futex {
    fn default() -> Self {
        Self { expired: Mutex::new(false), woken: Condvar::new() }
    }
}

impl Futex {
    /// Sleeps while all words are as expected, until the next wake, or for as long as a thread ever
    /// does. Returns whether it slept.
    pub fn wait(&self, words: &[(&AtomicU64, u32)]) -> bool {
        let expired = self.expired.lock().unwrap();
        // Relaxed: whoever changed a word before it woke somebody here holds the lock behind that.
        let as_expected =
            words.iter().all(|(word, expected)| word.load(Ordering::Relaxed) as u32 == *expected);
        let sleeps = as_expected && !*expired;
        if sleeps {
            drop(self.woken.wait(expired).unwrap());
        }
        sleeps
    }

    /// Wakes all who sleep. (The kernel wakes those who sleep on one word; the others would look
    /// again and fall asleep anew.)
    pub fn wake_all(&self) {
        let _expired = self.expired.lock().unwrap();
        self.woken.notify_all();
    }

    /// Lets the time pass that sleepers sleep at most.
    pub fn expire(&self) {
        *self.expired.lock().unwrap() = true;
        self.woken.notify_all();
    }
}
