use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::{self, Signal};

use super::waiter::{SETTLED, settle};
use super::*;
use crate::copy;
use crate::layout::{Granularity, PAGE};
use crate::protocol::wake::{self, Barrier};
use crate::segment::Segment;
use crate::sync::Ordering;

/// How long anything may take before it counts as a hang.
const PATIENCE: Duration = Duration::from_secs(20);
/// The timeout of a sleep that must not end by itself: if it does, a wake-up was lost.
const FOREVER: Duration = Duration::from_secs(3600);

const PEER: &str = "SEQRING_WAIT_TEST_PEER";

/// Words that processes share.
struct Shared {
    name: String,
    segment: Segment,
}

impl Shared {
    fn new(test: &str) -> Self {
        let name = format!("wait-{test}-{}", std::process::id());
        let segment =
            Segment::create(&name, (PAGE * 8) as u64, 0o600).unwrap().expect("the name is ours");
        Self { name, segment }
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        &self.segment.words()[index * 16]
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = self.segment.unlink();
    }
}

/// Starts this binary again, with only the test `peer` and the order `what`.
fn start_peer(shared: &Shared, what: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["wait::tests::peer", "--exact", "--nocapture"])
        .env(PEER, format!("{what} {}", shared.name))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The other process of a test. Does nothing unless another test has started this process.
#[test]
fn peer() {
    let Ok(order) = env::var(PEER) else { return };
    // A peer must not outlive a test that failed.
    prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
    let (what, name) = order.split_once(' ').unwrap();
    let segment = Segment::open(name, what == "doze").unwrap();
    let word = |index: usize| &segment.words()[index * 16];
    match what {
        // Sleeps on a word that it can only read.
        "doze" => {
            println!("\n@{}", wake::load_key(word(0)));
            std::io::stdout().flush().unwrap();
            futex::wait(word(0), 0, FOREVER);
        }
        // Answers each count of the first word in the third.
        "answer" => {
            let waiter = Waiter::new(WaitStrategy::Park, IDLE_CHECK);
            for round in 1..=ROUNDS {
                wait_for(&waiter, word(0), word(1), round);
                tell(word(2), word(3), round);
            }
        }
        // Is killed between setting the bit and its sleep.
        "raise" => {
            wake::prepare_wait(word(1));
            signal::raise(Signal::SIGKILL).unwrap();
        }
        _ => panic!("unknown order {order:?}"),
    }
}

