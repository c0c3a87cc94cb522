//! The ring wraps while a reader is behind: order, exact losses, and the way back.
#![cfg(loom)]

use loom::thread;
use loom_tests::{Bound, Follower, Outcomes, Ring, explore};
use seqring::protocol::{OnLag, Start, TryRecvError};

const OUTCOMES: [&str; 3] = ["received", "lagged", "empty"];

fn note(outcomes: &Outcomes, result: Result<u64, TryRecvError>) {
    outcomes.saw(match result {
        Ok(_) => "received",
        Err(TryRecvError::Lagged(_)) => "lagged",
        Err(TryRecvError::Empty) => "empty",
        Err(TryRecvError::Closed(reason)) => panic!("closed by nobody: {reason:?}"),
    });
}

/// `before` messages are there when a writer publishes `during` more beside a reader that receives
/// `reads` times. After both, the reader gets what is left, down to the newest message.
fn lapped(
    outcomes: &Outcomes,
    slots: usize,
    before: u64,
    during: u64,
    reads: usize,
    on_lag: OnLag,
) {
    lapped_on(outcomes, &Ring::new(slots), before, during, reads, on_lag);
}

/// As [`lapped`], on this ring.
fn lapped_on(
    outcomes: &Outcomes,
    ring: &Ring,
    before: u64,
    during: u64,
    reads: usize,
    on_lag: OnLag,
) {
    let mut writer = ring.writer();
    ring.publish_each(&mut writer, before);
    let mut follower = ring.follower(Start::Sequence(0), on_lag);
    let writing = {
        let ring = ring.clone();
        thread::spawn(move || ring.publish_each(&mut writer, during))
    };
    for _ in 0..reads {
        note(outcomes, follower.recv());
    }
    writing.join().unwrap();
    let total = before + during;
    let received = follower.reader.received();
    let cursor = follower.reader.cursor();
    assert_eq!(follower.drain(), TryRecvError::Empty);
    assert_eq!(follower.reader.cursor(), total, "the newest message is accounted for");
    // With one slot, the slot of the newest message is also the next to be written, and may be
    // given up.
    if ring.geometry().slots > 1 && cursor < total {
        assert!(
            follower.reader.received() > received,
            "the newest of {total} messages was not received: {:?}",
            follower.reader
        );
    }
}

/// 2 slots, 4 messages, 2 reads.
#[test]
fn two_slots() {
    explore("wrap::two_slots", Bound::Preemptions, &OUTCOMES, |outcomes| {
        lapped(outcomes, 2, 0, 4, 2, OnLag::Oldest)
    });
}

/// 2 slots, 6 messages, 1 read.
#[test]
fn two_slots_three_laps() {
    explore("wrap::two_slots_three_laps", Bound::Preemptions, &OUTCOMES[..2], |outcomes| {
        lapped(outcomes, 2, 1, 5, 1, OnLag::Oldest)
    });
}

/// 3 slots, 5 messages, 4 reads.
#[test]
fn three_slots() {
    explore("wrap::three_slots", Bound::Preemptions, &OUTCOMES, |outcomes| {
        lapped(outcomes, 3, 2, 3, 4, OnLag::Oldest)
    });
}

/// 1 slot, 3 messages, 2 reads.
#[test]
fn one_slot() {
    explore("wrap::one_slot", Bound::Preemptions, &OUTCOMES, |outcomes| {
        lapped(outcomes, 1, 0, 3, 2, OnLag::Oldest)
    });
}

/// The marks of the slots are apart from their stamps.
#[test]
fn two_large_slots() {
    explore("wrap::two_large_slots", Bound::Preemptions, &OUTCOMES, |outcomes| {
        lapped_on(outcomes, &Ring::with_large_slots(2, 1), 1, 3, 2, OnLag::Oldest);
    });
}

/// 2 slots, 4 messages, 2 reads: `OnLag::Newest`.
#[test]
fn to_the_newest() {
    explore("wrap::to_the_newest", Bound::Preemptions, &OUTCOMES, |outcomes| {
        lapped(outcomes, 2, 1, 3, 2, OnLag::Newest)
    });
}

/// Eight slots: the reader goes on three behind the oldest message.
#[test]
fn with_a_margin() {
    explore("wrap::with_a_margin", Bound::Complete, &["received", "lagged"], |outcomes| {
        lapped(outcomes, 8, 8, 1, 2, OnLag::Oldest);
    });
}

/// A reader that stays repeats a loss that can only grow, until it is told to go on.
#[test]
fn staying() {
    explore("wrap::staying", Bound::Preemptions, &OUTCOMES, |outcomes| {
        let ring = Ring::new(2);
        let mut writer = ring.writer();
        ring.publish(&mut writer);
        let mut follower: Follower = ring.follower(Start::Sequence(0), OnLag::Stay);
        let writing = {
            let ring = ring.clone();
            thread::spawn(move || ring.publish_each(&mut writer, 3))
        };
        let first = follower.recv();
        let second = follower.recv();
        note(outcomes, first);
        note(outcomes, second);
        if let Err(TryRecvError::Lagged(lost)) = first {
            let Err(TryRecvError::Lagged(again)) = second else {
                panic!("lagged, then {second:?} without a seek")
            };
            assert!(lost <= again, "lost {lost}, then only {again}");
            assert_eq!(follower.reader.cursor(), 0);
        }
        writing.join().unwrap();
    });
}

/// Two readers know nothing of each other.
#[test]
fn two_readers() {
    explore("wrap::two_readers", Bound::Preemptions, &OUTCOMES[..2], |outcomes| {
        let ring = Ring::new(2);
        let mut writer = ring.writer();
        ring.publish_each(&mut writer, 2);
        let read_one = |start| {
            let (ring, outcomes) = (ring.clone(), outcomes.clone());
            move || {
                let mut follower = ring.follower(Start::Sequence(start), OnLag::Oldest);
                note(&outcomes, follower.recv());
                follower
            }
        };
        let other = thread::spawn(read_one(1));
        let writing = {
            let ring = ring.clone();
            thread::spawn(move || ring.publish(&mut writer))
        };
        let followers = [read_one(0)(), other.join().unwrap()];
        writing.join().unwrap();
        for mut follower in followers {
            assert_eq!(follower.drain(), TryRecvError::Empty);
            assert_eq!(follower.reader.cursor(), 3);
        }
    });
}
