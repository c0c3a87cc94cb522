//! The yardstick of everything that goes from one CPU to another: the hand-off.
//!
//! Two processes on two CPUs bounce one cache line with plain loads and stores, one shared line and no other traffic; the hand-off is half
//! of that round trip. No message can be faster, so a figure in hand-offs says what the protocol adds. Virtual CPUs move and clocks change,
//! so a hand-off counts only beside what was measured in the same millisecond: measurements alternate with it in short rounds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::fcntl::posix_fallocate;
use shared_memory::{Shmem, ShmemConf};
use std::fs::File;

use super::spin::{Check, until};

/// Round trips of one round.
pub const TRIPS: u32 = 1000;

/// The segment: a page, of which one line is used.
const BYTES: usize = 4096;

/// One side of a cache line that two processes bounce.
pub struct HandOff {
    segment: Shmem,
    /// What the line holds when nothing is under way.
    turn: u64,
}

impl HandOff {
    /// Creates the line; dropping this unlinks it.
    ///
    /// # Errors
    ///
    /// When the name is taken or there is no space.
    pub fn create(name: &str) -> Result<Self> {
        let segment =
            ShmemConf::new().os_id(name).size(BYTES).create().with_context(|| format!("cannot create the shared memory {name:?}"))?;
        let path = format!("/dev/shm/{name}");
        let file = File::options().write(true).open(&path).with_context(|| format!("cannot open {path}"))?;
        // Otherwise a full /dev/shm is noticed by the first store, which is a SIGBUS.
        posix_fallocate(file, 0, BYTES as i64).with_context(|| format!("cannot reserve {BYTES} bytes for {path}"))?;
        Ok(Self { segment, turn: 0 })
    }

    /// Opens the line that the other process created.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn open(name: &str) -> Result<Self> {
        let segment = ShmemConf::new().os_id(name).open().with_context(|| format!("cannot open the shared memory {name:?}"))?;
        anyhow::ensure!(segment.len() >= BYTES, "the shared memory {name:?} has only {} bytes", segment.len());
        Ok(Self { segment, turn: 0 })
    }

    /// Sends the line to and fro so many times, and returns the nanoseconds of one way.
    ///
    /// # Errors
    ///
    /// Those of `check`.
    pub fn lead(&mut self, trips: u32, check: &mut Check<'_>) -> Result<f64> {
        let start = Instant::now();
        for _ in 0..trips {
            self.pass();
            self.catch(check)?;
        }
        Ok(one_way_ns(start.elapsed(), trips))
    }

    /// The other side of [`Self::lead`].
    ///
    /// # Errors
    ///
    /// Those of `check`.
    pub fn follow(&mut self, trips: u32, check: &mut Check<'_>) -> Result<()> {
        for _ in 0..trips {
            self.catch(check)?;
            self.pass();
        }
        Ok(())
    }

    /// Gives the line to the other side.
    pub fn pass(&mut self) {
        self.turn += 1;
        // Relaxed, a plain store: the number is all that travels.
        self.line().store(self.turn, Ordering::Relaxed);
    }

    /// Waits until the other side gives the line back.
    ///
    /// # Errors
    ///
    /// Those of `check`.
    pub fn catch(&mut self, check: &mut Check<'_>) -> Result<()> {
        let expected = self.turn + 1;
        let line = self.line();
        until(check, || Ok(line.load(Ordering::Relaxed) == expected))?;
        self.turn = expected;
        Ok(())
    }

    fn line(&self) -> &AtomicU64 {
        let start = self.segment.as_ptr().cast::<AtomicU64>();
        // SAFETY: the mapping begins on a page, so `start` is aligned; it has at least `BYTES` (asked for or checked), which are initialised
        // (a new segment is zero) and stay mapped while `self` is borrowed. Both processes access these bytes only through such references,
        // atomically; that atomics work between processes that map the same memory is outside the language but what every platform does.
        unsafe { &*start }
    }
}

impl std::fmt::Debug for HandOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandOff").field("segment", &self.segment.get_os_id()).field("turn", &self.turn).finish()
    }
}

/// Nanoseconds of one way, given the time of so many round trips.
pub fn one_way_ns(elapsed: Duration, trips: u32) -> f64 {
    elapsed.as_nanos() as f64 / f64::from(trips) / 2.0
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn two_sides_take_turns() {
        let name = format!("seqring-test-{}-handoff", std::process::id());
        let mut lead = HandOff::create(&name).unwrap();
        let other = thread::spawn({
            let name = name.clone();
            move || HandOff::open(&name).unwrap().follow(3, &mut || Ok(())).unwrap()
        });
        assert!(lead.lead(3, &mut || Ok(())).unwrap() > 0.0);
        other.join().unwrap();
        assert_eq!(lead.line().load(Ordering::Relaxed), 6);
        assert!(HandOff::create(&name).is_err(), "the name is taken");
        drop(lead);
        assert!(HandOff::open(&name).is_err(), "dropping the creator unlinks the name");
    }

    #[test]
    fn waiting_ends_when_the_check_fails() {
        let name = format!("seqring-test-{}-alone", std::process::id());
        let mut lead = HandOff::create(&name).unwrap();
        let error = lead.lead(1, &mut || anyhow::bail!("nobody there")).unwrap_err();
        assert_eq!(error.to_string(), "nobody there");
    }
}
