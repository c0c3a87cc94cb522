//! One of several producers. The others go on without it, and without the message that it was
//! killed over.

use std::thread;
use std::time::{Duration, Instant};

use seqring::{Error, Full, IfExists, PublishError, Ring, SharedProducer};

use crate::message::{Id, SLOT_BYTES, message};
use crate::roles::{Kind, Role, SLOTS, gating};
use crate::stage::Stage;
use crate::support::role::PATIENCE;

pub static ROLE: Role = Role {
    name: "producer of several",
    kind: Kind::Publishes,
    mortals: 3,
    veterans: 1,
    weight: 2,
    play,
};

/// Publishes until it is over.
fn play(stage: &mut Stage) {
    let ring = Ring::<[u8]>::builder(&stage.ring)
        .slots(SLOTS)
        .slot_bytes(SLOT_BYTES)
        .max_registered(stage.rows)
        .max_producers(stage.producers);
    let ring = ring.if_exists(IfExists::Attach).persistent(true).create();
    let ring = ring.unwrap_or_else(|error| panic!("the producer cannot start: {error}"));
    let mut producer = join(&ring);
    producer.set_wait_strategy(stage.wait_strategy());
    let (author, mut number) = (stage.entry, 0);
    stage.say(ring.head(), ring.epoch());
    while !stage.is_over() {
        let started = Instant::now();
        let sequence = publish(stage, &mut producer, Id { author, number });
        stage.took(started.elapsed().as_nanos() as u64);
        if let Some(sequence) = sequence {
            number += 1;
            stage.say(sequence + 1, ring.epoch());
        }
        match stage.random.below(256) {
            // Now and then everybody falls asleep.
            0 => thread::sleep(Duration::from_millis(2)),
            1..=191 => thread::sleep(Duration::from_micros(20)),
            _ => {}
        }
    }
    producer.close();
}

/// Gets a row: there are as many as processes to have them.
fn join(ring: &Ring<[u8]>) -> SharedProducer<[u8]> {
    let started = Instant::now();
    loop {
        match ring.shared_producer() {
            Ok(producer) => return producer,
            // Others join and leave, and this machine is slow.
            Err(Error::InUse { .. }) if started.elapsed() < PATIENCE => {}
            Err(error) => panic!("the producer cannot produce: {error}"),
        }
    }
}

/// Publishes a message, in one of the ways there are, and returns its sequence, unless there is no
/// room. A kill can come between the steps.
fn publish(stage: &mut Stage, producer: &mut SharedProducer<[u8]>, id: Id) -> Option<u64> {
    let bytes = message(id);
    let published = match stage.random.below(5) {
        // With the sequence claimed, for as long as it takes others to come round to it.
        0 => {
            let pause = Duration::from_micros(stage.random.below(100));
            let mut pieces = bytes.chunks(bytes.len().div_ceil(2));
            let write = producer.publish_with(|slot| {
                pieces.try_for_each(|piece| {
                    thread::sleep(pause);
                    slot.write(piece)
                })
            });
            write.map_err(PublishError::from)
        }
        1 => producer.try_publish(&bytes),
        2 => producer.publish_timeout(&bytes, Duration::from_millis(1)),
        _ => producer.publish(&bytes).map_err(PublishError::from),
    };
    match published {
        Ok(sequence) => Some(sequence),
        Err(PublishError::Full(Full { consumer: reader, lag })) => {
            assert!(
                reader == gating::ROLE.name && lag >= SLOTS as u64,
                "full for {reader:?}, {lag} messages behind"
            );
            None
        }
        Err(PublishError::TooLarge(error)) => panic!("{error}"),
    }
}
