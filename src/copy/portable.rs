//! Targets without assembly. No ring has bulk granularity there (`Granularity::of`), so these
//! functions are never called.

use crate::copy::reach::Reach;

pub(super) unsafe fn store(_destination: *mut u8, _source: *const u8, _bytes: usize) {
    unreachable!("bulk copies do not exist on this target")
}

pub(super) unsafe fn load(_destination: *mut u8, _source: *const u8, _bytes: usize, _: Reach) {
    unreachable!("bulk copies do not exist on this target")
}
