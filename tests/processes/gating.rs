//! Registered consumers, and producers that wait for them.

use std::thread;
use std::time::Duration;

use seqring::{CloseReason, Full, IfExists, PublishError, RecvError, Ring, Start, TryRecvError};

use crate::peer;
use crate::support::role::PATIENCE;
use crate::support::{Name, expect_error};

#[test]
fn a_full_ring_names_the_slowest_consumer() {
    let name = Name::new("full");
    let ring = Ring::<u64>::builder(&name).slots(4).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let mut slow = ring.consumer().name("slow").gating().attach().unwrap();
    let mut fast = ring.consumer().name("fast").gating().attach().unwrap();
    let mut free = ring.consumer().attach();
    assert_eq!(producer.publish_batch(&[0, 1, 2, 3]), 0..4);
    assert_eq!(fast.recv(), Ok(0));
    let full = Full { consumer: "slow".into(), lag: 4 };
    assert_eq!(producer.try_publish(&4), Err(full.clone()));
    assert_eq!(producer.publish_timeout(&4, Duration::from_millis(5)), Err(full));
    assert_eq!(slow.recv(), Ok(0));
    assert_eq!(slow.try_recv(), Ok(1));
    assert_eq!(producer.try_publish(&4), Ok(4));
    // What a free consumer has not read is overwritten all the same.
    assert_eq!(free.try_recv(), Err(TryRecvError::Lagged(3)));
    let waited: Vec<(String, bool)> = ring
        .consumers()
        .into_iter()
        .map(|r| (r.name, r.waits > 0 && !r.waited.is_zero()))
        .collect();
    assert_eq!(waited, [("slow".to_owned(), true), ("fast".to_owned(), false)]);
}

#[test]
fn byte_rings_wait_too() {
    let name = Name::new("full-bytes");
    let ring = Ring::<[u8]>::builder(&name).slots(2).slot_bytes(4).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let mut consumer = ring.consumer().name("one").gating().attach().unwrap();
    assert_eq!(producer.publish_batch([b"a", b"b"]), Ok(0..2));
    let full = PublishError::Full(Full { consumer: "one".into(), lag: 2 });
    assert_eq!(producer.try_publish(b"c"), Err(full.clone()));
    assert_eq!(producer.publish_timeout(b"c", Duration::ZERO), Err(full));
    assert!(matches!(producer.try_publish(b"too large"), Err(PublishError::TooLarge(_))));
    assert_eq!(consumer.recv().unwrap(), b"a");
    assert_eq!(producer.try_publish(b"c"), Ok(2));
    assert_eq!(consumer.recv().unwrap(), b"b");
    assert_eq!(consumer.recv().unwrap(), b"c");
}

#[test]
fn a_batch_makes_room_while_it_is_received() {
    for resumable in [false, true] {
        let name = Name::new(&format!("room-in-batch-{resumable}"));
        let ring = Ring::<u64>::builder(&name).slots(8).create().unwrap();
        let mut producer = ring.producer().unwrap();
        let registered = ring.consumer().name("batches").gating();
        let mut consumer =
            if resumable { registered.resume() } else { registered }.attach().unwrap();
        // So that the batch goes around the end of a lap.
        producer.publish_batch(&[0, 1, 2, 3]);
        assert_eq!(consumer.recv_each(usize::MAX, |_| ()), Ok(4));
        producer.publish_batch(&[4, 5, 6, 7, 8, 9, 10, 11]);
        let mut published = Vec::new();
        // No more than there are slots, though it makes room for more.
        let count =
            consumer.recv_each(usize::MAX, |_| published.push(producer.try_publish(&8).is_ok()));
        assert_eq!(count, Ok(8));
        // The first is received like any other. A successor of one that can be resumed would begin
        // with it.
        assert_eq!(published[1..].contains(&true), !resumable, "{published:?}");
        assert!(producer.try_publish(&9).is_ok());
        assert_eq!(consumer.lost(), 0);
    }
}

