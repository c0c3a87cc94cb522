//! Registered consumers that gate: a producer overwrites nothing that they have not read, from the
//! moment of their joining.
//!
//! The reader of these models fails on any loss, and its copies race with overwriting, in loom's
//! eyes, unless the protocol orders them.
#![cfg(loom)]

use loom::thread;
use loom_tests::{Bound, Follower, Member, Outcomes, Ring, explore, payload};
use seqring::failpoint::{Step, kill_at};
use seqring::protocol::{OnLag, Start, TryRecvError, Writer, sync};

/// Publishes up to `messages`, and gives up at the first for which `looks` looks find no room;
/// returns how many are missing.
fn publish_some(ring: &Ring, writer: &mut Writer, messages: u64, looks: usize) -> u64 {
    for published in 0..messages {
        if !(0..looks).any(|_| ring.try_publish(writer).is_ok()) {
            return messages - published;
        }
    }
    0
}

/// As [`publish_some`], in a thread that returns the writer too.
fn publishing(
    ring: &Ring,
    mut writer: Writer,
    messages: u64,
    looks: usize,
) -> thread::JoinHandle<(Writer, u64)> {
    let ring = ring.clone();
    thread::spawn(move || {
        let missing = publish_some(&ring, &mut writer, messages, looks);
        (writer, missing)
    })
}

/// The member gets all that is left up to the message before `next`; then there is room for the
/// `missing` ones too.
fn finish(ring: &Ring, mut member: Member, mut writer: Writer, missing: u64) {
    assert_eq!(member.drain(), TryRecvError::Empty);
    assert_eq!(
        member.follower.reader.cursor(),
        writer.next_sequence(),
        "the newest message was not received"
    );
    for _ in 0..missing {
        ring.try_publish(&mut writer).expect("everything has been read");
        assert_eq!(member.recv(), Ok(writer.next_sequence() - 1));
    }
}

fn note(outcomes: &Outcomes, missing: u64) {
    outcomes.saw(if missing > 0 { "blocked" } else { "not blocked" });
}

/// A consumer joins a ring with `before` messages while `during` more are published, one by one.
fn joined(outcomes: &Outcomes, slots: usize, before: u64, during: u64, reads: usize) {
    let ring = Ring::with_readers(slots, 1);
    let mut writer = ring.writer();
    ring.publish_each(&mut writer, before);
    publish_beside(outcomes, &ring, publishing(&ring, writer, during, 1), [before, during], reads);
}

/// A consumer joins a ring with `before` messages while `during` more are published by that thread.
fn publish_beside(
    outcomes: &Outcomes,
    ring: &Ring,
    publishing: thread::JoinHandle<(Writer, u64)>,
    [before, during]: [u64; 2],
    reads: usize,
) {
    let mut member = ring.join(0);
    let first = member.follower.reader.cursor();
    outcomes.saw(match first - before {
        0 => "joined before",
        late if late < during => "joined between",
        _ => "joined behind",
    });
    for _ in 0..reads {
        let _ = member.recv();
    }
    let (writer, missing) = publishing.join().unwrap();
    note(outcomes, missing);
    finish(ring, member, writer, missing);
}

const JOINED: [&str; 5] =
    ["joined before", "joined between", "joined behind", "blocked", "not blocked"];

/// A joiner, 1 slot, 3 messages meanwhile: from its first message on nothing is lost, and the
/// producer stops.
#[test]
fn joined_one_slot() {
    explore("gate::joined_one_slot", Bound::Preemptions, &JOINED, |outcomes| {
        joined(outcomes, 1, 0, 3, 0)
    });
}

/// A joiner, 1 slot, 3 messages meanwhile; 2 slots, 4 messages after one: from its first message on
/// nothing is lost, and the producer stops.
#[test]
fn joined_two_slots() {
    explore("gate::joined_two_slots", Bound::Preemptions, &JOINED, |outcomes| {
        joined(outcomes, 2, 1, 4, 0)
    });
}

/// A joiner, 1 slot, 3 messages meanwhile; 1 slot, the joiner reads: from its first message on
/// nothing is lost, and the producer stops.
#[test]
fn joined_and_reading() {
    explore("gate::joined_and_reading", Bound::Preemptions, &JOINED, |outcomes| {
        joined(outcomes, 1, 0, 3, 1)
    });
}

