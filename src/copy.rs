//! Race-free copies between a segment and private memory.
//!
//! A payload may be overwritten while a consumer copies it; the stamp of the slot shows that
//! afterwards. This works only if the copy is not a data race, so the shared side is accessed only
//! by
//!
//! * relaxed atomic loads and stores of whole words, for small payloads ([`Granularity::Words`]),
//!   where two stores are one instruction if the processor has one for that, or
//! * inline assembly, for large payloads ([`Granularity::Bulk`]). Rust's memory model has no bulk
//!   atomic copy yet (RFC 3301 proposes `AtomicPerByte`). Until it has one, an assembly block that
//!   reads or writes each byte is taken as a refinement of "relaxed byte-wise atomic accesses in an
//!   unspecified order". The language's rules for inline assembly allow that: the compiler must
//!   treat the block as any code with that effect.
//!
//! A ring uses one granularity for its whole life, on both sides, so that no byte is ever accessed
//! in two sizes. An instruction that stores two words counts as two stores here.

use core::mem::MaybeUninit;

use bytemuck::Pod;

use crate::failpoint::{Step, hit};
use crate::layout::{Granularity, LINE, WORD};
use crate::sync::{AtomicU64, Ordering};

#[cfg(all(not(loom), not(miri), target_arch = "aarch64"))]
#[path = "copy/aarch64.rs"]
mod bulk;
#[cfg(all(not(loom), not(miri), target_arch = "x86_64"))]
#[path = "copy/x86_64.rs"]
mod bulk;

#[cfg(any(loom, miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[path = "copy/portable.rs"]
mod bulk;
mod reach;

pub use crate::copy::reach::Reach;

#[cfg(all(not(loom), not(miri), target_arch = "x86_64"))]
use bulk::store_pair;

/// Stores two words. Some processors do that in one instruction.
#[inline(always)]
#[cfg(not(all(not(loom), not(miri), target_arch = "x86_64")))]
fn store_pair(pair: &[AtomicU64; 2], source: &[u8; PAIR]) {
    for (word, chunk) in pair.iter().zip(source.chunks_exact(WORD)) {
        word.store(
            u64::from_ne_bytes(chunk.try_into().expect("chunks have 8 bytes")),
            Ordering::Relaxed,
        );
    }
}

/// Bytes of two words.
const PAIR: usize = 2 * WORD;

/// Copies `source` to the start of `shared`.
///
/// # Panics
/// If `shared` is smaller than `source`.
#[inline(always)]
pub fn store(granularity: Granularity, shared: &[AtomicU64], source: &[u8]) {
    assert!(source.len().div_ceil(WORD) <= shared.len(), "the payload is larger than its slot");
    match granularity {
        Granularity::Words => {
            // The rate of small messages is bounded by the number of stores, so words are stored in
            // pairs. Not for longer messages: their slots straddle lines, and so would some of the
            // pairs.
            let paired =
                if source.len() <= (LINE - 1) * WORD { source.len() / PAIR * PAIR } else { 0 };
            let (pairs, words) = source.split_at(paired);
            let (shared_pairs, shared) = shared.split_at(pairs.len() / WORD);
            for (to, pair) in shared_pairs.chunks_exact(2).zip(pairs.chunks_exact(PAIR)) {
                store_pair(
                    to.try_into().expect("chunks have 2 words"),
                    pair.try_into().expect("chunks have 16 bytes"),
                );
            }
            let mut chunks = words.chunks_exact(WORD);
            // Sliced first: if the compiler knows the length, no bounds check is left.
            for (word, chunk) in shared[..words.len() / WORD].iter().zip(&mut chunks) {
                word.store(
                    u64::from_ne_bytes(chunk.try_into().expect("chunks have 8 bytes")),
                    Ordering::Relaxed,
                );
            }
            let rest = chunks.remainder();
            if !rest.is_empty() {
                shared[words.len() / WORD]
                    .store(u64::from_ne_bytes(partial_word(rest)), Ordering::Relaxed);
            }
        }
        Granularity::Bulk => {
            let destination = shared.as_ptr().cast::<u8>().cast_mut();
            // SAFETY: `source` is readable for its length; `shared` is at least as long (asserted)
            // and writable through a shared reference, because its words are atomics. They cannot
            // overlap: `source` is borrowed private memory. Concurrent accesses to the shared bytes
            // are bulk copies as well (one granularity per ring), which count as relaxed byte-wise
            // atomics: no data race.
            unsafe { bulk::store(destination, source.as_ptr(), source.len()) }
        }
    }
}

