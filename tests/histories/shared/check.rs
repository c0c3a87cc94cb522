//! The rules.

use std::collections::BTreeMap;

use crate::plan::{Policy, margin};
use crate::shared::{Call, Counters, Event, History, Id, Outcome, Seen};

/// What a history can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The history itself is not one: times run backwards, a call does not return though its
    /// producer lived on.
    WellFormed,
    /// A sequence has one message, the same for all consumers, and a message has one sequence.
    OneOrder,
    /// A producer's messages have sequences in its own order.
    OwnOrder,
    /// A call that began when another had returned has the later sequence.
    RealTime,
    /// Attaching goes to where the head was between call and return.
    Position,
    /// A payload is that of a call, whole.
    Integrity,
    /// Nothing is received before it was written.
    Future,
    /// Nothing is received twice or out of order.
    Order,
    /// No message is left out unsaid, and start + received + lost + skipped + tombstones = cursor
    /// after every call.
    Conservation,
    /// What has no message is the claim of a producer that was killed, before anybody has passed
    /// it; at most one of each.
    Tombstone,
    /// What was published before the call is seen by it.
    Freshness,
    /// What is reported lost was overwritten.
    LossJustified,
    /// Nothing is received that was overwritten before the call.
    Expired,
    /// A reader that gates loses nothing.
    Lossless,
    /// Nothing is overwritten before all readers that gate have gone past it.
    Overwrite,
    /// The end is told after the last message, and when all producers have ended.
    Close,
    /// Every reader comes to the end.
    Completion,
}

pub type Broken = (Rule, String);

/// Checks a history against all rules; returns what it breaks.
pub fn check(history: &History) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut order = Order {
        history,
        messages: BTreeMap::new(),
        unfinished: BTreeMap::new(),
        passed: BTreeMap::new(),
    };
    order.produced(&mut broken);
    for seen in &history.readers {
        order.seen(seen, &mut broken);
    }
    order.tombstones(&mut broken);
    broken
}

fn require(broken: &mut Vec<Broken>, rule: Rule, holds: bool, detail: impl FnOnce() -> String) {
    if !holds {
        broken.push((rule, detail()));
    }
}

/// The total order, as far as it is known.
struct Order<'a> {
    history: &'a History,
    messages: BTreeMap<u64, Id>,
    /// Messages whose producer was killed over them, and the sequences at which they were
    /// received.
    unfinished: BTreeMap<Id, Option<u64>>,
    /// Sequences that somebody has passed as tombstones, and when the first call that did
    /// returned.
    passed: BTreeMap<u64, u64>,
}

