//! One slot: a message is overwritten, or arrives, while a reader copies. In a small slot mark and
//! stamp are one word, in a large one they are two.
#![cfg(loom)]

use std::sync::Arc;

use loom::thread;
use loom_tests::{Bound, LARGE_SLOT, explore, mark_of, payload, store_payload, take_payload};
use seqring::protocol::slot::{self, Miss};
use seqring::sync::{AtomicU64, zeroed};

/// Words of a small slot: a stamp that is the mark, too, and a payload.
const SMALL_SLOT: usize = 3;

fn put(slot: &[AtomicU64], sequence: u64) {
    store_payload(slot::begin(slot, mark_of(slot.len()), sequence), payload(sequence));
    slot::commit(slot, sequence);
}

/// Whether message `sequence` could be had; if so, it is whole.
fn get(slot: &[AtomicU64], sequence: u64) -> Result<(), Miss> {
    let words = take_payload(slot::begin_read(slot, slot::load_stamp(slot), sequence)?);
    slot::validate(slot, mark_of(slot.len()), sequence)?;
    assert_eq!(words, payload(sequence), "message {sequence} is torn");
    Ok(())
}

fn told(result: Result<(), Miss>) -> &'static str {
    match result {
        Ok(()) => "accepted",
        Err(Miss::NotYet) => "not yet",
        Err(Miss::Lapped) => "lapped",
        Err(Miss::Tombstone) => panic!("nobody has died"),
    }
}

/// A slot of so many words with message 0, behind which another thread puts `messages` more.
fn overwriting(words: usize, messages: u64) -> (Arc<[AtomicU64]>, thread::JoinHandle<()>) {
    let slot: Arc<[AtomicU64]> = zeroed(words).into();
    put(&slot, 0);
    let writer = {
        let slot = slot.clone();
        thread::spawn(move || (1..=messages).for_each(|sequence| put(&slot, sequence)))
    };
    (slot, writer)
}

fn overwritten(name: &'static str, words: usize) {
    explore(name, Bound::Complete, &["accepted", "lapped"], move |outcomes| {
        let (slot, writer) = overwriting(words, 1);
        outcomes.saw(told(get(&slot, 0)));
        writer.join().unwrap();
        assert_eq!(get(&slot, 0), Err(Miss::Lapped));
        assert_eq!(get(&slot, 1), Ok(()));
    });
}

fn arrives(name: &'static str, words: usize) {
    explore(name, Bound::Complete, &["accepted", "not yet"], move |outcomes| {
        let (slot, writer) = overwriting(words, 1);
        outcomes.saw(told(get(&slot, 1)));
        writer.join().unwrap();
        assert_eq!(get(&slot, 1), Ok(()));
    });
}

fn two_laps(name: &'static str, words: usize) {
    explore(name, Bound::Complete, &["accepted", "not yet", "lapped"], move |outcomes| {
        let (slot, writer) = overwriting(words, 2);
        outcomes.saw(told(get(&slot, 1)));
        writer.join().unwrap();
        assert_eq!(get(&slot, 1), Err(Miss::Lapped));
        assert_eq!(get(&slot, 2), Ok(()));
    });
}

/// What one reader has seen cannot be undone for it: ready, then lapped; never back.
fn never_back(name: &'static str, words: usize) {
    explore(name, Bound::Complete, &["accepted", "not yet", "lapped"], move |outcomes| {
        let (slot, writer) = overwriting(words, 2);
        let rank = |result| match result {
            Err(Miss::NotYet) => 0,
            Ok(()) => 1,
            Err(Miss::Lapped) => 2,
            Err(Miss::Tombstone) => panic!("nobody has died"),
        };
        let (first, second) = (get(&slot, 1), get(&slot, 1));
        assert!(rank(first) <= rank(second), "{first:?}, then {second:?}");
        outcomes.saw(told(second));
        writer.join().unwrap();
    });
}

fn beside_another(name: &'static str, words: usize) {
    explore(name, Bound::Preemptions, &["accepted", "not yet", "lapped"], move |outcomes| {
        let (slot, writer) = overwriting(words, 2);
        let other = {
            let (slot, outcomes) = (slot.clone(), outcomes.clone());
            thread::spawn(move || outcomes.saw(told(get(&slot, 2))))
        };
        outcomes.saw(told(get(&slot, 1)));
        other.join().unwrap();
        writer.join().unwrap();
    });
}

/// A slot's next lap, a reader of the old one: accepted means whole.
#[test]
fn overwritten_while_read() {
    overwritten("slot::overwritten_while_read", SMALL_SLOT);
}

/// A slot's next lap, a reader of the old one; a reader of the new one: accepted means whole.
#[test]
fn arrives_while_read() {
    arrives("slot::arrives_while_read", SMALL_SLOT);
}

/// Two laps, a reader of the first: not yet, accepted and lapped are told apart.
#[test]
fn two_laps_while_read() {
    two_laps("slot::two_laps_while_read", SMALL_SLOT);
}

/// Two laps, two reads: not yet, then ready, then lapped; never back.
#[test]
fn a_reader_never_goes_back() {
    never_back("slot::a_reader_never_goes_back", SMALL_SLOT);
}

/// Two laps, two readers.
#[test]
fn two_readers() {
    beside_another("slot::two_readers", SMALL_SLOT);
}

/// Large slot, its mark on another line: a slot's next lap, a reader of the old one: accepted means
/// whole.
#[test]
fn apart_overwritten_while_read() {
    overwritten("slot::apart_overwritten_while_read", LARGE_SLOT);
}

/// Large slot, its mark on another line: a slot's next lap, a reader of the old one; a reader of
/// the new one: accepted means whole.
#[test]
fn apart_arrives_while_read() {
    arrives("slot::apart_arrives_while_read", LARGE_SLOT);
}

/// Large slot, its mark on another line: two laps, a reader of the first: not yet, accepted and
/// lapped are told apart.
#[test]
fn apart_two_laps_while_read() {
    two_laps("slot::apart_two_laps_while_read", LARGE_SLOT);
}

/// Large slot, its mark on another line: two laps, two reads: not yet, then ready, then lapped;
/// never back.
#[test]
fn apart_a_reader_never_goes_back() {
    never_back("slot::apart_a_reader_never_goes_back", LARGE_SLOT);
}

/// Large slot, its mark on another line: two laps, two readers.
#[test]
fn apart_two_readers() {
    beside_another("slot::apart_two_readers", LARGE_SLOT);
}
