//! The checker, checked: it accepts a correct history, and finds whatever is done to it.

use seqring::Ring;

use crate::check::{Rule, check};
use crate::history::{Event, History, Outcome, Reason, Refusal, Span};
use crate::plan::{Call, ConsumerKind, From, Plan, Policy, Publish, Shape};
use crate::record::{Recorder, Scribe, Traffic, Words};
use crate::support::Name;

const SLOTS: usize = 16;

/// A history of one thread, call by call, so always the same but for its times: everything that can
/// happen to readers of each policy.
fn sample() -> History {
    type T = Words<6>;
    let name = Name::new("corrupt");
    let plan = Plan { shape: Shape::Line, slots: SLOTS, publishing: vec![], readings: vec![] };
    let ring = <T as Traffic>::builder(&name, &plan).create().expect("a new ring");
    let mut scribe = Scribe::<T>::new(&ring, ring.producer().expect("the only producer"));
    let policies = [Policy::Oldest, Policy::Newest, Policy::Stay];
    let mut readers = policies.map(|policy| Recorder::<T>::attach(&ring, From::Oldest, policy));
    let mut all = |calls: &[Call]| {
        for reader in &mut readers {
            calls.iter().for_each(|call| drop(reader.call(*call)));
        }
    };
    all(&[Call::TryRecv, Call::Lag]);
    scribe.step(Publish::Single(6));
    all(&[
        Call::TryRecv,
        Call::Recv,
        Call::Lag,
        Call::RecvBatch(3),
        Call::Next,
        Call::TryRecv,
        Call::RecvTimeout(10),
    ]);
    scribe.step(Publish::Batch(5));
    all(&[Call::TryRecv, Call::Latest, Call::Latest, Call::Lag]);
    scribe.step(Publish::Single(40));
    all(&[Call::TryRecv, Call::Lag]);
    // Who stays goes back by itself; the others read on.
    let _ = readers[2].call(Call::Seek(From::Newest));
    readers.iter_mut().for_each(|reader| {
        drop((reader.call(Call::TryRecv), reader.call(Call::TryRecv), reader.call(Call::Latest)))
    });
    readers.iter_mut().for_each(|reader| {
        drop((reader.call(Call::Seek(From::Sequence(45))), reader.call(Call::Recv)))
    });
    let _ = readers[0].call(Call::Seek(From::Next));
    scribe.step(Publish::Single(3));
    let writer = scribe.close();
    let late = Ring::open_read_only(&name).expect("an open ring");
    let mut all: Vec<_> = readers.into();
    all.extend(
        [From::Next, From::Newest, From::Oldest]
            .map(|start| Recorder::<T>::attach(&late, start, Policy::Oldest)),
    );
    History { slots: SLOTS as u64, writer, readers: all.into_iter().map(Recorder::drain).collect() }
}

/// Corrupts the sample and expects that `rule` is broken.
#[track_caller]
fn expect(rule: Rule, corrupt: impl FnOnce(&mut History)) {
    let mut history = sample();
    assert_eq!(check(&history), []);
    corrupt(&mut history);
    let violations = check(&history);
    assert!(
        violations.iter().any(|violation| violation.rule == rule),
        "{rule:?} is not among {violations:#?}"
    );
}

/// The first event of reader `reader` from `after` on that `matches`, and its index.
#[track_caller]
fn find(history: &History, reader: usize, after: usize, matches: impl Fn(&Event) -> bool) -> usize {
    let events = &history.readers[reader].events;
    (after..events.len())
        .find(|index| matches(&events[*index]))
        .expect("the sample has such an event")
}

fn is_one(event: &Event) -> bool {
    matches!(&event.outcome, Outcome::Messages(messages) if messages.len() == 1)
}

fn is_lagged(event: &Event) -> bool {
    matches!(event.outcome, Outcome::Lagged(_))
}

fn messages(event: &mut Event) -> &mut Vec<Option<u64>> {
    match &mut event.outcome {
        Outcome::Messages(messages) => messages,
        other => panic!("{other:?} are no messages"),
    }
}

