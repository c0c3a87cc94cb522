//! What the fates of the mutants depend on, as one hash for each input.
//!
//! A Rust source counts by its tokens: comments, documentation, layout and line ends may change
//! without making the result stale. Nothing depends on where the checkout is.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use sha2::{Digest, Sha256};
use syn::Item;
use toml::{Table, Value};

use crate::sources::{self, keep_enabled, read};
use crate::{loom, places};

/// One thing that the fates depend on, and the hash of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// A path from the workspace's root, with the part that counts where that is not all of it.
    pub name: String,
    /// Sixteen hexadecimal digits.
    pub hash: String,
}

/// All inputs, sorted by name.
pub fn all(root: &Path) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    // What the models compile of the library.
    for module in sources::modules(root, places::LIBRARY_ROOT, under_loom)? {
        inputs.push(input(module.file, &tokens_of(module.items)));
    }
    // The mutated files that the models do not compile.
    for (name, text) in super::mutated_files(root)? {
        if inputs.iter().all(|input| input.name != name) {
            inputs.push(source(&name, &text, outside_tests)?);
        }
    }
    for path in sources::rust_files(&root.join(places::MODELS))? {
        inputs.push(source(&sources::name_of(root, &path), &read(&path)?, |_| None)?);
    }
    for name in places::MUTATION_TOOL {
        inputs.push(source(name, &read(&root.join(name))?, outside_tests)?);
    }
    inputs.push(input("xtask/src/loom.rs, preemptions".to_owned(), &loom::PREEMPTIONS.to_string()));
    inputs.extend(manifests(root)?);
    inputs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(inputs)
}

/// The hash of all inputs, in hexadecimal digits.
pub fn total(inputs: &[Input]) -> String {
    let mut text = String::new();
    for input in inputs {
        let _ = writeln!(text, "{} {}", input.hash, input.name);
    }
    hash(&text)
}

fn manifests(root: &Path) -> Result<Vec<Input>> {
    let table = |name: &str| -> Result<Table> {
        read(&root.join(name))?.parse().with_context(|| format!("{name} is not TOML"))
    };
    let models = format!("{}/Cargo.toml", places::MODELS);
    let profile = table("Cargo.toml")?
        .get("profile")
        .and_then(|profiles| profiles.get("loom"))
        .map(Value::to_string)
        .context("the root Cargo.toml has no [profile.loom]")?;
    let lock = table("Cargo.lock")?;
    let packages = lock.get("package").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let version = packages
        .iter()
        .find(|package| package.get("name").and_then(Value::as_str) == Some("loom"))
        .and_then(|package| package.get("version"))
        .and_then(Value::as_str)
        .context("Cargo.lock has no package `loom`")?;
    Ok(vec![
        input("Cargo.lock, loom".to_owned(), version),
        input("Cargo.toml, profile.loom".to_owned(), &profile),
        // A table that was parsed has neither comments nor an order of its keys.
        input(models.clone(), &table(&models)?.to_string()),
        input(places::SURVIVORS.to_owned(), &table(places::SURVIVORS)?.to_string()),
    ])
}

fn under_loom(name: &str) -> Option<bool> {
    match name {
        "loom" => Some(true),
        "test" | "feature" => Some(false),
        _ => None,
    }
}

fn outside_tests(name: &str) -> Option<bool> {
    (name == "test").then_some(false)
}

fn source(name: &str, text: &str, settings: sources::Settings) -> Result<Input> {
    let mut items = sources::parse(name, text)?.items;
    keep_enabled(&mut items, settings);
    Ok(input(name.to_owned(), &tokens_of(items)))
}

fn input(name: String, content: &str) -> Input {
    let mut hash = hash(content);
    hash.truncate(16);
    Input { name, hash }
}

fn hash(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// The items' tokens, one a line, without documentation.
fn tokens_of(items: Vec<Item>) -> String {
    let mut text = String::new();
    for item in items {
        write_tokens(item.into_token_stream(), &mut text);
    }
    text
}

fn write_tokens(stream: TokenStream, text: &mut String) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut index = 0;
    while index < tokens.len() {
        if let Some(length) = documentation(&tokens[index..]) {
            index += length;
            continue;
        }
        match &tokens[index] {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                let _ = writeln!(text, "{open}");
                write_tokens(group.stream(), text);
                let _ = writeln!(text, "{close}");
            }
            token => {
                let _ = writeln!(text, "{token}");
            }
        }
        index += 1;
    }
}

