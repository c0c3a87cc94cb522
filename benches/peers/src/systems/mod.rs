//! The systems, each with the settings that its authors advise. A file says which they are, and
//! why.

#[cfg(feature = "disruptor")]
mod disruptor;
#[cfg(feature = "iceoryx2")]
pub mod iceoryx;
mod locked;
#[cfg(feature = "photon-ring")]
mod photon;
pub mod python;
#[cfg(feature = "ringfire")]
mod ringfire;
mod seqring;
mod stream;
#[cfg(any(feature = "disruptor", feature = "photon-ring"))]
mod switchboard;

use ::seqring::{Free, Registered};
use anyhow::{Result, bail};

use crate::ends::{Receiver, Sender};
use crate::payload::{LARGEST_SMALL, by_size};
use crate::spec::{Mode, Spec, System};

/// How the two sides of a channel get their ends.
pub trait Channel {
    /// The sending end of messages of `W` words.
    type Sender<const W: usize>: Sender + 'static;
    /// A receiving end.
    type Receiver<const W: usize>: Receiver + 'static;

    /// Creates the channel.
    fn sender<const W: usize>(spec: &Spec) -> Result<Self::Sender<W>>;

    /// Attaches to a channel that exists.
    fn receiver<const W: usize>(spec: &Spec, reader: usize) -> Result<Self::Receiver<W>>;
}

/// Something to be done with a channel of any system and size.
pub trait Visitor {
    /// What comes out.
    type Output;

    /// Does it with channels of this kind.
    fn visit<C: Channel, const W: usize>(self, spec: &Spec) -> Result<Self::Output>;
}

/// Finds the code for the system and size of a channel.
///
/// # Errors
///
/// When the system was left out of this build, and those of the visitor.
pub fn visit<V: Visitor>(spec: &Spec, visitor: V) -> Result<V::Output> {
    /// Every size.
    fn any<V: Visitor, C: Channel>(spec: &Spec, visitor: V) -> Result<V::Output> {
        by_size!(spec.bytes, W => visitor.visit::<C, W>(spec))
    }
    /// Those that go by value.
    fn small<V: Visitor, C: Channel>(spec: &Spec, visitor: V) -> Result<V::Output> {
        by_size!(small spec.bytes, W => visitor.visit::<C, W>(spec))
    }
    match spec.system {
        System::Seqring | System::SeqringReadOnly => {
            match (spec.bytes <= seqring::LARGEST_VALUE, seqring::registers(spec)) {
                (true, false) => small::<V, seqring::Values<Free>>(spec, visitor),
                (true, true) => small::<V, seqring::Values<Registered>>(spec, visitor),
                (false, false) => any::<V, seqring::Bytes<Free>>(spec, visitor),
                (false, true) => any::<V, seqring::Bytes<Registered>>(spec, visitor),
            }
        }
        #[cfg(feature = "ringfire")]
        System::Ringfire if spec.bytes <= ringfire::LARGEST_SLOT || spec.mode == Mode::Lossless => {
            small::<V, ringfire::Slots>(spec, visitor)
        }
        #[cfg(feature = "ringfire")]
        System::Ringfire => any::<V, ringfire::Blobs>(spec, visitor),
        #[cfg(feature = "photon-ring")]
        System::PhotonRing => small::<V, photon::Photon>(spec, visitor),
        #[cfg(feature = "iceoryx2")]
        System::Iceoryx2 => any::<V, iceoryx::Iceoryx>(spec, visitor),
        #[cfg(feature = "disruptor")]
        System::Disruptor => any::<V, disruptor::Disruptor>(spec, visitor),
        System::Pipe => any::<V, stream::Pipe>(spec, visitor),
        System::UnixSocket => any::<V, stream::Socket>(spec, visitor),
        System::Locked => any::<V, locked::Locked>(spec, visitor),
        System::PythonQueue | System::PythonRing => {
            bail!("{} is measured by a program of its own", spec.system)
        }
        #[allow(unreachable_patterns, reason = "what is left depends on the features")]
        other => bail!("{other} was left out of this build"),
    }
}

/// Whether this build has the system.
pub fn is_built(system: System) -> bool {
    match system {
        System::Ringfire => cfg!(feature = "ringfire"),
        System::PhotonRing => cfg!(feature = "photon-ring"),
        System::Iceoryx2 => cfg!(feature = "iceoryx2"),
        System::Disruptor => cfg!(feature = "disruptor"),
        _ => true,
    }
}

/// Whether the system can do that at all; the reason if not.
pub fn offers(system: System, mode: Mode) -> Result<(), &'static str> {
    match (system, mode) {
        (System::Disruptor, Mode::Overwrite) => Err("its producer always waits for its readers"),
        (
            System::Pipe
            | System::UnixSocket
            | System::Locked
            | System::PythonQueue
            | System::PythonRing,
            Mode::Overwrite,
        ) => Err("its sender always waits for its readers"),
        _ => Ok(()),
    }
}

/// Whether the system is set up for messages of this size; the reason if not.
pub fn carries(system: System, mode: Mode, bytes: usize) -> Result<(), &'static str> {
    if bytes <= LARGEST_SMALL {
        return Ok(());
    }
    match (system, mode) {
        (System::PhotonRing, _) => Err(
            "its messages are values, of which its authors measure up to 4 KiB; the compiler does not cope with larger ones",
        ),
        (System::Ringfire, Mode::Lossless) => Err(
            "its arena for large messages has no lossless mode, and the compiler does not cope with slots of that size",
        ),
        _ => Ok(()),
    }
}

/// Whether a reader of the system can sleep until it is woken; the reason if not.
pub fn sleeps(system: System) -> Result<(), &'static str> {
    match system {
        System::PhotonRing => Err("its readers can only spin"),
        System::Disruptor => Err("its readers can only spin or nap for a fixed time"),
        _ => Ok(()),
    }
}

/// What systems of a run keep outside of shared memory. Dropping this removes it.
pub struct Files {
    run: String,
}

impl Files {
    /// Those of this run; what dead runs left is removed now.
    pub fn of(run: &str) -> Self {
        #[cfg(feature = "iceoryx2")]
        iceoryx::sweep();
        Self { run: run.to_owned() }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        #[cfg(feature = "iceoryx2")]
        iceoryx::remove(&self.run);
    }
}
