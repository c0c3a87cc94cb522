//! A producer dies at some step, and a successor goes on, while a reader is reading.
//!
//! The successor runs behind the predecessor's end: the kernel's lock orders them, here a join
//! does. Death is an unwinding out of the library's own code, behind one of its steps, so every
//! state is one that it can really leave behind.
#![cfg(loom)]

use std::convert::Infallible;

use loom::thread;
use loom_tests::{Bound, Gate, Outcomes, Ring, explore, payload, payload_words};
use seqring::failpoint::{Step, hit, kill_at};
use seqring::protocol::{CloseReason, OnLag, Start, TryRecvError, Writer};
use seqring::sync::Ordering;

/// A word that no message contains.
const GARBAGE: u64 = 666;

/// Writes a batch of messages, `ready` of which get ready, and dies behind `step` of the last: in
/// one of these, or in the next.
fn die_in_a_batch(ring: &Ring, writer: &mut Writer, ready: u64, step: Step) {
    let gets_ready = matches!(step, Step::PublishReady | Step::PublishCount);
    for _ in 0..ready - u64::from(gets_ready) {
        ring.try_write(writer).expect("nobody gates");
    }
    // Not in it, as it counts what was written.
    let limit = ring.refresh_limit(writer.next_sequence()).expect("nobody gates");
    kill_at(step, 1, || {
        let Ok(()) =
            ring.write_admitted(writer, limit, |body, sequence| -> Result<(), Infallible> {
                let words = if gets_ready { payload(sequence) } else { [GARBAGE; 2] };
                for (word, value) in payload_words(body).iter().zip(words) {
                    word.store(value, Ordering::Relaxed);
                    hit(Step::PublishPiece);
                }
                Ok(())
            });
        writer.publish_head(ring.words());
    });
}

/// Writes a group of two messages, `ready` of which get ready, and dies behind the `times`-th
/// `step` in it.
fn die_in_a_group(ring: &Ring, writer: &mut Writer, ready: u64, step: Step, times: u32) {
    let kept = writer.next_sequence() + ready;
    kill_at(step, times, || {
        let words = |sequence| if sequence < kept { payload(sequence) } else { [GARBAGE; 2] };
        ring.write_group(writer, 2, words).expect("nobody gates");
    });
}

/// A predecessor that has published `counted` messages dies in a batch; those in `taking_over` die
/// behind that step of taking the ring over; the last successor publishes one more.
fn succeeded(
    outcomes: &Outcomes,
    slots: usize,
    counted: u64,
    ready: u64,
    death: Step,
    taking_over: &[Step],
    reads: usize,
) {
    let die = move |ring: &Ring, writer: &mut Writer| die_in_a_batch(ring, writer, ready, death);
    succeeded_on(outcomes, &Ring::new(slots), counted, ready, die, taking_over, 0, reads);
}

/// As [`succeeded`], on this ring, with a predecessor that dies by `die`, behind `ready` messages
/// that are not counted, and a reader that starts at message `start`.
#[allow(clippy::too_many_arguments)]
fn succeeded_on(
    outcomes: &Outcomes,
    ring: &Ring,
    counted: u64,
    ready: u64,
    die: impl FnOnce(&Ring, &mut Writer) + Send + 'static,
    taking_over: &[Step],
    start: u64,
    reads: usize,
) {
    let mut first = ring.writer();
    ring.publish_each(&mut first, counted);
    let gate = Gate::new();
    let reading = {
        let (ring, gate) = (ring.clone(), gate.clone());
        thread::spawn(move || {
            let mut follower = ring.follower(Start::Sequence(start), OnLag::Oldest);
            let receive = |_| {
                gate.pass();
                follower.recv()
            };
            let seen: Vec<_> = (0..reads).map(receive).collect();
            (follower, seen)
        })
    };
    let dying = {
        let ring = ring.clone();
        thread::spawn(move || die(&ring, &mut first))
    };
    dying.join().unwrap();
    for &step in taking_over {
        kill_at(step, 1, || ring.writer());
    }
    let mut second = ring.writer();
    gate.open();
    let kept = counted + ready;
    assert_eq!(
        (second.next_sequence(), ring.head()),
        (kept, kept),
        "the successor does not go on behind what was ready"
    );
    ring.publish(&mut second);

    let (mut follower, seen) = reading.join().unwrap();
    for result in seen {
        outcomes.saw(match result {
            Ok(sequence) if sequence < counted => "counted message",
            Ok(sequence) if sequence < kept => "uncounted message",
            Ok(_) => "successor's message",
            Err(TryRecvError::Empty) => "empty",
            Err(TryRecvError::Lagged(_)) => "lagged",
            Err(TryRecvError::Closed(reason)) => panic!("closed by nobody: {reason:?}"),
        });
    }
    assert_eq!(follower.drain(), TryRecvError::Empty);
    assert_eq!(follower.reader.cursor(), kept + 1);
}

