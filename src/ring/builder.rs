//! Creating rings.

use std::marker::PhantomData;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::Error;
use crate::layout::{Geometry, Header, MAX_TEXT_BYTES, OutOfRange, Sizes, text_words};
use crate::message::Message;
use crate::ring::Ring;
use crate::ring::open::{check_type, open_segment};
use crate::ring::replace::Stale;
use crate::segment::{Role, Segment};
use crate::shared::Shared;

/// Slots of a ring whose creator does not say.
const DEFAULT_SLOTS: usize = 1024;
/// Rows of the reader table of a ring whose creator does not say.
const DEFAULT_REGISTERED: usize = 64;
/// How long an existing segment may take from its creation to its magic word before it is given up
/// on.
const CREATION_PATIENCE: Duration = Duration::from_secs(2);
/// How often a waiting create looks again.
const POLL: Duration = Duration::from_millis(1);

debug_of!(RingBuilder: name, slots, slot_bytes, mode, if_exists, type_name, prefault, persistent);

impl<M: Message + ?Sized> Ring<M> {
    /// Creates rings called `name`; any string is a name.
    ///
    /// ```
    /// # let name = format!("doc-builder-{}", std::process::id());
    /// use seqring::Ring;
    ///
    /// let ring = Ring::<[f32; 4]>::builder(&name).slots(256).mode(0o644).create()?;
    /// assert_eq!((ring.slots(), ring.slot_bytes(), ring.type_name()), (256, 16, "[f32; 4]"));
    /// # Ok::<(), seqring::Error>(())
    /// ```
    pub fn builder(name: &str) -> RingBuilder<M> {
        RingBuilder {
            name: name.into(),
            slots: DEFAULT_SLOTS,
            slot_bytes: 0,
            max_registered: DEFAULT_REGISTERED,
            max_producers: 1,
            parkable: true,
            mode: 0o600,
            if_exists: IfExists::default(),
            type_name: None,
            metadata: Vec::new(),
            prefault: false,
            persistent: false,
            _message: PhantomData,
        }
    }
}

/// What to do when a ring of the same name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IfExists {
    /// Fail, whatever its state.
    Error,
    /// Replace it if neither its owner nor its producer is alive, also if its creation was never
    /// finished; consumers that are still attached learn that it was superseded. Fail if it is
    /// in use.
    #[default]
    ReplaceStale,
    /// Open it, if it has the same type and geometry, to continue its sequence. Replace it only if
    /// its creation was never finished.
    Attach,
}

/// Creates a ring; made by [`Ring::builder`].
#[must_use = "call create() to get the ring"]
pub struct RingBuilder<M: Message + ?Sized> {
    name: String,
    slots: usize,
    slot_bytes: usize,
    max_registered: usize,
    max_producers: usize,
    parkable: bool,
    mode: u32,
    if_exists: IfExists,
    type_name: Option<String>,
    metadata: Vec<u8>,
    prefault: bool,
    persistent: bool,
    _message: PhantomData<fn(&M)>,
}

impl RingBuilder<[u8]> {
    /// Bytes of the largest message. Must be given.
    pub fn slot_bytes(mut self, bytes: usize) -> Self {
        self.slot_bytes = bytes;
        self
    }
}

