//! `unsafe` and the atomics of the standard library stand only where the tables allow them.

use std::path::Path;

use anyhow::Result;
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Item, UseTree};

use super::Finding;
use crate::places::{ATOMICS, UNSAFE};
use crate::sources::{self, keep_enabled, read};

/// The places in these files that need an entry and have none.
pub fn check(root: &Path, files: &[String]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in files {
        let needs = needs(root, file)?;
        if let Some(line) = needs.unsafe_code
            && !allows(UNSAFE, file)
        {
            let message = "`unsafe` is not allowed in this file".to_owned();
            findings.push(Finding::new(file, line, message));
        }
        if let Some(line) = needs.atomics
            && !allows(ATOMICS, file)
        {
            let message = "the atomics of std are not allowed in this file; take them from `sync`";
            findings.push(Finding::new(file, line, message.to_owned()));
        }
    }
    Ok(findings)
}

/// The entries of the tables that nothing needs.
pub fn stale_entries(root: &Path, files: &[String]) -> Result<Vec<Finding>> {
    let mut all = Vec::new();
    for file in files {
        all.push((file, needs(root, file)?));
    }
    let is_needed = |entry: &str, needed: fn(&Needs) -> bool| {
        all.iter().any(|(file, needs)| needed(needs) && allows(&[entry], file))
    };
    let mut findings = Vec::new();
    for (table, entries, needed) in [
        ("UNSAFE", UNSAFE, (|needs| needs.unsafe_code.is_some()) as fn(&Needs) -> bool),
        ("ATOMICS", ATOMICS, |needs| needs.atomics.is_some()),
    ] {
        for entry in entries {
            if !is_needed(entry, needed) {
                let message = format!("the entry of {table} is needed by nothing");
                findings.push(Finding::new(entry, 1, message));
            }
        }
    }
    Ok(findings)
}

fn allows(table: &[&str], file: &str) -> bool {
    table.iter().any(
        |entry| {
            if entry.ends_with('/') { file.starts_with(entry) } else { *entry == file }
        },
    )
}

/// The first lines that need an entry.
#[derive(Debug, PartialEq, Eq)]
struct Needs {
    /// In tests, too.
    unsafe_code: Option<usize>,
    /// In the library outside of tests.
    atomics: Option<usize>,
}

fn needs(root: &Path, file: &str) -> Result<Needs> {
    let text = read(&root.join(file))?;
    let syntax = sources::parse(file, &text)?;
    let tokens = text.parse::<TokenStream>().unwrap_or_default();
    let is_library = file.starts_with("src/") && !is_test_file(file);
    Ok(Needs {
        unsafe_code: first_unsafe(tokens),
        atomics: if is_library { first_atomic(syntax.items) } else { None },
    })
}

/// `tests.rs` and what is in a directory `tests`.
fn is_test_file(file: &str) -> bool {
    file.split('/').any(|part| part == "tests" || part == "tests.rs")
}

fn first_unsafe(tokens: TokenStream) -> Option<usize> {
    tokens.into_iter().find_map(|token| match token {
        TokenTree::Ident(name) if name == "unsafe" => Some(name.span().start().line),
        TokenTree::Group(group) => first_unsafe(group.stream()),
        _ => None,
    })
}

fn first_atomic(mut items: Vec<Item>) -> Option<usize> {
    keep_enabled(&mut items, |name| (name == "test").then_some(false));
    let mut search = Search { found: None };
    items.iter().for_each(|item| search.visit_item(item));
    search.found
}

struct Search {
    found: Option<usize>,
}

impl Search {
    fn note(&mut self, names: &[String], line: usize) {
        let is_atomic = matches!(
            names,
            [root, module, kind, ..] if (root == "std" || root == "core") && module == "sync" && kind == "atomic"
        );
        if is_atomic {
            self.found = Some(self.found.map_or(line, |found| found.min(line)));
        }
    }

