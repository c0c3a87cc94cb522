//! Receiving from several rings at once.
//!
//! One ring per producer has no contention between producers at all; what it lacks is one order.
//! This is for where that does not matter, or where the messages say it themselves by a timestamp.

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

/// Whose turn it is, when several sources have messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum MergeOrder {
    /// Each source in turn: one that always has messages gets at most every second turn while
    /// another has some.
    #[default]
    RoundRobin,
    /// The source with the lowest index; the others only while it has nothing.
    Priority,
}

/// Why [`Merge`] have no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeError {
    /// Nothing is to be delivered yet. Only from [`Merge::try_recv`].
    Empty,
    /// Nothing was to be delivered in time. Only from [`Merge::recv_timeout`] and
    /// [`Merge::recv_deadline`].
    Timeout,
    /// The consumer was too slow for this ring: exactly `lost` messages of it are lost. The next
    /// call goes on behind them.
    Lagged {
        /// Index of the source.
        ring: usize,
        /// How many messages.
        lost: u64,
    },
    /// No message will come in this source, for this reason; everything published in it before has
    /// been delivered. Said once: calls go on with the other sources. If a producer takes the
    /// ring over, this source goes on too, and its next end is said again.
    Closed {
        /// Index of the source.
        ring: usize,
        /// Why.
        reason: CloseReason,
    },
    /// All sources have closed, or there is none.
    Ended,
    /// Somebody has called [`Canceller::cancel`].
    Cancelled,
}

/// A source that was taken out of a merge; from [`Merge::remove`].
pub struct RemovedRing<M: Message + ?Sized, R: Registration = Free> {
    /// The consumer.
    pub consumer: Consumer<M, R>,
    /// The message that the consumer has received and the merge by timestamp has not delivered.
    pub held: Option<M::Owned>,
}

/// Receives from several rings as if they were one: one ring per producer, which share nothing, and
/// one consumer of them all.
///
/// Each ring is a *source*, known by its index, which comes with each message. The order within a
/// source is that of its ring; between sources it is what [`Merge`] says, or that of the messages'
/// timestamps ([`Merge::by_timestamp`]). Losses and ends are reported for the source that they are
/// in.
///
/// A thread that waits sleeps for all sources at once, and is woken by any of them (`futex_waitv`;
/// on kernels before 5.16 it looks at them every millisecond, and so it does if one of the
/// consumers cannot be woken, as a free one of a ring that was opened read-only, or if there are
/// more than 128 sources).
///
/// Under [`OnLag::Stay`](crate::OnLag::Stay) a source repeats its loss; take it out of the merge
/// ([`Merge::remove`]) to seek.
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
    /// By ascending index.
    sources: Vec<Source<M, R>>,
    next_index: usize,
    order: Order<M>,
    waiter: Waiter,
}

/// What is between the sources.
enum Order<M: Message + ?Sized> {
    /// The position at which the next look begins.
    RoundRobin(usize),
    Priority,
    Timestamp(ByTimestamp<M>),
}

/// Finds the timestamp of a message.
type Key<M> = Box<dyn FnMut(&<M as Message>::Owned) -> u64 + Send>;

struct ByTimestamp<M: Message + ?Sized> {
    key: Key<M>,
    patience: Duration,
    /// The greatest timestamp that was delivered.
    latest: u64,
}

/// What a look at all sources has found.
enum Look<T> {
    Found(Result<(usize, T), MergeError>),
    /// Nothing to deliver; at the latest then there will be, whatever the sources do.
    Nothing {
        until: Option<Instant>,
    },
}

impl<M: Message + ?Sized, R: Registration> Merge<M, R> {
    /// Merges the rings of `consumers`; the first one's source has index 0.
    pub fn new(consumers: impl IntoIterator<Item = Consumer<M, R>>, order: MergeOrder) -> Self {
        Self::with(
            consumers,
            match order {
                MergeOrder::RoundRobin => Order::RoundRobin(0),
                MergeOrder::Priority => Order::Priority,
            },
        )
    }

    /// Merges the rings of `consumers` by the timestamps that `key` finds in their messages, which
    /// must not descend within a ring: the smallest is delivered first, and of equal ones that
    /// of the lower source. The unit is up to the messages.
    ///
    /// To know which one that is takes a message of each source. A source that has none is waited
    /// for, for at most `patience` from when the merge has first seen the message that would be
    /// next without it; then that one is delivered. What comes too late for its place is delivered
    /// as soon as it comes, and counted ([`Merge::late`]). Merge that have closed are not
    /// waited for.
    ///
    /// Hence all messages come sorted if the timestamps are of one clock and each message is
    /// published within `patience` of its own, however long a source is silent.
    ///
    /// The messages that are in the ring behind one that waits do not wait again: a merge that has
    /// fallen behind catches up. A message that is published during the wait may be delayed
    /// twice as long.
    ///
    /// The merge holds one message of each source, which the consumer's own counters count as
    /// received.
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
    /// // The second source is silent: for all we know it is about to publish a message of time 27, but after 5 ms that is its problem.
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

