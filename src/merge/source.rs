//! One source of a merge: a consumer, and what the merge records about it.

use std::time::Instant;

use crate::consumer::Consumer;
use crate::consumer::registration::Registration;
use crate::merge::MergeError;
use crate::message::Message;
use crate::protocol::{CloseReason, TryRecvError};

/// A consumer in a merge.
pub(super) struct Source<M: Message + ?Sized, R: Registration> {
    pub(super) index: usize,
    pub(super) consumer: Consumer<M, R>,
    /// A message that was received and not delivered yet, with its timestamp. Only in a merge by
    /// timestamp.
    pub(super) held: Option<(u64, M::Owned)>,
    /// Number of messages delivered after one with a greater timestamp.
    pub(super) late: u64,
    /// The end that was reported, until something follows it after all.
    end: Option<CloseReason>,
    mark: Option<Mark>,
}

/// All messages before `sequence` had been published at `time`.
#[derive(Debug, Clone, Copy)]
struct Mark {
    sequence: u64,
    time: Instant,
}

impl<M: Message + ?Sized, R: Registration> Source<M, R> {
    pub(super) fn new(index: usize, consumer: Consumer<M, R>) -> Self {
        Self { index, consumer, held: None, late: 0, end: None, mark: None }
    }

    /// Receives the next message, or finds a loss or an end that has not been reported yet. Makes
    /// no system call.
    #[inline]
    pub(super) fn receive(&mut self) -> Option<Result<M::Owned, MergeError>> {
        match self.consumer.try_recv() {
            Ok(message) => {
                self.end = None;
                Some(Ok(message))
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Lagged(lost)) => {
                self.end = None;
                Some(Err(MergeError::Lagged { ring: self.index, lost }))
            }
            Err(TryRecvError::Closed(reason)) => self.close(reason).map(Err),
        }
    }

    /// Records an end. Returns it if it was not recorded before.
    pub(super) fn close(&mut self, reason: CloseReason) -> Option<MergeError> {
        let news = self.end != Some(reason);
        self.end = Some(reason);
        news.then_some(MergeError::Closed { ring: self.index, reason })
    }

    /// Records that there is a producer, although it is silent, or that something follows the end.
    pub(super) fn reopen(&mut self) {
        self.end = None;
    }

    /// Whether no message is expected, because the end has been reported.
    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether a message is expected and none is available.
    pub(super) fn is_silent(&self) -> bool {
        self.held.is_none() && self.end.is_none()
    }

    /// Whether news of this source would end a wait.
    pub(super) fn is_waited_for(&self) -> bool {
        self.held.is_none() && self.end != Some(CloseReason::Evicted)
    }

    /// Whether there is news of this source, as far as loads can tell.
    pub(super) fn has_news(&self) -> bool {
        match self.end {
            _ if !self.is_waited_for() => false,
            None | Some(CloseReason::ProducerDied) => self.consumer.has_news(),
            // An end that has been reported is no news. A message after it is news: the ring has
            // another producer.
            Some(_) => self.consumer.has_next(),
        }
    }

    /// Sequence before which all messages have been delivered.
    pub(super) fn delivered(&self) -> u64 {
        self.consumer.cursor() - u64::from(self.held.is_some())
    }

    /// The time since which the held message is known to be available. If it is not known yet, this
    /// is `now`, and `now` is recorded for all messages that are in the ring by then.
    ///
    /// So a merge that has fallen behind waits once for all of them, and not for each.
    pub(super) fn there_since(&mut self, now: Instant) -> Instant {
        let sequence = self.delivered();
        match self.mark {
            Some(mark) if sequence < mark.sequence => mark.time,
            _ => {
                let published = self.consumer.cursor() + self.consumer.lag();
                self.mark = Some(Mark { sequence: published, time: now });
                now
            }
        }
    }
}