    fn note_tree(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        let mut end = |name: &proc_macro2::Ident, before: &[String]| {
            let names: Vec<String> = before.iter().cloned().chain([name.to_string()]).collect();
            self.note(&names, name.span().start().line);
        };
        match tree {
            UseTree::Path(path) => {
                end(&path.ident, before);
                before.push(path.ident.to_string());
                self.note_tree(&path.tree, before);
                before.pop();
            }
            UseTree::Name(name) => end(&name.ident, before),
            UseTree::Rename(name) => end(&name.ident, before),
            UseTree::Glob(_) => {}
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.note_tree(tree, before));
            }
        }
    }

    fn note_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (index, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => self.note_tokens(group.stream()),
                TokenTree::Ident(name) => {
                    let names: Vec<String> = tokens[index..]
                        .iter()
                        .take(7)
                        .filter_map(|token| match token {
                            TokenTree::Ident(name) => Some(name.to_string()),
                            _ => None,
                        })
                        .collect();
                    self.note(&names, name.span().start().line);
                }
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Search {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let Some(first) = path.segments.first() {
            self.note(&names, first.ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.note_tokens(invocation.tokens.clone());
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::tests::Scratch;

    fn needs_of(name: &str, file: &str, text: &str) -> Needs {
        let scratch = Scratch::new(&format!("reserved-{name}"), &[(file, text)]);
        needs(&scratch.0, file).unwrap()
    }

    #[test]
    fn unsafe_is_found_in_code_only() {
        for (number, text) in [
            "\nfn f() { unsafe { g() } }",
            "\nunsafe fn f() {}",
            "\nunsafe impl Send for X {}",
            "\nmacro_rules! m { () => { unsafe { g() } } }",
            "\n#[cfg(test)] mod tests { fn f() { unsafe { g() } } }",
            "\n#[unsafe(no_mangle)] fn f() {}",
        ]
        .iter()
        .enumerate()
        {
            let found = needs_of(&format!("unsafe-{number}"), "src/a.rs", text).unsafe_code;
            assert_eq!(found, Some(2), "{text}");
        }
        let words = "//! unsafe\n// unsafe\n/// unsafe\nfn f() { g(\"unsafe\", is_unsafe) }\n\
                     #![deny(unsafe_code)]";
        assert_eq!(first_unsafe(words.parse().unwrap()), None);
    }

    #[test]
    fn atomics_are_found_in_every_form() {
        for (number, text) in [
            "\nuse std::sync::atomic::AtomicU64;",
            "\nuse core::sync::atomic;",
            "\nuse std::{fmt, sync::{Arc, atomic::{AtomicU64, Ordering}}};",
            "\nuse std::sync::atomic::*;",
            "\nfn f() { std::sync::atomic::fence(x) }",
            "\nfn f(_: &core::sync::atomic::AtomicU64) {}",
            "\nfn f() { assert!(std::sync::atomic::AtomicBool::new(true)) }",
        ]
        .iter()
        .enumerate()
        {
            let found = needs_of(&format!("atomics-{number}"), "src/a.rs", text).atomics;
            assert_eq!(found, Some(2), "{text}");
        }
    }

    #[test]
    fn tests_and_other_crates_may_have_atomics() {
        let text = "use std::sync::Arc;\nuse crate::sync::atomic::X;\n\
                    #[cfg(test)] mod tests { use std::sync::atomic::AtomicU64; }";
        assert_eq!(needs_of("not-atomics", "src/a.rs", text).atomics, None);
        let text = "use std::sync::atomic::AtomicU64;";
        assert_eq!(needs_of("cli", "cli/src/a.rs", text).atomics, None);
        assert_eq!(needs_of("test-file", "src/a/tests.rs", text).atomics, None);
    }

    #[test]
    fn a_place_without_an_entry_is_a_finding() {
        let text = "use std::sync::atomic::AtomicU64;\nfn f() { unsafe { g() } }";
        let scratch = Scratch::new("reserved-check", &[("src/new.rs", text)]);
        let findings = check(&scratch.0, &["src/new.rs".to_owned()]).unwrap();
        assert_eq!(findings.len(), 2, "{findings:?}");
        let stale = stale_entries(&scratch.0, &["src/new.rs".to_owned()]).unwrap();
        assert_eq!(stale.len(), UNSAFE.len() + ATOMICS.len());
    }

    #[test]
    fn an_entry_is_a_file_or_a_directory() {
        assert!(allows(&["src/copy/"], "src/copy/x86_64.rs"));
        assert!(allows(&["src/copy.rs"], "src/copy.rs"));
        assert!(!allows(&["src/copy.rs"], "src/copy/x86_64.rs"));
        assert!(!allows(&["src/copy/"], "src/copy.rs"));
    }
}
