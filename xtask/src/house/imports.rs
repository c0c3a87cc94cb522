//! The library's imports run one way.
//!
//! An import is a path in a `use`, in code or in a macro that begins with `crate`, `self`, `super`,
//! the name of a module that the file declares, or the name of a module that it imports. Tests,
//! documentation and visibilities are not searched: they may name everything.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, ItemMod, ItemUse, Macro, UseTree, Visibility};

use super::Finding;
use crate::places::LIBRARY_ROOT;
use crate::sources::{self, Module, is_enabled};

/// The files of the library and what each imports.
#[derive(Debug)]
pub struct Graph {
    nodes: Vec<Node>,
    /// For each node the nodes that it imports from, with the line of the first import.
    edges: Vec<BTreeMap<usize, usize>>,
}

#[derive(Debug)]
struct Node {
    file: String,
    /// The module's path; empty for the root of the crate.
    path: Vec<String>,
}

/// A build for production, with whatever features.
fn in_production(name: &str) -> Option<bool> {
    matches!(name, "loom" | "test").then_some(false)
}

impl Graph {
    pub fn read(root: &Path) -> Result<Self> {
        let modules = sources::modules(root, LIBRARY_ROOT, in_production)?;
        let edges = modules.iter().map(|module| imports_of(module, &modules)).collect();
        let nodes = modules.into_iter().map(|Module { file, path, .. }| Node { file, path });
        Ok(Self { nodes: nodes.collect(), edges })
    }

    /// The imports that the order of the modules does not allow, and the modules that it does not
    /// list.
    pub fn against_order(&self, order: &[(&str, &[&str])]) -> Vec<Finding> {
        let position = |names: &[&str], name: &str| names.iter().position(|listed| *listed == name);
        let top_names: Vec<&str> = order.iter().map(|(name, _)| *name).collect();
        let mut findings = Vec::new();
        let mut places = Vec::new();
        for node in &self.nodes {
            let top = node.path.first().and_then(|name| position(&top_names, name));
            let children = top.map_or(&[][..], |top| order[top].1);
            let child = node.path.get(1).and_then(|name| position(children, name));
            let is_listed = match node.path.len() {
                0 => true,
                1 => top.is_some(),
                _ => child.is_some() || children.is_empty(),
            };
            if !is_listed && node.path.len() <= 2 {
                let name = node.path.join("::");
                let message = format!("module `{name}` is not in the table of the module order");
                findings.push(Finding::new(&node.file, 1, message));
            }
            places.push((top, child));
        }
        for (from, to, line) in self.all_edges() {
            let (source, target) = (&self.nodes[from], &self.nodes[to]);
            if source.path.is_empty() {
                continue;
            }
            if target.path.is_empty() {
                let message = "imports from the root of the crate; name the module".to_owned();
                findings.push(Finding::new(&source.file, line, message));
                continue;
            }
            let is_after = match (places[from], places[to]) {
                ((Some(from), a), (Some(to), b)) if from == to => {
                    matches!((a, b), (Some(a), Some(b)) if b > a)
                }
                ((Some(from), _), (Some(to), _)) => to > from,
                _ => false,
            };
            if is_after {
                let message = format!(
                    "`{}` imports from `{}`, which comes after it in the module order",
                    source.path.join("::"),
                    target.path.join("::")
                );
                findings.push(Finding::new(&source.file, line, message));
            }
        }
        findings.sort();
        findings
    }

