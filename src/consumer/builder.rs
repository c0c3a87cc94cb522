//! Attaching consumers.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::consumer::Consumer;
use crate::consumer::registration::{Free, RegisterOptions, Registered};
use crate::error::Error;
use crate::message::Message;
use crate::protocol::{OnLag, Reader, Start};
use crate::shared::Shared;
use crate::wait::{IDLE_CHECK, WaitStrategy, Waiter};

debug_of!(ConsumerBuilder: start, on_lag);
debug_of!(RegisteredBuilder: wishes);

/// How to attach a consumer; made by [`Ring::consumer`](crate::Ring::consumer).
#[must_use = "call attach() to get the consumer"]
pub struct ConsumerBuilder<M: Message + ?Sized> {
    shared: Arc<Shared>,
    start: Start,
    on_lag: OnLag,
    wait: WaitStrategy,
    _message: PhantomData<fn(&M)>,
}

impl<M: Message + ?Sized> ConsumerBuilder<M> {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            start: Start::default(),
            on_lag: OnLag::default(),
            wait: WaitStrategy::default(),
            _message: PhantomData,
        }
    }

    /// Where to start; [`Start::Next`] unless told otherwise.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Where to go on after a loss; [`OnLag::Oldest`] unless told otherwise.
    pub fn on_lag(mut self, on_lag: OnLag) -> Self {
        self.on_lag = on_lag;
        self
    }

    /// How to wait for a message; [`WaitStrategy::Park`] unless told otherwise.
    ///
    /// To be woken, a consumer must be able to say that it sleeps: a registered one can, and so can
    /// one of a ring that was opened for writing. A free consumer of a ring that was opened
    /// read-only naps instead, for up to a millisecond at a time; so do all of a ring that is not
    /// [`parkable`](crate::RingBuilder::parkable), and those that a forked child has inherited.
    pub fn wait_strategy(mut self, strategy: WaitStrategy) -> Self {
        self.wait = strategy;
        self
    }

    /// Registers the consumer under `name`: it gets a row in the ring's reader table, is visible to
    /// tools, and may gate. Names need not differ; the table keeps their first 80 bytes.
    pub fn name(self, name: &str) -> RegisteredBuilder<M> {
        RegisteredBuilder {
            free: self,
            wishes: RegisterOptions { name: name.into(), ..RegisterOptions::default() },
        }
    }

    /// The consumer. It registers nowhere, so this cannot fail and the producer does not notice.
    pub fn attach(self) -> Consumer<M> {
        let reader =
            Reader::new(self.shared.words(), self.shared.header.geometry, self.start, self.on_lag);
        let waiter = Box::new(Waiter::new(self.wait, IDLE_CHECK));
        Consumer {
            reader: CachePadded::new(reader),
            registration: Free { _private: () },
            waiter,
            shared: self.shared,
            spare: Vec::new(),
            _message: PhantomData,
        }
    }
}

/// How to attach a registered consumer; made by [`ConsumerBuilder::name`].
#[must_use = "call attach() to get the consumer"]
pub struct RegisteredBuilder<M: Message + ?Sized> {
    free: ConsumerBuilder<M>,
    wishes: RegisterOptions,
}

impl<M: Message + ?Sized> RegisteredBuilder<M> {
    /// Where to start; [`Start::Next`] unless told otherwise.
    pub fn start(mut self, start: Start) -> Self {
        self.free = self.free.start(start);
        self
    }

    /// Where to go on after a loss; [`OnLag::Oldest`] unless told otherwise.
    pub fn on_lag(mut self, on_lag: OnLag) -> Self {
        self.free = self.free.on_lag(on_lag);
        self
    }

    /// How to wait for a message; [`WaitStrategy::Park`] unless told otherwise.
    pub fn wait_strategy(mut self, strategy: WaitStrategy) -> Self {
        self.free = self.free.wait_strategy(strategy);
        self
    }

    /// Gate: the producer waits rather than overwrite what this consumer has not received. It loses
    /// nothing that is published after it has attached, unless the producer tells it to skip
    /// ahead or evicts it, which it is told.
    pub fn gating(mut self) -> Self {
        self.wishes.gating = true;
        self
    }

    /// Go on where the last consumer of this name left off, if the reader table still knows: the
    /// one that ended or was killed must have been attached with this too. Otherwise the start
    /// is what [`RegisteredBuilder::start`] says.
    ///
    /// What was received but perhaps not dealt with comes again: at least the message that was
    /// received last, at most 32 of them (or all of the last [`Consumer::recv_batch`] or
    /// [`Consumer::recv_each`]), or none behind a [`Consumer::checkpoint`]. What was overwritten
    /// meanwhile is reported as lost.
    pub fn resume(mut self) -> Self {
        self.wishes.resume = true;
        self
    }

    /// As [`RegisteredBuilder::resume`], and keeps checkpoints in this file too, for when a full
    /// table has given the row to another consumer. Written by [`Consumer::checkpoint`] only.
    pub fn checkpoint_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.wishes.checkpoint_file = Some(path.into());
        self.resume()
    }

    /// Enters the reader table. Opens the segment once more, for writing, and maps the table's
    /// pages; the rest stays as it is.
    ///
    /// # Errors
    /// [`Error::TableFull`], [`Error::Permission`], [`Error::Forked`], or [`Error::Io`].
    pub fn attach(self) -> Result<Consumer<M, Registered>, Error> {
        let start = self.free.start;
        let Consumer { mut reader, waiter, shared, spare, .. } = self.free.attach();
        let registration = Registered::join(&shared, self.wishes, start, &mut reader)?;
        Ok(Consumer { reader, registration, waiter, shared, spare, _message: PhantomData })
    }
}