/// Death after a ready stamp, before the head: the successor keeps the message.
#[test]
fn died_behind_the_stamp() {
    explore(
        "restart::died_behind_the_stamp",
        Bound::Preemptions,
        &["uncounted message", "successor's message", "empty"],
        |outcomes| {
            succeeded(outcomes, 2, 0, 1, Step::PublishReady, &[], 2);
        },
    );
}

/// Death after the head: a message of the dead that was counted.
#[test]
fn died_behind_the_head() {
    explore(
        "restart::died_behind_the_head",
        Bound::Preemptions,
        &["uncounted message", "successor's message", "empty"],
        |outcomes| {
            succeeded(outcomes, 2, 0, 1, Step::PublishCount, &[], 2);
        },
    );
}

/// Death in a message that never gets ready.
fn died_while_writing(name: &'static str, step: Step) {
    const OUTCOMES: [&str; 4] = ["counted message", "successor's message", "lagged", "empty"];
    explore(name, Bound::Preemptions, &OUTCOMES, move |outcomes| {
        succeeded(outcomes, 1, 1, 0, step, &[], 2);
    });
}

/// Death after the mark, 1 slot: the sequence is used again, the dead producer's words are never
/// accepted.
#[test]
fn died_behind_the_mark() {
    died_while_writing("restart::died_behind_the_mark", Step::PublishMark);
}

/// Death after one word of two: the sequence is used again, the dead producer's words are never
/// accepted.
#[test]
fn died_in_the_payload() {
    died_while_writing("restart::died_in_the_payload", Step::PublishPiece);
}

/// Death before the ready stamp: the sequence is used again, the dead producer's words are never
/// accepted.
#[test]
fn died_behind_the_payload() {
    died_while_writing("restart::died_behind_the_payload", Step::PublishPayload);
}

/// In a large slot the stamp of the last lap stands over what the dead producer left behind.
#[test]
fn died_in_a_large_payload() {
    const OUTCOMES: [&str; 4] = ["counted message", "successor's message", "lagged", "empty"];
    explore("restart::died_in_a_large_payload", Bound::Preemptions, &OUTCOMES, |outcomes| {
        let die =
            |ring: &Ring, writer: &mut Writer| die_in_a_batch(ring, writer, 0, Step::PublishPiece);
        succeeded_on(outcomes, &Ring::with_large_slots(1, 1), 1, 0, die, &[], 0, 2);
    });
}

/// Death in a group, none of which gets ready, over the messages of the last lap: a reader receives
/// from message `start` on.
fn died_in_a_group(name: &'static str, step: Step, start: u64, reads: usize) {
    explore(name, Bound::Preemptions, &["counted message", "lagged"], move |outcomes| {
        let die = move |ring: &Ring, writer: &mut Writer| die_in_a_group(ring, writer, 0, step, 2);
        succeeded_on(outcomes, &Ring::with_groups(8, 0), 8, 0, die, &[], start, reads);
    });
}

/// The successor does not come to the second slot: its mark is all that stands over what was there.
#[test]
fn died_behind_the_second_mark_of_a_group() {
    died_in_a_group("restart::died_behind_the_second_mark_of_a_group", Step::PublishMark, 1, 1);
}

/// Death in a group of 2, 8 slots, a reader of the second's last lap before the first ready stamp,
/// a reader of both: none of the group is kept, what is left of it is never accepted.
#[test]
fn died_behind_the_payloads_of_a_group() {
    died_in_a_group("restart::died_behind_the_payloads_of_a_group", Step::PublishPayload, 0, 1);
}

/// The first of a group is ready and kept, the second is not.
#[test]
fn died_behind_the_first_stamp_of_a_group() {
    const OUTCOMES: [&str; 3] = ["uncounted message", "successor's message", "empty"];
    explore(
        "restart::died_behind_the_first_stamp_of_a_group",
        Bound::Preemptions,
        &OUTCOMES,
        |outcomes| {
            let die = |ring: &Ring, writer: &mut Writer| {
                die_in_a_group(ring, writer, 1, Step::PublishReady, 1)
            };
            succeeded_on(outcomes, &Ring::with_groups(8, 0), 0, 1, die, &[], 0, 2);
        },
    );
}

/// A successor dies, too, over taking the ring over, behind each step of that.
fn died_taking_over(name: &'static str, step: Step) {
    explore(
        name,
        Bound::Preemptions,
        &["uncounted message", "successor's message", "empty"],
        move |outcomes| {
            succeeded(outcomes, 2, 0, 1, Step::PublishReady, &[step], 2);
        },
    );
}

/// Death after a ready stamp, and of a successor after its epoch: the next successor keeps the
/// message.
#[test]
fn died_behind_the_epoch() {
    died_taking_over("restart::died_behind_the_epoch", Step::ResumeEpoch);
}

