//! Where things are: every path that a task knows, from the root of the workspace.

/// The list of mutants that may survive, each with the reason.
pub const SURVIVORS: &str = "loom-tests/mutants.toml";

/// The kept result of the full mutation check.
pub const MUTANTS_LOCK: &str = "loom-tests/mutants.lock";

/// The package of the loom models.
pub const MODELS: &str = "loom-tests";

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

/// The workspace of the comparison with other systems; it is apart because it needs their crates.
pub const PEERS: &str = "benches/peers/Cargo.toml";

/// The workspace of the fuzz targets; it is apart because it needs a nightly compiler.
pub const FUZZ: &str = "fuzz/Cargo.toml";
