//! The clock that all processes of a run share, and the CPU time of this one.

use std::hint;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeSpec, TimeValLike as _};
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

/// A sleeping thread is woken by a timer interrupt and a context switch. It asks
/// to be woken this much earlier and spins for the rest.
const WAKE_UP_NS: u64 = 50_000;

/// Nanoseconds on CLOCK_MONOTONIC, which is the same in every process.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC)
}

/// Nanoseconds of CPU time that the calling thread has used.
pub fn thread_cpu_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock).expect("every Linux has this clock");
    now.num_nanoseconds().cast_unsigned()
}

/// Lets sleeps end when they were asked to; by default the kernel may add 50 µs.
pub fn ask_for_precise_sleep() {
    // A kernel that refuses leaves wake-ups a little later, which is measured.
    let _ = prctl::set_timerslack(1);
}

/// Returns at `due_ns` on CLOCK_MONOTONIC, or at once if that has passed.
pub fn sleep_until(due_ns: u64) {
    let wake_up = due_ns.saturating_sub(WAKE_UP_NS);
    while monotonic_ns() < wake_up {
        let until = TimeSpec::nanoseconds(wake_up.cast_signed());
        let flags = ClockNanosleepFlags::TIMER_ABSTIME;
        match clock_nanosleep(ClockId::CLOCK_MONOTONIC, flags, &until) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => panic!("clock_nanosleep until {wake_up} ns failed: {error}"),
        }
    }
    while monotonic_ns() < due_ns {
        hint::spin_loop();
    }
}

/// Keeps the CPU busy until this thread has used `nanoseconds` of CPU time.
pub fn burn_cpu(nanoseconds: u64) {
    let end = thread_cpu_ns() + nanoseconds;
    while thread_cpu_ns() < end {
        hint::spin_loop();
    }
}

/// How often the calling thread has gone to sleep.
pub fn thread_sleeps() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("a thread may ask for its own usage");
    usage.voluntary_context_switches()
}

/// Seconds of CPU, user and system, that this process has used.
pub fn process_cpu_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask for its own usage");
    let microseconds =
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    microseconds as f64 / 1e6
}
