//! The shared memory of the locked queue and where things are in it.

use std::fs::File;
use std::path::Path;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::posix_fallocate;
use serde::{Deserialize, Serialize};
use shared_memory::{Shmem, ShmemConf};

use super::sync::{SharedCondition, SharedMutex};

/// Written last by the creator: everything before it is initialised.
const MAGIC: u64 = u64::from_le_bytes(*b"lockedq1");

/// Keeps neighbouring areas off each other's cache lines.
const ALIGN: usize = 128;

/// The dimensions of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct Geometry {
    /// Number of slots.
    pub slots: usize,
    /// Largest message, in bytes.
    pub slot_bytes: usize,
    /// Number of registered readers.
    pub readers: usize,
}

/// Byte offsets of the areas that follow the control block.
#[derive(Debug, Clone, Copy)]
struct Offsets {
    cursors: usize,
    lengths: usize,
    slots: usize,
    stride: usize,
    total: usize,
}

impl Geometry {
    fn offsets(&self) -> Option<Offsets> {
        let cursors = size_of::<Control>().checked_next_multiple_of(ALIGN)?;
        let lengths = cursors
            .checked_add(self.readers.checked_mul(size_of::<u64>())?)?
            .checked_next_multiple_of(ALIGN)?;
        let slots = lengths
            .checked_add(self.slots.checked_mul(size_of::<u64>())?)?
            .checked_next_multiple_of(ALIGN)?;
        let stride = self.slot_bytes.checked_next_multiple_of(ALIGN)?;
        let total = slots.checked_add(self.slots.checked_mul(stride)?)?;
        isize::try_from(total).ok()?;
        Some(Offsets { cursors, lengths, slots, stride, total })
    }
}

/// The integers behind the mutex.
#[derive(Debug, Default)]
pub struct State {
    /// Messages written so far; message `n` is in slot `n % slots`.
    pub written: u64,
    /// Readers that hold the lock shared.
    pub active_readers: usize,
    /// Readers a full lap behind, counted by a writer that waits for them.
    pub blockers: usize,
    /// The writer holds the lock exclusively.
    pub writing: bool,
    /// The writer waits for the exclusive hold; new readers let it pass, or a
    /// crowd of them could keep it out for ever.
    pub writer_waits: bool,
    /// Nothing will be written any more.
    pub closed: bool,
}

/// The head of the segment.
#[derive(Debug)]
#[repr(C)]
pub struct Control {
    magic: AtomicU64,
    geometry: Geometry,
    /// The state of the readers-writer lock and of the queue.
    pub state: SharedMutex<State>,
    /// Notified when there is something to read and the lock can be shared.
    pub readable: SharedCondition,
    /// Notified when the one writer can go on.
    pub writable: SharedCondition,
}

/// A mapping of the segment. The creator's unlinks the name when dropped.
pub struct Memory {
    shmem: Shmem,
    geometry: Geometry,
    offsets: Offsets,
}

impl Memory {
    /// Creates and initialises the segment `name`.
    ///
    /// # Errors
    ///
    /// When the name is taken, or the space is not there.
    pub fn create(name: &str, geometry: Geometry) -> Result<Self> {
        let offsets = offsets_of(geometry)?;
        let shmem = ShmemConf::new()
            .os_id(format!("/{name}"))
            .size(offsets.total)
            .create()
            .with_context(|| format!("cannot create the shared memory {name:?}"))?;
        reserve(name, offsets.total)?;
        let control = shmem.as_ptr().cast::<Control>();
        // SAFETY: the mapping is page-aligned, at least `offsets.total` bytes
        // long, which covers `Control`, and no other process looks beyond the
        // magic word while that is zero.
        unsafe {
            control.write(Control {
                magic: AtomicU64::new(0),
                geometry,
                state: SharedMutex::unready(State::default()),
                readable: SharedCondition::unready(),
                writable: SharedCondition::unready(),
            });
        }
        let memory = Self { shmem, geometry, offsets };
        let control = memory.control();
        // SAFETY: the mutex is in the mapping, where it stays, and the magic
        // word is not there yet.
        unsafe { control.state.initialise() }.context("cannot initialise the shared mutex")?;
        // SAFETY: as for the mutex.
        unsafe { control.readable.initialise() }.context("cannot initialise a condition")?;
        // SAFETY: as for the mutex.
        unsafe { control.writable.initialise() }.context("cannot initialise a condition")?;
        fence(Ordering::Release);
        control.magic.store(MAGIC, Ordering::Relaxed);
        memory.prefault();
        Ok(memory)
    }