#[test]
fn the_sample_has_every_kind_of_outcome() {
    let history = sample();
    assert_eq!(check(&history), []);
    for (reader, lost) in [(0, 29), (1, 39), (2, 0)] {
        find(&history, reader, 0, |event| event.outcome == Outcome::Empty);
        find(&history, reader, 0, |event| event.outcome == Outcome::Timeout);
        find(&history, reader, 0, is_lagged);
        find(&history, reader, 0, |event| event.after.skipped > 0);
        let last = history.readers[reader].events.last().expect("many");
        assert_eq!((last.after.lost, &last.outcome), (lost, &Outcome::Closed(Reason::Closed)));
    }
}

#[test]
fn altered_payload() {
    expect(Rule::Integrity, |history| {
        let at = find(history, 0, 0, is_one);
        messages(&mut history.readers[0].events[at])[0] = None;
    });
}

#[test]
fn swapped_messages_of_two_calls() {
    expect(Rule::Order, |history| {
        let first = find(history, 0, 0, is_one);
        let second = find(history, 0, first + 1, is_one);
        let events = &mut history.readers[0].events;
        let other = messages(&mut events[second])[0];
        let one = std::mem::replace(&mut messages(&mut events[first])[0], other);
        messages(&mut events[second])[0] = one;
    });
}

#[test]
fn swapped_messages_of_a_batch() {
    expect(Rule::Order, |history| {
        let at = find(history, 0, 0, |event| matches!(event.call, Call::RecvBatch(_)));
        messages(&mut history.readers[0].events[at]).swap(0, 1);
    });
}

#[test]
fn duplicated_message() {
    expect(Rule::Duplicate, |history| {
        let at = find(history, 1, 0, is_one);
        let again = history.readers[1].events[at].clone();
        let span = again.span;
        history.readers[1].events.insert(at + 1, again);
        history.readers[1].events[at + 1].span.invoked = span.returned;
    });
}

#[test]
fn dropped_message() {
    expect(Rule::Conservation, |history| {
        let at = find(history, 1, 0, is_one);
        history.readers[1].events.remove(at);
    });
}

#[test]
fn message_left_out_of_a_batch() {
    expect(Rule::Conservation, |history| {
        let at = find(history, 2, 0, |event| matches!(event.call, Call::RecvBatch(_)));
        messages(&mut history.readers[2].events[at]).remove(1);
    });
}

#[test]
fn wrong_counters() {
    for field in 0..4 {
        for up in [true, false] {
            expect(Rule::Conservation, |history| {
                let at = find(history, 0, 0, is_lagged);
                let after = &mut history.readers[0].events[at].after;
                let counter =
                    [&mut after.cursor, &mut after.received, &mut after.lost, &mut after.skipped]
                        .into_iter()
                        .nth(field)
                        .expect("4");
                *counter = if up { *counter + 1 } else { *counter - 1 };
            });
        }
    }
}

/// Changes a reported loss together with everything that follows from it.
fn change_loss(history: &mut History, reader: usize, by: i64) {
    let at = find(history, reader, 0, is_lagged);
    for event in &mut history.readers[reader].events[at..] {
        event.after.cursor = event.after.cursor.wrapping_add_signed(by);
        event.after.lost = event.after.lost.wrapping_add_signed(by);
    }
    let Outcome::Lagged(n) = &mut history.readers[reader].events[at].outcome else {
        unreachable!("found as such")
    };
    *n = n.wrapping_add_signed(by);
}

#[test]
fn loss_too_large() {
    for reader in 0..2 {
        expect(Rule::LossJustified, |history| change_loss(history, reader, 1));
    }
}

#[test]
fn loss_too_small() {
    for reader in 0..2 {
        expect(Rule::Freshness, |history| change_loss(history, reader, -1));
    }
}

#[test]
fn loss_of_nothing() {
    expect(Rule::LossJustified, |history| {
        let at = find(history, 2, 0, is_lagged);
        history.readers[2].events[at].outcome = Outcome::Lagged(0);
    });
}

#[test]
fn loss_of_what_is_still_there() {
    expect(Rule::LossJustified, |history| {
        let at = find(history, 2, 0, is_one);
        let event = &mut history.readers[2].events[at];
        event.outcome = Outcome::Lagged(1);
        event.after.received -= 1;
        event.after.cursor -= 1;
    });
}

