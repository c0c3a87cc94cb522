//! The checker, checked: it accepts what a model does, and finds whatever is done to it.

use crate::shared::check::{Rule, check};
use crate::shared::model::run;
use crate::shared::{Event, History, Id, Outcome};

#[test]
fn what_the_model_does_is_allowed() {
    let (mut tombstones, mut lost, mut unfinished) = (0, 0, 0);
    for seed in 0..1000 {
        let (producers, slots) = (1 + seed as usize % 4, [1, 2, 5, 64][seed as usize / 4 % 4]);
        let history = run(seed, slots, producers, seed as usize % (producers + 1), 3);
        let broken = check(&history);
        assert!(broken.is_empty(), "seed {seed}: {:#?}", &broken[..broken.len().min(5)]);
        let ends = history.readers.iter().filter_map(|reader| reader.events.last());
        let (t, l) =
            ends.fold((0, 0), |(t, l), event| (t + event.after.tombstones, l + event.after.lost));
        tombstones += t;
        lost += l;
        unfinished += history
            .producers
            .iter()
            .flat_map(|producer| &producer.calls)
            .filter(|call| call.sequence.is_none())
            .count();
    }
    assert!(
        tombstones > 30 && lost > 1000 && unfinished > 30,
        "{tombstones} tombstones, {lost} lost, {unfinished} unfinished calls"
    );
}

/// A model's run without losses in which one producer of three leaves a tombstone that all pass.
fn sample() -> History {
    let tombstones = |history: &History| {
        history
            .readers
            .iter()
            .all(|reader| reader.events.last().is_some_and(|event| event.after.tombstones == 1))
    };
    (0..).map(|seed| run(seed, 256, 3, 1, 3)).find(tombstones).expect("there is such a run")
}

/// Corrupts `history` and expects that `rule` is broken.
#[track_caller]
fn expect_in(mut history: History, rule: Rule, corrupt: impl FnOnce(&mut History)) {
    assert_eq!(check(&history), []);
    corrupt(&mut history);
    let broken = check(&history);
    assert!(
        broken.iter().any(|(broken, _)| *broken == rule),
        "{rule:?} is not among {:#?}",
        &broken[..broken.len().min(8)]
    );
}

#[track_caller]
fn expect(rule: Rule, corrupt: impl FnOnce(&mut History)) {
    expect_in(sample(), rule, corrupt);
}

/// The first event of reader `reader` that `matches`, and its index.
#[track_caller]
fn find(history: &History, reader: usize, matches: impl Fn(&Event) -> bool) -> usize {
    history.readers[reader].events.iter().position(matches).expect("the sample has such an event")
}

fn messages(event: &Event) -> &[Option<Id>] {
    match &event.outcome {
        Outcome::Messages(messages) => messages,
        _ => &[],
    }
}

/// The messages of the first event with so many.
fn first_of(history: &mut History, reader: usize, count: usize) -> &mut Vec<Option<Id>> {
    let at = find(history, reader, |event| messages(event).len() >= count);
    match &mut history.readers[reader].events[at].outcome {
        Outcome::Messages(messages) => messages,
        other => unreachable!("found as messages: {other:?}"),
    }
}

#[test]
fn another_order_for_one_reader() {
    expect(Rule::Order, |history| first_of(history, 0, 2).swap(0, 1));
}

#[test]
fn two_messages_of_one_sequence() {
    expect(Rule::OneOrder, |history| {
        history.producers[1].calls[3].sequence = history.producers[2].calls[3].sequence
    });
}

#[test]
fn own_order_turned_round() {
    expect(Rule::OwnOrder, |history| {
        let calls = &mut history.producers[1].calls;
        (calls[2].sequence, calls[3].sequence) = (calls[3].sequence, calls[2].sequence);
    });
}

#[test]
fn later_call_with_an_earlier_sequence() {
    expect(Rule::RealTime, |history| {
        let (early, late) =
            (history.producers[1].calls[0].sequence, history.producers[2].calls[39].sequence);
        history.producers[1].calls[0].sequence = late;
        history.producers[2].calls[39].sequence = early;
    });
}

#[test]
fn time_that_runs_backwards() {
    expect(Rule::WellFormed, |history| history.readers[0].events.swap(0, 1));
    expect(Rule::WellFormed, |history| history.producers[1].calls.swap(0, 1));
    expect(Rule::WellFormed, |history| history.producers[1].end.invoked = 0);
    // It lived on, but did not say where its message went.
    expect(Rule::WellFormed, |history| history.producers[1].calls[3].sequence = None);
}

#[test]
fn start_beside_the_head() {
    expect(Rule::Position, |history| history.readers[0].cursor = 1);
    expect(Rule::Position, |history| {
        let end = history.readers[0].events.last().expect("many").span.returned;
        (history.readers[0].attach.invoked, history.readers[0].attach.returned) = (end, end);
    });
}

#[test]
fn payload_of_no_call() {
    expect(Rule::Integrity, |history| first_of(history, 0, 1)[0] = None);
    expect(Rule::Integrity, |history| {
        first_of(history, 0, 1)[0] = Some(Id { producer: 3, number: 0 })
    });
    expect(Rule::Integrity, |history| {
        first_of(history, 0, 1)[0] = Some(Id { producer: 1, number: 40 })
    });
}

