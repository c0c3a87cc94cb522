//! A consumer for asynchronous code.

mod reactor;

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use crate::asynchronous::reactor::{Interest, Reactor};
use crate::consumer::registration::{Free, Registration};
use crate::consumer::{Consumer, Lagged, RecvError, Wanted};
use crate::error::Error;
use crate::message::Message;
use crate::protocol::TryRecvError;
use crate::segment::Segment;
use crate::wait::{Settled, WakeReason};

/// A consumer whose tasks wait without blocking their thread, in any runtime; made by
/// [`Consumer::into_async`].
///
/// One thread of the process sleeps for all of them, by the rings' futex words. A task that begins
/// to wait looks on for 20 microseconds before it gives its thread back. From then on nothing
/// polls: it is looked after about a dozen times a second, to see whether its producer lives. (A
/// free consumer of a ring that was opened read-only cannot be woken, and is looked after every
/// millisecond: register it, or open the ring for writing.)
///
/// It is a [`Stream`] of messages and losses, which ends when the ring is closed, for whatever
/// reason.
///
/// ```
/// # let name = format!("doc-async-{}", std::process::id());
/// use seqring::Ring;
///
/// let ring = Ring::<u32>::builder(&name).slots(8).create()?;
/// let mut producer = ring.producer()?;
/// let mut consumer = ring.consumer().attach().into_async()?;
/// let task = async move {
///     assert_eq!(consumer.recv().await, Ok(42));
/// };
/// producer.publish(&42);
/// # struct Unpark(std::thread::Thread);
/// # impl std::task::Wake for Unpark { fn wake(self: std::sync::Arc<Self>) { self.0.unpark() } }
/// # let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
/// # let mut task = std::pin::pin!(task);
/// # while task.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending() { std::thread::park() }
/// # use std::future::Future;
/// # Ok::<(), seqring::Error>(())
/// ```
pub struct AsyncConsumer<M: Message + ?Sized, R: Registration = Free> {
    consumer: Consumer<M, R>,
    bell: Arc<Segment>,
    settled: Settled<u32>,
    known: Known,
}

/// By what the reactor knows a consumer that has waited.
#[derive(Debug, Default)]
struct Known(Option<usize>);

impl Drop for Known {
    fn drop(&mut self) {
        if let Some(key) = self.0 {
            Reactor::deregister(key);
        }
    }
}

impl<M: Message + ?Sized, R: Registration> Consumer<M, R> {
    /// Makes it a consumer for asynchronous code.
    ///
    /// # Errors
    /// [`Error::Io`] if the page of the ring that tasks wait by cannot be mapped once more.
    pub fn into_async(self) -> Result<AsyncConsumer<M, R>, Error> {
        AsyncConsumer::new(self)
    }
}

impl<M: Message + ?Sized, R: Registration> AsyncConsumer<M, R> {
    pub(crate) fn new(consumer: Consumer<M, R>) -> Result<Self, Error> {
        let bell = Arc::new(consumer.shared().bell_page()?);
        Ok(Self { consumer, bell, settled: Settled::default(), known: Known(None) })
    }

    /// Receives the next message, waiting for it. Dropping the future loses nothing: a message that
    /// it has not returned is there for the next.
    ///
    /// # Errors
    /// As [`Consumer::recv`].
    pub async fn recv(&mut self) -> Result<M::Owned, RecvError> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// [`AsyncConsumer::recv`] for futures written by hand.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<M::Owned, RecvError>> {
        loop {
            match self.consumer.try_recv() {
                Ok(message) => return Poll::Ready(Ok(message)),
                Err(TryRecvError::Lagged(n)) => return Poll::Ready(Err(RecvError::Lagged(n))),
                Err(TryRecvError::Closed(reason)) => {
                    return Poll::Ready(Err(RecvError::Closed(reason)));
                }
                Err(TryRecvError::Empty) => {}
            }
            let (expected, relies) = self.consumer.prepare_to_sleep();
            if relies && !self.settled.look(&expected, || !self.consumer.has_news()) {
                continue;
            }
            // Behind that: none may come unseen from here on.
            match self.consumer.outcome(WakeReason::Check) {
                Some(Ok(Wanted::Receive)) => continue,
                Some(Ok(Wanted::GoOver)) => {
                    self.consumer.skip_tombstone();
                    continue;
                }
                Some(Err(reason)) => return Poll::Ready(Err(RecvError::Closed(reason))),
                None => {}
            }
            // The page is this consumer's alone, and stays where it is as long as the reactor knows
            // of it.
            let key = Arc::as_ptr(&self.bell).addr();
            self.known.0 = Some(key);
            Reactor::get().register(Interest {
                key,
                page: self.bell.clone(),
                expected,
                relies,
                waker: context.waker().clone(),
            });
            return Poll::Pending;
        }
    }

    /// The consumer, for everything that does not wait. It must stay the same one: another in its
    /// place would be woken by the bell of the first.
    pub fn get_mut(&mut self) -> &mut Consumer<M, R> {
        &mut self.consumer
    }

    /// Gives the consumer back.
    pub fn into_inner(self) -> Consumer<M, R> {
        self.consumer
    }
}

impl<M: Message + ?Sized, R: Registration + Unpin> Stream for AsyncConsumer<M, R> {
    type Item = Result<M::Owned, Lagged>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(match ready!(self.poll_recv(context)) {
            Ok(message) => Some(Ok(message)),
            Err(RecvError::Lagged(n)) => Some(Err(Lagged(n))),
            Err(RecvError::Closed(_) | RecvError::Cancelled) => None,
        })
    }
}

impl<M: Message + ?Sized, R: Registration + fmt::Debug> fmt::Debug for AsyncConsumer<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncConsumer").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::Ring;

    /// Nothing else shows that it does: a task whose bell does not ring is looked after all the
    /// same, a little later.
    #[test]
    fn a_task_that_begins_to_wait_lets_its_bit_settle() {
        let name = format!("async-settles-{}", std::process::id());
        let ring = Ring::<u64>::builder(&name).slots(8).create().unwrap();
        let mut consumer = ring.consumer().attach().into_async().unwrap();
        assert!(consumer.poll_recv(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_ne!(consumer.settled, Settled::default());
    }
}
