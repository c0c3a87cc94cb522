//! The phases of a wait: of a consumer for a message, and of a producer for room.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::protocol::wake;
use crate::sync::{AtomicU64, Ordering};
use crate::wait::{Canceller, WaitStrategy, futex};

/// Looks between two looks at the clock, which cost as much as several: about half a microsecond.
pub(crate) const LOOKS: u32 = 32;
/// Spinning for longer than this costs more than falling asleep and being woken.
const LONGEST_SPIN: Duration = Duration::from_micros(50);
/// Where spinning does not pay, this much is tried all the same.
const SHORTEST_SPIN: Duration = Duration::from_micros(2);
/// First nap of a sleeper that nobody wakes; each is twice the one before.
const SHORTEST_NAP: Duration = Duration::from_micros(20);
/// Longest nap: bounds the latency of a sleeper that nobody wakes, and its load.
const LONGEST_NAP: Duration = Duration::from_millis(1);
/// The first time that a wait is interrupted for a look at the other side's life; each is twice the
/// one before, for those who sleep.
const FIRST_CHECK: Duration = Duration::from_millis(10);
/// Longest time between two of these looks of one who waits for something to do. A death must be
/// noticed within a tenth of a second, and an idle sleeper must not use a thousandth of the
/// processor: each look costs it some thirty to a hundred microseconds, wake-up and all, by the
/// host.
pub(crate) const IDLE_CHECK: Duration = Duration::from_millis(80);
/// Longest time between two of these looks of one who is held up: it has work to do, and whoever
/// holds it up may be dead.
pub(crate) const HELD_UP_CHECK: Duration = Duration::from_millis(20);
/// What a sleeper that can be cancelled sleeps at most, where the kernel cannot let it sleep on two
/// words.
const CANCELLABLE: Duration = Duration::from_millis(10);
/// When a bit has been up for so long, either a waker with a light barrier sees it, or what that
/// has done before is seen; see [`bell`](crate::protocol::wake). Two microseconds were the longest
/// that was measured. Each sleep pays for it; a nap until a clock rings would cost twenty to forty.
pub(super) const SETTLED: Duration = Duration::from_micros(20);

/// What a wait ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WakeReason {
    /// There is no need to wait any more.
    Ready,
    /// It is time to look whether there is anything to wait for: whether the other side lives.
    Check,
    /// The deadline has passed.
    Timeout,
    /// Somebody has called [`Canceller::cancel`].
    Cancelled,
}

/// What the calling thread may do to the word of a bell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Only read it: it sleeps for short times.
    ReadOnly,
    /// Raise its bit, and rely on being woken once that has [settled](Settled).
    Raise,
}

/// A bell to sleep by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bell<'a> {
    pub(crate) word: &'a AtomicU64,
    pub(crate) access: Access,
}

impl Bell<'_> {
    /// Raises the bit, if it may; returns the value to sleep on.
    fn raise(&self) -> u32 {
        match self.access {
            Access::Raise => wake::prepare_wait(self.word),
            Access::ReadOnly => wake::load_key(self.word),
        }
    }

    /// For who sleeps elsewhere: the value to sleep on, and whether somebody rings, once that has
    /// [settled](Settled).
    #[cfg(feature = "async")]
    pub(crate) fn prepare(&self) -> (u32, bool) {
        (self.raise(), self.access == Access::Raise)
    }
}

/// How one consumer or producer waits, and what it has learnt from it; lives as long as that does.
///
/// Everything is done by shared reference, so that a cold path can have it without the hot state
/// around it.
#[derive(Debug)]
pub(crate) struct Waiter {
    strategy: WaitStrategy,
    /// Longest time between two looks at the other side's life, asleep.
    longest_check: Duration,
    /// How long to spin before falling asleep, in nanoseconds.
    spin: AtomicU64,
    sleeps: AtomicU64,
    canceller: OnceLock<Canceller>,
}

impl Waiter {
    /// One that sleeps for at most `longest_check`: [`IDLE_CHECK`] or [`HELD_UP_CHECK`].
    pub(crate) fn new(strategy: WaitStrategy, longest_check: Duration) -> Self {
        let spin = AtomicU64::new(nanoseconds(LONGEST_SPIN));
        Self {
            strategy,
            longest_check,
            spin,
            sleeps: AtomicU64::new(0),
            canceller: OnceLock::new(),
        }
    }

    /// How often it has fallen asleep to be woken; naps are not counted.
    pub(crate) fn sleeps(&self) -> u64 {
        self.sleeps.load(Ordering::Relaxed)
    }

    /// A handle that ends its waits from other threads. A wait that is under way when the first one
    /// is made does not know it: make it first.
    pub(crate) fn canceller(&self) -> Canceller {
        self.canceller.get_or_init(Canceller::default).clone()
    }

    /// Begins to wait, for as long as it takes or until `deadline`.
    #[inline(always)]
    pub(crate) fn start(&self, deadline: Option<Instant>) -> Waiting<'_> {
        Waiting {
            waiter: self,
            deadline,
            pace: Pace::Spin,
            clock: None,
            period: FIRST_CHECK,
            nap: SHORTEST_NAP,
            settled: Settled::default(),
        }
    }

    fn is_cancelled(&self) -> bool {
        self.canceller.get().is_some_and(Canceller::is_cancelled)
    }

    /// Whether to go on spinning when a wait has lasted for so long.
    pub(super) fn spins(&self, waited: Duration) -> bool {
        match self.strategy {
            WaitStrategy::Spin => true,
            WaitStrategy::Yield => waited < LONGEST_SPIN,
            WaitStrategy::Park => nanoseconds(waited) < self.spin.load(Ordering::Relaxed),
        }
    }

    /// Lengthens or shortens the spinning: would the longest have been enough for a wait of this
    /// length?
    pub(super) fn learn(&self, waited: Duration) {
        let spin = Duration::from_nanos(self.spin.load(Ordering::Relaxed));
        let spin = if waited <= LONGEST_SPIN { spin * 2 } else { spin / 2 };
        self.spin.store(nanoseconds(spin.clamp(SHORTEST_SPIN, LONGEST_SPIN)), Ordering::Relaxed);
    }
}

