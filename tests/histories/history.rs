//! What happened in a run: every call with its times and its result.

use serde::{Deserialize, Serialize};

use crate::plan::{Call, ConsumerKind, From, Policy};

/// The clock just before a call and just behind it, in nanoseconds. The call took effect in
/// between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub invoked: u64,
    pub returned: u64,
}

/// One ring's life.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct History {
    pub slots: u64,
    pub writer: Written,
    pub readers: Vec<Read>,
}

/// What the producer did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Written {
    pub attempts: Vec<Attempt>,
    /// Calls that found the ring full.
    pub refusals: Vec<Refusal>,
    pub close: Span,
}

/// A call that published `count` messages from sequence `first` on. If it published none, it was
/// given up while it wrote the message `first`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub first: u64,
    pub count: u64,
    pub span: Span,
}

/// A call that did not publish the message `sequence`, for `reader` was said to be `lag` messages
/// behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub sequence: u64,
    pub reader: usize,
    pub lag: u64,
    pub span: Span,
}

/// What a consumer saw.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Read {
    pub start: From,
    pub on_lag: Policy,
    pub standing: ConsumerKind,
    /// It leaves when it likes, and not only at the end of the ring.
    pub leaves: bool,
    pub attach: Span,
    /// Cursor behind the attachment.
    pub cursor: u64,
    pub events: Vec<Event>,
    pub leave: Span,
}

/// A call of a consumer, its result, and the consumer's counters behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub call: Call,
    pub span: Span,
    pub outcome: Outcome,
    pub after: Counters,
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The sequence that each payload was made of; `None` for a payload that was made of none.
    Messages(Vec<Option<u64>>),
    Empty,
    Timeout,
    Lagged(u64),
    Closed(Reason),
    Sought,
    Lag(u64),
}

/// [`seqring::CloseReason`], as data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    Closed,
    ProducerDied,
    Superseded,
}

/// What a consumer says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    pub cursor: u64,
    pub received: u64,
    pub lost: u64,
    pub skipped: u64,
    /// Of rings of several producers only.
    pub tombstones: u64,
}
