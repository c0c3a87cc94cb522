//! The error of creating and opening rings. Sending and receiving have small enums of their own.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::layout::{ABI_VERSION, OutOfRange, Refused};
use crate::message::Format;

/// Why a ring could not be created or opened, or why a producer or a registered consumer could not
/// be made.
///
/// The text of each error says what was wrong, with the name and the value, and what to do about
/// it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// No ring of this name exists.
    NotFound {
        /// The ring's name.
        name: String,
        /// Path of the file that does not exist.
        path: PathBuf,
    },
    /// A ring of this name exists, and the policy was [`IfExists::Error`](crate::IfExists::Error).
    AlreadyExists {
        /// The ring's name.
        name: String,
    },
    /// A ring of this name exists and its owner or producer is alive, so it cannot be replaced or
    /// removed; or another of several producers takes too long to join or to close.
    InUse {
        /// The ring's name.
        name: String,
        /// Process id of the producer, from the header; 0 if there is none.
        producer_pid: u64,
    },
    /// The ring already has a live producer.
    ProducerExists {
        /// The ring's name.
        name: String,
        /// Process id of the producer, from the header.
        producer_pid: u64,
    },
    /// The ring was replaced by another ring of the same name after it was opened.
    Superseded {
        /// The ring's name.
        name: String,
    },
    /// The segment exists but is not finished: its creator is at work or died before the end.
    NotReady {
        /// The ring's name.
        name: String,
    },
    /// The segment is truncated, is corrupt, or is not a ring.
    Invalid {
        /// The ring's name.
        name: String,
        /// What is wrong with the segment.
        detail: String,
    },
    /// The segment was made by an incompatible version of this library.
    Version {
        /// The ring's name.
        name: String,
        /// Layout version of the segment.
        found: u64,
    },
    /// The ring holds messages of another type, size or alignment.
    TypeMismatch {
        /// The ring's name.
        name: String,
        /// The type that was asked for.
        expected: String,
        /// The type that the ring holds.
        found: String,
    },
    /// The ring to attach to has another number of slots, size of slots or number of producers.
    GeometryMismatch {
        /// The ring's name.
        name: String,
        /// The geometry that was asked for.
        expected: String,
        /// The geometry of the ring.
        found: String,
    },
    /// Another ring has the file, because the hashes of the two names are the same.
    NameCollision {
        /// The name that was asked for.
        name: String,
        /// The name of the existing ring.
        found: String,
    },
    /// An argument is out of range.
    InvalidArgument {
        /// The ring's name.
        name: String,
        /// What the argument is.
        what: &'static str,
        /// Value of the argument.
        value: u64,
        /// The values that are allowed.
        why: &'static str,
    },
    /// `/dev/shm` has too little free space.
    NoSpace {
        /// The ring's name.
        name: String,
        /// Size of the segment in bytes.
        needed: u64,
        /// Free bytes in `/dev/shm`, if the system reports them.
        free: Option<u64>,
    },
    /// The mode of the file does not allow the access.
    Permission {
        /// The ring's name.
        name: String,
        /// Path of the file.
        path: PathBuf,
        /// Whether the access was for reading only.
        read_only: bool,
    },
    /// All rows of the reader table are taken.
    TableFull {
        /// The ring's name.
        name: String,
        /// Number of rows: how many consumers can be registered at a time.
        readers: usize,
    },
    /// A single producer was asked for, but the ring is for several; or the other way round.
    ProducerKind {
        /// The ring's name.
        name: String,
        /// Number of producers that the ring may have at a time.
        producers: usize,
    },
    /// The ring has as many live producers as it was created for.
    TooManyProducers {
        /// The ring's name.
        name: String,
        /// Number of producers that the ring may have at a time.
        producers: usize,
    },
    /// The ring was opened read-only, which does not allow a producer.
    ReadOnly {
        /// The ring's name.
        name: String,
    },
    /// The ring was opened by the parent of this process, before the fork.
    Forked {
        /// The ring's name.
        name: String,
    },
    /// The system refused something else.
    Io {
        /// The ring's name.
        name: String,
        /// What was being done.
        doing: &'static str,
        /// The error of the system.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn not_ready(name: &str) -> Self {
        Self::NotReady { name: name.into() }
    }

    pub(crate) fn invalid_segment(name: &str, detail: String) -> Self {
        Self::Invalid { name: name.into(), detail }
    }

    pub(crate) fn no_space(name: &str, needed: u64, free: Option<u64>) -> Self {
        Self::NoSpace { name: name.into(), needed, free }
    }

    pub(crate) fn permission(name: &str, path: &Path, read_only: bool) -> Self {
        Self::Permission { name: name.into(), path: path.into(), read_only }
    }

    pub(crate) fn io(name: &str, doing: &'static str, source: io::Error) -> Self {
        Self::Io { name: name.into(), doing, source }
    }

    pub(crate) fn argument(name: &str, OutOfRange { what, value, why }: OutOfRange) -> Self {
        Self::InvalidArgument { name: name.into(), what, value, why }
    }

    pub(crate) fn refused(name: &str, refused: Refused) -> Self {
        match refused {
            Refused::NoMagic(0) => Self::not_ready(name),
            Refused::NoMagic(magic) => Self::invalid_segment(
                name,
                format!("it does not begin with \"SEQRING1\" but with {magic:#018x}"),
            ),
            Refused::Version(found) => Self::Version { name: name.into(), found },
            Refused::Field(OutOfRange { what, value, why }) => {
                Self::invalid_segment(name, format!("its {what} is {value}: {why}"))
            }
        }
    }

    pub(crate) fn type_mismatch(name: &str, expected: &Format, found: &Format) -> Self {
        Self::TypeMismatch {
            name: name.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { name, path } => {
                write!(
                    f,
                    "there is no ring {name:?} ({} does not exist): start its producer first, or wait for it with open_wait",
                    path.display()
                )
            }
            Self::AlreadyExists { name } => {
                write!(
                    f,
                    "ring {name:?} exists already: choose another name, or IfExists::Attach to continue it, or IfExists::ReplaceStale to replace it if its producer is gone"
                )
            }
            Self::InUse { name, producer_pid: 0 } => {
                write!(
                    f,
                    "ring {name:?} is in use by a live owner: end that process first, or choose another name"
                )
            }
            Self::InUse { name, producer_pid } => {
                write!(
                    f,
                    "ring {name:?} is in use by a live process (its last producer was process {producer_pid}): end it first, or choose another name"
                )
            }
            Self::ProducerExists { name, producer_pid: 0 } => {
                write!(
                    f,
                    "ring {name:?} has a live producer already, or is being replaced: try again, or end whoever uses it"
                )
            }
            Self::ProducerExists { name, producer_pid } => {
                write!(
                    f,
                    "ring {name:?} has a live producer already (process {producer_pid}): a ring has one producer at a time; end that one first, or give each its own ring"
                )
            }
            Self::Superseded { name } => {
                write!(
                    f,
                    "ring {name:?} was replaced by another of the same name since it was opened: open it again"
                )
            }
            Self::NotReady { name } => write!(
                f,
                "ring {name:?} is not finished: its creator is still at it, or died over it; try again, or create it anew with IfExists::ReplaceStale"
            ),
            Self::Invalid { name, detail } => write!(
                f,
                "the segment of ring {name:?} is not a valid ring: {detail}; if nothing uses it, create it anew or remove it with Ring::unlink"
            ),
            Self::Version { name, found } => {
                write!(
                    f,
                    "ring {name:?} has layout version {found}, this program understands {ABI_VERSION}: build both sides with the same version of seqring"
                )
            }
            Self::TypeMismatch { name, expected, found } => {
                write!(f, "ring {name:?} holds {found}, not {expected}: open it as what it holds")
            }
            Self::GeometryMismatch { name, expected, found } => {
                write!(
                    f,
                    "ring {name:?} has {found}, not {expected}: create it with the same sizes to attach, or use IfExists::ReplaceStale"
                )
            }
            Self::NameCollision { name, found } => {
                write!(
                    f,
                    "the file for ring {name:?} is taken by ring {found:?}, whose name has the same hash: choose another name"
                )
            }
            Self::InvalidArgument { name, what, value, why } => {
                write!(f, "ring {name:?} cannot have {what} = {value}: {why}")
            }
            Self::NoSpace { name, needed, free } => {
                write!(f, "ring {name:?} takes {needed} bytes of /dev/shm")?;
                if let Some(free) = free {
                    write!(f, ", and {free} are free")?;
                }
                f.write_str(": use fewer or smaller slots, remove stale segments, or enlarge it (in a container: --shm-size)")
            }
            Self::Permission { name, path, read_only: true } => {
                write!(
                    f,
                    "no permission to read ring {name:?} ({}): its creator must set mode bits for you, such as .mode(0o644)",
                    path.display()
                )
            }
            Self::Permission { name, path, read_only: false } => {
                write!(
                    f,
                    "no permission to write ring {name:?} ({}): consumers open it with open_read_only; a producer needs mode bits that let it write",
                    path.display()
                )
            }
            Self::TableFull { name, readers } => write!(
                f,
                "all {readers} rows of the reader table of ring {name:?} are taken: attach as a free consumer (without a name), or create the ring with more .max_registered(..)"
            ),
            Self::ProducerKind { name, producers: 1 } => {
                write!(
                    f,
                    "ring {name:?} was created for one producer: use Ring::producer, or create it with .max_producers(n) for several"
                )
            }
            Self::ProducerKind { name, producers } => {
                write!(
                    f,
                    "ring {name:?} was created for {producers} producers at a time: use Ring::shared_producer"
                )
            }
            Self::TooManyProducers { name, producers } => {
                write!(
                    f,
                    "ring {name:?} has {producers} live producers, as many as it was created for: end one, or create it with more .max_producers(..)"
                )
            }
            Self::ReadOnly { name } => write!(
                f,
                "ring {name:?} was opened read-only and cannot have a producer: open it with Ring::open"
            ),
            Self::Forked { name } => {
                write!(
                    f,
                    "ring {name:?} was opened before a fork and belongs to the parent process: open it again in this one"
                )
            }
            Self::Io { name, doing, source } => {
                write!(f, "could not {doing} of ring {name:?}: {source}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