#[test]
fn message_from_the_future() {
    expect(Rule::Future, |history| {
        let at = find(history, 0, 0, is_one);
        messages(&mut history.readers[0].events[at])[0] = Some(50);
    });
    expect(Rule::Future, |history| {
        let at = find(history, 0, 0, is_one);
        messages(&mut history.readers[0].events[at])[0] = Some(u64::MAX);
    });
    // Received as it should be, but begun only when the call was over.
    expect(Rule::Future, |history| {
        let at = find(history, 0, 0, is_one);
        let early = history.writer.attempts[0].span;
        history.readers[0].events[at].span = early;
        history.writer.attempts.iter_mut().for_each(|attempt| {
            attempt.span.invoked += early.returned;
            attempt.span.returned += early.returned;
        });
        history.writer.close.invoked += early.returned;
        history.writer.close.returned += early.returned;
    });
}

#[test]
fn message_that_was_overwritten_before_the_call() {
    // The first message of the reader, received at the end of time.
    expect(Rule::Expired, |history| {
        let end = history.writer.close.returned;
        let at = find(history, 0, 0, is_one);
        for event in &mut history.readers[0].events[at..] {
            event.span.invoked = event.span.invoked.max(end);
            event.span.returned = event.span.returned.max(end);
        }
    });
}

#[test]
fn message_that_was_reported_as_overwritten() {
    expect(Rule::Resurrection, |history| {
        let lagged = find(history, 0, 0, is_lagged);
        let first = history.readers[0].events[lagged - 1].after.cursor;
        let at = find(history, 0, lagged, is_one);
        messages(&mut history.readers[0].events[at])[0] = Some(first);
    });
}

#[test]
fn stale_latest() {
    expect(Rule::Freshness, |history| {
        let at = find(history, 0, 0, |event| event.call == Call::Latest && is_one(event));
        let event = &mut history.readers[0].events[at];
        event.after.cursor -= 1;
        event.after.skipped -= 1;
        messages(event)[0] = messages(event)[0].map(|sequence| sequence - 1);
    });
}

#[test]
fn empty_though_something_was_there() {
    for outcome in [Outcome::Empty, Outcome::Timeout] {
        expect(Rule::Freshness, |history| {
            let at = find(history, 0, 0, is_one);
            let event = &mut history.readers[0].events[at];
            event.outcome = outcome;
            event.after.received -= 1;
            event.after.cursor -= 1;
        });
    }
}

#[test]
fn empty_though_the_ring_was_closed() {
    expect(Rule::Freshness, |history| {
        let last = history.readers[3].events.last_mut().expect("the end");
        last.outcome = Outcome::Empty;
    });
}

#[test]
fn closed_before_the_last_message() {
    expect(Rule::Close, |history| {
        let events = &mut history.readers[4].events;
        // The late reader's only message.
        let mut end = events.pop().expect("the end");
        let message = events.pop().expect("the newest message");
        end.after.cursor = message.after.cursor - 1;
        end.after.received = 0;
        events.push(end);
    });
}

#[test]
fn closed_while_the_ring_is_open() {
    expect(Rule::Close, |history| {
        let at = find(history, 0, 0, |event| event.outcome == Outcome::Empty);
        history.readers[0].events[at].outcome = Outcome::Closed(Reason::Closed);
    });
}

#[test]
fn closed_for_another_reason() {
    for reason in [Reason::ProducerDied, Reason::Superseded] {
        expect(Rule::Close, |history| {
            history.readers[5].events.last_mut().expect("the end").outcome = Outcome::Closed(reason)
        });
    }
}

#[test]
fn no_end() {
    expect(Rule::Completion, |history| drop(history.readers[3].events.pop()));
}

#[test]
fn wrong_lag() {
    for up in [true, false] {
        expect(Rule::LagBound, |history| {
            let at =
                find(history, 0, 0, |event| matches!(event.outcome, Outcome::Lag(lag) if lag > 0));
            let Outcome::Lag(lag) = &mut history.readers[0].events[at].outcome else {
                unreachable!("found as such")
            };
            *lag = if up { *lag + 1 } else { *lag - 1 };
        });
    }
}

#[test]
fn wrong_start() {
    for reader in [3, 4, 5] {
        expect(Rule::Position, |history| history.readers[reader].cursor += 1);
        expect(Rule::Position, |history| history.readers[reader].cursor -= 1);
    }
}

#[test]
fn wrong_seek() {
    expect(Rule::Position, |history| {
        let at = find(history, 1, 0, |event| event.outcome == Outcome::Sought);
        history.readers[1].events[at].after.cursor += 1;
    });
}

