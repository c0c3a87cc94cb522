//! The memory of a segment, as word indices: the ABI.
//!
//! A segment is an array of 64-bit words. This module maps (field, slot, word) to an index with
//! checked arithmetic, and does not depend on where the words are stored. `docs/layout.md` holds
//! the byte-accurate table, which a test compares with the constants below.
//!
//! The words up to [`TABLE_WORD`] are written once, before [`MAGIC`], and never change. Everything
//! that changes is on cache lines of its own, 128 bytes apart, because adjacent-line prefetchers
//! fetch lines in pairs.

use crate::failpoint::{Step, hit};
use crate::sync::{AtomicU64, Ordering, fence};

/// Bytes of a word.
pub const WORD: usize = 8;
/// Words of a cache line (64 bytes on x86-64 and most of aarch64).
pub const LINE: usize = 8;
/// Words of a page. Slots start on a page of their own, so that they can be mapped separately from
/// the rest.
pub const PAGE: usize = 512;

/// "SEQRING1" as the bytes of a native word. Written last: a segment without it is unfinished.
pub const MAGIC: usize = 0;
/// The [`ABI_VERSION`] of the creator.
pub const ABI: usize = 1;
/// Size of the whole segment in bytes.
pub const SEGMENT_BYTES: usize = 2;
/// Random identity of this segment, which tells it from a later segment of the same name.
pub const INSTANCE: usize = 3;
/// The [`Kind`] of the messages.
pub const KIND: usize = 4;
/// Bytes of the largest payload. For fixed messages, every payload has this size.
pub const PAYLOAD_BYTES: usize = 5;
/// Alignment of the message type in bytes.
pub const PAYLOAD_ALIGN: usize = 6;
/// Number of slots.
pub const SLOTS: usize = 7;
/// Words from one slot to the next.
pub const STRIDE: usize = 8;
/// Words from the start of a slot to its payload.
pub const PAYLOAD_WORD: usize = 9;
/// Word index of slot 0.
pub const SLOTS_WORD: usize = 10;
/// The [`Granularity`] of payload accesses.
pub const GRANULARITY: usize = 11;
/// Bytes of the ring's name, the first text at [`TEXT_WORD`].
pub const NAME_BYTES: usize = 12;
/// Bytes of the type name, the second text.
pub const TYPE_BYTES: usize = 13;
/// Bytes of the caller's metadata, the third text.
pub const META_BYTES: usize = 14;
/// Nanoseconds since the Unix epoch at creation; for display only.
pub const CREATED: usize = 15;
/// Number of rows of the reader table, at least 1.
pub const READERS: usize = 16;
/// Word index of the reader table. The table is on pages of its own, the only pages that registered
/// consumers can write.
pub const TABLE_WORD: usize = 17;
/// Number of producers that the ring may have at a time: 1, or the number of producer rows.
pub const PRODUCERS: usize = 18;

/// 1 if consumers may sleep until the producer wakes them, 0 if producers do not check for sleeping
/// consumers.
pub const PARKABLE: usize = 19;

/// [`IDLE`], [`OPEN`], [`CLOSED`] or [`SUPERSEDED`]. Written by the producer, and by the process
/// that replaces the segment.
pub const STATE: usize = 32;
/// Number of producers that this segment has had. Each takeover adds one.
pub const EPOCH: usize = 33;
/// Process id of the producer; for display only.
pub const PRODUCER_PID: usize = 34;

/// Number of messages published so far, which is the sequence of the next message. Alone on its
/// line. In rings of several producers: the number of sequences claimed.
pub const HEAD: usize = 48;

/// First word of the texts (name, type name, metadata, each padded to whole words). The words in
/// between are reserved and zero.
pub const TEXT_WORD: usize = 128;

/// Word of the reader table: the wake word on which consumers sleep that wait for a message (see
/// `protocol::wake`).
pub const BELL: usize = 0;
/// Word of the reader table: the wake word on which producers sleep that wait for space.
pub const ROOM: usize = 16;
/// Word of the reader table. Low 16 bits: how many rows, counted from the first, may be taken. Bits
/// above: how often a row was taken.
pub const ROSTER: usize = 32;
/// First word of row 0 of the reader table. The words in between are reserved and zero.
pub const ROWS: usize = 64;
/// Words of a row: a pair of lines for the words that the consumer writes on every message, and a
/// pair for the rest.
pub const ROW: usize = 32;
/// A reader table has at most this many rows.
pub const MAX_READERS: usize = 4096;

