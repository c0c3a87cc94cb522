//! One slot: a message is overwritten, or arrives, while a reader copies.
#![cfg(loom)]

use std::convert::Infallible;
use std::sync::Arc;

use loom::thread;
use loom_tests::{Bound, explore, payload, store_payload, take_payload};
use seqring::slot::{self, Miss};
use seqring::sync::{AtomicU64, zeroed};

fn put(slot: &[AtomicU64], sequence: u64) {
    let Ok(()) = slot::write(slot, sequence, |body| -> Result<(), Infallible> {
        store_payload(body, payload(sequence));
        Ok(())
    });
}

/// Whether message `sequence` could be had; if so, it is whole.
fn get(slot: &[AtomicU64], sequence: u64) -> Result<(), Miss> {
    slot::read(slot, sequence, take_payload).map(|words| assert_eq!(words, payload(sequence), "message {sequence} is torn"))
}

fn name(result: Result<(), Miss>) -> &'static str {
    match result {
        Ok(()) => "accepted",
        Err(Miss::NotYet) => "not yet",
        Err(Miss::Lapped) => "lapped",
        Err(Miss::Tombstone) => panic!("nobody has died"),
    }
}

/// A slot with message 0, behind which another thread puts `messages` more.
fn overwriting(messages: u64) -> (Arc<[AtomicU64]>, thread::JoinHandle<()>) {
    let slot: Arc<[AtomicU64]> = zeroed(3).into();
    put(&slot, 0);
    let writer = {
        let slot = slot.clone();
        thread::spawn(move || (1..=messages).for_each(|sequence| put(&slot, sequence)))
    };
    (slot, writer)
}

#[test]
fn overwritten_while_read() {
    explore("slot::overwritten_while_read", Bound::Complete, &["accepted", "lapped"], |outcomes| {
        let (slot, writer) = overwriting(1);
        outcomes.saw(name(get(&slot, 0)));
        writer.join().unwrap();
        assert_eq!(get(&slot, 0), Err(Miss::Lapped));
        assert_eq!(get(&slot, 1), Ok(()));
    });
}

#[test]
fn arrives_while_read() {
    explore("slot::arrives_while_read", Bound::Complete, &["accepted", "not yet"], |outcomes| {
        let (slot, writer) = overwriting(1);
        outcomes.saw(name(get(&slot, 1)));
        writer.join().unwrap();
        assert_eq!(get(&slot, 1), Ok(()));
    });
}

#[test]
fn two_laps_while_read() {
    explore("slot::two_laps_while_read", Bound::Complete, &["accepted", "not yet", "lapped"], |outcomes| {
        let (slot, writer) = overwriting(2);
        outcomes.saw(name(get(&slot, 1)));
        writer.join().unwrap();
        assert_eq!(get(&slot, 1), Err(Miss::Lapped));
        assert_eq!(get(&slot, 2), Ok(()));
    });
}

/// What one reader has seen cannot be undone for it: ready, then lapped; never back.
#[test]
fn a_reader_never_goes_back() {
    explore("slot::a_reader_never_goes_back", Bound::Complete, &["accepted", "not yet", "lapped"], |outcomes| {
        let (slot, writer) = overwriting(2);
        let rank = |result| match result {
            Err(Miss::NotYet) => 0,
            Ok(()) => 1,
            Err(Miss::Lapped) => 2,
            Err(Miss::Tombstone) => panic!("nobody has died"),
        };
        let (first, second) = (get(&slot, 1), get(&slot, 1));
        assert!(rank(first) <= rank(second), "{first:?}, then {second:?}");
        outcomes.saw(name(second));
        writer.join().unwrap();
    });
}

#[test]
fn two_readers() {
    explore("slot::two_readers", Bound::Preemptions, &["accepted", "not yet", "lapped"], |outcomes| {
        let (slot, writer) = overwriting(2);
        let other = {
            let (slot, outcomes) = (slot.clone(), outcomes.clone());
            thread::spawn(move || outcomes.saw(name(get(&slot, 2))))
        };
        outcomes.saw(name(get(&slot, 1)));
        other.join().unwrap();
        writer.join().unwrap();
    });
}
