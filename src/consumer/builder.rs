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

/// Configures a consumer; made by [`Ring::consumer`](crate::Ring::consumer).
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

    /// Where to start. Default: [`Start::Next`].
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Where to continue after a loss. Default: [`OnLag::Oldest`].
    pub fn on_lag(mut self, on_lag: OnLag) -> Self {
        self.on_lag = on_lag;
        self
    }

    /// How to wait for a message. Default: [`WaitStrategy::Park`].
    ///
    /// The producer can wake a consumer only if the consumer can write to the ring. A registered
    /// consumer can, and so can a free consumer of a ring that was opened for writing. Other
    /// consumers sleep for up to a millisecond at a time and poll in between: free consumers of a
    /// ring that was opened read-only, all consumers of a ring that is not
    /// [`parkable`](crate::RingBuilder::parkable), and consumers that a forked child has inherited.
    pub fn wait_strategy(mut self, strategy: WaitStrategy) -> Self {
        self.wait = strategy;
        self
    }

    /// Registers the consumer under `name`: it gets a row in the ring's reader table, is visible to
    /// tools, and may gate. Several consumers may have the same name. The table keeps the first 80
    /// bytes of a name.
    pub fn name(self, name: &str) -> RegisteredBuilder<M> {
        RegisteredBuilder {
            free: self,
            wishes: RegisterOptions { name: name.into(), ..RegisterOptions::default() },
        }
    }

    /// Makes the consumer. A free consumer leaves no trace in the ring, so this cannot fail.
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

/// Configures a registered consumer; made by [`ConsumerBuilder::name`].
#[must_use = "call attach() to get the consumer"]
pub struct RegisteredBuilder<M: Message + ?Sized> {
    free: ConsumerBuilder<M>,
    wishes: RegisterOptions,
}

impl<M: Message + ?Sized> RegisteredBuilder<M> {
    /// Where to start. Default: [`Start::Next`].
    pub fn start(mut self, start: Start) -> Self {
        self.free = self.free.start(start);
        self
    }

    /// Where to continue after a loss. Default: [`OnLag::Oldest`].
    pub fn on_lag(mut self, on_lag: OnLag) -> Self {
        self.free = self.free.on_lag(on_lag);
        self
    }

    /// How to wait for a message. Default: [`WaitStrategy::Park`].
    pub fn wait_strategy(mut self, strategy: WaitStrategy) -> Self {
        self.free = self.free.wait_strategy(strategy);
        self
    }

    /// Makes the consumer gate: the producer waits instead of overwriting a message that this
    /// consumer has not received. The consumer loses no message that is published after it
    /// attached, unless the producer makes it skip messages or evicts it. It learns of both.
    pub fn gating(mut self) -> Self {
        self.wishes.gating = true;
        self
    }

    /// Starts where the last consumer of this name ended, if the reader table still has its
    /// checkpoint. That consumer must have been attached with `resume` too. Otherwise, the start is
    /// that of [`RegisteredBuilder::start`].
    ///
    /// Messages that were received but perhaps not processed are delivered again: at least the
    /// message received last, and at most 32. After [`Consumer::recv_batch`] or
    /// [`Consumer::recv_each`] it may be the whole last batch; after [`Consumer::checkpoint`] it is
    /// none. Messages that were overwritten in the meantime are reported as lost.
    pub fn resume(mut self) -> Self {
        self.wishes.resume = true;
        self
    }

    /// As [`RegisteredBuilder::resume`], and also keeps checkpoints in the file at `path`. The file
    /// is needed when a full table has given the row to another consumer. Only
    /// [`Consumer::checkpoint`] writes it.
    pub fn checkpoint_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.wishes.checkpoint_file = Some(path.into());
        self.resume()
    }

    /// Registers the consumer in the reader table. Opens the segment once more, for writing, and
    /// maps the pages of the table. The mapping of the slots does not change.
    ///
    /// # Errors
    /// [`Error::TableFull`] if all rows are taken; [`Error::Permission`], [`Error::Forked`], or
    /// [`Error::Io`].
    pub fn attach(self) -> Result<Consumer<M, Registered>, Error> {
        let start = self.free.start;
        let Consumer { mut reader, waiter, shared, spare, .. } = self.free.attach();
        let registration = Registered::join(&shared, self.wishes, start, &mut reader)?;
        Ok(Consumer { reader, registration, waiter, shared, spare, _message: PhantomData })
    }
}