/// Word of a row: sequence of the consumer's next message, the first that it has not read.
pub const ROW_CURSOR: usize = 0;
/// Word of a row: number of messages received.
pub const ROW_RECEIVED: usize = 1;
/// Word of a row: number of messages lost.
pub const ROW_LOST: usize = 2;
/// Word of a row: the longest lag that the consumer has measured, in messages. It measures once a
/// lap.
pub const ROW_LONGEST_LAG: usize = 3;
/// Word of a row: one more than the sequence at which a successor of the same name continues; 0 if
/// the consumer cannot be resumed.
pub const ROW_CHECKPOINT: usize = 4;
/// Word of a row: how often the consumer has slept.
pub const ROW_SLEEPS: usize = 5;
/// Word of a row: process id of the consumer; for display only.
pub const ROW_PID: usize = 6;
/// Word of a row: [`FREE`], [`JOINED`], [`GATING`] or [`EVICTED`] in the low 8 bits; in the bits
/// above, how often the row was taken.
pub const ROW_STATE: usize = 16;
/// Word of a row, incremented by the producer: the consumer must read its state and
/// [`ROW_SKIP_TO`].
pub const ROW_COMMANDS: usize = 17;
/// Word of a row, written by the producer: the sequence at which the consumer must continue, if its
/// cursor is before it.
pub const ROW_SKIP_TO: usize = 18;
/// Word of a row: bytes of the consumer's name.
pub const ROW_NAME_BYTES: usize = 19;
/// First word of a row's name.
pub const ROW_NAME: usize = 20;
/// Word of a row, written by the producer: how often the producer has waited for this consumer. Not
/// on the line of [`ROW_COMMANDS`], which the consumer reads with every message.
pub const ROW_WAITS: usize = 30;
/// Word of a row, written by the producer: how long the producer has waited for this consumer, in
/// nanoseconds.
pub const ROW_WAITED: usize = 31;
/// A consumer's name is at most this long, in bytes.
pub const MAX_READER_NAME_BYTES: usize = (ROW_WAITS - ROW_NAME) * WORD;

/// Words of a producer row: a pair of lines. Only rings of several producers have these rows; they
/// follow the reader rows.
pub const PRODUCER_ROW: usize = 16;
/// A ring has at most this many producers at a time.
pub const MAX_PRODUCERS: usize = 256;
/// Word of a producer row: one more than the sequence that its producer is about to claim, or has
/// claimed and not finished; 0 for none.
pub const ROW_ANNOUNCE: usize = 0;
/// Word of a producer row: process id of the producer; for display only.
pub const ROW_PRODUCER_PID: usize = 1;

/// The row has no consumer.
pub const FREE: u64 = 0;
/// The row's consumer is registered and does not gate.
pub const JOINED: u64 = 1;
/// The row's consumer gates: the producer does not overwrite messages that the consumer has not
/// read.
pub const GATING: u64 = 2;
/// The producer has evicted the row's consumer.
pub const EVICTED: u64 = 3;

/// Word of a slot that holds its stamp (see `slot`).
pub const SLOT_STAMP: usize = 0;
/// Word of a slot that holds the message's length, in rings of variable messages whose mark shares
/// its stamp's line.
pub const SLOT_LENGTH: usize = 1;
/// Word of a slot that holds its mark, if the mark has a line of its own.
pub const SLOT_MARK: usize = LINE;
/// Word of a slot that holds the message's length, if the mark has a line of its own.
pub const SLOT_LENGTH_APART: usize = LINE + 1;

/// The stamp of a slot while message `sequence` is being written.
#[inline(always)]
pub const fn writing(sequence: u64) -> u64 {
    stamp(sequence, 1)
}

/// The stamp of a slot once message `sequence` can be read.
#[inline(always)]
pub const fn ready(sequence: u64) -> u64 {
    stamp(sequence, 2)
}

/// The stamp of a slot when there is no message `sequence`, and there will be none.
#[inline(always)]
pub const fn tombstone(sequence: u64) -> u64 {
    stamp(sequence, 3)
}

