//! Waiting for another process on its own CPU.

use anyhow::Result;

/// Polls between two looks at whether there is still something to wait for: some milliseconds,
/// pauses of the caller's included.
const POLLS: u32 = 1 << 18;

/// An error when there is nothing to wait for any more: the other process died, or the user wants
/// to stop.
pub type Check<'a> = dyn FnMut() -> Result<()> + 'a;

/// Polls, without a pause in between, until `poll` says `true`.
///
/// # Errors
///
/// Those of `poll` and `check`.
#[inline(always)]
pub fn until(check: &mut Check<'_>, mut poll: impl FnMut() -> Result<bool>) -> Result<()> {
    loop {
        for _ in 0..POLLS {
            if poll()? {
                return Ok(());
            }
        }
        check()?;
    }
}
