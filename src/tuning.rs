//! Hints to the processor. Nothing but speed follows from this module.

pub mod demotion;
pub mod prefetch;
