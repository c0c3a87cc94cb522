//! The sole producer. Its successor takes the ring over and goes on.

use std::thread;
use std::time::{Duration, Instant};

use seqring::{Full, IfExists, Producer, PublishError, Ring};

use crate::message::{Id, SLOT_BYTES, message};
use crate::roles::{Kind, Role, SLOTS, gating};
use crate::stage::Stage;

pub static ROLE: Role =
    Role { name: "producer", kind: Kind::Publishes, mortals: 1, veterans: 0, weight: 3, play };

/// Publishes until it is over.
fn play(stage: &mut Stage) {
    let ring = Ring::<[u8]>::builder(&stage.ring)
        .slots(SLOTS)
        .slot_bytes(SLOT_BYTES)
        .max_registered(stage.rows);
    let ring = ring.if_exists(IfExists::Attach).persistent(true).create();
    let ring = ring.unwrap_or_else(|error| panic!("the producer cannot start: {error}"));
    let mut producer =
        ring.producer().unwrap_or_else(|error| panic!("the producer cannot produce: {error}"));
    producer.set_wait_strategy(stage.wait_strategy());
    let author = ring.epoch();
    // Before the first message, for whoever receives that looks it up.
    stage.board.set_first_of(author, producer.next_sequence());
    stage.say(producer.next_sequence(), author);
    while !stage.is_over() {
        let started = Instant::now();
        publish(stage, &mut producer, author);
        stage.took(started.elapsed().as_nanos() as u64);
        stage.say(producer.next_sequence(), author);
        match stage.random.below(256) {
            // Now and then everybody falls asleep.
            0 => thread::sleep(Duration::from_millis(2)),
            1..=191 => thread::sleep(Duration::from_micros(20)),
            _ => {}
        }
    }
    producer.close();
}

/// Publishes something, in one of the ways there are: a kill can come between their steps.
fn publish(stage: &mut Stage, producer: &mut Producer<[u8]>, author: u64) {
    let first = producer.next_sequence();
    let bytes = message(Id { author, number: first });
    let published = match stage.random.below(6) {
        0 => producer
            .publish_with(|slot| bytes.chunks(1000).try_for_each(|piece| slot.write(piece)))
            .map_err(PublishError::from)
            .map(drop),
        1 => {
            let last = first + 1 + stage.random.below(2 * SLOTS as u64);
            producer
                .publish_batch((first..last).map(|number| message(Id { author, number })))
                .map_err(PublishError::from)
                .map(drop)
        }
        2 => producer.try_publish(&bytes).map(drop),
        3 => producer.publish_timeout(&bytes, Duration::from_millis(1)).map(drop),
        _ => producer.publish(&bytes).map_err(PublishError::from).map(drop),
    };
    match published {
        Ok(()) => {}
        Err(PublishError::Full(Full { consumer: reader, lag })) => {
            assert!(
                reader == gating::ROLE.name && lag >= SLOTS as u64,
                "full for {reader:?}, {lag} messages behind"
            );
        }
        Err(PublishError::TooLarge(error)) => panic!("{error}"),
    }
}
