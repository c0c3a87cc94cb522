//! Bulk copies for aarch64: pairs of 16-byte vector registers, then single bytes.

use core::arch::asm;

use crate::copy::reach::Reach;

/// Copies `bytes` bytes out of a slot.
///
/// # Safety
/// As [`store`].
pub(super) unsafe fn load(destination: *mut u8, source: *const u8, bytes: usize, _reach: Reach) {
    // SAFETY: the caller's promise.
    unsafe { store(destination, source, bytes) }
}

/// Copies `bytes` bytes into a slot, each loaded and stored once.
///
/// # Safety
/// `source` must be readable and `destination` writable for `bytes` bytes, and they must not
/// overlap.
pub(super) unsafe fn store(destination: *mut u8, source: *const u8, bytes: usize) {
    // SAFETY: each round advances both pointers by the number of bytes that it has copied, and is
    // entered only while that many bytes are left. So exactly the ranges of the caller's promise
    // are touched. Not `nomem`: the compiler must not move other memory accesses across the block.
    unsafe {
        asm!(
            "2:",
            "subs {left}, {left}, #64",
            "b.lo 3f",
            "ldp q0, q1, [{source}], #32",
            "ldp q2, q3, [{source}], #32",
            "stp q0, q1, [{destination}], #32",
            "stp q2, q3, [{destination}], #32",
            "b 2b",
            "3:",
            "adds {left}, {left}, #64",
            "b.eq 5f",
            "4:",
            "ldrb {byte:w}, [{source}], #1",
            "strb {byte:w}, [{destination}], #1",
            "subs {left}, {left}, #1",
            "b.ne 4b",
            "5:",
            left = inout(reg) bytes => _,
            source = inout(reg) source => _,
            destination = inout(reg) destination => _,
            byte = out(reg) _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            options(nostack),
        );
    }
}
