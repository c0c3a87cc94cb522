//! The two ways a message can travel, behind one interface.

mod locked;
mod ring;

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Which queue carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The lock-free overwriting ring of the library.
    Ring,
    /// The lossless queue under a readers-writer lock.
    Locked,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ring => "ring",
            Self::Locked => "locked",
        })
    }
}

/// Whether the ring's writer waits for its readers. The locked queue's always does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It overwrites what a slow reader has not read
    #[default]
    Overwrite,
    /// It waits: readers are registered and gate
    Gating,
}

/// How the ring's readers wait for a message. Those of the locked queue sleep by its condition
/// variable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// They look again and again
    Spin,
    /// They spin a little, then let others run between two looks
    Yield,
    /// They spin a little, then sleep until the writer wakes them, for which they are registered
    #[default]
    Park,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Spin => "spin",
            Self::Yield => "yield",
            Self::Park => "park",
        })
    }
}

/// How long a writer had to wait for a reader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Waited {
    /// The reader's name.
    pub reader: String,
    /// How often.
    pub times: u64,
    /// How long, all in all.
    pub seconds: f64,
}

/// A queue in shared memory: which, where, and its dimensions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Channel {
    /// Which queue.
    pub engine: Engine,
    /// Its name in shared memory.
    pub name: String,
    /// Number of slots.
    pub slots: usize,
    /// Largest message, in bytes.
    pub slot_bytes: usize,
    /// Number of readers.
    pub readers: usize,
    /// Number of writers; the locked queue has one.
    pub writers: usize,
    /// Whether the ring's writer waits for them.
    pub mode: Mode,
    /// How the ring's readers wait.
    pub wait: Wait,
}

/// Keeps a queue in existence; unlinks it when dropped.
pub trait Host {}

/// The sending end.
pub trait Sender {
    /// Sends a message, waiting for readers if this queue does that, but not
    /// beyond `deadline_ns` on CLOCK_MONOTONIC.
    ///
    /// # Errors
    ///
    /// When the queue cannot be used any more.
    fn send(&mut self, message: &[u8], deadline_ns: u64) -> Result<Sent>;

    /// The readers that this writer and the others had to wait for, as far as the queue knows; to
    /// be asked before the readers go.
    fn waited_for(&self) -> Vec<Waited> {
        Vec::new()
    }

    /// Tells the receivers that there will be no more messages.
    ///
    /// # Errors
    ///
    /// When the queue cannot be used any more.
    fn close(self: Box<Self>) -> Result<()>;
}

/// What became of a message.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// It was written; otherwise the deadline passed first.
    pub accepted: bool,
    /// The sender had to wait for a receiver that was a full lap behind.
    pub stalled: bool,
}

/// A receiving end.
pub trait Receiver {
    /// Copies the next message into `message`, replacing its content.
    ///
    /// # Errors
    ///
    /// When the queue cannot be used any more.
    fn receive(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<Received>;

    /// Sequence numbers passed so far that never became a message, because their writer died.
    fn tombstones(&self) -> u64 {
        0
    }

    /// How often it has fallen asleep to be woken, where the queue knows.
    fn sleeps(&self) -> Option<u64> {
        None
    }
}

/// What a receiver got.
#[derive(Debug, Clone, Copy)]
pub enum Received {
    /// A message, which the queue says was the one with this sequence number.
    Message(u64),
    /// This many messages were overwritten before they could be read.
    Lagged(u64),
    /// Nothing came in time.
    Nothing,
    /// The sender is done and everything was received.
    Closed,
}

impl Channel {
    /// Creates the queue.
    ///
    /// # Errors
    ///
    /// When the name is taken or there is no space.
    pub fn create(&self) -> Result<Box<dyn Host>> {
        match self.engine {
            Engine::Ring => ring::create(self),
            Engine::Locked => locked::create(self),
        }
    }

    /// Attaches as the sender.
    ///
    /// # Errors
    ///
    /// When there is no such queue or it has another sender.
    pub fn sender(&self) -> Result<Box<dyn Sender>> {
        match self.engine {
            Engine::Ring => ring::sender(self),
            Engine::Locked => locked::sender(self),
        }
    }

    /// Attaches as the receiver number `row`, counted from 0.
    ///
    /// # Errors
    ///
    /// When there is no such queue.
    pub fn receiver(&self, row: usize) -> Result<Box<dyn Receiver>> {
        match self.engine {
            Engine::Ring => ring::receiver(self, row),
            Engine::Locked => locked::receiver(self, row),
        }
    }
}
