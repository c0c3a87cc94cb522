//! How far away the slots of a ring are.

/// Where the slots of a ring are, which decides how large payloads are best copied out of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All of them fit into the cache of a core.
    Core,
    /// Further away, or unknown.
    Beyond,
}