    /// One finding for each group of files that import each other: its shortest circle.
    pub fn circles(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut seen = vec![false; self.nodes.len()];
        for start in 0..self.nodes.len() {
            // The root of the crate imports everything, to export it.
            if seen[start] || self.nodes[start].path.is_empty() {
                continue;
            }
            let group: Vec<usize> = (start..self.nodes.len())
                .filter(|&other| {
                    other == start
                        || (self.way(start, other).is_some() && self.way(other, start).is_some())
                })
                .collect();
            for &member in &group {
                seen[member] = true;
            }
            if group.len() == 1 {
                continue;
            }
            let shortest =
                group.iter().filter_map(|&node| self.way(node, node)).min_by_key(Vec::len);
            let Some(circle) = shortest else {
                continue;
            };
            let file = |node: usize| self.nodes[node].file.as_str();
            let steps: Vec<String> = circle
                .windows(2)
                .map(|pair| format!("{}:{}", file(pair[0]), self.edges[pair[0]][&pair[1]]))
                .collect();
            let others: Vec<&str> = group
                .iter()
                .filter(|node| !circle.contains(node))
                .map(|&node| file(node))
                .collect();
            let mut message = format!(
                "files import each other: {} imports {}",
                steps.join(" imports "),
                file(circle[0])
            );
            if !others.is_empty() {
                message += &format!("; in larger circles with {}", others.join(", "));
            }
            let line = self.edges[circle[0]][&circle[1]];
            findings.push(Finding::new(file(circle[0]), line, message));
        }
        findings
    }

    fn all_edges(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let edges = self.edges.iter().enumerate();
        edges.flat_map(|(from, targets)| targets.iter().map(move |(to, line)| (from, *to, *line)))
    }

    /// The shortest way of at least one import, both ends included. It does not lead through the
    /// root of the crate.
    fn way(&self, from: usize, to: usize) -> Option<Vec<usize>> {
        let mut ways = vec![vec![from]];
        let mut reached = vec![false; self.nodes.len()];
        while !ways.is_empty() {
            let mut longer = Vec::new();
            for way in ways {
                for &next in self.edges[*way.last()?].keys() {
                    let mut way = way.clone();
                    way.push(next);
                    if next == to {
                        return Some(way);
                    }
                    if !reached[next] && !self.nodes[next].path.is_empty() {
                        reached[next] = true;
                        longer.push(way);
                    }
                }
            }
            ways = longer;
        }
        None
    }
}

/// What one file imports: the index of each module, with the line of the first import.
fn imports_of(module: &Module, modules: &[Module]) -> BTreeMap<usize, usize> {
    let mut search = Search {
        modules,
        file: module,
        inside: module.path.clone(),
        names: BTreeMap::new(),
        collecting: true,
        found: BTreeMap::new(),
    };
    // First the names of modules that the file imports, then what is reached by them.
    module.items.iter().for_each(|item| search.visit_item(item));
    search.collecting = false;
    module.items.iter().for_each(|item| search.visit_item(item));
    search.found
}

struct Search<'a> {
    modules: &'a [Module],
    file: &'a Module,
    /// The path of the module around the visited item, which may be written in place.
    inside: Vec<String>,
    /// Modules that the file imports, by the name that they have in it.
    names: BTreeMap<String, Vec<String>>,
    collecting: bool,
    found: BTreeMap<usize, usize>,
}

