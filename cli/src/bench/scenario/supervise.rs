//! One scenario with one engine: the parent's part.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::fleet::Fleet;
use super::leftovers::Session;
use super::outcome::{Latency, Outcome};
use super::plan::Plan;
use super::progress::Progress;
use super::protocol::{ReaderFigures, ReaderTask, Report, WriterFigures, WriterTask};
use crate::engine::{Channel, Engine};
use crate::interrupt::Interrupt;

/// Readers have the indices before it.
fn writer_index(plan: &Plan) -> usize {
    plan.readers
}

/// Runs the processes of a scenario and puts together what they measured.
///
/// # Errors
///
/// When the queue cannot be made, a process fails or dies, or the user interrupts.
pub fn run(plan: &Plan, engine: Engine, session: &Session, interrupt: &Interrupt, progress: &mut Progress) -> Result<Outcome> {
    let channel = Channel {
        engine,
        name: session.queue_name(engine),
        slots: plan.slots,
        slot_bytes: plan.slot_bytes,
        readers: plan.readers,
        mode: plan.mode,
    };
    let began = Instant::now();
    let _host = channel.create()?;
    progress.detail(|| format!("{} created in {:.3?}", channel.name, began.elapsed()));

    let mut fleet = start(plan, &channel)?;
    wait_until_attached(plan, &mut fleet, interrupt, progress)?;
    progress.detail(|| format!("all attached after {:.3?}", began.elapsed()));
    // The writer last, so that no reader's CPU time misses anything.
    for index in 0..=writer_index(plan) {
        fleet.signal_start(index)?;
    }
    let (writer, readers) = collect(plan, &mut fleet, interrupt, progress)?;
    progress.detail(|| format!("all done after {:.3?}", began.elapsed()));
    Ok(Outcome::new(plan, engine, &writer, readers))
}

fn start(plan: &Plan, channel: &Channel) -> Result<Fleet> {
    let mut fleet = Fleet::new();
    let task = ReaderTask { channel: channel.clone(), verify: plan.verify, burn_ns: (plan.reader_burn_cpu_milliseconds * 1e6) as u64 };
    for row in 0..plan.readers {
        fleet.start(&format!("reader {row}"), &["scenario-reader", &row.to_string()], &task)?;
    }
    let task = WriterTask { channel: channel.clone(), writes_per_second: plan.writes_per_second, duration_seconds: plan.duration_seconds };
    fleet.start("the writer", &["scenario-writer"], &task)?;
    Ok(fleet)
}

fn wait_until_attached(plan: &Plan, fleet: &mut Fleet, interrupt: &Interrupt, progress: &Progress) -> Result<()> {
    let processes = plan.readers + 1;
    for attached in 0..processes {
        progress.attached(attached, processes);
        match fleet.next_report(interrupt)? {
            (index, Report::Ready) => {
                progress.detail(|| format!("{} is attached", fleet.describe(index)));
            }
            (index, report) => bail!("{} reported {report:?} too early", fleet.describe(index)),
        }
    }
    Ok(())
}

fn collect(plan: &Plan, fleet: &mut Fleet, interrupt: &Interrupt, progress: &Progress) -> Result<(WriterFigures, Vec<ReaderFigures>)> {
    let mut writer = None;
    let mut readers: Vec<Option<ReaderFigures>> = vec![None; plan.readers];
    let mut pending = plan.readers + 1;
    while pending > 0 {
        match fleet.next_report(interrupt)? {
            (_, Report::Progress(so_far)) => progress.writing(so_far),
            (index, Report::Writer(figures)) => {
                progress.detail(|| describe_writer(&fleet.describe(index), &figures));
                writer = Some(figures);
                pending -= 1;
            }
            (index, Report::Reader(figures)) if index < plan.readers => {
                progress.detail(|| describe_reader(&fleet.describe(index), &figures));
                readers[index] = Some(figures);
                pending -= 1;
            }
            (index, report) => bail!("{} reported {report:?} too late", fleet.describe(index)),
        }
        if writer.is_some() {
            progress.draining(plan.readers - pending, plan.readers);
        }
    }
    let writer = writer.context("the writer did not report")?;
    let readers: Option<Vec<_>> = readers.into_iter().collect();
    Ok((writer, readers.context("a reader did not report")?))
}

fn describe_writer(who: &str, figures: &WriterFigures) -> String {
    format!(
        "{who}: {} written in {:.6} s, {} stalls, {:.3} s of CPU, at most {:.3} ms behind schedule",
        figures.writes,
        figures.seconds,
        figures.stalls,
        figures.cpu_seconds,
        figures.latest_ns as f64 / 1e6
    )
}

fn describe_reader(who: &str, figures: &ReaderFigures) -> String {
    format!(
        "{who}: {:?} in {:.6} s, {:.3} s of CPU, latency in ns {:?}",
        figures.counts,
        figures.seconds,
        figures.cpu_seconds,
        Latency::of([figures])
    )
}