/// Wrapping arithmetic: valid sequences stay below 2^62, and larger ones from corrupt memory must
/// not overflow.
#[inline(always)]
const fn stamp(sequence: u64, step: u64) -> u64 {
    sequence.wrapping_mul(4).wrapping_add(step)
}

/// Value of [`MAGIC`].
pub const MAGIC_VALUE: u64 = u64::from_ne_bytes(*b"SEQRING1");
/// Version of this layout. A segment of any other version is refused.
pub const ABI_VERSION: u64 = 1;

/// The ring has had no producer yet.
pub const IDLE: u64 = 0;
/// A producer has the ring. If its kernel lock is free, the producer has died.
pub const OPEN: u64 = 1;
/// The producer has closed the ring: no message will follow.
pub const CLOSED: u64 = 2;
/// Another segment has taken this one's name.
pub const SUPERSEDED: u64 = 3;

/// Sequences and heads stay below this bound: stamps are four times a sequence and must not
/// overflow.
pub const MAX_SEQUENCE: u64 = 1 << 62;
/// Largest size of a segment in bytes, so that no sum of sizes can overflow.
pub const MAX_SEGMENT_BYTES: u64 = 1 << 46;
/// Largest length of each text in bytes.
pub const MAX_TEXT_BYTES: u64 = 1 << 20;

/// Payloads of up to this many bytes are copied by words, larger ones in bulk (see `copy`).
pub const WORDS_UP_TO: usize = 64;

/// Slots of more words than this have payloads that are copied in bulk.
const LARGEST_BY_WORDS: usize = SLOT_LENGTH + 1 + WORDS_UP_TO / WORD;

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Messages of one size: each is one `T`.
    Fixed = 1,
    /// Byte messages, each with its length in the slot.
    Variable = 2,
}

/// How payload bytes are accessed. All users of a ring access them in the same way during its whole
/// life, because the memory model does not define accesses of different sizes to the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// Relaxed atomic 64-bit words.
    Words = 1,
    /// Inline assembly that stands for relaxed byte-wise accesses in no particular order.
    Bulk = 2,
}

impl Granularity {
    /// The granularity of a ring whose largest payload has `bytes` bytes.
    pub const fn of(bytes: usize) -> Self {
        if cfg!(all(not(loom), not(miri), any(target_arch = "x86_64", target_arch = "aarch64")))
            && bytes > WORDS_UP_TO
        {
            Self::Bulk
        } else {
            Self::Words
        }
    }
}

/// Payloads of up to this many bytes have their mark in the stamp (see `slot`), larger ones on a
/// line of its own.
pub const MARK_SHARED_UP_TO: usize = 256;

/// Word of a slot that holds its mark.
#[inline(always)]
pub const fn mark_word(payload_bytes: usize) -> usize {
    if payload_bytes > MARK_SHARED_UP_TO { SLOT_MARK } else { SLOT_STAMP }
}

/// Word of a slot that holds the length of a variable message.
#[inline(always)]
pub const fn length_word(payload_bytes: usize) -> usize {
    if payload_bytes > MARK_SHARED_UP_TO { SLOT_LENGTH_APART } else { SLOT_LENGTH }
}

/// Words from the start of a slot to its payload.
///
/// Small payloads directly follow the stamp (and the length), to share their line. Bulk payloads
/// start on the next line, where copies are aligned, or after the line of the mark.
pub const fn payload_word(kind: Kind, payload_bytes: usize) -> usize {
    match (Granularity::of(payload_bytes), kind) {
        _ if payload_bytes > MARK_SHARED_UP_TO => 2 * LINE,
        (Granularity::Bulk, _) => LINE,
        (Granularity::Words, Kind::Fixed) => SLOT_STAMP + 1,
        (Granularity::Words, Kind::Variable) => SLOT_LENGTH + 1,
    }
}

/// Words from one slot to the next, or `None` if that overflows. Up to a line it is a power of two,
/// so that no slot that fits into a line straddles two. For larger payloads that are copied by
/// words, it is no more than they need, because each line must be transferred between cores. For
/// the others, it is a whole number of lines.
const fn stride(kind: Kind, payload_bytes: usize) -> Option<usize> {
    let words = payload_word(kind, payload_bytes) + payload_bytes.div_ceil(WORD);
    if words <= LINE {
        words.checked_next_power_of_two()
    } else if words <= LARGEST_BY_WORDS {
        Some(words)
    } else {
        words.checked_next_multiple_of(LINE)
    }
}

