//! The floor of large messages: what any transport pays that copies.
//!
//! Two sides hand a message to and fro through shared memory with libc's memcpy and the hand-off
//! line, and nothing else: copied in by the one, the line passed, copied out by the other, out of
//! the first one's cache.

use std::ptr;
use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use seqring_cli::bench::handoff::HandOff;
use seqring_cli::bench::peer::Desk;
use seqring_cli::bench::spin::Check;
use shared_memory::{Shmem, ShmemConf};

use crate::job::{Count, Follow, Lead, Style, be_met, meet};

/// One side: memory for one message each way, and the message itself.
pub struct Bounce {
    segment: Shmem,
    message: Vec<u8>,
    /// Where in the segment this side writes, and where it reads.
    out: usize,
    back: usize,
}

impl Bounce {
    /// Creates the memory; dropping this unlinks it.
    pub fn create(name: &str, bytes: usize) -> Result<Self> {
        let segment = ShmemConf::new()
            .os_id(name)
            .size(2 * bytes)
            .create()
            .with_context(|| format!("cannot create {name:?}"))?;
        let mut bounce = Self { segment, message: vec![0x5A; bytes], out: 0, back: bytes };
        // The pages are there before anything is timed.
        bounce.copy_in();
        Ok(bounce)
    }

    /// Opens the memory that the other side created.
    pub fn open(name: &str, bytes: usize) -> Result<Self> {
        let segment =
            ShmemConf::new().os_id(name).open().with_context(|| format!("cannot open {name:?}"))?;
        ensure!(segment.len() >= 2 * bytes, "{name:?} has only {} bytes", segment.len());
        let mut bounce = Self { segment, message: vec![0; bytes], out: bytes, back: 0 };
        bounce.copy_in();
        Ok(bounce)
    }

    fn copy_in(&mut self) {
        let start = self.segment.as_ptr().wrapping_add(self.out);
        // SAFETY: `out` and a message behind it lie within the segment (its size was asked for or
        // checked); nobody else writes there, and the other side reads there only while it
        // has the line, which it gets behind this copy (`pass` below).
        unsafe { ptr::copy_nonoverlapping(self.message.as_ptr(), start, self.message.len()) };
    }

    fn copy_out(&mut self) {
        let start = self.segment.as_ptr().wrapping_add(self.back);
        // SAFETY: as in `copy_in`; the other side, which writes there, has given the line away
        // behind its copy and waits for it.
        unsafe { ptr::copy_nonoverlapping(start, self.message.as_mut_ptr(), self.message.len()) };
    }

    fn send(&mut self, line: &mut HandOff) {
        self.copy_in();
        // The line itself is relaxed: the copy has to be visible before it.
        fence(Ordering::Release);
        line.pass();
    }

    fn receive(&mut self, line: &mut HandOff, check: &mut Check<'_>) -> Result<()> {
        line.catch(check)?;
        fence(Ordering::Acquire);
        self.copy_out();
        Ok(())
    }
}

impl Lead for Bounce {
    fn turn(
        &mut self,
        count: u64,
        _style: Style,
        line: &mut HandOff,
        check: &mut Check<'_>,
    ) -> Result<f64> {
        meet(line, check)?;
        let start = Instant::now();
        for _ in 0..count {
            self.send(line);
            self.receive(line, check)?;
        }
        Ok(start.elapsed().as_nanos() as f64)
    }
}

impl Follow for Bounce {
    fn turn(&mut self, count: u64, _style: Style, desk: &mut Desk<'_>) -> Result<Count> {
        be_met(desk)?;
        for _ in 0..count {
            self.receive(&mut desk.hand_off, desk.check)?;
            self.send(&mut desk.hand_off);
        }
        Ok(Count { received: count, ..Count::default() })
    }
}