impl Order<'_> {
    fn call(&self, id: Id) -> Option<&Call> {
        self.history.producers.get(id.producer)?.calls.get(id.number)
    }

    /// All that the producers say.
    fn produced(&mut self, broken: &mut Vec<Broken>) {
        for (producer, produced) in self.history.producers.iter().enumerate() {
            let (mut clock, mut last) = (0, None);
            for (number, call) in produced.calls.iter().enumerate() {
                let id = Id { producer, number };
                let finished = call.sequence.is_some()
                    || produced.killed && number + 1 == produced.calls.len();
                let forward = clock <= call.span.invoked && call.span.invoked <= call.span.returned;
                require(broken, Rule::WellFormed, finished && forward, || {
                    format!("{id:?}: {call:?} behind {clock}")
                });
                clock =
                    if call.sequence.is_some() { call.span.returned } else { call.span.invoked };
                let Some(sequence) = call.sequence else {
                    self.unfinished.insert(id, None);
                    continue;
                };
                require(broken, Rule::OwnOrder, last < Some(sequence), || {
                    format!("{id:?} is {sequence} behind {last:?}")
                });
                last = Some(sequence);
                let other = self.messages.insert(sequence, id);
                require(broken, Rule::OneOrder, other.is_none(), || {
                    format!("{sequence} is {id:?} and {other:?}")
                });
            }
            let forward =
                clock <= produced.end.invoked && produced.end.invoked <= produced.end.returned;
            require(broken, Rule::WellFormed, forward, || {
                format!("producer {producer} ended at {:?}, behind {clock}", produced.end)
            });
        }
        let mut latest = 0;
        for (sequence, id) in &self.messages {
            let span = self.call(*id).expect("entered from there").span;
            require(broken, Rule::RealTime, span.returned >= latest, || {
                format!("{sequence} returned before a message before it began")
            });
            latest = latest.max(span.invoked);
        }
    }

    /// One reader's pass.
    fn seen(&mut self, seen: &Seen, broken: &mut Vec<Broken>) {
        let least = self.claimed_before(seen.attach.invoked);
        let most = self.begun_until(seen.attach.returned);
        let inside = (least..=most).contains(&seen.cursor);
        require(broken, Rule::Position, inside, || {
            format!("cursor {} is not in {least}..={most}", seen.cursor)
        });
        let (mut now, mut clock) =
            (Counters { cursor: seen.cursor, ..Counters::default() }, seen.attach.returned);
        for event in &seen.events {
            let forward = clock <= event.span.invoked && event.span.invoked <= event.span.returned;
            require(broken, Rule::WellFormed, forward, || format!("{event:?} behind {clock}"));
            clock = event.span.returned;
            if seen.gating {
                self.gated(now.cursor, event, broken);
            }
            let expected = self.event(seen.on_lag, now, event, broken);
            require(broken, Rule::Conservation, event.after == expected, || {
                format!("not {expected:?}: {event:?}")
            });
            now = event.after;
        }
        let ended = matches!(seen.events.last(), Some(Event { outcome: Outcome::Closed, .. }));
        require(broken, Rule::Completion, ended, || {
            "the last event is not the end of the ring".into()
        });
    }

    /// Checks that this event of a reader that gates, whose cursor was at `cursor`, lost nothing,
    /// and that it was waited for.
    fn gated(&self, cursor: u64, event: &Event, broken: &mut Vec<Broken>) {
        let lost = matches!(event.outcome, Outcome::Lagged(_));
        require(broken, Rule::Lossless, !lost, || {
            format!("it was owed all from {cursor} on: {event:?}")
        });
        // Claims are written in any order, so look at some.
        let over = self
            .messages
            .range(cursor.saturating_add(self.history.slots)..)
            .take(self.history.producers.len());
        let early = over
            .filter_map(|(at, id)| Some((at, self.call(*id)?)))
            .find(|(_, call)| call.sequence.is_some() && call.span.returned < event.span.invoked);
        require(broken, Rule::Overwrite, early.is_none(), || {
            format!("{early:?} was written while {cursor} had not been received: {event:?}")
        });
    }

    /// What the counters should be behind an event.
    fn event(
        &mut self,
        on_lag: Policy,
        now: Counters,
        event: &Event,
        broken: &mut Vec<Broken>,
    ) -> Counters {
        let Event { span, outcome, after } = event;
        let mut next = now;
        next.skipped += after.skipped.saturating_sub(now.skipped);
        next.cursor += next.skipped - now.skipped;
        if let Outcome::Messages(messages) = outcome {
            for (index, message) in messages.iter().enumerate() {
                // Tombstones lie before the messages of an event, not between them.
                let told = after.cursor.saturating_sub((messages.len() - index) as u64);
                let sequence = self.message(*message, next.cursor, told, event, broken);
                self.pass(&mut next, sequence, event, broken);
                next.received += 1;
                next.cursor += 1;
            }
            return next;
        }
        // Tombstones come first, and then nothing, a loss or the end.
        let tombstones = after.tombstones.saturating_sub(now.tombstones);
        // Bounded, whatever a corrupt history says.
        let behind = next.cursor.saturating_add(tombstones).min(self.begun_until(u64::MAX));
        self.pass(&mut next, behind, event, broken);
        let due = next.cursor;
        match outcome {
            Outcome::Messages(_) => unreachable!("returned above"),
            Outcome::Empty => {
                let missed = self.messages.get(&due).is_some_and(|id| {
                    self.call(*id).is_some_and(|call| call.span.returned < span.invoked)
                });
                require(broken, Rule::Freshness, !missed, || {
                    format!("{due} had been published: {event:?}")
                });
                let open = self
                    .history
                    .producers
                    .iter()
                    .any(|producer| producer.end.returned >= span.invoked);
                require(broken, Rule::Freshness, open, || {
                    format!("all producers had ended: {event:?}")
                });
            }
            Outcome::Lagged(n) => {
                // The first is found overwritten by looking at its slot; the others follow from the
                // head, behind a message that was claimed.
                let (slots, last) = (self.history.slots, due.saturating_add(n.saturating_sub(1)));
                let newest = match on_lag {
                    Policy::Oldest => last.saturating_add(slots - margin(slots) - 1),
                    Policy::Newest => last.saturating_add(1),
                    Policy::Stay => last.saturating_add(slots - 1),
                };
                let begun = self.begun_until(span.returned);
                let justified =
                    *n > 0 && due.saturating_add(slots) < begun && (*n == 1 || newest < begun);
                require(broken, Rule::LossJustified, justified, || {
                    format!("{begun} had been begun, not {newest}: {event:?}")
                });
                if on_lag != Policy::Stay {
                    next.cursor = due.saturating_add(*n);
                    next.lost += n;
                }
            }
            Outcome::Closed => {
                let closed = self
                    .history
                    .producers
                    .iter()
                    .all(|producer| producer.end.invoked <= span.returned);
                require(broken, Rule::Close, closed, || {
                    format!("a producer ended later: {event:?}")
                });
                let left = self.messages.range(due..).next();
                require(broken, Rule::Close, left.is_none(), || {
                    format!("{left:?} had still to come: {event:?}")
                });
            }
        }
        next
    }

    /// Checks a message that was received when `due` was next, by the cursor as `told`; returns its
    /// sequence.
    fn message(
        &mut self,
        message: Option<Id>,
        due: u64,
        told: u64,
        event: &Event,
        broken: &mut Vec<Broken>,
    ) -> u64 {
        let Some((id, call)) = message.and_then(|id| Some((id, *self.call(id)?))) else {
            broken.push((Rule::Integrity, format!("{message:?} is no message: {event:?}")));
            return due;
        };
        let written = call.span.invoked <= event.span.returned;
        require(broken, Rule::Future, written, || {
            format!("{id:?} had not been written: {event:?}")
        });
        let known = call.sequence.or_else(|| self.unfinished.get(&id).copied().flatten());
        let sequence = known.unwrap_or_else(|| {
            // The consumer is the first to tell where it is. Whatever it says, nobody else has
            // published that.
            let free = (told.max(due)..)
                .find(|sequence| !self.messages.contains_key(sequence))
                .expect("without end");
            self.unfinished.insert(id, Some(free));
            self.messages.insert(free, id);
            let may = self.may_be(id, free);
            require(broken, Rule::RealTime, may, || format!("{id:?} cannot be {free}: {event:?}"));
            free
        });
        require(broken, Rule::Order, sequence >= due, || {
            format!("{sequence} where {due} was due: {event:?}")
        });
        let over = self
            .messages
            .get(&sequence.saturating_add(self.history.slots))
            .and_then(|id| self.call(*id));
        let gone = over.is_some_and(|call| call.span.returned < event.span.invoked);
        require(broken, Rule::Expired, !gone, || {
            format!("{sequence} had been overwritten: {event:?}")
        });
        sequence
    }

    /// Passes what lies before `sequence`, which has to be tombstones.
    fn pass(
        &mut self,
        counters: &mut Counters,
        sequence: u64,
        event: &Event,
        broken: &mut Vec<Broken>,
    ) {
        while counters.cursor < sequence {
            let at = counters.cursor;
            let published = self.messages.get(&at);
            require(broken, Rule::Conservation, published.is_none(), || {
                format!("{at} was left out, which is {published:?}: {event:?}")
            });
            let first = self.passed.entry(at).or_insert(event.span.returned);
            *first = event.span.returned.min(*first);
            counters.cursor += 1;
            counters.tombstones += 1;
        }
    }

    /// Every sequence without a message is the claim of a producer that was killed over it.
    fn tombstones(&self, broken: &mut Vec<Broken>) {
        for (sequence, id) in &self.messages {
            let passed = self.passed.contains_key(sequence);
            require(broken, Rule::OneOrder, !passed, || {
                format!("{sequence} is {id:?} for some and a tombstone for others")
            });
        }
        let holes = (0..self.end()).filter(|sequence| !self.messages.contains_key(sequence));
        let dead: Vec<Id> =
            self.unfinished.iter().filter(|(_, seen)| seen.is_none()).map(|(id, _)| *id).collect();
        let fits = |hole: u64, dead: Id| {
            let death = self.history.producers[dead.producer].end.invoked;
            self.may_be(dead, hole) && self.passed.get(&hole).is_none_or(|passed| death <= *passed)
        };
        let mut owners = vec![None; dead.len()];
        for hole in holes {
            let found = assign(hole, &mut vec![false; dead.len()], &mut owners, &|hole, index| {
                fits(hole, dead[index])
            });
            require(broken, Rule::Tombstone, found, || {
                format!("{hole} has no message, and nobody died over it")
            });
        }
    }

    /// Whether `sequence` can have been claimed by this call, which did not return.
    fn may_be(&self, id: Id, sequence: u64) -> bool {
        let Some(call) = self.call(id) else { return false };
        let burial = self.history.producers[id.producer].end.returned;
        self.messages.iter().filter(|(_, other)| **other != id).all(|(at, other)| {
            let span = self.call(*other).expect("entered from there").span;
            (span.returned >= call.span.invoked || *at < sequence)
                && (span.invoked <= burial || *at > sequence)
        })
    }

    /// Behind the last sequence that anybody has told of.
    fn end(&self) -> u64 {
        let last = |last: Option<&u64>| last.map_or(0, |last| last + 1);
        last(self.messages.keys().next_back()).max(last(self.passed.keys().next_back()))
    }

    /// How many sequences had been claimed for certain.
    fn claimed_before(&self, now: u64) -> u64 {
        let returned = |id: &Id| {
            self.call(*id).is_some_and(|call| call.sequence.is_some() && call.span.returned < now)
        };
        self.messages
            .iter()
            .rev()
            .find(|(_, id)| returned(id))
            .map_or(0, |(sequence, _)| sequence + 1)
    }

    /// How many can have been claimed.
    fn begun_until(&self, now: u64) -> u64 {
        self.history
            .producers
            .iter()
            .flat_map(|producer| &producer.calls)
            .filter(|call| call.span.invoked <= now)
            .count() as u64
    }
}

/// Finds an owner for `hole` among those that `fit`, moving others to other owners if need be:
/// augmenting paths.
fn assign(
    hole: u64,
    tried: &mut [bool],
    owners: &mut [Option<u64>],
    fit: &impl Fn(u64, usize) -> bool,
) -> bool {
    for index in 0..owners.len() {
        if tried[index] || !fit(hole, index) {
            continue;
        }
        tried[index] = true;
        if owners[index].is_none_or(|other| assign(other, tried, owners, fit)) {
            owners[index] = Some(hole);
            return true;
        }
    }
    false
}
