//! Types of messages: plain values or bytes.

use std::{fmt, mem};

use bytemuck::Pod;

use crate::copy::{Landing, Reach, load_value, load_vec};
use crate::layout::{Geometry, Granularity, Kind, Shape, length_word, payload_word};
use crate::sync::{AtomicU64, Ordering};

/// Implements `Debug` for a type that is generic over messages, without a bound on the message
/// type.
macro_rules! debug_of {
    ($type:ident: $($field:ident),*) => {
        impl<M: $crate::message::Message + ?Sized> std::fmt::Debug for $type<M> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type))$(.field(stringify!($field), &self.$field))*.finish_non_exhaustive()
            }
        }
    };
}

/// A type of message: any `T: `[`bytemuck::Pod`] (plain data without padding, for which every bit
/// pattern is valid), or `[u8]` for messages of any length up to the slot's.
///
/// Sealed: these are all implementations.
pub trait Message: sealed::Sealed {
    /// What a consumer receives: `T`, or `Vec<u8>`.
    type Owned;

    /// The shape of the slots; constant if the type determines the size.
    #[doc(hidden)]
    fn shape(geometry: &Geometry) -> Shape;

    /// What a slot contains; `slot_bytes` matters for byte messages only.
    #[doc(hidden)]
    fn format(slot_bytes: usize) -> Format;

    /// Copies a message from the words after the stamp. The result may be torn until the slot is
    /// validated.
    #[doc(hidden)]
    type Landing;

    #[doc(hidden)]
    fn take(body: &[AtomicU64], geometry: &Geometry) -> Self::Landing;

    #[doc(hidden)]
    fn accept(landing: Self::Landing) -> Self::Owned;

    /// A buffer that receives one message after the other.
    #[doc(hidden)]
    type Reused;

    /// Makes a buffer, from the `spare` memory if it needs any.
    #[doc(hidden)]
    fn landing(spare: &mut Vec<u8>) -> Self::Reused;

    /// Returns the buffer's memory, if it has any, to `spare`.
    #[doc(hidden)]
    fn done(landing: Self::Reused, spare: &mut Vec<u8>);

    /// As `take`, into a buffer.
    #[doc(hidden)]
    fn take_to(landing: &mut Self::Reused, body: &[AtomicU64], geometry: &Geometry);

    /// The message in the buffer, once the slot is validated.
    #[doc(hidden)]
    fn view(landing: &Self::Reused) -> &Self;
}

mod sealed {
    pub trait Sealed {}
    impl<T: bytemuck::Pod> Sealed for T {}
    impl Sealed for [u8] {}
}

/// What the slots of a ring contain, as far as all processes must agree on it.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    pub(crate) kind: Kind,
    pub(crate) payload_bytes: usize,
    pub(crate) payload_align: usize,
    pub(crate) type_name: String,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Variable => write!(f, "byte messages of type {:?}", self.type_name),
            Kind::Fixed => {
                write!(
                    f,
                    "messages of type {:?} ({} bytes, alignment {})",
                    self.type_name, self.payload_bytes, self.payload_align
                )
            }
        }
    }
}

impl<T: Pod> Message for T {
    type Owned = T;
    type Landing = Landing<T>;

    #[inline(always)]
    fn shape(_geometry: &Geometry) -> Shape {
        const { Shape::fixed(size_of::<T>()) }
    }

    fn format(_slot_bytes: usize) -> Format {
        Format {
            kind: Kind::Fixed,
            payload_bytes: size_of::<T>(),
            payload_align: align_of::<T>(),
            type_name: without_paths(std::any::type_name::<T>()),
        }
    }

    #[inline(always)]
    fn take(body: &[AtomicU64], _geometry: &Geometry) -> Landing<T> {
        Landing::load(Granularity::of(size_of::<T>()), fixed_payload::<T>(body))
    }

    #[inline(always)]
    fn accept(landing: Landing<T>) -> T {
        landing.accept()
    }

    type Reused = T;

    #[inline(always)]
    fn landing(_spare: &mut Vec<u8>) -> T {
        T::zeroed()
    }

