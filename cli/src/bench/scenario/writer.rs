//! A writer process of a scenario.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::child::{self, Link};
use super::payload::Generator;
use super::protocol::{Report, WriterFigures, WriterProgress, WriterTask};
use crate::clock;

/// How often the parent hears about the progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Does the task that the parent sends on standard input.
///
/// # Errors
///
/// Whatever keeps it from being done; the parent hears of it too.
pub fn run() -> Result<()> {
    child::run(|| {
        let (task, link) = Link::connect::<WriterTask>()?;
        let mut generator = Generator::new(
            u16::try_from(task.writer)?,
            task.channel.slot_bytes,
            task.channel.slots,
        );
        let mut sender = task.channel.sender()?;
        clock::ask_for_precise_sleep();
        link.wait_for_start()?;

        let cpu_before = clock::process_cpu_seconds();
        let schedule = Schedule::starting_now(&task);
        let counters = Arc::new(Counters::default());
        report_progress(schedule.start_ns, &counters)?;
        let mut latest_ns = 0;
        let mut sequence = 0;
        while let Some(due_ns) = schedule.due_ns(sequence) {
            clock::sleep_until(due_ns);
            let now_ns = clock::monotonic_ns();
            if now_ns >= schedule.end_ns {
                break;
            }
            latest_ns = latest_ns.max(now_ns - due_ns);
            let sent = sender.send(generator.message(sequence, now_ns), schedule.end_ns)?;
            counters.stalls.fetch_add(u64::from(sent.stalled), Ordering::Relaxed);
            if !sent.accepted {
                break;
            }
            sequence += 1;
            counters.writes.store(sequence, Ordering::Relaxed);
        }
        clock::sleep_until(schedule.end_ns);
        let figures = WriterFigures {
            writes: sequence,
            stalls: counters.stalls.load(Ordering::Relaxed),
            seconds: (clock::monotonic_ns() - schedule.start_ns) as f64 / 1e9,
            cpu_seconds: clock::process_cpu_seconds() - cpu_before,
            latest_ns,
            waited_for: sender.waited_for(),
        };
        sender.close()?;
        Ok(Report::Writer(figures))
    })
}

/// When each message is due. It does not shift when a message is late, so that a
/// writer which was held up catches up.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    start_ns: u64,
    end_ns: u64,
    /// Of the first message behind the start.
    offset_ns: f64,
    interval_ns: f64,
}

impl Schedule {
    /// Several writers take turns.
    fn starting_now(task: &WriterTask) -> Self {
        let start_ns = clock::monotonic_ns();
        let end_ns = start_ns + (task.duration_seconds * 1e9) as u64;
        let turn_ns = 1e9 / task.writes_per_second;
        Self {
            start_ns,
            end_ns,
            offset_ns: turn_ns * task.writer as f64,
            interval_ns: turn_ns * task.channel.writers as f64,
        }
    }

    /// `None` when the message is due after the end.
    fn due_ns(&self, sequence: u64) -> Option<u64> {
        let due_ns = self.start_ns + (self.offset_ns + sequence as f64 * self.interval_ns) as u64;
        (due_ns < self.end_ns).then_some(due_ns)
    }
}

#[derive(Debug, Default)]
struct Counters {
    writes: AtomicU64,
    stalls: AtomicU64,
}

/// Tells the parent from a thread of its own, because a parent that is slow to
/// listen must not hold up the writing.
fn report_progress(start_ns: u64, counters: &Arc<Counters>) -> Result<()> {
    let counters = Arc::clone(counters);
    thread::Builder::new().name("progress".to_owned()).spawn(move || {
        loop {
            thread::sleep(PROGRESS_EVERY);
            let progress = WriterProgress {
                elapsed_ns: clock::monotonic_ns() - start_ns,
                writes: counters.writes.load(Ordering::Relaxed),
                stalls: counters.stalls.load(Ordering::Relaxed),
            };
            if child::tell(&Report::Progress(progress)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_absolute_and_ends() {
        let schedule = Schedule {
            start_ns: 1_000,
            end_ns: 1_000 + 1_000_000_000,
            offset_ns: 0.0,
            interval_ns: 1e9 / 24.0,
        };
        assert_eq!(schedule.due_ns(0), Some(1_000));
        assert_eq!(schedule.due_ns(12), Some(1_000 + 500_000_000));
        assert!(schedule.due_ns(23).is_some());
        assert_eq!(schedule.due_ns(24), None);
        let second = Schedule { offset_ns: 5e8, ..schedule };
        assert_eq!(second.due_ns(0), Some(1_000 + 500_000_000));
    }
}