/// Makes the kernel refuse the system call `call` to this thread and to the threads that it starts,
/// as a sandbox does.
fn forbid(call: libc::c_long) {
    let step =
        |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let if_equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let mut program = [
        // The number of the system call is the first word of the data that a filter sees.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(if_equal, 0, 1, call as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    prctl::set_no_new_privs().unwrap();
    // SAFETY: the program and its length are in the form that the kernel expects, and live through
    // the call, which copies them.
    let code =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(code, 0, "no filter: {}", std::io::Error::last_os_error());
}

const ROUNDS: u64 = 2_000;

fn wait_for(waiter: &Waiter, value: &AtomicU64, bell: &AtomicU64, round: u64) {
    let mut waiting = waiter.start(Some(Instant::now() + PATIENCE));
    loop {
        match waiting.until(&raise(bell), || value.load(Ordering::Relaxed) < round) {
            WakeReason::Ready => return,
            WakeReason::Check => continue,
            other => panic!("{other:?} in round {round}"),
        }
    }
}

fn tell(value: &AtomicU64, bell: &AtomicU64, round: u64) {
    value.store(round, Ordering::Relaxed);
    wake_sleepers(bell, Barrier::Light);
}

/// Wakes the threads that sleep on `word` until `done` returns true. Other threads cannot see
/// whether a thread sleeps.
fn wake_until(word: &AtomicU64, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "nobody woke up");
        futex::wake_all(word);
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_changed_word_is_not_slept_on() {
    let word = AtomicU64::new(7 << 32 | 5);
    futex::wait(&word, 4, FOREVER);
    futex::wait_any(&[(&word, 4)], FOREVER, FOREVER);
    let other = AtomicU64::new(1);
    futex::wait_any(&[(&word, 5), (&other, 2)], FOREVER, FOREVER);
}

#[test]
fn a_sleep_ends_with_its_timeout() {
    let (word, other) = (AtomicU64::new(7 << 32 | 5), AtomicU64::new(1));
    let sleep = Duration::from_millis(3);
    for words in [&[][..], &[(&word, 5)], &[(&word, 5), (&other, 1)]] {
        let mut slept = Duration::ZERO;
        // A signal may end one of the sleeps early.
        for _ in 0..10 {
            let started = Instant::now();
            futex::wait_any(words, sleep, sleep);
            slept = slept.max(started.elapsed());
        }
        assert!(slept >= sleep, "{} words: {slept:?}", words.len());
    }
}

#[test]
fn a_sleeper_is_woken_by_any_of_its_words() {
    let words: Vec<AtomicU64> = (0..130).map(AtomicU64::new).collect();
    let listed: Vec<(&AtomicU64, u32)> = words.iter().zip(0..).collect();
    // More words than the kernel accepts must work too, even if by a nap.
    for (count, woken) in [(1, 0), (2, 0), (2, 1), (128, 127), (130, 0)] {
        thread::scope(|scope| {
            let nap = if count > 128 { Duration::from_millis(1) } else { FOREVER };
            let listed = &listed[..count];
            let sleeper = scope.spawn(move || futex::wait_any(listed, FOREVER, nap));
            wake_until(&words[woken], || sleeper.is_finished());
        });
    }
}

#[test]
fn another_process_is_woken_from_a_word_that_it_can_only_read() {
    let shared = Shared::new("doze");
    let mut peer = start_peer(&shared, "doze");
    // The pipe stays open: the peer writes more at its end.
    let mut lines = BufReader::new(peer.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "@0"), "the peer has not come up");
    wake_until(shared.word(0), || peer.try_wait().unwrap().is_some());
    assert!(peer.wait().unwrap().success());
}

#[test]
fn no_wake_up_is_lost_between_processes() {
    let shared = Shared::new("answer");
    let mut peer = start_peer(&shared, "answer");
    let waiter = Waiter::new(WaitStrategy::Park, IDLE_CHECK);
    for round in 1..=ROUNDS {
        // At intervals, a pause that is longer than any spinning.
        if round % 8 == 0 {
            thread::sleep(Duration::from_micros(100));
        }
        tell(shared.word(0), shared.word(1), round);
        wait_for(&waiter, shared.word(2), shared.word(3), round);
    }
    assert!(peer.wait().unwrap().success());
}

#[test]
fn a_dead_sleeper_costs_one_wake() {
    let shared = Shared::new("raise");
    assert!(!start_peer(&shared, "raise").wait().unwrap().success());
    assert!(wake::has_waiters(shared.word(1), Barrier::Full));
    assert!(wake::notify(shared.word(1)));
    assert!(!wake::has_waiters(shared.word(1), Barrier::Full));
}

/// A sandbox that forbids the system calls newer than the futex itself.
#[test]
fn a_sandbox_costs_latency_alone() {
    let sandboxed = thread::spawn(|| {
        forbid(libc::SYS_futex_waitv);
        let word = AtomicU64::new(0);
        let waiter = Waiter::new(WaitStrategy::Park, IDLE_CHECK);
        let canceller = waiter.canceller();
        let cancelling = thread::spawn(move || {
            thread::sleep(Duration::from_millis(30));
            canceller.cancel();
        });
        let mut waiting = waiter.start(Some(Instant::now() + PATIENCE));
        let ended = std::iter::from_fn(|| Some(waiting.until(&raise(&word), || true)))
            .find(|ended| *ended != WakeReason::Check);
        assert_eq!(ended, Some(WakeReason::Cancelled));
        cancelling.join().unwrap();
    });
    sandboxed.join().unwrap();
}

