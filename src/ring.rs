//! A ring that this process has opened; producers and consumers are made from it.

mod builder;
mod open;
mod replace;

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use crate::ring::builder::{IfExists, RingBuilder};
pub use crate::ring::open::OpenOptions;

use crate::consumer::ConsumerBuilder;
use crate::error::Error;
use crate::failpoint::{Step, hit};
use crate::layout::{EPOCH, Geometry, PRODUCER_PID};
use crate::message::Message;
use crate::producer::kind::{Multi, Single};
use crate::producer::{Producer, SharedProducer};
use crate::protocol::{self, Writer};
use crate::segment::Role;
use crate::shared::Shared;
use crate::wait::wake_regardless;

/// A ring in named shared memory, opened by this process. Producers and consumers are made from it.
///
/// `M` is the type of the messages: any `T: `[`bytemuck::Pod`], or `[u8]` for messages of any
/// length up to [`Ring::slot_bytes`]. A `Ring` is a handle: clones of it share one mapping.
pub struct Ring<M: Message + ?Sized> {
    pub(crate) shared: Arc<Shared>,
    _message: PhantomData<fn(&M)>,
}

impl<M: Message + ?Sized> Clone for Ring<M> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), _message: PhantomData }
    }
}

debug_of!(Ring: shared);

impl<M: Message + ?Sized> Ring<M> {
    /// Becomes the producer of this ring. If the previous producer died, its half-written message
    /// is discarded and the sequence continues. Attached consumers are not disturbed.
    ///
    /// # Errors
    /// [`Error::ProducerExists`] while another producer is alive; [`Error::ProducerKind`] if the
    /// ring was created for several producers; [`Error::ReadOnly`], [`Error::Superseded`],
    /// [`Error::Forked`], or [`Error::Io`].
    pub fn producer(&self) -> Result<Producer<M>, Error> {
        let shared = self.to_produce()?;
        if self.geometry().producers != 1 {
            return Err(Error::ProducerKind {
                name: shared.name.clone(),
                producers: self.geometry().producers,
            });
        }
        let words = shared.words();
        let exists = || Error::ProducerExists {
            name: shared.name.clone(),
            producer_pid: words[PRODUCER_PID].load(Ordering::Relaxed),
        };
        if shared.has_producer.swap(true, Ordering::AcqRel) {
            return Err(exists());
        }
        let refused = match shared.segment.try_lock(Role::Producer) {
            Ok(true) if shared.is_superseded() => Error::Superseded { name: shared.name.clone() },
            Ok(true) => {
                hit(Step::ResumeLock);
                words[PRODUCER_PID].store(u64::from(std::process::id()), Ordering::Relaxed);
                hit(Step::ResumePid);
                let writer = Writer::resume(words, shared.header.geometry);
                let producer = Producer::new(shared.clone(), Single::new(shared.clone()), writer);
                wake_regardless(shared.bell());
                return Ok(producer);
            }
            Ok(false) => {
                shared.has_producer.store(false, Ordering::Release);
                return Err(exists());
            }
            Err(error) => Error::io(&shared.name, "lock the segment", error),
        };
        shared.release_producer();
        Err(refused)
    }

    /// Becomes one of the producers of this ring, which was created with
    /// [`RingBuilder::max_producers`].
    ///
    /// # Errors
    /// [`Error::ProducerKind`] if the ring was created for one producer;
    /// [`Error::TooManyProducers`]; [`Error::InUse`] if another producer takes too long to join or
    /// to close; [`Error::ReadOnly`], [`Error::Superseded`], [`Error::Forked`],
    /// [`Error::Permission`], or [`Error::Io`].
    pub fn shared_producer(&self) -> Result<SharedProducer<M>, Error> {
        let shared = self.to_produce()?;
        if self.geometry().producers == 1 {
            return Err(Error::ProducerKind { name: shared.name.clone(), producers: 1 });
        }
        let (kind, writer) = Multi::join(shared)?;
        let producer = Producer::new(shared.clone(), kind, writer);
        wake_regardless(shared.bell());
        Ok(producer)
    }

    /// The handle that producers are made from, if this process may produce.
    fn to_produce(&self) -> Result<&Arc<Shared>, Error> {
        let name = || self.shared.name.clone();
        if self.shared.segment.is_read_only() {
            return Err(Error::ReadOnly { name: name() });
        }
        // A child process inherits the descriptor and shares its locks with the parent, so the
        // locks do not say which of the two holds them.
        if self.shared.is_ours() { Ok(&self.shared) } else { Err(Error::Forked { name: name() }) }
    }

    /// Configures a consumer of this ring; [`ConsumerBuilder::attach`] makes it. The number of free
    /// consumers is not limited.
    pub fn consumer(&self) -> ConsumerBuilder<M> {
        ConsumerBuilder::new(self.shared.clone())
    }

    /// The ring's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Path of the segment's file.
    pub fn path(&self) -> &std::path::Path {
        self.shared.segment.path()
    }

    /// Number of slots: the number of messages that the ring holds.
    pub fn slots(&self) -> usize {
        self.geometry().slots
    }

    /// Size of the largest message in bytes. If `M` is not `[u8]`, every message has this size.
    pub fn slot_bytes(&self) -> usize {
        self.geometry().payload_bytes
    }

    /// Size of the segment in bytes of shared memory.
    pub fn segment_bytes(&self) -> u64 {
        self.geometry().segment_bytes().expect("validated when the ring was opened")
    }

    /// Name of the message type, as the creator gave it; empty if its bytes are not UTF-8.
    pub fn type_name(&self) -> &str {
        std::str::from_utf8(&self.shared.header.type_name).unwrap_or_default()
    }

    /// The metadata that the creator gave; see [`RingBuilder::metadata`].
    pub fn metadata(&self) -> &[u8] {
        &self.shared.header.metadata
    }

    /// Time of the ring's creation, by the creator's clock.
    pub fn created(&self) -> SystemTime {
        UNIX_EPOCH
            .checked_add(Duration::from_nanos(self.shared.header.created))
            .unwrap_or(UNIX_EPOCH)
    }

    /// Number of messages published so far. It may have grown by the time this returns.
    pub fn head(&self) -> u64 {
        protocol::head(self.shared.words())
    }

    /// Number of producers that the ring has had: 0 before the first, one more with each takeover.
    pub fn epoch(&self) -> u64 {
        self.shared.words()[EPOCH].load(Ordering::Relaxed)
    }

    /// Whether the ring has a live producer, or is so new that its creator has not made one yet.
    /// Makes system calls.
    pub fn is_producer_alive(&self) -> bool {
        self.shared.is_producer_alive()
    }

    pub(crate) fn of(shared: Shared, prefault: bool) -> Self {
        if prefault {
            shared.segment.prefault();
        }
        Self { shared: Arc::new(shared), _message: PhantomData }
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.shared.header.geometry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Consumer;

    #[test]
    fn handles_can_move_between_threads() {
        fn send<T: Send>() {}
        fn sync<T: Sync>() {}
        send::<Ring<[u8]>>();
        sync::<Ring<[u8]>>();
        send::<Producer<u64>>();
        send::<Consumer<[u8]>>();
    }
}
