//! The page around the plots.

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::plot;
use crate::bench::scenario::machine;
use crate::bench::scenario::outcome::Outcome;
use crate::bench::scenario::plan::Plan;
use crate::bench::scenario::table::{self, Table};

const STYLE: &str = include_str!("style.css");

/// The whole page.
///
/// # Errors
///
/// When a plot cannot be drawn.
pub fn render(plans: &[Plan], outcomes: &[Outcome]) -> Result<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "seqring scenarios" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "seqring scenarios" }
                p {
                    "One writer process, or several, streams through shared memory to many reader processes: the lock-free "
                    "ring, which overwrites or gates, beside a lossless queue under a readers-writer lock. Every figure "
                    "was measured by the process it belongs to."
                }
                dl {
                    @for (name, value) in machine::facts() { div { dt { (name) } dd { (value) } } }
                }
                p.legend {
                    span.ring { "ring" } " " span.locked { "locked" }
                }
                (figure(&plot::versus_target(outcomes)?, "Writer relative to its target",
                    "How far the writer's rate is above (+) or below (-) the rate it was asked for, in percent."))
                (figure(&plot::latency(outcomes)?, "End-to-end latency",
                    "From just before a message is handed to the queue until a reader has its copy, over all \
                     readers; logarithmic. From the wide mark up: p50, p99, p99.9, maximum. A writer that \
                     waits for readers waits within this time."))
                (figure(&plot::loss(outcomes)?, "Messages lost",
                    "Of all messages due to readers, the percentage overwritten before they were read. \
                     The locked queue makes its writer wait instead."))
                (figure(&plot::cpu(outcomes)?, "CPU seconds per second",
                    "User and system time from the start signal until the last message was read, divided by the time \
                     the writer wrote: the writer (solid) and all readers together (light)."))
                h2 { "All runs" }
                (markup(&table::all_runs(outcomes)))
                @for plan in plans {
                    @let runs: Vec<_> = outcomes.iter().filter(|run| run.preset == plan.name).cloned().collect();
                    h2 { (plan.name) }
                    p { (table::describe(plan)) }
                    (markup(&table::side_by_side(&runs)))
                    @for run in &runs {
                        h3 { (run.engine) " engine" }
                        (markup(&table::of_processes(run)))
                        @for line in table::waits(run) { p { (line) } }
                    }
                }
            }
        }
    };
    Ok(page.into_string())
}

fn figure(svg: &str, title: &str, caption: &str) -> Markup {
    html! {
        figure {
            h2 { (title) }
            div.plot { (PreEscaped(svg)) }
            figcaption { (caption) }
        }
    }
}

fn markup(table: &Table) -> Markup {
    html! {
        div.wide {
            table {
                thead { tr { @for head in &table.header { th { (head) } } } }
                tbody {
                    @for row in &table.rows {
                        tr { @for cell in row { td { (cell) } } }
                    }
                }
            }
        }
    }
}
