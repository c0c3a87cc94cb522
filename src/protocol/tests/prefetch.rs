//! Tests of the work that both sides do early, so that messages need not wait for it.

use super::*;
use crate::layout::WORD;
use crate::protocol::publish::{Blocked, Publish, Upkeep};
use crate::tuning::prefetch::Prefetch;

/// A writer that refreshes the limit early, after any message, as producers do after a batch.
struct Looker<'a> {
    ring: &'a Fixture,
    writer: Writer,
    /// How many refreshes a message had to wait for, and how many happened after a message.
    looks: [usize; 2],
    /// The next sequence at each refresh after a message.
    at: Vec<u64>,
}

impl Looker<'_> {
    /// Publishes one message.
    ///
    /// # Errors
    /// The slowest gating consumer, if there is no space.
    fn publish(&mut self) -> Result<u64, Blocker> {
        let Self { ring, writer, looks: [before, behind], at } = self;
        let (words, shape) = (&ring.words, ring.geometry.shape());
        let claim = loop {
            match writer.begin(words, shape) {
                Ok(claim) => break claim,
                Err(Blocked::NoSpace(next)) => {
                    *before += 1;
                    writer.set_limit(ring.look(next)?);
                }
                Err(blocked) => unreachable!("{blocked:?}"),
            }
        };
        let sequence = claim.sequence;
        writer.commit(words, &claim);
        writer.advance(claim);
        if writer.refresh_early() == Upkeep::RefreshLimit {
            *behind += 1;
            at.push(writer.next_sequence());
            writer.set_early_limit(ring.look(writer.next_sequence()).ok());
        }
        Ok(sequence)
    }
}

