//! Producers and consumers that come, go and die.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use seqring::{CloseReason, IfExists, RecvError, RecvTimeoutError, Ring, Start, TryRecvError};

use crate::peer::{self, FACTOR};
use crate::support::role::PATIENCE;
use crate::support::{Name, expect_error};

#[test]
fn messages_travel_from_one_process_to_others() {
    let name = Name::new("travel");
    let mut producer = peer::start(&name);
    assert_eq!(producer.ask("create replace 64"), "ok");
    assert_eq!(producer.ask("produce"), "ok");
    let mut others = [peer::start(&name), peer::start(&name)];
    for consumer in &mut others {
        assert_eq!(consumer.ask("open_read_only"), "ok");
        assert_eq!(consumer.ask("consume"), "ok");
    }
    let ring = Ring::<u64>::open_read_only(&name).unwrap();
    let mut own = ring.consumer().attach();
    assert_eq!(producer.ask("publish 50"), "ok");
    assert_eq!(producer.ask("close"), "ok");
    for sequence in 0..50 {
        for consumer in &mut others {
            assert_eq!(consumer.ask("recv"), format!("Ok({})", sequence * FACTOR));
        }
        assert_eq!(own.recv(), Ok(sequence * FACTOR));
    }
    for consumer in &mut others {
        assert_eq!(consumer.ask("recv"), "Err(Closed(Closed))");
    }
    assert_eq!(own.recv(), Err(RecvError::Closed(CloseReason::Closed)));
    others.into_iter().for_each(crate::support::role::Child::finish);
    producer.finish();
    assert!(!name.path().exists(), "the creator's end removes the name");
}

#[test]
fn a_ring_has_one_producer() {
    let name = Name::new("exclusive");
    let ring = Ring::<u64>::builder(&name).slots(8).create().unwrap();
    let producer = ring.producer().unwrap();
    // By the same handle, by another of this process, by another process.
    expect_error(ring.producer(), "ProducerExists", &name);
    let second = Ring::<u64>::open(&name).unwrap();
    let text = expect_error(second.producer(), "ProducerExists", &name);
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    let mut other = peer::start(&name);
    assert_eq!(other.ask("open"), "ok");
    assert_eq!(other.ask("produce"), "ProducerExists");
    assert_eq!(other.ask("create replace 8"), "InUse");
    // Free when it is dropped, for each of them.
    drop(producer);
    assert_eq!(other.ask("produce"), "ok");
    expect_error(ring.producer(), "ProducerExists", &name);
    expect_error(second.producer(), "ProducerExists", &name);
    assert!(ring.is_producer_alive());
    // Free when it is killed.
    other.kill();
    assert!(!ring.is_producer_alive());
    let producer = second.producer().unwrap();
    expect_error(ring.producer(), "ProducerExists", &name);
    drop(producer);
    assert_eq!(ring.producer().unwrap().next_sequence(), 0);
}

#[test]
fn a_killed_producer_is_noticed_and_succeeded() {
    let name = Name::new("succeed");
    let mut first = peer::start(&name);
    assert_eq!(first.ask("create attach 16"), "ok");
    assert_eq!(first.ask("produce"), "ok");
    let ring = Ring::<u64>::open_read_only(&name).unwrap();
    let mut consumer = ring.consumer().start(Start::Oldest).attach();
    assert_eq!(first.ask("publish 3"), "ok");
    assert_eq!(ring.epoch(), 1);
    first.kill();
    // First what it has left, then its death; as often as one asks.
    for sequence in 0..3 {
        assert_eq!(consumer.recv(), Ok(sequence * FACTOR));
    }
    for _ in 0..2 {
        assert_eq!(consumer.recv(), Err(RecvError::Closed(CloseReason::ProducerDied)));
    }
    assert_eq!(
        consumer.recv_timeout(PATIENCE),
        Err(RecvTimeoutError::Closed(CloseReason::ProducerDied))
    );
    assert_eq!(consumer.try_recv(), Err(TryRecvError::Empty), "this does not ask the kernel");
    // Whoever takes over continues, and so does the consumer.
    let mut second = peer::start(&name);
    assert_eq!(second.ask("create attach 16"), "ok");
    assert_eq!(second.ask("produce"), "ok");
    assert_eq!(second.ask("publish 2"), "ok");
    assert_eq!(consumer.recv(), Ok(3 * FACTOR));
    assert_eq!(consumer.recv(), Ok(4 * FACTOR));
    assert_eq!((ring.epoch(), consumer.cursor(), consumer.lost()), (2, 5, 0));
    assert_eq!(second.ask("close"), "ok");
    assert_eq!(consumer.recv(), Err(RecvError::Closed(CloseReason::Closed)));
    // After a close, too.
    assert_eq!(second.ask("produce"), "ok");
    assert_eq!(consumer.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(second.ask("publish 1"), "ok");
    assert_eq!(consumer.recv(), Ok(5 * FACTOR));
    assert_eq!(ring.epoch(), 3);
    second.finish();
    assert!(!name.path().exists(), "who took over from a dead owner owns the name");
}

/// A death is noticed also by those who never wait long.
#[test]
fn a_killed_producer_is_noticed_with_short_timeouts() {
    let name = Name::new("short-timeouts");
    let mut producer = peer::start(&name);
    assert_eq!(producer.ask("create replace 16"), "ok");
    assert_eq!(producer.ask("produce"), "ok");
    let ring = Ring::<u64>::open_read_only(&name).unwrap();
    let mut consumer = ring.consumer().attach();
    assert_eq!(consumer.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    producer.kill();
    let started = Instant::now();
    while consumer.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "thousands of timeouts, and never the word that the producer is dead"
        );
    }
    assert_eq!(
        consumer.recv_timeout(Duration::from_millis(1)),
        Err(RecvTimeoutError::Closed(CloseReason::ProducerDied))
    );
}

