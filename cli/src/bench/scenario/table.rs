//! The figures as tables: a heading and rows of text, for a terminal or a page.

use super::figure::{count, latency, percent, rate, seconds, short};
use super::outcome::{Latency, Outcome, relative_percent};
use super::plan::Plan;
use super::protocol::ReaderFigures;
use crate::bench::output;
use crate::engine::{Mode, Waited};

/// More readers than this are summed up by their minimum, median and maximum.
const READERS_IN_FULL: usize = 8;

/// A table. The first column is text, the others are figures.
#[derive(Debug, Clone)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// The heads of the columns.
    pub header: Vec<String>,
    /// As many cells each as there are columns.
    pub rows: Vec<Vec<String>>,
}

/// All about one plan: a table per engine, and the engines side by side.
pub fn of_plan(plan: &Plan, outcomes: &[Outcome]) -> String {
    let mut text = format!("\n{}\n", describe(plan));
    for outcome in outcomes {
        text += &of_processes(outcome).to_string();
        text += &waits(outcome);
    }
    text + &side_by_side(outcomes).to_string()
}

/// Whom the writer waited for, a line each.
fn waits(outcome: &Outcome) -> String {
    let line = |w: &Waited| format!("the writer waited for {} {} times, {:.3} s in all\n", w.reader, count(w.times), w.seconds);
    outcome.waited_for.iter().map(line).collect()
}

/// The runs of several plans, one row each.
pub fn summary(outcomes: &[Outcome]) -> String {
    all_runs(outcomes).to_string()
}

/// A plan in a line.
pub fn describe(plan: &Plan) -> String {
    let mut text = format!(
        "{}: {} readers, {} slots of {} bytes, {} writes a second for {} s",
        plan.name,
        plan.readers,
        count(plan.slots as u64),
        count(plan.slot_bytes as u64),
        short(plan.writes_per_second),
        short(plan.duration_seconds),
    );
    if plan.reader_burn_cpu_milliseconds > 0.0 {
        text += &format!(", readers burn {} ms of CPU a message", plan.reader_burn_cpu_milliseconds);
    }
    if plan.mode == Mode::Gating {
        text += ", the ring's readers gate";
    }
    if !plan.verify {
        text += ", CRCs not verified";
    }
    text
}

/// What each process of a run did.
pub fn of_processes(outcome: &Outcome) -> Table {
    let header = [
        "process",
        "slots",
        "seconds",
        "MB/s",
        "slots/s",
        "vs target",
        "stalls",
        "lost",
        "corrupt",
        "duplicated",
        "out of order",
        "p50",
        "p99",
        "p99.9",
        "max",
        "CPU s",
    ];
    let mut writer = vec![
        "writer".to_owned(),
        count(outcome.writes),
        seconds(outcome.duration_seconds),
        rate(outcome.mb_per_second),
        rate(outcome.writes_per_second),
        percent(outcome.percent_vs_target),
        count(outcome.stalls),
    ];
    writer.resize(header.len() - 1, String::new());
    writer.push(seconds(outcome.writer_cpu_seconds));

    let lines: Vec<_> = outcome.reader_figures.iter().map(|r| ReaderLine::new(outcome, r)).collect();
    let mut rows = vec![writer];
    if lines.len() <= READERS_IN_FULL {
        rows.extend(lines.iter().enumerate().map(|(row, line)| line.cells(format!("reader {row}"))));
    } else {
        rows.extend(
            [("minimum", 0.0), ("median", 0.5), ("maximum", 1.0)]
                .map(|(name, quantile)| ReaderLine::quantile(&lines, quantile).cells(format!("readers, {name}"))),
        );
    }
    Table { title: format!("{}, {} engine", outcome.preset, outcome.engine), header: header.map(str::to_owned).to_vec(), rows }
}

/// The figures of a reader that stand in its row.
#[derive(Debug, Clone, Copy)]
struct ReaderLine {
    received: u64,
    seconds: f64,
    mb_per_second: f64,
    per_second: f64,
    versus_target: f64,
    lost: u64,
    corrupt: u64,
    duplicates: u64,
    out_of_order: u64,
    latency: Latency,
    cpu_seconds: f64,
}

impl ReaderLine {
    fn new(outcome: &Outcome, reader: &ReaderFigures) -> Self {
        let per_second = reader.counts.received as f64 / reader.seconds;
        Self {
            received: reader.counts.received,
            seconds: reader.seconds,
            mb_per_second: per_second * outcome.slot_bytes as f64 / 1e6,
            per_second,
            versus_target: relative_percent(per_second, outcome.target_writes_per_second),
            lost: reader.counts.lost,
            corrupt: reader.counts.corrupt,
            duplicates: reader.counts.duplicates,
            out_of_order: reader.counts.out_of_order,
            latency: Latency::of([reader]),
            cpu_seconds: reader.cpu_seconds,
        }
    }

