//! Messages that tell who wrote them: all of a message follows from its sequence and its author.

use crate::random::Random;

/// Both kinds of copy happen: most messages are far smaller than a slot, some fill it.
pub const SLOT_BYTES: usize = 16 * 1024;

const AUTHOR_BYTES: usize = size_of::<u64>();

/// Message `sequence` as `author` writes it. Authors differ, so a message that is written once more by a successor, though it had been received,
/// is another message.
pub fn message(sequence: u64, author: u64) -> Vec<u8> {
    let mut random = Random(sequence ^ author.rotate_left(32));
    let length = AUTHOR_BYTES
        + match random.below(8) {
            0 => SLOT_BYTES - AUTHOR_BYTES,
            1 => 257 + random.below(4096) as usize,
            _ => random.below(256) as usize,
        };
    let mut bytes = Vec::with_capacity(length + 8);
    bytes.extend_from_slice(&author.to_ne_bytes());
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_ne_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Who wrote message `sequence`.
///
/// # Panics
/// If these are not the bytes of this message, whole.
pub fn author_of(sequence: u64, bytes: &[u8]) -> u64 {
    let author = bytes.first_chunk().unwrap_or_else(|| panic!("message {sequence} has {} bytes", bytes.len()));
    let author = u64::from_ne_bytes(*author);
    assert!(bytes == message(sequence, author), "message {sequence} of author {author} is damaged");
    author
}