#[test]
fn a_waiting_consumer_learns_of_the_death_while_it_waits() {
    let name = Name::new("death-while-waiting");
    let mut producer = peer::start(&name);
    assert_eq!(producer.ask("create replace 16"), "ok");
    assert_eq!(producer.ask("produce"), "ok");
    let ring = Ring::<u64>::open_read_only(&name).unwrap();
    let mut consumer = ring.consumer().attach();
    let waiting = thread::spawn(move || consumer.recv());
    thread::sleep(Duration::from_millis(30));
    producer.kill();
    assert_eq!(waiting.join().unwrap(), Err(RecvError::Closed(CloseReason::ProducerDied)));
}

#[test]
fn a_receive_with_a_timeout_takes_that_long() {
    let name = Name::new("timeout");
    let ring = Ring::<u64>::builder(&name).slots(4).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let mut consumer = ring.consumer().attach();
    for timeout in [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(60)] {
        let started = Instant::now();
        assert_eq!(consumer.recv_timeout(timeout), Err(RecvTimeoutError::Timeout));
        assert!(started.elapsed() >= timeout);
    }
    producer.publish(&7);
    assert_eq!(consumer.recv_timeout(Duration::ZERO), Ok(7));
    // A timeout without end is none.
    let waiting = thread::spawn(move || consumer.recv_timeout(Duration::MAX));
    producer.publish(&8);
    assert_eq!(waiting.join().unwrap(), Ok(8));
}

#[test]
fn a_consumer_of_a_replaced_ring_is_told() {
    let name = Name::new("superseded");
    let mut owner = peer::start(&name);
    assert_eq!(owner.ask("create replace 16"), "ok");
    assert_eq!(owner.ask("produce"), "ok");
    let mut consumer = peer::start(&name);
    assert_eq!(consumer.ask("open_read_only"), "ok");
    assert_eq!(consumer.ask("consume"), "ok");
    let old = Ring::<u64>::open(&name).unwrap();
    assert_eq!(owner.ask("publish 1"), "ok");
    owner.kill();
    let new = Ring::<u64>::builder(&name).slots(32).create().unwrap();
    let mut producer = new.producer().unwrap();
    producer.publish(&77);
    // The old ring's message first, then the news; and nobody can produce into it any more.
    assert_eq!(consumer.ask("recv"), "Ok(0)");
    assert_eq!(consumer.ask("recv"), "Err(Closed(Superseded))");
    expect_error(old.producer(), "Superseded", &name);
    assert_eq!(consumer.ask("open_read_only"), "ok");
    assert_eq!(consumer.ask("consume"), "ok");
    assert_eq!(consumer.ask("recv"), "Ok(77)");
}

#[test]
fn a_message_in_the_making_dies_with_its_producer() {
    let name = Name::new("half-made");
    let ring = Ring::<[u8]>::builder(&name)
        .slots(2)
        .slot_bytes(600)
        .if_exists(IfExists::Attach)
        .create()
        .unwrap();
    let mut consumer = ring.consumer().attach();
    {
        let mut producer = ring.producer().unwrap();
        producer.publish(b"whole").unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            producer.publish_with(|slot| -> Result<(), ()> {
                slot.write(&[0xee; 300]).unwrap();
                std::panic::resume_unwind(Box::new("in the middle"))
            })
        }));
        assert!(panicked.is_err());
    }
    let mut producer = ring.producer().unwrap();
    assert_eq!(producer.next_sequence(), 1);
    assert_eq!(consumer.recv().unwrap(), b"whole");
    assert_eq!(consumer.try_recv(), Err(TryRecvError::Empty));
    producer.publish(b"next").unwrap();
    assert_eq!(consumer.recv().unwrap(), b"next");
}

