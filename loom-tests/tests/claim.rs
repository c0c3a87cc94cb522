//! Several producers: one order, no slot written by two, and no claim of the dead taken for one of
//! the living, or the other way round.
#![cfg(loom)]

use loom::sync::Mutex;
use loom::thread;
use loom_tests::{Author, Bound, Follower, Gate, Locks, Outcomes, Ring, explore};
use seqring::failpoint::{Step, kill_at};
use seqring::layout::{CLOSED, OPEN, STATE};
use seqring::protocol::claim::is_orphan;
use seqring::protocol::{CloseReason, OnLag, Start, TryRecvError};
use seqring::sync::Ordering;
use std::sync::Arc;

/// Two producers of a ring of `slots` slots with a reader table of `readers` rows.
fn two(slots: usize, readers: usize) -> (Ring, Locks, Author, Author) {
    let ring = Ring::with_producers(slots, readers, 2);
    let locks = Locks::new(2);
    let (first, second) = (Author::join(&ring, &locks, 0), Author::join(&ring, &locks, 1));
    (ring, locks, first, second)
}

/// Publishes so many messages in a thread of its own.
fn publishing(mut author: Author, messages: usize) -> thread::JoinHandle<Author> {
    thread::spawn(move || {
        (0..messages).for_each(|_| assert!(author.publish() < u64::MAX));
        author
    })
}

/// Everything that was claimed is accounted for; returns what was received and gone over.
fn settle(ring: &Ring, mut follower: Follower) -> (u64, u64) {
    assert_eq!(follower.drain(), TryRecvError::Empty);
    assert_eq!(follower.reader.cursor(), ring.head(), "something is left behind");
    (follower.reader.received(), follower.reader.tombstones())
}

/// One slot: the second claim waits for the first, and no payload is written by two.
#[test]
fn a_lap_apart() {
    explore("crew::a_lap_apart", Bound::Preemptions, &["settled"], |outcomes| {
        let (ring, _, first, mut second) = two(1, 0);
        let publishing = publishing(first, 1);
        second.publish();
        publishing.join().unwrap();
        let (received, tombstones) = settle(&ring, ring.follower(Start::Oldest, OnLag::Oldest));
        assert_eq!((received, tombstones), (1, 0));
        outcomes.saw("settled");
    });
}

/// A reader beside two producers sees both messages, in the order of their sequences.
#[test]
fn read_meanwhile() {
    explore("crew::read_meanwhile", Bound::Preemptions, &["received", "empty"], |outcomes| {
        let (ring, _, first, second) = two(2, 0);
        let (one, other) = (publishing(first, 1), publishing(second, 1));
        let mut follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
        for _ in 0..2 {
            outcomes.saw(match follower.recv() {
                Ok(_) => "received",
                Err(TryRecvError::Empty) => "empty",
                Err(other) => panic!("two messages in two slots, but the ring says {other:?}"),
            });
        }
        one.join().unwrap();
        other.join().unwrap();
        assert_eq!(settle(&ring, follower), (2, 0));
    });
}

/// A producer dies behind `step` of its first message; the other comes round to its slot.
fn died(outcomes: &Outcomes, slots: usize, step: Step, messages: usize, tombstone: bool) {
    let (ring, _, mut doomed, mut survivor) = two(slots, 0);
    let dying = thread::spawn(move || {
        kill_at(step, 1, || doomed.publish());
        doomed.die();
    });
    (0..messages).for_each(|_| assert!(survivor.publish() < u64::MAX));
    dying.join().unwrap();
    // Whatever is still open, the next to join clears up.
    let mut next = Author::join(&ring, &Locks::new(2), 0);
    next.publish();
    let follower = ring.follower(Start::Oldest, OnLag::Oldest);
    let (_, tombstones) = settle(&ring, follower);
    outcomes.saw(if tombstones > 0 { "tombstone" } else { "none" });
    assert!(tombstone || tombstones == 0, "a message that was ready has a tombstone");
}

/// A producer dies there, 1 slot, another goes on: nobody waits for it, nothing is lost.
#[test]
fn died_behind_the_announcement() {
    explore("crew::died_behind_the_announcement", Bound::Preemptions, &["none"], |outcomes| {
        died(outcomes, 1, Step::ClaimAnnounce, 2, false)
    });
}

/// Death after the claim, 2 slots: the other goes on; the claim is a tombstone.
#[test]
fn died_behind_the_claim() {
    explore(
        "crew::died_behind_the_claim",
        Bound::Preemptions,
        &["tombstone", "none"],
        |outcomes| died(outcomes, 2, Step::ClaimHead, 2, true),
    );
}

