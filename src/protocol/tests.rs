//! Tests of the protocol over heap memory in one thread: all rules that need no interleaving.

mod prefetch;

use std::ops::Range;

use super::*;
use crate::layout::{CLOSED, EPOCH, Geometry, Kind, Place, STATE, Sizes};
use crate::protocol::publish::{Blocked, Claim, Publish};
use crate::protocol::slot::{Miss, is_ready};
use crate::sync::zeroed;
use crate::tuning::cpu::CpuProfile;

/// A ring in heap memory, with helpers that publish and receive numbers.
struct Fixture {
    words: Box<[AtomicU64]>,
    geometry: Geometry,
}

impl Fixture {
    fn new(slots: usize) -> Self {
        Self::sized(8, slots)
    }

    fn sized(payload_bytes: usize, slots: usize) -> Self {
        let geometry = Geometry::plan(
            Kind::Fixed,
            Sizes { payload_bytes, payload_align: 8, slots, readers: 4, producers: 1 },
            0,
        )
        .unwrap();
        Self { words: zeroed(geometry.end_word()), geometry }
    }

    fn writer(&self) -> Writer {
        Writer::resume(&self.words, self.geometry)
    }

    fn publish(&self, writer: &mut Writer, messages: u64) {
        for _ in 0..messages {
            let claim = self.begin(writer);
            claim.body[0].store(claim.sequence * 10, Ordering::Relaxed);
            writer.commit(&self.words, &claim);
            writer.advance(claim);
        }
    }

    /// Begins the next message. No gating consumer may block it.
    fn begin(&self, writer: &mut Writer) -> Claim<'_> {
        loop {
            match writer.begin(&self.words, self.geometry.shape()) {
                Ok(claim) => return claim,
                Err(Blocked::NoSpace(next)) => writer.set_limit(self.look(next).unwrap()),
                Err(blocked) => unreachable!("{blocked:?}"),
            }
        }
    }

    fn table(&self) -> &[AtomicU64] {
        table(&self.words, &self.geometry)
    }

    fn look(&self, next: u64) -> Result<u64, Blocker> {
        refresh_limit(&self.words, &self.geometry, next)
    }

    fn reader(&self, start: Start, on_lag: OnLag) -> Reader {
        Reader::new(&self.words, self.geometry, start, on_lag)
    }

    fn recv(&self, reader: &mut Reader) -> Result<u64, TryRecvError> {
        let shape = self.geometry.shape();
        self.copy(reader).map_err(|miss| reader.resolve(&self.words, shape, miss))
    }

    fn latest(&self, reader: &mut Reader) -> Result<u64, TryRecvError> {
        reader.skip_to_newest(&self.words);
        self.recv(reader)
    }

    fn copy(&self, reader: &mut Reader) -> Result<u64, Miss> {
        let shape = self.geometry.shape();
        let reading = reader.begin(&self.words, shape)?;
        let value = reading.body[0].load(Ordering::Relaxed);
        reader.validate(reading, shape).map(|()| value)
    }
}

#[test]
fn messages_of_a_batch_become_ready_line_by_line() {
    // Not a multiple of the four slots of a line; the second lap begins at the start of a line all
    // the same.
    const SLOTS: u64 = 50;
    for (begun, expected) in [
        (0, [0, 0, 0, 0, 4, 4, 4, 4]),
        (1, [0, 0, 0, 3, 3, 3, 3, 7]),
        (3, [0, 1, 1, 1, 1, 5, 5, 5]),
    ] {
        let ring = Fixture::new(SLOTS as usize);
        let mut writer = ring.writer();
        let first = SLOTS + begun;
        ring.publish(&mut writer, first);
        let ready = |end: u64| {
            let is_ready = |sequence: &u64| {
                is_ready(Place::of(&ring.geometry, *sequence).slot(&ring.words), *sequence)
            };
            (first..end).filter(is_ready).count()
        };
        let mut seen = Vec::new();
        writer.set_limit(first + SLOTS);
        let mut group = Group::begin(&mut writer, &ring.words, ring.geometry.shape()).unwrap();
        'group: while let Some(run) = group.next_run() {
            for slot in run.chunks_exact(ring.geometry.stride) {
                seen.push(ready(first + seen.len() as u64));
                // The batch ends early: there is no eighth message.
                if seen.len() == 8 {
                    break 'group;
                }
                group.begin_message(slot);
                group.end_message();
            }
            group.commit_run(run);
        }
        drop(group);
        assert_eq!((writer.next_sequence(), ready(first + 8)), (first + 7, 7));
        assert_eq!(seen, expected);
    }
}