/// Waits for the other side, which may need this processor to proceed.
fn meet(word: &AtomicU64, round: u64, between: impl Fn()) {
    for looks in 1u64.. {
        if word.load(Ordering::Acquire) >= round {
            return;
        }
        between();
        if looks % 4096 == 0 {
            thread::yield_now();
        }
    }
}

/// The light barrier is no barrier for the processor: only the time that a sleeper lets pass keeps
/// both sides from missing each other.
#[test]
fn neither_side_misses_the_other() {
    const TURNS: u64 = 10_000;
    // The waker's stores before its message delay the moment at which the sleeper sees the message:
    // they go to lines that the waker must fetch. One call of the library makes them, so that they
    // are no slower without optimisation.
    const BULK: usize = 64;
    let words = crate::sync::zeroed(16 * (5 + BULK));
    let line = |index: usize| &words[16 * index];
    let (message, bell, turn, done, seen) = (line(0), line(1), line(2), line(3), line(4));
    let bulk = &words[16 * 5..];
    let payload = vec![1; bulk.len() * size_of::<u64>()];
    let mut missed = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=TURNS {
                meet(turn, round, || {
                    // Loaded so that it is in the cache, as after the check for the message before.
                    std::hint::black_box(bell.load(Ordering::Relaxed));
                });
                copy::store(Granularity::of(payload.len()), bulk, &payload);
                message.store(round, Ordering::Relaxed);
                seen.store(wake::has_waiters(bell, Barrier::Light).into(), Ordering::Relaxed);
                done.store(round, Ordering::Release);
            }
        });
        for round in 1..=TURNS {
            bulk.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            turn.store(round, Ordering::Release);
            // At most a few microseconds.
            for _ in 0..round % 64 {
                std::hint::spin_loop();
            }
            wake::prepare_wait(bell);
            let found = !settle(|| message.load(Ordering::Relaxed) != round);
            meet(done, round, std::hint::spin_loop);
            missed += u64::from(!found && seen.load(Ordering::Relaxed) == 0);
            bell.store(0, Ordering::Relaxed);
        }
    });
    assert_eq!(missed, 0, "of {TURNS} times both sides have missed each other");
}

/// A sleep begins no sooner than its bit has been set for long enough, even if a waker has notified
/// meanwhile.
#[test]
fn who_raises_a_bit_lets_it_settle() {
    let word = AtomicU64::new(0);
    let waiter = Waiter::new(WaitStrategy::Park, IDLE_CHECK);
    let mut waiting = waiter.start(None);
    // The time of the last poll before the second sleep (a notification prevents the first one),
    // the time of the last poll that found the bit clear, and the number of polls that found it
    // set.
    let started = Instant::now();
    let (mut last, mut down, mut up) = (started, started, 0);
    while waiter.sleeps() < 2 {
        assert!(started.elapsed() < PATIENCE, "it never sleeps");
        let look = || {
            if waiter.sleeps() < 2 {
                last = Instant::now();
                up += u64::from(wake::has_waiters(&word, Barrier::Full));
                if !wake::has_waiters(&word, Barrier::Full) || up == 2 && wake::notify(&word) {
                    down = Instant::now();
                }
            }
            true
        };
        assert_eq!(waiting.until(&raise(&word), look), WakeReason::Check);
    }
    assert!(wake::has_waiters(&word, Barrier::Full), "it can be woken");
    assert!(
        up > 3 && last - down >= SETTLED,
        "the bit was up for {:?}, in {up} looks",
        last - down
    );
    // The bit has been set ever since. So there is one poll after the last sleep and one before the
    // next; letting the bit settle would take at least `LOOKS` polls.
    let mut looks = 0;
    while waiter.sleeps() < 3 {
        waiting.until(&raise(&word), || {
            looks += u32::from(waiter.sleeps() < 3);
            true
        });
    }
    assert!(looks < LOOKS, "{looks} looks");
}

fn raise(word: &AtomicU64) -> [Bell<'_>; 1] {
    [Bell { word, access: Access::Raise }]
}

