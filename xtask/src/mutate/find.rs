//! Finds what can be weakened in a source file.
//!
//! The file is parsed, so comments, documentation and strings are never touched, and items that
//! exist only for tests are left out. Every mutant is one replaced byte range.

use std::ops::Range;

use anyhow::Result;
use proc_macro2::{Delimiter, Ident, Span, TokenStream, TokenTree};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ExprCall, ExprPath, ImplItem, Item, Macro, Signature, Token};

use crate::sources::{attributes_of, is_enabled, parse};

/// One change that weakens one memory ordering or removes one fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutant {
    /// Path from the workspace's root.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// The function around it; empty outside of functions.
    pub function: String,
    /// The line's text without the space around it.
    pub text: String,
    /// For example `Release -> Relaxed` or `fence removed`.
    pub mutation: String,
    range: Range<usize>,
    replacement: String,
}

impl Mutant {
    /// The file's source with this one change.
    pub fn apply(&self, source: &str) -> String {
        let mut mutated = source.to_owned();
        mutated.replace_range(self.range.clone(), &self.replacement);
        mutated
    }
}

/// All mutants of one file, in the order of the text.
pub fn in_source(file: &str, source: &str) -> Result<Vec<Mutant>> {
    let syntax = parse(file, source)?;
    let mut finder = Finder { file, source, functions: Vec::new(), found: Vec::new() };
    finder.visit_file(&syntax);
    let mut found = finder.found;
    found.sort_by_key(|mutant| mutant.range.start);
    Ok(found)
}

/// The names of modules with a file of their own that exist only for tests.
pub fn test_modules(file: &str, source: &str) -> Result<Vec<String>> {
    let items = parse(file, source)?.items;
    let names = items.into_iter().filter_map(|item| match item {
        Item::Mod(module) if module.content.is_none() && is_for_tests(&module.attrs) => {
            Some(module.ident.to_string())
        }
        _ => None,
    });
    Ok(names.collect())
}

/// What a fence may become. A relaxed fence does not exist, so an acquire or release fence can only
/// be removed.
fn weaker_fence(ordering: &str) -> &'static [&'static str] {
    match ordering {
        "SeqCst" => &["AcqRel"],
        "AcqRel" => &["Acquire", "Release"],
        _ => &[],
    }
}

/// What an access may become.
fn weaker_access(ordering: &str) -> &'static [&'static str] {
    match ordering {
        "AcqRel" => &["Relaxed", "Acquire", "Release"],
        "Acquire" | "Release" | "SeqCst" => &["Relaxed"],
        _ => &[],
    }
}

struct Finder<'s> {
    file: &'s str,
    source: &'s str,
    functions: Vec<String>,
    found: Vec<Mutant>,
}

