//! The second process: who sleeps.

use std::sync::atomic::Ordering;

use anyhow::Result;
use seqring::{Consumer, Producer, RecvTimeoutError, Registered, Ring};

use super::{FUTEX, PATIENCE, Role, SENT, Task};
use crate::bench::page::Page;
use crate::bench::peer::Desk;
use crate::bench::wake::futex;

/// The end of the ring that sleeps, and the bare futex.
pub struct Sleeper {
    end: End,
    /// Wake-ups by the bare futex so far.
    turns: u64,
}

enum End {
    Consumer(Consumer<u64, Registered>),
    Producer(Producer<u64>),
}

impl Sleeper {
    /// Attaches to the ring that the first process created.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn open(task: &Task) -> Result<Self> {
        let options = Ring::<u64>::options(&task.ring).prefault(true);
        let end = match task.role {
            Role::Consumer => {
                End::Consumer(options.read_only(true).open()?.consumer().name("sleeper").attach()?)
            }
            Role::Producer => {
                let mut producer = options.open()?.producer()?;
                // From now on the waker makes room for one message at a time.
                while producer.try_publish(&producer.next_sequence()).is_ok() {}
                End::Producer(producer)
            }
        };
        Ok(Self { end, turns: 0 })
    }

    /// Sleeps on the bare futex; returns when the waker looked at the clock.
    ///
    /// # Errors
    ///
    /// When the first process is gone.
    pub fn bare(&mut self, page: &Page, desk: &mut Desk<'_>) -> Result<u64> {
        let word = page.word(FUTEX);
        // Acquire: pairs with the release in `advance`. What was sent is seen with it.
        while word.load(Ordering::Acquire) == self.turns {
            if !futex::wait(word, self.turns, PATIENCE)? {
                (desk.check)()?;
            }
        }
        self.turns += 1;
        Ok(page.word(SENT).load(Ordering::Relaxed))
    }

    /// Waits for a message, or for room; returns when the waker looked at the clock.
    ///
    /// # Errors
    ///
    /// When the ring has ended, or the first process is gone.
    pub fn ring(&mut self, page: &Page, desk: &mut Desk<'_>) -> Result<u64> {
        match &mut self.end {
            End::Consumer(consumer) => loop {
                match consumer.recv_timeout(PATIENCE) {
                    Ok(sent_ns) => return Ok(sent_ns),
                    Err(RecvTimeoutError::Timeout) => (desk.check)()?,
                    Err(error) => return Err(error.into()),
                }
            },
            End::Producer(producer) => {
                while producer.publish_timeout(&producer.next_sequence(), PATIENCE).is_err() {
                    (desk.check)()?;
                }
                Ok(page.word(SENT).load(Ordering::Relaxed))
            }
        }
    }
}
