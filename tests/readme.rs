//! The first programs that a newcomer sees are real: the README shows the examples, and they work.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Builds the examples, which a run of this test alone would not, and returns their directory.
fn examples() -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let target = test.ancestors().nth(3).expect("tests are built into TARGET/PROFILE/deps");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "--quiet",
        "--examples",
        "--manifest-path",
        concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        "--target-dir",
    ]);
    assert!(cargo.arg(target).status().expect("cargo runs").success());
    target.join("debug/examples")
}

#[test]
fn the_readme_shows_the_examples() {
    let readme = include_str!("../README.md");
    for program in
        [include_str!("../examples/producer.rs"), include_str!("../examples/consumer.rs")]
    {
        let (_, program) = program.split_once("\n\n").expect("a title and a program");
        assert!(
            readme.contains(&format!("```rust,no_run\n{program}```")),
            "the README does not show this program as it is:\n{program}"
        );
    }
}

#[test]
fn the_examples_work_together() {
    // The programs name their ring themselves, so only one run at a time on a machine.
    let turn = File::create(std::env::temp_dir().join("seqring-readme-example.lock"))
        .expect("a lock file");
    turn.lock().expect("the lock");
    let examples = examples();
    let mut consumer = Command::new(examples.join("consumer"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the consumer starts");
    let producer = Command::new(examples.join("producer")).status().expect("the producer runs");
    assert!(producer.success());
    let output = {
        use std::io::Read;
        let mut text = String::new();
        consumer.stdout.take().expect("piped").read_to_string(&mut text).expect("text");
        assert!(consumer.wait().expect("the consumer ends").success());
        text
    };
    // It may have attached late, but it was there at the end.
    assert!(output.ends_with("100 at 1.4999\n"), "the consumer printed: {output:?}");
}
