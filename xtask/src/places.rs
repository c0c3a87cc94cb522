//! Where things are: every path that a task knows, from the root of the workspace.

/// The list of mutants that may survive, each with the reason.
pub const SURVIVORS: &str = "loom-tests/mutants.toml";

/// The kept result of the full mutation check.
pub const MUTANTS_LOCK: &str = "loom-tests/mutants.lock";

/// The package of the loom models.
pub const MODELS: &str = "loom-tests";

/// The document that holds the table of the loom models.
pub const MODELS_TABLE: &str = "docs/verification.md";

/// The directory of the pictures in the documentation.
pub const PICTURES: &str = "docs/pictures";

/// The root of the library's module tree.
pub const LIBRARY_ROOT: &str = "src/lib.rs";

/// The modules whose memory orderings are mutated: files, and directories with all they hold. A
/// path that does not exist is passed over.
pub const MUTATED: [&str; 6] =
    ["src/layout.rs", "src/layout", "src/protocol.rs", "src/protocol", "src/wait.rs", "src/wait"];

/// The parts of this program that decide what the mutants are and how each one ends. How a fate is
/// reported and stored is not among them.
pub const MUTATION_TOOL: [&str; 4] = [
    "xtask/src/models.rs",
    "xtask/src/mutate/copy.rs",
    "xtask/src/mutate/find.rs",
    "xtask/src/mutate/trial.rs",
];

/// Where the library and the command are, and what their packages are called.
pub const PACKAGES: [(&str, &str); 2] = [("seqring", "."), ("seqring-cli", "cli")];

/// What each package must hold.
pub const PACKAGED: [&str; 4] = ["Cargo.toml", "README.md", "LICENSE-APACHE", "LICENSE-MIT"];

/// What no package may hold: names of files that are for the repository alone.
pub const NOT_PACKAGED: [&str; 4] = ["mutants.toml", "mutants.lock", "api.txt", "NOTEBOOK.md"];

/// The list of all that the library exports; the package does not hold it.
pub const API: &str = "docs/api.txt";

/// The workspace of the comparison with other systems; it is apart because it needs their crates.
pub const PEERS: &str = "benches/peers/Cargo.toml";

/// The workspace of the fuzz targets; it is apart because it needs a nightly compiler.
pub const FUZZ: &str = "fuzz/Cargo.toml";

/// The modules of the library in the order of their imports: each imports only from those before
/// it. The second part orders the files below a module in the same way; where it is empty, their
/// order is free, and only circles are refused. A module that does not exist yet may be listed.
pub const MODULE_ORDER: &[(&str, &[&str])] = &[
    ("sync", &[]),
    ("failpoint", &[]),
    ("layout", &["constants", "geometry", "header"]),
    ("tuning", &["cpu", "load_order", "prefetch", "demotion"]),
    ("copy", &[]),
    (
        "protocol",
        &[
            "slot",
            "reader_table",
            "gating",
            "publish",
            "writer",
            "batch",
            "claim",
            "reader",
            "wake",
        ],
    ),
    ("message", &[]),
    ("error", &[]),
    ("segment", &[]),
    ("wait", &[]),
    ("shared", &[]),
    ("consumer", &[]),
    ("producer", &[]),
    ("inspect", &[]),
    ("ring", &[]),
    ("asynchronous", &[]),
    ("merge", &[]),
];

/// Where `unsafe` may stand: files, and directories that end with `/`.
pub const UNSAFE: &[&str] = &[
    "benches/peers/src/copy.rs",
    "benches/peers/src/measure/memory.rs",
    "benches/peers/src/payload.rs",
    "cli/src/bench/page.rs",
    "cli/src/bench/wake/futex.rs",
    "cli/src/locked/",
    "src/consumer.rs",
    "src/copy.rs",
    "src/copy/",
    "src/failpoint.rs",
    "src/segment.rs",
    "src/segment/",
    "src/tuning/cpu.rs",
    "src/wait/futex.rs",
    "src/wait/tests.rs",
    "tests/chaos/actor.rs",
    "tests/processes/fork.rs",
    "tests/processes/life.rs",
];

/// Where the library may name the atomics of `std` and `core`. The words of a segment are those of
/// `sync`, for which loom's stand in; the other files keep state of this process alone, and no
/// model compiles that part of them.
pub const ATOMICS: &[&str] = &[
    "src/consumer/registration/checkpoint.rs",
    "src/failpoint.rs",
    "src/ring.rs",
    "src/ring/builder.rs",
    "src/ring/open.rs",
    "src/segment/fork.rs",
    "src/shared.rs",
    "src/sync.rs",
];

/// The most columns of a line.
pub const COLUMNS: usize = 100;

/// Directories that are not searched, wherever they are.
pub const NOT_SEARCHED: &[&str] = &["target", "corpus", "artifacts", "__pycache__"];

/// What a finding of a house check does to the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// It fails the step.
    Fail,
    /// It is printed. For a check that the sources do not pass yet.
    Warn,
}

/// The levels of the house checks.
pub const IMPORTS: Level = Level::Warn;
pub const CIRCLES: Level = Level::Warn;
pub const RESERVED: Level = Level::Fail;
pub const STALE_ENTRIES: Level = Level::Warn;
pub const CODE_WIDTH: Level = Level::Warn;
pub const PROSE_WIDTH: Level = Level::Fail;

/// What a table of models that is not current does to its steps.
pub const MODELS_TABLE_LEVEL: Level = Level::Warn;