/// The properties of slots that follow from the message type. They are constants if the type fixes
/// the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Word of a slot that holds its mark.
    pub mark: usize,
    /// Words from one slot to the next.
    pub stride: usize,
}

impl Shape {
    /// The shape of slots of fixed messages of `payload_bytes` bytes.
    ///
    /// # Panics
    /// If the size of a slot would overflow.
    pub const fn fixed(payload_bytes: usize) -> Self {
        Self {
            mark: mark_word(payload_bytes),
            stride: stride(Kind::Fixed, payload_bytes).expect("a type is smaller than memory"),
        }
    }

    /// Whether the payloads are small ones, which are copied by words.
    #[inline(always)]
    pub const fn is_small(self) -> bool {
        self.stride <= LARGEST_BY_WORDS
    }

    /// Whether no line holds words of two slots.
    #[inline(always)]
    pub const fn is_lines(self) -> bool {
        self.stride % LINE == 0
    }

    /// Whether the mark has a line of its own, and the payload takes less than 4 KiB.
    #[inline(always)]
    pub const fn is_medium(self) -> bool {
        self.mark != SLOT_STAMP && self.stride < 2 * LINE + (4 << 10) / WORD
    }
}

/// Where the slots are and what they hold. Every function of the protocol works from a local,
/// validated copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// What a slot holds.
    pub kind: Kind,
    /// Bytes of the largest payload.
    pub payload_bytes: usize,
    /// Alignment of the message type in bytes.
    pub payload_align: usize,
    /// Number of slots, at least 1.
    pub slots: usize,
    /// Words from one slot to the next.
    pub stride: usize,
    /// Word index of slot 0.
    pub slots_word: usize,
    /// Number of rows of the reader table, 1 to [`MAX_READERS`].
    pub readers: usize,
    /// How many producers there may be at a time.
    pub producers: usize,
    /// Word index of the reader table; it ends at `slots_word`.
    pub table_word: usize,
}

/// The sizes that the creator of a ring chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the largest payload.
    pub payload_bytes: usize,
    /// Alignment of the message type in bytes.
    pub payload_align: usize,
    /// Number of slots.
    pub slots: usize,
    /// Number of rows of the reader table.
    pub readers: usize,
    /// How many producers there may be at a time.
    pub producers: usize,
}

/// A size that is refused: `what` is out of range with `value`, and `why` states the range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutOfRange {
    /// The quantity.
    pub what: &'static str,
    /// Its value.
    pub value: u64,
    /// The valid range.
    pub why: &'static str,
}

fn out_of_range<T>(what: &'static str, value: u64, why: &'static str) -> Result<T, OutOfRange> {
    Err(OutOfRange { what, value, why })
}

impl Geometry {
    /// The geometry of a new ring whose texts take `text_words` words.
    ///
    /// # Errors
    /// [`OutOfRange`] for sizes of zero and for segments beyond [`MAX_SEGMENT_BYTES`].
    pub fn plan(kind: Kind, sizes: Sizes, text_words: usize) -> Result<Self, OutOfRange> {
        let Sizes { payload_bytes, payload_align, slots, readers, producers } = sizes;
        if slots == 0 {
            return out_of_range("slots", 0, "a ring needs at least 1 slot");
        }
        if payload_bytes == 0 {
            return out_of_range(
                "slot_bytes",
                0,
                "a slot holds at least 1 byte \
                 (and message types must not be empty)",
            );
        }
        if readers == 0 || readers > MAX_READERS {
            return out_of_range(
                "readers",
                readers as u64,
                "a ring has room for 1 to 4096 registered consumers",
            );
        }
        if producers == 0 || producers > MAX_PRODUCERS {
            return out_of_range(
                "producers",
                producers as u64,
                "a ring has 1 to 256 producers at a time",
            );
        }
        let too_large = OutOfRange {
            what: "slots x slot_bytes",
            value: (slots as u64).saturating_mul(payload_bytes as u64),
            why: "a segment is at most 2^46 bytes",
        };
        let table_word =
            (TEXT_WORD + text_words).checked_next_multiple_of(PAGE).ok_or(too_large.clone())?;
        // A sole producer has no row.
        let rows = readers * ROW + if producers == 1 { 0 } else { producers * PRODUCER_ROW };
        let slots_word =
            (table_word + ROWS + rows).checked_next_multiple_of(PAGE).ok_or(too_large.clone())?;
        let stride = stride(kind, payload_bytes).ok_or(too_large.clone())?;
        let geometry = Self {
            kind,
            payload_bytes,
            payload_align,
            slots,
            stride,
            slots_word,
            readers,
            producers,
            table_word,
        };
        match geometry.segment_bytes() {
            Some(bytes) if bytes <= MAX_SEGMENT_BYTES => Ok(geometry),
            _ => Err(too_large),
        }
    }