    /// How to wait; [`WaitStrategy::Park`] unless told otherwise. What the consumers were told
    /// before is of no account here. Cancellers made before this end nothing.
    #[must_use = "these are the sources that wait so"]
    pub fn wait_strategy(mut self, strategy: WaitStrategy) -> Self {
        self.waiter = Waiter::new(strategy, IDLE_CHECK);
        self
    }

    /// Adds a source; returns its index, which is higher than that of any source before it.
    pub fn add(&mut self, consumer: Consumer<M, R>) -> usize {
        let index = self.next_index;
        self.next_index += 1;
        self.sources.push(Source::new(index, consumer));
        index
    }

    /// Takes a source out, with the message that is held of it, if any; `None` if there is no such
    /// source. The other sources keep their indices.
    pub fn remove(&mut self, ring: usize) -> Option<RemovedRing<M, R>> {
        let position = self.position(ring)?;
        let Source { consumer, held, .. } = self.sources.remove(position);
        if let Order::RoundRobin(next) = &mut self.order {
            *next -= usize::from(position < *next);
        }
        Some(RemovedRing { consumer, held: held.map(|(_, message)| message) })
    }

    /// The next message, with the index of its source, if it is there. Never waits and never enters
    /// the kernel; therefore it cannot tell a dead producer from a silent one.
    ///
    /// # Errors
    /// [`MergeError`], but for `Timeout` and `Cancelled`.
    pub fn try_recv(&mut self) -> Result<(usize, M::Owned), MergeError> {
        match self.look() {
            Look::Found(found) => found,
            Look::Nothing { .. } if self.sources.iter().all(Source::has_ended) => {
                Err(MergeError::Ended)
            }
            Look::Nothing { .. } => Err(MergeError::Empty),
        }
    }

    /// The next message, with the index of its source; waits for it.
    ///
    /// # Errors
    /// [`MergeError`], but for `Empty` and `Timeout`.
    pub fn recv(&mut self) -> Result<(usize, M::Owned), MergeError> {
        self.blocking(Timeout::Never)
    }

    /// The next message, with the index of its source; waits for it for at most `timeout`.
    ///
    /// # Errors
    /// [`MergeError`], but for `Empty`.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<(usize, M::Owned), MergeError> {
        self.blocking(Timeout::After(timeout))
    }

    /// The next message, with the index of its source; waits for it until `deadline`.
    ///
    /// # Errors
    /// [`MergeError`], but for `Empty`.
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<(usize, M::Owned), MergeError> {
        self.blocking(Timeout::At(deadline))
    }

    /// A handle that ends the blocking calls from another thread. Make it before the call that it
    /// is to end.
    pub fn canceller(&self) -> Canceller {
        self.waiter.canceller()
    }

    /// Indices of the sources, ascending; those that have closed are among them until they are
    /// removed.
    pub fn indices(&self) -> impl Iterator<Item = usize> + '_ {
        self.sources.iter().map(|source| source.index)
    }

    /// The consumer of a source, for its counters.
    pub fn consumer(&self, ring: usize) -> Option<&Consumer<M, R>> {
        Some(&self.sources[self.position(ring)?].consumer)
    }

    /// Messages of all sources that are there that were delivered behind one with a greater
    /// timestamp. Without timestamps there are none.
    pub fn late(&self) -> u64 {
        self.sources.iter().map(|source| source.late).sum()
    }

    /// Messages of one source that were delivered behind one with a greater timestamp.
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

    /// Looks for something to deliver or to report. Never enters the kernel to wait.
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

    /// Receives from the first source that has something, beginning at the one at position `first`.
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
            // Once more, behind the look at the clock: what is not there now has not come in time.
            if let Err(error) = order.hold(sources) {
                return Look::Found(Err(error));
            }
            for source in sources.iter_mut().filter(|source| source.held.is_some()) {
                source.there_since(now);
            }
            let is_silent = sources.iter().any(Source::is_silent);
            if let Some(first) = order.first(sources).filter(|_| is_silent) {
                // Beyond the clock's range: for ever.
                let until = sources[first].there_since(now).checked_add(order.patience);
                if until.is_none_or(|until| now < until) {
                    // A producer that waits for one of the consumers must see how far it is before
                    // the two wait for each other. (The silent sources have
                    // told theirs when they were looked at.)
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

    /// Whether all sources have ended. Asks the kernel for the producers: there may be new ones by
    /// now, which are silent.
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

    /// Sleeps until there is news of a source, or until `deadline`.
    #[cold]
    #[inline(never)]
    fn sleep(&mut self, deadline: Option<Instant>) -> Result<(), MergeError> {
        let sleeps = self.waiter.sleeps();
        let mut waiting = self.waiter.start(deadline);
        let roused = loop {
            let sources = &self.sources;
            // If one has none, because it was inherited by a fork, all are looked after by naps.
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

/// Asks each source that has nothing whether there is anything to wait for: whether its producer
/// lives, or died over the next sequence.
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
            // One at a time: as the others have not been noted, the next call finds them again.
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
    /// Receives a message of each source that has none, as far as there are any.
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
    /// As [`Consumer::checkpoint`] for a ring: all its messages that were delivered have been dealt
    /// with. `None` if there is no such source.
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
