//! The specification, as rules over intervals of time.
//!
//! With one producer and a sequence for every message, a history needs no search for an order of
//! its calls: what a call may return follows from the calls that ended before it began and those
//! that began before it ended. So the checker takes one pass, linear in the history.
//!
//! Terms: message `s` is *opened* when the first call that writes it is invoked, and *marked* when
//! that call has returned, whether or not it published the message; from then on the message `s -
//! slots` is certainly gone. It is *filled* when the call that publishes it is invoked, and
//! *published* when that call has returned.

use crate::gate;
use crate::history::{Counters, Event, History, Outcome, Read, Reason, Span, Written};
use crate::plan::{Call, ConsumerKind, From, Policy, margin};

/// What a history can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The history itself is not one: times run backwards, sequences of the producer have gaps.
    WellFormed,
    /// Attaching and seeking go to where the ring was between call and return.
    Position,
    /// A payload is that of one message, whole.
    Integrity,
    /// No message is received twice.
    Duplicate,
    /// Sequences grow.
    Order,
    /// No message is left out unsaid, and start + received + lost + skipped = cursor after every
    /// call.
    Conservation,
    /// Nothing is received before it was written.
    Future,
    /// Nothing is received that was overwritten before the call.
    Expired,
    /// Nothing is received that was reported as overwritten.
    Resurrection,
    /// What was published before the call is seen by it.
    Freshness,
    /// What is reported lost was overwritten, or within the margin of it that the policy allows.
    LossJustified,
    /// The end is told after the last message, and only if there is one.
    Close,
    /// `lag` is between what was published before the call and what was begun before its return.
    LagBound,
    /// Every reader comes to the end, unless it leaves before.
    Completion,
    /// A reader that gates loses nothing from where it joined.
    Lossless,
    /// Nothing is overwritten before all readers that gate have gone past it.
    Overwrite,
    /// Who is told that the ring is full is told of a reader that gates, is a lap behind, and none
    /// is slower.
    Full,
}

/// A broken rule: of which reader and in which of its events (`None`: outside of them).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    pub reader: usize,
    pub event: Option<usize>,
    pub detail: String,
}

/// Checks a history against all rules; returns what it breaks.
pub fn check(history: &History) -> Vec<Violation> {
    let timeline = match Timeline::of(&history.writer) {
        Ok(timeline) => timeline,
        Err(detail) => {
            return vec![Violation { rule: Rule::WellFormed, reader: 0, event: None, detail }];
        }
    };
    let mut violations = Vec::new();
    for (reader, read) in history.readers.iter().enumerate() {
        let mut checker = Checker::new(history, &timeline, read);
        checker.attached(read);
        let said = |(rule, detail), event| Violation { rule, reader, event, detail };
        violations.extend(checker.broken.drain(..).map(|broken| said(broken, None)));
        for (index, event) in read.events.iter().enumerate() {
            checker.event(event);
            let here = |(rule, detail)| said((rule, format!("{detail}: {event:?}")), Some(index));
            violations.extend(checker.broken.drain(..).map(here));
        }
        checker.completed(read);
        violations.extend(checker.broken.drain(..).map(|broken| said(broken, None)));
    }
    violations.extend(gate::check(history, &timeline));
    violations
}

/// When each message was opened, marked, filled and published. All four only grow along the
/// sequences.
pub struct Timeline {
    opened: Vec<u64>,
    pub marked: Vec<u64>,
    pub filled: Vec<u64>,
    pub published: Vec<u64>,
    close: Span,
}

impl Timeline {
    fn of(writer: &Written) -> Result<Self, String> {
        let mut timeline = Self {
            opened: vec![],
            marked: vec![],
            filled: vec![],
            published: vec![],
            close: writer.close,
        };
        let mut clock = 0;
        for attempt in &writer.attempts {
            let Span { invoked, returned } = attempt.span;
            if invoked < clock || returned < invoked {
                return Err(format!("time runs backwards in {attempt:?}"));
            }
            clock = returned;
            if attempt.first != timeline.published.len() as u64 {
                return Err(format!(
                    "{attempt:?} does not follow {} messages",
                    timeline.published.len()
                ));
            }
            for sequence in attempt.first..attempt.first + attempt.count.max(1) {
                if sequence == timeline.opened.len() as u64 {
                    timeline.opened.push(invoked);
                    timeline.marked.push(returned);
                }
            }
            for _ in 0..attempt.count {
                timeline.filled.push(invoked);
                timeline.published.push(returned);
            }
        }
        if writer.close.invoked < clock || writer.close.returned < writer.close.invoked {
            return Err("time runs backwards in the close".into());
        }
        Ok(timeline)
    }

