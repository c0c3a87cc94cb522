//! `seqring bench scenario`: one writer process or several, many reader processes.
//!
//! The command starts itself again for every process of a scenario. The parent
//! creates the queue, tells each child its task through a pipe, starts the
//! writers once all readers are attached, and collects what each child measured.
//! A child that loses its parent ends.

mod args;
mod child;
mod figure;
mod fleet;
pub mod leftovers;
pub mod machine;
pub mod outcome;
mod payload;
pub mod plan;
pub mod progress;
mod protocol;
pub mod reader;
pub mod report;
pub mod room;
pub mod supervise;
mod table;
pub mod tally;
pub mod writer;

use anyhow::{Context as _, Result, ensure};

pub use args::ScenarioArgs;
use leftovers::Session;
use outcome::Outcome;
use progress::Progress;
use report::ReportFile;

use crate::console::{note, print};
use crate::interrupt::Interrupt;

/// Runs the scenarios that the command line asks for and prints what they measured.
///
/// # Errors
///
/// When a scenario cannot be run, or it shows that the queue broke its promises.
pub fn run(args: &ScenarioArgs) -> Result<()> {
    args.check().unwrap_or_else(|error| error.exit());
    let interrupt = Interrupt::listen()?;
    // First, because what dead runs left may take the room that this one needs.
    let session = Session::begin()?;
    let plans = args.plans();
    for plan in &plans {
        room::check(plan)?;
    }
    let report = args.report.as_deref().map(ReportFile::reserve).transpose()?;

    let mut outcomes = Vec::new();
    for plan in &plans {
        for &engine in args.engines() {
            let mut progress = Progress::new(plan, engine, args.debug);
            let outcome = supervise::run(plan, engine, &session, &interrupt, &mut progress)
                .with_context(|| format!("scenario {} with the {engine} engine", plan.name))?;
            outcomes.push(outcome);
        }
        if !args.json {
            let of_this_plan = &outcomes[outcomes.len() - args.engines().len()..];
            print(&table::of_plan(plan, of_this_plan))?;
        }
    }
    if args.json {
        print(&(serde_json::to_string_pretty(&outcomes)? + "\n"))?;
    } else if plans.len() > 1 {
        print(&table::summary(&outcomes))?;
    }
    if let Some(report) = report {
        let path = report.write(&plans, &outcomes)?;
        note(format_args!("report written to {}", path.display()));
    }
    check_promises(&outcomes)
}

/// The figures may be good or bad; these are promises.
pub fn check_promises(outcomes: &[Outcome]) -> Result<()> {
    for outcome in outcomes {
        for (row, reader) in outcome.readers_detail.iter().enumerate() {
            let run =
                format!("{} with the {} engine, reader {row}", outcome.preset, outcome.engine);
            ensure!(
                reader.received + reader.lost == outcome.writes,
                "{run}: received {} and lost {}, which is not the {} that were written",
                reader.received,
                reader.lost,
                outcome.writes
            );
            ensure!(
                reader.corrupt == 0 && reader.duplicates == 0 && reader.out_of_order == 0,
                "{run}: {} corrupt, {} duplicated, {} out of order",
                reader.corrupt,
                reader.duplicates,
                reader.out_of_order
            );
            ensure!(
                reader.tombstones == 0,
                "{run}: {} tombstones, though no writer died",
                reader.tombstones
            );
        }
        // Who lost nothing has received all, and in the one order that there is.
        let whole =
            outcome.reader_figures.iter().enumerate().filter(|(_, reader)| reader.counts.lost == 0);
        for pair in whole.collect::<Vec<_>>().windows(2) {
            let [(one, first), (other, second)] = pair else { unreachable!("windows of two") };
            ensure!(
                first.order == second.order,
                "{} with the {} engine: readers {one} and {other} received the same messages in different orders",
                outcome.preset,
                outcome.engine
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::plan::Preset;
    use super::protocol::{ReaderFigures, WriterFigures};
    use super::tally::Counts;
    use super::*;
    use crate::engine::Engine;

    fn promises_of(counts: Counts) -> Result<()> {
        promises_of_order(counts, 7)
    }

    fn promises_of_order(counts: Counts, order: u64) -> Result<()> {
        let writer = WriterFigures {
            writes: 10,
            stalls: 0,
            seconds: 1.0,
            cpu_seconds: 0.0,
            latest_ns: 0,
            waited_for: Vec::new(),
        };
        let reader = |counts, order| ReaderFigures {
            counts,
            order,
            seconds: 1.0,
            cpu_seconds: 0.0,
            latency_max_ns: 0,
            latencies: Vec::new(),
        };
        let perfect = Counts { received: 10, ..Counts::default() };
        let plan = &Preset::Steady.plans()[0];
        check_promises(&[Outcome::new(
            plan,
            Engine::Ring,
            &[writer],
            vec![reader(perfect, 7), reader(counts, order)],
        )])
    }

    #[test]
    fn losses_are_no_broken_promise_but_all_else_is() {
        let fine = Counts { received: 7, lost: 3, ..Counts::default() };
        promises_of(fine).unwrap();
        for broken in [
            Counts { received: 8, ..fine },
            Counts { lost: 2, ..fine },
            Counts { corrupt: 1, ..fine },
            Counts { duplicates: 1, ..fine },
            Counts { out_of_order: 1, ..fine },
            Counts { tombstones: 1, ..fine },
        ] {
            let error = promises_of(broken).unwrap_err().to_string();
            assert!(
                error.contains("steady") && error.contains("ring") && error.contains("reader 1"),
                "{error}"
            );
        }
    }

    #[test]
    fn whoever_lost_nothing_has_seen_the_one_order() {
        let perfect = Counts { received: 10, ..Counts::default() };
        promises_of_order(perfect, 7).unwrap();
        let error = promises_of_order(perfect, 8).unwrap_err().to_string();
        assert!(error.contains("readers 0 and 1") && error.contains("order"), "{error}");
        promises_of_order(Counts { received: 9, lost: 1, ..perfect }, 8).unwrap();
    }
}
