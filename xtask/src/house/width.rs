//! Lines are not longer than the house allows.
//!
//! What cannot be broken does not count: string literals in code, tables in prose, URLs and the
//! targets of links in both.

use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use proc_macro2::{Literal, TokenStream, TokenTree};

use super::Finding;
use crate::places::COLUMNS;
use crate::sources::read;

/// The lines of these Rust sources that are too long.
pub fn code(root: &Path, files: &[String]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in files {
        let text = read(&root.join(file))?;
        let mut strings = Vec::new();
        collect_strings(text.parse::<TokenStream>().unwrap_or_default(), &text, &mut strings);
        findings.extend(lines_of_code(&text, &strings).map(|line| finding(file, line)));
    }
    Ok(findings)
}

/// The lines of these Markdown files that are too long.
pub fn prose(root: &Path, files: &[String]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in files {
        let text = read(&root.join(file))?;
        findings.extend(lines_of_prose(&text).map(|line| finding(file, line)));
    }
    Ok(findings)
}

fn finding(file: &str, (line, columns): (usize, usize)) -> Finding {
    Finding::new(file, line, format!("{columns} columns; the most are {COLUMNS}"))
}

/// Numbers of lines, from 1, with their columns.
fn lines_of_code(text: &str, strings: &[Range<usize>]) -> impl Iterator<Item = (usize, usize)> {
    let mut start = 0;
    text.split_inclusive('\n').enumerate().filter_map(move |(index, line)| {
        let begin = start;
        start += line.len();
        let line = line.trim_end();
        let columns = line.chars().count();
        if columns <= COLUMNS {
            return None;
        }
        let outside_strings: String = line
            .char_indices()
            .filter(|(at, _)| !strings.iter().any(|range| range.contains(&(begin + at))))
            .map(|(_, character)| character)
            .collect();
        let counted = without_urls(&outside_strings).chars().count();
        (counted > COLUMNS).then_some((index + 1, columns))
    })
}

fn lines_of_prose(text: &str) -> impl Iterator<Item = (usize, usize)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let columns = line.chars().count();
        let is_table = line.trim_start().starts_with('|');
        let counted = without_urls(line).chars().count();
        (!is_table && columns > COLUMNS && counted > COLUMNS).then_some((index + 1, columns))
    })
}

/// The line without its URLs and the targets of its links.
fn without_urls(line: &str) -> String {
    let mut kept = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let end = if rest.starts_with("https://") || rest.starts_with("http://") {
            rest.find(|c: char| c.is_whitespace() || matches!(c, ')' | '>' | '"' | '`'))
        } else if rest.starts_with("](") {
            rest.find(')')
        } else {
            let first = rest.chars().next().map_or(1, char::len_utf8);
            kept.push_str(&rest[..first]);
            Some(first)
        };
        rest = &rest[end.unwrap_or(rest.len())..];
    }
    kept
}

/// The byte ranges of string literals. Comments with documentation are literals for the lexer, but
/// do not look like one.
fn collect_strings(tokens: TokenStream, text: &str, strings: &mut Vec<Range<usize>>) {
    let is_string = |literal: &Literal| {
        let shown = literal.to_string();
        let range = literal.span().byte_range();
        shown.contains('"') && text.get(range).is_some_and(|written| !written.starts_with('/'))
    };
    for token in tokens {
        match token {
            TokenTree::Group(group) => collect_strings(group.stream(), text, strings),
            TokenTree::Literal(literal) if is_string(&literal) => {
                strings.push(literal.span().byte_range());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_lines(text: &str) -> Vec<usize> {
        let mut strings = Vec::new();
        collect_strings(text.parse().unwrap(), text, &mut strings);
        lines_of_code(text, &strings).map(|(line, _)| line).collect()
    }

    fn prose_lines(text: &str) -> Vec<usize> {
        lines_of_prose(text).map(|(line, _)| line).collect()
    }

    #[test]
    fn long_code_and_comments_are_found() {
        let long = "x".repeat(COLUMNS);
        assert_eq!(code_lines(&format!("\nfn f() {{ {long} }}")), [2]);
        assert_eq!(code_lines(&format!("\n// {long}")), [2]);
        assert_eq!(code_lines(&format!("\n/// {long}\nfn f() {{}}")), [2]);
        assert_eq!(code_lines(&format!("//! {long}\n")), [1]);
        assert_eq!(code_lines(&format!("fn f() {{ g(\"a\") }} // {long}")), [1]);
    }

    #[test]
    fn the_limit_itself_is_fine_and_counts_characters() {
        let comment = format!("// {}", "ü".repeat(COLUMNS - 3));
        assert_eq!(code_lines(&comment), [] as [usize; 0]);
        assert_eq!(code_lines(&format!("{comment}ü")), [1]);
        assert_eq!(prose_lines(&"ü".repeat(COLUMNS)), [] as [usize; 0]);
        assert_eq!(prose_lines(&"ü".repeat(COLUMNS + 1)), [1]);
    }

    #[test]
    fn strings_and_urls_in_code_do_not_count() {
        let long = "x".repeat(COLUMNS);
        assert_eq!(code_lines(&format!("fn f() {{ g(\"{long}\") }}")), [] as [usize; 0]);
        assert_eq!(code_lines(&format!("fn f() {{ g(r#\"\n{long}y\n\"#) }}")), [] as [usize; 0]);
        assert_eq!(code_lines(&format!("// See https://x.org/{long}.")), [] as [usize; 0]);
    }

    #[test]
    fn long_prose_is_found_but_not_tables_and_links() {
        let long = "word ".repeat(30);
        assert_eq!(prose_lines(&format!("# Title\n\n{long}\n")), [3]);
        assert_eq!(prose_lines(&format!("[a](b.md) {long}")), [1]);
        let target = "x".repeat(COLUMNS);
        for fine in [
            format!("| {long} |"),
            format!("see [a]({target}) and [b]({target})"),
            format!("see https://x.org/{target} for more"),
        ] {
            assert_eq!(prose_lines(&fine), [] as [usize; 0], "{fine}");
        }
    }
}
