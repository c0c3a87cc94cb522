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

/// Default number of slots.
const DEFAULT_SLOTS: usize = 1024;
/// Default number of rows of the reader table.
const DEFAULT_REGISTERED: usize = 64;
/// Longest time that an existing segment may take from its creation to its magic word.
const CREATION_PATIENCE: Duration = Duration::from_secs(2);
/// Interval at which a waiting create checks again.
const POLL: Duration = Duration::from_millis(1);

debug_of!(RingBuilder: name, slots, slot_bytes, mode, if_exists, type_name, prefault, persistent);

impl<M: Message + ?Sized> Ring<M> {
    /// Configures a new ring called `name`; [`RingBuilder::create`] makes it. Any string of up to 1
    /// MiB is a name.
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

/// What to do when a ring of the same name exists. Default: [`IfExists::ReplaceStale`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IfExists {
    /// Fail, whatever the state of the existing ring.
    Error,
    /// Replace the existing ring if neither its owner nor a producer is alive, or if its creation
    /// was never finished and its creator is dead. Consumers that are still attached to it learn
    /// that it was superseded. Fail if it is in use.
    #[default]
    ReplaceStale,
    /// Open the existing ring, if it has the same type and geometry, and continue its sequence.
    /// Replace it only if its creation was never finished.
    Attach,
}

/// Configures a new ring; made by [`Ring::builder`].
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
    /// Size of the largest message in bytes. Required.
    pub fn slot_bytes(mut self, bytes: usize) -> Self {
        self.slot_bytes = bytes;
        self
    }
}

impl<M: Message + ?Sized> RingBuilder<M> {
    /// Number of slots: a consumer loses messages when it is more than this many behind. Default:
    /// 1024.
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = slots;
        self
    }

    /// Number of consumers that can be registered at a time, 1 to 4096. Default: 64. The number of
    /// free consumers is not limited.
    pub fn max_registered(mut self, consumers: usize) -> Self {
        self.max_registered = consumers;
        self
    }

    /// Number of producers that the ring may have at a time, 1 to 256. Default: 1.
    ///
    /// With 1, the producer is made by [`Ring::producer`]. With more, each is made by
    /// [`Ring::shared_producer`], and each message costs about two atomic exchanges more.
    pub fn max_producers(mut self, producers: usize) -> Self {
        self.max_producers = producers;
        self
    }

    /// Whether the producer can wake consumers of this ring. Default: `true`.
    ///
    /// With `false`, consumers with [`WaitStrategy::Park`](crate::WaitStrategy::Park) sleep for up
    /// to a millisecond at a time and poll in between. In exchange, publishing does not check
    /// whether a consumer sleeps.
    pub fn parkable(mut self, parkable: bool) -> Self {
        self.parkable = parkable;
        self
    }

    /// Mode bits of the segment's file, whatever the umask is. Default: `0o600`.
    ///
    /// Consumers need permission to read; producers and registered consumers also need permission
    /// to write.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// What to do when a ring of the same name exists. Default: [`IfExists::ReplaceStale`].
    pub fn if_exists(mut self, if_exists: IfExists) -> Self {
        self.if_exists = if_exists;
        self
    }

    /// Name of the message type, which must be the same in every process that opens the ring.
    /// Default: the name that Rust gives the type, without module paths.
    pub fn type_name(mut self, type_name: &str) -> Self {
        self.type_name = Some(type_name.into());
        self
    }

    /// Up to 1 MiB of bytes for the caller's own use, such as a schema, or a dtype and shape as
    /// JSON. They do not change during the life of the ring. Default: empty.
    pub fn metadata(mut self, metadata: impl Into<Vec<u8>>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// Whether to enter all pages into the page table now, so that no later access causes a page
    /// fault. Default: `false`.
    pub fn prefault(mut self, prefault: bool) -> Self {
        self.prefault = prefault;
        self
    }

    /// Whether the name outlives the last handle of this process. Default: `false`.
    ///
    /// With `false`, dropping the last handle unlinks the name, unless another process owns the
    /// ring or produces into it. Attached consumers keep their mapping.
    pub fn persistent(mut self, persistent: bool) -> Self {
        self.persistent = persistent;
        self
    }

    /// Creates the ring.
    ///
    /// # Errors
    /// [`Error`]: an argument is out of range, the ring exists and [`RingBuilder::if_exists`] does
    /// not allow it, the existing ring differs in type or geometry, or shared memory has no space.
    pub fn create(self) -> Result<Ring<M>, Error> {
        let header = self.plan()?;
        // Each round ends in a ring or an error, unless another process created or removed the name
        // during the round.
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

    /// Handles the existing segment of this name: attaches to it, with whether this process owns it
    /// now, or removes it and returns `None`.
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
                    // The segment may have been replaced between the open and the lock.
                    Ok(segment.is_named().then_some((segment, found, owner)))
                }
                Err(not_ready @ Error::NotReady { .. }) => match Stale::clear_away(&self.name) {
                    // The creator is alive and has not finished.
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