/// One wait, from its first look to its last.
#[derive(Debug)]
pub(crate) struct Waiting<'w> {
    waiter: &'w Waiter,
    deadline: Option<Instant>,
    pace: Pace,
    /// Nothing until the first looks have failed: most waits of a busy ring never see the clock.
    clock: Option<Clock>,
    period: Duration,
    nap: Duration,
    settled: Settled<Vec<u32>>,
}

/// What to do between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Spin,
    Yield,
    Sleep,
}

#[derive(Debug, Clone, Copy)]
struct Clock {
    began: Instant,
    next_check: Instant,
}

impl Waiting<'_> {
    /// Waits while `must_wait` says so. Whoever makes it say otherwise rings one of `bells` behind
    /// that; without any, it naps.
    ///
    /// After [`WakeReason::Check`], which comes at least as often as [`Waiter::new`] was told, it
    /// is called again, with the same bells, if there is still something to wait for.
    pub(crate) fn until(
        &mut self,
        bells: &[Bell<'_>],
        mut must_wait: impl FnMut() -> bool,
    ) -> WakeReason {
        loop {
            let looks = if self.pace == Pace::Spin { LOOKS } else { 1 };
            if !look(looks, &mut must_wait) {
                if let Some(clock) = self.clock {
                    self.waiter.learn(clock.began.elapsed());
                }
                return WakeReason::Ready;
            }
            let now = Instant::now();
            let period = self.period;
            let clock =
                self.clock.get_or_insert_with(|| Clock { began: now, next_check: now + period });
            if self.waiter.is_cancelled() {
                return WakeReason::Cancelled;
            }
            if self.deadline.is_some_and(|deadline| now >= deadline) {
                return WakeReason::Timeout;
            }
            if now >= clock.next_check {
                if self.pace == Pace::Sleep {
                    self.period = (period * 2).min(self.waiter.longest_check);
                }
                clock.next_check = now + self.period;
                return WakeReason::Check;
            }
            let until =
                self.deadline.map_or(clock.next_check, |deadline| deadline.min(clock.next_check));
            self.pace = match self.waiter.strategy {
                _ if self.waiter.spins(now - clock.began) => Pace::Spin,
                WaitStrategy::Park => Pace::Sleep,
                _ => Pace::Yield,
            };
            match self.pace {
                Pace::Spin => {}
                Pace::Yield => thread::yield_now(),
                Pace::Sleep => self.sleep(bells, until, &mut must_wait),
            }
        }
    }

    /// Sleeps until a bell rings, but no longer than `until`, unless there is no need to wait any
    /// more.
    fn sleep(&mut self, bells: &[Bell<'_>], until: Instant, must_wait: &mut impl FnMut() -> bool) {
        let raised: Vec<u32> = bells.iter().map(Bell::raise).collect();
        let relies = !bells.is_empty() && bells.iter().all(|bell| bell.access == Access::Raise);
        let must_wait = if relies { self.settled.look(&raised, must_wait) } else { must_wait() };
        if !must_wait {
            return;
        }
        let limit = until.saturating_duration_since(Instant::now());
        let limit = if relies {
            self.waiter.sleeps.fetch_add(1, Ordering::Relaxed);
            limit
        } else {
            let nap = self.nap;
            self.nap = (nap * 2).min(LONGEST_NAP);
            limit.min(nap)
        };
        let cancel = self.waiter.canceller.get().map(|canceller| (canceller.word(), 0));
        let words: Vec<(&AtomicU64, u32)> = bells
            .iter()
            .zip(raised)
            .map(|(bell, expected)| (bell.word, expected))
            .chain(cancel)
            .collect();
        futex::wait_any(&words, limit, if bells.len() > 1 { LONGEST_NAP } else { CANCELLABLE });
    }
}

/// What bells were whose bits have been up for long enough: those who ring them see the bit, or
/// have been seen.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Settled<T>(Option<T>);

impl<T: PartialEq + Clone> Settled<T> {
    /// Looks until that is so of bells that were raised just now, to `raised`; returns whether
    /// there is still need to wait.
    pub(crate) fn look(&mut self, raised: &T, mut must_wait: impl FnMut() -> bool) -> bool {
        // Where no bell has rung since, the bits have been up ever since.
        if self.0.as_ref() == Some(raised) {
            return must_wait();
        }
        let must_wait = settle(must_wait);
        if must_wait {
            self.0 = Some(raised.clone());
        }
        must_wait
    }
}

/// Looks until a bit that was raised just now has been up for long enough.
pub(super) fn settle(mut must_wait: impl FnMut() -> bool) -> bool {
    let raised = Instant::now();
    loop {
        // Ahead of the looks: the last one must come behind that time.
        let settled = raised.elapsed() >= SETTLED;
        if !look(LOOKS, &mut must_wait) {
            return false;
        }
        if settled {
            return true;
        }
    }
}

/// Looks up to `looks` times; returns whether there is still need to wait.
#[inline(always)]
pub(crate) fn look(looks: u32, mut must_wait: impl FnMut() -> bool) -> bool {
    for _ in 0..looks {
        if !must_wait() {
            return false;
        }
        std::hint::spin_loop();
    }
    true
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}