#[test]
fn nothing_is_lost_by_consumers_that_come_and_go() {
    const MESSAGES: u64 = 3000;
    let name = Name::new("lossless");
    let mut producer = peer::start(&name);
    assert_eq!(producer.ask("create replace 16"), "ok");
    assert_eq!(producer.ask("produce"), "ok");
    let mut steady = peer::start(&name);
    assert_eq!(steady.ask("open_read_only"), "ok");
    assert_eq!(steady.ask("gate steady"), "ok");
    steady.tell("drain");
    producer.tell(&format!("publish {MESSAGES}"));
    // They join a running producer, which must not lap them, and the first is killed in the middle
    // of it.
    let mut doomed = peer::start(&name);
    assert_eq!(doomed.ask("open_read_only"), "ok");
    assert_eq!(doomed.ask("gate doomed"), "ok");
    doomed.kill();
    let mut late = peer::start(&name);
    assert_eq!(late.ask("open_read_only"), "ok");
    assert_eq!(late.ask("gate late"), "ok");
    late.tell("drain");
    assert_eq!(producer.line(), "ok");
    assert_eq!(producer.ask("close"), "ok");
    assert_eq!(steady.line(), format!("0..{MESSAGES}"));
    assert!(late.line().ends_with(&format!("..{MESSAGES}")));
    producer.finish();
}

#[test]
fn a_dead_consumer_is_evicted_and_its_row_used_again() {
    let name = Name::new("evict-dead");
    let ring = Ring::<u64>::builder(&name).slots(4).max_registered(1).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let mut doomed = peer::start(&name);
    assert_eq!(doomed.ask("open_read_only"), "ok");
    assert_eq!(doomed.ask("gate doomed"), "ok");
    let text = expect_error(ring.consumer().name("second").attach().map(drop), "TableFull", &name);
    assert!(text.contains("all 1 rows"), "{text}");
    producer.publish_batch(&[0, 1, 2, 3]);
    assert!(producer.try_publish(&4).is_err(), "it is alive");
    doomed.kill();
    assert_eq!(producer.publish_timeout(&4, PATIENCE), Ok(4));
    assert_eq!(ring.consumers(), []);
    let second = ring.consumer().name("second").gating().attach().unwrap();
    assert_eq!(second.cursor(), 5);
    // A dead one is not in the way of who does not want to wait, either.
    drop(second);
    let mut doomed = peer::start(&name);
    assert_eq!(doomed.ask("open_read_only"), "ok");
    assert_eq!(doomed.ask("gate doomed"), "ok");
    producer.publish_batch(&[5, 6, 7, 8]);
    doomed.kill();
    assert_eq!(producer.try_publish(&9), Ok(9));
}

#[test]
fn a_slow_consumer_is_evicted_only_on_demand_and_is_told() {
    let name = Name::new("evict-slow");
    let ring = Ring::<u64>::builder(&name).slots(2).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let mut slow = ring.consumer().name("slow").gating().attach().unwrap();
    producer.publish_batch(&[0, 1]);
    assert!(producer.publish_timeout(&2, Duration::from_millis(50)).is_err());
    producer.set_eviction_timeout(Some(Duration::from_millis(20)));
    assert_eq!(producer.publish(&2), 2);
    assert_eq!(slow.recv(), Err(RecvError::Closed(CloseReason::Evicted)));
    assert_eq!(slow.try_recv(), Err(TryRecvError::Closed(CloseReason::Evicted)));
    assert!(ring.consumers()[0].is_evicted);
    drop(slow);
    assert_eq!(ring.consumers(), []);
}

#[test]
fn an_evicted_consumer_learns_it_while_it_waits() {
    let name = Name::new("evict-waiting");
    let ring = Ring::<u64>::builder(&name).slots(2).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let mut consumer = ring.consumer().name("waits").attach().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(move || consumer.recv());
        // It does not gate, so the producer has no reason of its own.
        assert!(producer.evict(0));
        assert_eq!(waiting.join().unwrap(), Err(RecvError::Closed(CloseReason::Evicted)));
    });
}

#[test]
fn a_synced_consumer_skips_ahead_and_is_told() {
    let name = Name::new("sync");
    let ring = Ring::<u64>::builder(&name).slots(4).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let mut consumers: Vec<_> =
        (0..2).map(|i| ring.consumer().name(&format!("c{i}")).gating().attach().unwrap()).collect();
    producer.publish_batch(&[0, 1, 2, 3]);
    assert!(producer.skip_to_newest(1));
    assert!(!producer.skip_to_newest(2), "there is no such consumer");
    assert!(!producer.skip_to_newest(usize::MAX));
    assert_eq!(consumers[1].try_recv(), Err(TryRecvError::Lagged(4)));
    assert_eq!(consumers[0].try_recv(), Ok(0));
    producer.skip_all_to_newest();
    assert_eq!(producer.try_publish(&4), Ok(4));
    assert_eq!(consumers[0].recv(), Err(RecvError::Lagged(3)));
    assert!(consumers.iter_mut().all(|consumer| consumer.recv() == Ok(4)));
    assert_eq!((consumers[0].received(), consumers[0].lost(), consumers[0].cursor()), (2, 3, 5));
}