/// Death after the mark: the other goes on; the claim is a tombstone.
#[test]
fn died_behind_the_mark() {
    explore("crew::died_behind_the_mark", Bound::Preemptions, &["tombstone", "none"], |outcomes| {
        died(outcomes, 2, Step::PublishMark, 2, true)
    });
}

/// Death before the ready stamp: the other goes on; the claim is a tombstone.
#[test]
fn died_behind_the_payload() {
    explore(
        "crew::died_behind_the_payload",
        Bound::Preemptions,
        &["tombstone", "none"],
        |outcomes| {
            died(outcomes, 2, Step::PublishPayload, 2, true);
        },
    );
}

/// Death before the announcement is withdrawn: the message is one.
#[test]
fn died_behind_the_stamp() {
    explore("crew::died_behind_the_stamp", Bound::Preemptions, &["none"], |outcomes| {
        died(outcomes, 2, Step::PublishReady, 2, false)
    });
}

/// The slot of the dead one is the only one.
#[test]
fn died_in_the_only_slot() {
    explore("crew::died_in_the_only_slot", Bound::Preemptions, &["none"], |outcomes| {
        died(outcomes, 1, Step::PublishMark, 1, true)
    });
}

/// A message fails when it is half written: what there is of it comes before the next in its slot.
#[test]
fn failed_a_lap_before() {
    explore(
        "crew::failed_a_lap_before",
        Bound::Preemptions,
        &["lap before", "lap behind"],
        |outcomes| {
            let (ring, _, mut first, mut second) = two(1, 0);
            let failing = thread::spawn(move || first.fail());
            let published = second.publish();
            failing.join().unwrap();
            outcomes.saw(if published == 1 { "lap before" } else { "lap behind" });
            let tombstone = is_tombstone(&ring, 1 - published);
            assert!(published == 1 || tombstone, "the message that failed is no tombstone");
        },
    );
}

fn is_tombstone(ring: &Ring, sequence: u64) -> bool {
    let mut follower = ring.follower(Start::Sequence(sequence), OnLag::Oldest);
    let _ = follower.recv();
    follower.reader.tombstones() == 1
}

/// One dies, another gives it a tombstone, and a third goes by that alone: what the dead one has
/// written comes before.
#[test]
fn buried_for_a_third() {
    explore("crew::buried_for_a_third", Bound::Preemptions, &["settled"], |outcomes| {
        let ring = Ring::with_producers(1, 0, 3);
        let locks = Locks::new(3);
        let (mut doomed, mut third) =
            (Author::join(&ring, &locks, 0), Author::join(&ring, &locks, 2));
        let gate = Gate::new();
        let burying = {
            let (ring, locks, gate) = (ring.clone(), locks.clone(), gate.clone());
            thread::spawn(move || {
                kill_at(Step::PublishPayload, 1, || doomed.publish());
                doomed.die();
                Author::join(&ring, &locks, 1);
                gate.open();
            })
        };
        gate.pass();
        third.publish();
        burying.join().unwrap();
        let (received, tombstones) = settle(&ring, ring.follower(Start::Oldest, OnLag::Oldest));
        assert_eq!(received + tombstones, 1);
        outcomes.saw("settled");
    });
}

/// In a large slot the stamp of the last lap stands over what the dead one has written, then the
/// tombstone.
#[test]
fn buried_in_a_large_slot() {
    explore(
        "crew::buried_in_a_large_slot",
        Bound::Preemptions,
        &["received", "lagged"],
        |outcomes| {
            let ring = Ring::with_large_slots(2, 2);
            let locks = Locks::new(2);
            let (mut first, mut doomed) =
                (Author::join(&ring, &locks, 0), Author::join(&ring, &locks, 1));
            (0..2).for_each(|_| assert!(first.publish() < u64::MAX));
            let burying = {
                let (ring, locks) = (ring.clone(), locks.clone());
                thread::spawn(move || {
                    kill_at(Step::PublishPayload, 1, || doomed.publish());
                    doomed.die();
                    Author::join(&ring, &locks, 1);
                })
            };
            let mut follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
            outcomes.saw(match follower.recv() {
                Ok(_) => "received",
                Err(TryRecvError::Lagged(_)) => "lagged",
                Err(other) => panic!("message 0 was there, but the ring says {other:?}"),
            });
            burying.join().unwrap();
            assert_eq!(settle(&ring, follower).1, 1);
            assert_eq!((first.publish(), ring.head()), (3, 4));
        },
    );
}