    /// Each figure's own quantile: a row of these is no single reader.
    fn quantile(lines: &[Self], quantile: f64) -> Self {
        fn pick<T: Copy>(
            lines: &[ReaderLine],
            quantile: f64,
            figure: impl Fn(&ReaderLine) -> T,
            order: impl Fn(&T, &T) -> std::cmp::Ordering,
        ) -> T {
            let mut figures: Vec<_> = lines.iter().map(figure).collect();
            figures.sort_by(order);
            figures[((figures.len() - 1) as f64 * quantile).round() as usize]
        }
        let number = |figure: fn(&Self) -> f64| pick(lines, quantile, figure, f64::total_cmp);
        let count = |figure: fn(&Self) -> u64| pick(lines, quantile, figure, u64::cmp);
        let time = |figure: fn(&Self) -> Option<u64>| pick(lines, quantile, figure, Option::cmp);
        Self {
            received: count(|line| line.received),
            seconds: number(|line| line.seconds),
            mb_per_second: number(|line| line.mb_per_second),
            per_second: number(|line| line.per_second),
            versus_target: number(|line| line.versus_target),
            lost: count(|line| line.lost),
            corrupt: count(|line| line.corrupt),
            duplicates: count(|line| line.duplicates),
            out_of_order: count(|line| line.out_of_order),
            latency: Latency {
                p50: time(|line| line.latency.p50),
                p99: time(|line| line.latency.p99),
                p999: time(|line| line.latency.p999),
                max: time(|line| line.latency.max),
            },
            cpu_seconds: number(|line| line.cpu_seconds),
        }
    }

    fn cells(&self, name: String) -> Vec<String> {
        vec![
            name,
            count(self.received),
            seconds(self.seconds),
            rate(self.mb_per_second),
            rate(self.per_second),
            percent(self.versus_target),
            String::new(),
            count(self.lost),
            count(self.corrupt),
            count(self.duplicates),
            count(self.out_of_order),
            latency(self.latency.p50),
            latency(self.latency.p99),
            latency(self.latency.p999),
            latency(self.latency.max),
            seconds(self.cpu_seconds),
        ]
    }
}

/// A figure of a run: its name and how it is written.
type Figure = (&'static str, fn(&Outcome) -> String);

/// What is compared between engines.
const FIGURES: [Figure; 16] = [
    ("slots written", |run| count(run.writes)),
    ("seconds", |run| seconds(run.duration_seconds)),
    ("MB/s", |run| rate(run.mb_per_second)),
    ("slots/s", |run| rate(run.writes_per_second)),
    ("writer vs target", |run| percent(run.percent_vs_target)),
    ("writer stalls", |run| count(run.stalls)),
    ("received by all", |run| count(run.readers_detail.iter().map(|r| r.received).sum())),
    ("lost", |run| format!("{:.2} %", run.lost_percent())),
    ("corrupt", |run| count(run.readers_detail.iter().map(|r| r.corrupt).sum())),
    ("duplicated", |run| count(run.readers_detail.iter().map(|r| r.duplicates).sum())),
    ("out of order", |run| count(run.readers_detail.iter().map(|r| r.out_of_order).sum())),
    ("latency p50", |run| latency(run.latency_ns.p50)),
    ("latency p99", |run| latency(run.latency_ns.p99)),
    ("latency p99.9", |run| latency(run.latency_ns.p999)),
    ("latency max", |run| latency(run.latency_ns.max)),
    ("CPU s, writer / readers", |run| format!("{} / {}", seconds(run.writer_cpu_seconds), seconds(run.readers_cpu_seconds))),
];

/// One column per engine.
pub fn side_by_side(outcomes: &[Outcome]) -> Table {
    let mut header = vec![String::new()];
    header.extend(outcomes.iter().map(|outcome| outcome.engine.to_string()));
    let rows = FIGURES.iter().map(|(name, figure)| {
        let mut row = vec![(*name).to_owned()];
        row.extend(outcomes.iter().map(figure));
        row
    });
    let preset = outcomes.first().map_or("", |outcome| &outcome.preset);
    Table { title: format!("{preset}, side by side"), header, rows: rows.collect() }
}

/// One row per run.
pub fn all_runs(outcomes: &[Outcome]) -> Table {
    let header = [
        "scenario",
        "engine",
        "slots/s",
        "vs target",
        "MB/s",
        "stalls",
        "lost",
        "corrupt",
        "p50",
        "p99",
        "p99.9",
        "max",
        "writer CPU s",
        "readers CPU s",
    ];
    let rows = outcomes.iter().map(|run| {
        vec![
            run.preset.clone(),
            run.engine.to_string(),
            rate(run.writes_per_second),
            percent(run.percent_vs_target),
            rate(run.mb_per_second),
            count(run.stalls),
            format!("{:.2} %", run.lost_percent()),
            count(run.readers_detail.iter().map(|reader| reader.corrupt).sum()),
            latency(run.latency_ns.p50),
            latency(run.latency_ns.p99),
            latency(run.latency_ns.p999),
            latency(run.latency_ns.max),
            seconds(run.writer_cpu_seconds),
            seconds(run.readers_cpu_seconds),
        ]
    });
    Table { title: "all runs".to_owned(), header: header.map(str::to_owned).to_vec(), rows: rows.collect() }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = output::table(&self.header);
        table.add_rows(&self.rows);
        writeln!(f, "\n{}\n{table}", self.title)
    }
}
