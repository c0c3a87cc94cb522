//! Several producers of one ring, in several processes.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use seqring::{
    CloseReason, Consumer, IfExists, RecvTimeoutError, Registration, Ring, Start, TryRecvError,
};

use crate::support::role::{Child, PATIENCE, hear, say};
use crate::support::{Name, expect_error};

/// What a message says: who published it, and its number among that one's.
type Message = [u64; 4];

fn message(author: u64, number: u64) -> Message {
    [author, number, author.wrapping_mul(31).wrapping_add(number), !number]
}

/// A producer that publishes as many as it is told to, a line each, and says when it is done.
pub fn author(argument: &str) {
    let (id, name) = argument.split_once(' ').expect("an id and a name");
    let id: u64 = id.parse().expect("a number");
    let ring = Ring::<Message>::open(name).expect("the ring");
    let mut producer = ring.shared_producer().expect("a row");
    say("ready");
    let mut number = 0;
    while let Some(line) = hear() {
        match line.as_str() {
            "close" => {
                producer.close();
                return say("closed");
            }
            count => {
                for _ in 0..count.parse::<u64>().expect("a number") {
                    producer.publish(&message(id, number));
                    number += 1;
                }
                say("done");
            }
        }
    }
}

fn start(name: &Name, id: u64) -> Child {
    let mut child = Child::start("author", &format!("{id} {}", &**name));
    assert_eq!(child.line(), "ready");
    child
}

/// What a consumer has seen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Author and number, in the order of reception, with the sequence.
    messages: Vec<(u64, u64, u64)>,
    lost: u64,
    tombstones: u64,
    end: Option<CloseReason>,
}

/// Receives until the ring ends, or nothing comes for so long; checks what each consumer can check
/// by itself.
fn receive<R: Registration>(mut consumer: Consumer<Message, R>, silence: Duration) -> Seen {
    let start = consumer.cursor();
    let mut seen = Seen::default();
    let mut numbers: HashMap<u64, u64> = HashMap::new();
    loop {
        match consumer.recv_timeout(silence) {
            Ok(found) => {
                let [author, number, ..] = found;
                assert_eq!(found, message(author, number), "damaged");
                if let Some(last) = numbers.insert(author, number) {
                    assert!(
                        number > last,
                        "message {number} of producer {author} came behind its {last}"
                    );
                }
                seen.messages.push((author, number, consumer.cursor() - 1));
            }
            Err(RecvTimeoutError::Lagged(lost)) => seen.lost += lost,
            Err(RecvTimeoutError::Closed(reason)) => {
                seen.end = Some(reason);
                break;
            }
            Err(RecvTimeoutError::Timeout) => break,
            Err(error) => panic!("{error}"),
        }
    }
    seen.tombstones = consumer.tombstones();
    assert_eq!(
        start + consumer.received() + consumer.lost() + consumer.tombstones(),
        consumer.cursor()
    );
    assert_eq!(consumer.lost(), seen.lost);
    seen
}

#[test]
fn all_consumers_see_one_order_and_nothing_is_lost_by_those_that_gate() {
    const MESSAGES: u64 = 3000;
    for producers in [2, 4] {
        let name = Name::new(&format!("crew-order-{producers}"));
        let ring =
            Ring::<Message>::builder(&name).slots(64).max_producers(producers).create().unwrap();
        let mut authors: Vec<Child> = (0..producers as u64).map(|id| start(&name, id)).collect();
        let gate =
            |who: &str| ring.consumer().start(Start::Oldest).name(who).gating().attach().unwrap();
        let (one, other) = (gate("one"), gate("other"));
        let free = Ring::<Message>::open_read_only(&name)
            .unwrap()
            .consumer()
            .start(Start::Oldest)
            .attach();
        let (one, other, free) = std::thread::scope(|scope| {
            let threads =
                [scope.spawn(|| receive(one, PATIENCE)), scope.spawn(|| receive(other, PATIENCE))];
            let free = scope.spawn(|| receive(free, PATIENCE));
            authors.iter_mut().for_each(|author| author.tell(&MESSAGES.to_string()));
            authors.iter_mut().for_each(|author| assert_eq!(author.line(), "done"));
            for author in &mut authors {
                assert!(ring.is_producer_alive());
                assert_eq!(author.ask("close"), "closed");
            }
            let [one, other] = threads.map(|thread| thread.join().unwrap());
            (one, other, free.join().unwrap())
        });
        assert_eq!(one.messages.len() as u64, MESSAGES * producers as u64);
        assert_eq!(
            (one.lost, one.tombstones, one.end),
            (0, 0, Some(CloseReason::Closed)),
            "the last close closes"
        );
        assert_eq!(one, other, "two consumers see two orders");
        let mut all = one.messages.iter();
        assert!(
            free.messages.iter().all(|message| all.any(|other| other == message)),
            "a free consumer sees another order"
        );
        assert_eq!(ring.epoch(), producers as u64);
    }
}

