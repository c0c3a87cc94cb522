//! What the benchmarks show: progress on standard error, then a table or JSON on standard output.

use anyhow::Result;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Row, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::console;

/// A bar on a terminal; nothing elsewhere.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar of so many steps.
    pub fn new(what: &str, steps: u64) -> Self {
        let style = ProgressStyle::with_template("{prefix:32} {bar:30.cyan} {percent:>3}%")
            .expect("the template is valid");
        Self(ProgressBar::new(steps).with_style(style).with_prefix(what.to_owned()))
    }

    /// One step is done.
    pub fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Prints the rows, as JSON or as the table that `table` makes of them.
///
/// # Errors
///
/// When standard output takes nothing; a reader that has seen enough is no failure.
pub fn print<R: Serialize>(
    json: bool,
    rows: &[R],
    table: impl FnOnce(&[R]) -> String,
) -> Result<()> {
    let text = if json { serde_json::to_string_pretty(rows)? + "\n" } else { table(rows) };
    console::print(&text)
}

/// An empty table: words to the left in the first column, figures to the right in the others. It is
/// as wide as it needs to be: one that wraps in the terminal is easier to read than wrapped cells.
pub fn table(header: impl Into<Row>) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A duration in a unit that keeps it short.
pub fn nanoseconds(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        ns if ns < 1e9 => format!("{:.1} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}

/// A number with three or four significant digits, and a metric prefix if it is large.
pub fn figure(value: f64) -> String {
    let (scaled, prefix) = match value.abs() {
        x if x >= 1e9 => (value / 1e9, " G"),
        x if x >= 1e6 => (value / 1e6, " M"),
        x if x >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let decimals = if scaled.abs() < 10.0 {
        2
    } else if scaled.abs() < 100.0 {
        1
    } else {
        0
    };
    format!("{scaled:.decimals$}{prefix}")
}

/// A size in the largest unit that makes it a whole number.
pub fn bytes(bytes: usize) -> String {
    match bytes {
        n if n > 0 && n.is_multiple_of(1 << 20) => format!("{} MiB", n >> 20),
        n if n > 0 && n.is_multiple_of(1 << 10) => format!("{} KiB", n >> 10),
        n => format!("{n} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_three_digits() {
        let shown: Vec<_> =
            [0.0, 1.234, 56.78, 9876.0, 12_345.0, 2.5e6, 3.21e11].map(figure).into();
        assert_eq!(shown, ["0.00", "1.23", "56.8", "9876", "12.3 k", "2.50 M", "321 G"]);
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(
            [35.4, 1234.0, 2_500_000.0, 1.234e9].map(nanoseconds),
            ["35 ns", "1.2 µs", "2.5 ms", "1.23 s"]
        );
    }

    #[test]
    fn sizes_are_whole() {
        assert_eq!([8, 1000, 4096, 1 << 20].map(bytes), ["8 B", "1000 B", "4 KiB", "1 MiB"]);
    }
}