/// The producer looks behind a message that fills what it was allowed, and if that comes to nothing
/// once more ahead of the next.
fn joined_looking_ahead(outcomes: &Outcomes, slots: usize, during: u64, reads: usize) {
    let ring = Ring::with_readers(slots, 1);
    let publishing = {
        let (ring, mut writer) = (ring.clone(), ring.writer());
        thread::spawn(move || {
            let mut publish = || {
                let published = ring.try_publish(&mut writer).is_ok();
                ring.refresh_early(&mut writer);
                published
            };
            let missing = during - (0..during).take_while(|_| publish()).count() as u64;
            (writer, missing)
        })
    };
    publish_beside(outcomes, &ring, publishing, [0, during], reads);
}

/// A joiner, 1 slot, 3 messages meanwhile; 1 slot, the producer scans the table early after each
/// message: from its first message on nothing is lost, and the producer stops.
#[test]
fn joined_looking_ahead_one_slot() {
    explore("gate::joined_looking_ahead_one_slot", Bound::Preemptions, &JOINED, |outcomes| {
        joined_looking_ahead(outcomes, 1, 3, 1)
    });
}

/// A joiner, 1 slot, 3 messages meanwhile; 2 slots, 4 messages: from its first message on nothing
/// is lost, and the producer stops.
#[test]
fn joined_looking_ahead_two_slots() {
    explore("gate::joined_looking_ahead_two_slots", Bound::Preemptions, &JOINED, |outcomes| {
        joined_looking_ahead(outcomes, 2, 4, 0)
    });
}

/// The head lags behind a batch: the gate goes by the next sequence, who joins by the head.
#[test]
fn joined_in_a_batch() {
    const OUTCOMES: [&str; 5] =
        ["joined before", "joined in the batch", "joined behind", "blocked", "not blocked"];
    explore("gate::joined_in_a_batch", Bound::Preemptions, &OUTCOMES, |outcomes| {
        let ring = Ring::with_readers(2, 1);
        let mut writer = ring.writer();
        ring.publish(&mut writer);
        let publishing = {
            let ring = ring.clone();
            thread::spawn(move || {
                let missing =
                    4 - (0..4).take_while(|_| ring.try_write(&mut writer).is_ok()).count() as u64;
                writer.publish_head(ring.words());
                (writer, missing)
            })
        };
        let member = ring.join(0);
        outcomes.saw(match member.follower.reader.cursor() {
            1 => "joined before",
            2..5 => "joined in the batch",
            _ => "joined behind",
        });
        let (writer, missing) = publishing.join().unwrap();
        note(outcomes, missing);
        finish(&ring, member, writer, missing);
    });
}

/// A consumer of a ring that is full receives `reads` times while a producer looks twice for room
/// for each of `during` messages.
fn wrapped(outcomes: &Outcomes, slots: usize, during: u64, reads: usize) {
    let ring = Ring::with_readers(slots, 1);
    let mut writer = ring.writer();
    let mut member = ring.join(0);
    for _ in 0..slots {
        ring.try_publish(&mut writer).expect("the ring is empty");
    }
    let publishing = publishing(&ring, writer, during, 2);
    for _ in 0..reads {
        outcomes.saw(if member.recv().is_ok() { "received" } else { "empty" });
    }
    let (writer, missing) = publishing.join().unwrap();
    note(outcomes, missing);
    finish(&ring, member, writer, missing);
}

/// A full ring of 1 slot, 2 messages, 2 reads: copies happen before overwriting.
#[test]
fn wrapped_one_slot() {
    explore(
        "gate::wrapped_one_slot",
        Bound::Preemptions,
        &["received", "empty", "blocked", "not blocked"],
        |outcomes| {
            wrapped(outcomes, 1, 2, 2);
        },
    );
}

/// A full ring of 2 slots, 3 messages, 3 reads: copies happen before overwriting.
#[test]
fn wrapped_two_slots() {
    explore(
        "gate::wrapped_two_slots",
        Bound::Preemptions,
        &["received", "empty", "blocked", "not blocked"],
        |outcomes| wrapped(outcomes, 2, 3, 3),
    );
}