#[test]
fn a_successor_waits_for_the_consumers_of_its_predecessor() {
    let name = Name::new("gate-restart");
    let mut first = peer::start(&name);
    assert_eq!(first.ask("create attach 4"), "ok");
    assert_eq!(first.ask("produce"), "ok");
    let ring = Ring::<u64>::open_read_only(&name).unwrap();
    let mut consumer = ring.consumer().name("stays").gating().attach().unwrap();
    assert_eq!(first.ask("publish 3"), "ok");
    first.kill();
    let again = Ring::<u64>::builder(&name).slots(4).if_exists(IfExists::Attach).create().unwrap();
    let mut producer = again.producer().unwrap();
    assert_eq!(producer.try_publish(&30), Ok(3));
    assert!(producer.try_publish(&40).is_err());
    for sequence in 0..4 {
        assert_eq!(consumer.recv(), Ok(sequence * 10));
    }
    assert_eq!(producer.try_publish(&40), Ok(4));
}

#[test]
fn only_the_table_is_writable_for_registered_consumers() {
    let name = Name::new("gate-maps");
    let _ring = Ring::<u64>::builder(&name).create().unwrap();
    let mut peer = peer::start(&name);
    assert_eq!(peer.ask("open_read_only"), "ok");
    assert_eq!(peer.ask("gate peer"), "ok");
    let mut mappings: Vec<String> = peer.ask("mappings").split(' ').map(str::to_owned).collect();
    mappings.sort();
    assert_eq!(mappings, ["r--s", "rw-s"]);
}

#[test]
fn starts_of_gating_consumers() {
    let name = Name::new("gate-start");
    let ring = Ring::<u64>::builder(&name).slots(4).create().unwrap();
    let mut producer = ring.producer().unwrap();
    producer.publish_batch(&[0, 1, 2, 3, 4, 5]);
    for (start, first) in
        [(Start::Next, 6), (Start::Newest, 5), (Start::Oldest, 2), (Start::Sequence(4), 4)]
    {
        let consumer = ring.consumer().start(start).name("starts").gating().attach().unwrap();
        assert_eq!((consumer.cursor(), ring.consumers()[0].cursor), (first, first), "{start:?}");
    }
    // One that asks for what is gone is told, and holds the producer up no longer than that.
    let mut consumer =
        ring.consumer().start(Start::Sequence(0)).name("late").gating().attach().unwrap();
    assert_eq!(consumer.recv(), Err(RecvError::Lagged(4)));
    assert_eq!(consumer.recv(), Ok(4));
    assert_eq!(producer.try_publish(&6), Ok(6));
}

#[test]
fn rows_say_who_and_how_far() {
    let name = Name::new("rows");
    let ring = Ring::<u64>::builder(&name).slots(8).max_registered(3).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let long = "é".repeat(60);
    let mut consumer = ring.consumer().name(&long).attach().unwrap();
    producer.publish_batch(&[0; 20]);
    while consumer.try_recv() != Err(TryRecvError::Empty) {}
    let info = &ring.consumers()[0];
    assert_eq!(info.name, "é".repeat(40), "cut to 80 bytes, not in the middle of a character");
    assert_eq!(
        (info.pid, info.is_gating, info.is_alive),
        (u64::from(std::process::id()), false, true)
    );
    assert_eq!((info.cursor, info.lag, info.received + info.lost), (20, 0, 20));
    assert_eq!((info.received, info.lost), (consumer.received(), consumer.lost()));
}

#[test]
fn a_slow_consumer_is_evicted_within_a_timeout_that_is_hardly_longer() {
    let name = Name::new("evict-timeout");
    let ring = Ring::<u64>::builder(&name).slots(8).create().unwrap();
    let mut slow = ring.consumer().name("slow").gating().attach().unwrap();
    let mut producer = ring.producer().unwrap();
    producer.set_eviction_timeout(Some(Duration::from_millis(40)));
    (0..8).for_each(|n| assert_eq!(producer.publish(&n), n));
    assert_eq!(producer.publish_timeout(&8, PATIENCE), Ok(8));
    assert_eq!(slow.recv(), Err(RecvError::Closed(CloseReason::Evicted)));
}
