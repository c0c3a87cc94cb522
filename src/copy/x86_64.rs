//! Bulk copies for x86-64. Up to four lines are copied from both ends, by 32-byte vectors where the
//! processor has AVX2. More is copied in a loop of 32-byte or 64-byte vectors, and long payloads
//! that go into a slot by `rep movsb`.

use core::arch::asm;
use core::arch::x86_64::__m128i;

use crate::copy::reach::Reach;
use crate::sync::AtomicU64;
use crate::tuning::cpu::{fetch_for_writing, is_amd, is_intel};

/// Bytes of two words.
pub(super) const PAIR: usize = 16;

/// Bytes of a vector of AVX2.
const VECTOR: usize = 32;

/// Bytes of a vector of AVX-512.
const WIDE: usize = 64;

/// Bytes of one round of the vector loop. Shorter copies have code of their own.
const ROUND: usize = 4 * VECTOR;

/// Copies of one to two rounds have code of their own too, which is inlined.
const TWO_ROUNDS: usize = 2 * ROUND;

/// From this many bytes on, `rep movsb` into a slot is faster on AMD processors that have it
/// enhanced: it need not read the lines, which are in the consumers' caches, before it overwrites
/// them.
const LONG: usize = 4 << 10;

/// The same for other processors. On Intel's, vectors are faster below this size; from here on `rep
/// movsb` is no slower, and for very long payloads faster.
const LONG_ELSEWHERE: usize = 16 << 10;

/// From this many bytes on, `rep movsb` is faster out of a slot too, as long as the whole ring is
/// in the core's cache. The destination's lines, which leave the first-level cache anyway, then
/// need not be read. From further away it is much slower than vectors, because it prefetches
/// little.
const LONG_NEAR: usize = 32 << 10;

/// Most bytes of a slot that are prefetched at once: more would leave the cache again before they
/// are written.
const FETCHED: usize = 8 << 10;

/// From this many bytes on, 64-byte vectors are faster, on processors where they are at all.
/// Shorter messages arrive slightly later by them.
const WIDE_FROM: usize = 2 << 10;

/// Stores two words at once.
///
/// The manuals promise one atomic store only for addresses that are a multiple of 16. The
/// processors known to us split other such stores between words, if at all. Nothing depends on
/// that: a consumer discards whatever it has read of a message if the stamp does not validate the
/// copy.
#[inline(always)]
pub(super) fn store_pair(pair: &[AtomicU64; 2], source: &[u8; PAIR]) {
    let value: __m128i = bytemuck::pod_read_unaligned(source);
    // SAFETY: the 16 bytes of `pair` are writable through a shared reference, because they are
    // atomics. The block stands for two relaxed stores in no particular order: it stores whole
    // words and does nothing else.
    unsafe {
        asm!("movdqu [{pair}], {value}", pair = in(reg) pair.as_ptr(), value = in(xmm_reg) value, options(nostack, preserves_flags));
    }
}

/// Copies `bytes` bytes into a slot.
///
/// Loads and stores need no alignment. All stores are ordinary ones, or those of a string
/// operation. Stores of a string operation may come in any order among themselves, but not after
/// later stores: the stamp that follows stays after them (Intel SDM, "Fast-String Operation and
/// Out-of-Order Stores").
///
/// Inlined, so that for a size known at compile time only the code for that size is left.
///
/// # Safety
/// `source` must be readable and `destination` writable for `bytes` bytes, and they must not
/// overlap.
#[inline(always)]
pub(super) unsafe fn store(destination: *mut u8, source: *const u8, bytes: usize) {
    // SAFETY: the caller's promise.
    if !unsafe { inlined(destination, source, bytes) } {
        // SAFETY: the caller's promise; there is at least a round, and with AVX2 more than two, as
        // `inlined` has not copied it.
        unsafe { store_long(destination, source, bytes) }
    }
}