    fn total(&self) -> u64 {
        self.published.len() as u64
    }
}

/// Whether the event that `times` has for `sequence` happened by `now`.
pub fn by(times: &[u64], sequence: u64, now: u64) -> bool {
    usize::try_from(sequence)
        .ok()
        .and_then(|sequence| times.get(sequence))
        .is_some_and(|time| *time <= now)
}

/// Counts the times up to a moment that only moves forward.
struct Count<'a> {
    times: &'a [u64],
    count: usize,
}

impl<'a> Count<'a> {
    fn new(times: &'a [u64]) -> Self {
        Self { times, count: 0 }
    }

    /// How many are earlier than `now`.
    fn before(&mut self, now: u64) -> u64 {
        self.count_while(|time| time < now)
    }

    /// How many are not later than `now`.
    fn until(&mut self, now: u64) -> u64 {
        self.count_while(|time| time <= now)
    }

    fn count_while(&mut self, counts: impl Fn(u64) -> bool) -> u64 {
        while self.times.get(self.count).is_some_and(|time| counts(*time)) {
            self.count += 1;
        }
        self.count as u64
    }
}

/// One reader's pass.
struct Checker<'a> {
    slots: u64,
    on_lag: Policy,
    gates: bool,
    timeline: &'a Timeline,
    published: Count<'a>,
    filled: Count<'a>,
    /// Return of the last call.
    clock: u64,
    now: Counters,
    /// All messages below are known to this reader as overwritten.
    gone: u64,
    /// The message received last, unless the reader went elsewhere since.
    last: Option<u64>,
    broken: Vec<(Rule, String)>,
}

impl<'a> Checker<'a> {
    fn new(history: &History, timeline: &'a Timeline, read: &Read) -> Self {
        Self {
            slots: history.slots,
            on_lag: read.on_lag,
            gates: read.standing == ConsumerKind::Gating,
            timeline,
            published: Count::new(&timeline.published),
            filled: Count::new(&timeline.filled),
            clock: 0,
            now: Counters::default(),
            gone: 0,
            last: None,
            broken: Vec::new(),
        }
    }

    fn require(&mut self, rule: Rule, holds: bool, detail: impl FnOnce() -> String) {
        if !holds {
            self.broken.push((rule, detail()));
        }
    }

    fn attached(&mut self, read: &Read) {
        let bounds = self.during(read.attach);
        self.position(read.start, bounds, read.cursor);
        self.now.cursor = read.cursor;
    }

    fn completed(&mut self, read: &Read) {
        let ended = matches!(read.events.last(), Some(Event { outcome: Outcome::Closed(_), .. }));
        self.require(Rule::Completion, ended || read.leaves, || {
            "the last event is not the end of the ring".into()
        });
        self.during(read.leave);
    }

    /// Moves the clock; returns how many messages were published before the call (so it must know
    /// of them), and how many were begun before its return (so it can know of no more).
    fn during(&mut self, span: Span) -> (u64, u64) {
        let forward = self.clock <= span.invoked && span.invoked <= span.returned;
        self.require(Rule::WellFormed, forward, || "time runs backwards".into());
        self.clock = span.returned;
        (self.published.before(span.invoked), self.filled.until(span.returned))
    }

    fn position(&mut self, from: From, (least, most): (u64, u64), cursor: u64) {
        let (least, most) = match from {
            From::Next => (least, most),
            From::Newest => (least.saturating_sub(1), most.saturating_sub(1)),
            From::Oldest => (least.saturating_sub(self.slots), most.saturating_sub(self.slots)),
            From::Sequence(sequence) => (sequence, sequence),
        };
        let inside = (least..=most).contains(&cursor);
        self.require(Rule::Position, inside, || {
            format!("cursor {cursor} is not in {least}..={most}")
        });
    }