/// Asks whether message 0 is an orphan, behind and ahead of `gates`: it never is.
fn ask(outcomes: &Outcomes, ring: &Ring, locks: &Locks, gates: &[Gate]) {
    gates.iter().for_each(Gate::pass);
    let orphan = is_orphan(ring.words(), &ring.geometry(), 0, |row| locks.is_held(row));
    assert!(!orphan, "a message that is, or will be, was taken for an orphan");
    outcomes.saw(if ring.head() == 0 { "not claimed" } else { "claimed" });
}

/// A consumer asks whether its next message is an orphan, while its producer lives and goes on to
/// the next: it never is.
#[test]
fn the_living_are_not_orphaned() {
    const OUTCOMES: [&str; 4] = ["not claimed", "claimed", "received", "empty"];
    explore("crew::the_living_are_not_orphaned", Bound::Preemptions, &OUTCOMES, |outcomes| {
        let (ring, locks, mut first, _second) = two(2, 0);
        let gates = [Gate::new(), Gate::new()];
        let publishing = {
            let gates = gates.clone();
            thread::spawn(move || {
                for gate in gates {
                    first.publish();
                    gate.open();
                }
            })
        };
        ask(outcomes, &ring, &locks, &gates);
        let mut follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
        outcomes.saw(if follower.recv().is_ok() { "received" } else { "empty" });
        publishing.join().unwrap();
        assert_eq!(settle(&ring, follower), (2, 0));
    });
}

/// The same in the middle of the message.
#[test]
fn who_is_writing_is_not_orphaned() {
    explore(
        "crew::who_is_writing_is_not_orphaned",
        Bound::Preemptions,
        &["not claimed", "claimed"],
        |outcomes| {
            let (ring, locks, mut first, _second) = two(2, 0);
            let gate = Gate::new();
            let publishing = {
                let gate = gate.clone();
                thread::spawn(move || {
                    first.publish_with(|| gate.open());
                })
            };
            ask(outcomes, &ring, &locks, &[gate]);
            publishing.join().unwrap();
        },
    );
}

/// A producer dies behind the ready stamp, and the next takes its row: its message is none the less
/// a message.
#[test]
fn what_was_ready_is_not_orphaned_by_the_next_in_the_row() {
    const NAME: &str = "crew::what_was_ready_is_not_orphaned_by_the_next_in_the_row";
    explore(NAME, Bound::Preemptions, &["claimed", "not claimed"], |outcomes| {
        let (ring, locks, mut doomed, _second) = two(2, 0);
        let gates = [Gate::new(), Gate::new()];
        let dying = {
            let (ring, locks, gates) = (ring.clone(), locks.clone(), gates.clone());
            thread::spawn(move || {
                kill_at(Step::PublishReady, 1, || doomed.publish());
                doomed.die();
                gates[0].open();
                Author::join(&ring, &locks, 0);
                gates[1].open();
            })
        };
        ask(outcomes, &ring, &locks, &gates);
        dying.join().unwrap();
    });
}

/// A full look at the room withdraws an announcement: the message before it stays a message.
#[test]
fn who_waits_for_room_has_not_lost_its_last_message() {
    const NAME: &str = "crew::who_waits_for_room_has_not_lost_its_last_message";
    explore(NAME, Bound::Preemptions, &["claimed", "not claimed"], |outcomes| {
        let (ring, locks, mut first, _second) = two(1, 1);
        let mut member = ring.join(0);
        let gates = [Gate::new(), Gate::new()];
        let publishing = {
            let gates = gates.clone();
            thread::spawn(move || {
                first.try_publish().expect("the ring is empty");
                gates[0].open();
                assert!(first.try_publish().is_err(), "the ring is full");
                gates[1].open();
            })
        };
        ask(outcomes, &ring, &locks, &gates);
        publishing.join().unwrap();
        assert_eq!(member.recv(), Ok(0));
    });
}

/// A consumer goes over an orphan while a producer gives it a tombstone.
#[test]
fn gone_over_beside_a_burial() {
    explore(
        "crew::gone_over_beside_a_burial",
        Bound::Preemptions,
        &["gone over", "tombstone", "lapped"],
        |outcomes| {
            let (ring, locks, mut doomed, mut second) = two(1, 0);
            kill_at(Step::PublishMark, 1, || doomed.publish());
            doomed.die();
            let burying = thread::spawn(move || {
                second.publish();
            });
            let mut follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
            if follower.reader.is_at_orphan(ring.words(), |row| locks.is_held(row)) {
                follower.reader.skip_tombstone();
                outcomes.saw("gone over");
            } else {
                match follower.recv() {
                    Err(TryRecvError::Lagged(_)) => outcomes.saw("lapped"),
                    _ => outcomes.saw(if follower.reader.tombstones() == 1 {
                        "tombstone"
                    } else {
                        "lapped"
                    }),
                }
            }
            burying.join().unwrap();
            let (_, tombstones) = settle(&ring, follower);
            assert!(tombstones <= 1, "a message was taken for an orphan");
        },
    );
}