/// The first bytes of a word from `rest`, the others zero.
fn partial_word(rest: &[u8]) -> [u8; WORD] {
    let mut bytes = [0; WORD];
    bytes[..rest.len()].copy_from_slice(rest);
    bytes
}

/// Fills `destination` from the start of `shared`.
#[inline(always)]
fn load(
    granularity: Granularity,
    reach: Reach,
    shared: &[AtomicU64],
    destination: &mut [MaybeUninit<u8>],
) {
    assert!(destination.len() <= shared.len() * WORD, "the slot is smaller than its payload");
    match granularity {
        Granularity::Words => {
            let mut chunks = destination.chunks_exact_mut(WORD);
            let mut words = shared.iter();
            for (chunk, word) in (&mut chunks).zip(&mut words) {
                copy_init(chunk, &word.load(Ordering::Relaxed).to_ne_bytes());
            }
            let rest = chunks.into_remainder();
            if let (false, Some(word)) = (rest.is_empty(), words.next()) {
                let bytes = word.load(Ordering::Relaxed).to_ne_bytes();
                copy_init(rest, &bytes[..rest.len()]);
            }
        }
        Granularity::Bulk => {
            let source = shared.as_ptr().cast::<u8>();
            // SAFETY: `destination` is exclusive private memory of its length; `shared` is at least
            // as long (asserted) and readable. Concurrent accesses to the shared bytes are bulk
            // copies as well (one granularity per ring), which count as relaxed byte-wise atomics:
            // no data race. The loads are plain load instructions, which a read-only mapping
            // permits.
            unsafe {
                bulk::load(destination.as_mut_ptr().cast::<u8>(), source, destination.len(), reach)
            }
        }
    }
}

/// Writes `bytes` over `destination`. Both must have the same length.
#[inline(always)]
fn copy_init(destination: &mut [MaybeUninit<u8>], bytes: &[u8]) {
    debug_assert_eq!(destination.len(), bytes.len());
    for (to, from) in destination.iter_mut().zip(bytes) {
        to.write(*from);
    }
}

/// Replaces `value` by a copy that may be torn: any bytes are a valid `T`.
///
/// # Panics
/// If `shared` is smaller than a `T`.
#[inline(always)]
pub fn load_value<T: Pod>(granularity: Granularity, shared: &[AtomicU64], value: &mut T) {
    let bytes = bytemuck::bytes_of_mut(value);
    // SAFETY: the same bytes; `load` only writes to them, and writes only initialised bytes.
    let bytes = unsafe {
        core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast::<MaybeUninit<u8>>(), bytes.len())
    };
    load(granularity, Reach::Beyond, shared, bytes);
}

/// A `T` that has been copied out but not yet validated: its bytes may be torn.
#[derive(Debug)]
pub struct Landing<T>(MaybeUninit<T>);

impl<T: Pod> Landing<T> {
    /// Copies a `T` from the start of `shared`.
    ///
    /// # Panics
    /// If `shared` is smaller than a `T`.
    #[inline(always)]
    pub fn load(granularity: Granularity, shared: &[AtomicU64]) -> Self {
        let mut landing = MaybeUninit::<T>::uninit();
        let start = landing.as_mut_ptr().cast::<MaybeUninit<u8>>();
        // SAFETY: `start` points to the `size_of::<T>()` bytes of `landing`, which lives through
        // the borrow; `MaybeUninit<u8>` has no invalid values and alignment 1.
        let bytes = unsafe { core::slice::from_raw_parts_mut(start, size_of::<T>()) };
        load(granularity, Reach::Beyond, shared, bytes);
        Self(landing)
    }