/// A producer would write a group of two into a full ring: it writes no more of it than the
/// consumer has told to have received.
#[test]
fn wrapped_by_a_group() {
    explore("gate::wrapped_by_a_group", Bound::Preemptions, &["none", "some", "all"], |outcomes| {
        let ring = Ring::with_groups(8, 1);
        let mut writer = ring.writer();
        let mut member = ring.join(0);
        for _ in 0..8 {
            ring.try_publish(&mut writer).expect("the ring is empty");
        }
        let publishing = {
            let ring = ring.clone();
            thread::spawn(move || {
                let written = (0..2)
                    .find_map(|_| ring.write_group(&mut writer, 2, payload).ok())
                    .unwrap_or(0);
                writer.publish_head(ring.words());
                (writer, written)
            })
        };
        for expected in 0..2 {
            assert_eq!(member.recv(), Ok(expected));
        }
        let (writer, written) = publishing.join().unwrap();
        outcomes.saw(["none", "some", "all"][written as usize]);
        finish(&ring, member, writer, 2 - written);
    });
}

/// A ring of one slot, full with a message that its consumer has received but not yet told.
fn full_and_received() -> (Ring, Writer, Member) {
    let ring = Ring::with_readers(1, 1);
    let mut writer = ring.writer();
    let member = ring.join(0);
    ring.try_publish(&mut writer).expect("the ring is empty");
    (ring, writer, member)
}

/// What a consumer that leaves has received, it has copied, though it has not told; and the
/// producer is free at once.
#[test]
fn left_while_blocked() {
    explore("gate::left_while_blocked", Bound::Complete, &["blocked", "not blocked"], |outcomes| {
        let (ring, writer, mut member) = full_and_received();
        let publishing = publishing(&ring, writer, 1, 2);
        assert_eq!(member.follower.recv(), Ok(0));
        member.leave();
        let (mut writer, missing) = publishing.join().unwrap();
        note(outcomes, missing);
        ring.try_publish(&mut writer).expect("nobody gates any longer");
    });
}

/// The row's next owner comes at once: its stores stand for its predecessor's copies too, whichever
/// of them the producer sees.
fn succeeded(outcomes: &Outcomes, join: fn(&Ring) -> Member) {
    let (ring, writer, mut member) = full_and_received();
    let publishing = publishing(&ring, writer, 1, 2);
    assert_eq!(member.follower.recv(), Ok(0));
    member.leave();
    let mut next = join(&ring);
    let first = next.follower.reader.cursor();
    let (writer, missing) = publishing.join().unwrap();
    note(outcomes, missing);
    assert_eq!(next.drain(), TryRecvError::Empty);
    assert!(next.follower.reader.received() + first == writer.next_sequence());
}

/// A producer that waits, a consumer that receives and leaves; the row is taken again: the next
/// owner's cursor stands for the copies of the last.
#[test]
fn left_and_joined() {
    explore("gate::left_and_joined", Bound::Preemptions, &["blocked", "not blocked"], |outcomes| {
        succeeded(outcomes, |ring| ring.join(0))
    });
}

/// A producer that waits, a consumer that receives and leaves; by one that does not gate: so does
/// its state.
#[test]
fn left_and_joined_freely() {
    explore(
        "gate::left_and_joined_freely",
        Bound::Preemptions,
        &["blocked", "not blocked"],
        |outcomes| {
            succeeded(outcomes, |ring| ring.join_freely(0));
        },
    );
}

/// A consumer has died; the producer evicts it while another takes its row: it hits the dead one or
/// nobody.
#[test]
fn dead_while_joined() {
    const OUTCOMES: [&str; 5] = [
        "buried the dead",
        "spared the next",
        "joined before",
        "joined behind",
        "blocked by the next",
    ];
    explore("gate::dead_while_joined", Bound::Preemptions, &OUTCOMES, |outcomes| {
        let ring = Ring::with_readers(1, 1);
        let mut writer = ring.writer();
        drop(ring.join(0));
        ring.try_publish(&mut writer).expect("the ring is empty");
        let publishing = {
            let (ring, outcomes) = (ring.clone(), outcomes.clone());
            thread::spawn(move || {
                if let Err(blocker) = ring.refresh_limit(writer.next_sequence()) {
                    // That it is dead is known of the first owner alone: states count the owners.
                    if blocker.state >> 8 == 1 {
                        outcomes.saw(if ring.bury(blocker) {
                            "buried the dead"
                        } else {
                            "spared the next"
                        });
                    }
                }
                let missing = publish_some(&ring, &mut writer, 3, 1);
                (writer, missing)
            })
        };
        let mut member = ring.join(0);
        outcomes.saw(if member.follower.reader.cursor() == 1 {
            "joined before"
        } else {
            "joined behind"
        });
        let (writer, missing) = publishing.join().unwrap();
        if missing > 0 {
            outcomes.saw("blocked by the next");
        }
        assert!(!member.is_evicted(), "the next owner of the row was evicted for the dead one");
        finish(&ring, member, writer, missing);
    });
}

