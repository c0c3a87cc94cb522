//! Receives from several rings at once.
//!
//! With one ring per producer, producers do not contend at all, but the rings together have no
//! single order. A merge is for messages that need no such order, or that carry it as a timestamp.

mod source;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::{Duration, Instant};

use crate::consumer::registration::{Free, Registered, Registration};
use crate::consumer::{Consumer, Lagged, Wanted};
use crate::merge::source::Source;
use crate::message::Message;
use crate::protocol::CloseReason;
use crate::wait::{Bell, Canceller, IDLE_CHECK, Timeout, WaitStrategy, Waiter, WakeReason};

/// Which source is next when several have messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum MergeOrder {
    /// Each source in turn. A source that always has messages delivers at most every second message
    /// while another source has some.
    #[default]
    RoundRobin,
    /// The source with the lowest index; the others only while it has no message.
    Priority,
}

/// Why a [`Merge`] returned no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeError {
    /// There is nothing to deliver yet. Only from [`Merge::try_recv`].
    Empty,
    /// There was nothing to deliver in time. Only from [`Merge::recv_timeout`] and
    /// [`Merge::recv_deadline`].
    Timeout,
    /// The consumer was too slow for this ring and has lost exactly `lost` of its messages. The
    /// next call continues after them.
    Lagged {
        /// Index of the source.
        ring: usize,
        /// Number of lost messages.
        lost: u64,
    },
    /// No message will come from this source, for this reason. Everything that was published in it
    /// before has been delivered. Each end is reported once, and later calls continue with the
    /// other sources. If a producer takes the ring over, the source continues too, and its next end
    /// is reported again.
    Closed {
        /// Index of the source.
        ring: usize,
        /// Reason of the end.
        reason: CloseReason,
    },
    /// All sources have closed, or there are none.
    Ended,
    /// [`Canceller::cancel`] was called.
    Cancelled,
}

/// A source that was removed from a merge; made by [`Merge::remove`].
pub struct RemovedRing<M: Message + ?Sized, R: Registration = Free> {
    /// The consumer.
    pub consumer: Consumer<M, R>,
    /// The message that the consumer has received and the merge has not delivered. Only a merge by
    /// timestamp holds one.
    pub held: Option<M::Owned>,
}

/// Receives from several rings as if they were one: one ring per producer, and one consumer of each
/// ring.
///
/// Each ring is a *source*. It is known by its index, which comes with each message. The order
/// within a source is that of its ring. The order between sources is that of [`MergeOrder`], or
/// that of the messages' timestamps ([`Merge::by_timestamp`]). Losses and ends are reported for
/// each source.
///
/// A waiting thread sleeps on all sources at once, and each of them can wake it (`futex_waitv`). In
/// three cases it polls every millisecond instead: on kernels before 5.16, with more than 128
/// sources, and if one of the consumers cannot be woken, such as a free consumer of a ring that was
/// opened read-only.
///
/// With [`OnLag::Stay`](crate::OnLag::Stay), a source repeats its loss. To seek, remove it from the
/// merge ([`Merge::remove`]).
///
/// ```
/// # let names = ["a", "b"].map(|source| format!("doc-sources-{source}-{}", std::process::id()));
/// use seqring::{CloseReason, Merge, MergeError, MergeOrder, Ring};
///
/// let [left, right] = names.each_ref().map(|name| Ring::<u32>::builder(name).slots(8).create().expect("a ring"));
/// let mut sources = Merge::new([left.consumer().attach(), right.consumer().attach()], MergeOrder::RoundRobin);
/// let (mut first, mut second) = (left.producer()?, right.producer()?);
/// first.publish(&1);
/// first.publish(&2);
/// second.publish(&10);
/// assert_eq!([sources.recv(), sources.recv(), sources.recv()], [Ok((0, 1)), Ok((1, 10)), Ok((0, 2))]);
/// first.close();
/// assert_eq!(sources.recv(), Err(MergeError::Closed { ring: 0, reason: CloseReason::Closed }));
/// second.publish(&11);
/// assert_eq!(sources.recv(), Ok((1, 11)));
/// second.close();
/// assert_eq!(sources.recv(), Err(MergeError::Closed { ring: 1, reason: CloseReason::Closed }));
/// assert_eq!(sources.recv(), Err(MergeError::Ended));
/// # Ok::<(), seqring::Error>(())
/// ```
pub struct Merge<M: Message + ?Sized, R: Registration = Free> {
    /// Sorted by index.
    sources: Vec<Source<M, R>>,
    next_index: usize,
    order: Order<M>,
    waiter: Waiter,
}