    /// Maps the segment `name`, which must have the given geometry.
    ///
    /// # Errors
    ///
    /// When there is no such segment, or it is another one.
    pub fn open(name: &str, geometry: Geometry) -> Result<Self> {
        let offsets = offsets_of(geometry)?;
        let shmem = ShmemConf::new()
            .os_id(format!("/{name}"))
            .open()
            .with_context(|| format!("cannot open the shared memory {name:?}"))?;
        ensure!(
            shmem.len() >= offsets.total,
            "the shared memory {name:?} has {} bytes, not the {} of {geometry:?}",
            shmem.len(),
            offsets.total
        );
        let memory = Self { shmem, geometry, offsets };
        ensure!(
            memory.control().magic.load(Ordering::Relaxed) == MAGIC,
            "the shared memory {name:?} is not an initialised queue"
        );
        fence(Ordering::Acquire);
        let found = memory.control().geometry;
        ensure!(found == geometry, "the shared memory {name:?} holds {found:?}, not {geometry:?}");
        memory.prefault();
        Ok(memory)
    }

    /// The dimensions of the queue.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The control block.
    pub fn control(&self) -> &Control {
        let control = self.shmem.as_ptr().cast::<Control>().cast_const();
        // SAFETY: the mapping is page-aligned, longer than `Control` (both
        // constructors check that) and lives as long as `self`. Its creator wrote
        // a `Control` there; an opener looks at nothing but the magic word, valid
        // in any state, before it knows that. What changes is inside cells.
        unsafe { &*control }
    }

    /// How many messages each reader has taken; guarded by the mutex.
    pub fn cursors(&self) -> &[AtomicU64] {
        self.words(self.offsets.cursors, self.geometry.readers)
    }

    /// The length of the message in each slot; guarded by the readers-writer lock.
    pub fn lengths(&self) -> &[AtomicU64] {
        self.words(self.offsets.lengths, self.geometry.slots)
    }

    fn words(&self, offset: usize, count: usize) -> &[AtomicU64] {
        // SAFETY: `Geometry::offsets` placed the area inside the mapping.
        let start = unsafe { self.shmem.as_ptr().add(offset) };
        // SAFETY: `offset` is a multiple of 128 in a page-aligned mapping that
        // lives as long as `self`, the area is `count` words long, every bit
        // pattern is a valid word, and words are only accessed atomically.
        unsafe { slice::from_raw_parts(start.cast::<AtomicU64>(), count) }
    }

    /// The first byte of a slot, `slot_bytes` of which may be used.
    ///
    /// # Panics
    ///
    /// When there is no such slot.
    pub fn slot(&self, index: usize) -> *mut u8 {
        assert!(index < self.geometry.slots, "slot {index} of {}", self.geometry.slots);
        let offset = self.offsets.slots + index * self.offsets.stride;
        // SAFETY: `Geometry::offsets` placed all slots inside the mapping.
        unsafe { self.shmem.as_ptr().add(offset) }
    }

    /// Maps all pages now, so that no page fault falls into the measured time.
    fn prefault(&self) {
        let start = self.shmem.as_ptr().cast();
        // SAFETY: the range is exactly this mapping; populating it changes no
        // content. Kernels before 5.14 refuse, and then pages come one by one.
        unsafe { libc::madvise(start, self.shmem.len(), libc::MADV_POPULATE_WRITE) };
    }
}

fn offsets_of(geometry: Geometry) -> Result<Offsets> {
    geometry.offsets().with_context(|| {
        format!(
            "{} slots of {} bytes do not fit into an address space",
            geometry.slots, geometry.slot_bytes
        )
    })
}

/// Reserves the pages, because a write to a page that cannot be had is SIGBUS.
fn reserve(name: &str, bytes: usize) -> Result<()> {
    let path = Path::new("/dev/shm").join(name);
    let file = File::options()
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let length = bytes.try_into().context("too large for a file")?;
    match posix_fallocate(&file, 0, length) {
        Ok(()) => Ok(()),
        Err(Errno::ENOSPC) => {
            bail!(
                "no space in /dev/shm for the {bytes} bytes of {name:?}: use fewer or smaller slots"
            )
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot reserve {bytes} bytes for {name:?}"))
        }
    }
}
