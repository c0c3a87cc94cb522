//! What is done ahead of time, so that messages need not wait for it.

use super::*;

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
