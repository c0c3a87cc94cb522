#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
// The models see rooms that nobody else does.
#![cfg_attr(loom, allow(missing_docs))]

#[cfg(all(not(loom), not(target_os = "linux")))]
compile_error!("seqring needs Linux: it relies on /dev/shm and on open-file-description locks");

#[cfg(all(not(loom), not(target_pointer_width = "64")))]
compile_error!("seqring needs a 64-bit target: consumers load 64-bit atomics from read-only memory, which smaller ones do not define");

// Every room dies at its own steps.
#[cfg(any(loom, feature = "failpoints"))]
#[doc(hidden)]
pub mod failpoint;
#[cfg(not(any(loom, feature = "failpoints")))]
mod failpoint;

// Rooms, each importing only from the ones above it. The models of `loom-tests` use those without `segment`, as
// public modules; for everybody else they are private.
#[cfg(not(loom))]
mod copy;
#[cfg(loom)]
pub mod copy;
#[cfg(not(loom))]
mod layout;
#[cfg(loom)]
pub mod layout;
#[cfg(not(loom))]
mod ring;
#[cfg(loom)]
pub mod ring;
#[cfg(not(loom))]
mod slot;
#[cfg(loom)]
pub mod slot;
#[cfg(not(loom))]
mod sync;
#[cfg(loom)]
pub mod sync;

#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod segment;
#[cfg(not(loom))]
#[macro_use]
mod message;
#[cfg(all(not(loom), feature = "async"))]
mod async_consumer;
#[cfg(not(loom))]
mod consumer;
#[cfg(not(loom))]
mod lanes;
#[cfg(not(loom))]
mod open;
#[cfg(not(loom))]
mod producer;
#[cfg(all(not(loom), feature = "async"))]
mod reactor;
#[cfg(not(loom))]
mod registration;
#[cfg(not(loom))]
mod room;
#[cfg(not(loom))]
mod standing;
#[cfg(not(loom))]
mod wait;

#[cfg(not(loom))]
#[doc = include_str!("../docs/guide.md")]
pub mod guide {}

#[cfg(all(not(loom), feature = "async"))]
pub use async_consumer::AsyncConsumer;
#[cfg(not(loom))]
pub use {
    consumer::{Consumer, ConsumerBuilder, Iter, Lagged, RecvError, RecvTimeoutError, RegisteredBuilder},
    copy::{SlotWriter, TooLarge},
    error::Error,
    lanes::{Lanes, LanesError, Merge, Removed},
    message::Message,
    open::{Builder, IfExists, OpenOptions, ReaderInfo, Ring},
    producer::{Producer, PublishError, SharedProducer},
    registration::{Free, Registered, Registration},
    ring::{CloseReason, OnLag, Start, TryRecvError},
    room::Full,
    standing::{Several, Sole, Standing},
    wait::{Canceller, WaitStrategy},
};
