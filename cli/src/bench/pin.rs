//! Keeping a process on one CPU.

use anyhow::{Context as _, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Two CPUs for two processes, out of those this process may run on.
///
/// # Errors
///
/// When there are fewer than two.
pub fn two_cpus() -> Result<[usize; 2]> {
    let allowed = sched_getaffinity(Pid::from_raw(0))
        .context("cannot ask which CPUs this process may run on")?;
    let cpus: Vec<_> =
        (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
    match cpus[..] {
        [first, second, ..] => Ok([first, second]),
        _ => bail!(
            "this benchmark pins two processes to two CPUs, but may run on {cpus:?} only: \
             allow it another one (taskset, cpuset or container limits), or use a machine with two"
        ),
    }
}

/// From now on the calling thread, and the threads it starts, run on this CPU only.
///
/// # Errors
///
/// When the system refuses.
pub fn pin_to(cpu: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu).with_context(|| format!("CPU {cpu} is beyond what the system can name"))?;
    sched_setaffinity(Pid::from_raw(0), &only)
        .with_context(|| format!("cannot pin this process to CPU {cpu}"))
}
