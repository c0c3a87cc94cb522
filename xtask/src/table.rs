//! `cargo xtask models`: the table of the loom models in the documentation.
//!
//! A model's sentence is the first one of its doc comment. The number of executions comes from
//! running it; loom explores in a fixed order, so the number changes with the code only.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use syn::{Attribute, Expr, Item, Lit, Meta};

use crate::loom;
use crate::models::Run;
use crate::places::{MODELS, MODELS_TABLE};
use crate::sources::{self, read};
use crate::workspace::Workspace;

const BEGIN: &str = "<!-- begin models: written by `cargo xtask models` -->";
const END: &str = "<!-- end models -->";
const COMMAND: &str = "cargo xtask models";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the table instead of writing it into the documentation
    #[arg(long, conflicts_with = "check")]
    pub markdown: bool,
    /// Compare the models and their sentences with the table in this file, without running any
    /// [default: docs/verification.md]
    #[arg(long, value_name = "FILE")]
    pub check: Option<Option<PathBuf>>,
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    model: String,
    sentence: String,
    /// Bound and number of executions; `None` for a model that was not run.
    explored: Option<Explored>,
}

/// How far a model was explored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explored {
    /// `complete`, or the number of preemptions.
    bound: String,
    executions: u64,
}

pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if let Some(file) = &args.check {
        let file = file.clone().unwrap_or_else(|| workspace.root.join(MODELS_TABLE));
        return check(workspace, &file, None);
    }
    // A model without a sentence is told before minutes of running.
    described(&workspace.root)?;
    let runs = loom::run(workspace, &loom::Args::default())?;
    let table = markdown(&rows(&workspace.root, &explored(&runs)?)?);
    if args.markdown {
        print!("{table}");
        return Ok(());
    }
    let path = workspace.root.join(MODELS_TABLE);
    let written = replaced(&read(&path)?, &table)?;
    fs::write(&path, written).with_context(|| format!("{} cannot be written", path.display()))?;
    println!("{MODELS_TABLE} holds the table now; commit it");
    Ok(())
}

/// Fails unless the table in `file` is the current one. Bounds and executions are compared if the
/// models were run.
pub fn check(workspace: &Workspace, file: &Path, runs: Option<&[Run]>) -> Result<()> {
    let found = parse(table_in(&read(file)?)?)
        .with_context(|| format!("the table of models in {} is damaged", file.display()))?;
    let explored = match runs {
        Some(runs) => explored(runs)?,
        None => found
            .iter()
            .filter_map(|row| Some((row.model.clone(), row.explored.clone()?)))
            .collect(),
    };
    let differences = differences(&found, &rows(&workspace.root, &explored)?);
    if !differences.is_empty() {
        bail!(
            "the table of models in {} is not current; run `{COMMAND}`\n{}",
            sources::name_of(&workspace.root, file),
            differences.join("\n")
        );
    }
    println!("the table of {} models is current", found.len());
    Ok(())
}

fn differences(found: &[Row], current: &[Row]) -> Vec<String> {
    let by_name = |rows: &[Row]| -> BTreeMap<String, Row> {
        rows.iter().map(|row| (row.model.clone(), row.clone())).collect()
    };
    let (old, new) = (by_name(found), by_name(current));
    let mut differences = Vec::new();
    for (model, row) in &new {
        match old.get(model) {
            None => differences.push(format!("{model} is missing")),
            Some(old) if old != row => {
                differences.push(format!("{model} is `{}`, not `{}`", shown(row), shown(old)));
            }
            Some(_) => {}
        }
    }
    for model in old.keys().filter(|model| !new.contains_key(*model)) {
        differences.push(format!("{model} does not exist"));
    }
    if differences.is_empty() && !found.iter().eq(current) {
        differences.push("the rows are not sorted".to_owned());
    }
    differences
}

/// The models by name, with what is known of their exploration.
fn rows(root: &Path, explored: &BTreeMap<String, Explored>) -> Result<Vec<Row>> {
    let row = |(model, sentence): (String, String)| {
        let explored = explored.get(&model).cloned();
        Row { model, sentence, explored }
    };
    Ok(described(root)?.into_iter().map(row).collect())
}

