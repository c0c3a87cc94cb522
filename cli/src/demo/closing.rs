//! The closing comparison: the same load on the ring and on the locked queue.

use anyhow::Result;

use crate::bench::output::{bytes, figure, nanoseconds, table};
use crate::bench::scenario::leftovers::Session;
use crate::bench::scenario::outcome::Outcome;
use crate::bench::scenario::plan::Plan;
use crate::bench::scenario::progress::Progress;
use crate::bench::scenario::{check_promises, room, supervise};
use crate::console::print;
use crate::engine::{Engine, Mode, Wait};
use crate::interrupt::Interrupt;

/// Readers that take longer than the writer gives them: where the two designs differ.
fn plan(seconds: f64) -> Plan {
    Plan {
        name: "demo".to_owned(),
        slot_bytes: 64 << 10,
        slots: 16,
        readers: 4,
        writes_per_second: 500.0,
        duration_seconds: seconds,
        reader_burn_cpu_milliseconds: 10.0,
        verify: true,
        writers: 1,
        mode: Mode::Overwrite,
        wait: Wait::Park,
    }
}

/// Runs and prints it; so many seconds for each queue.
///
/// # Errors
///
/// When a process fails, a promise is broken, or the user interrupts.
pub fn run(seconds: f64, session: &Session, interrupt: &Interrupt) -> Result<()> {
    let plan = plan(seconds);
    room::check(&plan)?;
    print(&format!(
        "\nNow beside a lossless queue under a readers-writer lock: {} messages a second\n\
         of {} to {} readers that need {} ms of CPU for each, {seconds:.1} s with either.\n",
        plan.writes_per_second,
        bytes(plan.slot_bytes),
        plan.readers,
        plan.reader_burn_cpu_milliseconds
    ))?;
    let mut outcomes = Vec::new();
    for engine in [Engine::Ring, Engine::Locked] {
        let mut progress = Progress::new(&plan, engine, false);
        outcomes.push(supervise::run(&plan, engine, session, interrupt, &mut progress)?);
    }
    check_promises(&outcomes)?;
    print(&show(&outcomes))
}

fn show(outcomes: &[Outcome]) -> String {
    let mut lines =
        table(["queue", "writes/s", "pace", "stalls", "received", "lost", "p50", "p99"]);
    for outcome in outcomes {
        let sum = |of: fn(&crate::bench::scenario::tally::Counts) -> u64| {
            outcome.readers_detail.iter().map(of).sum::<u64>()
        };
        let latency = |ns: Option<u64>| ns.map_or("-".to_owned(), |ns| nanoseconds(ns as f64));
        lines.add_row([
            outcome.engine.to_string(),
            figure(outcome.writes_per_second),
            format!("{:.1} %", percent(outcome)),
            outcome.stalls.to_string(),
            sum(|counts| counts.received).to_string(),
            sum(|counts| counts.lost).to_string(),
            latency(outcome.latency_ns.p50),
            latency(outcome.latency_ns.p99),
        ]);
    }
    format!(
        "\n{lines}\npace: of the target; p50, p99: from sending a message until a reader had its copy\n\n{}\n",
        meaning(&outcomes[0], &outcomes[1])
    )
}

fn percent(outcome: &Outcome) -> f64 {
    100.0 + outcome.percent_vs_target
}

/// What the figures say; they were measured, so they may say anything.
fn meaning(ring: &Outcome, locked: &Outcome) -> String {
    let lost: u64 = ring.readers_detail.iter().map(|counts| counts.lost).sum();
    let of_ring = format!(
        "With the ring the writer kept {:.1} % of its pace whatever its readers did",
        percent(ring)
    );
    let of_readers = if lost > 0 {
        format!(";\nthey were told exactly how many messages they missed, {lost} in all.")
    } else {
        ", and nothing was lost.".to_owned()
    };
    let of_locked = if locked.stalls > 0 {
        format!(
            "Under the lock it waited for them {} times and kept {:.1} %: nothing was lost,\nbut everybody is as slow as the slowest reader.",
            locked.stalls,
            percent(locked)
        )
    } else {
        format!(
            "Under the lock it kept {:.1} %, and did not have to wait on this machine.",
            percent(locked)
        )
    };
    format!("{of_ring}{of_readers}\n{of_locked}")
}
