//! Hints to the processor. Nothing but speed follows from this module.

pub mod cpu;
pub mod demotion;
pub mod load_order;
pub mod prefetch;