/// The names of all models in the package's test targets, sorted, with their sentences.
fn described(root: &Path) -> Result<BTreeMap<String, String>> {
    let directory = root.join(MODELS).join("tests");
    let mut models = BTreeMap::new();
    let mut silent = Vec::new();
    for path in sources::rust_files(&directory)? {
        let file = sources::name_of(root, &path);
        let target = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for item in sources::parse(&file, &read(&path)?)?.items {
            let Item::Fn(function) = item else {
                continue;
            };
            if !function.attrs.iter().any(|attribute| attribute.path().is_ident("test")) {
                continue;
            }
            let name = format!("{target}::{}", function.sig.ident);
            let sentence = first_sentence(&function.attrs);
            if sentence.is_empty() {
                silent.push(name.clone());
            }
            models.insert(name, sentence);
        }
    }
    if !silent.is_empty() {
        bail!(
            "{} model(s) have no doc comment; write a sentence that says what each shows: {}",
            silent.len(),
            silent.join(", ")
        );
    }
    Ok(models)
}

/// The first sentence of the documentation; empty if there is none.
fn first_sentence(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    let paragraph: Vec<String> =
        lines.map(|line| line.trim().to_owned()).take_while(|line| !line.is_empty()).collect();
    let paragraph = paragraph.join(" ");
    match paragraph.find(". ") {
        Some(end) => paragraph[..=end].to_owned(),
        None => paragraph,
    }
}

/// What the models have printed of their exploration.
fn explored(runs: &[Run]) -> Result<BTreeMap<String, Explored>> {
    let mut all = BTreeMap::new();
    for run in runs {
        let text =
            fs::read(&run.log).with_context(|| format!("{} cannot be read", run.log.display()))?;
        if let Some(explored) = printed(&String::from_utf8_lossy(&text)) {
            all.insert(run.model.clone(), explored);
        }
    }
    Ok(all)
}

/// From lines such as `model slot::x: 10 iterations in 0.1 s (at most 3 preemptions); ...`. A test
/// that explores several models counts the executions of all.
fn printed(output: &str) -> Option<Explored> {
    let mut sum: Option<Explored> = None;
    for line in output.lines() {
        let Some((_, rest)) = line.split_once("model ").filter(|(before, _)| {
            before.is_empty() || (before.starts_with("test ") && before.ends_with(" ... "))
        }) else {
            continue;
        };
        let (_, rest) = rest.split_once(": ")?;
        let (executions, rest) = rest.split_once(" iterations in ")?;
        let (_, rest) = rest.split_once('(')?;
        let (bound, _) = rest.split_once(')')?;
        let bound = bound.trim_start_matches("at most ").trim_end_matches(" preemptions");
        let executions: u64 = executions.parse().ok()?;
        sum = Some(match sum {
            None => Explored { bound: bound.to_owned(), executions },
            Some(sum) => {
                let bound = if sum.bound == "complete" { bound } else { &sum.bound };
                Explored { bound: bound.to_owned(), executions: sum.executions + executions }
            }
        });
    }
    sum
}

fn markdown(rows: &[Row]) -> String {
    let mut text = "| model | what it shows | bound | executions |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        text += &format!("{}\n", shown(row));
    }
    text
}

fn shown(row: &Row) -> String {
    let sentence = row.sentence.replace('|', "\\|");
    let (bound, executions) = match &row.explored {
        Some(explored) => (explored.bound.as_str(), grouped(explored.executions)),
        None => ("", String::new()),
    };
    format!("| `{}` | {sentence} | {bound} | {executions} |", row.model)
}

/// A number with a space after each group of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn parse(table: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for line in table.lines().skip(2) {
        let cells = line.trim().strip_prefix("| ").and_then(|line| line.strip_suffix(" |"));
        let cells = cells.with_context(|| format!("this is no row: {line}"))?;
        let cells = cells.replace("\\|", "\u{0}");
        let cells: Vec<String> =
            cells.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect();
        let [model, sentence, bound, executions] = cells.as_slice() else {
            bail!("this row has {} cells, not 4: {line}", cells.len());
        };
        let executions = executions.replace(' ', "");
        let explored = if executions.is_empty() {
            None
        } else {
            let executions = executions
                .parse()
                .with_context(|| format!("{executions:?} is no number of executions"))?;
            Some(Explored { bound: bound.clone(), executions })
        };
        rows.push(Row {
            model: model.trim_matches('`').to_owned(),
            sentence: sentence.clone(),
            explored,
        });
    }
    Ok(rows)
}