    /// The value. The caller has validated the stamp of the slot after the copy.
    #[inline(always)]
    pub fn accept(self) -> T {
        // SAFETY: `load`, the only constructor, has written every byte, and every bit pattern is a
        // valid `T`.
        unsafe { self.0.assume_init() }
    }
}

/// Replaces the content of `destination` with the first `bytes` bytes of `shared`.
///
/// # Panics
/// If `shared` is smaller than `bytes`.
#[inline(always)]
pub fn load_vec(
    granularity: Granularity,
    reach: Reach,
    shared: &[AtomicU64],
    bytes: usize,
    destination: &mut Vec<u8>,
) {
    destination.clear();
    destination.reserve(bytes);
    load(granularity, reach, shared, &mut destination.spare_capacity_mut()[..bytes]);
    // SAFETY: the capacity is at least `bytes` (reserved above on an empty vector), and `load` has
    // written all of the first `bytes` bytes.
    unsafe { destination.set_len(bytes) }
}

/// Writes a payload piece by piece, directly into its slot.
///
/// Shared memory cannot be handed out as `&mut [u8]` while consumers may read it, so this writer is
/// the sound way to build a message in place. It is the argument of the closure given to
/// [`Producer::publish_with`](crate::Producer::publish_with).
#[derive(Debug)]
pub struct SlotWriter<'a> {
    shared: &'a [AtomicU64],
    granularity: Granularity,
    capacity: usize,
    written: usize,
    /// The bytes of the last, incomplete word, for rings of word granularity.
    partial: [u8; WORD],
}

impl<'a> SlotWriter<'a> {
    #[cfg_attr(loom, allow(dead_code))] // byte messages are not modelled
    pub(crate) fn new(granularity: Granularity, shared: &'a [AtomicU64], capacity: usize) -> Self {
        debug_assert!(capacity <= shared.len() * WORD);
        Self { shared, granularity, capacity, written: 0, partial: [0; WORD] }
    }

    /// Appends `bytes` to the message.
    ///
    /// # Errors
    /// [`TooLarge`] if the message would exceed the slot. Then nothing is appended.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        if bytes.len() > self.remaining() {
            return Err(TooLarge {
                bytes: self.written.saturating_add(bytes.len()),
                slot_bytes: self.capacity,
            });
        }
        match self.granularity {
            Granularity::Words => self.write_words(bytes),
            Granularity::Bulk => self.write_bulk(bytes),
        }
        self.written += bytes.len();
        hit(Step::PublishPiece);
        Ok(())
    }

    /// Bytes appended so far.
    pub fn written(&self) -> usize {
        self.written
    }

    /// Bytes that can still be appended.
    pub fn remaining(&self) -> usize {
        self.capacity - self.written
    }

    fn write_words(&mut self, mut bytes: &[u8]) {
        let mut word = self.written / WORD;
        let filled = self.written % WORD;
        if filled > 0 {
            let (head, rest) = bytes.split_at(bytes.len().min(WORD - filled));
            self.partial[filled..filled + head.len()].copy_from_slice(head);
            self.shared[word].store(u64::from_ne_bytes(self.partial), Ordering::Relaxed);
            if filled + head.len() < WORD {
                return;
            }
            word += 1;
            bytes = rest;
        }
        store(Granularity::Words, &self.shared[word..], bytes);
        self.partial = partial_word(&bytes[bytes.len() / WORD * WORD..]);
    }

    fn write_bulk(&mut self, bytes: &[u8]) {
        let start = self.shared.as_ptr().cast::<u8>().cast_mut();
        // SAFETY: `written` is at most the capacity, which is at most the bytes of `shared`.
        let destination = unsafe { start.add(self.written) };
        // SAFETY: as in `store`; `write` has checked that `bytes` fits after the `written` bytes.
        unsafe { bulk::store(destination, bytes.as_ptr(), bytes.len()) }
    }
}