#[test]
fn a_thousand_consumers_receive_everything() {
    let name = Name::new("thousand");
    let ring = Ring::<u64>::builder(&name).slots(64).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let own = Ring::<u64>::open_read_only(&name).unwrap();
    let mut consumers: Vec<_> = (0..1000).map(|_| own.consumer().attach()).collect();
    // Some with a mapping of their own.
    let handles: Vec<_> = (0..50).map(|_| Ring::<u64>::open_read_only(&name).unwrap()).collect();
    consumers.extend(handles.iter().map(|ring| ring.consumer().attach()));
    for lap in 0..3 {
        producer.publish_batch(&(0..64).map(|i| lap * 64 + i).collect::<Vec<u64>>());
        for consumer in &mut consumers {
            let mut messages = Vec::new();
            assert_eq!(consumer.recv_batch(&mut messages, 100), Ok(64));
            assert!(messages.iter().copied().eq(lap * 64..(lap + 1) * 64));
        }
    }
    assert!(consumers.iter().all(|consumer| (
        consumer.received(),
        consumer.lost(),
        consumer.lag()
    ) == (192, 0, 0)));
}

#[test]
fn messages_can_be_looked_at_where_they_land() {
    let name = Name::new("each");
    let ring = Ring::<[u8]>::builder(&name).slots(8).slot_bytes(500).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let mut consumer = ring.consumer().attach();
    assert_eq!(consumer.try_recv_each(8, |_| panic!("there is none")), Err(TryRecvError::Empty));
    assert_eq!(consumer.try_recv_batch(&mut Vec::new(), 8), Err(TryRecvError::Empty));
    // Around the end of the lap, and of differing lengths.
    let sent: Vec<Vec<u8>> = (0..14u8).map(|n| vec![n; usize::from(n) * 37]).collect();
    producer.publish_batch(&sent[..6]).unwrap();
    let mut seen = Vec::new();
    assert_eq!(consumer.recv_each(0, |_| panic!("none was wanted")), Ok(0));
    assert_eq!(consumer.recv_each(5, |message| seen.push(message.to_vec())), Ok(5));
    producer.publish_batch(&sent[6..]).unwrap();
    // It is behind: the last eight of 14 messages are there, the slot of the first of these is the
    // producer's next, and a margin of three is given up.
    assert_eq!(consumer.try_recv_each(9, |_| panic!("it is behind")), Err(TryRecvError::Lagged(5)));
    assert_eq!(consumer.try_recv_each(9, |message| seen.push(message.to_vec())), Ok(4));
    assert!(seen.iter().eq(sent[..5].iter().chain(&sent[10..])));
    assert_eq!((consumer.received(), consumer.lost(), consumer.cursor()), (9, 5, 14));
}

#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(transparent)]
struct Bytes<const N: usize>([u8; N]);
// SAFETY: an array of bytes, of which any are valid.
unsafe impl<const N: usize> bytemuck::Zeroable for Bytes<N> {}
// SAFETY: as above; transparent, without padding.
unsafe impl<const N: usize> bytemuck::Pod for Bytes<N> {}

/// Slots that share lines, fill lines, straddle them, and are of several lines are read in
/// different ways.
#[test]
fn messages_of_all_sizes_arrive_over_many_laps_one_by_one_and_in_batches() {
    fn of<const N: usize>() {
        let (fixed_name, variable_name) = (Name::new("sizes-fixed"), Name::new("sizes-variable"));
        let fixed = Ring::<Bytes<N>>::builder(&fixed_name).slots(7).create().unwrap();
        let variable =
            Ring::<[u8]>::builder(&variable_name).slots(7).slot_bytes(N).create().unwrap();
        let (mut fixed_producer, mut variable_producer) =
            (fixed.producer().unwrap(), variable.producer().unwrap());
        let (mut fixed, mut variable) = (fixed.consumer().attach(), variable.consumer().attach());
        for round in 0..40 {
            let sent: Vec<Bytes<N>> = (0..5)
                .map(|n| Bytes(std::array::from_fn(|i| (round * 5 + n + i * 7) as u8)))
                .collect();
            // Of differing lengths.
            let parts = || sent.iter().zip(1..).map(|(message, n)| &message.0[..N - n * round % N]);
            let (mut whole, mut part) = (Vec::new(), Vec::new());
            assert_eq!(
                (fixed.try_recv(), variable.try_recv()),
                (Err(TryRecvError::Empty), Err(TryRecvError::Empty))
            );
            fixed_producer.publish_batch(&sent);
            variable_producer.publish_batch(parts()).unwrap();
            match round % 3 {
                0 => (0..5).for_each(|_| {
                    whole.push(fixed.try_recv().unwrap());
                    part.push(variable.try_recv().unwrap());
                }),
                1 => {
                    assert_eq!(fixed.recv_batch(&mut whole, 9), Ok(5));
                    assert_eq!(variable.recv_batch(&mut part, 9), Ok(5));
                }
                _ => {
                    assert_eq!(fixed.recv_each(9, |message| whole.push(*message)), Ok(5));
                    assert_eq!(variable.recv_each(9, |message| part.push(message.to_vec())), Ok(5));
                }
            }
            assert!(whole == sent && parts().eq(part.iter()), "{N} bytes, round {round}");
        }
        assert_eq!((fixed.received(), variable.received()), (200, 200));
    }
    of::<8>();
    of::<24>();
    of::<48>();
    of::<52>();
    of::<57>();
    of::<64>();
    of::<65>();
    of::<256>();
    of::<257>();
    of::<1024>();
    of::<4032>();
    of::<4033>();
    of::<4096>();
    of::<5000>();
}

