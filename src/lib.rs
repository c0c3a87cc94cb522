#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
// The loom models use internal modules, which are public under `loom` and not fully documented.
#![cfg_attr(loom, allow(missing_docs))]

#[cfg(all(not(loom), not(target_os = "linux")))]
compile_error!("seqring needs Linux: it relies on /dev/shm and on open-file-description locks");

#[cfg(all(not(loom), not(target_pointer_width = "64")))]
compile_error!(
    "seqring needs a 64-bit target: consumers load 64-bit atomics from read-only memory, which smaller ones do not define"
);

// Steps at which tests end a process. Every module below may use them.
#[cfg(any(loom, feature = "failpoints"))]
#[doc(hidden)]
pub mod failpoint;
#[cfg(not(any(loom, feature = "failpoints")))]
mod failpoint;

// Imports must not form a circle of modules. The models in `loom-tests` use this first group as
// public modules; in every other build all modules are private.
#[cfg(not(loom))]
mod copy;
#[cfg(loom)]
pub mod copy;
#[cfg(not(loom))]
mod layout;
#[cfg(loom)]
pub mod layout;
#[cfg(not(loom))]
mod protocol;
#[cfg(loom)]
pub mod protocol;
#[cfg(not(loom))]
mod sync;
#[cfg(loom)]
pub mod sync;
#[cfg(not(loom))]
mod tuning;
#[cfg(loom)]
pub mod tuning;

#[cfg(not(loom))]
#[macro_use]
mod message;
#[cfg(all(not(loom), feature = "async"))]
mod asynchronous;
#[cfg(not(loom))]
mod consumer;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod inspect;
#[cfg(not(loom))]
mod merge;
#[cfg(not(loom))]
mod producer;
#[cfg(not(loom))]
mod ring;
#[cfg(not(loom))]
mod segment;
#[cfg(not(loom))]
mod shared;
#[cfg(not(loom))]
mod wait;

#[cfg(not(loom))]
#[doc = include_str!("../docs/guide.md")]
pub mod guide {}

#[cfg(all(not(loom), feature = "async"))]
pub use asynchronous::AsyncConsumer;
#[cfg(not(loom))]
pub use {
    consumer::{
        Consumer, ConsumerBuilder, Free, Iter, Lagged, RecvError, RecvTimeoutError, Registered,
        RegisteredBuilder, Registration,
    },
    copy::{SlotWriter, TooLarge},
    error::Error,
    inspect::ConsumerInfo,
    merge::{Merge, MergeError, MergeOrder, RemovedRing},
    message::Message,
    producer::backpressure::Full,
    producer::kind::{Multi, ProducerKind, Single},
    producer::{Producer, PublishError, SharedProducer},
    protocol::{CloseReason, OnLag, Start, TryRecvError},
    ring::{IfExists, OpenOptions, Ring, RingBuilder},
    wait::{Canceller, WaitStrategy},
};
