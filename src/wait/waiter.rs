//! The phases of a wait: of a consumer for a message, and of a producer for space.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::protocol::wake;
use crate::sync::{AtomicU64, Ordering};
use crate::wait::{Canceller, WaitStrategy, futex};

/// Number of polls between two readings of the clock, which cost as much as several polls. About
/// half a microsecond.
pub(crate) const LOOKS: u32 = 32;
/// Longest spinning. Spinning for longer costs more than falling asleep and being woken.
const LONGEST_SPIN: Duration = Duration::from_micros(50);
/// Shortest spinning, done even where spinning does not pay.
const SHORTEST_SPIN: Duration = Duration::from_micros(2);
/// First nap of a sleeper that no waker wakes. Each further nap is twice as long.
const SHORTEST_NAP: Duration = Duration::from_micros(20);
/// Longest nap: bounds the latency and the load of a sleeper that no waker wakes.
const LONGEST_NAP: Duration = Duration::from_millis(1);
/// Time until a wait is first interrupted for a check whether the other side is alive. While the
/// thread sleeps, each further interval is twice as long.
const FIRST_CHECK: Duration = Duration::from_millis(10);
/// Longest time between two such checks of a thread that waits for something to do. A death must be
/// noticed within a tenth of a second, and the checks of an idle sleeper, with their wake-ups,
/// should take no more than about a thousandth of the processor.
pub(crate) const IDLE_CHECK: Duration = Duration::from_millis(80);
/// Longest time between two such checks of a thread that is held up: it has work to do, and the
/// process that holds it up may be dead.
pub(crate) const HELD_UP_CHECK: Duration = Duration::from_millis(20);
/// Longest sleep of a thread that can be cancelled, where the kernel cannot let it sleep on two
/// words.
const CANCELLABLE: Duration = Duration::from_millis(10);
/// Once a waiters bit has been set for this long, a waker with a light barrier either sees the bit,
/// or has made its earlier stores visible; see [`wake`](crate::protocol::wake). This is well above
/// the longest delay measured for ordinary stores. Each sleep pays for it by polling, which is
/// cheaper than a nap until a timer fires.
pub(super) const SETTLED: Duration = Duration::from_micros(20);

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WakeReason {
    /// There is no need to wait any longer.
    Ready,
    /// It is time to check whether there is anything to wait for: whether the other side is alive.
    Check,
    /// The deadline has passed.
    Timeout,
    /// A thread has called [`Canceller::cancel`].
    Cancelled,
}

/// What the calling thread may do with a wake word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Only read it. The thread sleeps for short times.
    ReadOnly,
    /// Set its waiters bit. The thread relies on being woken once the bit has [settled](Settled).
    Raise,
}

/// A wake word to sleep on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bell<'a> {
    pub(crate) word: &'a AtomicU64,
    pub(crate) access: Access,
}

impl Bell<'_> {
    /// Sets the waiters bit if the access permits it. Returns the value to sleep on.
    fn raise(&self) -> u32 {
        match self.access {
            Access::Raise => wake::prepare_wait(self.word),
            Access::ReadOnly => wake::load_key(self.word),
        }
    }

    /// For a task, whose sleep is elsewhere. Returns the value to sleep on, and whether a waker
    /// will wake it once the bit has [settled](Settled).
    #[cfg(feature = "async")]
    pub(crate) fn prepare(&self) -> (u32, bool) {
        (self.raise(), self.access == Access::Raise)
    }
}

/// How one consumer or producer waits, and what it has learnt from earlier waits. Lives as long as
/// that consumer or producer.
///
/// All methods take a shared reference, so that a cold path can use the waiter without the hot
/// state around it.
#[derive(Debug)]
pub(crate) struct Waiter {
    strategy: WaitStrategy,
    /// Longest time between two checks whether the other side is alive, while asleep.
    longest_check: Duration,
    /// How long to spin before falling asleep, in nanoseconds.
    spin: AtomicU64,
    sleeps: AtomicU64,
    canceller: OnceLock<Canceller>,
}

impl Waiter {
    /// A waiter that sleeps for at most `longest_check`: [`IDLE_CHECK`] or [`HELD_UP_CHECK`].
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

    /// How often the waiter has fallen asleep to be woken. Naps are not counted.
    pub(crate) fn sleeps(&self) -> u64 {
        self.sleeps.load(Ordering::Relaxed)
    }

    /// A handle that ends the waits of this waiter from other threads. A wait that is already in
    /// progress when the first handle is made does not notice it, so make the handle first.
    pub(crate) fn canceller(&self) -> Canceller {
        self.canceller.get_or_init(Canceller::default).clone()
    }

    /// Begins a wait, which has no end or ends at `deadline`.
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

    /// Whether to continue spinning when a wait has lasted for `waited`.
    pub(super) fn spins(&self, waited: Duration) -> bool {
        match self.strategy {
            WaitStrategy::Spin => true,
            WaitStrategy::Yield => waited < LONGEST_SPIN,
            WaitStrategy::Park => nanoseconds(waited) < self.spin.load(Ordering::Relaxed),
        }
    }

    /// Lengthens or shortens the spinning: lengthens it if the longest spinning would have been
    /// enough for a wait of this length.
    pub(super) fn learn(&self, waited: Duration) {
        let spin = Duration::from_nanos(self.spin.load(Ordering::Relaxed));
        let spin = if waited <= LONGEST_SPIN { spin * 2 } else { spin / 2 };
        self.spin.store(nanoseconds(spin.clamp(SHORTEST_SPIN, LONGEST_SPIN)), Ordering::Relaxed);
    }
}

/// One wait, from its first poll to its last.
#[derive(Debug)]
pub(crate) struct Waiting<'w> {
    waiter: &'w Waiter,
    deadline: Option<Instant>,
    pace: Pace,
    /// `None` until the first polls have failed: most waits of a busy ring never read the clock.
    clock: Option<Clock>,
    period: Duration,
    nap: Duration,
    settled: Settled<Vec<u32>>,
}

/// What to do between two polls.
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
    /// Waits while `must_wait` returns true. A waker that changes its result notifies one of
    /// `bells` after the change. Without any wake word, the thread naps.
    ///
    /// [`WakeReason::Check`] comes at least as often as [`Waiter::new`] was asked for. After it,
    /// the caller calls this again with the same `bells`, if there is still something to wait for.
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

    /// Sleeps until one of `bells` is notified, but no longer than `until`. Does not sleep if there
    /// is no need to wait any longer.
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

/// The values of wake words whose waiters bits have been set for long enough: every waker of these
/// words either sees the bit, or has been seen by the sleeper.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Settled<T>(Option<T>);

impl<T: PartialEq + Clone> Settled<T> {
    /// Polls until that holds for wake words whose bits were set just now, with the values
    /// `raised`. Returns whether there is still need to wait.
    pub(crate) fn look(&mut self, raised: &T, mut must_wait: impl FnMut() -> bool) -> bool {
        // If no word was notified since, the bits have been set all the time.
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

/// Polls until a bit that was set just now has been set for long enough. Returns whether there is
/// still need to wait.
pub(super) fn settle(mut must_wait: impl FnMut() -> bool) -> bool {
    let raised = Instant::now();
    loop {
        // Before the polls: the last one must come after that time.
        let settled = raised.elapsed() >= SETTLED;
        if !look(LOOKS, &mut must_wait) {
            return false;
        }
        if settled {
            return true;
        }
    }
}

/// Polls up to `looks` times. Returns whether there is still need to wait.
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
