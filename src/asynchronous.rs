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
/// One thread of the process waits on the futex words of all rings for all tasks. A task that
/// begins to wait polls for 20 microseconds before it yields its thread. After that, it sleeps
/// until the producer wakes it, and is polled about a dozen times a second only to check whether
/// the producer is alive. (The producer cannot wake a free consumer of a ring that was opened read-
/// only, so such a task is polled every millisecond. To avoid that, register the consumer or open
/// the ring for writing.)
///
/// It is a [`Stream`] of messages and losses, which ends when the ring is closed, for any reason.
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

/// The key by which the reactor knows a consumer that has waited.
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
    /// Converts this consumer into one for asynchronous code.
    ///
    /// # Errors
    /// [`Error::Io`] if the page with the ring's wake word cannot be mapped a second time.
    pub fn into_async(self) -> Result<AsyncConsumer<M, R>, Error> {
        AsyncConsumer::new(self)
    }
}

impl<M: Message + ?Sized, R: Registration> AsyncConsumer<M, R> {
    pub(crate) fn new(consumer: Consumer<M, R>) -> Result<Self, Error> {
        let bell = Arc::new(consumer.shared().bell_page()?);
        Ok(Self { consumer, bell, settled: Settled::default(), known: Known(None) })
    }

    /// Receives the next message; waits for it. It is safe to drop the future: a message that it
    /// has not returned is received by the next call.
    ///
    /// # Errors
    /// As [`Consumer::recv`].
    pub async fn recv(&mut self) -> Result<M::Owned, RecvError> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// As [`AsyncConsumer::recv`], for futures that are written by hand.
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
            // This check follows the preparation of the wait, so that no message from here on is
            // missed.
            match self.consumer.outcome(WakeReason::Check) {
                Some(Ok(Wanted::Receive)) => continue,
                Some(Ok(Wanted::GoOver)) => {
                    self.consumer.skip_tombstone();
                    continue;
                }
                Some(Err(reason)) => return Poll::Ready(Err(RecvError::Closed(reason))),
                None => {}
            }
            // The page belongs to this consumer alone, and its address does not change while the
            // reactor uses it.
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

    /// The consumer, for all calls that do not wait. Do not replace it with another consumer: the
    /// wake word of the first one would still be used.
    pub fn get_mut(&mut self) -> &mut Consumer<M, R> {
        &mut self.consumer
    }

    /// Converts this consumer back into a blocking one.
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

    /// Only this test shows it: a task whose notification fails is polled all the same, a little
    /// later.
    #[test]
    fn a_task_that_begins_to_wait_lets_its_bit_settle() {
        let name = format!("async-settles-{}", std::process::id());
        let ring = Ring::<u64>::builder(&name).slots(8).create().unwrap();
        let mut consumer = ring.consumer().attach().into_async().unwrap();
        assert!(consumer.poll_recv(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_ne!(consumer.settled, Settled::default());
    }
}
