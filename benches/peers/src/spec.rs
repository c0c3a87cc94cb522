//! Which channel of which system: all that both sides have to know to meet.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A system under measurement.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// This project's ring
    Seqring,
    /// ringfire: a ring in shared memory
    Ringfire,
    /// photon-ring: a ring between threads
    PhotonRing,
    /// iceoryx2: publish and subscribe with loans
    Iceoryx2,
    /// disruptor: a ring between threads
    Disruptor,
    /// A kernel pipe
    Pipe,
    /// A Unix stream socket
    UnixSocket,
    /// A lossless queue under a readers-writer lock, in Rust
    Locked,
    /// Python's multiprocessing.Queue
    PythonQueue,
    /// A lossless ring under named semaphores, in Python
    PythonRing,
    /// This project's ring, whose readers have the memory mapped read-only
    SeqringReadOnly,
}

impl System {
    /// The name on the command line and in every row.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seqring => "seqring",
            Self::Ringfire => "ringfire",
            Self::PhotonRing => "photon-ring",
            Self::Iceoryx2 => "iceoryx2",
            Self::Disruptor => "disruptor",
            Self::Pipe => "pipe",
            Self::UnixSocket => "unix-socket",
            Self::Locked => "locked",
            Self::PythonQueue => "python-queue",
            Self::PythonRing => "python-ring",
            Self::SeqringReadOnly => "seqring-read-only",
        }
    }

    /// This project's own: no peer.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Seqring | Self::SeqringReadOnly)
    }

    /// Its two sides are threads of one process: it has no others.
    pub fn is_in_process(self) -> bool {
        matches!(self, Self::PhotonRing | Self::Disruptor)
    }

    /// Measured by a Python program of its own.
    pub fn is_python(self) -> bool {
        matches!(self, Self::PythonQueue | Self::PythonRing)
    }

    /// Every call that moves a message is a system call, and waiting for one sleeps.
    pub fn is_kernel(self) -> bool {
        matches!(self, Self::Pipe | Self::UnixSocket | Self::Locked)
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What becomes of a message that a reader has not read in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It is overwritten.
    Overwrite,
    /// The sender waits.
    Lossless,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Overwrite => "overwrite",
            Self::Lossless => "lossless",
        })
    }
}

/// One channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// Whose.
    pub system: System,
    /// Unique on this machine.
    pub name: String,
    /// What the names of all files begin with that this run makes.
    pub run: String,
    /// Size of every message.
    pub bytes: usize,
    /// Messages it has room for.
    pub depth: usize,
    /// Receiving ends.
    pub readers: usize,
    /// What becomes of the unread.
    pub mode: Mode,
    /// Whether receivers will sleep; some systems need a second channel for that.
    pub parks: bool,
}

impl Spec {
    /// The channel in the other direction.
    pub fn back(&self) -> Self {
        Self { name: format!("{}-back", self.name), ..self.clone() }
    }

    /// The part of the channel that belongs to one reader, for systems that have one channel per
    /// reader.
    pub fn leg(&self, reader: usize) -> String {
        format!("{}-{reader}", self.name)
    }
}
