//! Whether a scenario fits into this machine, before anything is started.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use indicatif::BinaryBytes;
use nix::sys::statvfs::statvfs;

use super::leftovers::DIRECTORY;
use super::payload;
use super::plan::Plan;

/// Refuses a plan that needs more memory than there is.
///
/// # Errors
///
/// What is needed, and what is free.
pub fn check(plan: &Plan) -> Result<()> {
    let shared = (plan.slots as u128) * (plan.slot_bytes as u128);
    let free = free_shared_memory()?;
    ensure!(
        shared <= u128::from(free),
        "scenario {}: {} slots of {} bytes need {} of shared memory, but {DIRECTORY} has {} free; \
         use fewer or smaller slots",
        plan.name,
        plan.slots,
        plan.slot_bytes,
        binary(shared),
        binary(u128::from(free)),
    );
    // Each reader has room for a message, and each writer for several to send.
    let buffers = plan.readers + plan.writers * payload::buffer_count(plan.slots);
    let all = shared + (buffers as u128) * (plan.slot_bytes as u128);
    if let Some(available) = available_memory() {
        ensure!(
            all <= u128::from(available),
            "scenario {}: {} slots, {} readers and {} writers of {} bytes need {} of memory, but {} are \
             available; use fewer or smaller slots, or fewer readers",
            plan.name,
            plan.slots,
            plan.readers,
            plan.writers,
            plan.slot_bytes,
            binary(all),
            binary(u128::from(available)),
        );
    }
    Ok(())
}

fn binary(bytes: u128) -> BinaryBytes {
    BinaryBytes(u64::try_from(bytes).unwrap_or(u64::MAX))
}

/// Bytes that can still be had in `/dev/shm`.
fn free_shared_memory() -> Result<u64> {
    let status =
        statvfs(DIRECTORY).with_context(|| format!("cannot examine the space in {DIRECTORY}"))?;
    Ok(status.blocks_available().saturating_mul(status.fragment_size()))
}

/// The kernel's estimate of the bytes that can be used without swapping.
fn available_memory() -> Option<u64> {
    let facts = fs::read_to_string("/proc/meminfo").ok()?;
    let line = facts.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scenario::plan::Preset;

    #[test]
    fn what_cannot_fit_is_refused_with_the_free_space() {
        let mut plan = Preset::Steady.plans().remove(0);
        plan.slot_bytes = 20;
        plan.slots = 2;
        check(&plan).unwrap();
        plan.slots = usize::MAX;
        plan.slot_bytes = usize::MAX;
        let error = check(&plan).unwrap_err().to_string();
        assert!(error.contains("free") && error.contains("/dev/shm"), "{error}");
    }

    #[test]
    fn the_kernel_tells_the_available_memory() {
        assert!(available_memory().unwrap() > 1 << 20);
    }
}