#[test]
fn what_makes_its_receiver_panic_was_received() {
    fn of<const N: usize>() {
        let name = Name::new("each-panic");
        let ring = Ring::<Bytes<N>>::builder(&name).slots(8).create().unwrap();
        let mut producer = ring.producer().unwrap();
        let mut consumer = ring.consumer().attach();
        let sent = [0, 1, 2, 3, 4, 5].map(|n| Bytes([n; N]));
        producer.publish_batch(&sent);
        for bad in [2, 3] {
            let calls = catch_unwind(AssertUnwindSafe(|| {
                consumer.recv_each(8, |message| assert_ne!(message.0[N - 1], bad))
            }));
            assert!(calls.is_err());
            assert_eq!(
                (consumer.cursor(), consumer.received()),
                (u64::from(bad) + 1, u64::from(bad) + 1)
            );
        }
        let mut rest = Vec::new();
        assert_eq!(consumer.try_recv_batch(&mut rest, 8), Ok(2));
        assert_eq!(rest, sent[4..]);
    }
    of::<8>();
    of::<64>();
    of::<1024>();
}

/// A child that is being started holds copies of all open files for a moment; that must not keep
/// dead what has ended.
#[test]
fn starting_processes_does_not_keep_a_ring_in_use() {
    let name = Name::new("spawning");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::process::Command::new("true").status().unwrap();
                }
            });
        }
        let result = std::panic::catch_unwind(|| {
            for round in 0..1000 {
                let ring = Ring::<u64>::builder(&name).slots(16).persistent(true).create();
                let ring = ring.unwrap_or_else(|error| panic!("round {round}: {error}"));
                ring.producer().unwrap().publish(&1);
                let producer =
                    ring.producer().unwrap_or_else(|error| panic!("round {round}: {error}"));
                drop(producer);
            }
        });
        done.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn an_owner_leaves_the_name_to_a_live_producer() {
    let name = Name::new("owner");
    let attach =
        || Ring::<u64>::builder(&name).slots(8).if_exists(IfExists::Attach).create().unwrap();
    let owner = attach();
    let other = attach();
    let producer = other.producer().unwrap();
    drop(owner);
    Ring::<u64>::open_read_only(&name).expect("a ring with a live producer keeps its name");
    drop(producer);
    drop(other);
    expect_error(Ring::<u64>::open(&name), "NotFound", &name);
}

#[test]
fn a_batch_cut_short_by_a_panic_is_counted_by_the_close() {
    for slot_bytes in [8, 300] {
        let name = Name::new("cut-short");
        let ring = Ring::<[u8]>::builder(&name).slots(16).slot_bytes(slot_bytes).create().unwrap();
        let mut producer = ring.producer().unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            producer
                .publish_batch((0..5u8).map(|i| if i == 3 { panic!("on purpose") } else { [i] }))
        }));
        assert!(panicked.is_err());
        assert_eq!(ring.head(), 3);
        let mut consumer = ring.consumer().start(Start::Oldest).attach();
        let received: Vec<_> = consumer.iter().collect();
        assert_eq!(received, [Ok(vec![0]), Ok(vec![1]), Ok(vec![2])]);
        assert_eq!(consumer.recv(), Err(RecvError::Closed(CloseReason::Closed)));
    }
}

#[test]
fn a_producer_that_starts_is_not_taken_for_dead() {
    for round in 0..200 {
        let name = Name::new("starts");
        let ring = Ring::<u64>::builder(&name).slots(8).create().unwrap();
        let watcher = Ring::<u64>::open_read_only(&name).unwrap();
        let started = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !started.load(Ordering::Relaxed) {
                    assert!(watcher.is_producer_alive(), "round {round}");
                }
            });
            let producer = ring.producer().unwrap();
            started.store(true, Ordering::Relaxed);
            producer
        });
    }
}
