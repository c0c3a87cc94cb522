//! Creating and opening rings: where names, segments and the protocol meet.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::consumer::ConsumerBuilder;
use crate::error::Error;
use crate::failpoint::{Step, hit};
#[cfg(feature = "async")]
use crate::layout::PAGE;
use crate::layout::{
    BELL, EPOCH, EVICTED, FREE, GATING, Geometry, Header, IDLE, MAX_TEXT_BYTES, OutOfRange, PRODUCER_PID, ROOM, STATE, SUPERSEDED, Sizes,
    text_words,
};
use crate::message::{Format, Message};
use crate::producer::{Producer, SharedProducer};
use crate::ring::bell::Barrier;
use crate::ring::{self, Writer};
use crate::segment::{Role, Segment, path};
use crate::standing::{Several, Sole};
use crate::sync::{AtomicU64, Ordering};
use crate::wait::{wake_regardless, wake_sleepers};

/// Slots of a ring whose creator does not say.
const DEFAULT_SLOTS: usize = 1024;
/// Rows of the reader table of a ring whose creator does not say.
const DEFAULT_READERS: usize = 64;
/// How long an existing segment may take from its creation to its magic word before it is given up on.
const CREATION_PATIENCE: Duration = Duration::from_secs(2);
/// How often a waiting open looks again.
const POLL: Duration = Duration::from_millis(1);

/// What all users of one opened segment share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) segment: Segment,
    pub(crate) header: Header,
    pub(crate) name: String,
    /// A producer made from this handle lives. The kernel's locks do not tell: they never conflict with those of
    /// the same open file.
    has_producer: AtomicBool,
    /// We hold [`Role::Owner`].
    owner: bool,
    /// Leave the name behind when the last handle goes.
    persistent: bool,
}

