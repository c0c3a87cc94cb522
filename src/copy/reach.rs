//! How far the slots of a ring are from a core.

/// Where the slots of a ring are, which decides how large payloads are best copied out of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All slots fit into the cache of one core.
    Core,
    /// The slots are further away, or the distance is unknown.
    Beyond,
}