#[test]
fn producers_that_are_killed_leave_tombstones_and_nobody_waits_for_them() {
    let name = Name::new("crew-killed");
    let ring = Ring::<Message>::builder(&name).slots(32).max_producers(3).create().unwrap();
    let steady = ring.consumer().start(Start::Oldest).name("steady").gating().attach().unwrap();
    let other = ring.consumer().start(Start::Oldest).name("other").gating().attach().unwrap();
    let mut survivor = start(&name, 0);
    let (steady, other) = std::thread::scope(|scope| {
        let threads =
            [scope.spawn(|| receive(steady, PATIENCE)), scope.spawn(|| receive(other, PATIENCE))];
        for generation in 0..20 {
            let mut doomed = [start(&name, 1 + 2 * generation), start(&name, 2 + 2 * generation)];
            doomed.iter_mut().for_each(|author| author.tell("1000000"));
            survivor.tell("200");
            std::thread::sleep(Duration::from_micros(500 + 137 * generation));
            doomed.iter_mut().for_each(Child::kill);
            assert_eq!(survivor.line(), "done", "the survivor waits for the dead");
        }
        assert_eq!(survivor.ask("close"), "closed");
        threads.map(|thread| thread.join().unwrap()).into()
    });
    assert_eq!((steady.lost, steady.end), (0, Some(CloseReason::Closed)));
    assert_eq!(steady, other, "two consumers see two orders");
    assert_eq!(steady.messages.iter().filter(|(author, ..)| *author == 0).count(), 20 * 200);
    println!(
        "{} messages, {} tombstones of 40 killed producers",
        steady.messages.len(),
        steady.tombstones
    );
    assert!(steady.tombstones <= 40, "each killed producer leaves at most one claim");
}

#[test]
fn all_die_and_the_ring_goes_on() {
    let name = Name::new("crew-all-die");
    let ring = Ring::<Message>::builder(&name).slots(256).max_producers(2).create().unwrap();
    let mut consumer = ring.consumer().name("heir").attach().unwrap();
    for generation in 0..10 {
        let mut doomed = [start(&name, 2 * generation), start(&name, 2 * generation + 1)];
        doomed.iter_mut().for_each(|author| author.tell("1000000"));
        std::thread::sleep(Duration::from_millis(2));
        doomed.iter_mut().for_each(Child::kill);
        // What is left is drained, orphans are gone over without anybody to mark them, and then the
        // death is seen.
        let began = Instant::now();
        loop {
            match consumer.recv_timeout(PATIENCE) {
                Ok(_) | Err(RecvTimeoutError::Lagged(_)) => {}
                Err(RecvTimeoutError::Closed(CloseReason::ProducerDied)) => break,
                Err(error) => panic!("{error} after {:?}", began.elapsed()),
            }
        }
        assert_eq!(consumer.cursor(), ring.head(), "the end came before the last claim");
    }
    let mut successor = ring.shared_producer().unwrap();
    successor.publish(&message(99, 0));
    assert_eq!(consumer.recv(), Ok(message(99, 0)));
    assert!(consumer.tombstones() <= 20);
}

