//! What travels: words that carry the number of their message.

use bytemuck::{Pod, Zeroable};

/// Up to this size every word depends on the number of the message and is checked; larger messages
/// carry it at both ends, and are copied whole by both sides all the same.
const WORDS_CHECKED: usize = 32;

/// A message of `W` words.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct Payload<const W: usize>(pub [u64; W]);

// SAFETY: an array of integers: all zeros is a value of it.
unsafe impl<const W: usize> Zeroable for Payload<W> {}
// SAFETY: transparent over an array of integers, which has no padding and for which every bit
// pattern is a value.
unsafe impl<const W: usize> Pod for Payload<W> {}

impl<const W: usize> Payload<W> {
    /// On the heap from the start: the largest do not belong on a stack.
    pub fn boxed() -> Box<Self> {
        let mut payload: Box<Self> = bytemuck::zeroed_box();
        payload.fill();
        payload
    }

    /// So many, all of them in memory of their own: what was never written would be read from the
    /// kernel's one page of zeros, which stays in the cache.
    pub fn several(count: usize) -> Vec<Self> {
        let mut payloads: Vec<Self> = bytemuck::zeroed_vec(count);
        payloads.iter_mut().for_each(Self::fill);
        payloads
    }

    fn fill(&mut self) {
        self.0.fill(0x5A5A_5A5A_5A5A_5A5A);
    }

    /// Makes this message number `n`.
    #[inline(always)]
    pub fn mark(&mut self, n: u64) {
        if W <= WORDS_CHECKED {
            for (word, value) in self.0.iter_mut().zip(n..) {
                *word = value;
            }
        } else {
            self.0[0] = n;
            self.0[W - 1] = !n;
        }
    }

    /// The number of this message, unless it is damaged.
    #[inline(always)]
    pub fn number(&self) -> Option<u64> {
        let n = self.0[0];
        let intact = if W <= WORDS_CHECKED {
            let mut difference = 0;
            for (word, expected) in self.0.iter().zip(n..) {
                difference |= word ^ expected;
            }
            difference == 0
        } else {
            self.0[W - 1] == !n
        };
        intact.then_some(n)
    }

    /// The same as bytes.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        bytemuck::bytes_of(self)
    }

    /// The same as bytes to be overwritten.
    #[inline(always)]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::bytes_of_mut(self)
    }
}

/// Calls a generic function with the size as a constant: `by_size!(bytes, W => f::<W>(x))`. The
/// sizes are those of the benchmarks.
///
/// `small` leaves out the sizes beyond [`LARGEST_SMALL`]: code for values of that size is not
/// generated at all. The compiler takes many minutes for code that moves arrays of a megabyte by
/// value.
macro_rules! by_size {
    ($bytes:expr, $words:ident => $call:expr) => {
        by_size!(@each $bytes, $words => $call, 8 48 64 256 1024 4096 65536 1048576)
    };
    (small $bytes:expr, $words:ident => $call:expr) => {
        by_size!(@each $bytes, $words => $call, 8 48 64 256 1024 4096)
    };
    (@each $bytes:expr, $words:ident => $call:expr, $($size:literal)*) => {
        match $bytes {
            $($size => {
                const $words: usize = $size / 8;
                $call
            })*
            other => anyhow::bail!("no system is set up for messages of {other} bytes, only for {:?}", $crate::payload::SIZES),
        }
    };
}
pub(crate) use by_size;

/// The largest size that systems handle here by value, in bytes.
pub const LARGEST_SMALL: usize = 4 << 10;

/// The sizes of the benchmarks, in bytes.
pub const SIZES: [usize; 8] = [8, 48, 64, 256, 1 << 10, 4 << 10, 64 << 10, 1 << 20];

/// A size of the benchmarks as an argument.
pub fn size(word: &str) -> Result<usize, String> {
    word.parse()
        .ok()
        .filter(|bytes| SIZES.contains(bytes))
        .ok_or_else(|| format!("the sizes are {SIZES:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carries_its_number<const W: usize>() {
        let mut payload = Payload::<W>::boxed();
        for n in [0, 1, 77, u64::MAX - 1_000_000] {
            payload.mark(n);
            assert_eq!(payload.number(), Some(n));
            if W > 1 {
                payload.0[W - 1] ^= 1;
                assert_eq!(payload.number(), None, "{W} words, damaged at the end");
                payload.0[W - 1] ^= 1;
                payload.0[0] += 1;
                assert_eq!(payload.number(), None, "{W} words, the start of another message");
            }
        }
    }

    #[test]
    fn every_size_carries_its_number() {
        carries_its_number::<1>();
        carries_its_number::<6>();
        carries_its_number::<32>();
        carries_its_number::<128>();
        carries_its_number::<{ (1 << 20) / 8 }>();
    }

    #[test]
    fn every_word_of_a_small_message_counts() {
        let mut payload = Payload::<6>::boxed();
        payload.mark(5);
        for word in 0..6 {
            payload.0[word] ^= 4;
            assert_eq!(payload.number(), None, "word {word}");
            payload.0[word] ^= 4;
        }
    }

    #[test]
    fn every_size_is_known() {
        for bytes in SIZES {
            let words = (|| -> anyhow::Result<usize> { Ok(by_size!(bytes, W => W)) })().unwrap();
            assert_eq!(words * 8, bytes);
        }
        assert!((|| -> anyhow::Result<usize> { Ok(by_size!(12, W => W)) })().is_err());
        assert_eq!((size("48"), size("12").is_err(), size("many").is_err()), (Ok(48), true, true));
    }
}