impl Shared {
    #[inline(always)]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.segment.words()
    }

    /// Whether somebody holds the producer's lock, or the ring is so new that its owner has not made one yet.
    pub(crate) fn is_producer_alive(&self) -> bool {
        // The state first: a producer that starts between the two looks has its lock by the second.
        let idle = self.words()[STATE].load(Ordering::Relaxed) == IDLE;
        let elsewhere = |role| self.segment.is_locked_elsewhere(role).unwrap_or(true);
        // What a forked child has inherited is its parent's, which is asked for as any other.
        let ours = self.is_ours();
        if (ours && self.has_producer.load(Ordering::Acquire)) || elsewhere(Role::Producer) {
            return true;
        }
        if self.header.geometry.producers > 1 && elsewhere(Role::AnyMember) {
            return true;
        }
        idle && ((ours && self.owner) || elsewhere(Role::Owner))
    }

    /// The reader table, as the producer's mapping has it.
    pub(crate) fn table(&self) -> &[AtomicU64] {
        ring::table(self.words(), &self.header.geometry)
    }

    /// Whether the one of several producers that has row `row` is alive.
    pub(crate) fn is_member_alive(&self, row: usize) -> bool {
        self.segment.is_locked_elsewhere(Role::Member(row)).unwrap_or(true)
    }

    /// Whether the consumer that has row `row` of the reader table is alive.
    pub(crate) fn is_reader_alive(&self, row: usize) -> bool {
        self.segment.is_locked_elsewhere(Role::Reader(row)).unwrap_or(true)
    }

    /// The word by which consumers sleep.
    #[inline(always)]
    pub(crate) fn bell(&self) -> &AtomicU64 {
        &self.words()[self.header.geometry.table_word + BELL]
    }

    /// The page that the bell is on, mapped once more.
    #[cfg(feature = "async")]
    pub(crate) fn bell_page(&self) -> Result<Segment, Error> {
        let first = self.header.geometry.table_word;
        self.segment.part(&self.name, first..first + PAGE, true)
    }

    /// Wakes the consumers that sleep, behind what they sleep for.
    #[inline(always)]
    pub(crate) fn wake_consumers(&self) {
        wake_sleepers(self.bell(), Barrier::Full);
    }

    /// Whether another ring has taken the name. Only for who holds [`Role::Producer`], as all do who replace a ring: if the state says so and the
    /// name still means this segment, who was replacing it died over that, and the ring is open to be continued.
    pub(crate) fn is_superseded(&self) -> bool {
        self.words()[STATE].load(Ordering::Relaxed) == SUPERSEDED && !self.segment.is_named()
    }

    /// Whether all of the segment is mapped for writing.
    pub(crate) fn is_writable(&self) -> bool {
        !self.segment.is_read_only()
    }

    /// The word by which producers sleep.
    pub(crate) fn room(&self) -> &AtomicU64 {
        &self.table()[ROOM]
    }

    /// Whether a fork has brought it here, as private copies of what was writable. Costs a load.
    pub(crate) fn is_inherited(&self) -> bool {
        self.segment.is_inherited()
    }

    /// Whether this process opened the ring, and did not inherit it by a fork.
    pub(crate) fn is_ours(&self) -> bool {
        self.segment.is_ours()
    }

    /// Refuses to go on with a producer that was inherited by a fork. Costs a load.
    ///
    /// # Panics
    /// If it was.
    #[track_caller]
    pub(crate) fn expect_ours(&self) {
        assert!(
            !self.is_inherited(),
            "{}; what was published here since the fork has reached nobody",
            Error::Forked { name: self.name.clone() }
        );
    }

    pub(crate) fn release_producer(&self) {
        self.segment.unlock(Role::Producer);
        hit(Step::CloseLock);
        self.has_producer.store(false, Ordering::Release);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // With both locks, as everybody who removes a name: while somebody else owns the ring or produces into it, it is theirs to remove.
        let free = |role| self.segment.try_lock(role).unwrap_or(false);
        let members = || self.segment.is_locked_elsewhere(Role::AnyMember).unwrap_or(true);
        if !self.persistent && self.segment.is_ours() && free(Role::Owner) && free(Role::Producer) && !members() {
            // Nobody is left to be told; the next of this name finds it stale.
            hit(Step::RemoveLock);
            let _ = self.segment.unlink();
            hit(Step::RemoveName);
        }
    }
}

/// A ring in named shared memory, opened by this process; makes producers and consumers.
///
/// `M` is the type of its messages: any `T: `[`bytemuck::Pod`], or `[u8]` for messages of any length up to the slot's.
pub struct Ring<M: Message + ?Sized> {
    shared: Arc<Shared>,
    _message: PhantomData<fn(&M)>,
}

impl<M: Message + ?Sized> Clone for Ring<M> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), _message: PhantomData }
    }
}