#[test]
fn starts_are_where_they_say() {
    let ring = Fixture::new(4);
    let mut writer = ring.writer();
    for (published, next, newest, oldest) in
        [(0, 0, 0, 0), (1, 1, 0, 0), (4, 4, 3, 0), (6, 6, 5, 2)]
    {
        let published_before = writer.next_sequence();
        ring.publish(&mut writer, published - published_before);
        let cursor = |start| ring.reader(start, OnLag::Oldest).cursor();
        assert_eq!(
            (
                cursor(Start::Next),
                cursor(Start::Newest),
                cursor(Start::Oldest),
                cursor(Start::Sequence(3))
            ),
            (next, newest, oldest, 3)
        );
    }
}

#[test]
fn messages_come_in_order_over_many_laps() {
    for slots in [1, 2, 3, 7, 8] {
        let ring = Fixture::new(slots);
        let mut writer = ring.writer();
        let mut reader = ring.reader(Start::Oldest, OnLag::Oldest);
        for sequence in 0..50 {
            assert_eq!(ring.recv(&mut reader), Err(TryRecvError::Empty));
            ring.publish(&mut writer, 1);
            assert_eq!(reader.lag(&ring.words), 1);
            assert_eq!(ring.recv(&mut reader), Ok(sequence * 10));
        }
        assert_eq!((reader.received(), reader.lost(), reader.cursor()), (50, 0, 50));
    }
}

/// A processor uses only one of the profiles, so the test sets each of them.
#[test]
fn messages_are_the_same_with_every_profile() {
    let profiles = [CpuProfile::Plain, CpuProfile::InOrder, CpuProfile::Prefetch];
    let cases = |bytes| profiles.map(|profile| (bytes, profile));
    for (bytes, profile) in [8, 48, 64, 256, 1024, 4096].into_iter().flat_map(cases) {
        let ring = Fixture::sized(bytes, 7);
        let mut writer = ring.writer();
        let mut reader =
            Reader::with_profile(&ring.words, ring.geometry, Start::Oldest, OnLag::Oldest, profile);
        for round in 0..20 {
            let expected: Vec<u64> =
                (round * 5..round * 5 + 5).map(|sequence| sequence * 10).collect();
            ring.publish(&mut writer, 5);
            let mut received = Vec::new();
            while received.len() < 5 {
                if round % 2 == 0 {
                    received.push(ring.recv(&mut reader).unwrap());
                } else {
                    // A run ends at the end of the lap.
                    let mut run = reader.begin_run(&ring.words, ring.geometry.shape());
                    while let Some(body) = run.begin() {
                        let value = body[0].load(Ordering::Relaxed);
                        if !run.validate() {
                            break;
                        }
                        received.push(value);
                    }
                    let read = run.finish();
                    assert!(read > 0);
                }
            }
            assert_eq!(received, expected, "{bytes} bytes, {profile:?}");
            assert_eq!(ring.recv(&mut reader), Err(TryRecvError::Empty));
        }
    }
}

#[test]
fn a_lapped_reader_learns_the_exact_loss_and_goes_on_by_its_policy() {
    // 16 slots, 40 messages: messages 24 to 39 are there, and the producer writes next into the
    // slot of message 24.
    for (on_lag, expected) in [(OnLag::Oldest, 25 + 4), (OnLag::Newest, 39)] {
        let ring = Fixture::new(16);
        let mut writer = ring.writer();
        let mut reader = ring.reader(Start::Oldest, on_lag);
        ring.publish(&mut writer, 40);
        assert_eq!(ring.recv(&mut reader), Err(TryRecvError::Lagged(expected)));
        assert_eq!(ring.recv(&mut reader), Ok(expected * 10));
        assert_eq!(
            (reader.lost(), reader.received(), reader.cursor()),
            (expected, 1, expected + 1)
        );
    }
}

#[test]
fn a_staying_reader_repeats_its_loss_until_it_seeks() {
    let ring = Fixture::new(4);
    let mut writer = ring.writer();
    let mut reader = ring.reader(Start::Oldest, OnLag::Stay);
    ring.publish(&mut writer, 10);
    assert_eq!(ring.recv(&mut reader), Err(TryRecvError::Lagged(7)));
    ring.publish(&mut writer, 1);
    assert_eq!(ring.recv(&mut reader), Err(TryRecvError::Lagged(8)));
    reader.seek(&ring.words, Start::Oldest);
    assert_eq!(ring.recv(&mut reader), Ok(70));
    assert_eq!((reader.received(), reader.lost()), (1, 0));
}