/// A consumer has died; the producer says whom it waits for while another takes the row.
#[test]
fn named_while_joined() {
    explore(
        "gate::named_while_joined",
        Bound::Preemptions,
        &["named the dead", "named the next", "named nobody", "not blocked"],
        |outcomes| {
            let ring = Ring::with_readers(1, 1);
            let mut writer = ring.writer();
            drop(ring.join_as(0, "dead", None));
            ring.try_publish(&mut writer).expect("the ring is empty");
            let looking = {
                let (ring, outcomes) = (ring.clone(), outcomes.clone());
                thread::spawn(move || {
                    let Err(blocker) = ring.refresh_limit(writer.next_sequence()) else {
                        return outcomes.saw("not blocked");
                    };
                    // States count the owners.
                    let (expected, outcome) = if blocker.state >> 8 == 1 {
                        ("dead", "named the dead")
                    } else {
                        ("next", "named the next")
                    };
                    match ring.name_of(blocker) {
                        Some(name) => {
                            assert_eq!(name, expected);
                            outcomes.saw(outcome);
                        }
                        None => outcomes.saw("named nobody"),
                    }
                })
            };
            let member = ring.join_as(0, "next", Some(0));
            looking.join().unwrap();
            drop(member);
        },
    );
}

/// A consumer dies behind `step` of joining, and another takes its row, while a producer publishes
/// and evicts the dead one.
fn died_joining(name: &'static str, step: Step, outcomes: &[&'static str]) {
    // Before the roster reaches the row, no look does.
    let is_seen = matches!(step, Step::JoinRoster | Step::JoinCursor);
    explore(name, Bound::Preemptions, outcomes, move |outcomes| {
        let ring = Ring::with_readers(1, 1);
        let mut writer = ring.writer();
        let publishing = {
            let (ring, outcomes) = (ring.clone(), outcomes.clone());
            thread::spawn(move || {
                let mut missing = 2;
                while missing > 0 {
                    match ring.try_publish(&mut writer) {
                        Ok(()) => missing -= 1,
                        // That it is dead is known of the first owner alone: states count the
                        // owners.
                        Err(blocker) if is_seen && blocker.state >> 8 == 1 => {
                            outcomes.saw(if ring.bury(blocker) {
                                "buried the dead"
                            } else {
                                "spared the next"
                            });
                        }
                        Err(_) => break,
                    }
                }
                (writer, missing)
            })
        };
        kill_at(step, 1, || ring.join(0));
        let mut member = ring.join(0);
        outcomes.saw(if member.follower.reader.cursor() == 0 {
            "joined before"
        } else {
            "joined behind"
        });
        let (writer, missing) = publishing.join().unwrap();
        if missing > 0 {
            outcomes.saw("blocked by the next");
        }
        assert!(!member.is_evicted(), "the next owner of the row was evicted for the dead one");
        finish(&ring, member, writer, missing);
    });
}

const DIED_UNSEEN: [&str; 3] = ["joined before", "joined behind", "blocked by the next"];
const DIED_IN_A_ROW: [&str; 5] =
    ["buried the dead", "spared the next", "joined before", "joined behind", "blocked by the next"];

/// A joiner dies there, another takes the row beside a producer: the next is neither evicted nor
/// lapped.
#[test]
fn died_behind_the_provisional_cursor() {
    died_joining("gate::died_behind_the_provisional_cursor", Step::JoinProvisional, &DIED_UNSEEN);
}

/// A joiner dies there, another takes the row beside a producer; after the state: the next is
/// neither evicted nor lapped.
#[test]
fn died_behind_the_state() {
    died_joining("gate::died_behind_the_state", Step::JoinState, &DIED_UNSEEN);
}

/// A joiner dies there, another takes the row beside a producer; after the roster; the producer
/// evicts the dead: the next is neither evicted nor lapped.
#[test]
fn died_behind_the_roster() {
    died_joining("gate::died_behind_the_roster", Step::JoinRoster, &DIED_IN_A_ROW);
}

