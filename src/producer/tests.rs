//! When producers refresh their limit.

use std::process;

use crate::layout::ROSTER;
use crate::sync::Ordering;
use crate::{Message, Producer, Ring};

/// Publishes 200 messages to a ring of 64 slots with `publish`, and returns the sequences after
/// which the producer read the reader table.
fn looks<M: Message + ?Sized>(
    name: &str,
    ring: crate::RingBuilder<M>,
    mut publish: impl FnMut(&mut Producer<M>),
) -> Vec<u64> {
    let ring = ring.slots(64).create().unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut producer = ring.producer().unwrap();
    let mut looks = Vec::new();
    for _ in 0..200 {
        // A consumer that has left is noticed only when the producer next reads the reader table.
        let consumer = ring.consumer().name("gone").attach().unwrap();
        drop(consumer);
        publish(&mut producer);
        if producer.shared.table()[ROSTER].load(Ordering::Relaxed) & 0xFFFF == 0 {
            looks.push(producer.next_sequence());
        }
    }
    looks
}

#[test]
fn producers_look_ahead_of_time_however_they_publish() {
    let name = |how: &str| format!("producer-looks-{how}-{}", process::id());
    let values =
        |how: &str, publish: fn(&mut Producer<u64>)| looks(how, Ring::builder(&name(how)), publish);
    let large = |how: &str, publish: fn(&mut Producer<[u64; 32]>)| {
        looks(how, Ring::builder(&name(how)), publish)
    };
    let bytes = |how: &str, publish: fn(&mut Producer<[u8]>)| {
        looks(how, Ring::builder(&name(how)).slot_bytes(8), publish)
    };
    // The first message needs a refresh of the limit. Each later refresh comes a sixteenth of the
    // ring before the previous limit.
    let expected = [1, 60, 120, 180];
    assert_eq!(values("value", |producer| _ = producer.publish(&7)), expected);
    assert_eq!(values("try-value", |producer| _ = producer.try_publish(&7)), expected);
    assert_eq!(values("batch", |producer| _ = producer.publish_batch(&[7])), expected);
    assert_eq!(large("large", |producer| _ = producer.publish(&[7; 32])), expected);
    assert_eq!(large("large-batch", |producer| _ = producer.publish_batch(&[[7; 32]])), expected);
    assert_eq!(bytes("bytes", |producer| _ = producer.publish(b"7")), expected);
    assert_eq!(bytes("try-bytes", |producer| _ = producer.try_publish(b"7")), expected);
    assert_eq!(
        bytes("built", |producer| _ = producer.publish_with(|message| message.write(b"7"))),
        expected
    );
    assert_eq!(bytes("bytes-batch", |producer| _ = producer.publish_batch([b"7"])), expected);
}