#[test]
fn no_message_but_the_first_waits_for_a_look_at_the_table() {
    for slots in [1, 2, 7, 64, 1000] {
        let ring = Fixture::new(slots);
        let mut looker =
            Looker { ring: &ring, writer: ring.writer(), looks: [0, 0], at: Vec::new() };
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
    let mut looker = Looker { ring: &ring, writer: ring.writer(), looks: [0, 0], at: Vec::new() };
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
    let mut looker = Looker { ring: &ring, writer: ring.writer(), looks: [0, 0], at: Vec::new() };
    let (row, _) = join(&ring, 0, true, None);
    for sequence in 0..64 {
        assert_eq!(looker.publish(), Ok(sequence));
    }
    let blocker = looker.publish().unwrap_err();
    assert_eq!((blocker.row, blocker.cursor), (row.index(), 0));
    // A refresh before the first message, an early one, and one for the message that found no
    // space.
    assert_eq!(looker.looks, [2, 1]);
    // The early refresh comes when a sixteenth of the ring is left.
    assert_eq!(looker.at, [60]);
    for sequence in 64..200 {
        row.advance(ring.table(), sequence - 63);
        assert_eq!(looker.publish(), Ok(sequence));
        assert_eq!(looker.publish().map_err(|blocker| blocker.cursor), Err(sequence - 63));
    }
    assert_eq!(looker.looks[1], 1);
}

#[test]
fn from_look_to_look_there_are_more_messages_than_a_sixteenth_of_the_ring() {
    for lag in 1..64 {
        let ring = Fixture::new(64);
        let mut looker =
            Looker { ring: &ring, writer: ring.writer(), looks: [0, 0], at: Vec::new() };
        let (row, _) = join(&ring, 0, true, None);
        for sequence in 0..1000_u64 {
            row.advance(ring.table(), sequence.saturating_sub(lag));
            assert_eq!(looker.publish(), Ok(sequence), "{lag} behind");
        }
        assert!(looker.at.windows(2).all(|looks| looks[1] - looks[0] > 64 / 16), "{lag} behind");
    }
}

#[test]
fn nothing_is_fetched_that_is_not_published() {
    for payload_bytes in [8, 16, 48, 64, 256] {
        let ring = Fixture::sized(payload_bytes, 1000);
        let shape = ring.geometry.shape();
        let mut writer = ring.writer();
        for published in 1..=600 {
            ring.publish(&mut writer, 1);
            let mut ahead = Prefetch::of(&ring.geometry);
            let mut fetches = 0;
            for sequence in 0..published {
                ahead.refresh(&ring.words, &ring.geometry, sequence);
                let fetched = ahead.fetched(Place::of(&ring.geometry, sequence).word(), shape);
                fetches += usize::from(!fetched.is_empty());
                assert!(
                    fetched.end <= Place::of(&ring.geometry, published).word(),
                    "{payload_bytes} bytes, {sequence} of {published}"
                );
            }
            // A check every 64 messages covers those, and a kilobyte and a line more, which is 4 to
            // 68 slots.
            let possible = (65 + 4..).contains(&published);
            assert!(possible || fetches == 0, "{payload_bytes} bytes, {published} published");
            assert!(
                published < 65 + 68 || fetches > 0,
                "{payload_bytes} bytes, {published} published"
            );
        }
    }
}

#[test]
fn nothing_is_fetched_ahead_in_small_rings_nor_of_large_messages() {
    for (payload_bytes, reach) in [(8, 64 + 68), (48, 64 + 17), (64, 64 + 16), (256, 64 + 4)] {
        for (slots, fetches) in [(1, false), (4 * reach - 1, false), (4 * reach, true)] {
            let ring = Fixture::sized(payload_bytes, slots);
            ring.publish(&mut ring.writer(), slots as u64);
            let mut ahead = Prefetch::of(&ring.geometry);
            ahead.refresh(&ring.words, &ring.geometry, 0);
            assert_eq!(ahead.distance() > 0, fetches, "{payload_bytes} bytes, {slots} slots");
        }
    }
    let ring = Fixture::sized(257, 1000);
    ring.publish(&mut ring.writer(), 1000);
    let mut ahead = Prefetch::of(&ring.geometry);
    ahead.refresh(&ring.words, &ring.geometry, 0);
    ahead.go_to(0);
    ahead.refresh(&ring.words, &ring.geometry, 0);
    assert_eq!(ahead.distance(), 0);
}

#[test]
fn readers_look_and_fetch_whatever_they_are_asked_for() {
    let ring = Fixture::new(1000);
    ring.publish(&mut ring.writer(), 500);
    let reader = |profile| {
        Reader::with_profile(&ring.words, ring.geometry, Start::Oldest, OnLag::Oldest, profile)
    };
    for profile in [CpuProfile::Plain, CpuProfile::InOrder] {
        let mut reader = reader(profile);
        assert_eq!(ring.recv(&mut reader), Ok(0));
        assert_eq!(reader.fetches(), 0, "{profile:?}");
    }
    let mut one_by_one = reader(CpuProfile::Prefetch);
    assert_eq!(ring.recv(&mut one_by_one), Ok(0));
    assert_eq!(one_by_one.fetches(), 1024 / WORD);
    // Near the newest message there is no prefetch. After a jump backwards there is, even if the
    // jump does not go back to the last check.
    for sequence in 1..450 {
        assert_eq!(ring.recv(&mut one_by_one), Ok(sequence * 10));
    }
    assert_eq!(one_by_one.fetches(), 0);
    one_by_one.seek(&ring.words, Start::Sequence(300));
    assert_eq!(ring.recv(&mut one_by_one), Ok(3000));
    assert_eq!(one_by_one.fetches(), 1024 / WORD);
    let mut run = reader(CpuProfile::Prefetch);
    let receive = |reader: &mut Reader, most: usize| {
        let mut run = reader.begin_run(&ring.words, ring.geometry.shape());
        while run.received() < most && run.begin().is_some() && run.validate() {}
        run.finish()
    };
    assert_eq!(receive(&mut run, 100), 100);
    assert_eq!(run.fetches(), 1024 / WORD);
    assert_eq!(receive(&mut run, 400), 400);
    assert_eq!(run.fetches(), 0);
}

/// Prefetches are only hints: the messages received are the same, also around the end of the ring,
/// after a loss, and after a jump backwards.
#[test]
fn who_fetches_ahead_receives_what_others_do() {
    let ring = Fixture::new(700);
    let mut writer = ring.writer();
    let mut reader = Reader::with_profile(
        &ring.words,
        ring.geometry,
        Start::Oldest,
        OnLag::Oldest,
        CpuProfile::Prefetch,
    );
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
    let Err(TryRecvError::Lagged(lost)) = ring.recv(&mut reader) else {
        panic!("300 messages at least are gone")
    };
    for sequence in (1150 + lost..2150).chain(1500..2150) {
        if sequence == 1500 {
            reader.seek(&ring.words, Start::Sequence(1500));
        }
        assert_eq!(ring.recv(&mut reader), Ok(sequence * 10));
    }
}

#[test]
fn nothing_that_is_due_is_missed_by_who_publishes_now_single_messages_and_now_batches() {
    for slots in [1, 2, 7, 64] {
        let ring = Fixture::sized(256, slots);
        let mut writer = ring.writer().demoting(&ring.geometry);
        let (row, _) = join(&ring, 0, true, None);
        let shape = ring.geometry.shape();
        let mut refused = 0;
        let mut read = 0;
        for step in 0..2000 {
            let [due, look, demotion] = writer.dues();
            assert!(
                due <= look && due <= demotion,
                "{due}, {look}, {demotion} before {}",
                writer.next_sequence()
            );
            if writer.is_at_limit() {
                match ring.look(writer.next_sequence()) {
                    Ok(limit) => writer.set_limit(limit),
                    Err(_) => refused += 1,
                }
            }
            let upkeep = if step % 3 == 0 {
                if let Ok(mut group) = Group::begin(&mut writer, &ring.words, shape) {
                    let run = group.next_run().unwrap();
                    for slot in run.chunks_exact(shape.stride).take(1 + step % 4) {
                        group.begin_message(slot);
                        group.end_message();
                    }
                }
                writer.refresh_early()
            } else if let Ok(claim) = writer.begin(&ring.words, shape) {
                writer.commit(&ring.words, &claim);
                writer.advance(claim);
                writer.upkeep(&ring.words, shape, 256)
            } else {
                Upkeep::Nothing
            };
            if upkeep == Upkeep::RefreshLimit {
                writer.set_early_limit(ring.look(writer.next_sequence()).ok());
            }
            if step % (slots + 13) == 0 {
                // The consumer does not always read all messages, so that some refreshes are due
                // sooner.
                read = read.max(
                    writer.next_sequence()
                        - (step as u64 * 5 / 2 % slots as u64).min(writer.next_sequence()),
                );
                row.advance(ring.table(), read);
            }
        }
        assert!(
            refused > 0 && writer.next_sequence() > 10 * slots as u64,
            "{slots} slots, {refused} refused"
        );
        assert!(writer.dues()[2] > writer.next_sequence() / 2, "the clock is not looked at");
    }
}

#[test]
fn who_is_told_not_to_demote_does_not_look_at_the_clock() {
    let ring = Fixture::sized(256, 64);
    let mut writer = ring.writer().demoting(&ring.geometry);
    ring.publish(&mut writer, 3);
    assert_eq!(writer.dues()[2], 0);
    writer.demote(&ring.geometry, false);
    let [due, look, demotion] = writer.dues();
    assert_eq!((due, demotion), (look, u64::MAX));
    ring.publish(&mut writer, 300);
    assert_eq!(writer.dues()[2], u64::MAX);
    writer.demote(&ring.geometry, true);
    assert_ne!(writer.dues()[2], 0);
}
