//! A ring is closed, or replaced by another, while a reader is reading: the end comes behind the
//! last message.
#![cfg(loom)]

use loom::thread;
use loom_tests::{Bound, Follower, explore};
use loom_tests::{Outcomes, Ring};
use seqring::protocol::{CloseReason, OnLag, Start, TryRecvError, Writer, supersede};

const OUTCOMES: [&str; 3] = ["ended under way", "not ended", "lagged"];

/// Receives up to `reads` times; when the end comes, `total` messages must be accounted for, the
/// last one received.
fn receive(
    outcomes: &Outcomes,
    follower: &mut Follower,
    reads: usize,
    total: u64,
    expected: CloseReason,
) {
    for _ in 0..reads {
        match follower.recv() {
            Ok(_) => {}
            Err(TryRecvError::Empty) => outcomes.saw("not ended"),
            Err(TryRecvError::Lagged(_)) => outcomes.saw("lagged"),
            Err(TryRecvError::Closed(reason)) => {
                outcomes.saw("ended under way");
                ended(follower, reason, total, expected);
                return;
            }
        }
    }
}

fn ended(follower: &Follower, reason: CloseReason, total: u64, expected: CloseReason) {
    assert_eq!(reason, expected);
    let reader = &follower.reader;
    assert_eq!(
        reader.received() + reader.lost(),
        total,
        "ended before the last message: {reader:?}"
    );
}

fn finish(mut follower: Follower, total: u64, expected: CloseReason) {
    match follower.drain() {
        TryRecvError::Closed(reason) => ended(&follower, reason, total, expected),
        other => panic!("the ring has ended, but says {other:?}"),
    }
}

/// Publishes two messages and closes, in a thread of its own.
fn publish_and_close(ring: &Ring, mut writer: Writer) -> thread::JoinHandle<()> {
    let ring = ring.clone();
    thread::spawn(move || {
        ring.publish_each(&mut writer, 2);
        writer.close(ring.words());
    })
}

/// 2 messages and the close: the end is seen after the last message.
#[test]
fn closed_while_reading() {
    explore("end::closed_while_reading", Bound::Complete, &OUTCOMES[..2], |outcomes| {
        let ring = Ring::new(2);
        let writing = publish_and_close(&ring, ring.writer());
        let mut follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
        receive(outcomes, &mut follower, 3, 2, CloseReason::Closed);
        writing.join().unwrap();
        finish(follower, 2, CloseReason::Closed);
    });
}

/// 2 slots, 3 messages and the close: the end is seen after the last message, received + lost =
/// sent.
#[test]
fn closed_while_lapped() {
    explore("end::closed_while_lapped", Bound::Preemptions, &OUTCOMES, |outcomes| {
        let ring = Ring::new(2);
        let mut writer = ring.writer();
        ring.publish(&mut writer);
        let writing = publish_and_close(&ring, writer);
        let mut follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
        receive(outcomes, &mut follower, 3, 3, CloseReason::Closed);
        writing.join().unwrap();
        finish(follower, 3, CloseReason::Closed);
    });
}

/// A reader that waits until there is a message or an end, as a blocking receive does, gets every
/// message and the end.
#[test]
fn closed_while_waiting() {
    explore(
        "end::closed_while_waiting",
        Bound::Preemptions,
        &["waited", "did not wait"],
        |outcomes| {
            let ring = Ring::new(2);
            let mut writer = ring.writer();
            let writing = {
                let ring = ring.clone();
                thread::spawn(move || {
                    ring.publish(&mut writer);
                    writer.close(ring.words());
                })
            };
            let mut follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
            let end = loop {
                let mut waited = false;
                while follower.reader.must_wait(ring.words())
                    && follower.reader.ended(ring.words()).is_none()
                {
                    waited = true;
                    thread::yield_now();
                }
                outcomes.saw(if waited { "waited" } else { "did not wait" });
                match follower.recv() {
                    Ok(_) => {}
                    Err(TryRecvError::Closed(reason)) => break reason,
                    Err(error) => {
                        panic!("there was something to receive, but the ring says {error:?}")
                    }
                }
            };
            ended(&follower, end, 1, CloseReason::Closed);
            writing.join().unwrap();
        },
    );
}

/// The producer has gone without a word; who takes the ring's name holds its lock, hence the join.
#[test]
fn superseded_while_reading() {
    explore("end::superseded_while_reading", Bound::Preemptions, &OUTCOMES[..2], |outcomes| {
        let ring = Ring::new(2);
        let mut writer = ring.writer();
        let reading = {
            let (ring, outcomes) = (ring.clone(), outcomes.clone());
            thread::spawn(move || {
                let mut follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
                receive(&outcomes, &mut follower, 2, 1, CloseReason::Superseded);
                follower
            })
        };
        let writing = {
            let ring = ring.clone();
            thread::spawn(move || ring.publish(&mut writer))
        };
        writing.join().unwrap();
        supersede(ring.words());
        let follower = reading.join().unwrap();
        finish(follower, 1, CloseReason::Superseded);
    });
}