impl<M: Message + ?Sized> RingBuilder<M> {
    /// Number of slots: how many messages a consumer may be behind before it loses some. 1024
    /// unless told otherwise.
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = slots;
        self
    }

    /// How many consumers can be registered at a time, 1 to 4096; 64 unless told otherwise. Free
    /// consumers are unlimited.
    pub fn max_registered(mut self, consumers: usize) -> Self {
        self.max_registered = consumers;
        self
    }

    /// How many producers the ring may have at a time, 1 to 256; 1 unless told otherwise. A ring
    /// for several is published to by [`Ring::shared_producer`], at about the price of two
    /// atomic exchanges per message; a ring for one by [`Ring::producer`].
    pub fn max_producers(mut self, producers: usize) -> Self {
        self.max_producers = producers;
        self
    }

    /// Whether consumers may sleep until the producer wakes them; true unless told otherwise.
    /// Without it, consumers of this ring that are
    /// to park ([`WaitStrategy::Park`](crate::WaitStrategy::Park)) nap for up to a millisecond at a
    /// time instead, and the producer is spared a look per message at whether one sleeps: less
    /// than a nanosecond.
    pub fn parkable(mut self, parkable: bool) -> Self {
        self.parkable = parkable;
        self
    }

    /// Mode bits of the segment's file, regardless of the umask; 0600 unless told otherwise.
    /// Consumers need to read.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// What to do when a ring of the same name exists; [`IfExists::ReplaceStale`] unless told
    /// otherwise.
    pub fn if_exists(mut self, if_exists: IfExists) -> Self {
        self.if_exists = if_exists;
        self
    }

    /// Name of the message type, which both sides must agree on. Without it, it is the name that
    /// Rust gives the type, less the module paths.
    pub fn type_name(mut self, type_name: &str) -> Self {
        self.type_name = Some(type_name.into());
        self
    }

    /// Up to a megabyte of the caller's own, fixed for the ring's life: a schema, a dtype and shape
    /// as JSON.
    pub fn metadata(mut self, metadata: impl Into<Vec<u8>>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// Enter all pages into the page table now, so that no later access faults.
    pub fn prefault(mut self, prefault: bool) -> Self {
        self.prefault = prefault;
        self
    }

    /// Leave the name behind when the last handle of this process goes; otherwise it is unlinked
    /// then, unless another process owns the ring or produces into it, and consumers that are
    /// attached keep what they have.
    pub fn persistent(mut self, persistent: bool) -> Self {
        self.persistent = persistent;
        self
    }

    /// Creates the ring.
    ///
    /// # Errors
    /// [`Error`]: an argument is out of range, the ring exists and the policy forbids, or there is no space.
    pub fn create(self) -> Result<Ring<M>, Error> {
        let header = self.plan()?;
        // Each round ends in a ring or an error unless somebody else created or removed the name
        // meanwhile.
        let patience = Instant::now() + CREATION_PATIENCE;
        let bytes = header.geometry.segment_bytes().expect("a planned geometry has a size");
        loop {
            if let Some(segment) = Segment::create(&self.name, bytes, self.mode)? {
                header.write(segment.words());
                return Ok(self.finish(segment, header, true));
            }
            match self.existing() {
                Ok(Some((segment, found, owner))) => return Ok(self.finish(segment, found, owner)),
                Ok(None) | Err(Error::NotFound { .. }) => {}
                Err(error @ Error::NotReady { .. }) if Instant::now() >= patience => {
                    return Err(error);
                }
                Err(Error::NotReady { .. }) => thread::sleep(POLL),
                Err(error) => return Err(error),
            }
        }
    }

    fn plan(&self) -> Result<Header, Error> {
        let format = M::format(self.slot_bytes);
        let type_name = self.type_name.clone().unwrap_or(format.type_name);
        let texts = [
            ("the length of its name in bytes", self.name.len()),
            ("the length of its type name in bytes", type_name.len()),
            ("the length of its metadata in bytes", self.metadata.len()),
        ];
        for (what, bytes) in texts {
            if bytes as u64 > MAX_TEXT_BYTES {
                return Err(Error::argument(
                    &self.name,
                    OutOfRange { what, value: bytes as u64, why: "at most 1048576 bytes" },
                ));
            }
        }
        if self.mode & !0o777 != 0 || self.mode & 0o600 != 0o600 {
            let why = "permission bits only, at most 0o777, and 0o600 among them: its creator must be able to open it";
            return Err(Error::argument(
                &self.name,
                OutOfRange { what: "mode", value: self.mode.into(), why },
            ));
        }
        let text_words = text_words(self.name.len(), type_name.len(), self.metadata.len());
        let sizes = Sizes {
            payload_bytes: format.payload_bytes,
            payload_align: format.payload_align,
            slots: self.slots,
            readers: self.max_registered,
            producers: self.max_producers,
        };
        let geometry = Geometry::plan(format.kind, sizes, text_words)
            .map_err(|e| Error::argument(&self.name, e))?;
        let created =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        Ok(Header {
            geometry,
            parkable: self.parkable,
            instance: random_word(),
            created,
            name: self.name.clone().into_bytes(),
            type_name: type_name.into_bytes(),
            metadata: self.metadata.clone(),
        })
    }

    /// Deals with the segment that has the name: attaches to it (and tells whether we own it now),
    /// or clears it away and returns `None`.
    fn existing(&self) -> Result<Option<(Segment, Header, bool)>, Error> {
        match self.if_exists {
            IfExists::Error => Err(Error::AlreadyExists { name: self.name.clone() }),
            IfExists::ReplaceStale => Stale::clear_away(&self.name).map(|()| None),
            IfExists::Attach => match open_segment(&self.name, false) {
                Ok((segment, found)) => {
                    self.check_same(&found)?;
                    let owner = segment
                        .try_lock(Role::Owner)
                        .map_err(|e| Error::io(&self.name, "lock the segment", e))?;
                    // Somebody may have replaced it between the open and the lock.
                    Ok(segment.is_named().then_some((segment, found, owner)))
                }
                Err(not_ready @ Error::NotReady { .. }) => match Stale::clear_away(&self.name) {
                    // Its creator is alive and at it.
                    Err(Error::InUse { .. }) => Err(not_ready),
                    cleared => cleared.map(|()| None),
                },
                Err(error) => Err(error),
            },
        }
    }

    fn check_same(&self, found: &Header) -> Result<(), Error> {
        let asked = M::format(self.slot_bytes);
        check_type::<M>(&self.name, self.type_name.as_deref(), found)?;
        let found_sizes =
            (found.geometry.payload_bytes, found.geometry.slots, found.geometry.producers);
        if (asked.payload_bytes, self.slots, self.max_producers) != found_sizes {
            let say = |slots: usize, bytes: usize, producers: usize| {
                format!("{slots} slots of {bytes} bytes for {producers} producers at a time")
            };
            return Err(Error::GeometryMismatch {
                name: self.name.clone(),
                expected: say(self.slots, asked.payload_bytes, self.max_producers),
                found: say(
                    found.geometry.slots,
                    found.geometry.payload_bytes,
                    found.geometry.producers,
                ),
            });
        }
        Ok(())
    }

    fn finish(self, segment: Segment, header: Header, owner: bool) -> Ring<M> {
        let (prefault, persistent) = (self.prefault, self.persistent);
        Ring::of(
            Shared {
                segment,
                header,
                name: self.name,
                has_producer: AtomicBool::new(false),
                owner,
                persistent,
            },
            prefault,
        )
    }
}

/// A random number that differs between processes, threads and calls.
fn random_word() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
