//! Messages that tell who wrote them: all of a message follows from its author and its number.

use crate::random::Random;

/// Both kinds of copy happen: most messages are far smaller than a slot, some fill it.
pub const SLOT_BYTES: usize = 16 * 1024;

/// The author and the number.
const HEAD_BYTES: usize = 2 * size_of::<u64>();

/// Which message it is. The number of a sole producer's message is its sequence; of several
/// producers, each numbers its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    pub author: u64,
    pub number: u64,
}

/// The message. Authors differ, so a message that is written once more by a successor, though it
/// had been received, is another message.
pub fn message(id: Id) -> Vec<u8> {
    let Id { author, number } = id;
    let mut random = Random(number ^ author.rotate_left(32));
    let length = HEAD_BYTES
        + match random.below(8) {
            0 => SLOT_BYTES - HEAD_BYTES,
            1 => 257 + random.below(4096) as usize,
            _ => random.below(256) as usize,
        };
    let mut bytes = Vec::with_capacity(length + 8);
    bytes.extend_from_slice(&author.to_ne_bytes());
    bytes.extend_from_slice(&number.to_ne_bytes());
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_ne_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Which message this is, received as `sequence`.
///
/// # Panics
/// If these are not the bytes of a message, whole.
pub fn id_of(sequence: u64, bytes: &[u8]) -> Id {
    let word = |at: usize| Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let id = word(0).zip(word(8)).map(|(author, number)| Id { author, number });
    let id = id.unwrap_or_else(|| panic!("message {sequence} has {} bytes", bytes.len()));
    assert!(bytes == message(id), "message {sequence}, {id:?}, is damaged");
    id
}
