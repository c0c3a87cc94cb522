//! Receiving from several rings at once.
//!
//! One ring per producer has no contention between producers at all; what it lacks is one order. This is for where that does not matter, or
//! where the messages say it themselves by a timestamp.

mod lane;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::{Duration, Instant};

use crate::consumer::{Consumer, Lagged, Wanted};
use crate::lanes::lane::Lane;
use crate::message::Message;
use crate::registration::{Free, Registered, Registration};
use crate::ring::CloseReason;
use crate::wait::{Bell, Canceller, IDLE_CHECK, Patience, Roused, WaitStrategy, Waiter};

/// Whose turn it is, when several lanes have messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Merge {
    /// Each lane in turn: one that always has messages gets at most every second turn while another has some.
    #[default]
    RoundRobin,
    /// The lane with the lowest index; the others only while it has nothing.
    Priority,
}

/// Why [`Lanes`] have no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LanesError {
    /// Nothing is to be delivered yet. Only from [`Lanes::try_recv`].
    Empty,
    /// Nothing was to be delivered in time. Only from [`Lanes::recv_timeout`] and [`Lanes::recv_deadline`].
    Timeout,
    /// The consumer was too slow for this lane: exactly `lost` messages of it are lost. The next call goes on behind them.
    Lagged {
        /// Index of the lane.
        lane: usize,
        /// How many messages.
        lost: u64,
    },
    /// No message will come in this lane, for this reason; everything published in it before has been delivered. Said once: calls go on with the other
    /// lanes. If a producer takes the ring over, this lane goes on too, and its next end is said again.
    Closed {
        /// Index of the lane.
        lane: usize,
        /// Why.
        reason: CloseReason,
    },
    /// All lanes have closed, or there is none.
    Ended,
    /// Somebody has called [`Canceller::cancel`].
    Cancelled,
}

/// A lane that was taken out of a merge; from [`Lanes::remove`].
pub struct Removed<M: Message + ?Sized, R: Registration = Free> {
    /// The consumer.
    pub consumer: Consumer<M, R>,
    /// The message that the consumer has received and the merge by timestamp has not delivered.
    pub held: Option<M::Owned>,
}

/// Receives from several rings as if they were one: one ring per producer, which share nothing, and one consumer of them all.
///
/// Each ring is a *lane*, known by its index, which comes with each message. The order within a lane is that of its ring; between lanes it is what
/// [`Merge`] says, or that of the messages' timestamps ([`Lanes::by_timestamp`]). Losses and ends are reported for the lane that they are in.
///
/// A thread that waits sleeps for all lanes at once, and is woken by any of them (`futex_waitv`; on kernels before 5.16 it looks at them every millisecond,
/// and so it does if one of the consumers cannot be woken, as a free one of a ring that was opened read-only, or if there are more than 128 lanes).
///
/// Under [`OnLag::Stay`](crate::OnLag::Stay) a lane repeats its loss; take it out of the merge ([`Lanes::remove`]) to seek.
///
/// ```
/// # let names = ["a", "b"].map(|lane| format!("doc-lanes-{lane}-{}", std::process::id()));
/// use seqring::{CloseReason, Lanes, LanesError, Merge, Ring};
///
/// let [left, right] = names.each_ref().map(|name| Ring::<u32>::builder(name).slots(8).create().expect("a ring"));
/// let mut lanes = Lanes::new([left.consumer().attach(), right.consumer().attach()], Merge::RoundRobin);
/// let (mut first, mut second) = (left.producer()?, right.producer()?);
/// first.publish(&1);
/// first.publish(&2);
/// second.publish(&10);
/// assert_eq!([lanes.recv(), lanes.recv(), lanes.recv()], [Ok((0, 1)), Ok((1, 10)), Ok((0, 2))]);
/// first.close();
/// assert_eq!(lanes.recv(), Err(LanesError::Closed { lane: 0, reason: CloseReason::Closed }));
/// second.publish(&11);
/// assert_eq!(lanes.recv(), Ok((1, 11)));
/// second.close();
/// assert_eq!(lanes.recv(), Err(LanesError::Closed { lane: 1, reason: CloseReason::Closed }));
/// assert_eq!(lanes.recv(), Err(LanesError::Ended));
/// # Ok::<(), seqring::Error>(())
/// ```
pub struct Lanes<M: Message + ?Sized, R: Registration = Free> {
    /// By ascending index.
    lanes: Vec<Lane<M, R>>,
    next_index: usize,
    order: Order<M>,
    waiter: Waiter,
}