/// A joiner dies there, another takes the row beside a producer; after the last cursor: the next is
/// neither evicted nor lapped.
#[test]
fn died_behind_the_cursor() {
    died_joining("gate::died_behind_the_cursor", Step::JoinCursor, &DIED_IN_A_ROW);
}

/// A consumer that is alive is evicted while it reads: what it accepts is whole, it learns its
/// fate, and its row stays its own until it lets it go.
#[test]
fn evicted_while_reading() {
    explore(
        "gate::evicted_while_reading",
        Bound::Preemptions,
        &["received", "lagged", "evicted in time"],
        |outcomes| {
            let (ring, mut writer, mut member) = full_and_received();
            let evicting = {
                let ring = ring.clone();
                thread::spawn(move || {
                    if let Err(blocker) = ring.refresh_limit(writer.next_sequence()) {
                        assert!(ring.evict(blocker), "nobody else writes the state");
                    }
                    ring.publish_each(&mut writer, 1);
                })
            };
            // It knows that it may be evicted, so it is a reader as any other.
            let mut follower: Follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
            outcomes.saw(match (member.is_evicted(), follower.recv()) {
                (true, _) => "evicted in time",
                (false, Ok(0)) => "received",
                (false, Err(TryRecvError::Lagged(_))) => "lagged",
                (false, other) => {
                    panic!("message 0 was received or overwritten, but the ring says {other:?}")
                }
            });
            evicting.join().unwrap();
            assert!(member.is_evicted());
            member.leave();
            let mut member = ring.join(0);
            assert!(!member.is_evicted());
        },
    );
}

/// The last row of the roster is free, and the producer forgets it while somebody takes it.
#[test]
fn forgotten_while_joined() {
    explore("gate::forgotten_while_joined", Bound::Preemptions, &JOINED, |outcomes| {
        let ring = Ring::with_readers(1, 2);
        let writer = ring.writer();
        ring.join(1).leave();
        let publishing = publishing(&ring, writer, 3, 1);
        let member = ring.join(1);
        outcomes.saw(
            ["joined before", "joined between", "joined between", "joined behind"]
                [member.follower.reader.cursor() as usize],
        );
        let (writer, missing) = publishing.join().unwrap();
        note(outcomes, missing);
        finish(&ring, member, writer, missing);
    });
}

/// Two join at once; the roster reaches both.
#[test]
fn two_joined() {
    explore("gate::two_joined", Bound::Preemptions, &["both there", "one there"], |outcomes| {
        let ring = Ring::with_readers(1, 2);
        let mut writer = ring.writer();
        let other = {
            let ring = ring.clone();
            thread::spawn(move || ring.join(1))
        };
        let mut member = ring.join(0);
        ring.try_publish(&mut writer).expect("the ring is empty");
        let blocker =
            ring.try_publish(&mut writer).expect_err("a consumer has not read the message");
        assert_eq!(blocker.row, 0, "the first of those that are equally slow");
        assert_eq!(member.recv(), Ok(0));
        let second = ring.try_publish(&mut writer).map_err(|blocker| blocker.row);
        outcomes.saw(if second == Err(1) { "both there" } else { "one there" });
        let mut other = other.join().unwrap();
        for late in [&mut member, &mut other] {
            assert_eq!(late.drain(), TryRecvError::Empty);
            assert_eq!(late.follower.reader.cursor(), writer.next_sequence());
        }
        ring.try_publish(&mut writer).expect("everything has been read");
        for row in [0, 1] {
            let blocker =
                ring.try_publish(&mut writer).expect_err("two consumers have not read the message");
            assert_eq!((blocker.row, blocker.cursor), (row, writer.next_sequence() - 1));
            [&mut member, &mut other][row].drain();
        }
    });
}