#[test]
fn message_from_the_future() {
    expect(Rule::Future, |history| {
        first_of(history, 0, 1)[0] = Some(Id { producer: 1, number: 39 })
    });
}

#[test]
fn message_left_out_or_repeated() {
    expect(Rule::Conservation, |history| {
        first_of(history, 0, 2).remove(0);
    });
    expect(Rule::Order, |history| {
        let messages = first_of(history, 0, 1);
        messages.push(messages[0]);
    });
}

#[test]
fn wrong_counters() {
    for field in 0..5 {
        expect(Rule::Conservation, |history| {
            let at = find(history, 0, |event| event.after.tombstones == 1);
            let after = &mut history.readers[0].events[at].after;
            let counters = [
                &mut after.cursor,
                &mut after.received,
                &mut after.lost,
                &mut after.skipped,
                &mut after.tombstones,
            ];
            *counters.into_iter().nth(field).expect("5") += 1;
        });
    }
}

/// The dead producer of the sample.
fn dead(history: &mut History) -> &mut crate::shared::Produced {
    history.producers.iter_mut().find(|producer| producer.killed).expect("the sample has one")
}

#[test]
fn tombstone_of_nobody() {
    // It was killed between two calls.
    expect(Rule::Tombstone, |history| {
        dead(history).calls.pop();
    });
    // It was killed later than somebody passed its claim.
    expect(Rule::Tombstone, |history| {
        let end = history.readers[0].events.last().expect("many").span.returned + 1;
        (dead(history).end.invoked, dead(history).end.returned) = (end, end);
    });
    // It began later than what lies behind the claim.
    expect(Rule::Tombstone, |history| {
        let end =
            history.producers.iter().map(|producer| producer.end.returned).max().expect("three");
        let dead = dead(history);
        dead.calls.last_mut().expect("unfinished").span.invoked = end + 1;
        (dead.end.invoked, dead.end.returned) = (end + 2, end + 2);
    });
}

#[test]
fn tombstone_for_some_and_message_for_others() {
    expect(Rule::OneOrder, |history| {
        let id = |history: &History| {
            let producer = history
                .producers
                .iter()
                .position(|producer| producer.killed)
                .expect("the sample has one");
            Id { producer, number: history.producers[producer].calls.len() - 1 }
        };
        // One reader received it where the others passed.
        let id = id(history);
        let at = find(history, 0, |event| event.after.tombstones == 1);
        let before = history.readers[0].events[at - 1].after;
        let event = &mut history.readers[0].events[at];
        match &mut event.outcome {
            Outcome::Messages(messages) => messages.insert(0, Some(id)),
            other => *other = Outcome::Messages(vec![Some(id)]),
        }
        assert_eq!(before.tombstones, 0);
        for event in &mut history.readers[0].events[at..] {
            event.after.tombstones -= 1;
            event.after.received += 1;
        }
    });
}

#[test]
fn empty_though_something_was_there() {
    expect(Rule::Freshness, |history| {
        let end = history.producers[1].end.invoked;
        let at = find(history, 0, |event| messages(event).len() == 1);
        let event = &mut history.readers[0].events[at];
        (event.span.invoked, event.span.returned, event.outcome) = (end, end, Outcome::Empty);
    });
    expect(Rule::Freshness, |history| {
        let last = history.readers[0].events.last_mut().expect("the end");
        (last.span.invoked, last.span.returned, last.outcome) =
            (u64::MAX, u64::MAX, Outcome::Empty);
    });
}

#[test]
fn loss_of_what_is_still_there() {
    for n in [0, 1] {
        expect(Rule::LossJustified, |history| {
            let at = find(history, 0, |event| messages(event).len() == 1);
            history.readers[0].events[at].outcome = Outcome::Lagged(n);
        });
    }
    // More than was.
    let small = run(3, 2, 3, 0, 1);
    expect_in(small, Rule::LossJustified, |history| {
        let at = find(history, 0, |event| matches!(event.outcome, Outcome::Lagged(_)));
        history.readers[0].events[at].outcome = Outcome::Lagged(118);
    });
}

#[test]
fn message_that_was_overwritten_before_the_call() {
    expect_in(run(3, 2, 3, 0, 1), Rule::Expired, |history| {
        let end = history.readers[0].events.last().expect("the end").span.invoked;
        let at = find(history, 0, |event| messages(event).len() == 1);
        for event in &mut history.readers[0].events[at..] {
            (event.span.invoked, event.span.returned) = (end, end);
        }
    });
}

#[test]
fn end_before_its_time() {
    expect(Rule::Close, |history| {
        let at = find(history, 0, |event| event.outcome == Outcome::Empty);
        history.readers[0].events[at].outcome = Outcome::Closed;
    });
    expect(Rule::Close, |history| {
        let last = history.readers[0].events.last().expect("the end").span.returned + 1;
        (history.producers[1].end.invoked, history.producers[1].end.returned) = (last, last);
    });
    expect(Rule::Completion, |history| drop(history.readers[0].events.pop()));
}

#[test]
fn loss_and_overwriting_under_a_reader_that_gates() {
    for rule in [Rule::Lossless, Rule::Overwrite] {
        expect_in(run(3, 2, 3, 0, 1), rule, |history| history.readers[0].gating = true);
    }
}