    /// The shape of the slots.
    #[inline(always)]
    pub fn shape(&self) -> Shape {
        Shape { mark: mark_word(self.payload_bytes), stride: self.stride }
    }

    /// Bytes of the whole segment, or `None` if they exceed 64 bits.
    pub fn segment_bytes(&self) -> Option<u64> {
        let slots = (self.slots as u64).checked_mul(self.stride as u64)?;
        slots.checked_add(self.slots_word as u64)?.checked_mul(WORD as u64)
    }

    /// Index, in the reader table, of the words of producer row `row`.
    pub fn producer_row(&self, row: usize) -> usize {
        ROWS + self.readers * ROW + row * PRODUCER_ROW
    }

    /// Whether all slots fit into the second-level cache of one core of a common server processor.
    #[inline(always)]
    pub fn fits_core(&self) -> bool {
        const CORE_BYTES: usize = 1 << 20;
        self.slots * self.stride * WORD <= CORE_BYTES
    }

    /// Word index one past the last slot.
    pub fn end_word(&self) -> usize {
        self.slots_word + self.slots * self.stride
    }

    /// Word index of the slot of `sequence`.
    pub fn slot_word(&self, sequence: u64) -> usize {
        // The remainder is below `slots`, which is a usize.
        self.slots_word + (sequence % self.slots as u64) as usize * self.stride
    }
}

/// The place of one slot. It advances from slot to slot without a division or a multiplication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    at: usize,
    stride: usize,
    first: usize,
    end: usize,
}

impl Place {
    /// The place of `sequence`.
    pub fn of(geometry: &Geometry, sequence: u64) -> Self {
        Self {
            at: geometry.slot_word(sequence),
            stride: geometry.stride,
            first: geometry.slots_word,
            end: geometry.end_word(),
        }
    }

    /// The words of the slot.
    #[inline(always)]
    pub fn slot<'a>(&self, words: &'a [AtomicU64]) -> &'a [AtomicU64] {
        &words[self.at..self.at + self.stride]
    }

    /// Word index of the slot.
    #[inline(always)]
    pub fn word(&self) -> usize {
        self.at
    }

    /// Advances to the place of the next sequence.
    #[inline(always)]
    pub fn advance(&mut self) {
        self.at = self.following();
    }

    /// Adds a zero of [`LoadOrder`](crate::tuning::load_order) to the place. At the end of a lap
    /// that has no effect, because there the processor predicts the branch to the first slot, too.
    #[inline(always)]
    pub fn move_by(&mut self, zero: usize) {
        self.at += zero;
    }

    /// Word index of the place of the next sequence.
    #[inline(always)]
    pub fn following(&self) -> usize {
        let next = self.at + self.stride;
        if next == self.end { self.first } else { next }
    }

    /// The words of the slot before this one.
    #[inline(always)]
    pub fn previous_slot<'a>(&self, words: &'a [AtomicU64]) -> &'a [AtomicU64] {
        let end = if self.at == self.first { self.end } else { self.at };
        &words[end - self.stride..end]
    }

    /// The slots from this one to the last of the lap, as one piece of memory.
    #[inline(always)]
    pub fn rest_of_lap<'a>(&self, words: &'a [AtomicU64]) -> &'a [AtomicU64] {
        &words[self.at..self.end]
    }

    /// Up to `slots` slots from this one on, but not beyond the end of the lap, as one piece of
    /// memory.
    #[inline(always)]
    pub fn next_slots<'a>(&self, words: &'a [AtomicU64], slots: usize) -> &'a [AtomicU64] {
        &words[self.at..(self.at + slots * self.stride).min(self.end)]
    }

    /// Advances by `places` places of [`Place::rest_of_lap`].
    #[inline(always)]
    pub fn skip(&mut self, places: usize) {
        let next = self.at + places * self.stride;
        self.at = if next == self.end { self.first } else { next };
    }
}