/// How to choose between the sources.
enum Order<M: Message + ?Sized> {
    /// The position at which the next poll begins.
    RoundRobin(usize),
    Priority,
    Timestamp(ByTimestamp<M>),
}

/// Returns the timestamp of a message.
type Key<M> = Box<dyn FnMut(&<M as Message>::Owned) -> u64 + Send>;

struct ByTimestamp<M: Message + ?Sized> {
    key: Key<M>,
    patience: Duration,
    /// The greatest timestamp delivered so far.
    latest: u64,
}

/// Result of polling all sources.
enum Look<T> {
    Found(Result<(usize, T), MergeError>),
    /// There is nothing to deliver before this time; `None` if only a source can change that.
    Nothing {
        until: Option<Instant>,
    },
}

impl<M: Message + ?Sized, R: Registration> Merge<M, R> {
    /// Merges the rings of `consumers`. The source of the first consumer has index 0, the next 1,
    /// and so on.
    pub fn new(consumers: impl IntoIterator<Item = Consumer<M, R>>, order: MergeOrder) -> Self {
        Self::with(
            consumers,
            match order {
                MergeOrder::RoundRobin => Order::RoundRobin(0),
                MergeOrder::Priority => Order::Priority,
            },
        )
    }

    /// Merges the rings of `consumers` by the timestamps that `key` returns for their messages. The
    /// unit of the timestamps is the caller's choice. They must not descend within a ring. The
    /// smallest timestamp is delivered first; of equal ones, that of the source with the lower
    /// index.
    ///
    /// To find the smallest timestamp, the merge needs a message of each source. It waits for a
    /// source that has none, for at most `patience` after it first saw the message that would
    /// otherwise be next; then it delivers that message. A message that comes too late for its
    /// place is delivered at once and counted ([`Merge::late`]). The merge does not wait for
    /// sources that have closed.
    ///
    /// Therefore all messages are delivered in the order of their timestamps if these come from one
    /// clock and each message is published within `patience` after its timestamp, however long a
    /// source is silent.
    ///
    /// A wait covers all messages that are in the ring by then, so a merge that has fallen behind
    /// catches up. A message that is published during the wait may be delayed by twice `patience`.
    ///
    /// The merge holds one message of each source. The counters of the consumer count that message
    /// as received.
    ///
    /// ```
    /// # let names = ["a", "b"].map(|source| format!("doc-sources-time-{source}-{}", std::process::id()));
    /// use std::time::Duration;
    /// use seqring::{Merge, MergeError, Ring};
    ///
    /// /// A timestamp and a value.
    /// type Event = [u64; 2];
    ///
    /// let [left, right] = names.each_ref().map(|name| Ring::<Event>::builder(name).slots(8).create().expect("a ring"));
    /// let consumers = [left.consumer().attach(), right.consumer().attach()];
    /// let mut sources = Merge::by_timestamp(consumers, |event| event[0], Duration::from_millis(5));
    /// let (mut first, mut second) = (left.producer()?, right.producer()?);
    /// first.publish(&[20, 1]);
    /// first.publish(&[30, 2]);
    /// second.publish(&[25, 3]);
    /// assert_eq!(sources.recv(), Ok((0, [20, 1])));
    /// assert_eq!(sources.recv(), Ok((1, [25, 3])));
    /// // The second source is silent. It may still publish an earlier message, so the merge waits
    /// // for 5 ms before it delivers the next message of the first source.
    /// assert_eq!(sources.recv(), Ok((0, [30, 2])));
    /// second.publish(&[27, 4]);
    /// assert_eq!(sources.recv(), Ok((1, [27, 4])));
    /// assert_eq!(sources.late(), 1);
    /// # Ok::<(), seqring::Error>(())
    /// ```
    pub fn by_timestamp(
        consumers: impl IntoIterator<Item = Consumer<M, R>>,
        key: impl FnMut(&M::Owned) -> u64 + Send + 'static,
        patience: Duration,
    ) -> Self {
        Self::with(
            consumers,
            Order::Timestamp(ByTimestamp { key: Box::new(key), patience, latest: 0 }),
        )
    }

