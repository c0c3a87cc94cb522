//! The rules of gating: what a producer that waits owes to whom it waits for, and to whoever is
//! told that the ring is full.
//!
//! A message is *owed* to a gating reader from its joining on, if it is not older than the head at
//! that moment, until the reader has gone past it, by receiving it or by seeking elsewhere. A
//! reader that leaves is owed nothing any more.

use crate::check::{Rule, Timeline, Violation, by};
use crate::history::{Event, History, Outcome, Read, Refusal, Span};
use crate::plan::{ConsumerKind, From};

/// Checks what gating adds to the rules; returns what the history breaks.
pub fn check(history: &History, timeline: &Timeline) -> Vec<Violation> {
    let gate = Gate { history, timeline };
    let mut violations = Vec::new();
    for (reader, read) in history.readers.iter().enumerate().filter(|(_, read)| is_gating(read)) {
        gate.reader(read, |rule, event, detail| {
            violations.push(Violation { rule, reader, event, detail })
        });
    }
    let mut clock = 0;
    for refusal in &history.writer.refusals {
        let broken = gate.refusal(refusal, clock).err().into_iter();
        violations.extend(broken.map(|(rule, why)| Violation {
            rule,
            reader: refusal.reader,
            event: None,
            detail: format!("{why}: {refusal:?}"),
        }));
        clock = refusal.span.returned;
    }
    violations
}

fn is_gating(read: &Read) -> bool {
    read.standing == ConsumerKind::Gating
}

struct Gate<'a> {
    history: &'a History,
    timeline: &'a Timeline,
}

impl Gate<'_> {
    /// One reader's pass over what it is owed.
    fn reader(&self, read: &Read, mut broken: impl FnMut(Rule, Option<usize>, String)) {
        let begun = |now| count(&self.timeline.filled, |time| time <= now);
        // The oldest message that can be owed. Where it starts is the head, if it has asked for
        // that; otherwise the head at its joining is known by its bound only.
        let mut owed =
            if read.start == From::Next { read.cursor } else { begun(read.attach.returned) };
        let (mut cursor, mut skipped) = (read.cursor, 0);
        for (index, event) in read.events.iter().enumerate() {
            if let Some(detail) = self.overwritten(read, cursor.max(owed), event.span.invoked) {
                broken(Rule::Overwrite, Some(index), format!("{detail}: {event:?}"));
            }
            if let Outcome::Lagged(n) = event.outcome {
                // `latest` skips before it looks.
                let first = cursor.saturating_add(event.after.skipped.saturating_sub(skipped));
                // What is lost was owed to nobody, and no policy jumps over what is.
                if first >= owed || first.saturating_add(n) > owed {
                    broken(
                        Rule::Lossless,
                        Some(index),
                        format!(
                            "it was owed all from {owed} on, and is told of {first} to {first}+{n}: {event:?}"
                        ),
                    );
                }
            }
            // What it has gone past is owed no more, even if it seeks back. No look at the table
            // can have allowed for more than had been begun.
            owed = owed.max(cursor.min(begun(event.span.returned)));
            (cursor, skipped) = (event.after.cursor, event.after.skipped);
        }
        if let Some(detail) = self.overwritten(read, cursor.max(owed), read.leave.invoked) {
            broken(Rule::Overwrite, None, detail);
        }
    }

    /// Whether message `sequence` was gone by `now`, though not when this reader joined.
    fn overwritten(&self, read: &Read, sequence: u64, now: u64) -> Option<String> {
        let over = sequence.saturating_add(self.history.slots);
        let gone = |by_when: u64| by_when > 0 && by(&self.timeline.marked, over, by_when - 1);
        (gone(now) && !gone(read.attach.invoked))
            .then(|| format!("{over} was written while {sequence} had not been received"))
    }

    /// Whether it was right to refuse, after a refusal that returned at `clock`.
    fn refusal(&self, refusal: &Refusal, clock: u64) -> Result<(), (Rule, String)> {
        let Span { invoked, returned } = refusal.span;
        let require =
            |rule, holds: bool, why: &str| if holds { Ok(()) } else { Err((rule, why.to_owned())) };
        require(Rule::WellFormed, clock <= invoked && invoked <= returned, "time runs backwards")?;
        let published = count(&self.timeline.published, |time| time <= invoked);
        let begun = count(&self.timeline.filled, |time| time < returned);
        require(
            Rule::WellFormed,
            (published, begun) == (refusal.sequence, refusal.sequence),
            "another message was due",
        )?;

        let named = self.history.readers.get(refusal.reader).filter(|read| is_gating(read));
        let Some(named) = named else {
            return Err((Rule::Full, "nobody waits for that reader".into()));
        };
        let there = named.attach.invoked <= returned && invoked <= named.leave.returned;
        require(Rule::Full, there, "that reader was not there")?;
        require(Rule::Full, refusal.lag >= self.history.slots, "there was room")?;
        let told = refusal.sequence.checked_sub(refusal.lag);
        let (least, most) = self.told(named, refusal.span);
        let Some(told) = told.filter(|told| (least..=most).contains(told)) else {
            return Err((Rule::Full, format!("that reader was at {least}..={most}")));
        };
        let others = self.history.readers.iter().filter(|read| is_gating(read));
        let mut always_there =
            others.filter(|read| read.attach.returned < invoked && returned < read.leave.invoked);
        let slower = always_there.find(|read| self.told(read, refusal.span).1 < told);
        slower.map_or(Ok(()), |slower| {
            Err((Rule::Full, format!("the reader that joined at {} was slower", slower.cursor)))
        })
    }

    /// What the table can have said about a reader's cursor at any time of `span`: the least and
    /// the most.
    fn told(&self, read: &Read, span: Span) -> (u64, u64) {
        // A reader tells what it has received at least this often, or before it waits.
        let stride = (self.history.slots / 8).clamp(1, 32);
        let past = read.events.partition_point(|event| event.span.returned < span.invoked);
        let last = past.checked_sub(1).map_or(read.cursor, |last| read.events[last].after.cursor);
        let during =
            read.events[past..].iter().take_while(|event| event.span.invoked <= span.returned);
        let cursors = |event: &Event| event.after.cursor;
        let (least, most) = during
            .map(cursors)
            .fold((last, last), |(least, most), cursor| (least.min(cursor), most.max(cursor)));
        // Who is joining may be seen with an older head.
        let joining = span.invoked <= read.attach.returned;
        (if joining { 0 } else { least.saturating_sub(stride - 1) }, most)
    }
}

/// How many of these times, which only grow, are `early`.
fn count(times: &[u64], early: impl Fn(u64) -> bool) -> u64 {
    times.partition_point(|time| early(*time)) as u64
}