/// The part of the header that never changes, copied once and validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Where the slots are.
    pub geometry: Geometry,
    /// Whether producers check for sleeping consumers.
    pub parkable: bool,
    /// Random identity of the segment.
    pub instance: u64,
    /// Nanoseconds since the Unix epoch at creation.
    pub created: u64,
    /// The ring's name, as its creator spelled it.
    pub name: Vec<u8>,
    /// Name of the message type.
    pub type_name: Vec<u8>,
    /// The caller's metadata.
    pub metadata: Vec<u8>,
}

/// Why a segment was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// No magic word: the segment is unfinished, or is not one of this crate.
    NoMagic(u64),
    /// Another version of the layout.
    Version(u64),
    /// A field that contradicts the others, the size of the memory, or the rules.
    Field(OutOfRange),
}

impl From<OutOfRange> for Refused {
    fn from(field: OutOfRange) -> Self {
        Self::Field(field)
    }
}

/// Number of words that texts of these lengths take.
pub fn text_words(name: usize, type_name: usize, metadata: usize) -> usize {
    [name, type_name, metadata].iter().map(|bytes| bytes.div_ceil(WORD)).sum()
}

impl Header {
    /// Writes the header into the zeroed memory of a new segment. The magic word comes last.
    ///
    /// # Panics
    /// If `words` is smaller than the geometry requires.
    pub fn write(&self, words: &[AtomicU64]) {
        let g = &self.geometry;
        let segment_bytes = g.segment_bytes().expect("a planned geometry has a size");
        let put = |word: usize, value: u64| {
            words[word].store(value, Ordering::Relaxed);
            hit(Step::CreateField);
        };
        put(ABI, ABI_VERSION);
        put(SEGMENT_BYTES, segment_bytes);
        put(INSTANCE, self.instance);
        put(KIND, g.kind as u64);
        put(PAYLOAD_BYTES, g.payload_bytes as u64);
        put(PAYLOAD_ALIGN, g.payload_align as u64);
        put(SLOTS, g.slots as u64);
        put(STRIDE, g.stride as u64);
        put(PAYLOAD_WORD, payload_word(g.kind, g.payload_bytes) as u64);
        put(SLOTS_WORD, g.slots_word as u64);
        put(GRANULARITY, Granularity::of(g.payload_bytes) as u64);
        put(NAME_BYTES, self.name.len() as u64);
        put(TYPE_BYTES, self.type_name.len() as u64);
        put(META_BYTES, self.metadata.len() as u64);
        put(CREATED, self.created);
        put(PARKABLE, self.parkable.into());
        put(READERS, g.readers as u64);
        put(TABLE_WORD, g.table_word as u64);
        put(PRODUCERS, g.producers as u64);
        let mut word = TEXT_WORD;
        for text in [&self.name, &self.type_name, &self.metadata] {
            for chunk in text.chunks(WORD) {
                let mut bytes = [0; WORD];
                bytes[..chunk.len()].copy_from_slice(chunk);
                put(word, u64::from_ne_bytes(bytes));
                word += 1;
            }
        }
        // Release: pairs with the acquire fence in `read`. A process that sees the magic word sees
        // all of the above. Without it, an opener could validate a header of zeros or half a name.
        words[MAGIC].store(MAGIC_VALUE, Ordering::Release);
        hit(Step::CreateMagic);
    }

