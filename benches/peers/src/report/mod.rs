//! The result for people: tables on a terminal, and a page with plots.

mod page;
mod plot;
mod table;

use anyhow::Result;

use crate::arena::Arena;
use crate::row::{Row, Skip, rows};

/// All that was measured.
#[derive(Debug)]
pub struct Report {
    /// As they go into the JSON.
    pub rows: Vec<Row>,
    /// The same that the last rows say, one line for each reason.
    skipped: Vec<Skip>,
    is_quick: bool,
    machine: Vec<(&'static str, String)>,
    python: Option<String>,
}

impl Report {
    /// Of a run on this `machine`.
    pub fn of(arena: &Arena<'_>, machine: Vec<(&'static str, String)>, is_quick: bool) -> Self {
        let mut skipped: Vec<Skip> = Vec::new();
        for skip in &arena.skipped {
            // The same again for another size or number of readers says nothing new.
            let known = |known: &&mut Skip| {
                (known.bench, known.system, &known.reason)
                    == (skip.bench, skip.system, &skip.reason)
            };
            match skipped.iter_mut().find(known) {
                Some(known) if !known.case.split("; ").any(|case| case == skip.case) => {
                    known.case = format!("{}; {}", known.case, skip.case)
                }
                Some(_) => {}
                None => skipped.push(skip.clone()),
            }
        }
        Self {
            rows: rows(&arena.all, &skipped),
            skipped,
            is_quick,
            machine,
            python: arena.python_version().map(str::to_owned),
        }
    }

    /// The tables.
    pub fn text(&self) -> String {
        table::text(self)
    }

    /// The page.
    ///
    /// # Errors
    ///
    /// When a plot cannot be drawn.
    pub fn page(&self) -> Result<String> {
        page::render(self)
    }
}
