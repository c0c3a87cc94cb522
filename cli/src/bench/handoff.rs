//! The yardstick of everything that goes from one CPU to another: the hand-off.
//!
//! Two processes on two CPUs bounce one cache line with plain loads and stores, one shared line and
//! no other traffic; the hand-off is half of that round trip. No message can be faster over one
//! line, so a figure in hand-offs says what the protocol adds. Virtual CPUs move and clocks change,
//! so a hand-off counts only beside what was measured in the same millisecond: measurements
//! alternate with it in short rounds.
//!
//! A ring has a line for each message, and so for each direction another. That can take less, or
//! twice as long: processors that hand a line over for writing when it is read have the one line
//! there when it is to be sent back, and must fetch the other first. [`HandOff::lead_apart`]
//! measures that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::page::Page;
use super::spin::{Check, until};

/// Round trips of one round.
pub const TRIPS: u32 = 1000;

/// Words of the page: of the line that goes to and fro, and of those that go one way each.
const SHARED: usize = 0;
const OUT: usize = 1;
const BACK: usize = 2;

/// One side of a cache line that two processes bounce.
#[derive(Debug)]
pub struct HandOff {
    page: Page,
    /// What the line holds when nothing is under way.
    turn: u64,
    /// What the other two hold then.
    trip: u64,
}

impl HandOff {
    /// Creates the line; dropping this unlinks it.
    ///
    /// # Errors
    ///
    /// When the name is taken or there is no space.
    pub fn create(name: &str) -> Result<Self> {
        Ok(Self { page: Page::create(name)?, turn: 0, trip: 0 })
    }

    /// Opens the line that the other process created.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn open(name: &str) -> Result<Self> {
        Ok(Self { page: Page::open(name)?, turn: 0, trip: 0 })
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

    /// As [`Self::lead`], with a line for each direction.
    ///
    /// # Errors
    ///
    /// Those of `check`.
    pub fn lead_apart(&mut self, trips: u32, check: &mut Check<'_>) -> Result<f64> {
        let start = Instant::now();
        for _ in 0..trips {
            self.trip += 1;
            // Relaxed, here and below: as in `pass`.
            self.page.word(OUT).store(self.trip, Ordering::Relaxed);
            self.await_trip(BACK, check)?;
        }
        Ok(one_way_ns(start.elapsed(), trips))
    }

    /// The other side of [`Self::lead_apart`].
    ///
    /// # Errors
    ///
    /// Those of `check`.
    pub fn follow_apart(&mut self, trips: u32, check: &mut Check<'_>) -> Result<()> {
        for _ in 0..trips {
            self.trip += 1;
            self.await_trip(OUT, check)?;
            self.page.word(BACK).store(self.trip, Ordering::Relaxed);
        }
        Ok(())
    }

    fn await_trip(&self, word: usize, check: &mut Check<'_>) -> Result<()> {
        let line = self.page.word(word);
        until(check, || Ok(line.load(Ordering::Relaxed) == self.trip))
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
        self.page.word(SHARED)
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
            move || {
                let mut follow = HandOff::open(&name).unwrap();
                follow.follow(3, &mut || Ok(())).unwrap();
                follow.follow_apart(4, &mut || Ok(())).unwrap();
            }
        });
        assert!(lead.lead(3, &mut || Ok(())).unwrap() > 0.0);
        assert!(lead.lead_apart(4, &mut || Ok(())).unwrap() > 0.0);
        other.join().unwrap();
        assert_eq!(
            [SHARED, OUT, BACK].map(|word| lead.page.word(word).load(Ordering::Relaxed)),
            [6, 4, 4]
        );
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