/// What is between the lanes.
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

/// What a look at all lanes has found.
enum Look<T> {
    Found(Result<(usize, T), LanesError>),
    /// Nothing to deliver; at the latest then there will be, whatever the lanes do.
    Nothing {
        until: Option<Instant>,
    },
}

impl<M: Message + ?Sized, R: Registration> Lanes<M, R> {
    /// Merges the rings of `consumers`; the first one's lane has index 0.
    pub fn new(consumers: impl IntoIterator<Item = Consumer<M, R>>, merge: Merge) -> Self {
        Self::with(
            consumers,
            match merge {
                Merge::RoundRobin => Order::RoundRobin(0),
                Merge::Priority => Order::Priority,
            },
        )
    }

    /// Merges the rings of `consumers` by the timestamps that `key` finds in their messages, which must not descend within a lane: the smallest is
    /// delivered first, and of equal ones that of the lower lane. The unit is up to the messages.
    ///
    /// To know which one that is takes a message of each lane. A lane that has none is waited for, for at most `patience` from when the merge has first
    /// seen the message that would be next without it; then that one is delivered. What comes too late for its place is delivered as soon as it comes,
    /// and counted ([`Lanes::late`]). Lanes that have closed are not waited for.
    ///
    /// Hence all messages come sorted if the timestamps are of one clock and each message is published within `patience` of its own, however long a lane is
    /// silent.
    ///
    /// The messages that are in the ring behind one that waits do not wait again: a merge that has fallen behind catches up. A message
    /// that is published during the wait may be delayed twice as long.
    ///
    /// The merge holds one message of each lane, which the consumer's own counters count as received.
    ///
    /// ```
    /// # let names = ["a", "b"].map(|lane| format!("doc-lanes-time-{lane}-{}", std::process::id()));
    /// use std::time::Duration;
    /// use seqring::{Lanes, LanesError, Ring};
    ///
    /// /// A timestamp and a value.
    /// type Event = [u64; 2];
    ///
    /// let [left, right] = names.each_ref().map(|name| Ring::<Event>::builder(name).slots(8).create().expect("a ring"));
    /// let consumers = [left.consumer().attach(), right.consumer().attach()];
    /// let mut lanes = Lanes::by_timestamp(consumers, |event| event[0], Duration::from_millis(5));
    /// let (mut first, mut second) = (left.producer()?, right.producer()?);
    /// first.publish(&[20, 1]);
    /// first.publish(&[30, 2]);
    /// second.publish(&[25, 3]);
    /// assert_eq!(lanes.recv(), Ok((0, [20, 1])));
    /// assert_eq!(lanes.recv(), Ok((1, [25, 3])));
    /// // The second lane is silent: for all we know it is about to publish a message of time 27, but after 5 ms that is its problem.
    /// assert_eq!(lanes.recv(), Ok((0, [30, 2])));
    /// second.publish(&[27, 4]);
    /// assert_eq!(lanes.recv(), Ok((1, [27, 4])));
    /// assert_eq!(lanes.late(), 1);
    /// # Ok::<(), seqring::Error>(())
    /// ```
    pub fn by_timestamp(
        consumers: impl IntoIterator<Item = Consumer<M, R>>,
        key: impl FnMut(&M::Owned) -> u64 + Send + 'static,
        patience: Duration,
    ) -> Self {
        Self::with(consumers, Order::Timestamp(ByTimestamp { key: Box::new(key), patience, latest: 0 }))
    }

