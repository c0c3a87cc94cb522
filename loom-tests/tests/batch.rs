//! A batch: its messages can be received one by one, and are counted all at once.
#![cfg(loom)]

use loom::thread;
use loom_tests::{Bound, Ring, explore, payload, store_payload};
use seqring::protocol::{OnLag, Start, TryRecvError, Writer};

/// Publishes `messages` as one batch.
fn publish_batch(ring: &Ring, writer: &mut Writer, messages: u64) {
    for _ in 0..messages {
        ring.try_write(writer).expect("nobody gates");
    }
    writer.publish_head(ring.words());
}

/// One reader goes by the slots, another joins by the head.
#[test]
fn received_one_by_one_counted_at_once() {
    const OUTCOMES: [&str; 4] =
        ["received before counted", "received", "head before", "head behind"];
    explore(
        "batch::received_one_by_one_counted_at_once",
        Bound::Preemptions,
        &OUTCOMES,
        |outcomes| {
            let ring = Ring::new(4);
            let mut writer = ring.writer();
            ring.publish(&mut writer);
            let writing = {
                let ring = ring.clone();
                thread::spawn(move || publish_batch(&ring, &mut writer, 2))
            };
            let joining = {
                let (ring, outcomes) = (ring.clone(), outcomes.clone());
                thread::spawn(move || {
                    let mut follower = ring.follower(Start::Newest, OnLag::Oldest);
                    let newest = follower.reader.cursor();
                    match newest {
                        0 => outcomes.saw("head before"),
                        2 => outcomes.saw("head behind"),
                        _ => panic!(
                            "the head counted only a part of the batch: the newest was {newest}"
                        ),
                    }
                    assert_eq!(follower.recv(), Ok(newest), "the head counted message {newest}");
                })
            };
            let mut follower = ring.follower(Start::Sequence(1), OnLag::Oldest);
            if follower.recv().is_ok() {
                outcomes.saw(if ring.head() == 1 { "received before counted" } else { "received" });
            }
            writing.join().unwrap();
            joining.join().unwrap();
            assert_eq!(follower.drain(), TryRecvError::Empty);
            assert_eq!(
                (follower.reader.cursor(), follower.reader.received(), ring.head()),
                (3, 2, 3)
            );
        },
    );
}

/// A batch receive takes what is ready, in order, and stops without an error.
#[test]
fn received_as_a_batch() {
    explore("batch::received_as_a_batch", Bound::Complete, &["none", "some", "all"], |outcomes| {
        let ring = Ring::new(2);
        let mut writer = ring.writer();
        let writing = {
            let ring = ring.clone();
            thread::spawn(move || publish_batch(&ring, &mut writer, 2))
        };
        let mut follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
        outcomes.saw(["none", "some", "all"][follower.recv_run(2)]);
        writing.join().unwrap();
    });
}

/// Publishes two messages, which are a group.
fn publish_group(ring: &Ring, writer: &mut Writer) {
    assert_eq!(ring.write_group(writer, 2, payload), Ok(2));
    writer.publish_head(ring.words());
}

/// A group is received by runs: a prefix, in order, and the rest later.
#[test]
fn received_from_a_group() {
    explore(
        "batch::received_from_a_group",
        Bound::Complete,
        &["none", "some", "all"],
        |outcomes| {
            let ring = Ring::with_groups(8, 0);
            let mut writer = ring.writer();
            let writing = {
                let ring = ring.clone();
                thread::spawn(move || publish_group(&ring, &mut writer))
            };
            let mut follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
            let received = follower.recv_run(3);
            outcomes.saw(["none", "some", "all"][received]);
            writing.join().unwrap();
            assert_eq!(follower.recv_run(3), 2 - received);
            assert_eq!(follower.drain(), TryRecvError::Empty);
        },
    );
}

/// A group comes round to the messages that a run is about to receive.
#[test]
fn lapped_by_a_group() {
    explore("batch::lapped_by_a_group", Bound::Complete, &["none", "some", "all"], |outcomes| {
        let ring = Ring::with_groups(8, 0);
        let mut writer = ring.writer();
        ring.publish_each(&mut writer, 8);
        let mut follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
        let writing = {
            let ring = ring.clone();
            thread::spawn(move || publish_group(&ring, &mut writer))
        };
        let received = follower.recv_run(2);
        outcomes.saw(["none", "some", "all"][received]);
        writing.join().unwrap();
        let next = follower.recv();
        assert_eq!(next.is_ok(), received == 2, "after {received}: {next:?}");
        assert_eq!(follower.drain(), TryRecvError::Empty);
        assert_eq!(follower.reader.cursor(), 10);
    });
}

/// A batch larger than the ring laps a reader in one go.
#[test]
fn larger_than_the_ring() {
    explore(
        "batch::larger_than_the_ring",
        Bound::Preemptions,
        &["received", "lagged", "empty"],
        |outcomes| {
            let ring = Ring::new(2);
            let mut writer = ring.writer();
            let writing = {
                let ring = ring.clone();
                thread::spawn(move || publish_batch(&ring, &mut writer, 4))
            };
            let mut follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
            for _ in 0..2 {
                outcomes.saw(match follower.recv() {
                    Ok(_) => "received",
                    Err(TryRecvError::Lagged(_)) => "lagged",
                    Err(TryRecvError::Empty) => "empty",
                    Err(TryRecvError::Closed(reason)) => panic!("closed by nobody: {reason:?}"),
                });
            }
            writing.join().unwrap();
            assert_eq!(follower.drain(), TryRecvError::Empty);
            assert_eq!(follower.reader.cursor(), 4);
        },
    );
}

/// The second fill of a batch fails: the first message counts, and the second's sequence is used
/// again.
#[test]
fn failed_halfway() {
    explore(
        "batch::failed_halfway",
        Bound::Complete,
        &["received 0", "received 1", "received 2"],
        |outcomes| {
            let ring = Ring::new(2);
            let mut writer = ring.writer();
            let writing = {
                let ring = ring.clone();
                thread::spawn(move || {
                    ring.try_write(&mut writer).expect("nobody gates");
                    let failed = ring.write_with(&mut writer, |body, _| {
                        store_payload(body, payload(7));
                        Err("failed")
                    });
                    assert_eq!(failed, Err("failed"));
                    writer.publish_head(ring.words());
                    assert_eq!((writer.next_sequence(), ring.head()), (1, 1));
                    ring.publish(&mut writer);
                })
            };
            let mut follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
            let received = (0..2).filter(|_| follower.recv().is_ok()).count();
            outcomes.saw(["received 0", "received 1", "received 2"][received]);
            writing.join().unwrap();
            assert_eq!(follower.drain(), TryRecvError::Empty);
            assert_eq!(follower.reader.received(), 2);
        },
    );
}
