//! What the models of the ring's protocols share: the explorer, and a ring over loom's atomics
//! whose reader checks every promise on every call.
//!
//! Without `--cfg loom` this crate is empty. `cargo xtask loom` runs the models.

#[cfg(loom)]
mod claim;
#[cfg(loom)]
mod explore;
#[cfg(loom)]
mod fixture;
#[cfg(loom)]
mod futex;
#[cfg(loom)]
mod gate;

#[cfg(loom)]
pub use claim::{Author, Locks};
#[cfg(loom)]
pub use explore::{Bound, Outcomes, explore};
#[cfg(loom)]
pub use fixture::{
    Follower, LARGE_SLOT, Member, Ring, mark_of, payload, payload_words, store_payload,
    take_payload,
};
#[cfg(loom)]
pub use futex::Futex;
#[cfg(loom)]
pub use gate::Gate;