/// Death after a ready stamp, and of a successor after its epoch; of the successor after the head:
/// the next successor keeps the message.
#[test]
fn died_behind_its_predecessors_head() {
    died_taking_over("restart::died_behind_its_predecessors_head", Step::ResumeHead);
}

/// Death after a ready stamp, and of a successor after its epoch; of the successor after the state:
/// the next successor keeps the message.
#[test]
fn died_behind_the_opening() {
    died_taking_over("restart::died_behind_the_opening", Step::ResumeState);
}

/// Death in the second message of a batch: both.
#[test]
fn died_in_a_batch() {
    const OUTCOMES: [&str; 5] =
        ["counted message", "uncounted message", "successor's message", "lagged", "empty"];
    explore("restart::died_in_a_batch", Bound::Preemptions, &OUTCOMES, |outcomes| {
        succeeded(outcomes, 2, 1, 1, Step::PublishPiece, &[], 2);
    });
}

/// A batch of a lap and more: what the dead producer left ready must not be written again under
/// lower sequences.
#[test]
fn died_in_a_batch_of_a_lap() {
    const OUTCOMES: [&str; 4] = ["uncounted message", "successor's message", "lagged", "empty"];
    explore("restart::died_in_a_batch_of_a_lap", Bound::Preemptions, &OUTCOMES, |outcomes| {
        succeeded(outcomes, 1, 0, 1, Step::PublishMark, &[], 2);
    });
}

/// Death before the last head, 2 slots: no sequence is given twice.
#[test]
fn died_behind_a_batch_of_a_lap_and_a_half() {
    const OUTCOMES: [&str; 3] = ["uncounted message", "lagged", "empty"];
    explore(
        "restart::died_behind_a_batch_of_a_lap_and_a_half",
        Bound::Preemptions,
        &OUTCOMES,
        |outcomes| {
            succeeded(outcomes, 2, 0, 3, Step::PublishReady, &[], 1);
        },
    );
}

/// A successor's head vouches for messages that it has not written itself.
#[test]
fn joined_at_the_newest() {
    explore("restart::joined_at_the_newest", Bound::Complete, &["before", "behind"], |outcomes| {
        let ring = Ring::new(2);
        let mut first = ring.writer();
        ring.publish(&mut first);
        let gate = Gate::new();
        let joining = {
            let (ring, outcomes, gate) = (ring.clone(), outcomes.clone(), gate.clone());
            thread::spawn(move || {
                gate.pass();
                let mut follower = ring.follower(Start::Newest, OnLag::Oldest);
                let newest = follower.reader.cursor();
                assert_eq!(follower.recv(), Ok(newest), "the head counted message {newest}");
                outcomes.saw(["before", "behind"][newest as usize]);
            })
        };
        let dying = {
            let ring = ring.clone();
            thread::spawn(move || die_in_a_batch(&ring, &mut first, 1, Step::PublishReady))
        };
        dying.join().unwrap();
        let second = ring.writer();
        gate.open();
        assert_eq!(second.next_sequence(), 2);
        joining.join().unwrap();
    });
}

/// A ring that was closed is opened again: a reader may be told the old end, but only behind the
/// old messages, and gets the new ones all the same.
#[test]
fn opened_again() {
    explore(
        "restart::opened_again",
        Bound::Preemptions,
        &["received", "closed", "empty"],
        |outcomes| {
            let ring = Ring::new(2);
            let mut first = ring.writer();
            let gate = Gate::new();
            let reading = {
                let (ring, gate) = (ring.clone(), gate.clone());
                thread::spawn(move || {
                    let mut follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
                    let receive = |_| {
                        gate.pass();
                        (follower.recv(), follower.reader.received())
                    };
                    let seen: Vec<_> = (0..2).map(receive).collect();
                    (follower, seen)
                })
            };
            let closing = {
                let ring = ring.clone();
                thread::spawn(move || {
                    ring.publish(&mut first);
                    first.close(ring.words());
                })
            };
            closing.join().unwrap();
            let mut second = ring.writer();
            gate.open();
            ring.publish(&mut second);
            let (mut follower, seen) = reading.join().unwrap();
            for (result, received) in seen {
                outcomes.saw(match result {
                    Ok(_) => "received",
                    Err(TryRecvError::Closed(CloseReason::Closed)) => {
                        assert!(
                            received >= 1,
                            "closed before the last message of the first producer"
                        );
                        "closed"
                    }
                    Err(TryRecvError::Empty) => "empty",
                    Err(error) => {
                        panic!("nobody lapped or replaced anything, but the ring says {error:?}")
                    }
                });
            }
            assert_eq!(follower.drain(), TryRecvError::Empty);
            assert_eq!((follower.reader.received(), follower.reader.lost()), (2, 0));
        },
    );
}
