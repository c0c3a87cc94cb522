//! One table per case: a line per system, best first.

use std::fmt::Write as _;

use seqring_cli::bench::output::{bytes, figure, nanoseconds, table};
use seqring_cli::bench::stats::Quartiles;

use super::Report;
use crate::row::{Row, Unit};

/// The head of every table.
pub const HEAD: [&str; 9] =
    ["system", "value", "quartiles", "p50", "p99", "p99.9", "max", "/ floor", "/ best peer"];

/// Rows that are compared with each other, best first, under a title.
pub struct Group<'a> {
    /// Benchmark, size, readers, what was done.
    pub title: String,
    /// Not empty.
    pub rows: Vec<&'a Row>,
}

/// All groups, in the order of the run.
pub fn groups(rows: &[Row]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for row in rows.iter().filter(|row| row.value.is_some()) {
        let title = title(row);
        match groups.iter_mut().find(|group| group.title == title) {
            Some(group) => group.rows.push(row),
            None => groups.push(Group { title, rows: vec![row] }),
        }
    }
    for group in &mut groups {
        let is_gain = group.rows[0].unit.is_some_and(Unit::is_gain);
        let key = |row: &Row| {
            row.value.map_or(f64::INFINITY, |value| if is_gain { -value } else { value })
        };
        group.rows.sort_by(|a, b| key(a).total_cmp(&key(b)));
    }
    groups
}

fn title(row: &Row) -> String {
    match row.bench {
        "fan-out" => format!("fan-out, {} readers, {}", row.readers, row.mode),
        "memory" => {
            format!("memory, {} of {}, {} readers", row.mode, bytes(row.payload_bytes), row.readers)
        }
        bench => format!("{bench}, {}, {}", bytes(row.payload_bytes), row.mode),
    }
}

/// A value with its unit.
pub fn value(row: &Row, value: f64) -> String {
    match row.unit {
        Some(Unit::Nanoseconds) => precise(value),
        Some(Unit::MessagesPerSecond) => format!("{}/s", figure(value)),
        Some(Unit::Bytes) => bytes(value as usize),
        Some(Unit::Share) => format!("{:.1} %", value * 100.0),
        None => String::new(),
    }
}

/// Small times differ in their tenths.
fn precise(ns: f64) -> String {
    if ns < 100.0 { format!("{ns:.1} ns") } else { nanoseconds(ns) }
}

/// The cells of a row, under [`HEAD`].
pub fn cells(row: &Row) -> [String; 9] {
    let spread = |quartiles: Option<Quartiles>| match quartiles {
        Some(q) if row.rounds > 1 => format!("{} - {}", value(row, q.q1), value(row, q.q3)),
        _ => String::new(),
    };
    let time = |ns: Option<f64>| ns.map(precise).unwrap_or_default();
    let ratio = |quartiles: Option<Quartiles>| match quartiles {
        Some(q) if row.rounds > 1 => {
            format!("{} ({} - {})", factor(q.median), factor(q.q1), factor(q.q3))
        }
        Some(q) => factor(q.median),
        None => String::new(),
    };
    [
        row.system.to_string(),
        row.value.map(|median| value(row, median)).unwrap_or_default(),
        spread(row.spread.value),
        time(row.p50),
        time(row.p99),
        time(row.p999),
        time(row.max),
        ratio(row.spread.floor),
        ratio(row.spread.peer),
    ]
}

/// A ratio, with as many digits as it deserves.
pub fn factor(ratio: f64) -> String {
    if ratio < 0.1 {
        format!("{ratio:.4}")
    } else if ratio < 100.0 {
        format!("{ratio:.2}")
    } else {
        format!("{ratio:.0}")
    }
}

/// Everything.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for group in groups(&report.rows) {
        let mut lines = table(HEAD);
        for row in &group.rows {
            lines.add_row(cells(row));
        }
        let _ = writeln!(text, "{}\n{lines}\n", group.title);
    }
    text.push_str(
        "value = median over the rounds; ratios are medians of the ratios of each round, with their quartiles. floor = the hand-off, from 1 KiB on\n\
         with both copies; best peer = the best system other than seqring. Below 1 is better for times and bytes, above 1 for messages a second and shares.\n",
    );
    for skip in &report.skipped {
        let _ = writeln!(
            text,
            "skipped: {} in {} ({}): {}",
            skip.system, skip.bench, skip.case, skip.reason
        );
    }
    if report.is_quick {
        text.push_str("--quick: few rounds; for figures to be quoted, run without it.\n");
    }
    text
}