/// Copies `bytes` bytes out of a slot. Some bytes may be loaded and stored twice. If the slot
/// changes meanwhile, the second value stays, which is as good as the first until the stamp has
/// validated the copy.
///
/// Otherwise as [`store`].
///
/// # Safety
/// As [`store`].
#[inline(always)]
pub(super) unsafe fn load(destination: *mut u8, source: *const u8, bytes: usize, reach: Reach) {
    // SAFETY: the caller's promise.
    if !unsafe { inlined(destination, source, bytes) } {
        // SAFETY: the caller's promise; there is at least a round, and with AVX2 more than two, as
        // `inlined` has not copied it.
        unsafe { load_long(destination, source, bytes, reach) }
    }
}

/// Copies a payload that is short enough for inlined code; returns whether it was.
///
/// # Safety
/// As [`store`].
#[inline(always)]
unsafe fn inlined(destination: *mut u8, source: *const u8, bytes: usize) -> bool {
    match bytes {
        // SAFETY: the caller's promise; there is less than a round.
        0..ROUND => unsafe { short(destination, source, bytes) },
        // SAFETY: the caller's promise; there are one to two rounds, and the processor has AVX2.
        ROUND..=TWO_ROUNDS if std::is_x86_feature_detected!("avx2") => unsafe {
            two_rounds(destination, source, bytes)
        },
        _ => return false,
    }
    true
}

/// # Safety
/// As [`store`]; `bytes` must be at least [`ROUND`], and more than [`TWO_ROUNDS`] where the
/// processor has AVX2.
#[inline(never)]
unsafe fn store_long(destination: *mut u8, source: *const u8, bytes: usize) {
    let is_long = bytes >= LONG_ELSEWHERE || (bytes >= LONG && is_amd());
    let by_string = (is_long && std::is_x86_feature_detected!("ermsb"))
        || !std::is_x86_feature_detected!("avx2");
    if by_string {
        // SAFETY: the caller's promise.
        unsafe { string(destination, source, bytes) }
    } else {
        fetch_for_writing(destination, bytes.min(FETCHED));
        if has_wide(bytes) {
            // SAFETY: the caller's promise; the processor has AVX2, so there is more than two
            // rounds, and AVX-512.
            unsafe { wide_vectors(destination, source, bytes, before_aligned(destination, WIDE)) }
        } else {
            // SAFETY: the caller's promise; the processor has AVX2, so there is more than two
            // rounds.
            unsafe { vectors(destination, source, bytes, before_aligned(destination, VECTOR)) }
        }
    }
}

/// # Safety
/// As [`load`]; `bytes` must be at least [`ROUND`], and more than [`TWO_ROUNDS`] where the
/// processor has AVX2.
#[inline(never)]
unsafe fn load_long(destination: *mut u8, source: *const u8, bytes: usize, reach: Reach) {
    let by_string =
        reach == Reach::Core && bytes >= LONG_NEAR && std::is_x86_feature_detected!("ermsb");
    if by_string || !std::is_x86_feature_detected!("avx2") {
        // SAFETY: the caller's promise.
        unsafe { string(destination, source, bytes) }
    } else if (destination.addr() ^ source.addr()) % VECTOR != 0 && has_wide(bytes) {
        // Here loads straddle lines: every second one of 32-byte vectors, and every one of 64-byte
        // vectors. But there are half as many of the latter, which is faster. SAFETY: the caller's
        // promise; the processor has AVX2, so there is more than two rounds, and AVX-512.
        unsafe { wide_vectors(destination, source, bytes, before_aligned(destination, WIDE)) }
    } else {
        // SAFETY: the caller's promise; the processor has AVX2, so there is more than two rounds.
        unsafe { vectors(destination, source, bytes, before_aligned(destination, VECTOR)) }
    }
}

/// Whether the processor has 64-byte vectors and is faster by them. Intel's processors from Ice
/// Lake on are taken to be, as Granite Rapids is. Earlier ones (which lack VBMI2) change their
/// clock for such vectors, and stand still meanwhile. AMD's Zen 5 is no faster by them.
#[inline(always)]
fn has_wide(bytes: usize) -> bool {
    bytes >= WIDE_FROM
        && std::is_x86_feature_detected!("avx512f")
        && std::is_x86_feature_detected!("avx512vbmi2")
        && is_intel()
}