#[test]
fn a_claim_is_found_to_be_dead_while_the_others_are_idle() {
    let name = Name::new("crew-idle");
    let ring =
        Ring::<[u8]>::builder(&name).slots(16).slot_bytes(64).max_producers(3).create().unwrap();
    let (mut first, mut second) =
        (ring.shared_producer().unwrap(), ring.shared_producer().unwrap());
    let mut consumer =
        Ring::<[u8]>::open_read_only(&name).unwrap().consumer().start(Start::Oldest).attach();
    // A child claims a sequence and is killed in the middle of its message; the others publish
    // behind it, once, and are silent.
    let mut child = Child::start("half", &name);
    assert_eq!(child.line(), "half");
    assert_eq!(first.publish(b"behind"), Ok(1));
    child.kill();
    // Who has no time left finds it all the same: the message was there before.
    let mut hurried = ring.consumer().start(Start::Oldest).attach();
    assert_eq!(hurried.recv_timeout(Duration::ZERO).as_deref(), Ok(&b"behind"[..]));
    assert_eq!(
        (hurried.tombstones(), hurried.recv_timeout(Duration::ZERO)),
        (1, Err(RecvTimeoutError::Timeout))
    );
    assert_eq!(consumer.recv_timeout(PATIENCE).as_deref(), Ok(&b"behind"[..]));
    assert_eq!((consumer.tombstones(), consumer.lost()), (1, 0));
    // One that fails is no different, but for that nobody has to die.
    assert_eq!(second.publish_with(|_| Err("no")), Err("no"));
    assert_eq!(second.publish(b"again"), Ok(3));
    assert_eq!(consumer.try_recv().as_deref(), Ok(&b"again"[..]));
    assert_eq!(consumer.tombstones(), 2);
    // The newest message is found behind and ahead of those that never will be.
    let mut late = ring.consumer().start(Start::Sequence(0)).attach();
    assert_eq!(second.publish_with(|_| Err("no")), Err("no"));
    assert_eq!(late.try_latest().as_deref(), Ok(&b"again"[..]));
}

/// Claims a sequence, writes half of its message, and waits to be killed.
pub fn half(name: &str) {
    let ring = Ring::<[u8]>::open(name).expect("the ring");
    let mut producer = ring.shared_producer().expect("a row");
    let _ = producer.publish_with(|message| {
        message.write(b"half")?;
        say("half");
        hear();
        message.write(b"and half")
    });
}

#[test]
fn rows_are_given_back_and_kinds_are_kept_apart() {
    let name = Name::new("crew-rows");
    let ring = Ring::<u64>::builder(&name).max_producers(2).create().unwrap();
    let text = expect_error(ring.producer().map(drop), "ProducerKind", &name);
    assert!(text.contains("shared_producer"), "{text}");
    let (first, second) = (ring.shared_producer().unwrap(), ring.shared_producer().unwrap());
    let text = expect_error(ring.shared_producer().map(drop), "TooManyProducers", &name);
    assert!(text.contains('2'), "{text}");
    expect_error(Ring::<u64>::builder(&name).max_producers(2).create().map(drop), "InUse", &name);
    expect_error(Ring::<u64>::unlink(&name).map(drop), "InUse", &name);
    drop(first);
    let mut third = ring.shared_producer().unwrap();
    let mut consumer = ring.consumer().attach();
    third.publish(&3);
    drop((second, third));
    assert_eq!(consumer.recv(), Ok(3));
    assert!(matches!(consumer.recv(), Err(seqring::RecvError::Closed(CloseReason::Closed))));
    expect_error(
        Ring::<u64>::builder(&name).max_producers(3).if_exists(IfExists::Attach).create().map(drop),
        "GeometryMismatch",
        &name,
    );
    let single = Name::new("crew-single");
    let ring = Ring::<u64>::builder(&single).create().unwrap();
    let text = expect_error(ring.shared_producer().map(drop), "ProducerKind", &single);
    assert!(text.contains("Ring::producer"), "{text}");
    for producers in [0, 257] {
        expect_error(
            Ring::<u64>::builder(&single).max_producers(producers).create().map(drop),
            "InvalidArgument",
            &single,
        );
    }
}