impl Search<'_> {
    fn find(&self, path: &[String]) -> Option<usize> {
        self.modules.iter().position(|module| module.path == path)
    }

    /// The path from the root of the crate that these names mean, if they mean one inside it.
    fn resolve(&self, names: &[String]) -> Option<Vec<String>> {
        let (first, rest) = names.split_first()?;
        let mut base = match first.as_str() {
            "crate" => Vec::new(),
            "self" => self.inside.clone(),
            "super" => self.inside[..self.inside.len().checked_sub(1)?].to_vec(),
            name => {
                let mut child = self.inside.clone();
                child.push(name.to_owned());
                match self.names.get(name) {
                    _ if self.find(&child).is_some() => child,
                    Some(module) => module.clone(),
                    None => return None,
                }
            }
        };
        for name in rest {
            if name == "super" {
                base.pop()?;
            } else {
                base.push(name.clone());
            }
        }
        Some(base)
    }

    /// Notes the import of a path; `name` is what a `use` calls it.
    fn import(&mut self, names: &[String], name: Option<String>, line: usize) {
        let Some(path) = self.resolve(names) else {
            return;
        };
        if self.collecting {
            if let Some(name) = name
                && self.find(&path).is_some()
            {
                self.names.insert(name, path);
            }
            return;
        }
        // The file of the module that the path is in; the root of the crate is a file, too.
        let target = (0..=path.len()).rev().find_map(|length| self.find(&path[..length]));
        if let Some(target) = target
            && self.modules[target].path != self.file.path
        {
            let first = self.found.entry(target).or_insert(line);
            *first = line.min(*first);
        }
    }

    fn import_tree(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.import_tree(&path.tree, before);
                before.pop();
            }
            UseTree::Name(end) => self.import_end(&end.ident, None, before),
            UseTree::Rename(end) => self.import_end(&end.ident, Some(&end.rename), before),
            UseTree::Glob(glob) => {
                let line = glob.star_token.spans[0].start().line;
                self.import(before, None, line);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import_tree(tree, before));
            }
        }
    }

    fn import_end(&mut self, ident: &Ident, rename: Option<&Ident>, before: &[String]) {
        let mut names = before.to_vec();
        if ident != "self" || names.is_empty() {
            names.push(ident.to_string());
        }
        let name = rename.map(ToString::to_string).or_else(|| names.last().cloned());
        self.import(&names, name, ident.span().start().line);
    }

    /// Paths among the bare tokens of a macro.
    fn import_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut index = 0;
        while index < tokens.len() {
            match &tokens[index] {
                TokenTree::Group(group) => self.import_tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let mut names = vec![first.to_string()];
                    while let Some(next) = after_separator(&tokens[index + 1..]) {
                        names.push(next.to_string());
                        index += 3;
                    }
                    if names.len() > 1 {
                        self.import(&names, None, first.span().start().line);
                    }
                }
                _ => {}
            }
            index += 1;
        }
    }
}

/// The name after a `::` at the beginning of the tokens.
fn after_separator(tokens: &[TokenTree]) -> Option<&Ident> {
    match tokens {
        [TokenTree::Punct(a), TokenTree::Punct(b), TokenTree::Ident(name), ..]
            if a.as_char() == ':' && b.as_char() == ':' =>
        {
            Some(name)
        }
        _ => None,
    }
}

