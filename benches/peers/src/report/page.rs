//! The page: everything in one file.

use anyhow::Result;
use clap::ValueEnum as _;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use seqring_cli::bench::output::{bytes, figure};

use super::Report;
use super::plot::{bars, index, lines};
use super::table::{HEAD, cells, groups, value};
use crate::row::{Row, Unit};
use crate::spec::System;

const STYLE: &str = include_str!("style.css");

/// The whole page.
///
/// # Errors
///
/// When a plot cannot be drawn.
pub fn render(report: &Report) -> Result<String> {
    let plots = plots(report)?;
    let systems: Vec<_> = System::value_variants()
        .iter()
        .filter(|&&system| {
            report.rows.iter().any(|row| row.system == system && row.value.is_some())
        })
        .collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "seqring and its peers" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "seqring and its peers" }
                p {
                    "The same work in one run: the sender writes the whole message, the receiver ends with a checked copy. The systems take \
                     turns in short rounds, the floor is measured before each turn, and every figure is the median over the rounds."
                    @if report.is_quick { " This was a quick run: few rounds." }
                }
                dl {
                    @for (name, fact) in report.machine.iter().filter(|(name, _)| *name != "command") {
                        div { dt { (name) } dd { (fact) } }
                    }
                    @if let Some(python) = &report.python { div { dt { "Python" } dd { (python) } } }
                }
                p.legend { @for &&system in &systems { span class={ "s" (index(system)) } { (system.name()) } " " } }
                h2 { "seqring beside the best peer" }
                (summary(report))
                @for plot in &plots {
                    h2 { (plot.title) }
                    figure {
                        div.plot { (PreEscaped(&plot.svg)) }
                        figcaption { (plot.caption) }
                    }
                }
                h2 { "All figures" }
                p {
                    "Ratios are medians of the ratios of each round, with their quartiles in brackets. Floor: the hand-off, from 1 KiB on with \
                     both copies. Best peer: the best system other than seqring. Below 1 is better for times and bytes, above 1 for messages \
                     per second and shares."
                }
                @for group in groups(&report.rows) {
                    h3 { (group.title) }
                    (table(&group.rows))
                }
                @if !report.skipped.is_empty() {
                    h2 { "Not measured" }
                    ul {
                        @for skip in &report.skipped { li { (skip.system.name()) ", " (skip.bench) " (" (skip.case) "): " (skip.reason) } }
                    }
                }
            }
        }
    };
    Ok(page.into_string())
}

/// The rows of seqring alone, with who is best beside it.
fn summary(report: &Report) -> Markup {
    let groups = groups(&report.rows);
    let own = groups.iter().filter_map(|group| {
        let row = group.rows.iter().find(|row| row.system == System::Seqring)?;
        Some((group, row, row.spread.peer?, row.spread.best_peer?))
    });
    html! {
        div.wide {
            table {
                thead { tr { th { "case" } th { "seqring" } th { "best peer" } th { "ratio" } th { "quartiles" } th { "/ floor" } } }
                tbody {
                    @for (group, row, ratio, best) in own {
                        @let better = row.unit.is_some_and(|unit| unit.is_better(ratio.median, 1.0));
                        tr {
                            td { (group.title) }
                            td { (row.value.map(|median| value(row, median)).unwrap_or_default()) }
                            td { (best.name()) }
                            td class=(if better { "ahead" } else { "behind" }) { (super::table::factor(ratio.median)) }
                            td { (super::table::factor(ratio.q1)) " - " (super::table::factor(ratio.q3)) }
                            td { (row.ratio_to_floor.map(super::table::factor).unwrap_or_default()) }
                        }
                    }
                }
            }
        }
    }
}

fn table(rows: &[&Row]) -> Markup {
    html! {
        div.wide {
            table {
                thead { tr { @for head in HEAD { th { (head) } } } }
                tbody {
                    @for row in rows {
                        tr.own[row.system.is_ours()] { @for cell in cells(row) { td { (cell) } } }
                    }
                }
            }
        }
    }
}

struct Plot {
    title: String,
    svg: String,
    caption: &'static str,
}

/// A number in few characters, for an axis.
fn axis_time(ns: f64) -> String {
    seqring_cli::bench::output::nanoseconds(ns)
}