#[test]
fn the_latest_message_skips_and_counts() {
    let ring = Fixture::new(4);
    let mut writer = ring.writer();
    let mut reader = ring.reader(Start::Oldest, OnLag::Oldest);
    assert_eq!(ring.latest(&mut reader), Err(TryRecvError::Empty));
    ring.publish(&mut writer, 3);
    assert_eq!(ring.latest(&mut reader), Ok(20));
    assert_eq!(ring.latest(&mut reader), Err(TryRecvError::Empty));
    ring.publish(&mut writer, 100);
    assert_eq!(ring.latest(&mut reader), Ok(1020));
    assert_eq!(
        (reader.received(), reader.skipped(), reader.lost(), reader.cursor()),
        (2, 101, 0, 103)
    );
}

#[test]
fn closed_is_seen_after_the_last_message() {
    let ring = Fixture::new(4);
    let mut writer = ring.writer();
    let mut reader = ring.reader(Start::Oldest, OnLag::Oldest);
    ring.publish(&mut writer, 2);
    writer.close(&ring.words);
    assert_eq!(ring.recv(&mut reader), Ok(0));
    assert_eq!(ring.recv(&mut reader), Ok(10));
    assert_eq!(ring.recv(&mut reader), Err(TryRecvError::Closed(CloseReason::Closed)));
    supersede(&ring.words);
    assert_eq!(ring.recv(&mut reader), Err(TryRecvError::Closed(CloseReason::Superseded)));
}

#[test]
fn a_failed_message_is_not_published_and_its_sequence_is_used_again() {
    let ring = Fixture::new(2);
    let mut writer = ring.writer();
    let mut reader = ring.reader(Start::Oldest, OnLag::Oldest);
    ring.publish(&mut writer, 1);
    let claim = ring.begin(&mut writer);
    assert!(!writer.abandon(&ring.words, claim));
    assert_eq!(head(&ring.words), 1);
    ring.publish(&mut writer, 1);
    assert_eq!(ring.recv(&mut reader), Ok(0));
    assert_eq!(ring.recv(&mut reader), Ok(10));
}

#[test]
fn a_successor_counts_what_was_ready_and_discards_what_was_not() {
    let ring = Fixture::new(4);
    let mut writer = ring.writer();
    ring.publish(&mut writer, 6);
    // The writer dies after the stamp of message 6 and in the middle of message 7. It has neither
    // published the head nor committed message 7.
    let body_of = |body: &[AtomicU64], value| body[0].store(value, Ordering::Relaxed);
    let at = |sequence| Place::of(&ring.geometry, sequence).slot(&ring.words);
    body_of(slot::begin(at(6), 0, 6), 60);
    slot::commit(at(6), 6);
    body_of(slot::begin(at(7), 0, 7), 666);

    let mut reader = ring.reader(Start::Sequence(5), OnLag::Oldest);
    assert_eq!(ring.recv(&mut reader), Ok(50));
    let mut writer = ring.writer();
    assert_eq!(
        (writer.next_sequence(), head(&ring.words), ring.words[EPOCH].load(Ordering::Relaxed)),
        (7, 7, 2)
    );
    assert_eq!(ring.recv(&mut reader), Ok(60));
    assert_eq!(ring.recv(&mut reader), Err(TryRecvError::Empty));
    ring.publish(&mut writer, 1);
    assert_eq!(ring.recv(&mut reader), Ok(70));
}

#[test]
fn a_ring_that_was_closed_opens_again() {
    let ring = Fixture::new(4);
    let mut writer = ring.writer();
    ring.publish(&mut writer, 1);
    writer.close(&ring.words);
    assert_eq!(ring.words[STATE].load(Ordering::Relaxed), CLOSED);
    let mut reader = ring.reader(Start::Next, OnLag::Oldest);
    assert_eq!(ring.recv(&mut reader), Err(TryRecvError::Closed(CloseReason::Closed)));
    let mut writer = ring.writer();
    assert_eq!(ring.recv(&mut reader), Err(TryRecvError::Empty));
    ring.publish(&mut writer, 1);
    assert_eq!(ring.recv(&mut reader), Ok(10));
}