/// Copies pieces of one size from the start, and as many up to the end. They meet or overlap in the
/// middle.
///
/// All loads come first, so bytes that lie in two pieces may be stored with values from two
/// moments. More is not promised.
macro_rules! both_ends {
    ($destination:ident, $source:ident, $bytes:ident, $class:ident: $($instruction:literal),+; $($register:ident),+) => {
        // SAFETY: the caller's promise, and `$bytes` is at least the size of the pieces that are
        // copied from one end. Not `nomem`: the compiler must not move other memory accesses across
        // the block.
        unsafe {
            asm!(
                $($instruction,)+
                source = in(reg) $source,
                destination = in(reg) $destination,
                bytes = in(reg) $bytes,
                $($register = out($class) _,)+
                options(nostack, preserves_flags),
            )
        }
    };
}

/// # Safety
/// As [`store`]; `bytes` must be less than [`ROUND`].
#[inline(always)]
unsafe fn short(destination: *mut u8, source: *const u8, bytes: usize) {
    match bytes {
        0 => {}
        // SAFETY: the caller's promise; there is one byte.
        1 => unsafe {
            asm!(
                "mov {byte}, [{source}]",
                "mov [{destination}], {byte}",
                source = in(reg) source,
                destination = in(reg) destination,
                byte = out(reg_byte) _,
                options(nostack, preserves_flags),
            )
        },
        2..=4 => both_ends!(destination, source, bytes, reg:
                "mov {a:x}, [{source}]",
                "mov {b:x}, [{source} + {bytes} - 2]",
                "mov [{destination}], {a:x}",
                "mov [{destination} + {bytes} - 2], {b:x}"; a, b),
        5..=8 => both_ends!(destination, source, bytes, reg:
                "mov {a:e}, [{source}]",
                "mov {b:e}, [{source} + {bytes} - 4]",
                "mov [{destination}], {a:e}",
                "mov [{destination} + {bytes} - 4], {b:e}"; a, b),
        9..=16 => both_ends!(destination, source, bytes, reg:
                "mov {a}, [{source}]",
                "mov {b}, [{source} + {bytes} - 8]",
                "mov [{destination}], {a}",
                "mov [{destination} + {bytes} - 8], {b}"; a, b),
        17..=32 => both_ends!(destination, source, bytes, xmm_reg:
                "movdqu {a}, [{source}]",
                "movdqu {b}, [{source} + {bytes} - 16]",
                "movdqu [{destination}], {a}",
                "movdqu [{destination} + {bytes} - 16], {b}"; a, b),
        33..=64 => both_ends!(destination, source, bytes, xmm_reg:
                "movdqu {a}, [{source}]",
                "movdqu {b}, [{source} + 16]",
                "movdqu {c}, [{source} + {bytes} - 32]",
                "movdqu {d}, [{source} + {bytes} - 16]",
                "movdqu [{destination}], {a}",
                "movdqu [{destination} + 16], {b}",
                "movdqu [{destination} + {bytes} - 32], {c}",
                "movdqu [{destination} + {bytes} - 16], {d}"; a, b, c, d),
        _ => both_ends!(destination, source, bytes, xmm_reg:
                "movdqu {a}, [{source}]",
                "movdqu {b}, [{source} + 16]",
                "movdqu {c}, [{source} + 32]",
                "movdqu {d}, [{source} + 48]",
                "movdqu {e}, [{source} + {bytes} - 64]",
                "movdqu {f}, [{source} + {bytes} - 48]",
                "movdqu {g}, [{source} + {bytes} - 32]",
                "movdqu {h}, [{source} + {bytes} - 16]",
                "movdqu [{destination}], {a}",
                "movdqu [{destination} + 16], {b}",
                "movdqu [{destination} + 32], {c}",
                "movdqu [{destination} + 48], {d}",
                "movdqu [{destination} + {bytes} - 64], {e}",
                "movdqu [{destination} + {bytes} - 48], {f}",
                "movdqu [{destination} + {bytes} - 32], {g}",
                "movdqu [{destination} + {bytes} - 16], {h}"; a, b, c, d, e, f, g, h),
    }
}