fn plots(report: &Report) -> Result<Vec<Plot>> {
    let mut plots = Vec::new();
    let mut add = |title: &str,
                   caption,
                   is_line: bool,
                   wanted: &dyn Fn(&Row) -> bool,
                   by_readers: bool|
     -> Result<()> {
        let rows: Vec<_> = report
            .rows
            .iter()
            .filter(|row| row.value.is_some_and(|value| value > 0.0) && wanted(row))
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        let key = |row: &Row| if by_readers { row.readers } else { row.payload_bytes };
        let mut keys: Vec<_> = rows.iter().map(|row| key(row)).collect();
        keys.sort_unstable();
        keys.dedup();
        let names: Vec<_> =
            keys.iter().map(|&key| if by_readers { key.to_string() } else { bytes(key) }).collect();
        let place = |row: &Row| keys.iter().position(|&other| other == key(row)).unwrap_or(0);
        let label = |value: f64| match rows[0].unit {
            Some(Unit::MessagesPerSecond) => format!("{}/s", figure(value)),
            Some(Unit::Bytes) => bytes(value as usize),
            Some(Unit::Share) => format!("{:.1} %", value * 100.0),
            _ => axis_time(value),
        };
        let svg = if is_line {
            lines(&rows, &names, place, label)?
        } else {
            bars(&rows, &names, place, label)?
        };
        plots.push(Plot { title: title.to_owned(), svg, caption });
        Ok(())
    };
    let is = |bench: &'static str, mode: &'static str| {
        move |row: &Row| row.bench == bench && row.mode == mode
    };
    add(
        "Latency, one way",
        "Half of a round trip, median over the rounds; the lines at the marks reach from quartile to quartile. Both axes by factors.",
        true,
        &is("latency", "poll"),
        false,
    )?;
    for mode in ["overwrite", "overwrite-batch", "lossless", "lossless-batch"] {
        let title = format!("Throughput, {mode}");
        add(
            &title,
            "Messages that arrived per second, by size; the lines reach from quartile to quartile.",
            false,
            &is("throughput", mode),
            false,
        )?;
    }
    for (mode, title) in [
        (
            "overwrite-publish",
            "Fan-out: the sender's time per message, by live readers, overwriting",
        ),
        ("lossless-publish", "Fan-out: the sender's time per message, by live readers, lossless"),
        ("overwrite-deliver", "Fan-out: until every live reader has a message, overwriting"),
        ("lossless-deliver", "Fan-out: until every live reader has a message, lossless"),
        ("idle-publish", "Fan-out: the sender's time per message, by attached idle readers"),
    ] {
        add(
            title,
            "Flat is best. Lines reach from quartile to quartile.",
            true,
            &is("fan-out", mode),
            true,
        )?;
    }
    add(
        "Fan-out: the messages that live readers received while the sender overwrote",
        "Who loses nearly all of them costs the sender little. Lines reach from quartile to quartile.",
        true,
        &is("fan-out", "overwrite-received"),
        true,
    )?;
    add(
        "Wake-up, round trip of two that sleep",
        "The reader has been left alone for a millisecond.",
        false,
        &is("wake-up", "round-trip"),
        false,
    )?;
    add(
        "Memory for the same depth, one reader",
        "What the files of a channel occupy.",
        false,
        &|row| row.bench == "memory" && row.readers == 1,
        false,
    )?;
    for mode in ["create", "attach", "first-message"] {
        let title = format!("Start: {mode}");
        add(
            &title,
            "Median over the rounds, each with a channel of its own.",
            false,
            &is("start", mode),
            false,
        )?;
    }
    Ok(plots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Series, Skip, rows};

    #[test]
    fn the_page_has_everything_and_needs_nothing() {
        let series = |system, value: f64| Series {
            bench: "latency",
            system,
            payload_bytes: 8,
            readers: 1,
            mode: "poll".to_owned(),
            unit: Unit::Nanoseconds,
            values: vec![value, value * 1.2, value * 1.1],
            floors: vec![40.0; 3],
            quantiles: Some([value, value * 2.0, value * 3.0, value * 4.0]),
        };
        let skipped = vec![Skip {
            bench: "all",
            system: System::PythonRing,
            case: "everywhere".to_owned(),
            reason: "no <python>".to_owned(),
        }];
        let rows = rows(&[series(System::Seqring, 50.0), series(System::Ringfire, 60.0)], &skipped);
        let report = Report { rows, skipped, is_quick: true, machine: Vec::new(), python: None };
        let page = report.page().unwrap();
        for part in [
            "<svg",
            "latency, 8 B, poll",
            "ringfire",
            "no &lt;python&gt;",
            "prefers-color-scheme: dark",
            "width=device-width",
        ] {
            assert!(page.contains(part), "{part} is missing");
        }
        assert!(!page.contains("src=") && !page.contains("href="), "the page needs another file");
        let text = report.text();
        assert!(
            text.contains("latency, 8 B, poll")
                && text.contains("skipped: python-ring in all (everywhere): no <python>"),
            "{text}"
        );
    }
}
