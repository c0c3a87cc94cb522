//! Keeping the processor from loading before a stamp has arrived.
//!
//! A processor predicts that the next message is ready, and loads its payload and the slots after
//! it before the stamp has arrived. Each load from a slot that the producer is about to write takes
//! a cache line from the producer, and is repeated when the line changes. Where that costs more
//! than it saves, the address of the next load is made to depend on the stamp: a zero is added to
//! it that neither the compiler nor the processor can know in advance.

use core::hint::black_box;

use crate::layout::Shape;
use crate::tuning::cpu::CpuProfile;

/// The loads that must not happen before the stamp of a slot has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadOrder {
    /// Nothing is held back.
    Any,
    /// The next slot.
    Slot,
    /// The payload and the next slot.
    Payload,
}

impl LoadOrder {
    /// The order that pays for messages received one by one from slots of this `shape`. Slots that
    /// share or straddle cache lines are read faster with no order.
    #[inline(always)]
    pub const fn of(profile: CpuProfile, shape: Shape) -> Self {
        match profile {
            CpuProfile::InOrder if shape.is_medium() => Self::Payload,
            CpuProfile::InOrder if shape.is_lines() => Self::Slot,
            _ => Self::Any,
        }
    }

    /// A zero, if `stamp` equals `expected`. It is computed from the stamp, unless the order is
    /// [`LoadOrder::Any`].
    ///
    /// The caller computes the zero before it compares the two: after a comparison, the compiler
    /// would use the expected stamp in place of the loaded one, and no load would wait.
    #[inline(always)]
    pub fn zero(self, stamp: u64, expected: u64) -> usize {
        match self {
            Self::Any => 0,
            _ => black_box(stamp).wrapping_sub(expected) as usize,
        }
    }

    /// How many words the payload is moved by.
    #[inline(always)]
    pub fn of_payload(self, zero: usize) -> usize {
        if self == Self::Payload { zero } else { 0 }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::layout::{MAX_SEQUENCE, ready};

    #[test]
    fn a_place_that_waits_for_a_stamp_is_moved_by_nothing() {
        for sequence in [0, 1, MAX_SEQUENCE - 1] {
            for order in [LoadOrder::Any, LoadOrder::Slot, LoadOrder::Payload] {
                let zero = order.zero(ready(sequence), ready(sequence));
                assert_eq!((zero, order.of_payload(zero)), (0, 0), "{sequence}, {order:?}");
            }
        }
    }
}