    fn with(consumers: impl IntoIterator<Item = Consumer<M, R>>, order: Order<M>) -> Self {
        let waiter = Waiter::new(WaitStrategy::default(), IDLE_CHECK);
        let mut sources = Self { sources: Vec::new(), next_index: 0, order, waiter };
        for consumer in consumers {
            sources.add(consumer);
        }
        sources
    }

    /// Sets how to wait. Default: [`WaitStrategy::Park`]. The wait strategies of the consumers have
    /// no effect in a merge. Cancellers that were made before this call have no effect after it.
    #[must_use = "these are the sources that wait so"]
    pub fn wait_strategy(mut self, strategy: WaitStrategy) -> Self {
        self.waiter = Waiter::new(strategy, IDLE_CHECK);
        self
    }

    /// Adds a source. Returns its index, which is higher than the index of any source before.
    pub fn add(&mut self, consumer: Consumer<M, R>) -> usize {
        let index = self.next_index;
        self.next_index += 1;
        self.sources.push(Source::new(index, consumer));
        index
    }

    /// Removes a source, with the message that the merge holds of it, if any. Returns `None` if
    /// there is no such source. The other sources keep their indices.
    pub fn remove(&mut self, ring: usize) -> Option<RemovedRing<M, R>> {
        let position = self.position(ring)?;
        let Source { consumer, held, .. } = self.sources.remove(position);
        if let Order::RoundRobin(next) = &mut self.order {
            *next -= usize::from(position < *next);
        }
        Some(RemovedRing { consumer, held: held.map(|(_, message)| message) })
    }

    /// Receives the next message, with the index of its source, if there is one. Never waits, and
    /// does not ask the kernel whether a producer is alive. Therefore it cannot distinguish a dead
    /// producer from a silent one.
    ///
    /// # Errors
    /// [`MergeError`], except `Timeout` and `Cancelled`.
    pub fn try_recv(&mut self) -> Result<(usize, M::Owned), MergeError> {
        match self.look() {
            Look::Found(found) => found,
            Look::Nothing { .. } if self.sources.iter().all(Source::has_ended) => {
                Err(MergeError::Ended)
            }
            Look::Nothing { .. } => Err(MergeError::Empty),
        }
    }

    /// Receives the next message, with the index of its source; waits for it.
    ///
    /// # Errors
    /// [`MergeError`], except `Empty` and `Timeout`.
    pub fn recv(&mut self) -> Result<(usize, M::Owned), MergeError> {
        self.blocking(Timeout::Never)
    }

