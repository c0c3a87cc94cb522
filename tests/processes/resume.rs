//! Consumers that go on where the last one of their name left off.

use seqring::{Consumer, IfExists, Producer, RecvError, Registered, Ring, Start, TryRecvError};

use crate::peer::{self, FACTOR};
use crate::support::Name;

/// A ring of `slots` slots and `readers` rows with the first `messages` messages.
fn ring(name: &Name, slots: usize, readers: usize, messages: u64) -> (Ring<u64>, Producer<u64>) {
    let ring = Ring::<u64>::builder(name).slots(slots).max_registered(readers).create().unwrap();
    let mut producer = ring.producer().unwrap();
    (0..messages).for_each(|n| assert_eq!(producer.publish(&(n * FACTOR)), n));
    (ring, producer)
}

fn resume(ring: &Ring<u64>, name: &str) -> Consumer<u64, Registered> {
    ring.consumer().start(Start::Next).name(name).resume().attach().unwrap()
}

#[test]
fn a_successor_of_a_killed_consumer_repeats_a_little_and_misses_nothing() {
    for gating in ["free", "gate"] {
        let name = Name::new(&format!("resume-killed-{gating}"));
        let (ring, mut producer) = ring(&name, 1024, 4, 0);
        let mut doomed = peer::start(&name);
        assert_eq!(doomed.ask("open_read_only"), "ok");
        assert_eq!(doomed.ask(&format!("resume risk {gating}")), "ok");
        (0..500).for_each(|n| assert_eq!(producer.publish(&(n * FACTOR)), n));
        for n in 0..333 {
            assert_eq!(doomed.ask("recv"), format!("Ok({})", n * FACTOR));
        }
        doomed.kill();
        let mut successor = resume(&ring, "risk");
        let first = successor.cursor();
        assert!(
            (333 - 32..333).contains(&first),
            "resumed at {first}: the message received last, and at most 32, are to be repeated"
        );
        producer.close();
        let messages: Vec<u64> =
            successor.iter().map(|item| item.expect("nothing is lost")).collect();
        assert_eq!(messages, (first..500).map(|n| n * FACTOR).collect::<Vec<_>>());
    }
}

#[test]
fn a_checkpoint_is_exact() {
    let name = Name::new("resume-checkpoint");
    let (ring, mut producer) = ring(&name, 64, 4, 0);
    let mut doomed = peer::start(&name);
    assert_eq!(doomed.ask("open_read_only"), "ok");
    assert_eq!(doomed.ask("resume risk free"), "ok");
    producer.publish_batch(&[0, 1, 2, 3, 4]);
    assert_eq!(doomed.ask("recv"), "Ok(0)");
    assert_eq!(doomed.ask("recv"), "Ok(1)");
    assert_eq!(doomed.ask("checkpoint"), "ok");
    assert_eq!(doomed.ask("recv"), "Ok(2)");
    doomed.kill();
    let mut successor = resume(&ring, "risk");
    assert_eq!((successor.cursor(), successor.recv()), (2, Ok(2)));
    // It was not dealt with before the consumer was dropped.
    drop(successor);
    assert_eq!(resume(&ring, "risk").cursor(), 2);
}

#[test]
fn who_waits_for_more_has_dealt_with_all() {
    let name = Name::new("resume-idle");
    let (ring, mut producer) = ring(&name, 64, 4, 0);
    let mut consumer = resume(&ring, "risk");
    producer.publish_batch(&[0, 1, 2]);
    assert_eq!((0..3).map(|_| consumer.recv().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(consumer.try_recv(), Err(TryRecvError::Empty));
    drop(consumer);
    assert_eq!(resume(&ring, "risk").cursor(), 3);
    // A batch counts as a whole.
    let mut consumer = resume(&ring, "risk");
    producer.publish_batch(&[3, 4, 5]);
    assert_eq!(consumer.recv_batch(&mut Vec::new(), 2), Ok(2));
    drop(consumer);
    assert_eq!(resume(&ring, "risk").cursor(), 3);
}

#[test]
fn what_was_overwritten_since_is_counted() {
    let name = Name::new("resume-lapped");
    let (ring, mut producer) = ring(&name, 8, 4, 0);
    let mut consumer = resume(&ring, "risk");
    producer.publish(&0);
    assert_eq!(consumer.recv(), Ok(0));
    consumer.checkpoint().unwrap();
    drop(consumer);
    (1..101).for_each(|n| assert_eq!(producer.publish(&n), n));
    let mut consumer = resume(&ring, "risk");
    let Err(RecvError::Lagged(lost)) = consumer.recv() else {
        panic!("a hundred messages went through 8 slots")
    };
    assert_eq!(consumer.recv(), Ok(1 + lost));
}

#[test]
fn a_name_that_nobody_wanted_to_resume_starts_where_it_is_told() {
    let name = Name::new("resume-nothing");
    let (ring, _producer) = ring(&name, 64, 4, 10);
    drop(ring.consumer().start(Start::Oldest).name("risk").attach().unwrap());
    assert_eq!(resume(&ring, "risk").cursor(), 10, "the first was not to be resumed");
    assert_eq!(resume(&ring, "other").cursor(), 10);
    let living = ring.consumer().start(Start::Sequence(4)).name("twin").resume().attach().unwrap();
    assert_eq!(resume(&ring, "twin").cursor(), 10, "the first lives");
    drop(living);
    assert_eq!(
        ring.consumer().name("twin").attach().unwrap().cursor(),
        10,
        "it does not want to resume"
    );
}

#[test]
fn rows_that_are_kept_are_given_away_last_and_a_file_keeps_longer() {
    let name = Name::new("resume-file");
    let path = std::env::temp_dir().join(format!("{}.checkpoint", &*name));
    let (ring, mut producer) = ring(&name, 64, 2, 10);
    let attach =
        |start| ring.consumer().start(start).name("risk").checkpoint_file(&path).attach().unwrap();
    let mut consumer = attach(Start::Sequence(3));
    assert_eq!(consumer.recv(), Ok(3 * FACTOR));
    consumer.checkpoint().unwrap();
    drop(consumer);
    // Others come and go, one at a time: the row is kept.
    (0..10).for_each(|_| drop(ring.consumer().name("guest").attach().unwrap()));
    assert_eq!(resume(&ring, "risk").cursor(), 4);
    // Two at a time need it.
    let guests = [
        ring.consumer().name("one").attach().unwrap(),
        ring.consumer().name("two").attach().unwrap(),
    ];
    drop(guests);
    assert_eq!(resume(&ring, "risk").cursor(), 10, "nobody knows any more");
    let rows = [
        ring.consumer().name("one").attach().unwrap(),
        ring.consumer().name("two").attach().unwrap(),
    ];
    drop(rows);
    assert_eq!(attach(Start::Next).cursor(), 4, "but the file does");

    // The file is of that segment alone.
    producer.publish(&0);
    drop((producer, ring));
    let again = Ring::<u64>::builder(&name).slots(64).if_exists(IfExists::Error).create().unwrap();
    let consumer =
        again.consumer().start(Start::Next).name("risk").checkpoint_file(&path).attach().unwrap();
    assert_eq!(consumer.cursor(), 0);
    drop(consumer);
    std::fs::write(&path, "not a checkpoint").unwrap();
    let error =
        again.consumer().name("other").checkpoint_file(&path).attach().unwrap_err().to_string();
    assert!(error.contains("checkpoint file") && error.contains("remove it"), "{error}");
    std::fs::remove_file(&path).unwrap();
}
