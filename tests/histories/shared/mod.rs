//! The specification of a ring with several producers, as rules over intervals of time.
//!
//! Each producer numbers its messages, and a payload tells both numbers. The sequences are the
//! ring's: a call returns which one its message got, except the last call of a producer that was
//! killed, which may have published or have left a tombstone or nothing. What consumers saw
//! decides.

pub mod check;
mod corrupt;
mod model;
mod record;
pub mod run;

pub use crate::history::Counters;
use crate::history::Span;
use crate::plan::Policy;

/// A message: the `number`-th of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    pub producer: usize,
    pub number: usize,
}

/// One ring's life.
#[derive(Debug, Clone)]
pub struct History {
    pub slots: u64,
    pub producers: Vec<Produced>,
    pub readers: Vec<Seen>,
}

/// What a producer did.
#[derive(Debug, Clone)]
pub struct Produced {
    /// Message by message.
    pub calls: Vec<Call>,
    pub killed: bool,
    /// The call that closed it, or the time from its kill to its burial.
    pub end: Span,
}

/// A call that published one message.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// What it returned; `None` if its producer was killed over it.
    pub sequence: Option<u64>,
    pub span: Span,
}

/// What a consumer saw.
#[derive(Debug, Clone)]
pub struct Seen {
    pub on_lag: Policy,
    /// Whether the producers wait for it.
    pub gating: bool,
    pub attach: Span,
    /// Cursor behind the attachment, at the head.
    pub cursor: u64,
    pub events: Vec<Event>,
}

/// A receive, its result, and the consumer's counters behind it.
#[derive(Debug, Clone)]
pub struct Event {
    pub span: Span,
    pub outcome: Outcome,
    pub after: Counters,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Whose payloads; `None` for a payload that is nobody's. Tombstones lie before the first of
    /// them and nowhere else: a batch ends where it comes upon one.
    Messages(Vec<Option<Id>>),
    Empty,
    Lagged(u64),
    Closed,
}