    fn with(consumers: impl IntoIterator<Item = Consumer<M, R>>, order: Order<M>) -> Self {
        let waiter = Waiter::new(WaitStrategy::default(), IDLE_CHECK);
        let mut lanes = Self { lanes: Vec::new(), next_index: 0, order, waiter };
        for consumer in consumers {
            lanes.add(consumer);
        }
        lanes
    }

    /// How to wait; [`WaitStrategy::Park`] unless told otherwise. What the consumers were told before is of no account here. Cancellers made before this end nothing.
    #[must_use = "these are the lanes that wait so"]
    pub fn wait(mut self, strategy: WaitStrategy) -> Self {
        self.waiter = Waiter::new(strategy, IDLE_CHECK);
        self
    }

    /// Adds a lane; returns its index, which is higher than that of any lane before it.
    pub fn add(&mut self, consumer: Consumer<M, R>) -> usize {
        let index = self.next_index;
        self.next_index += 1;
        self.lanes.push(Lane::new(index, consumer));
        index
    }

    /// Takes a lane out, with the message that is held of it, if any; `None` if there is no such lane. The other lanes keep their indices.
    pub fn remove(&mut self, lane: usize) -> Option<Removed<M, R>> {
        let position = self.position(lane)?;
        let Lane { consumer, held, .. } = self.lanes.remove(position);
        if let Order::RoundRobin(next) = &mut self.order {
            *next -= usize::from(position < *next);
        }
        Some(Removed { consumer, held: held.map(|(_, message)| message) })
    }

    /// The next message, with the index of its lane, if it is there. Never waits and never enters the kernel; therefore it cannot tell a dead producer
    /// from a silent one.
    ///
    /// # Errors
    /// [`LanesError`], but for `Timeout` and `Cancelled`.
    pub fn try_recv(&mut self) -> Result<(usize, M::Owned), LanesError> {
        match self.look() {
            Look::Found(found) => found,
            Look::Nothing { .. } if self.lanes.iter().all(Lane::has_ended) => Err(LanesError::Ended),
            Look::Nothing { .. } => Err(LanesError::Empty),
        }
    }

    /// The next message, with the index of its lane; waits for it.
    ///
    /// # Errors
    /// [`LanesError`], but for `Empty` and `Timeout`.
    pub fn recv(&mut self) -> Result<(usize, M::Owned), LanesError> {
        self.blocking(Patience::Endless)
    }

