//! The first process: who wakes.

use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, ensure};
use seqring::{Consumer, IfExists, Producer, Registered, Ring};

use super::{FUTEX, Role, SENT, SLOTS, Task};
use crate::bench::page::Page;
use crate::bench::wake::futex;
use crate::clock::monotonic_ns;

/// The other end of the sleeper's ring.
pub struct Waker {
    end: End,
    /// Keeps the ring in existence.
    _ring: Ring<u64>,
}

enum End {
    Producer(Producer<u64>),
    Consumer(Consumer<u64, Registered>),
}

impl Waker {
    /// Creates the ring, and takes the end that the sleeper does not.
    ///
    /// # Errors
    ///
    /// When there is no space.
    pub fn create(task: &Task) -> Result<Self> {
        let ring = Ring::<u64>::builder(&task.ring)
            .slots(SLOTS)
            .if_exists(IfExists::Error)
            .prefault(true)
            .create()?;
        let end = match task.role {
            Role::Consumer => End::Producer(ring.producer()?),
            Role::Producer => End::Consumer(ring.consumer().name("waker").gating().attach()?),
        };
        Ok(Self { end, _ring: ring })
    }

    /// Looks at the clock and wakes the sleeper by a bare futex.
    ///
    /// # Errors
    ///
    /// None.
    pub fn bare(&mut self, page: &Page) -> Result<()> {
        page.word(SENT).store(monotonic_ns(), Ordering::Relaxed);
        futex::advance(page.word(FUTEX));
        Ok(())
    }

    /// Looks at the clock and wakes the sleeper by what it waits for: a message, which says when,
    /// or room.
    ///
    /// # Errors
    ///
    /// When the ring is not as it was left.
    pub fn ring(&mut self, page: &Page) -> Result<()> {
        let consumer = match &mut self.end {
            End::Producer(producer) => {
                producer.publish(&monotonic_ns());
                return Ok(());
            }
            End::Consumer(consumer) => consumer,
        };
        // Relaxed: the ring tells of the room with release, so whoever sees the room sees this.
        page.word(SENT).store(monotonic_ns(), Ordering::Relaxed);
        let message = consumer.try_recv().context("in a full ring")?;
        // A producer that is woken publishes the numbers of its messages.
        ensure!(
            message + 1 == consumer.cursor(),
            "message {} arrived as {message}",
            consumer.cursor() - 1
        );
        Ok(())
    }
}