impl Finder<'_> {
    fn add(&mut self, at: Span, range: Range<usize>, mutation: String, replacement: &str) {
        let start = at.start();
        let text = self.source.lines().nth(start.line - 1).unwrap_or_default();
        self.found.push(Mutant {
            file: self.file.to_owned(),
            line: start.line,
            column: start.column + 1,
            function: self.functions.last().cloned().unwrap_or_default(),
            text: text.trim().to_owned(),
            mutation,
            range,
            replacement: replacement.to_owned(),
        });
    }

    /// `qualified`: written as `Ordering::Name`, so that a sibling's name can stand there too.
    fn add_weaker(&mut self, name: &Ident, qualified: bool, to: &[&str], of: &str) {
        for weaker in to {
            let replacement = if qualified {
                (*weaker).to_owned()
            } else {
                format!("::core::sync::atomic::Ordering::{weaker}")
            };
            let span = name.span();
            let mutation = format!("{of}{name} -> {weaker}");
            self.add(span, span.byte_range(), mutation, &replacement);
        }
    }

    fn add_fence_removal(&mut self, name: &Ident, range: Range<usize>) {
        self.add(name.span(), range, "fence removed".to_owned(), "()");
    }

    fn inside(&mut self, signature: &Signature, visit: impl FnOnce(&mut Self)) {
        self.functions.push(signature.ident.to_string());
        visit(self);
        self.functions.pop();
    }

    /// For macro input that is no list of expressions: finds names by their tokens.
    fn visit_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (index, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Ident(name) if name == "fence" => {
                    if let Some(TokenTree::Group(arguments)) = tokens.get(index + 1)
                        && arguments.delimiter() == Delimiter::Parenthesis
                    {
                        let start = path_start(&tokens, index);
                        let end = arguments.span_close().byte_range().end;
                        self.add_fence_removal(name, start..end);
                        for (name, qualified) in orderings(&arguments.stream()) {
                            let weaker = weaker_fence(&name.to_string());
                            self.add_weaker(&name, qualified, weaker, "fence ");
                        }
                    }
                }
                TokenTree::Group(group) if !is_call_of_fence(&tokens, index) => {
                    self.visit_tokens(group.stream());
                }
                TokenTree::Ident(name) => {
                    let qualified = is_qualified(&tokens, index);
                    self.add_weaker(name, qualified, weaker_access(&name.to_string()), "");
                }
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes_of(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !matches!(item, ImplItem::Fn(function) if is_for_tests(&function.attrs)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.inside(&item.sig, |finder| visit::visit_item_fn(finder, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.inside(&item.sig, |finder| visit::visit_impl_item_fn(finder, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.inside(&item.sig, |finder| visit::visit_trait_item_fn(finder, item));
    }

    // Documentation is an attribute, and no attribute holds an access.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        if let Expr::Path(callee) = &*call.func
            && let Some(name) = callee.path.segments.last()
            && name.ident == "fence"
        {
            let start = callee.span().byte_range().start;
            let end = call.paren_token.span.close().byte_range().end;
            self.add_fence_removal(&name.ident, start..end);
            for argument in &call.args {
                if let Expr::Path(path) = argument
                    && let Some((name, qualified)) = ordering(path)
                {
                    self.add_weaker(name, qualified, weaker_fence(&name.to_string()), "fence ");
                }
            }
            return;
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_path(&mut self, path: &'ast ExprPath) {
        if let Some((name, qualified)) = ordering(path) {
            self.add_weaker(name, qualified, weaker_access(&name.to_string()), "");
        }
    }

    fn visit_macro(&mut self, invocation: &'ast Macro) {
        let expressions = Punctuated::<Expr, Token![,]>::parse_terminated;
        match expressions.parse2(invocation.tokens.clone()) {
            Ok(expressions) => {
                for expression in &expressions {
                    self.visit_expr(expression);
                }
            }
            Err(_) => self.visit_tokens(invocation.tokens.clone()),
        }
    }
}

/// The last name of a path if it means a memory ordering: alone, or after `Ordering::`.
fn ordering(path: &ExprPath) -> Option<(&Ident, bool)> {
    let mut names = path.path.segments.iter().rev().map(|part| &part.ident);
    let name = names.next()?;
    match names.next() {
        None => Some((name, false)),
        Some(kind) if kind == "Ordering" => Some((name, true)),
        Some(_) => None,
    }
}

/// The names in a fence's arguments, among the bare tokens of a macro.
fn orderings(arguments: &TokenStream) -> Vec<(Ident, bool)> {
    let tokens: Vec<TokenTree> = arguments.clone().into_iter().collect();
    tokens
        .iter()
        .enumerate()
        .filter_map(|(index, token)| match token {
            TokenTree::Ident(name) => Some((name.clone(), is_qualified(&tokens, index))),
            _ => None,
        })
        .collect()
}

fn is_call_of_fence(tokens: &[TokenTree], group: usize) -> bool {
    group > 0 && matches!(&tokens[group - 1], TokenTree::Ident(name) if name == "fence")
}

fn is_qualified(tokens: &[TokenTree], name: usize) -> bool {
    name >= 3
        && is_path_separator(&tokens[name - 2..name])
        && matches!(&tokens[name - 3], TokenTree::Ident(kind) if kind == "Ordering")
}

/// Where a path that ends at the token `name` begins, in bytes; a macro's `$crate` belongs to it.
fn path_start(tokens: &[TokenTree], name: usize) -> usize {
    let mut first = name;
    while first >= 2 && is_path_separator(&tokens[first - 2..first]) {
        first -= 2;
        match first.checked_sub(1).map(|before| &tokens[before]) {
            Some(TokenTree::Ident(_)) => first -= 1,
            _ => break,
        }
    }
    if first > 0 && matches!(&tokens[first - 1], TokenTree::Punct(mark) if mark.as_char() == '$') {
        first -= 1;
    }
    tokens[first].span().byte_range().start
}

fn is_path_separator(tokens: &[TokenTree]) -> bool {
    tokens.iter().all(|token| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ':'))
}

/// Whether the attributes exclude an item from every build that is not a test.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    !is_enabled(attributes, |name| (name == "test").then_some(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutations(source: &str) -> Vec<(usize, String)> {
        let found = in_source("x.rs", source).unwrap();
        found.into_iter().map(|m| (m.line, m.mutation)).collect()
    }

    fn on_line_one(expected: &[&str]) -> Vec<(usize, String)> {
        expected.iter().map(|m| (1, (*m).to_owned())).collect()
    }

    #[test]
    fn accesses_are_weakened_to_what_they_can_be() {
        assert_eq!(
            mutations(
                "fn f() { a.store(1, Ordering::Release); a.load(Acquire); a.load(Relaxed); }"
            ),
            on_line_one(&["Release -> Relaxed", "Acquire -> Relaxed"])
        );
        assert_eq!(
            mutations(
                "fn f() { a.compare_exchange(0, 1, atomic::Ordering::AcqRel, Ordering::Relaxed); }"
            ),
            on_line_one(&["AcqRel -> Relaxed", "AcqRel -> Acquire", "AcqRel -> Release"])
        );
        assert_eq!(mutations("fn f() { a.swap(1, SeqCst); }"), on_line_one(&["SeqCst -> Relaxed"]));
    }

    #[test]
    fn fences_are_removed_or_weakened_but_never_relaxed() {
        assert_eq!(
            mutations("fn f() { fence(Ordering::Release); }"),
            on_line_one(&["fence removed"])
        );
        assert_eq!(
            mutations("fn f() { atomic::fence(SeqCst); }"),
            on_line_one(&["fence removed", "fence SeqCst -> AcqRel"])
        );
        assert_eq!(
            mutations("fn f() { fence(AcqRel) }"),
            on_line_one(&["fence removed", "fence AcqRel -> Acquire", "fence AcqRel -> Release"])
        );
    }

    #[test]
    fn the_mutated_source_differs_in_that_place_alone() {
        let source = "// ünïcode\nfn f() { sync::fence(Ordering::AcqRel); a.load(Acquire); }";
        let mutated: Vec<String> =
            in_source("x.rs", source).unwrap().iter().map(|mutant| mutant.apply(source)).collect();
        let head = "// ünïcode\nfn f() { ";
        assert_eq!(
            mutated,
            [
                format!("{head}(); a.load(Acquire); }}"),
                format!("{head}sync::fence(Ordering::Acquire); a.load(Acquire); }}"),
                format!("{head}sync::fence(Ordering::Release); a.load(Acquire); }}"),
                format!(
                    "{head}sync::fence(Ordering::AcqRel); a.load(::core::sync::atomic::Ordering::Relaxed); }}"
                ),
            ]
        );
    }

    #[test]
    fn text_and_tests_are_left_alone() {
        let source = r#"
            //! fence(Ordering::Release)
            /// a.load(Ordering::Acquire)
            fn f() { /* fence(SeqCst) */ g("fence(Ordering::SeqCst)"); }
            #[cfg(test)]
            mod tests { fn g() { fence(Ordering::SeqCst); } }
            #[cfg(all(test, not(loom)))]
            fn h() { a.load(Ordering::Acquire); }
            #[test]
            fn t() { a.load(Ordering::Acquire); }
            impl X { #[cfg(test)] fn i(&self) { a.load(Ordering::Acquire); } }
        "#;
        assert_eq!(mutations(source), []);
    }

    #[test]
    fn other_conditions_hide_nothing() {
        let found = mutations("#[cfg(not(test))] fn f() { a.load(Ordering::Acquire); }");
        assert_eq!(found, on_line_one(&["Acquire -> Relaxed"]));
        let found = mutations("#[cfg(loom)] fn f() { a.load(Ordering::Acquire); }");
        assert_eq!(found, on_line_one(&["Acquire -> Relaxed"]));
    }

    #[test]
    fn other_enums_are_no_orderings() {
        assert_eq!(mutations("fn f() { g(Event::Release); h(Ordering::Less); Release {}; }"), []);
    }

    #[test]
    fn macros_are_searched() {
        assert_eq!(
            mutations("fn f() { debug_assert_eq!(a.load(Ordering::Acquire), 1, \"Acquire\"); }"),
            on_line_one(&["Acquire -> Relaxed"])
        );
        assert_eq!(
            mutations(
                "macro_rules! m { ($a:expr) => { $crate::sync::fence(Ordering::SeqCst); $a.load(Acquire) } }"
            ),
            on_line_one(&["fence removed", "fence SeqCst -> AcqRel", "Acquire -> Relaxed"])
        );
        let source = "macro_rules! m { () => { x($crate::sync::fence(AcqRel)); } }";
        let removed = in_source("x.rs", source).unwrap()[0].apply(source);
        assert_eq!(removed, "macro_rules! m { () => { x(()); } }");
    }

    #[test]
    fn a_mutant_says_where_it_is() {
        let source = "impl X {\n    fn publish(&self) {\n        self.a.store(1, Ordering::Release); // why\n    }\n}";
        let mutant = &in_source("src/x.rs", source).unwrap()[0];
        assert_eq!((mutant.line, mutant.column), (3, 35));
        assert_eq!(mutant.file, "src/x.rs");
        assert_eq!(mutant.function, "publish");
        assert_eq!(mutant.text, "self.a.store(1, Ordering::Release); // why");
    }

    #[test]
    fn test_modules_in_files_of_their_own_are_named() {
        let source = "mod a; #[cfg(test)] mod tests; #[cfg(test)] mod inline { }";
        assert_eq!(test_modules("x.rs", source).unwrap(), ["tests"]);
    }
}