/// Overwrites a word of a ring's memory, as a fault would.
fn put<M: seqring::Message + ?Sized>(ring: &Ring<M>, offset: u64, value: u64) {
    let file = std::fs::File::options().write(true).open(ring.path()).unwrap();
    file.write_all_at(&value.to_ne_bytes(), offset).unwrap();
}

/// Where the head is, in bytes.
const HEAD: u64 = 384;

/// What `call` returns; a panic counts as an end. Fails if it hangs.
#[track_caller]
fn expect_end<T: Send + 'static>(
    what: &str,
    call: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        sender.send(std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).ok())
    });
    end.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what} hangs"))
}

#[test]
fn corrupt_memory_keeps_nobody() {
    let ring = |purpose: &str| {
        let name = Name::new(&format!("crew-corrupt-{purpose}"));
        let ring = Ring::<u64>::builder(&name).slots(8).max_producers(2).create().unwrap();
        (name, ring)
    };
    let (_name, headless) = ring("head");
    let mut producer = headless.shared_producer().unwrap();
    (0..8).for_each(|n| assert_eq!(producer.publish(&n), n));
    put(&headless, HEAD, u64::MAX);
    assert_eq!(
        expect_end("publish with a corrupt head", move || producer.publish(&8)),
        None,
        "there is no such sequence"
    );

    let (_name, ahead) = ring("ahead");
    let _producer = ahead.shared_producer().unwrap();
    let mut consumer = ahead.consumer().attach();
    put(&ahead, HEAD, 1 << 61);
    let received = expect_end("recv_timeout with a corrupt head", move || {
        consumer.recv_timeout(Duration::from_millis(30))
    });
    assert_eq!(received, Some(Err(RecvTimeoutError::Timeout)));

    let (_name, stamped) = ring("stamp");
    let mut producer = stamped.shared_producer().unwrap();
    (0..16).for_each(|n| assert_eq!(producer.publish(&n), n));
    // The stamp of slot 0; a slot has 16 bytes here. No stamp is a multiple of four.
    put(&stamped, stamped.segment_bytes() - 8 * 16, 20);
    assert_eq!(expect_end("publish with a corrupt stamp", move || producer.publish(&16)), Some(16));
}

/// A claim that is left behind by a producer that died, here by hand, is found by whoever goes on,
/// before anybody is harmed.
#[test]
fn an_orphan_does_not_harm_who_polls() {
    for gating in [true, false] {
        let name = Name::new(&format!("crew-polling-{gating}"));
        let ring = Ring::<u64>::builder(&name).slots(8).max_producers(3).create().unwrap();
        let mut consumer = ring.consumer().name("polls");
        if gating {
            consumer = consumer.gating();
        }
        let mut consumer = consumer.attach().unwrap();
        let (mut leaving, mut staying) =
            (ring.shared_producer().unwrap(), ring.shared_producer().unwrap());
        put(&ring, HEAD, 1);
        assert_eq!(leaving.publish(&1), 1);
        drop(leaving);
        let (mut sent, mut received) = (1, 0);
        for _ in 0..100_000 {
            sent += u64::from(staying.try_publish(&sent).is_ok());
            match consumer.try_recv() {
                Ok(_) => received += 1,
                Err(TryRecvError::Empty) => {}
                Err(error) => panic!("polled behind every message, and yet: {error}"),
            }
            if received == 50 {
                break;
            }
        }
        assert_eq!(
            (received, consumer.lost(), consumer.tombstones()),
            (50, 0, 1),
            "{sent} were sent"
        );
    }
}

#[test]
fn the_latest_is_found_behind_any_number_of_tombstones() {
    let name = Name::new("crew-latest");
    let ring =
        Ring::<[u8]>::builder(&name).slots(64).slot_bytes(8).max_producers(2).create().unwrap();
    let mut producer = ring.shared_producer().unwrap();
    let mut consumer = ring.consumer().attach();
    (0..10).for_each(|n: u8| assert_eq!(producer.publish(&[n]), Ok(n.into())));
    (0..5).for_each(|_| assert_eq!(producer.publish_with(|_| Err(())), Err(())));
    assert_eq!(consumer.try_latest(), Ok(vec![9]));
    assert_eq!((consumer.received(), consumer.skipped()), (1, 9));
}