    /// The next message, with the index of its lane; waits for it for at most `timeout`.
    ///
    /// # Errors
    /// [`LanesError`], but for `Empty`.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<(usize, M::Owned), LanesError> {
        self.blocking(Patience::For(timeout))
    }

    /// The next message, with the index of its lane; waits for it until `deadline`.
    ///
    /// # Errors
    /// [`LanesError`], but for `Empty`.
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<(usize, M::Owned), LanesError> {
        self.blocking(Patience::Until(deadline))
    }

    /// A handle that ends the blocking calls from another thread. Make it before the call that it is to end.
    pub fn canceller(&self) -> Canceller {
        self.waiter.canceller()
    }

    /// Indices of the lanes, ascending; those that have closed are among them until they are removed.
    pub fn indices(&self) -> impl Iterator<Item = usize> + '_ {
        self.lanes.iter().map(|lane| lane.index)
    }

    /// The consumer of a lane, for its counters.
    pub fn consumer(&self, lane: usize) -> Option<&Consumer<M, R>> {
        Some(&self.lanes[self.position(lane)?].consumer)
    }

    /// Messages of all lanes that are there that were delivered behind one with a greater timestamp. Without timestamps there are none.
    pub fn late(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.late).sum()
    }

    /// Messages of one lane that were delivered behind one with a greater timestamp.
    pub fn late_of(&self, lane: usize) -> Option<u64> {
        Some(self.lanes[self.position(lane)?].late)
    }

    fn position(&self, lane: usize) -> Option<usize> {
        self.lanes.binary_search_by_key(&lane, |lane| lane.index).ok()
    }

    fn blocking(&mut self, mut patience: Patience) -> Result<(usize, M::Owned), LanesError> {
        loop {
            let until = match self.look() {
                Look::Found(found) => return found,
                Look::Nothing { until } => until,
            };
            if self.have_ended() {
                return Err(LanesError::Ended);
            }
            patience = patience.begun();
            self.sleep(patience.end().into_iter().chain(until).min())?;
            if patience.is_over() {
                return match self.look() {
                    Look::Found(found) => found,
                    Look::Nothing { .. } => Err(LanesError::Timeout),
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

    /// Receives from the first lane that has something, beginning at the one at position `first`.
    #[inline]
    fn look_from(&mut self, first: usize) -> Look<M::Owned> {
        let all = 0..self.lanes.len();
        let first = first.min(all.end);
        for position in (first..all.end).chain(0..first) {
            let lane = &mut self.lanes[position];
            if let Some(found) = lane.receive() {
                let index = lane.index;
                if let Order::RoundRobin(next) = &mut self.order {
                    *next = position + 1;
                }
                return Look::Found(found.map(|message| (index, message)));
            }
        }
        Look::Nothing { until: None }
    }

    fn look_by_timestamp(&mut self) -> Look<M::Owned> {
        let Order::Timestamp(order) = &mut self.order else { unreachable!("asked for in no other order") };
        let lanes = &mut self.lanes;
        if let Err(error) = order.hold(lanes) {
            return Look::Found(Err(error));
        }
        if lanes.iter().any(|lane| lane.held.is_some()) && lanes.iter().any(Lane::is_silent) {
            let now = Instant::now();
            // Once more, behind the look at the clock: what is not there now has not come in time.
            if let Err(error) = order.hold(lanes) {
                return Look::Found(Err(error));
            }
            for lane in lanes.iter_mut().filter(|lane| lane.held.is_some()) {
                lane.there_since(now);
            }
            let is_silent = lanes.iter().any(Lane::is_silent);
            if let Some(first) = order.first(lanes).filter(|_| is_silent) {
                // Beyond the clock's range: for ever.
                let until = lanes[first].there_since(now).checked_add(order.patience);
                if until.is_none_or(|until| now < until) {
                    // A producer that waits for one of the consumers must see how far it is before the two wait for each other. (The silent
                    // lanes have told theirs when they were looked at.)
                    for lane in lanes.iter_mut().filter(|lane| lane.held.is_some()) {
                        lane.consumer.tell(lane.delivered());
                    }
                    return Look::Nothing { until };
                }
            }
        }
        match order.first(lanes) {
            Some(first) => Look::Found(Ok(order.deliver(&mut lanes[first]))),
            None => Look::Nothing { until: None },
        }
    }

    /// Whether all lanes have ended. Asks the kernel for the producers: there may be new ones by now, which are silent.
    fn have_ended(&mut self) -> bool {
        if !self.lanes.iter().all(Lane::has_ended) {
            return false;
        }
        for lane in self.lanes.iter_mut().filter(|lane| lane.is_waited_for()) {
            if !matches!(lane.consumer.outcome(Roused::Check), Some(Err(_))) {
                lane.reopen();
            }
        }
        self.lanes.iter().all(Lane::has_ended)
    }

    /// Sleeps until there is news of a lane, or until `deadline`.
    #[cold]
    #[inline(never)]
    fn sleep(&mut self, deadline: Option<Instant>) -> Result<(), LanesError> {
        let sleeps = self.waiter.sleeps();
        let mut waiting = self.waiter.start(deadline);
        let roused = loop {
            let lanes = &self.lanes;
            // If one has none, because it was inherited by a fork, all are looked after by naps.
            let bells: Option<Vec<Bell<'_>>> = lanes.iter().filter(|lane| lane.is_waited_for()).map(|lane| lane.consumer.bell()).collect();
            let roused = waiting.until(&bells.unwrap_or_default(), || !lanes.iter().any(Lane::is_roused));
            let news = match roused {
                Roused::Ready => break Ok(()),
                _ => news(&mut self.lanes, roused),
            };
            match (news, roused) {
                (Some(news), _) => break news,
                (None, Roused::Cancelled) => break Err(LanesError::Cancelled),
                (None, Roused::Timeout) => break Ok(()),
                (None, Roused::Check | Roused::Ready) => {}
            }
        };
        if self.waiter.sleeps() != sleeps {
            self.lanes.iter().for_each(|lane| lane.consumer.slept(self.waiter.sleeps()));
        }
        roused
    }
}

/// Asks each lane that has nothing whether there is anything to wait for: whether its producer lives, or died over the next sequence.
fn news<M: Message + ?Sized, R: Registration>(lanes: &mut [Lane<M, R>], roused: Roused) -> Option<Result<(), LanesError>> {
    let mut news = None;
    for lane in lanes.iter_mut().filter(|lane| lane.is_waited_for()) {
        match lane.consumer.outcome(roused) {
            Some(Ok(Wanted::Receive)) => news = Some(Ok(())),
            Some(Ok(Wanted::GoOver)) => {
                lane.consumer.go_over();
                news = Some(Ok(()));
            }
            // One at a time: as the others have not been noted, the next call finds them again.
            Some(Err(reason)) => {
                if let Some(closed) = lane.close(reason) {
                    return Some(Err(closed));
                }
            }
            None => lane.reopen(),
        }
    }
    news
}

impl<M: Message + ?Sized> ByTimestamp<M> {
    /// Receives a message of each lane that has none, as far as there are any.
    fn hold<R: Registration>(&mut self, lanes: &mut [Lane<M, R>]) -> Result<(), LanesError> {
        for lane in lanes.iter_mut().filter(|lane| lane.held.is_none()) {
            if let Some(found) = lane.receive() {
                let message = found?;
                lane.held = Some(((self.key)(&message), message));
            }
        }
        Ok(())
    }

    /// The position of the lane with the smallest timestamp.
    fn first<R: Registration>(&self, lanes: &[Lane<M, R>]) -> Option<usize> {
        let held = lanes.iter().enumerate().filter_map(|(position, lane)| Some((lane.held.as_ref()?.0, position)));
        held.min().map(|(_, position)| position)
    }

    fn deliver<R: Registration>(&mut self, lane: &mut Lane<M, R>) -> (usize, M::Owned) {
        let (timestamp, message) = lane.held.take().expect("the first lane holds a message");
        lane.late += u64::from(timestamp < self.latest);
        self.latest = self.latest.max(timestamp);
        (lane.index, message)
    }
}

impl<M: Message + ?Sized> Lanes<M, Registered> {
    /// As [`Consumer::checkpoint`] for a lane: all its messages that were delivered have been dealt with. `None` if there is no such lane.
    ///
    /// # Errors
    /// Those of the checkpoint file, if there is one.
    pub fn checkpoint(&mut self, lane: usize) -> Option<std::io::Result<()>> {
        let position = self.position(lane)?;
        let lane = &mut self.lanes[position];
        Some(lane.consumer.checkpoint_before(lane.delivered()))
    }
}

impl<M: Message + ?Sized, R: Registration> fmt::Debug for Lanes<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match &self.order {
            Order::RoundRobin(_) => "RoundRobin",
            Order::Priority => "Priority",
            Order::Timestamp(_) => "Timestamp",
        };
        let indices: Vec<usize> = self.indices().collect();
        f.debug_struct("Lanes").field("lanes", &indices).field("order", &order).field("late", &self.late()).finish_non_exhaustive()
    }
}

impl<M: Message + ?Sized, R: Registration + fmt::Debug> fmt::Debug for Removed<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Removed").field("consumer", &self.consumer).field("is_held", &self.held.is_some()).finish()
    }
}

impl fmt::Display for LanesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is no message to deliver yet in any lane"),
            Self::Timeout => f.write_str("there was no message to deliver in any lane in time"),
            Self::Lagged { lane, lost } => write!(f, "lane {lane}: {}", Lagged(*lost)),
            Self::Closed { lane, reason } => write!(f, "lane {lane}: {reason}"),
            Self::Ended => f.write_str("all lanes have closed: add another, or drop them"),
            Self::Cancelled => f.write_str("the wait was cancelled"),
        }
    }
}

impl std::error::Error for LanesError {}
