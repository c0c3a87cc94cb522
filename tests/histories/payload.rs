//! Payloads that tell which message they are, and whether they are whole.

use bytemuck::Pod;

/// Odd, so that multiplication by it can be undone.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const INVERSE: u64 = inverse(FACTOR);

/// The multiplicative inverse of an odd number modulo 2^64: Newton's iteration doubles the right
/// bits each time.
const fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    let mut bits = 3;
    while bits < 64 {
        x = x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x)));
        bits *= 2;
    }
    x
}

/// The finalizer of SplitMix64.
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The words of message `sequence`, without end. The first tells the sequence.
fn words(sequence: u64) -> impl Iterator<Item = u64> {
    let first = sequence.wrapping_mul(FACTOR) ^ FACTOR;
    std::iter::once(first)
        .chain((1..).map(move |i: u64| mix(first.wrapping_add(i.wrapping_mul(FACTOR)))))
}

fn sequence_of(first: u64) -> u64 {
    (first ^ FACTOR).wrapping_mul(INVERSE)
}

/// The message `sequence` of a ring of bytes: its length is also the sequence's.
pub fn bytes(sequence: u64, slot_bytes: usize) -> Vec<u8> {
    let length = (mix(!sequence) % (slot_bytes as u64 + 1)) as usize;
    let mut bytes: Vec<u8> =
        words(sequence).take(length.div_ceil(8)).flat_map(u64::to_ne_bytes).collect();
    bytes.truncate(length);
    bytes
}

/// The message `sequence` of a ring of arrays.
pub fn array<const N: usize>(sequence: u64) -> [u64; N] {
    let mut words = words(sequence);
    std::array::from_fn(|_| words.next().expect("without end"))
}

/// Which message a payload of bytes is, if it is one; `hint` is tried first, for payloads too short
/// to say.
pub fn identify_bytes(payload: &[u8], slot_bytes: usize, hint: u64) -> Option<u64> {
    let told = payload.first_chunk().map(|first| sequence_of(u64::from_ne_bytes(*first)));
    [Some(hint), told]
        .into_iter()
        .flatten()
        .find(|sequence| bytes(*sequence, slot_bytes) == payload)
}

/// Which message a payload of words is, if it is one.
pub fn identify_array<const N: usize>(payload: &[u64; N]) -> Option<u64>
where
    [u64; N]: Pod,
{
    let sequence = sequence_of(payload[0]);
    (array(sequence) == *payload).then_some(sequence)
}

#[test]
fn payloads_tell_their_sequence_and_damage() {
    for sequence in [0, 1, 2, 1000, u64::MAX / 3] {
        let mut whole = array::<6>(sequence);
        assert_eq!(identify_array(&whole), Some(sequence));
        whole[5] ^= 1 << 40;
        assert_eq!(identify_array(&whole), None);
        let mut message = bytes(sequence, 4096);
        assert_eq!(identify_bytes(&message, 4096, 77), Some(sequence));
        *message.last_mut().expect("longer than one byte") ^= 1;
        assert_eq!(identify_bytes(&message, 4096, 77), None);
    }
}

#[test]
fn halves_of_two_messages_are_none() {
    let (old, new) = (array::<64>(3), array::<64>(67));
    for cut in 1..64 {
        let mut torn = old;
        torn[..cut].copy_from_slice(&new[..cut]);
        assert_eq!(identify_array(&torn), None, "cut at {cut}");
    }
}