debug_of!(Ring: shared);
debug_of!(Builder: name, slots, slot_bytes, mode, if_exists, type_name, prefault, persistent);
debug_of!(OpenOptions: read_only, wait, prefault, type_name);

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
    pub fn builder(name: &str) -> Builder<M> {
        Builder {
            name: name.into(),
            slots: DEFAULT_SLOTS,
            slot_bytes: 0,
            readers: DEFAULT_READERS,
            producers: 1,
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

    /// Opens the ring called `name` for reading and writing: for a process that may become its producer.
    ///
    /// # Errors
    /// [`Error`]: the ring does not exist, is not finished, is corrupt, or holds other messages.
    pub fn open(name: &str) -> Result<Self, Error> {
        Self::options().open(name)
    }

    /// Opens the ring called `name` for reading: all that consumers need. The memory is mapped read-only.
    ///
    /// # Errors
    /// As [`Ring::open`].
    pub fn open_read_only(name: &str) -> Result<Self, Error> {
        Self::options().read_only(true).open(name)
    }

    /// Opens the ring called `name` for reading, waiting at most `timeout` for somebody to create it.
    ///
    /// # Errors
    /// As [`Ring::open`]; [`Error::NotFound`] or [`Error::NotReady`] when the time is over.
    pub fn open_wait(name: &str, timeout: Duration) -> Result<Self, Error> {
        Self::options().read_only(true).wait(timeout).open(name)
    }

    /// Opens with options.
    pub fn options() -> OpenOptions<M> {
        OpenOptions { read_only: false, wait: Duration::ZERO, prefault: false, type_name: None, _message: PhantomData }
    }

    /// Removes the name of a ring; who has it open keeps it. Returns whether there was one.
    ///
    /// # Errors
    /// [`Error::InUse`] if its owner or producer is alive, or [`Error::Io`].
    pub fn unlink(name: &str) -> Result<bool, Error> {
        match Stale::claim(name) {
            Ok(Some(stale)) => stale.segment.unlink().map_err(|e| cannot_remove(name, e)),
            Ok(None) => Ok(false),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Becomes the producer of this ring. If the last one has died, its half-written message is discarded and the
    /// sequence goes on; consumers that are attached carry on.
    ///
    /// # Errors
    /// [`Error::ProducerExists`], [`Error::ReadOnly`], [`Error::Superseded`], [`Error::Forked`], or [`Error::Io`].
    pub fn producer(&self) -> Result<Producer<M>, Error> {
        let shared = self.to_produce()?;
        if self.geometry().producers != 1 {
            return Err(Error::ProducerKind { name: shared.name.clone(), producers: self.geometry().producers });
        }
        let words = shared.words();
        let exists = || Error::ProducerExists { name: shared.name.clone(), producer_pid: words[PRODUCER_PID].load(Ordering::Relaxed) };
        if shared.has_producer.swap(true, Ordering::AcqRel) {
            return Err(exists());
        }
        let refused = match shared.segment.try_lock(Role::Producer) {
            Ok(true) if shared.is_superseded() => Error::Superseded { name: shared.name.clone() },
            Ok(true) => {
                hit(Step::ResumeLock);
                words[PRODUCER_PID].store(u64::from(std::process::id()), Ordering::Relaxed);
                hit(Step::ResumePid);
                let writer = Writer::resume(words, shared.header.geometry);
                let producer = Producer::new(shared.clone(), Sole::new(shared.clone(), writer));
                wake_regardless(shared.bell());
                return Ok(producer);
            }
            Ok(false) => {
                shared.has_producer.store(false, Ordering::Release);
                return Err(exists());
            }
            Err(error) => Error::io(&shared.name, "lock the segment", error),
        };
        shared.release_producer();
        Err(refused)
    }

    /// Becomes one of the producers of this ring, which was created with [`Builder::producers`].
    ///
    /// # Errors
    /// [`Error::ProducerKind`], [`Error::TooManyProducers`], [`Error::ReadOnly`], [`Error::Superseded`], [`Error::Forked`], [`Error::Permission`],
    /// [`Error::InUse`] while another joins or closes and takes too long over it, or [`Error::Io`].
    pub fn shared_producer(&self) -> Result<SharedProducer<M>, Error> {
        let shared = self.to_produce()?;
        if self.geometry().producers == 1 {
            return Err(Error::ProducerKind { name: shared.name.clone(), producers: 1 });
        }
        let producer = Producer::new(shared.clone(), Several::join(shared)?);
        wake_regardless(shared.bell());
        Ok(producer)
    }

    /// What producers are made from, if that may be.
    fn to_produce(&self) -> Result<&Arc<Shared>, Error> {
        let name = || self.shared.name.clone();
        if self.shared.segment.is_read_only() {
            return Err(Error::ReadOnly { name: name() });
        }
        // An inherited descriptor does not tell whose locks are whose.
        if self.shared.is_ours() { Ok(&self.shared) } else { Err(Error::Forked { name: name() }) }
    }

    /// A consumer of this ring, to be configured and attached. There is no limit to their number.
    pub fn consumer(&self) -> ConsumerBuilder<M> {
        ConsumerBuilder::new(self.shared.clone())
    }

    /// The ring's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The file of the segment.
    pub fn path(&self) -> &std::path::Path {
        self.shared.segment.path()
    }

    /// Number of slots: how many messages the ring holds.
    pub fn slots(&self) -> usize {
        self.geometry().slots
    }

    /// Bytes of the largest message; of every message, if `M` is not `[u8]`.
    pub fn slot_bytes(&self) -> usize {
        self.geometry().payload_bytes
    }

    /// Bytes of shared memory that the ring takes.
    pub fn segment_bytes(&self) -> u64 {
        self.geometry().segment_bytes().expect("validated when the ring was opened")
    }

    /// Name of the message type, as the creator gave it. Bytes that are not UTF-8 are an empty name.
    pub fn type_name(&self) -> &str {
        std::str::from_utf8(&self.shared.header.type_name).unwrap_or_default()
    }

    /// The metadata that the creator gave.
    pub fn metadata(&self) -> &[u8] {
        &self.shared.header.metadata
    }

    /// When the ring was created, by the creator's clock.
    pub fn created(&self) -> SystemTime {
        UNIX_EPOCH.checked_add(Duration::from_nanos(self.shared.header.created)).unwrap_or(UNIX_EPOCH)
    }

    /// Number of messages published so far. May have grown by the time this returns.
    pub fn head(&self) -> u64 {
        ring::head(self.shared.words())
    }

    /// How many producers the ring has had: 0 before the first, one more with each takeover.
    pub fn epoch(&self) -> u64 {
        self.shared.words()[EPOCH].load(Ordering::Relaxed)
    }

    /// The registered consumers, in the order of their rows. What a row says changes while it is read; each field is from some
    /// moment of its own.
    pub fn readers(&self) -> Vec<ReaderInfo> {
        let head = self.head();
        let table = self.shared.table();
        let taken = (0..self.geometry().readers).map(|row| (row, ring::describe(table, row))).filter(|(_, row)| row.state != FREE);
        let info = |(row, found): (usize, ring::Description)| ReaderInfo {
            row,
            name: found.name,
            pid: found.pid,
            is_gating: found.state == GATING,
            is_evicted: found.state == EVICTED,
            is_alive: self.shared.is_reader_alive(row),
            cursor: found.cursor,
            lag: head.saturating_sub(found.cursor),
            longest_lag: found.longest_lag,
            sleeps: found.sleeps,
            received: found.received,
            lost: found.lost,
            waits: found.waits,
            waited: Duration::from_nanos(found.waited),
        };
        // The row of one that was evicted and has died says nothing any more.
        taken.map(info).filter(|reader| reader.is_alive || !reader.is_evicted).collect()
    }

    /// Whether the ring has a live producer, or is so new that its creator has not made one yet. Asks the kernel.
    pub fn is_producer_alive(&self) -> bool {
        self.shared.is_producer_alive()
    }

    fn of(shared: Shared, prefault: bool) -> Self {
        if prefault {
            shared.segment.prefault();
        }
        Self { shared: Arc::new(shared), _message: PhantomData }
    }

    fn geometry(&self) -> &Geometry {
        &self.shared.header.geometry
    }
}

/// What the reader table says about a registered consumer; from [`Ring::readers`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderInfo {
    /// Its row in the table.
    pub row: usize,
    /// Its name.
    pub name: String,
    /// Its process id, in its own PID namespace.
    pub pid: u64,
    /// Whether the producer waits for it.
    pub is_gating: bool,
    /// Whether the producer has given up on it.
    pub is_evicted: bool,
    /// Whether its kernel lock is held.
    pub is_alive: bool,
    /// Sequence of its next message, up to 32 messages ago.
    pub cursor: u64,
    /// Messages published but not received by it.
    pub lag: u64,
    /// The longest lag it has seen itself have; it looks once a lap.
    pub longest_lag: u64,
    /// How often it has slept, waiting for a message.
    pub sleeps: u64,
    /// Messages it has received.
    pub received: u64,
    /// Messages it has lost.
    pub lost: u64,
    /// How often the producer has waited for it.
    pub waits: u64,
    /// How long the producer has waited for it, all in all.
    pub waited: Duration,
}

/// What to do when a ring of the same name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IfExists {
    /// Fail, whatever its state.
    Error,
    /// Replace it if neither its owner nor its producer is alive, also if its creation was never finished; consumers
    /// that are still attached learn that it was superseded. Fail if it is in use.
    #[default]
    ReplaceStale,
    /// Open it, if it has the same type and geometry, to continue its sequence. Replace it only if its creation was
    /// never finished.
    Attach,
}

/// Creates a ring; made by [`Ring::builder`].
#[must_use = "call create() to get the ring"]
pub struct Builder<M: Message + ?Sized> {
    name: String,
    slots: usize,
    slot_bytes: usize,
    readers: usize,
    producers: usize,
    parkable: bool,
    mode: u32,
    if_exists: IfExists,
    type_name: Option<String>,
    metadata: Vec<u8>,
    prefault: bool,
    persistent: bool,
    _message: PhantomData<fn(&M)>,
}

impl Builder<[u8]> {
    /// Bytes of the largest message. Must be given.
    pub fn slot_bytes(mut self, bytes: usize) -> Self {
        self.slot_bytes = bytes;
        self
    }
}

impl<M: Message + ?Sized> Builder<M> {
    /// Number of slots: how many messages a consumer may be behind before it loses some. 1024 unless told otherwise.
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = slots;
        self
    }

    /// How many consumers can be registered at a time, 1 to 4096; 64 unless told otherwise. Free consumers are unlimited.
    pub fn readers(mut self, readers: usize) -> Self {
        self.readers = readers;
        self
    }

    /// How many producers the ring may have at a time, 1 to 256; 1 unless told otherwise. A ring for several is published to by
    /// [`Ring::shared_producer`], at about the price of two atomic exchanges per message; a ring for one by [`Ring::producer`].
    pub fn producers(mut self, producers: usize) -> Self {
        self.producers = producers;
        self
    }

    /// Whether consumers may sleep until the producer wakes them; true unless told otherwise. Without it, consumers of this ring that are
    /// to park ([`WaitStrategy::Park`](crate::WaitStrategy::Park)) nap for up to a millisecond at a time instead, and the producer is spared a look per message
    /// at whether one sleeps: less than a nanosecond.
    pub fn parkable(mut self, parkable: bool) -> Self {
        self.parkable = parkable;
        self
    }

    /// Mode bits of the segment's file, regardless of the umask; 0600 unless told otherwise. Consumers need to read.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// What to do when a ring of the same name exists; [`IfExists::ReplaceStale`] unless told otherwise.
    pub fn if_exists(mut self, if_exists: IfExists) -> Self {
        self.if_exists = if_exists;
        self
    }

    /// Name of the message type, which both sides must agree on. Without it, it is the name that Rust gives the type,
    /// less the module paths.
    pub fn type_name(mut self, type_name: &str) -> Self {
        self.type_name = Some(type_name.into());
        self
    }

    /// Up to a megabyte of the caller's own, fixed for the ring's life: a schema, a dtype and shape as JSON.
    pub fn metadata(mut self, metadata: impl Into<Vec<u8>>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// Enter all pages into the page table now, so that no later access faults.
    pub fn prefault(mut self, prefault: bool) -> Self {
        self.prefault = prefault;
        self
    }

    /// Leave the name behind when the last handle of this process goes; otherwise it is unlinked then, unless another process
    /// owns the ring or produces into it, and consumers that are attached keep what they have.
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
        // Each round ends in a ring or an error unless somebody else created or removed the name meanwhile.
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
                Err(error @ Error::NotReady { .. }) if Instant::now() >= patience => return Err(error),
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
                return Err(Error::argument(&self.name, OutOfRange { what, value: bytes as u64, why: "at most 1048576 bytes" }));
            }
        }
        if self.mode & !0o777 != 0 || self.mode & 0o600 != 0o600 {
            let why = "permission bits only, at most 0o777, and 0o600 among them: its creator must be able to open it";
            return Err(Error::argument(&self.name, OutOfRange { what: "mode", value: self.mode.into(), why }));
        }
        let text_words = text_words(self.name.len(), type_name.len(), self.metadata.len());
        let sizes = Sizes {
            payload_bytes: format.payload_bytes,
            payload_align: format.payload_align,
            slots: self.slots,
            readers: self.readers,
            producers: self.producers,
        };
        let geometry = Geometry::plan(format.kind, sizes, text_words).map_err(|e| Error::argument(&self.name, e))?;
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
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

    /// Deals with the segment that has the name: attaches to it (and tells whether we own it now), or clears it away
    /// and returns `None`.
    fn existing(&self) -> Result<Option<(Segment, Header, bool)>, Error> {
        match self.if_exists {
            IfExists::Error => Err(Error::AlreadyExists { name: self.name.clone() }),
            IfExists::ReplaceStale => Stale::clear_away(&self.name).map(|()| None),
            IfExists::Attach => match open_segment(&self.name, false) {
                Ok((segment, found)) => {
                    self.check_same(&found)?;
                    let owner = segment.try_lock(Role::Owner).map_err(|e| Error::io(&self.name, "lock the segment", e))?;
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
        let found_sizes = (found.geometry.payload_bytes, found.geometry.slots, found.geometry.producers);
        if (asked.payload_bytes, self.slots, self.producers) != found_sizes {
            let say = |slots: usize, bytes: usize, producers: usize| {
                format!("{slots} slots of {bytes} bytes for {producers} producers at a time")
            };
            return Err(Error::GeometryMismatch {
                name: self.name.clone(),
                expected: say(self.slots, asked.payload_bytes, self.producers),
                found: say(found.geometry.slots, found.geometry.payload_bytes, found.geometry.producers),
            });
        }
        Ok(())
    }

    fn finish(self, segment: Segment, header: Header, owner: bool) -> Ring<M> {
        let (prefault, persistent) = (self.prefault, self.persistent);
        Ring::of(Shared { segment, header, name: self.name, has_producer: AtomicBool::new(false), owner, persistent }, prefault)
    }
}

/// Opens a ring; made by [`Ring::options`].
#[must_use = "call open() to get the ring"]
pub struct OpenOptions<M: Message + ?Sized> {
    read_only: bool,
    wait: Duration,
    prefault: bool,
    type_name: Option<String>,
    _message: PhantomData<fn(&M)>,
}

impl<M: Message + ?Sized> OpenOptions<M> {
    /// Map the memory read-only: no producer can be made from it. `false` unless told otherwise.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// How long to wait for somebody to create the ring; not at all unless told otherwise.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Enter all pages into the page table now, so that no later access faults.
    pub fn prefault(mut self, prefault: bool) -> Self {
        self.prefault = prefault;
        self
    }

    /// Name that the message type must have; see [`Builder::type_name`].
    pub fn type_name(mut self, type_name: &str) -> Self {
        self.type_name = Some(type_name.into());
        self
    }

    /// Opens the ring called `name`.
    ///
    /// # Errors
    /// As [`Ring::open`].
    pub fn open(self, name: &str) -> Result<Ring<M>, Error> {
        let started = Instant::now();
        let (segment, header) = loop {
            match open_segment(name, self.read_only) {
                Err(Error::NotFound { .. } | Error::NotReady { .. }) if started.elapsed() < self.wait => thread::sleep(POLL),
                other => break other?,
            }
        };
        check_type::<M>(name, self.type_name.as_deref(), &header)?;
        // Who opens a ring has no part in its name.
        let shared = Shared { segment, header, name: name.into(), has_producer: AtomicBool::new(false), owner: false, persistent: true };
        Ok(Ring::of(shared, self.prefault))
    }
}

/// Opens and validates the segment of `name`.
fn open_segment(name: &str, read_only: bool) -> Result<(Segment, Header), Error> {
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

/// Checks that the segment is of the ring called `name`, and not of one whose name has the same hash.
fn check_name(name: &str, header: &Header) -> Result<(), Error> {
    if header.name == name.as_bytes() {
        return Ok(());
    }
    Err(Error::NameCollision { name: name.into(), found: String::from_utf8_lossy(&header.name).into_owned() })
}

/// Checks that the ring holds messages of type `M`.
fn check_type<M: Message + ?Sized>(name: &str, type_name: Option<&str>, header: &Header) -> Result<(), Error> {
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

/// A segment that nobody alive owns or produces into, with both locks held by us.
struct Stale {
    segment: Segment,
}

impl Stale {
    /// Takes the segment of `name`, whatever is in it. `Ok(None)` if the name changed its meaning meanwhile.
    fn claim(name: &str) -> Result<Option<Self>, Error> {
        let segment = Segment::open(name, false)?;
        let io = |e| Error::io(name, "lock the segment", e);
        for role in [Role::Owner, Role::Producer, Role::AnyMember] {
            let free = match role {
                // Behind the lock of the producer, without which nobody joins them.
                Role::AnyMember => !segment.is_locked_elsewhere(role).map_err(io)?,
                _ => segment.try_lock(role).map_err(io)?,
            };
            if !free {
                let producer_pid = if segment.is_reserved() {
                    segment.words().get(PRODUCER_PID).map_or(0, |word| word.load(Ordering::Relaxed))
                } else {
                    0
                };
                return Err(Error::InUse { name: name.into(), producer_pid });
            }
        }
        // A ring whose name has the same hash is not ours to remove; a damaged name, which leads elsewhere, is nobody's.
        let header = segment.is_reserved().then(|| Header::read(segment.words()).ok()).flatten();
        if let Some(header) = header.filter(|header| std::str::from_utf8(&header.name).is_ok_and(|found| path(found) == path(name))) {
            check_name(name, &header)?;
        }
        Ok(segment.is_named().then_some(Self { segment }))
    }

    /// Clears the segment of `name` away, unless the name has changed its meaning meanwhile.
    fn clear_away(name: &str) -> Result<(), Error> {
        Self::claim(name)?.map_or(Ok(()), |stale| stale.replace(name))
    }

    /// Tells attached consumers, and frees the name.
    fn replace(self, name: &str) -> Result<(), Error> {
        hit(Step::ReplaceLock);
        let words = self.segment.words();
        let header = if self.segment.is_reserved() { Header::read(words).ok() } else { None };
        let before = words.get(STATE).map(|state| state.load(Ordering::Relaxed));
        if let Some(header) = &header {
            ring::supersede(words);
            hit(Step::ReplaceState);
            wake_regardless(&ring::table(words, &header.geometry)[BELL]);
        }
        self.segment.unlink().map(|_| hit(Step::ReplaceName)).map_err(|error| {
            // It keeps its name, so it has not been superseded.
            if let (Some(before), Some(_)) = (before, &header) {
                words[STATE].store(before, Ordering::Relaxed);
            }
            cannot_remove(name, error)
        })
    }
}

/// The name stays: in `/dev/shm`, as in every sticky directory, only its owner may remove a file.
fn cannot_remove(name: &str, error: std::io::Error) -> Error {
    Error::io(name, "remove the stale segment (its owner or root can, or choose another name)", error)
}

/// A random number that differs between processes, threads and calls.
fn random_word() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Consumer;

    #[test]
    fn handles_can_move_between_threads() {
        fn send<T: Send>() {}
        fn sync<T: Sync>() {}
        send::<Ring<[u8]>>();
        sync::<Ring<[u8]>>();
        send::<Producer<u64>>();
        send::<Consumer<[u8]>>();
    }
}