/// The number of tokens of a `#[doc ...]` or `#![doc ...]` at the beginning.
fn documentation(tokens: &[TokenTree]) -> Option<usize> {
    let mark = |token: Option<&TokenTree>, wanted: char| match token {
        Some(TokenTree::Punct(mark)) => mark.as_char() == wanted,
        _ => false,
    };
    if !mark(tokens.first(), '#') {
        return None;
    }
    let group = if mark(tokens.get(1), '!') { 2 } else { 1 };
    let Some(TokenTree::Group(attribute)) = tokens.get(group) else {
        return None;
    };
    match attribute.stream().into_iter().next() {
        Some(TokenTree::Ident(name)) if name == "doc" => Some(group + 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sources::tests::Scratch;

    const LIBRARY: &str = "//! Words.\n#[cfg(not(loom))]\nmod ring;\nmod protocol;\n";
    const PROTOCOL: &str = "/// Publishes.\npub fn f() { a.store(1, Release); }\n\
                            #[cfg(test)]\nmod tests { fn t() {} }\n";

    fn workspace(name: &str) -> Scratch {
        let mut files = vec![
            ("src/lib.rs", LIBRARY),
            ("src/protocol.rs", PROTOCOL),
            ("src/ring.rs", "fn g() {}"),
            ("loom-tests/tests/slot.rs", "#[test]\nfn model() { check(); }\n"),
            ("loom-tests/Cargo.toml", "[package]\nname = 'm'\n"),
            ("loom-tests/mutants.toml", "# None.\n"),
            ("Cargo.toml", "[profile.loom]\ninherits = 'release'\n"),
            ("Cargo.lock", "[[package]]\nname = 'loom'\nversion = '0.7.2'\n"),
        ];
        files.extend(places::MUTATION_TOOL.map(|name| (name, "fn tool() {}")));
        Scratch::new(name, &files)
    }

    /// The names of the inputs that change when `file` gets the content `text`.
    fn changed(name: &str, file: &str, text: &str) -> Vec<String> {
        let scratch = workspace(name);
        let before = all(&scratch.0).unwrap();
        fs::write(scratch.0.join(file), text).unwrap();
        let after = all(&scratch.0).unwrap();
        assert_eq!(before == after, total(&before) == total(&after));
        let differ = after.into_iter().filter(|input| !before.contains(input));
        differ.map(|input| input.name).collect()
    }

    #[test]
    fn every_input_counts() {
        let protocol = PROTOCOL.replace("Release", "SeqCst");
        let cases = [
            ("src/protocol.rs", "src/protocol.rs", protocol.as_str()),
            ("src/lib.rs", "src/lib.rs", "mod protocol; fn f() {}"),
            ("loom-tests/tests/slot.rs", "loom-tests/tests/slot.rs", "#[test]\nfn model() {}"),
            ("loom-tests/Cargo.toml", "loom-tests/Cargo.toml", "[package]\nname = 'n'\n"),
            ("loom-tests/mutants.toml", "loom-tests/mutants.toml", "[[survivor]]\nfile = 'x'\n"),
            ("Cargo.toml, profile.loom", "Cargo.toml", "[profile.loom]\ninherits = 'dev'\n"),
            ("Cargo.lock, loom", "Cargo.lock", "[[package]]\nname = 'loom'\nversion = '0.8.0'\n"),
            (places::MUTATION_TOOL[0], places::MUTATION_TOOL[0], "fn other() {}"),
        ];
        for (number, (input, file, text)) in cases.iter().enumerate() {
            assert_eq!(changed(&format!("input-{number}"), file, text), [*input], "{file}");
        }
    }

    #[test]
    fn what_no_model_sees_does_not_count() {
        let cases = [
            ("src/protocol.rs", PROTOCOL.replace("/// Publishes.", "/// Stores.\n// Why.")),
            ("src/protocol.rs", PROTOCOL.replace('\n', "\r\n").replace("{ a", "{\n    a")),
            ("src/protocol.rs", PROTOCOL.replace("fn t() {}", "fn t() { a.load(Acquire); }")),
            ("src/lib.rs", LIBRARY.replace("Words.", "Other words.")),
            ("src/ring.rs", "fn other() {}".to_owned()),
            ("loom-tests/mutants.toml", "# Still none.\n".to_owned()),
            (
                places::MUTATION_TOOL[0],
                "fn tool() {}\n#[cfg(test)]\nmod tests { fn t() {} }".to_owned(),
            ),
        ];
        for (number, (file, text)) in cases.iter().enumerate() {
            let name = format!("no-input-{number}");
            assert_eq!(changed(&name, file, text), [] as [String; 0], "{file}: {text}");
        }
    }

    #[test]
    fn the_place_of_the_checkout_does_not_count() {
        let (here, there) = (workspace("here"), workspace("there"));
        assert_eq!(all(&here.0).unwrap(), all(&there.0).unwrap());
    }

    #[test]
    fn a_new_file_counts() {
        let scratch = workspace("new-file");
        let before = total(&all(&scratch.0).unwrap());
        fs::write(scratch.0.join("loom-tests/tests/wake.rs"), "").unwrap();
        assert_ne!(total(&all(&scratch.0).unwrap()), before);
    }
}