    #[inline(always)]
    fn done(_landing: T, _spare: &mut Vec<u8>) {}

    #[inline(always)]
    fn take_to(landing: &mut T, body: &[AtomicU64], _geometry: &Geometry) {
        load_value(Granularity::of(size_of::<T>()), fixed_payload::<T>(body), landing);
    }

    #[inline(always)]
    fn view(landing: &T) -> &T {
        landing
    }
}

impl Message for [u8] {
    type Owned = Vec<u8>;
    type Landing = Vec<u8>;

    #[inline(always)]
    fn shape(geometry: &Geometry) -> Shape {
        geometry.shape()
    }

    fn format(slot_bytes: usize) -> Format {
        Format {
            kind: Kind::Variable,
            payload_bytes: slot_bytes,
            payload_align: 1,
            type_name: "[u8]".into(),
        }
    }

    fn take(body: &[AtomicU64], geometry: &Geometry) -> Vec<u8> {
        let mut bytes = Vec::new();
        take_bytes(body, geometry, &mut bytes);
        bytes
    }

    fn accept(landing: Vec<u8>) -> Vec<u8> {
        landing
    }

    type Reused = Vec<u8>;

    #[inline(always)]
    fn landing(spare: &mut Vec<u8>) -> Vec<u8> {
        mem::take(spare)
    }

    #[inline(always)]
    fn done(landing: Vec<u8>, spare: &mut Vec<u8>) {
        *spare = landing;
    }

    #[inline(always)]
    fn take_to(landing: &mut Vec<u8>, body: &[AtomicU64], geometry: &Geometry) {
        take_bytes(body, geometry, landing);
    }

    #[inline(always)]
    fn view(landing: &Vec<u8>) -> &[u8] {
        landing
    }
}

/// The payload of a fixed-size message, from the words after the stamp.
#[inline(always)]
pub(crate) fn fixed_payload<T: Pod>(body: &[AtomicU64]) -> &[AtomicU64] {
    &body[const { payload_word(Kind::Fixed, size_of::<T>()) - 1 }..]
}

/// The length word and the payload of a variable-size message, from the words after the stamp.
#[inline(always)]
pub(crate) fn variable_payload(
    body: &[AtomicU64],
    payload_bytes: usize,
) -> (&AtomicU64, &[AtomicU64]) {
    (
        &body[length_word(payload_bytes) - 1],
        &body[payload_word(Kind::Variable, payload_bytes) - 1..],
    )
}

/// Replaces the content of `bytes` with the message in the words after the stamp.
#[inline(always)]
fn take_bytes(body: &[AtomicU64], geometry: &Geometry, bytes: &mut Vec<u8>) {
    let payload_bytes = geometry.payload_bytes;
    let (length, payload) = variable_payload(body, payload_bytes);
    // The slot is not validated yet, and shared memory is never trusted: the local geometry bounds
    // the length before it is used.
    let length = length.load(Ordering::Relaxed).min(payload_bytes as u64) as usize;
    let reach = if geometry.fits_core() { Reach::Core } else { Reach::Beyond };
    load_vec(Granularity::of(payload_bytes), reach, payload, length, bytes);
}

/// A type's name with the module paths removed: both sides may have the type in different crates.
fn without_paths(name: &str) -> String {
    let mut short = String::with_capacity(name.len());
    let mut segment = String::new();
    for c in name.chars() {
        if c.is_alphanumeric() || c == '_' {
            segment.push(c);
        } else if c == ':' {
            segment.clear();
        } else {
            short.push_str(&segment);
            segment.clear();
            short.push(c);
        }
    }
    short + &segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_removed_from_type_names() {
        for (long, short) in [
            ("u64", "u64"),
            ("market::data::Tick", "Tick"),
            ("[a::b::Sample; 16]", "[Sample; 16]"),
            ("a::Pair<b::c::Left, (u8, d::Right)>", "Pair<Left, (u8, Right)>"),
        ] {
            assert_eq!(without_paths(long), short);
        }
    }
}