/// The lines between the two marks.
fn table_in(text: &str) -> Result<&str> {
    let (_, rest) = text.split_once(BEGIN).with_context(|| format!("there is no `{BEGIN}`"))?;
    let (table, _) = rest.split_once(END).with_context(|| format!("there is no `{END}`"))?;
    Ok(table.trim_start_matches('\n'))
}

/// The text with another table between the two marks.
fn replaced(text: &str, table: &str) -> Result<String> {
    let old = table_in(text)?;
    let start = text.find(BEGIN).unwrap_or_default() + BEGIN.len();
    let end = text[start..].find(END).unwrap_or_default() + start;
    debug_assert!(text[start..end].ends_with(old));
    Ok(format!("{}\n{table}{}", &text[..start], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::tests::Scratch;

    fn row(model: &str, sentence: &str, executions: u64) -> Row {
        let explored = Explored { bound: "3".to_owned(), executions };
        Row { model: model.to_owned(), sentence: sentence.to_owned(), explored: Some(explored) }
    }

    fn models(source: &str, name: &str) -> Result<BTreeMap<String, String>> {
        let scratch =
            Scratch::new(&format!("table-{name}"), &[("loom-tests/tests/slot.rs", source)]);
        described(&scratch.0)
    }

    #[test]
    fn sentences_come_from_the_doc_comments() {
        let source = "//! Words.\n/// No model.\nfn helper() {}\n\
                      /// A reader sees\n/// one lap. More.\n///\n/// And more.\n#[test]\nfn a() {}\n\
                      #[test]\n/// Two laps, `a|b`\nfn b() {}\n";
        let models = models(source, "sentences").unwrap();
        let expected = [("slot::a", "A reader sees one lap."), ("slot::b", "Two laps, `a|b`")];
        assert_eq!(models, expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
    }

    #[test]
    fn a_model_without_a_sentence_is_refused() {
        let error = models("#[test]\nfn silent() {}", "silent").unwrap_err().to_string();
        assert!(error.contains("slot::silent"), "{error}");
    }

    #[test]
    fn executions_come_from_the_output() {
        let output = "\nrunning 1 test\ntest x ... model slot::x: 1234 iterations in 0.0 s \
                      (complete); a: 6\nmodel slot::y: 6 iterations in 0.1 s (at most 2 \
                      preemptions); b: 1\nno model x: 7 iterations in 0 s (complete)\n";
        let expected = Explored { bound: "2".to_owned(), executions: 1240 };
        assert_eq!(printed(output), Some(expected));
        assert_eq!(printed("running 1 test\n"), None);
    }

    #[test]
    fn what_is_written_is_read_and_replaced() {
        let rows = [row("slot::a", "One | two.", 1_234_567), row("slot::b", "Two.", 12)];
        let table = markdown(&rows);
        assert!(table.contains("| `slot::a` | One \\| two. | 3 | 1 234 567 |"), "{table}");
        assert_eq!(parse(&table).unwrap(), rows);
        let text = format!("before\n{BEGIN}\n| old |\n{END}\nafter\n");
        let written = replaced(&text, &table).unwrap();
        assert_eq!(written, format!("before\n{BEGIN}\n{table}{END}\nafter\n"));
        assert_eq!(table_in(&written).unwrap(), table);
        assert_eq!(replaced(&written, &table).unwrap(), written);
        assert!(replaced("no marks", &table).is_err());
        assert!(replaced(BEGIN, &table).is_err());
    }

    #[test]
    fn a_table_that_is_not_current_is_refused() {
        let current = [row("a", "One.", 1), row("b", "Two.", 2)];
        assert_eq!(differences(&current, &current), [] as [String; 0]);
        let one = |found: &[Row]| assert_eq!(differences(found, &current).len(), 1, "{found:?}");
        one(&current[1..]);
        one(&[current[0].clone(), row("b", "Other.", 2)]);
        one(&[current[0].clone(), row("b", "Two.", 3)]);
        one(&[current[0].clone(), current[1].clone(), row("c", "Three.", 3)]);
        one(&[current[1].clone(), current[0].clone()]);
        for damaged in ["| a | b |\n|---|\n| `x` | y |\n", "||\n||\n| `x` | y | 3 | many |\n"] {
            assert!(parse(damaged).is_err());
        }
    }
}