    /// As [`Merge::recv`], but waits for at most `timeout`.
    ///
    /// # Errors
    /// [`MergeError`], except `Empty`.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<(usize, M::Owned), MergeError> {
        self.blocking(Timeout::After(timeout))
    }

    /// As [`Merge::recv`], but waits until `deadline` at most.
    ///
    /// # Errors
    /// [`MergeError`], except `Empty`.
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<(usize, M::Owned), MergeError> {
        self.blocking(Timeout::At(deadline))
    }

    /// Makes a handle that ends blocking calls of this merge from another thread. Make it before
    /// the call that it is to end.
    pub fn canceller(&self) -> Canceller {
        self.waiter.canceller()
    }

    /// Indices of the sources in ascending order. They include sources that have closed and were
    /// not removed.
    pub fn indices(&self) -> impl Iterator<Item = usize> + '_ {
        self.sources.iter().map(|source| source.index)
    }

    /// The consumer of a source, for its counters. `None` if there is no such source.
    pub fn consumer(&self, ring: usize) -> Option<&Consumer<M, R>> {
        Some(&self.sources[self.position(ring)?].consumer)
    }

    /// Number of messages that were delivered after one with a greater timestamp, over all current
    /// sources. It is 0 in a merge without timestamps.
    pub fn late(&self) -> u64 {
        self.sources.iter().map(|source| source.late).sum()
    }

    /// Number of messages of one source that were delivered after one with a greater timestamp.
    /// `None` if there is no such source.
    pub fn late_of(&self, ring: usize) -> Option<u64> {
        Some(self.sources[self.position(ring)?].late)
    }

    fn position(&self, ring: usize) -> Option<usize> {
        self.sources.binary_search_by_key(&ring, |source| source.index).ok()
    }

    fn blocking(&mut self, mut patience: Timeout) -> Result<(usize, M::Owned), MergeError> {
        loop {
            let until = match self.look() {
                Look::Found(found) => return found,
                Look::Nothing { until } => until,
            };
            if self.have_ended() {
                return Err(MergeError::Ended);
            }
            patience = patience.begun();
            self.sleep(patience.end().into_iter().chain(until).min())?;
            if patience.is_over() {
                return match self.look() {
                    Look::Found(found) => found,
                    Look::Nothing { .. } => Err(MergeError::Timeout),
                };
            }
        }
    }

    /// Polls for something to deliver or to report. Makes no system call to wait.
    #[inline]
    fn look(&mut self) -> Look<M::Owned> {
        match &mut self.order {
            Order::Priority => self.look_from(0),
            Order::RoundRobin(next) => {
                let first = *next;
                self.look_from(first)
            }
            Order::Timestamp(_) => self.look_by_timestamp(),
        }
    }

    /// Receives from the first source that has something, starting with the source at position
    /// `first`.
    #[inline]
    fn look_from(&mut self, first: usize) -> Look<M::Owned> {
        let all = 0..self.sources.len();
        let first = first.min(all.end);
        for position in (first..all.end).chain(0..first) {
            let source = &mut self.sources[position];
            if let Some(found) = source.receive() {
                let index = source.index;
                if let Order::RoundRobin(next) = &mut self.order {
                    *next = position + 1;
                }
                return Look::Found(found.map(|message| (index, message)));
            }
        }
        Look::Nothing { until: None }
    }

    fn look_by_timestamp(&mut self) -> Look<M::Owned> {
        let Order::Timestamp(order) = &mut self.order else {
            unreachable!("asked for in no other order")
        };
        let sources = &mut self.sources;
        if let Err(error) = order.hold(sources) {
            return Look::Found(Err(error));
        }
        if sources.iter().any(|source| source.held.is_some())
            && sources.iter().any(Source::is_silent)
        {
            let now = Instant::now();
            // Polls again after the clock was read: a message that is not there now has not come in
            // time.
            if let Err(error) = order.hold(sources) {
                return Look::Found(Err(error));
            }
            for source in sources.iter_mut().filter(|source| source.held.is_some()) {
                source.there_since(now);
            }
            let is_silent = sources.iter().any(Source::is_silent);
            if let Some(first) = order.first(sources).filter(|_| is_silent) {
                // A time beyond the clock's range means to wait without limit.
                let until = sources[first].there_since(now).checked_add(order.patience);
                if until.is_none_or(|until| now < until) {
                    // A producer that waits for one of the consumers must see the consumer's
                    // progress; otherwise the two wait for each other. (The consumers of silent
                    // sources have published theirs when they were polled.)
                    for source in sources.iter_mut().filter(|source| source.held.is_some()) {
                        source.consumer.tell(source.delivered());
                    }
                    return Look::Nothing { until };
                }
            }
        }
        match order.first(sources) {
            Some(first) => Look::Found(Ok(order.deliver(&mut sources[first]))),
            None => Look::Nothing { until: None },
        }
    }

    /// Whether all sources have ended. Makes system calls to find new producers, which may be alive
    /// and silent.
    fn have_ended(&mut self) -> bool {
        if !self.sources.iter().all(Source::has_ended) {
            return false;
        }
        for source in self.sources.iter_mut().filter(|source| source.is_waited_for()) {
            if !matches!(source.consumer.outcome(WakeReason::Check), Some(Err(_))) {
                source.reopen();
            }
        }
        self.sources.iter().all(Source::has_ended)
    }

    /// Sleeps until a source has news, or until `deadline`.
    #[cold]
    #[inline(never)]
    fn sleep(&mut self, deadline: Option<Instant>) -> Result<(), MergeError> {
        let sleeps = self.waiter.sleeps();
        let mut waiting = self.waiter.start(deadline);
        let roused = loop {
            let sources = &self.sources;
            // If one consumer has no wake word, because it was inherited by a fork, all sources are
            // polled between short sleeps.
            let bells: Option<Vec<Bell<'_>>> = sources
                .iter()
                .filter(|source| source.is_waited_for())
                .map(|source| source.consumer.bell())
                .collect();
            let roused =
                waiting.until(&bells.unwrap_or_default(), || !sources.iter().any(Source::has_news));
            let news = match roused {
                WakeReason::Ready => break Ok(()),
                _ => news(&mut self.sources, roused),
            };
            match (news, roused) {
                (Some(news), _) => break news,
                (None, WakeReason::Cancelled) => break Err(MergeError::Cancelled),
                (None, WakeReason::Timeout) => break Ok(()),
                (None, WakeReason::Check | WakeReason::Ready) => {}
            }
        };
        if self.waiter.sleeps() != sleeps {
            self.sources.iter().for_each(|source| source.consumer.slept(self.waiter.sleeps()));
        }
        roused
    }
}

