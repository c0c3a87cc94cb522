//! Hints to the processor, and what is known about the processor that runs this code.
//!
//! Every function is a hint or a query: memory holds the same values without it.

use crate::layout::{LINE, WORD};
use crate::sync::AtomicU64;

/// The best way for a consumer to read one message after the other on this processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code)] // Each target has some of them.
pub enum CpuProfile {
    /// Loads must be kept from running before a stamp: see
    /// [`LoadOrder`](crate::tuning::load_order).
    InOrder,
    /// Later slots are worth a prefetch once they are known to be ready: see
    /// [`prefetch`](crate::tuning::prefetch).
    Prefetch,
    /// No hints: the processor decides for itself.
    Plain,
}

impl CpuProfile {
    /// The profile of the processor that runs this code.
    pub fn detect() -> Self {
        #[cfg(all(not(loom), not(miri), target_arch = "x86_64"))]
        return match x86_64::vendor() {
            x86_64::AMD => Self::InOrder,
            x86_64::INTEL => Self::Prefetch,
            _ => Self::Plain,
        };
        #[cfg(any(loom, miri, not(target_arch = "x86_64")))]
        return Self::Plain;
    }
}

/// Prefetches all lines of `shared` at once, for writing.
#[inline(always)]
pub fn prefetch_for_writing(shared: &[AtomicU64]) {
    fetch_for_writing(shared.as_ptr().cast::<u8>().cast_mut(), size_of_val(shared));
}

/// Prefetches `lines` lines for reading, from `distance` words after the start of `slot`. The
/// address may lie anywhere, also outside the segment.
#[inline(always)]
pub fn prefetch_for_reading(slot: &[AtomicU64], distance: usize, lines: usize) {
    fetch_for_reading(slot.as_ptr().wrapping_add(distance).cast::<u8>(), lines);
}

/// Whether `slot` begins where a cache line begins.
#[inline(always)]
pub fn begins_line(slot: &[AtomicU64]) -> bool {
    slot.as_ptr().addr() % (LINE * WORD) == 0
}

/// Asks the processor to move the lines of `shared` from this core's caches to the shared cache.
pub fn demote(shared: &[AtomicU64]) {
    let start = shared.as_ptr().cast::<u8>();
    let into_line = start.addr() % (LINE * WORD);
    for line in 0..(into_line + size_of_val(shared)).div_ceil(LINE * WORD) {
        demote_line(start.wrapping_add(line * LINE * WORD).wrapping_sub(into_line));
    }
}

#[cfg(all(not(loom), not(miri), target_arch = "x86_64"))]
use x86_64::{demote_line, fetch_for_reading};
#[cfg(all(not(loom), not(miri), target_arch = "x86_64"))]
pub use x86_64::{fetch_for_writing, has_demote, is_amd, is_intel, ticks, wait_for_loads};

#[cfg(all(not(loom), not(miri), target_arch = "x86_64"))]
mod x86_64 {
    use core::arch::asm;
    use core::arch::x86_64::{__cpuid, __cpuid_count, _MM_HINT_T0, _mm_prefetch, _rdtsc};
    use std::sync::OnceLock;

    use crate::layout::{LINE, WORD};

    pub const AMD: &[u8; 12] = b"AuthenticAMD";
    pub const INTEL: &[u8; 12] = b"GenuineIntel";

    /// The vendor of the processor.
    pub fn vendor() -> &'static [u8; 12] {
        static ANSWER: OnceLock<[u8; 12]> = OnceLock::new();
        ANSWER.get_or_init(|| {
            // SAFETY: every 64-bit processor has the instruction. (Newer compilers know that.)
            #[allow(unused_unsafe)]
            let leaf = unsafe { __cpuid(0) };
            bytemuck::cast([leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le))
        })
    }

    /// Whether AMD made the processor.
    pub fn is_amd() -> bool {
        vendor() == AMD
    }

    /// Whether Intel made the processor.
    pub fn is_intel() -> bool {
        vendor() == INTEL
    }

    /// Prefetches all lines of a slot at once, for writing. The lines are in the consumers' caches,
    /// and stores alone would fetch only a few at a time.
    #[inline(always)]
    pub fn fetch_for_writing(destination: *mut u8, bytes: usize) {
        for offset in (0..bytes).step_by(LINE * WORD) {
            // SAFETY: a hint, which reads and writes nothing and does not fault, whatever the
            // address. Processors without the instruction treat it as a no-op.
            unsafe {
                asm!("prefetchw [{}]", in(reg) destination.wrapping_add(offset), options(nostack, preserves_flags));
            }
        }
    }

    /// Prefetches lines that will be read soon.
    #[inline(always)]
    pub fn fetch_for_reading(source: *const u8, lines: usize) {
        for line in 0..lines {
            // SAFETY: a hint, which does not fault, whatever the address. (Newer compilers know
            // that the intrinsic is safe.)
            #[allow(unused_unsafe)]
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(source.wrapping_add(line * LINE * WORD).cast())
            };
        }
    }

    /// Whether the processor has the instruction that [`super::demote`] uses.
    pub fn has_demote() -> bool {
        const LEAF: u32 = 7;
        const CLDEMOTE: u32 = 1 << 25;
        // SAFETY: every 64-bit processor has the instruction. (Newer compilers know that.)
        #[allow(unused_unsafe)]
        let has = unsafe { __cpuid(0).eax >= LEAF && __cpuid_count(LEAF, 0).ecx & CLDEMOTE != 0 };
        has
    }

    /// Asks the processor to move a line to the cache that all cores share.
    #[inline(always)]
    pub fn demote_line(line: *const u8) {
        // SAFETY: a hint, which changes no memory and does not fault, whatever the address.
        // Processors without the instruction treat it as a no-op.
        unsafe {
            asm!("cldemote [{}]", in(reg) line, options(nostack, preserves_flags));
        }
    }

    /// The time-stamp counter: a clock in ticks of the processor. It may jump.
    #[inline(always)]
    pub fn ticks() -> u64 {
        // SAFETY: every 64-bit processor has the instruction. A process that has forbidden it to
        // itself (`PR_SET_TSC`) is killed by it, as by most clocks.
        unsafe { _rdtsc() }
    }

    /// Waits until all earlier loads have their values. On AMD processors, as operating systems
    /// configure them, no later instruction begins before that.
    #[inline(always)]
    pub fn wait_for_loads() {
        // SAFETY: the instruction reads and writes nothing. Not `nomem`: the compiler must not move
        // loads across it either.
        unsafe {
            asm!("lfence", options(nostack, preserves_flags));
        }
    }
}

/// Targets on which no hint has been measured to pay: no hints.
#[cfg(any(loom, miri, not(target_arch = "x86_64")))]
mod without_hints {
    pub fn fetch_for_writing(_destination: *mut u8, _bytes: usize) {}

    pub fn fetch_for_reading(_source: *const u8, _lines: usize) {}

    pub fn has_demote() -> bool {
        false
    }

    pub fn demote_line(_line: *const u8) {}

    pub fn ticks() -> u64 {
        0
    }

    pub fn wait_for_loads() {}
}
#[cfg(any(loom, miri, not(target_arch = "x86_64")))]
use without_hints::{demote_line, fetch_for_reading, fetch_for_writing};
#[cfg(any(loom, miri, not(target_arch = "x86_64")))]
pub use without_hints::{has_demote, ticks, wait_for_loads};