/// Both close, behind the lock that all hold who do: the last one closes the ring, behind both
/// messages.
#[test]
fn both_close() {
    explore("crew::both_close", Bound::Preemptions, &["closed", "open"], |outcomes| {
        let (ring, _, first, second) = two(2, 0);
        let closing = Arc::new(Mutex::new(()));
        let end = |mut author: Author, closing: Arc<Mutex<()>>| {
            thread::spawn(move || {
                author.publish();
                let lock = closing.lock().unwrap();
                author.close();
                drop(lock);
            })
        };
        let (one, other) = (end(first, closing.clone()), end(second, closing));
        let mut follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
        let ended = follower.reader.ended(ring.words());
        if ended.is_some() {
            assert_eq!(follower.reader.cursor(), 2, "the end came before the messages");
        }
        let closed = ring.words()[STATE].load(Ordering::Acquire) == CLOSED;
        if closed {
            assert_eq!(follower.drain(), TryRecvError::Closed(CloseReason::Closed));
            assert_eq!(follower.reader.received(), 2, "the end came before the last message");
        }
        outcomes.saw(if closed { "closed" } else { "open" });
        one.join().unwrap();
        other.join().unwrap();
        assert_eq!(follower.drain(), TryRecvError::Closed(CloseReason::Closed));
    });
}

/// One joins beside the last close: in the end the ring is open.
#[test]
fn joined_beside_the_last_close() {
    explore("crew::joined_beside_the_last_close", Bound::Preemptions, &["joined"], |outcomes| {
        let ring = Ring::with_producers(2, 0, 2);
        let locks = Locks::new(2);
        let first = Author::join(&ring, &locks, 0);
        let door = Arc::new(Mutex::new(()));
        let closing = {
            let door = door.clone();
            thread::spawn(move || {
                let lock = door.lock().unwrap();
                first.close();
                drop(lock);
            })
        };
        let lock = door.lock().unwrap();
        let mut second = Author::join(&ring, &locks, 1);
        drop(lock);
        closing.join().unwrap();
        assert_eq!(
            ring.words()[STATE].load(Ordering::Relaxed),
            OPEN,
            "closed although a producer lives"
        );
        second.publish();
        outcomes.saw("joined");
    });
}

/// Two producers and a consumer that gates: nothing is overwritten that it has not read, and
/// nothing is lost.
#[test]
fn gated() {
    explore(
        "crew::gated",
        Bound::Preemptions,
        &["received", "empty", "blocked", "not blocked"],
        |outcomes| {
            let (ring, _, mut first, mut second) = two(1, 1);
            let mut member = ring.join(0);
            let one = thread::spawn(move || first.try_publish().is_err());
            let other = thread::spawn(move || second.try_publish().is_err());
            let mut received = 0;
            for _ in 0..2 {
                let got = member.recv().is_ok();
                received += u64::from(got);
                outcomes.saw(if got { "received" } else { "empty" });
            }
            let blocked = [one.join().unwrap(), other.join().unwrap()]
                .into_iter()
                .filter(|blocked| *blocked)
                .count() as u64;
            outcomes.saw(if blocked > 0 { "blocked" } else { "not blocked" });
            member.drain();
            assert_eq!(
                member.follower.reader.received(),
                2 - blocked,
                "received {received} meanwhile"
            );
        },
    );
}

/// A consumer joins, to gate, beside two producers: from its first message on nothing is lost.
#[test]
fn joined_to_gate() {
    explore(
        "crew::joined_to_gate",
        Bound::Preemptions,
        &["joined before", "joined behind", "blocked", "not blocked"],
        |outcomes| {
            let (ring, _, mut first, mut second) = two(1, 1);
            let one = thread::spawn(move || first.try_publish().is_err());
            let other = thread::spawn(move || second.try_publish().is_err());
            let mut member = ring.join(0);
            outcomes.saw(if member.follower.reader.cursor() == 0 {
                "joined before"
            } else {
                "joined behind"
            });
            let blocked = [one.join().unwrap(), other.join().unwrap()].contains(&true);
            outcomes.saw(if blocked { "blocked" } else { "not blocked" });
            assert_eq!(member.drain(), TryRecvError::Empty);
            assert_eq!(member.follower.reader.cursor(), ring.head());
        },
    );
}
