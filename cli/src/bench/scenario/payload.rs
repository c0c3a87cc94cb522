//! The content of a message, made and checked.
//!
//! `writer and sequence u64 LE | send time u64 LE, ns on CLOCK_MONOTONIC | random bytes |
//! CRC-32 of all before it, u32 LE`. The first word has the writer, counted from 0, in its upper 16
//! bits; each writer counts its own messages.

use crc32fast::Hasher;

const HEAD_BYTES: usize = 16;
const CRC_BYTES: usize = 4;
/// Of the first word; the rest of it is the writer.
const SEQUENCE_BITS: u32 = 48;

/// The smallest message: no random bytes.
pub const OVERHEAD_BYTES: usize = HEAD_BYTES + CRC_BYTES;

/// Makes messages fast enough that making them is not what is measured.
///
/// A few buffers of random bytes are prepared and used in turn. Only the head of
/// a buffer changes per message, so the CRC of the whole is combined from that
/// of the head and the known one of the rest.
pub struct Generator {
    writer: u16,
    buffers: Vec<Buffer>,
}

struct Buffer {
    bytes: Vec<u8>,
    /// Over the random bytes.
    rest: Hasher,
}

/// How many buffers: a prime that does not divide the number of slots. So two
/// messages that follow each other in one slot never share their random bytes, and
/// a torn mixture of them cannot pass for whole. (Several writers take the slots as it comes:
/// there, most do not.)
pub fn buffer_count(slots: usize) -> usize {
    [3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59]
        .into_iter()
        .find(|prime| !slots.is_multiple_of(*prime))
        .expect("the product of these primes is beyond 2^64")
}

impl Generator {
    /// Prepares messages of `slot_bytes` for a queue of `slots`, by the writer number `writer`.
    ///
    /// # Panics
    ///
    /// When `slot_bytes` is below [`OVERHEAD_BYTES`].
    pub fn new(writer: u16, slot_bytes: usize, slots: usize) -> Self {
        assert!(slot_bytes >= OVERHEAD_BYTES, "{slot_bytes} bytes are too few");
        let buffers = (0..buffer_count(slots)).map(|_| Buffer::random(slot_bytes)).collect();
        Self { writer, buffers }
    }

    /// The message number `sequence`, sent at `now_ns`.
    pub fn message(&mut self, sequence: u64, now_ns: u64) -> &[u8] {
        // The remainder is below the number of buffers, so it is a `usize`.
        let index = (sequence % self.buffers.len() as u64) as usize;
        let buffer = &mut self.buffers[index];
        buffer.stamp(u64::from(self.writer) << SEQUENCE_BITS | sequence, now_ns);
        &buffer.bytes
    }
}

impl Buffer {
    fn random(slot_bytes: usize) -> Self {
        let mut bytes = vec![0; slot_bytes];
        let random = &mut bytes[HEAD_BYTES..slot_bytes - CRC_BYTES];
        rand::fill(random);
        let mut rest = Hasher::new();
        rest.update(random);
        Self { bytes, rest }
    }

    fn stamp(&mut self, number: u64, now_ns: u64) {
        self.bytes[..8].copy_from_slice(&number.to_le_bytes());
        self.bytes[8..HEAD_BYTES].copy_from_slice(&now_ns.to_le_bytes());
        let mut whole = Hasher::new();
        whole.update(&self.bytes[..HEAD_BYTES]);
        whole.combine(&self.rest);
        let crc_at = self.bytes.len() - CRC_BYTES;
        self.bytes[crc_at..].copy_from_slice(&whole.finalize().to_le_bytes());
    }
}

/// What a message says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Who wrote it, from 0.
    pub writer: u16,
    /// Its number among the messages of its writer, from 0.
    pub sequence: u64,
    /// When it was sent, in nanoseconds on CLOCK_MONOTONIC.
    pub sent_ns: u64,
}

/// Reads the head; `None` if the message is too short to have one.
pub fn head(message: &[u8]) -> Option<Head> {
    let (number, rest) = message.split_first_chunk()?;
    let (sent_ns, _) = rest.split_first_chunk()?;
    let number = u64::from_le_bytes(*number);
    Some(Head {
        // What is left of the word has 16 bits.
        writer: (number >> SEQUENCE_BITS) as u16,
        sequence: number & ((1 << SEQUENCE_BITS) - 1),
        sent_ns: u64::from_le_bytes(*sent_ns),
    })
}

/// Whether the CRC-32 at the end is that of all before it.
pub fn is_intact(message: &[u8]) -> bool {
    message
        .split_last_chunk::<CRC_BYTES>()
        .is_some_and(|(content, crc)| crc32fast::hash(content) == u32::from_le_bytes(*crc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_intact_and_carry_their_head() {
        for slot_bytes in [OVERHEAD_BYTES, 21, 64, 1000, 100_003] {
            let mut generator = Generator::new(7, slot_bytes, 10);
            for sequence in [0, 1, 2, 3, (1 << 48) - 1] {
                let message = generator.message(sequence, 77);
                assert_eq!(message.len(), slot_bytes);
                assert!(is_intact(message), "{slot_bytes} bytes, message {sequence}");
                assert_eq!(head(message), Some(Head { writer: 7, sequence, sent_ns: 77 }));
            }
        }
    }

    #[test]
    fn a_changed_byte_is_seen_wherever_it_is() {
        let mut generator = Generator::new(0, 50, 10);
        let message = generator.message(5, 6).to_vec();
        for at in 0..message.len() {
            let mut changed = message.clone();
            changed[at] ^= 0x10;
            assert!(!is_intact(&changed), "byte {at}");
        }
    }

    #[test]
    fn a_mixture_of_two_laps_is_seen_wherever_it_is_torn() {
        for slots in [1, 3, 10, 15, 105] {
            let mut generator = Generator::new(0, 64, slots);
            let old = generator.message(4, 1).to_vec();
            let new = generator.message(4 + slots as u64, 2).to_vec();
            for at in 1..new.len() - CRC_BYTES {
                let overtaken = [&new[..at], &old[at..]].concat();
                assert!(!is_intact(&overtaken), "{slots} slots, torn at {at}");
                let overtaking = [&old[..at], &new[at..]].concat();
                assert!(!is_intact(&overtaking), "{slots} slots, torn at {at}");
            }
        }
    }

    #[test]
    fn the_buffer_count_never_divides_the_slots() {
        for slots in 1..100_000 {
            assert_ne!(slots % buffer_count(slots), 0, "{slots} slots");
        }
    }

    #[test]
    fn what_is_too_short_is_neither_intact_nor_has_a_head() {
        assert!(!is_intact(&[0; 3]));
        assert_eq!(head(&[0; 15]), None);
    }
}