#[test]
fn a_wait_ends_with_its_deadline() {
    for strategy in [WaitStrategy::Spin, WaitStrategy::Yield, WaitStrategy::Park] {
        for access in [Access::ReadOnly, Access::Raise] {
            let word = AtomicU64::new(0);
            let waiter = Waiter::new(strategy, IDLE_CHECK);
            let started = Instant::now();
            let timeout = Duration::from_millis(3);
            let ended = waiter
                .start(Some(started + timeout))
                .until(&[Bell { word: &word, access }], || true);
            // On a machine that stalls for long enough, the check comes first.
            assert!(matches!(ended, WakeReason::Timeout | WakeReason::Check));
            assert!(started.elapsed() >= timeout);
        }
    }
}

#[test]
fn the_other_side_is_checked_and_waiting_goes_on() {
    for strategy in [WaitStrategy::Spin, WaitStrategy::Yield, WaitStrategy::Park] {
        let word = AtomicU64::new(0);
        let waiter = Waiter::new(strategy, IDLE_CHECK);
        let mut waiting = waiter.start(None);
        assert_eq!(waiting.until(&raise(&word), || true), WakeReason::Check);
        assert_eq!(waiting.until(&raise(&word), || true), WakeReason::Check);
        assert_eq!(waiting.until(&raise(&word), || false), WakeReason::Ready);
        assert_eq!(waiter.sleeps() > 0, strategy == WaitStrategy::Park);
    }
}

#[test]
fn who_cannot_raise_the_bit_naps() {
    let word = AtomicU64::new(0);
    let waiter = Waiter::new(WaitStrategy::Park, IDLE_CHECK);
    let bells = [Bell { word: &word, access: Access::ReadOnly }];
    assert_eq!(waiter.start(None).until(&bells, || true), WakeReason::Check);
    assert_eq!(word.load(Ordering::Relaxed), 0, "nothing was written");
    assert_eq!(waiter.sleeps(), 0);
}

#[test]
fn a_wait_is_cancelled_from_another_thread() {
    for strategy in [WaitStrategy::Spin, WaitStrategy::Yield, WaitStrategy::Park] {
        let words = crate::sync::zeroed(2);
        let waiter = Waiter::new(strategy, IDLE_CHECK);
        let canceller = waiter.canceller();
        thread::scope(|scope| {
            let (waiter, words) = (&waiter, &words);
            let waiting = scope.spawn(move || {
                let bells = [&words[0], &words[1]].map(|word| Bell { word, access: Access::Raise });
                let mut waiting = waiter.start(Some(Instant::now() + PATIENCE));
                loop {
                    match waiting.until(&bells, || true) {
                        WakeReason::Check => continue,
                        ended => return ended,
                    }
                }
            });
            thread::sleep(Duration::from_millis(1));
            assert!(!canceller.is_cancelled());
            canceller.clone().cancel();
            assert_eq!(waiting.join().unwrap(), WakeReason::Cancelled);
        });
        assert_eq!(
            waiter.start(None).until(&raise(&words[0]), || true),
            WakeReason::Cancelled,
            "it stays cancelled"
        );
        assert_eq!(
            waiter.start(None).until(&raise(&words[0]), || false),
            WakeReason::Ready,
            "what need not wait is not cancelled"
        );
    }
}

/// The length of spinning adapts to whether spinning would have ended the last waits.
#[test]
fn spinning_follows_what_has_paid() {
    let waiter = Waiter::new(WaitStrategy::Park, IDLE_CHECK);
    let spins =
        || (1..=60).map(Duration::from_micros).filter(|waited| waiter.spins(*waited)).count();
    assert_eq!(spins(), 49, "fifty microseconds, until it knows better");
    waiter.learn(Duration::from_micros(51));
    assert_eq!(spins(), 24);
    (0..10).for_each(|_| waiter.learn(Duration::from_secs(1)));
    assert_eq!(spins(), 1, "never none: it could not learn");
    waiter.learn(Duration::from_micros(49));
    assert_eq!(spins(), 3);
    (0..10).for_each(|_| waiter.learn(Duration::from_micros(1)));
    assert_eq!(spins(), 49, "never more");
}