/// An assembly block that uses the 32-byte or the 64-byte registers.
///
/// `vzeroupper` saves the code that follows the penalty for mixing SSE and AVX. Naming xmm0 to
/// xmm15 as clobbered covers the whole registers. Not `nomem`: the compiler must not move other
/// memory accesses across the block.
macro_rules! avx {
    ($($instruction:expr),+; [$($operand:tt)+], $($option:ident),+) => {
        asm!(
            $($instruction,)+
            "vzeroupper",
            $($operand)+
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options($($option),+),
        )
    };
}

/// Copies one to two rounds. All loads come before all stores, so that the lines of a slot are
/// fetched at the same time.
///
/// # Safety
/// As [`store`]; `bytes` must be [`ROUND`] to [`TWO_ROUNDS`], and the processor must have AVX2.
#[inline(always)]
unsafe fn two_rounds(destination: *mut u8, source: *const u8, bytes: usize) {
    // SAFETY: the block touches the first and the last ROUND bytes of the ranges of the caller's
    // promise, which meet or overlap in the middle.
    unsafe {
        avx!(
            "vmovdqu ymm0, [{source}]",
            "vmovdqu ymm1, [{source} + 32]",
            "vmovdqu ymm2, [{source} + 64]",
            "vmovdqu ymm3, [{source} + 96]",
            "vmovdqu ymm4, [{source} + {last}]",
            "vmovdqu ymm5, [{source} + {last} + 32]",
            "vmovdqu ymm6, [{source} + {last} + 64]",
            "vmovdqu ymm7, [{source} + {last} + 96]",
            "vmovdqu [{destination}], ymm0",
            "vmovdqu [{destination} + 32], ymm1",
            "vmovdqu [{destination} + 64], ymm2",
            "vmovdqu [{destination} + 96], ymm3",
            "vmovdqu [{destination} + {last}], ymm4",
            "vmovdqu [{destination} + {last} + 32], ymm5",
            "vmovdqu [{destination} + {last} + 64], ymm6",
            "vmovdqu [{destination} + {last} + 96], ymm7";
            [last = in(reg) bytes - ROUND, source = in(reg) source, destination = in(reg) destination,],
            nostack, preserves_flags
        );
    }
}

/// # Safety
/// As [`store`].
unsafe fn string(destination: *mut u8, source: *const u8, bytes: usize) {
    // SAFETY: the block reads and writes exactly the ranges of the caller's promise; the direction
    // flag is clear at the entry of every block. Not `nomem`: the compiler must not move other
    // memory accesses across the block.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") bytes => _,
            inout("rdi") destination => _,
            inout("rsi") source => _,
            options(nostack, preserves_flags),
        );
    }
}

/// After how many bytes the rounds begin, so that their stores are aligned. On Intel's processors,
/// stores that straddle lines are much slower, and loads that do are somewhat slower. On AMD's
/// processors alignment makes long copies out of slots slower, so there is none.
#[inline(always)]
fn before_aligned(destination: *mut u8, vector: usize) -> usize {
    if is_amd() { 0 } else { destination.addr().wrapping_neg() % vector }
}

