//! The two ends of a channel, as the measurements see them.
//!
//! The work is the same for every system: the sender marks a message in its own memory and hands it
//! over whole; the receiver ends with the whole message in its own memory and checks it. Systems
//! that work in place copy out, like the others.

use anyhow::{Result, bail};

/// Most messages per call where a benchmark works in batches.
pub const BATCH: usize = 32;

/// A sending end.
pub trait Sender {
    /// Sends message number `n`, waiting for room if the channel is lossless.
    fn send(&mut self, n: u64) -> Result<()>;

    /// Sends `count` messages from number `first` on by the system's call for batches, at most
    /// [`BATCH`].
    fn send_batch(&mut self, first: u64, count: usize) -> Result<()>;
}

/// A receiving end.
pub trait Receiver {
    /// Looks once; receives and checks a message if there is one, and returns its number. A look
    /// that finds only that messages were lost returns nothing.
    fn poll(&mut self) -> Result<Option<u64>>;

    /// Waits for a message with full attention, by the call that the system's authors advise for
    /// that; where there is none, looks once. May return without a message.
    #[inline(always)]
    fn attend(&mut self) -> Result<Option<u64>> {
        self.poll()
    }

    /// Receives up to [`BATCH`] messages by the system's call for batches, hands each number to
    /// `each` and returns how many there were.
    fn poll_batch(&mut self, each: &mut impl FnMut(u64) -> Result<()>) -> Result<usize>;

    /// Sleeps until there is a message. May return without one now and then.
    fn wait(&mut self) -> Result<Option<u64>>;
}

/// The number of a message, or the error that it is damaged.
#[inline(always)]
pub fn intact(number: Option<u64>) -> Result<u64> {
    match number {
        Some(n) => Ok(n),
        None => damaged(),
    }
}

#[cold]
fn damaged() -> Result<u64> {
    bail!("a message arrived damaged")
}

/// [`Receiver::poll_batch`] for systems that have no call for it.
#[inline(always)]
pub fn one_by_one<R: Receiver>(
    receiver: &mut R,
    each: &mut impl FnMut(u64) -> Result<()>,
) -> Result<usize> {
    for count in 0..BATCH {
        match receiver.poll()? {
            Some(n) => each(n)?,
            None => return Ok(count),
        }
    }
    Ok(BATCH)
}

/// [`Sender::send_batch`] for systems that have no call for it.
#[inline(always)]
pub fn each_alone<S: Sender>(sender: &mut S, first: u64, count: usize) -> Result<()> {
    (first..first + count as u64).try_for_each(|n| sender.send(n))
}

/// Messages per call where a benchmark works in batches: as many as stay in the cache with their
/// copies, at least two.
pub const fn batch_of(words: usize) -> usize {
    const CACHED_BYTES: usize = 256 << 10;
    let fitting = CACHED_BYTES / (words * 8);
    if fitting > BATCH {
        BATCH
    } else if fitting < 2 {
        2
    } else {
        fitting
    }
}
