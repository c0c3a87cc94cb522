//! The locked baseline: a lossless broadcast queue in shared memory, guarded by
//! one process-shared readers-writer lock.
//!
//! This is the design that the lock-free ring is measured against, built to be
//! as fast as it can be. The writer holds the lock exclusively while it copies
//! a message into a slot; readers hold it shared while they copy a message out.
//! A reader with nothing to read sleeps on a condition and is woken by the next
//! write. Nothing is ever overwritten before every registered reader has it: a
//! writer that finds a reader a full lap behind has to wait, which is counted
//! as a stall.
//!
//! # Why the lock is built from a mutex and conditions
//!
//! `pthread_rwlock_t` cannot be waited on with a condition variable, so it
//! would need a second mutex for sleeping and two locks taken per message; it is
//! not robust, so a process that dies inside it hangs everyone else; and its
//! default lets a stream of readers starve the writer. Here one robust mutex
//! guards a few integers for some tens of nanoseconds at a time, the shared and
//! the exclusive hold are states among those integers, and the same two
//! conditions serve for the lock and for the data.

mod memory;
mod queue;
mod sync;

pub use memory::Geometry;
pub use queue::{Queue, Reader, Take, Writer};
