//! Reading Rust sources: files of a directory, the module tree, conditional compilation.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, Item, Lit, Meta, Token};

/// All `.rs` files in `directory` and below, sorted by name.
pub fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    collect(directory, &mut files)?;
    Ok(files)
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries = fs::read_dir(directory)
        .with_context(|| format!("{} cannot be read", directory.display()))?
        .collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The text of a file; the error names the file.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Parses a source; the error names the file.
pub fn parse(name: &str, text: &str) -> Result<syn::File> {
    syn::parse_file(text).with_context(|| format!("{name} cannot be parsed"))
}

/// A path below the root, with `/` between its parts.
pub fn name_of(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

/// What a build says about the names in `#[cfg(...)]`; `None` for a name that it says nothing
/// about.
pub type Settings = fn(&str) -> Option<bool>;

/// One file of a module tree.
pub struct Module {
    /// The file, from the root of the workspace.
    pub file: String,
    /// The module's path without `crate`; empty for the root of the crate.
    pub path: Vec<String>,
    /// The items that are not excluded by the settings.
    pub items: Vec<Item>,
}

/// The module tree from the file `start` on, parents before children. Items that `settings` exclude
/// are removed, and their modules are not read.
pub fn modules(root: &Path, start: &str, settings: Settings) -> Result<Vec<Module>> {
    let mut found = Vec::new();
    let directory = Path::new(start).parent().unwrap_or(Path::new("")).to_path_buf();
    walk(root, Path::new(start), &directory, Vec::new(), settings, &mut found)?;
    Ok(found)
}

/// `directory` is where the files of this module's children are.
fn walk(
    root: &Path,
    file: &Path,
    directory: &Path,
    path: Vec<String>,
    settings: Settings,
    found: &mut Vec<Module>,
) -> Result<()> {
    let name = name_of(root, file);
    let mut items = parse(&name, &read(&root.join(file))?)?.items;
    keep_enabled(&mut items, settings);
    let mut children = Vec::new();
    for item in &items {
        if let Item::Mod(module) = item
            && module.content.is_none()
        {
            children.push((module.ident.to_string(), path_attribute(&module.attrs)));
        }
    }
    found.push(Module { file: name.clone(), path: path.clone(), items });
    for (child, written) in children {
        let below = directory.join(&child);
        let file = match written {
            // A `#[path]` is relative to the directory of the file that declares the module.
            Some(written) => file.parent().unwrap_or(Path::new("")).join(written),
            None => {
                let candidates = [below.with_extension("rs"), below.join("mod.rs")];
                let exists = |file: &PathBuf| root.join(file).is_file();
                candidates.into_iter().find(exists).with_context(|| {
                    format!("{name} declares `mod {child};`, but there is no file for it")
                })?
            }
        };
        let mut path = path.clone();
        path.push(child);
        walk(root, &file, &below, path, settings, found)?;
    }
    Ok(())
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    })
}

/// Removes the items that `settings` exclude, also from modules written in place.
pub fn keep_enabled(items: &mut Vec<Item>, settings: Settings) {
    items.retain(|item| is_enabled(attributes_of(item), settings));
    for item in items {
        if let Item::Mod(module) = item
            && let Some((_, items)) = &mut module.content
        {
            keep_enabled(items, settings);
        }
    }
}

/// Whether no `#[cfg(...)]` among the attributes is known to be false, and none is `#[test]` where
/// `test` is.
pub fn is_enabled(attributes: &[Attribute], settings: Settings) -> bool {
    attributes.iter().all(|attribute| {
        if attribute.path().is_ident("test") {
            return settings("test") != Some(false);
        }
        match &attribute.meta {
            Meta::List(list) if list.path.is_ident("cfg") => {
                let condition = syn::parse2::<Meta>(list.tokens.clone());
                !condition.is_ok_and(|condition| evaluate(&condition, settings) == Some(false))
            }
            _ => true,
        }
    })
}

fn evaluate(condition: &Meta, settings: Settings) -> Option<bool> {
    let name = condition.path().get_ident()?.to_string();
    let Meta::List(list) = condition else {
        return settings(&name);
    };
    let parts = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(list.tokens.clone()).ok()?;
    let mut values = parts.iter().map(|part| evaluate(part, settings));
    match name.as_str() {
        "not" => values.next()?.map(|value| !value),
        "all" => values
            .try_fold(Some(true), |all, value| match (all, value) {
                (_, Some(false)) => Err(()),
                (Some(true), Some(true)) => Ok(Some(true)),
                _ => Ok(None),
            })
            .unwrap_or(Some(false)),
        "any" => values
            .try_fold(Some(false), |any, value| match (any, value) {
                (_, Some(true)) => Err(()),
                (Some(false), Some(false)) => Ok(Some(false)),
                _ => Ok(None),
            })
            .unwrap_or(Some(true)),
        _ => None,
    }
}

/// The attributes of an item; empty for kinds that syn does not know.
pub fn attributes_of(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A directory of its own below the system's temporary directory, removed when dropped.
    #[derive(Debug)]
    pub struct Scratch(pub PathBuf);

    impl Scratch {
        pub fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
            for (file, text) in files {
                let path = root.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn loom(name: &str) -> Option<bool> {
        match name {
            "loom" => Some(true),
            "test" | "feature" => Some(false),
            _ => None,
        }
    }

    fn kept(source: &str) -> usize {
        let mut items = syn::parse_file(source).unwrap().items;
        keep_enabled(&mut items, loom);
        items.len()
    }

    #[test]
    fn conditions_are_evaluated_as_far_as_they_are_known() {
        for (condition, expected) in [
            ("loom", 1),
            ("not(loom)", 0),
            ("test", 0),
            ("all(test, not(loom))", 0),
            ("any(loom, feature = \"x\")", 1),
            ("any(test, feature = \"x\")", 0),
            ("target_arch = \"x86_64\"", 1),
            ("not(target_arch = \"x86_64\")", 1),
            ("all(loom, target_arch = \"x86_64\")", 1),
            ("all(not(loom), target_arch = \"x86_64\")", 0),
        ] {
            assert_eq!(kept(&format!("#[cfg({condition})] fn f() {{}}")), expected, "{condition}");
        }
        assert_eq!(kept("#[test] fn t() {}"), 0);
    }

    #[test]
    fn the_tree_holds_enabled_modules_only() {
        let scratch = Scratch::new(
            "tree",
            &[
                ("src/lib.rs", "mod a; #[cfg(not(loom))] mod gone; mod b;"),
                ("src/a.rs", "mod inner; #[cfg(test)] mod tests;"),
                ("src/a/inner.rs", ""),
                ("src/b/mod.rs", "mod c;"),
                ("src/b/c.rs", ""),
            ],
        );
        let modules = modules(&scratch.0, "src/lib.rs", loom).unwrap();
        let found: Vec<(&str, String)> =
            modules.iter().map(|module| (module.file.as_str(), module.path.join("::"))).collect();
        let expected = [
            ("src/lib.rs", ""),
            ("src/a.rs", "a"),
            ("src/a/inner.rs", "a::inner"),
            ("src/b/mod.rs", "b"),
            ("src/b/c.rs", "b::c"),
        ];
        assert_eq!(found, expected.map(|(file, path)| (file, path.to_owned())));
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let scratch = Scratch::new("missing", &[("src/lib.rs", "mod a;")]);
        assert!(modules(&scratch.0, "src/lib.rs", loom).is_err());
    }
}
