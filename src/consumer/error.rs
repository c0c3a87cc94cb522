//! Errors of receives.

use std::fmt;

use crate::protocol::{CloseReason, TryRecvError};

/// Why [`Consumer::recv`](crate::Consumer::recv) returned no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvError {
    /// The consumer was too slow and has lost exactly this many messages. The next call continues
    /// after them.
    Lagged(u64),
    /// No message will come, for this reason. Everything that was published before has been
    /// received.
    Closed(CloseReason),
    /// [`Canceller::cancel`](crate::Canceller::cancel) was called.
    Cancelled,
}

/// Why [`Consumer::recv_timeout`](crate::Consumer::recv_timeout) returned no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvTimeoutError {
    /// No message was published in time.
    Timeout,
    /// The consumer was too slow and has lost exactly this many messages. The next call continues
    /// after them.
    Lagged(u64),
    /// No message will come, for this reason. Everything that was published before has been
    /// received.
    Closed(CloseReason),
    /// [`Canceller::cancel`](crate::Canceller::cancel) was called.
    Cancelled,
}

/// The consumer was too slow and has lost exactly this many messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lagged(pub u64);

/// Converts the error of a wait without a deadline.
pub(crate) fn without_timeout(error: RecvTimeoutError) -> RecvError {
    match error {
        RecvTimeoutError::Lagged(n) => RecvError::Lagged(n),
        RecvTimeoutError::Closed(reason) => RecvError::Closed(reason),
        RecvTimeoutError::Cancelled => RecvError::Cancelled,
        RecvTimeoutError::Timeout => unreachable!("a wait without a deadline does not time out"),
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the producer has closed the ring",
            Self::ProducerDied => "the producer died without closing the ring; if it is restarted on the ring, receiving goes on",
            Self::Evicted => "the producer gave up on this consumer, because it was too slow for too long; attach again",
            Self::Superseded => "another ring has taken the name; open it again",
        })
    }
}

impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} messages were overwritten before this consumer read them; receive again to go on, with more slots or a faster consumer if it matters",
            self.0
        )
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is no new message yet"),
            Self::Lagged(n) => Lagged(*n).fmt(f),
            Self::Closed(reason) => reason.fmt(f),
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lagged(n) => Lagged(*n).fmt(f),
            Self::Closed(reason) => reason.fmt(f),
            Self::Cancelled => f.write_str("the wait was cancelled"),
        }
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no message was published in time"),
            Self::Lagged(n) => Lagged(*n).fmt(f),
            Self::Closed(reason) => reason.fmt(f),
            Self::Cancelled => f.write_str("the wait was cancelled"),
        }
    }
}

impl std::error::Error for Lagged {}
impl std::error::Error for TryRecvError {}
impl std::error::Error for RecvError {}
impl std::error::Error for RecvTimeoutError {}