#[test]
fn corrupt_words_never_overflow_or_loop() {
    let ring = Fixture::new(3);
    for garbage in [1, u64::MAX, u64::MAX / 2, 1 << 62, 1 << 63] {
        ring.words.iter().for_each(|word| word.store(garbage, Ordering::Relaxed));
        for on_lag in [OnLag::Oldest, OnLag::Newest, OnLag::Stay] {
            for start in [
                Start::Next,
                Start::Newest,
                Start::Oldest,
                Start::Sequence(0),
                Start::Sequence(u64::MAX),
            ] {
                let mut reader = ring.reader(start, on_lag);
                for _ in 0..10 {
                    let _ = ring.recv(&mut reader);
                    let _ = ring.latest(&mut reader);
                    reader.lag(&ring.words);
                }
            }
        }
    }
}

/// Registers a consumer in row `index`.
fn join(ring: &Fixture, index: usize, gating: bool, start: Option<u64>) -> (Row, u64) {
    let table = ring.table();
    let Joined { row, first, .. } = Row::join(
        &ring.words,
        table,
        index,
        JoinRequest { name: "a name", pid: 7, gating, start, checkpoint: None },
    );
    (row, first)
}

#[test]
fn the_gate_stops_the_writer_a_lap_ahead_of_the_slowest() {
    let ring = Fixture::new(4);
    let mut writer = ring.writer();
    ring.publish(&mut writer, 3);
    let table = ring.table();
    let (slow, first) = join(&ring, 1, true, None);
    let (fast, _) = join(&ring, 2, true, None);
    let (free, _) = join(&ring, 0, false, None);
    assert_eq!(first, 3);
    ring.publish(&mut writer, 4);
    fast.advance(table, 6);
    free.advance(table, 3);
    let blocker = ring.look(writer.next_sequence()).unwrap_err();
    assert_eq!((blocker.row, blocker.cursor), (1, 3));
    slow.advance(table, 5);
    assert_eq!(ring.look(writer.next_sequence()), Ok(9));
    slow.leave(table);
    fast.leave(table);
    ring.publish(&mut writer, 20);
    // The refresh has seen both gating consumers leave, so only the row of the free consumer
    // remains in the roster.
    assert_eq!(table[crate::layout::ROSTER].load(Ordering::Relaxed) & 0xFFFF, 1);
}

#[test]
fn a_late_eviction_does_not_hit_the_next_owner_of_the_row() {
    let ring = Fixture::new(4);
    let table = ring.table();
    let mut writer = ring.writer();
    let (first, _) = join(&ring, 0, true, None);
    ring.publish(&mut writer, 4);
    let blocker = ring.look(writer.next_sequence()).unwrap_err();
    first.leave(table);
    let (second, _) = join(&ring, 0, true, None);
    assert!(!vacate(table, blocker.row, blocker.state, crate::layout::EVICTED));
    assert!(!second.is_evicted(table));
    let state = reader_table::row_words(table, 0)[crate::layout::ROW_STATE].load(Ordering::Relaxed);
    assert!(vacate(table, 0, state, crate::layout::EVICTED));
    assert!(second.is_evicted(table));
}

#[test]
fn a_protected_reader_jumps_over_nothing_that_is_safe() {
    for on_lag in [OnLag::Oldest, OnLag::Newest, OnLag::Stay] {
        let ring = Fixture::new(8);
        let mut writer = ring.writer();
        ring.publish(&mut writer, 20);
        let mut reader = ring.reader(Start::Sequence(3), on_lag);
        reader.protect(14);
        // Message 11 is lost. Messages between it and the protected sequence may be skipped,
        // whatever the policy says about the rest.
        let Err(TryRecvError::Lagged(lost)) = ring.recv(&mut reader) else {
            panic!("message 3 is still there")
        };
        assert!((12 - 3..=14 - 3).contains(&lost), "{on_lag:?}: {lost}");
        // The protected sequence has moved up to 17, where the reader was: no producer overwrites
        // anything from there on.
        reader.seek(&ring.words, Start::Sequence(17));
        reader.seek(&ring.words, Start::Sequence(15));
        ring.publish(&mut writer, 5);
        let Err(TryRecvError::Lagged(lost)) = ring.recv(&mut reader) else {
            panic!("message 15 is still there")
        };
        assert_eq!(lost, 17 - 15, "{on_lag:?}");
        // But it does not move beyond the head: a cursor at a message that was never published has
        // held up no producer.
        reader.seek(&ring.words, Start::Sequence(1000));
        reader.seek(&ring.words, Start::Sequence(18));
        ring.publish(&mut writer, 5);
        let Err(TryRecvError::Lagged(lost)) = ring.recv(&mut reader) else {
            panic!("message 18 is still there")
        };
        assert!((22 - 18..=25 - 18).contains(&lost), "{on_lag:?}: {lost}");
    }
}