    /// Copies the header out of `words` and validates the copy. No word is read twice.
    ///
    /// # Errors
    /// [`Refused`], with the first fault found. No value is used before it has been checked, so
    /// hostile memory yields an error and nothing else.
    pub fn read(words: &[AtomicU64]) -> Result<Self, Refused> {
        let available = words.len() as u64 * WORD as u64;
        if words.len() < TEXT_WORD {
            return Ok(out_of_range(
                "segment size in bytes",
                available,
                "a header alone takes 1024 bytes; \
                 the file is truncated or not a seqring segment",
            )?);
        }
        // Relaxed and a fence, not load(Acquire): on a read-only mapping, only relaxed loads are
        // defined.
        let magic = words[MAGIC].load(Ordering::Relaxed);
        if magic != MAGIC_VALUE {
            return Err(Refused::NoMagic(magic));
        }
        // Acquire: pairs with the release store of the magic word in `write`.
        fence(Ordering::Acquire);
        let field = |word: usize| words[word].load(Ordering::Relaxed);

        let version = field(ABI);
        if version != ABI_VERSION {
            return Err(Refused::Version(version));
        }
        let segment_bytes = field(SEGMENT_BYTES);
        if segment_bytes != available || segment_bytes > MAX_SEGMENT_BYTES {
            return Ok(out_of_range(
                "segment size in the header",
                segment_bytes,
                "it differs from the size of the file, \
                 or is beyond 2^46 bytes",
            )?);
        }
        let kind = match field(KIND) {
            1 => Kind::Fixed,
            2 => Kind::Variable,
            other => return Ok(out_of_range("kind", other, "known kinds are 1 and 2")?),
        };
        // Every value is below the size of the segment, and so below 2^46. No sum or product of two
        // values overflows 128 bits, and `plan` checks those that must stay below 64 bits.
        let small = |what: &'static str, word: usize, max: u64| match field(word) {
            value if value <= max => Ok(value as usize),
            value => out_of_range(what, value, "it is larger than the segment or its limit"),
        };
        let payload_bytes = small("payload bytes", PAYLOAD_BYTES, available)?;
        let payload_align = small("payload alignment", PAYLOAD_ALIGN, 1 << 29)?;
        let slots = small("slots", SLOTS, available)?;
        let readers = small("readers", READERS, MAX_READERS as u64)?;
        let producers = small("producers", PRODUCERS, MAX_PRODUCERS as u64)?;
        let name_bytes = small("name length", NAME_BYTES, MAX_TEXT_BYTES)?;
        let type_bytes = small("type name length", TYPE_BYTES, MAX_TEXT_BYTES)?;
        let meta_bytes = small("metadata length", META_BYTES, MAX_TEXT_BYTES)?;
        let sizes = Sizes { payload_bytes, payload_align, slots, readers, producers };
        let geometry = Geometry::plan(kind, sizes, text_words(name_bytes, type_bytes, meta_bytes))?;
        // Compared with the size of the file itself, not with the word of the header, which may
        // have changed since.
        if geometry.segment_bytes() != Some(available) {
            return Ok(out_of_range(
                "segment size",
                segment_bytes,
                "it contradicts the other fields of the header",
            )?);
        }
        // The remaining fields follow from these. They are in the segment for other languages, and
        // must agree.
        let derived = [
            ("slot stride", STRIDE, geometry.stride as u64),
            ("payload offset", PAYLOAD_WORD, payload_word(kind, payload_bytes) as u64),
            ("slots offset", SLOTS_WORD, geometry.slots_word as u64),
            ("reader table offset", TABLE_WORD, geometry.table_word as u64),
            ("copy granularity", GRANULARITY, Granularity::of(payload_bytes) as u64),
        ];
        for (what, word, expected) in derived {
            let value = field(word);
            if value != expected {
                return Ok(out_of_range(
                    what,
                    value,
                    "it contradicts the other fields of the header",
                )?);
            }
        }
        let parkable = match field(PARKABLE) {
            value @ 0..=1 => value == 1,
            other => return Ok(out_of_range("parkable", other, "it is 0 or 1")?),
        };
        let head = field(HEAD);
        if head > MAX_SEQUENCE {
            return Ok(out_of_range("head", head, "sequences stay below 2^62")?);
        }
        let mut word = TEXT_WORD;
        let mut text = |bytes: usize| {
            let place = &words[word..word + bytes.div_ceil(WORD)];
            let mut text: Vec<u8> =
                place.iter().flat_map(|w| w.load(Ordering::Relaxed).to_ne_bytes()).collect();
            text.truncate(bytes);
            word += bytes.div_ceil(WORD);
            text
        };
        Ok(Self {
            geometry,
            parkable,
            instance: field(INSTANCE),
            created: field(CREATED),
            name: text(name_bytes),
            type_name: text(type_bytes),
            metadata: text(meta_bytes),
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
