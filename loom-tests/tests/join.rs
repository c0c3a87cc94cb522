//! A reader joins beside a running producer, or asks for the newest message.
#![cfg(loom)]

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use loom_tests::{Bound, Ring, explore};
use seqring::protocol::{OnLag, Start, TryRecvError};

/// A ring of two slots with `before` messages, to which another thread adds `during`.
fn running(before: u64, during: u64) -> (Ring, thread::JoinHandle<()>) {
    let ring = Ring::new(2);
    let mut writer = ring.writer();
    ring.publish_each(&mut writer, before);
    let writing = {
        let ring = ring.clone();
        thread::spawn(move || ring.publish_each(&mut writer, during))
    };
    (ring, writing)
}

/// A ring that counts a message has one: who starts at the newest does not find the ring empty.
#[test]
fn at_the_newest() {
    explore(
        "join::at_the_newest",
        Bound::Complete,
        &["received old", "received new", "lagged"],
        |outcomes| {
            let (ring, writing) = running(1, 2);
            let mut follower = ring.follower(Start::Newest, OnLag::Oldest);
            outcomes.saw(match follower.recv() {
                Ok(0) => "received old",
                Ok(_) => "received new",
                Err(TryRecvError::Lagged(_)) => "lagged",
                Err(error) => panic!("the ring has a message, but says {error:?}"),
            });
            writing.join().unwrap();
            assert_eq!(follower.drain(), TryRecvError::Empty);
            assert_eq!(follower.reader.cursor(), 3);
        },
    );
}

/// 2 messages during the join: received or lagged, never empty.
#[test]
fn at_the_oldest() {
    explore("join::at_the_oldest", Bound::Complete, &["received", "lagged"], |outcomes| {
        let (ring, writing) = running(2, 2);
        let mut follower = ring.follower(Start::Oldest, OnLag::Oldest);
        let start = follower.reader.cursor();
        outcomes.saw(match follower.recv() {
            Ok(sequence) => {
                assert_eq!(sequence, start);
                "received"
            }
            Err(TryRecvError::Lagged(_)) => "lagged",
            Err(error) => panic!("the ring has messages, but says {error:?}"),
        });
        writing.join().unwrap();
    });
}

/// Nothing that the joiner knows to be published comes to who starts at the next message, and all
/// that follows does.
#[test]
fn at_the_next() {
    explore("join::at_the_next", Bound::Complete, &["before", "between", "behind"], |outcomes| {
        let (ring, writing) = running(1, 2);
        let mut follower = ring.follower(Start::Next, OnLag::Oldest);
        let start = follower.reader.cursor();
        outcomes.saw(match start {
            1 => "before",
            2 => "between",
            3 => "behind",
            _ => panic!("started at {start} of a ring that had 1 message and got 2"),
        });
        writing.join().unwrap();
        assert_eq!(follower.drain(), TryRecvError::Empty);
        assert_eq!((follower.reader.received(), follower.reader.lost()), (3 - start, 0));
    });
}

/// The newest message is at least as new as the last one that the reader has otherwise heard of, or
/// seen counted.
#[test]
fn the_latest_is_fresh() {
    const OUTCOMES: [&str; 4] = ["newer than told", "as told", "untold", "empty"];
    explore("join::the_latest_is_fresh", Bound::Complete, &OUTCOMES, |outcomes| {
        let ring = Ring::new(2);
        let mut writer = ring.writer();
        let told = Arc::new(AtomicBool::new(false));
        let writing = {
            let (ring, told) = (ring.clone(), told.clone());
            thread::spawn(move || {
                ring.publish(&mut writer);
                told.store(true, Ordering::Release);
                ring.publish(&mut writer);
            })
        };
        let mut follower = ring.follower(Start::Sequence(0), OnLag::Newest);
        let knows = told.load(Ordering::Acquire);
        let counted = ring.head();
        outcomes.saw(match (follower.latest(), knows) {
            (Ok(1), true) => "newer than told",
            (Ok(0), true) if counted < 2 => "as told",
            (Ok(sequence), false) if sequence + 1 >= counted => "untold",
            (Err(TryRecvError::Empty), false) if counted == 0 => "empty",
            (result, _) => {
                panic!("told: {knows}, counted: {counted}, but the latest was {result:?}")
            }
        });
        writing.join().unwrap();
        match follower.latest() {
            Ok(1) => {}
            Err(TryRecvError::Empty) => assert_eq!(follower.reader.cursor(), 2),
            other => panic!("the newest of 2 messages was {other:?}"),
        }
    });
}