/// Copies a vector of `$vector` bytes, then rounds of four vectors that begin after the first
/// `before` bytes, then the last round. Bytes that lie in two of these are copied twice.
macro_rules! rounds {
    ($(#[$attribute:meta])* $name:ident, $vector:ident, $move:literal, $register:literal) => {
        $(#[$attribute])*
        unsafe fn $name(destination: *mut u8, source: *const u8, bytes: usize, before: usize) {
            // SAFETY: the first vector lies inside the ranges of the caller's promise, which are
            // longer than a round. The loop begins within that vector, or at its end, and touches
            // whole rounds while more than a round is left; the code after the loop touches the
            // last round. Nothing is left out.
            unsafe {
                avx!(
                    concat!($move, $register, "0, [{source}]"),
                    concat!($move, "[{destination}], ", $register, "0"),
                    "2:",
                    "cmp {at}, {last}",
                    "jae 3f",
                    concat!($move, $register, "0, [{source} + {at}]"),
                    concat!($move, $register, "1, [{source} + {at} + {vector}]"),
                    concat!($move, $register, "2, [{source} + {at} + 2 * {vector}]"),
                    concat!($move, $register, "3, [{source} + {at} + 3 * {vector}]"),
                    concat!($move, "[{destination} + {at}], ", $register, "0"),
                    concat!($move, "[{destination} + {at} + {vector}], ", $register, "1"),
                    concat!($move, "[{destination} + {at} + 2 * {vector}], ", $register, "2"),
                    concat!($move, "[{destination} + {at} + 3 * {vector}], ", $register, "3"),
                    "add {at}, 4 * {vector}",
                    "jmp 2b",
                    "3:",
                    concat!($move, $register, "0, [{source} + {last}]"),
                    concat!($move, $register, "1, [{source} + {last} + {vector}]"),
                    concat!($move, $register, "2, [{source} + {last} + 2 * {vector}]"),
                    concat!($move, $register, "3, [{source} + {last} + 3 * {vector}]"),
                    concat!($move, "[{destination} + {last}], ", $register, "0"),
                    concat!($move, "[{destination} + {last} + {vector}], ", $register, "1"),
                    concat!($move, "[{destination} + {last} + 2 * {vector}], ", $register, "2"),
                    concat!($move, "[{destination} + {last} + 3 * {vector}], ", $register, "3");
                    [
                        at = inout(reg) before => _,
                        last = in(reg) bytes - 4 * $vector,
                        vector = const $vector,
                        source = in(reg) source,
                        destination = in(reg) destination,
                    ],
                    nostack
                );
            }
        }
    };
}

rounds! {
    /// # Safety
    /// As [`store`]; `bytes` must be more than [`TWO_ROUNDS`], `before` at most a vector, and the
    /// processor must have AVX2.
    vectors, VECTOR, "vmovdqu ", "ymm"
}

rounds! {
    /// # Safety
    /// As [`vectors`], and the processor must have AVX-512.
    wide_vectors, WIDE, "vmovdqu64 ", "zmm"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a cache line.
    const LINE: usize = 64;

    /// Checks copies by vectors of `width` bytes: all lengths from two rounds on that differ in the
    /// remainder at the end, and all offsets in a line on both sides.
    ///
    /// # Safety
    /// The processor must have the instructions that `copy` uses.
    unsafe fn check(width: usize, copy: unsafe fn(*mut u8, *const u8, usize, usize)) {
        let source: Vec<u8> = (0..2000).map(|i| (i * 7 + i / 251 + 1) as u8).collect();
        for bytes in (TWO_ROUNDS + 1..TWO_ROUNDS + 2 * LINE).chain([1000, 1024, 1900]) {
            for (from, to) in (0..LINE)
                .step_by(7)
                .flat_map(|place| [(place, 0), (0, place), (place, LINE - place)])
            {
                let mut landing = [0xEE_u8; 2100];
                for before in [0, landing[to..].as_ptr().addr().wrapping_neg() % width, width] {
                    landing.fill(0xEE);
                    // SAFETY: both ranges lie inside their arrays, and the caller's promise.
                    unsafe {
                        copy(landing[to..].as_mut_ptr(), source[from..].as_ptr(), bytes, before)
                    };
                    assert_eq!(
                        landing[to..to + bytes],
                        source[from..from + bytes],
                        "{bytes} bytes from {from} to {to}, {before}"
                    );
                    assert!(
                        landing[..to]
                            .iter()
                            .chain(&landing[to + bytes..])
                            .all(|byte| *byte == 0xEE),
                        "{bytes} bytes from {from} to {to}, {before}"
                    );
                }
            }
        }
    }

    #[test]
    fn vectors_copy_every_length_from_and_to_every_place() {
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has it.
            unsafe { check(VECTOR, vectors) }
        }
        if std::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has it.
            unsafe { check(WIDE, wide_vectors) }
        }
    }
}
