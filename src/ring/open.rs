//! Opening rings.

use std::marker::PhantomData;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::layout::Header;
use crate::message::{Format, Message};
use crate::ring::Ring;
use crate::segment::Segment;
use crate::shared::Shared;

/// Interval at which a waiting open checks again.
const POLL: Duration = Duration::from_millis(1);

debug_of!(OpenOptions: read_only, wait, prefault, type_name);

impl<M: Message + ?Sized> Ring<M> {
    /// Opens the ring called `name` for reading and writing. A process that may become a producer
    /// needs this.
    ///
    /// # Errors
    /// [`Error`]: the ring does not exist, its creation is not finished, it is corrupt, it holds
    /// messages of another type, or the file's mode does not allow writing.
    pub fn open(name: &str) -> Result<Self, Error> {
        Self::options(name).open()
    }

    /// Opens the ring called `name` for reading, which is all that consumers need. The memory is
    /// mapped read-only.
    ///
    /// # Errors
    /// As [`Ring::open`], except that permission to read is enough.
    pub fn open_read_only(name: &str) -> Result<Self, Error> {
        Self::options(name).read_only(true).open()
    }

    /// Opens the ring called `name` for reading; waits for at most `timeout` until it has been
    /// created.
    ///
    /// # Errors
    /// As [`Ring::open_read_only`]; [`Error::NotFound`] or [`Error::NotReady`] after the timeout.
    pub fn open_wait(name: &str, timeout: Duration) -> Result<Self, Error> {
        Self::options(name).read_only(true).wait(timeout).open()
    }

    /// Configures how to open the ring called `name`; [`OpenOptions::open`] opens it.
    pub fn options(name: &str) -> OpenOptions<M> {
        OpenOptions {
            name: name.into(),
            read_only: false,
            wait: Duration::ZERO,
            prefault: false,
            type_name: None,
            _message: PhantomData,
        }
    }
}

/// Configures how to open a ring; made by [`Ring::options`].
#[must_use = "call open() to get the ring"]
pub struct OpenOptions<M: Message + ?Sized> {
    name: String,
    read_only: bool,
    wait: Duration,
    prefault: bool,
    type_name: Option<String>,
    _message: PhantomData<fn(&M)>,
}

impl<M: Message + ?Sized> OpenOptions<M> {
    /// Whether to map the memory read-only; no producer can be made from such a ring. Default:
    /// `false`.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// How long to wait for the ring to be created. Default: zero.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Whether to enter all pages into the page table now, so that no later access causes a page
    /// fault. Default: `false`.
    pub fn prefault(mut self, prefault: bool) -> Self {
        self.prefault = prefault;
        self
    }

    /// Name that the message type must have; see
    /// [`RingBuilder::type_name`](crate::RingBuilder::type_name).
    pub fn type_name(mut self, type_name: &str) -> Self {
        self.type_name = Some(type_name.into());
        self
    }

    /// Opens the ring.
    ///
    /// # Errors
    /// As [`Ring::open`].
    pub fn open(self) -> Result<Ring<M>, Error> {
        let name = &self.name;
        let started = Instant::now();
        let (segment, header) = loop {
            match open_segment(name, self.read_only) {
                Err(Error::NotFound { .. } | Error::NotReady { .. })
                    if started.elapsed() < self.wait =>
                {
                    thread::sleep(POLL)
                }
                other => break other?,
            }
        };
        check_type::<M>(name, self.type_name.as_deref(), &header)?;
        // A process that only opens a ring does not unlink its name.
        let shared = Shared {
            segment,
            header,
            name: self.name,
            has_producer: AtomicBool::new(false),
            owner: false,
            persistent: true,
        };
        Ok(Ring::of(shared, self.prefault))
    }
}

/// Opens and validates the segment of `name`.
pub(super) fn open_segment(name: &str, read_only: bool) -> Result<(Segment, Header), Error> {
    let segment = Segment::open(name, read_only)?;
    if segment.is_too_large() {
        return Err(Error::invalid_segment(name, "it is beyond 2^46 bytes".into()));
    }
    if !segment.is_reserved() {
        return Err(Error::not_ready(name));
    }
    let header = Header::read(segment.words()).map_err(|refused| Error::refused(name, refused))?;
    check_name(name, &header)?;
    Ok((segment, header))
}

/// Checks that the segment belongs to the ring called `name`, and not to a ring whose name has the
/// same hash.
pub(super) fn check_name(name: &str, header: &Header) -> Result<(), Error> {
    if header.name == name.as_bytes() {
        return Ok(());
    }
    Err(Error::NameCollision {
        name: name.into(),
        found: String::from_utf8_lossy(&header.name).into_owned(),
    })
}

/// Checks that the ring holds messages of type `M`.
pub(super) fn check_type<M: Message + ?Sized>(
    name: &str,
    type_name: Option<&str>,
    header: &Header,
) -> Result<(), Error> {
    let geometry = &header.geometry;
    let found = Format {
        kind: geometry.kind,
        payload_bytes: geometry.payload_bytes,
        payload_align: geometry.payload_align,
        type_name: String::from_utf8_lossy(&header.type_name).into_owned(),
    };
    let mut expected = M::format(geometry.payload_bytes);
    if let Some(type_name) = type_name {
        expected.type_name = type_name.into();
    }
    if expected == found { Ok(()) } else { Err(Error::type_mismatch(name, &expected, &found)) }
}