/// A message does not fit into a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    /// Bytes of the message.
    pub bytes: usize,
    /// Bytes that a slot of this ring holds.
    pub slot_bytes: usize,
}

impl core::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "a message of {} bytes does not fit into slots of {} bytes: \
             split it, or create the ring with larger slot_bytes",
            self.bytes, self.slot_bytes
        )
    }
}

impl core::error::Error for TooLarge {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::zeroed;

    fn pattern(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| (i * 7 + i / 251 + 1) as u8).collect()
    }

    fn granularities() -> impl Iterator<Item = Granularity> {
        [Granularity::Words, Granularity::of(usize::MAX)].into_iter()
    }

    #[test]
    fn copies_of_every_length_arrive_and_touch_nothing_else() {
        for granularity in granularities() {
            let thresholds = [2, 4, 8, 16, 32]
                .into_iter()
                .flat_map(|kib: usize| [(kib << 10) - 1, kib << 10, (kib << 10) + 1]);
            for bytes in (0..700).chain(thresholds).chain([70_001]) {
                let shared = zeroed(bytes.div_ceil(WORD) + 16);
                let source = pattern(bytes);
                store(granularity, &shared, &source);
                for reach in [Reach::Core, Reach::Beyond] {
                    let mut back = vec![0xAA; 3];
                    load_vec(granularity, reach, &shared, bytes, &mut back);
                    assert_eq!(back, source, "{granularity:?}, {reach:?}, {bytes} bytes");
                }
                assert!(
                    shared[bytes.div_ceil(WORD)..].iter().all(|w| w.load(Ordering::Relaxed) == 0),
                    "{granularity:?}, {bytes} bytes: wrote past the end"
                );
            }
        }
    }

    #[test]
    fn unaligned_sources_and_destinations_are_fine() {
        for (granularity, bytes) in granularities()
            .flat_map(|granularity| [600, 2200, 5000].map(|bytes| (granularity, bytes)))
        {
            let source = pattern(bytes);
            for offset in 0..64 {
                let shared = zeroed(bytes.div_ceil(WORD) + 8);
                store(granularity, &shared, &source[offset..]);
                let mut space = vec![MaybeUninit::new(0xEE); bytes + 100];
                load(granularity, Reach::Beyond, &shared, &mut space[offset..bytes]);
                // SAFETY: every element was initialised above.
                let got: Vec<u8> = space.iter().map(|b| unsafe { b.assume_init() }).collect();
                assert_eq!(got[offset..bytes], source[offset..]);
                assert!(got[..offset].iter().chain(&got[bytes..]).all(|b| *b == 0xEE));
                assert!(
                    shared[(bytes - offset).div_ceil(WORD)..]
                        .iter()
                        .all(|w| w.load(Ordering::Relaxed) == 0)
                );
            }
        }
    }

    #[test]
    fn pieces_of_any_size_make_the_same_message() {
        let source = pattern(500);
        for granularity in granularities() {
            for piece in 1..70 {
                let shared = zeroed(64);
                let mut writer = SlotWriter::new(granularity, &shared, 500);
                for chunk in source.chunks(piece) {
                    writer.write(chunk).unwrap();
                }
                assert_eq!((writer.written(), writer.remaining()), (500, 0));
                assert_eq!(writer.write(b"x"), Err(TooLarge { bytes: 501, slot_bytes: 500 }));
                let mut back = Vec::new();
                load_vec(granularity, Reach::Beyond, &shared, 500, &mut back);
                assert_eq!(back, source, "{granularity:?}, pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_landing_keeps_every_byte() {
        let value: [u8; 48] = pattern(48).try_into().unwrap();
        let shared = zeroed(6);
        store(Granularity::Words, &shared, &value);
        assert_eq!(Landing::<[u8; 48]>::load(Granularity::Words, &shared).accept(), value);
    }

    #[test]
    #[should_panic(expected = "larger than its slot")]
    fn a_payload_larger_than_the_slot_panics() {
        store(Granularity::Words, &zeroed(1), &[0; 9]);
    }
}
