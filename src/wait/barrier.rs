//! The heavy half of the asymmetric barrier: a full barrier on every core that runs a producer, executed by who goes to sleep.
//!
//! A producer registers ([`register`]) before its first message; a sleeper calls [`heavy`] between raising the bell's bit and its last look.
//! Then the producer needs no fence between a message and its look at the bell (see [`bell`](crate::ring::bell)).
//!
//! # Who may have to do without
//! Kernels before 4.16 know neither command, and a sandbox may forbid the call. Each side decides for itself, and no word in the segment is needed
//! to agree:
//!
//! * A **producer** that cannot register fences itself, on every message. Sleepers need not know: their own fence in `bell::raise` pairs with
//!   the producer's, and their heavy barrier is merely not needed.
//! * A **thread** that cannot call and goes to sleep lets time pass instead, as a producer does that waits for room: it naps until the bit has been up for long
//!   enough. What is lost by that is latency, where a waker has just missed the bit. A task that cannot call does not trust the bell, and is looked after by naps.
//!
//! # Registering late, forking, executing
//! * A process may register *behind* a sleeper's barrier, while that sleeps. The registration itself executes a barrier on the threads
//!   of the process before it returns, so what the producer looks at later is at least as new: it sees the bit that was raised before.
//! * A child of `fork` inherits the registration (on Linux 6.18; nobody promises it), and `exec` drops it. Nothing depends on either: [`register`] is called for each
//!   producer that is opened, whatever this process or its parent did before, and costs a repeated caller a quick system call.
//! * A registration cannot be revoked, and concerns the whole process: the price is an interrupt of the cores that run one of
//!   its threads, whenever anybody on the machine calls for this barrier: some two microseconds on a virtual machine.

use crate::ring::bell::Barrier;

// From <linux/membarrier.h>; older versions of the crate `libc` do not have them.
const GLOBAL_EXPEDITED: libc::c_int = 1 << 1;
const REGISTER_GLOBAL_EXPEDITED: libc::c_int = 1 << 2;

/// Lets every sleeper of the machine execute barriers on behalf of this process, if the kernel agrees. Returns what is left for the producer to
/// execute on every message.
#[must_use]
pub(crate) fn register() -> Barrier {
    if membarrier(REGISTER_GLOBAL_EXPEDITED) { Barrier::Light } else { Barrier::Full }
}

/// Executes a full barrier on all threads of all processes that have registered. Returns whether it did; if not, the sleeper
/// must not rely on being woken yet.
#[must_use]
pub(crate) fn heavy() -> bool {
    membarrier(GLOBAL_EXPEDITED)
}

fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: the call takes no memory, and neither command does more than said above; flags and core number are 0, as both want.
    let code = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    code == 0
}
