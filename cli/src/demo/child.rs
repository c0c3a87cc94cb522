//! The processes of the demo: a producer, and readers.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use seqring::{CloseReason, Producer, RecvTimeoutError, Ring, Start};

use super::stats::{Stats, Tick};
use crate::clock::{ask_for_precise_sleep, monotonic_ns, sleep_until};

/// Messages the producer publishes at once, every millisecond.
const BURST: u64 = 50;
const BURST_NS: u64 = 1_000_000;
/// Time between two reports: no multiple of the time between bursts, so that lags are seen at all
/// phases of it.
const REPORT_NS: u64 = 97_300_000;
/// A slow reader rests this long after each of this many messages.
const SLOW_EVERY: u64 = 10;
const SLOW_REST: Duration = Duration::from_millis(1);

/// How the producer is started; not for people.
#[derive(Debug, clap::Args)]
pub struct ProducerArgs {
    /// The ring to publish to
    #[arg(long)]
    ring: String,
    /// The ring to report to
    #[arg(long)]
    report: String,
}

/// How a reader is started; not for people.
#[derive(Debug, clap::Args)]
pub struct ReaderArgs {
    #[command(flatten)]
    rings: ProducerArgs,
    /// What it is called in the ring's table of readers
    #[arg(long)]
    name: String,
    /// Take a rest now and then
    #[arg(long)]
    slow: bool,
    /// Start with the oldest message instead of the next
    #[arg(long)]
    history: bool,
}

/// Publishes at a steady pace until the parent closes the pipe.
///
/// # Errors
///
/// When a ring cannot be opened.
pub fn produce(args: &ProducerArgs) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    when_the_pipe_ends({
        let stop = Arc::clone(&stop);
        move || stop.store(true, Ordering::Relaxed)
    })?;
    ask_for_precise_sleep();
    let mut report = reporter(&args.report)?;
    let mut producer = Ring::<Tick>::options(&args.ring).prefault(true).open()?.producer()?;
    let start = producer.next_sequence();
    let stats = |producer: &Producer<Tick>| Stats {
        now_ns: monotonic_ns(),
        start,
        messages: producer.next_sequence() - start,
        ..Stats::default()
    };
    let mut due_ns = monotonic_ns();
    let mut report_ns = due_ns;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..BURST {
            producer.publish(&Tick::new(producer.next_sequence(), monotonic_ns()));
        }
        if monotonic_ns() >= report_ns {
            report.publish(&stats(&producer));
            report_ns += REPORT_NS;
        }
        due_ns += BURST_NS;
        sleep_until(due_ns);
    }
    report.publish(&Stats { done: 1, ..stats(&producer) });
    producer.close();
    Ok(())
}

/// Receives until the producer closes the ring.
///
/// # Errors
///
/// When a ring cannot be opened, or ends otherwise.
pub fn read(args: &ReaderArgs) -> Result<()> {
    when_the_pipe_ends(|| process::exit(1))?;
    ask_for_precise_sleep();
    let mut report = reporter(&args.rings.report)?;
    let start = if args.history { Start::Oldest } else { Start::Next };
    let ring = Ring::<Tick>::options(&args.rings.ring).read_only(true).prefault(true).open()?;
    // Registered, so that it can sleep until the producer wakes it; it does not gate.
    let mut consumer = ring.consumer().start(start).name(&args.name).attach()?;
    let mut stats = Stats { start: consumer.cursor(), ..Stats::default() };
    // A latency beyond ten seconds is not worth telling from one of ten.
    let mut latency = Histogram::<u64>::new_with_max(10_000_000_000, 3)?;
    let mut report_ns = monotonic_ns();
    loop {
        let until_report = Duration::from_nanos(report_ns.saturating_sub(monotonic_ns()));
        let ended = match consumer.recv_timeout(until_report) {
            Ok(tick) => {
                latency.saturating_record(monotonic_ns().saturating_sub(tick.sent_ns));
                stats.wrong +=
                    u64::from(!tick.is_intact() || tick.sequence != consumer.cursor() - 1);
                if args.slow && consumer.received().is_multiple_of(SLOW_EVERY) {
                    thread::sleep(SLOW_REST);
                }
                false
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Lagged(_)) => false,
            Err(error @ RecvTimeoutError::Cancelled) => return Err(error.into()),
            Err(RecvTimeoutError::Closed(reason)) => {
                ensure!(reason == CloseReason::Closed, "{reason}");
                true
            }
        };
        let now_ns = monotonic_ns();
        if ended || now_ns >= report_ns {
            stats = Stats {
                now_ns,
                messages: consumer.received(),
                lost: consumer.lost(),
                lag: consumer.lag(),
                sleeps: sleeps(&ring, &args.name),
                p50_ns: latency.value_at_quantile(0.5),
                p99_ns: latency.value_at_quantile(0.99),
                done: ended.into(),
                ..stats
            };
            report.publish(&stats);
            latency.reset();
            report_ns = now_ns + REPORT_NS;
        }
        if ended {
            return Ok(());
        }
    }
}

/// What the ring's table says about the reader `name`.
fn sleeps(ring: &Ring<Tick>, name: &str) -> u64 {
    ring.consumers()
        .into_iter()
        .filter(|reader| reader.name == name && reader.is_alive)
        .map(|reader| reader.sleeps)
        .sum()
}

fn reporter(name: &str) -> Result<Producer<Stats>> {
    Ok(Ring::<Stats>::open(name)?.producer()?)
}

/// The parent holds the other end of standard input: it ends when the parent wants it or dies.
fn when_the_pipe_ends(then: impl FnOnce() + Send + 'static) -> Result<()> {
    thread::Builder::new()
        .name("parent".to_owned())
        .spawn(move || {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            then();
        })
        .context("cannot start a thread")?;
    Ok(())
}