/// The producer dies in a batch, in its second message, and a successor goes on: beside a consumer
/// that has read nothing, it keeps what was ready and waits.
#[test]
fn succeeded_beside_a_consumer() {
    explore(
        "gate::succeeded_beside_a_consumer",
        Bound::Preemptions,
        &["received", "empty", "blocked", "not blocked"],
        |outcomes| {
            let ring = Ring::with_readers(2, 1);
            let mut first = ring.writer();
            let mut member = ring.join(0);
            let dying = {
                let ring = ring.clone();
                thread::spawn(move || {
                    ring.try_write(&mut first).expect("the ring is empty");
                    kill_at(Step::PublishMark, 1, || ring.try_write(&mut first));
                })
            };
            let ring_of_successor = ring.clone();
            let succeeding = thread::spawn(move || {
                dying.join().unwrap();
                let ring = ring_of_successor;
                let mut second = ring.writer();
                assert_eq!((second.next_sequence(), ring.head()), (1, 1));
                let missing = publish_some(&ring, &mut second, 3, 1);
                (second, missing)
            });
            for _ in 0..2 {
                outcomes.saw(if member.recv().is_ok() { "received" } else { "empty" });
            }
            let (second, missing) = succeeding.join().unwrap();
            note(outcomes, missing);
            finish(&ring, member, second, missing);
        },
    );
}

/// A consumer joins while the producer is dead or being succeeded, with messages that the head does
/// not count.
#[test]
fn succeeded_while_joined() {
    const OUTCOMES: [&str; 4] = ["joined before", "joined behind", "blocked", "not blocked"];
    explore("gate::succeeded_while_joined", Bound::Preemptions, &OUTCOMES, |outcomes| {
        let ring = Ring::with_readers(2, 1);
        let mut first = ring.writer();
        for _ in 0..2 {
            ring.try_write(&mut first).expect("nobody gates");
        }
        let succeeding = {
            let ring = ring.clone();
            thread::spawn(move || {
                let mut second = ring.writer();
                let missing = publish_some(&ring, &mut second, 3, 1);
                (second, missing)
            })
        };
        let member = ring.join(0);
        outcomes.saw(if member.follower.reader.cursor() == 0 {
            "joined before"
        } else {
            "joined behind"
        });
        let (second, missing) = succeeding.join().unwrap();
        note(outcomes, missing);
        finish(&ring, member, second, missing);
    });
}

/// A gating consumer and a free one: the one loses nothing, and the other is none the worse.
#[test]
fn beside_a_free_one() {
    explore(
        "gate::beside_a_free_one",
        Bound::Preemptions,
        &["received", "lagged", "blocked", "not blocked"],
        |outcomes| {
            let ring = Ring::with_readers(1, 1);
            let mut writer = ring.writer();
            let mut member = ring.join(0);
            ring.try_publish(&mut writer).expect("the ring is empty");
            let publishing = publishing(&ring, writer, 1, 2);
            let free = {
                let (ring, outcomes) = (ring.clone(), outcomes.clone());
                thread::spawn(move || {
                    let mut follower: Follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
                    outcomes.saw(match follower.recv() {
                        Ok(_) => "received",
                        Err(TryRecvError::Lagged(_)) => "lagged",
                        Err(error) => panic!("message 0 was there, but the ring says {error:?}"),
                    });
                    follower
                })
            };
            assert_eq!(member.recv(), Ok(0));
            let (writer, missing) = publishing.join().unwrap();
            note(outcomes, missing);
            let mut free = free.join().unwrap();
            assert_eq!(free.drain(), TryRecvError::Empty);
            assert_eq!(free.reader.cursor(), writer.next_sequence());
            finish(&ring, member, writer, missing);
        },
    );
}

/// The producer makes a consumer go on behind what it has not read: the loss is exact, and nothing
/// else is lost.
#[test]
fn synced_while_reading() {
    explore(
        "gate::synced_while_reading",
        Bound::Preemptions,
        &["synced", "in time", "lagged"],
        |outcomes| {
            let (ring, mut writer, mut member) = full_and_received();
            let syncing = {
                let ring = ring.clone();
                thread::spawn(move || {
                    assert!(sync(ring.table(), 0, writer.next_sequence()));
                    ring.try_publish(&mut writer).expect("the one that gates is told to go on");
                    writer
                })
            };
            // Between the order and its arrival the message may be overwritten under its hands: a
            // reader as any other.
            let mut follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
            outcomes.saw(match (member.apply_command(), follower.recv()) {
                (1, _) => "synced",
                (0, Ok(0)) => "in time",
                (0, Err(TryRecvError::Lagged(_))) => "lagged",
                other => panic!("message 0 was received, or lost alone: {other:?}"),
            });
            let writer = syncing.join().unwrap();
            member.apply_command();
            assert_eq!(
                member.follower.reader.lost(),
                1,
                "one message was given up, no more and no less"
            );
            finish(&ring, member, writer, 0);
        },
    );
}