#[test]
fn time_that_runs_backwards() {
    expect(Rule::WellFormed, |history| history.readers[0].events.swap(0, 1));
    expect(Rule::WellFormed, |history| history.writer.attempts.swap(0, 1));
    expect(Rule::WellFormed, |history| history.writer.attempts[1].first += 1);
}

/// Whatever is done to any event of any reader, something is found.
#[test]
fn every_event_matters() {
    type Corruption = fn(&mut History, usize, usize);
    let corruptions: [(&str, Corruption); 4] = [
        ("removed", |history, reader, at| drop(history.readers[reader].events.remove(at))),
        ("repeated", |history, reader, at| {
            let again = history.readers[reader].events[at].clone();
            history.readers[reader].events.insert(at, again);
        }),
        ("counted on", |history, reader, at| {
            history.readers[reader].events[at].after.received += 1
        }),
        ("before its time", |history, reader, at| {
            history.readers[reader].events[at].span.invoked = 0
        }),
    ];
    let original = sample();
    for reader in 0..original.readers.len() {
        for (at, event) in original.readers[reader].events.iter().enumerate() {
            // An event that tells nothing new can be left out.
            let silent = at > 0 && event.after == original.readers[reader].events[at - 1].after
                || at == 0 && event.after.received == 0;
            for (name, corrupt) in corruptions {
                let end = at + 1 == original.readers[reader].events.len();
                if silent && name == "removed" && !end {
                    continue;
                }
                let mut history = original.clone();
                corrupt(&mut history, reader, at);
                assert_ne!(check(&history), [], "event {at} of reader {reader}, {name}: {event:?}");
            }
        }
    }
}

/// A history of one thread, call by call: a free reader, two that gate from the beginning, of which
/// the second leaves early, and one that joins late and asks for what is gone.
fn gating_sample() -> History {
    type T = Words<6>;
    let name = Name::new("corrupt-gating");
    let plan = Plan { shape: Shape::Line, slots: SLOTS, publishing: vec![], readings: vec![] };
    let ring = <T as Traffic>::builder(&name, &plan).create().expect("a new ring");
    let mut scribe = Scribe::<T>::new(&ring, ring.producer().expect("the only producer"));
    let mut free = Recorder::<T>::attach(&ring, From::Next, Policy::Oldest);
    let gating = |start, index| Recorder::<T, _>::gate(&ring, start, Policy::Oldest, index);
    let (mut first, mut second) = (gating(From::Next, 1), gating(From::Next, 2));
    scribe.step(Publish::Single(16));
    scribe.step(Publish::Try(2));
    let _ = first.call(Call::RecvBatch(5));
    scribe.step(Publish::Try(1));
    let _ = second.call(Call::RecvBatch(16));
    scribe.step(Publish::Single(5));
    scribe.step(Publish::Timeout(1, 50));
    let mut late = gating(From::Sequence(0), 3);
    scribe.step(Publish::Try(1));
    let second = second.leave();
    let _ =
        (late.call(Call::Recv), late.call(Call::RecvBatch(16)), first.call(Call::RecvBatch(16)));
    scribe.step(Publish::Batch(16));
    let _ =
        (free.call(Call::Recv), late.call(Call::RecvBatch(16)), first.call(Call::RecvBatch(16)));
    scribe.step(Publish::Single(2));
    let writer = scribe.close();
    History {
        slots: SLOTS as u64,
        writer,
        readers: vec![free.drain(), first.drain(), second, late.drain()],
    }
}

/// Corrupts the sample with gating readers and expects that these rules are broken and no others.
#[track_caller]
fn expect_of_gating(rules: &[Rule], corrupt: impl FnOnce(&mut History)) {
    let mut history = gating_sample();
    assert_eq!(check(&history), []);
    corrupt(&mut history);
    let violations = check(&history);
    let broken = |rule: &Rule| violations.iter().any(|violation| violation.rule == *rule);
    let expected = rules.iter().all(broken)
        && violations.iter().all(|violation| rules.contains(&violation.rule));
    assert!(expected, "not {rules:?} are broken, but {violations:#?}");
}

