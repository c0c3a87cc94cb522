//! The one switch between the standard library's atomics and loom's.
//!
//! The modules of the protocol import atomics from here and nowhere else, so loom explores the same
//! code that runs in production.

// It orders only the compiler, so loom has no equivalent; see `protocol::wake`.
pub use core::sync::atomic::compiler_fence;

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU64, Ordering, fence};

/// `N` words of zero on the heap: the memory of unit tests and models.
#[cfg(any(test, loom))]
pub fn zeroed(words: usize) -> Box<[AtomicU64]> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}
