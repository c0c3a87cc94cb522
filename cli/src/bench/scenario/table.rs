//! The figures as tables: a heading and rows of text, for a terminal or a page.

use super::figure::{count, latency, percent, rate, seconds, short};
use super::outcome::{Latency, Outcome, WriterDetail, relative_percent};
use super::plan::Plan;
use super::protocol::ReaderFigures;
use crate::bench::output;
use crate::engine::{Mode, Wait, Waited};

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
        for line in waits(outcome) {
            text += &(line + "\n");
        }
    }
    text + &side_by_side(outcomes).to_string()
}

/// Whom the writer waited for, a line each.
pub fn waits(outcome: &Outcome) -> Vec<String> {
    let who = if outcome.writers == 1 { "the writer" } else { "writers" };
    let line = |w: &Waited| {
        format!("{who} waited for {} {} times, {:.3} s in all", w.reader, count(w.times), w.seconds)
    };
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
        text +=
            &format!(", readers burn {} ms of CPU a message", plan.reader_burn_cpu_milliseconds);
    }
    if plan.writers > 1 {
        text += &format!(", by {} writers", plan.writers);
    }
    if plan.wait != Wait::default() {
        text += &format!(", the ring's readers {}", plan.wait);
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
        "tombstones",
        "sleeps",
        "p50",
        "p99",
        "p99.9",
        "max",
        "CPU s",
    ];
    let lines: Vec<_> =
        outcome.reader_figures.iter().map(|r| ReaderLine::new(outcome, r)).collect();
    let mut rows: Vec<_> = outcome
        .writers_detail
        .iter()
        .enumerate()
        .map(|(index, writer)| {
            let name =
                if outcome.writers == 1 { "writer".to_owned() } else { format!("writer {index}") };
            let mut cells = of_writer(outcome, writer, name);
            cells.resize(header.len() - 1, String::new());
            cells.push(seconds(writer.cpu_seconds));
            cells
        })
        .collect();
    if lines.len() <= READERS_IN_FULL {
        rows.extend(
            lines.iter().enumerate().map(|(row, line)| line.cells(format!("reader {row}"))),
        );
    } else {
        rows.extend([("minimum", 0.0), ("median", 0.5), ("maximum", 1.0)].map(
            |(name, quantile)| {
                ReaderLine::quantile(&lines, quantile).cells(format!("readers, {name}"))
            },
        ));
    }
    Table {
        title: format!("{}, {} engine", outcome.preset, outcome.engine),
        header: header.map(str::to_owned).to_vec(),
        rows,
    }
}

/// The first cells of a writer's row: those that readers have too.
fn of_writer(outcome: &Outcome, writer: &WriterDetail, name: String) -> Vec<String> {
    let per_second = writer.writes as f64 / writer.seconds;
    let target = outcome.target_writes_per_second / outcome.writers as f64;
    vec![
        name,
        count(writer.writes),
        seconds(writer.seconds),
        rate(per_second * outcome.slot_bytes as f64 / 1e6),
        rate(per_second),
        percent(relative_percent(per_second, target)),
        count(writer.stalls),
    ]
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
    tombstones: u64,
    sleeps: Option<u64>,
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
            tombstones: reader.counts.tombstones,
            sleeps: reader.counts.sleeps,
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
            tombstones: count(|line| line.tombstones),
            sleeps: time(|line| line.sleeps),
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
            count(self.tombstones),
            known(self.sleeps),
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

/// How readers wait.
fn waiting(run: &Outcome) -> String {
    run.wait.map_or("-".to_owned(), |wait| wait.to_string())
}

/// A number that not every queue knows.
fn known(number: Option<u64>) -> String {
    number.map_or("-".to_owned(), count)
}

/// What is compared between engines.
const FIGURES: [Figure; 20] = [
    ("writers", |run| run.writers.to_string()),
    ("readers wait", waiting),
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
    ("tombstones", |run| count(run.readers_detail.iter().map(|r| r.tombstones).sum())),
    ("sleeps", |run| known(run.sleeps())),
    ("latency p50", |run| latency(run.latency_ns.p50)),
    ("latency p99", |run| latency(run.latency_ns.p99)),
    ("latency p99.9", |run| latency(run.latency_ns.p999)),
    ("latency max", |run| latency(run.latency_ns.max)),
    ("CPU s, writers / readers", |run| {
        format!("{} / {}", seconds(run.writer_cpu_seconds), seconds(run.readers_cpu_seconds))
    }),
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
        "mode",
        "writers",
        "wait",
        "slots/s",
        "vs target",
        "MB/s",
        "stalls",
        "lost",
        "corrupt",
        "sleeps",
        "p50",
        "p99",
        "p99.9",
        "max",
        "writers CPU s",
        "readers CPU s",
    ];
    let rows = outcomes.iter().map(|run| {
        vec![
            run.preset.clone(),
            run.engine.to_string(),
            run.mode.to_owned(),
            run.writers.to_string(),
            waiting(run),
            rate(run.writes_per_second),
            percent(run.percent_vs_target),
            rate(run.mb_per_second),
            count(run.stalls),
            format!("{:.2} %", run.lost_percent()),
            count(run.readers_detail.iter().map(|reader| reader.corrupt).sum()),
            known(run.sleeps()),
            latency(run.latency_ns.p50),
            latency(run.latency_ns.p99),
            latency(run.latency_ns.p999),
            latency(run.latency_ns.max),
            seconds(run.writer_cpu_seconds),
            seconds(run.readers_cpu_seconds),
        ]
    });
    Table {
        title: "all runs".to_owned(),
        header: header.map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = output::table(&self.header);
        table.add_rows(&self.rows);
        writeln!(f, "\n{}\n{table}", self.title)
    }
}
