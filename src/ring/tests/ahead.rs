//! What both sides do ahead of time, so that messages need not wait for it.

use super::*;
use crate::layout::{LINE, WORD};
use crate::ring::ahead::Ahead;

/// A writer behind each of whose messages the table is looked at ahead of time, as producers do.
struct Looker<'a> {
    ring: &'a Fixture,
    writer: Writer,
    /// How often a message had to wait for a look, and how often one came behind a message.
    looks: [usize; 2],
}

impl Looker<'_> {
    /// Publishes one message.
    ///
    /// # Errors
    /// The slowest gating consumer, if there is no room.
    fn publish(&mut self) -> Result<u64, Blocker> {
        let Self { ring, writer, looks: [before, behind] } = self;
        let room = |next| {
            *before += 1;
            ring.look(next)
        };
        let sequence = writer.publish(&ring.words, ring.geometry.shape().mark, room, |_| Ok(()), || ())?;
        writer.look_ahead(|next| {
            *behind += 1;
            ring.look(next).ok()
        });
        Ok(sequence)
    }
}

#[test]
fn no_message_but_the_first_waits_for_a_look_at_the_table() {
    for slots in [1, 2, 7, 64, 1000] {
        let ring = Fixture::new(slots);
        let mut looker = Looker { ring: &ring, writer: ring.writer(), looks: [0, 0] };
        for sequence in 0..5 * slots as u64 {
            assert_eq!(looker.publish(), Ok(sequence));
        }
        assert_eq!(looker.looks[0], 1, "{slots} slots");
        assert!((4..=6).contains(&looker.looks[1]), "{slots} slots, {} looks", looker.looks[1]);
    }
}

#[test]
fn who_gates_right_behind_the_producer_makes_no_message_wait_for_a_look() {
    let ring = Fixture::new(64);
    let mut looker = Looker { ring: &ring, writer: ring.writer(), looks: [0, 0] };
    let (row, _) = join(&ring, 0, true, None);
    for sequence in 0..500 {
        assert_eq!(looker.publish(), Ok(sequence));
        row.advance(ring.table(), sequence);
    }
    assert_eq!(looker.looks[0], 1);
}

#[test]
fn a_gating_consumer_a_lap_behind_costs_no_look_with_each_message_and_is_not_overwritten() {
    let ring = Fixture::new(64);
    let mut looker = Looker { ring: &ring, writer: ring.writer(), looks: [0, 0] };
    let (row, _) = join(&ring, 0, true, None);
    for sequence in 0..64 {
        assert_eq!(looker.publish(), Ok(sequence));
    }
    let blocker = looker.publish().unwrap_err();
    assert_eq!((blocker.row, blocker.cursor), (row.index(), 0));
    // The first message, one ahead of the limit, and the one that found no room.
    assert_eq!(looker.looks, [2, 1]);
    for sequence in 64..200 {
        row.advance(ring.table(), sequence - 63);
        assert_eq!(looker.publish(), Ok(sequence));
        assert_eq!(looker.publish().map_err(|blocker| blocker.cursor), Err(sequence - 63));
    }
    assert_eq!(looker.looks[1], 1);
}

/// How far behind the writer a reader of slots for so many bytes begins to fetch ahead.
fn reach(payload_bytes: usize) -> u64 {
    let stride = Fixture::sized(payload_bytes, 1).geometry.stride;
    64 + 1024_u64.div_ceil((stride * WORD) as u64)
}

#[test]
fn what_is_fetched_ahead_is_known_to_be_there() {
    for payload_bytes in [8, 48, 64, 256] {
        let reach = reach(payload_bytes);
        let ring = Fixture::sized(payload_bytes, 1000);
        let mut writer = ring.writer();
        let mut ahead = Ahead::of(&ring.geometry);
        let fetches = |ahead: &mut Ahead, sequence| {
            ahead.look(&ring.words, &ring.geometry, sequence);
            ahead.distance()
        };
        let words = 1024 / WORD;
        assert!(words % LINE == 0);
        ring.publish(&mut writer, reach);
        // Nothing is known of message `reach`, nor is it looked at again with each message.
        assert_eq!(fetches(&mut ahead, 0), 0);
        ring.publish(&mut writer, 2 * 64);
        let seen = [63, 64, 127, 128].map(|sequence| fetches(&mut ahead, sequence));
        assert_eq!(seen, [0, words, words, 0], "{payload_bytes} bytes");
        // A lap and more ahead the writer has been everywhere, but the reader will not receive what is there.
        ring.publish(&mut writer, 2000);
        assert_eq!(fetches(&mut ahead, 192), 0);
        let sequence = writer.next() - reach - 1;
        let seen = [0, 63, 64].map(|more| fetches(&mut ahead, sequence + more));
        assert_eq!(seen, [words, words, 0]);
        ahead.go_to(sequence);
        assert_eq!(fetches(&mut ahead, sequence), words);
    }
}

#[test]
fn nothing_is_fetched_ahead_in_small_rings_nor_of_large_messages() {
    for payload_bytes in [8, 48, 64, 256] {
        let most = 4 * reach(payload_bytes) as usize;
        for (slots, fetches) in [(1, false), (most - 1, false), (most, true)] {
            let ring = Fixture::sized(payload_bytes, slots);
            ring.publish(&mut ring.writer(), slots as u64);
            let mut ahead = Ahead::of(&ring.geometry);
            ahead.look(&ring.words, &ring.geometry, 0);
            assert_eq!(ahead.distance() > 0, fetches, "{payload_bytes} bytes, {slots} slots");
        }
    }
    let ring = Fixture::sized(257, 1000);
    ring.publish(&mut ring.writer(), 1000);
    let mut ahead = Ahead::of(&ring.geometry);
    ahead.look(&ring.words, &ring.geometry, 0);
    ahead.go_to(0);
    ahead.look(&ring.words, &ring.geometry, 0);
    assert_eq!(ahead.distance(), 0);
}

/// Only hints: what is received is the same, also around the ring's end, behind a loss and behind a jump backwards.
#[test]
fn who_fetches_ahead_receives_what_others_do() {
    let ring = Fixture::new(700);
    let mut writer = ring.writer();
    let mut reader = Reader::with_pace(&ring.words, ring.geometry, Start::Oldest, OnLag::Oldest, Pace::Ahead);
    let mut receive = |messages: Range<u64>| {
        for sequence in messages {
            assert_eq!(ring.recv(&mut reader), Ok(sequence * 10));
        }
        reader.cursor()
    };
    ring.publish(&mut writer, 650);
    assert_eq!(receive(0..500), 500);
    ring.publish(&mut writer, 500);
    assert_eq!(receive(500..1150), 1150);
    assert_eq!(ring.recv(&mut reader), Err(TryRecvError::Empty));
    ring.publish(&mut writer, 1000);
    let Err(TryRecvError::Lagged(lost)) = ring.recv(&mut reader) else { panic!("300 messages at least are gone") };
    for sequence in (1150 + lost..2150).chain(1500..2150) {
        if sequence == 1500 {
            reader.seek(&ring.words, Start::Sequence(1500));
        }
        assert_eq!(ring.recv(&mut reader), Ok(sequence * 10));
    }
}