impl<'ast> Visit<'ast> for Search<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.import_tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            let names: Vec<String> =
                path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            let line = path.segments[0].ident.span().start().line;
            self.import(&names, None, line);
        }
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.inside.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.inside.pop();
    }

    fn visit_macro(&mut self, invocation: &'ast Macro) {
        self.visit_path(&invocation.path);
        self.import_tokens(invocation.tokens.clone());
    }

    fn visit_item(&mut self, item: &'ast Item) {
        if is_enabled(sources::attributes_of(item), in_production) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Fn(function) => function.attrs.as_slice(),
            _ => &[],
        };
        if is_enabled(attributes, in_production) {
            visit::visit_impl_item(self, item);
        }
    }

    // Neither imports anything.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::tests::Scratch;

    const ORDER: &[(&str, &[&str])] = &[("a", &[]), ("b", &["one", "two"]), ("c", &[])];

    /// The findings in a library of the modules `a`, `b` with `one` and `two`, and `c`.
    fn graph(name: &str, files: &[(&str, &str)]) -> Graph {
        let mut all = BTreeMap::from([
            ("src/lib.rs", "mod a; mod b; mod c; pub use c::C;"),
            ("src/a.rs", ""),
            ("src/b.rs", "mod one; mod two;"),
            ("src/b/one.rs", ""),
            ("src/b/two.rs", ""),
            ("src/c.rs", "use crate::a::A; use crate::b::one;"),
        ]);
        all.extend(files.iter().copied());
        let all: Vec<(&str, &str)> = all.into_iter().collect();
        let scratch = Scratch::new(&format!("imports-{name}"), &all);
        Graph::read(&scratch.0).unwrap()
    }

    /// The files and lines of the findings against the order.
    fn against_order(name: &str, files: &[(&str, &str)]) -> Vec<(String, usize)> {
        let findings = graph(name, files).against_order(ORDER);
        findings.into_iter().map(|finding| (finding.file, finding.line)).collect()
    }

    fn at(file: &str, line: usize) -> Vec<(String, usize)> {
        vec![(file.to_owned(), line)]
    }

    #[test]
    fn imports_from_earlier_modules_are_fine() {
        let files = [("src/b/two.rs", "use super::one::X; use crate::a; fn f() { a::g() }")];
        assert_eq!(against_order("fine", &files), []);
        assert_eq!(graph("fine-circles", &files).circles(), []);
    }

    #[test]
    fn imports_from_later_modules_are_found_in_every_form() {
        for (number, source) in [
            "\nuse crate::b::B;",
            "\nuse crate::{b::{self, B}};",
            "\nuse crate::c::*;",
            "\nfn f() { crate::c::g() }",
            "\nfn f(_: crate::c::T) {}",
            "\nfn f() { assert!(crate::c::g()) }",
            "\nmacro_rules! m { () => { $crate::c::g() } }",
            "\nimpl super::c::T for X {}",
            "\nmod inner { use super::super::c::T; }",
        ]
        .iter()
        .enumerate()
        {
            let found = against_order(&format!("later-{number}"), &[("src/a.rs", source)]);
            assert_eq!(found, at("src/a.rs", 2), "{source}");
        }
    }

    #[test]
    fn files_of_one_module_have_an_order() {
        let files = [("src/b/one.rs", "use super::two::X;")];
        assert_eq!(against_order("children", &files), at("src/b/one.rs", 1));
    }

    #[test]
    fn imports_from_the_root_are_found() {
        let files = [("src/a.rs", "use crate::C;")];
        assert_eq!(against_order("root", &files), at("src/a.rs", 1));
    }

    #[test]
    fn modules_must_be_listed() {
        let files = [("src/lib.rs", "mod a; mod b; mod c; mod d;"), ("src/d.rs", "")];
        assert_eq!(against_order("unlisted", &files), at("src/d.rs", 1));
        let files = [("src/b.rs", "mod one; mod two; mod three;"), ("src/b/three.rs", "")];
        assert_eq!(against_order("unlisted-child", &files), at("src/b/three.rs", 1));
    }

    #[test]
    fn tests_words_and_visibilities_import_nothing() {
        let source = "//! [x](crate::c)\n// crate::c\npub(in crate::b) fn f() { g(\"crate::c\") }\n\
                      #[cfg(test)] mod tests { use crate::c::T; }\n\
                      #[cfg(loom)] use crate::c::T;\nfn h() { std::c::f(); c::f() }";
        assert_eq!(against_order("words", &[("src/a.rs", source)]), []);
    }

    fn circles(name: &str, files: &[(&str, &str)]) -> Vec<String> {
        graph(name, files).circles().into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn files_that_import_each_other_are_found() {
        let files =
            [("src/b/one.rs", "use super::two::X;"), ("src/b/two.rs", "use super::one::Y;")];
        let found = circles("pair", &files);
        assert_eq!(
            found,
            ["files import each other: src/b/one.rs:1 imports src/b/two.rs:1 imports src/b/one.rs"]
        );
        let files =
            [("src/a.rs", "use crate::b::B;"), ("src/b.rs", "mod one; mod two; use crate::c::C;")];
        assert_eq!(circles("triangle", &files).len(), 1);
        assert_eq!(circles("none", &[]), [] as [String; 0]);
    }

    #[test]
    fn a_child_may_import_from_a_parent_that_does_not_use_it() {
        let child = ("src/b/one.rs", "use super::B;");
        assert_eq!(circles("declares", &[child]), [] as [String; 0]);
        for (number, parent) in [
            "mod one; mod two; pub use one::X;",
            "mod one; mod two; fn f() { one::g() }",
            "mod one; mod two; pub use self::one::*;",
            "mod one; mod two; use crate::b; fn f() { b::one::g() }",
        ]
        .iter()
        .enumerate()
        {
            let files = [child, ("src/b.rs", *parent)];
            assert_eq!(circles(&format!("uses-{number}"), &files).len(), 1, "{parent}");
        }
    }
}
