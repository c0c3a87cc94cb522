//! A hint for loom.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use loom::sync::atomic::AtomicBool;

/// Makes loom look for the executions in which one thread comes behind a step of another.
///
/// Loom weighs a store against the last access to its word alone. Who reads the words that it is
/// about to write hides that another thread has read them before. The gate is a word that it only
/// writes, once; relaxed, so that it orders nothing.
#[derive(Debug, Clone)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    /// A gate that nobody has opened.
    #[allow(clippy::new_without_default)] // loom's atomics exist in a model only
    pub fn new() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    /// The step has been taken.
    pub fn open(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Comes before the step, in some executions, and behind it in others.
    pub fn pass(&self) {
        self.0.load(Ordering::Relaxed);
    }
}