    fn event(&mut self, event: &Event) {
        let bounds = self.during(event.span);
        let (published, begun) = bounds;
        let mut expected = self.now;
        if event.call == Call::Latest && event.after.skipped > self.now.skipped {
            let skipped = event.after.skipped - self.now.skipped;
            expected.skipped += skipped;
            expected.cursor = expected.cursor.saturating_add(skipped);
            self.last = None;
        }
        let next = expected.cursor;
        match &event.outcome {
            Outcome::Messages(messages) => {
                for (due, message) in (next..).zip(messages) {
                    self.message(*message, due, event.span);
                }
                if event.call == Call::Latest {
                    let newest = next + 1 >= published;
                    self.require(Rule::Freshness, newest, || {
                        format!("{published} messages had been published before")
                    });
                }
                expected.cursor += messages.len() as u64;
                expected.received += messages.len() as u64;
            }
            Outcome::Empty | Outcome::Timeout => {
                self.require(Rule::Freshness, next >= published, || {
                    format!("{published} messages had been published before")
                });
                let open = self.timeline.close.returned >= event.span.invoked;
                self.require(Rule::Freshness, open, || "the ring had been closed before".into());
            }
            Outcome::Lagged(n) => {
                self.loss(next, *n, published, event.span);
                if self.on_lag != Policy::Stay {
                    expected.cursor += n;
                    expected.lost += n;
                }
            }
            Outcome::Closed(reason) => {
                let total = self.timeline.total();
                let closed = self.timeline.close.invoked <= event.span.returned;
                self.require(Rule::Close, *reason == Reason::Closed, || {
                    "the producer neither died nor was replaced".into()
                });
                self.require(Rule::Close, closed, || "the ring was closed later".into());
                self.require(Rule::Close, next >= total, || {
                    format!("messages from {next} to {total} had still to come")
                });
            }
            Outcome::Sought => {
                match event.call {
                    Call::Seek(from) => self.position(from, bounds, event.after.cursor),
                    _ => self.require(Rule::WellFormed, false, || "not a seek".into()),
                }
                self.last = None;
                expected.cursor = event.after.cursor;
            }
            Outcome::Lag(lag) => {
                let (least, most) = (published.saturating_sub(next), begun.saturating_sub(next));
                self.require(Rule::LagBound, (least..=most).contains(lag), || {
                    format!("not in {least}..={most}")
                });
            }
        }
        self.require(Rule::Conservation, event.after == expected, || {
            format!("the counters should be {expected:?}")
        });
        self.now = event.after;
    }

    /// A payload that was received where message `due` was.
    fn message(&mut self, message: Option<u64>, due: u64, span: Span) {
        let Some(sequence) = message else {
            return self.require(Rule::Integrity, false, || {
                format!("the payload of {due} is that of no message")
            });
        };
        let timeline = self.timeline;
        let overwritten = span.invoked > 0
            && by(&timeline.marked, sequence.saturating_add(self.slots), span.invoked - 1);
        let (last, gone) = (self.last, self.gone);
        self.require(Rule::Future, by(&timeline.filled, sequence, span.returned), || {
            format!("{sequence} had not been written")
        });
        self.require(Rule::Duplicate, last != Some(sequence), || format!("{sequence} again"));
        self.require(Rule::Order, last.is_none_or(|last| sequence >= last), || {
            format!("{sequence} behind {last:?}")
        });
        self.require(Rule::Conservation, sequence == due, || {
            format!("{sequence} where {due} was due")
        });
        self.require(Rule::Resurrection, sequence >= gone, || {
            format!("{sequence} was reported as overwritten")
        });
        self.require(Rule::Expired, !overwritten, || {
            format!("{sequence} had been overwritten before")
        });
        self.last = Some(sequence);
    }

    /// `n` messages from `first` on, reported as lost.
    fn loss(&mut self, first: u64, n: u64, published: u64, span: Span) {
        self.require(Rule::LossJustified, n > 0, || "a loss of nothing".into());
        let (slots, timeline) = (self.slots, self.timeline);
        let opened = |sequence| by(&timeline.opened, sequence, span.returned);
        // The first is found overwritten by looking at its slot.
        self.require(Rule::LossJustified, opened(first.saturating_add(slots)), || {
            format!("{first} had not been overwritten")
        });
        // The others follow from the head that the reader saw, a number of published messages. The
        // message before that head must have been begun:
        let last = first.saturating_add(n.saturating_sub(1));
        let witness = match self.on_lag {
            Policy::Oldest => last.saturating_add(slots - margin(slots) - 1),
            Policy::Newest => last.saturating_add(1),
            Policy::Stay => last.saturating_add(slots - 1),
        };
        self.require(Rule::LossJustified, n == 1 || opened(witness), || {
            format!("{last} is lost, but {witness} had not been begun")
        });
        // And the other way round: with what was published before the call, the next message cannot
        // be older than this.
        let oldest = (published + 1).saturating_sub(slots);
        let least = match self.on_lag {
            // Who gates jumps over nothing that it is owed, whatever the policy: only what was
            // certainly overwritten must be left behind.
            _ if self.gates => published.saturating_sub(slots),
            Policy::Oldest => oldest + margin(slots),
            Policy::Newest => published.saturating_sub(1),
            Policy::Stay => oldest,
        };
        self.require(Rule::Freshness, last.saturating_add(1) >= least, || {
            format!("the loss should reach to {least}")
        });
        self.gone = self.gone.max(first.saturating_add(1));
        self.last = None;
    }
}