#[test]
fn the_gating_sample_is_full_for_everybody_once() {
    let history = gating_sample();
    assert_eq!(check(&history), []);
    let refusals: Vec<_> = history
        .writer
        .refusals
        .iter()
        .map(|refusal| (refusal.sequence, refusal.reader, refusal.lag))
        .collect();
    assert_eq!(refusals, [(16, 1, 16), (16, 1, 16), (16, 2, 16), (21, 1, 16), (21, 3, 21)]);
    for (reader, lost) in [(0, true), (1, false), (2, false), (3, true)] {
        assert_eq!(history.readers[reader].events.iter().any(is_lagged), lost, "reader {reader}");
    }
}

#[test]
fn loss_of_a_gating_reader() {
    // What the free one lost and was not waited for.
    expect_of_gating(&[Rule::Lossless, Rule::Overwrite, Rule::Full], |history| {
        history.readers[0].standing = ConsumerKind::Gating
    });
    // The late one would have been safe at the head.
    expect_of_gating(&[Rule::Lossless, Rule::Position], |history| {
        history.readers[3].start = From::Next
    });
    // The same, whatever its policy.
    expect_of_gating(&[Rule::Lossless, Rule::Position], |history| {
        (history.readers[3].start, history.readers[3].on_lag) = (From::Next, Policy::Newest);
    });
    // It may have been told of messages before its joining, at 21.
    expect_of_gating(&[Rule::Lossless, Rule::LossJustified, Rule::Conservation], |history| {
        change_loss(history, 3, 21 - 8 + 1);
    });
}

#[test]
fn message_overwritten_under_a_gating_reader() {
    // It was still there when the producer came round to what it had not received.
    expect_of_gating(&[Rule::Overwrite], |history| {
        let end = history.writer.close.returned;
        history.readers[2].leave = Span { invoked: end, returned: end };
    });
    // The same for one that has not received a thing, and so was slower than who is said to be the
    // slowest.
    expect_of_gating(&[Rule::Overwrite, Rule::Full], |history| history.readers[2].events.clear());
}

#[test]
fn full_without_a_reason() {
    type Corruption = fn(&mut Refusal);
    let corruptions: [(usize, Corruption); 8] = [
        // Nobody waits for this one,
        (0, |refusal| refusal.reader = 0),
        // this one does not exist,
        (0, |refusal| refusal.reader = 4),
        // this one was not there yet,
        (0, |refusal| refusal.reader = 3),
        // this one was further,
        (2, |refusal| refusal.reader = 1),
        (3, |refusal| refusal.reader = 2),
        // this one was slower,
        (4, |refusal| (refusal.reader, refusal.lag) = (1, 16)),
        // and these lags are not theirs.
        (0, |refusal| refusal.lag -= 1),
        (3, |refusal| refusal.lag += 2),
    ];
    for (index, corrupt) in corruptions {
        expect_of_gating(&[Rule::Full], |history| corrupt(&mut history.writer.refusals[index]));
    }
    // There was room by what this one says a moment later.
    expect_of_gating(&[Rule::Full], |history| {
        let received = find(history, 1, 1, |event| matches!(event.call, Call::RecvBatch(_)));
        history.writer.refusals[4].span.returned =
            history.readers[1].events[received].span.returned;
        (history.writer.refusals[4].reader, history.writer.refusals[4].lag) = (1, 10);
    });
    // Who was joining was not as far as that, either.
    expect_of_gating(&[Rule::Full], |history| {
        history.readers[3].attach.returned = history.writer.refusals[4].span.invoked;
        history.writer.refusals[4].lag = 18;
    });
    expect_of_gating(&[Rule::Full], |history| {
        // The reader left before.
        let before = history.writer.refusals[2].span.invoked - 1;
        let span = Span { invoked: before, returned: before };
        (history.readers[2].leave, history.readers[2].leaves) = (span, true);
        history.readers[2].events.clear();
    });
}

#[test]
fn full_of_another_message() {
    for by in [-1, 1] {
        expect_of_gating(&[Rule::WellFormed], |history| {
            let refusal = &mut history.writer.refusals[3];
            refusal.sequence = refusal.sequence.wrapping_add_signed(by);
        });
    }
}

#[test]
fn full_at_no_time() {
    expect_of_gating(&[Rule::WellFormed], |history| history.writer.refusals.swap(0, 1));
    expect_of_gating(&[Rule::WellFormed], |history| {
        let span = &mut history.writer.refusals[0].span;
        std::mem::swap(&mut span.invoked, &mut span.returned);
    });
}