/// Checks each source that has nothing: whether its producer is alive, or died before it finished
/// the next sequence.
fn news<M: Message + ?Sized, R: Registration>(
    sources: &mut [Source<M, R>],
    roused: WakeReason,
) -> Option<Result<(), MergeError>> {
    let mut news = None;
    for source in sources.iter_mut().filter(|source| source.is_waited_for()) {
        match source.consumer.outcome(roused) {
            Some(Ok(Wanted::Receive)) => news = Some(Ok(())),
            Some(Ok(Wanted::GoOver)) => {
                source.consumer.skip_tombstone();
                news = Some(Ok(()));
            }
            // One source at a time: the ends of the others have not been recorded yet, so the next
            // call finds them again.
            Some(Err(reason)) => {
                if let Some(closed) = source.close(reason) {
                    return Some(Err(closed));
                }
            }
            None => source.reopen(),
        }
    }
    news
}

impl<M: Message + ?Sized> ByTimestamp<M> {
    /// Receives a message of each source that has none, as far as messages are available.
    fn hold<R: Registration>(&mut self, sources: &mut [Source<M, R>]) -> Result<(), MergeError> {
        for source in sources.iter_mut().filter(|source| source.held.is_none()) {
            if let Some(found) = source.receive() {
                let message = found?;
                source.held = Some(((self.key)(&message), message));
            }
        }
        Ok(())
    }

    /// The position of the source with the smallest timestamp.
    fn first<R: Registration>(&self, sources: &[Source<M, R>]) -> Option<usize> {
        let held = sources
            .iter()
            .enumerate()
            .filter_map(|(position, source)| Some((source.held.as_ref()?.0, position)));
        held.min().map(|(_, position)| position)
    }

    fn deliver<R: Registration>(&mut self, source: &mut Source<M, R>) -> (usize, M::Owned) {
        let (timestamp, message) = source.held.take().expect("the first source holds a message");
        source.late += u64::from(timestamp < self.latest);
        self.latest = self.latest.max(timestamp);
        (source.index, message)
    }
}

impl<M: Message + ?Sized> Merge<M, Registered> {
    /// As [`Consumer::checkpoint`], for one source: all its delivered messages have been processed.
    /// `None` if there is no such source.
    ///
    /// # Errors
    /// Those of the checkpoint file, if there is one.
    pub fn checkpoint(&mut self, ring: usize) -> Option<std::io::Result<()>> {
        let position = self.position(ring)?;
        let source = &mut self.sources[position];
        Some(source.consumer.checkpoint_before(source.delivered()))
    }
}

impl<M: Message + ?Sized, R: Registration> fmt::Debug for Merge<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match &self.order {
            Order::RoundRobin(_) => "RoundRobin",
            Order::Priority => "Priority",
            Order::Timestamp(_) => "Timestamp",
        };
        let indices: Vec<usize> = self.indices().collect();
        f.debug_struct("Merge")
            .field("sources", &indices)
            .field("order", &order)
            .field("late", &self.late())
            .finish_non_exhaustive()
    }
}

impl<M: Message + ?Sized, R: Registration + fmt::Debug> fmt::Debug for RemovedRing<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemovedRing")
            .field("consumer", &self.consumer)
            .field("is_held", &self.held.is_some())
            .finish()
    }
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is no message to deliver yet in any source"),
            Self::Timeout => f.write_str("there was no message to deliver in any source in time"),
            Self::Lagged { ring, lost } => write!(f, "ring {ring}: {}", Lagged(*lost)),
            Self::Closed { ring, reason } => write!(f, "ring {ring}: {reason}"),
            Self::Ended => f.write_str("all sources have closed: add another, or drop them"),
            Self::Cancelled => f.write_str("the wait was cancelled"),
        }
    }
}

impl std::error::Error for MergeError {}
