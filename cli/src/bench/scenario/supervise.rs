//! One scenario with one engine: the parent's part.

use std::time::Instant;

use anyhow::{Result, bail};

use super::fleet::Fleet;
use super::leftovers::Session;
use super::outcome::{Latency, Outcome};
use super::plan::Plan;
use super::progress::Progress;
use super::protocol::{
    ReaderFigures, ReaderTask, Report, WriterFigures, WriterProgress, WriterTask,
};
use crate::engine::{Channel, Engine};
use crate::interrupt::Interrupt;

/// Readers have the first indices, writers those behind.
fn processes(plan: &Plan) -> usize {
    plan.readers + plan.writers
}

/// Runs the processes of a scenario and puts together what they measured.
///
/// # Errors
///
/// When the queue cannot be made, a process fails or dies, or the user interrupts.
pub fn run(
    plan: &Plan,
    engine: Engine,
    session: &Session,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Outcome> {
    let channel = Channel {
        engine,
        name: session.queue_name(engine),
        slots: plan.slots,
        slot_bytes: plan.slot_bytes,
        readers: plan.readers,
        writers: plan.writers,
        mode: plan.mode,
        wait: plan.wait,
    };
    let began = Instant::now();
    let _host = channel.create()?;
    progress.detail(|| format!("{} created in {:.3?}", channel.name, began.elapsed()));

    let mut fleet = start(plan, &channel)?;
    wait_until_attached(plan, &mut fleet, interrupt, progress)?;
    progress.detail(|| format!("all attached after {:.3?}", began.elapsed()));
    // The writers last, so that no reader's CPU time misses anything.
    for index in 0..processes(plan) {
        fleet.signal_start(index)?;
    }
    let (writers, readers) = collect(plan, &mut fleet, interrupt, progress)?;
    progress.detail(|| format!("all done after {:.3?}", began.elapsed()));
    Ok(Outcome::new(plan, engine, &writers, readers))
}

fn start(plan: &Plan, channel: &Channel) -> Result<Fleet> {
    let mut fleet = Fleet::new();
    let task = ReaderTask {
        channel: channel.clone(),
        verify: plan.verify,
        burn_ns: (plan.reader_burn_cpu_milliseconds * 1e6) as u64,
    };
    for row in 0..plan.readers {
        fleet.start(&format!("reader {row}"), &["scenario-reader", &row.to_string()], &task)?;
    }
    for writer in 0..plan.writers {
        let name =
            if plan.writers == 1 { "the writer".to_owned() } else { format!("writer {writer}") };
        let task = WriterTask {
            channel: channel.clone(),
            writer,
            writes_per_second: plan.writes_per_second,
            duration_seconds: plan.duration_seconds,
        };
        fleet.start(&name, &["scenario-writer"], &task)?;
    }
    Ok(fleet)
}

fn wait_until_attached(
    plan: &Plan,
    fleet: &mut Fleet,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<()> {
    let processes = processes(plan);
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

fn collect(
    plan: &Plan,
    fleet: &mut Fleet,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<(Vec<WriterFigures>, Vec<ReaderFigures>)> {
    let mut so_far = vec![WriterProgress::default(); plan.writers];
    let mut writers: Vec<Option<WriterFigures>> = vec![None; plan.writers];
    let mut readers: Vec<Option<ReaderFigures>> = vec![None; plan.readers];
    while writers.iter().any(Option::is_none) || readers.iter().any(Option::is_none) {
        match fleet.next_report(interrupt)? {
            (index, Report::Progress(of_one)) if index >= plan.readers => {
                so_far[index - plan.readers] = of_one;
                progress.writing(WriterProgress::sum(&so_far));
            }
            (index, Report::Writer(figures)) if index >= plan.readers => {
                progress.detail(|| describe_writer(&fleet.describe(index), &figures));
                writers[index - plan.readers] = Some(figures);
            }
            (index, Report::Reader(figures)) if index < plan.readers => {
                progress.detail(|| describe_reader(&fleet.describe(index), &figures));
                readers[index] = Some(figures);
            }
            (index, report) => bail!("{} reported {report:?} too late", fleet.describe(index)),
        }
        if writers.iter().all(Option::is_some) {
            progress.draining(readers.iter().flatten().count(), plan.readers);
        }
    }
    Ok((writers.into_iter().flatten().collect(), readers.into_iter().flatten().collect()))
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
