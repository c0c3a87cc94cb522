//! Real processes, killed at every step of every protocol (see `docs/failpoints.md`), and how the
//! survivors are.
//!
//! The victim is this binary in another process, with the step in its environment; it does all that
//! its role can do. The survivors live here, with open files and mappings of their own. A victim
//! that never comes to its step ends well, and fails the test.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use seqring::failpoint::Step;
use seqring::{
    CloseReason, Consumer, IfExists, Producer, RecvError, RecvTimeoutError, Registration, Ring,
    Start, TryRecvError,
};

use support::Name;
use support::role::{Child, PATIENCE, current, hear, say};
use support::wake::{self, WakeWord};

const SLOTS: usize = 4;

/// Bytes of a message: several words, so that it could be torn.
const BYTES: usize = 48;

/// Messages that a victim publishes, if it lives: some laps.
const MESSAGES: u64 = 20;

/// Which processes come to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Creator,
    Producer,
    Consumer,
    /// A producer that wakes consumers.
    Waker,
    /// A gating consumer that wakes the producer.
    RoomMaker,
    /// One of several producers.
    Member,
    /// A consumer that is to go on where another was.
    Resumer,
    /// A producer that evicts, and nothing else.
    Evictor,
}

fn roles(step: Step) -> &'static [Role] {
    let name = step.name();
    match name.split('.').next().unwrap_or_default() {
        "create" | "replace" | "remove" => &[Role::Creator],
        "resume" | "publish" | "look" | "wait" | "sync" | "order" | "close" => &[Role::Producer],
        "join" | "tell" | "leave" => &[Role::Consumer],
        "crew" | "claim" => &[Role::Member],
        "vacate" | "sleep" => &[Role::Producer, Role::Consumer],
        "wake" => &[Role::Waker, Role::RoomMaker],
        other => panic!(
            "who takes the steps {other}.*, such as {name}? Add the role, and what it does, here"
        ),
    }
}

#[test]
fn role() {
    if let Some((role, name)) = current() {
        match role.as_str() {
            "Creator" => create(&name),
            "Producer" => produce(&name),
            "Consumer" => consume(&name),
            "Waker" => wake(&name),
            "RoomMaker" => make_room(&name),
            "Member" => publish_among_others(&name),
            "Resumer" => resume(&name),
            "Evictor" => evict(&name),
            "stale" => leave_stale(&name),
            "doomed" => doomed(&name),
            other => panic!("there is no role {other:?}"),
        }
    }
}

#[test]
fn killed_at_every_step() {
    // Several at a time: most of the time they wait for each other.
    let next = std::sync::atomic::AtomicUsize::new(0);
    let cases: Vec<(Step, Role, u32)> = Step::ALL
        .iter()
        .flat_map(|&step| roles(step).iter().map(move |&role| (step, role)))
        .flat_map(|(step, role)| times(step, role).iter().map(move |&times| (step, role, times)))
        .collect();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(&(step, role, times)) =
                    cases.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let case = format!("{}:{times}", step.name());
                    println!("{case} of the {role:?}");
                    let outcome = std::panic::catch_unwind(|| match role {
                        Role::Creator => kill_a_creator(&case),
                        Role::Producer => kill_a_producer(&case),
                        Role::Consumer => kill_a_consumer(&case),
                        Role::Waker => kill_a_waker(&case, times),
                        Role::RoomMaker => kill_a_room_maker(&case),
                        Role::Member => kill_a_member(&case, step),
                        Role::Resumer | Role::Evictor => {
                            unreachable!("they have tests of their own")
                        }
                    });
                    assert!(
                        outcome.is_ok(),
                        "the survivors of a {role:?} killed at {case} are not well; see above"
                    );
                }
            });
        }
    });
}

/// At which times that a victim takes a step it is killed: the first, and a later one where there
/// is a difference.
fn times(step: Step, role: Role) -> &'static [u32] {
    match step {
        // Each time for another reason.
        Step::WakeBell if role == Role::Waker => &[1, 2, 3, 4, 5],
        Step::WakeBell => &[1, 2],
        // Also beyond the first lap, where consumers are waited for and slots hold older messages.
        Step::PublishMark
        | Step::PublishPiece
        | Step::PublishPayload
        | Step::PublishReady
        | Step::PublishCount => &[1, 3, 8, 13],
        Step::TellCursor | Step::TellReceived | Step::TellCheckpoint => &[1, 2, 7],
        Step::ClaimAnnounce | Step::ClaimHead | Step::ClaimDone => &[1, 3, 8],
        Step::CreateField => &[1, 2, 9, 18],
        Step::JoinField => &[1, 7, 8],
        _ => &[1],
    }
}

#[test]
fn a_step_that_does_not_exist_ends_the_process() {
    let name = Name::new("failpoint-typo");
    let mut command = Child::command();
    command
        .env("SEQRING_FAILPOINT", "publish.nark")
        .env("SEQRING_TEST_ROLE", "Creator")
        .env("SEQRING_TEST_ARGUMENT", &*name);
    let output = command.output().unwrap();
    assert_eq!(output.status.signal(), Some(Signal::SIGABRT as i32));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("no step \"publish.nark\"") && text.contains("publish.mark"), "{text}");
}

/// Starts a victim that is to die at `case`.
fn start(role: Role, case: &str, name: &str) -> Child {
    let mut command = Child::command();
    command.env("SEQRING_FAILPOINT", case);
    Child::spawn(&format!("{role:?}"), name, command)
}

/// Waits for the victim's death, by its own hand.
#[track_caller]
fn expect_death(victim: &mut Child, case: &str) {
    let started = Instant::now();
    let status = loop {
        if let Some(status) = victim.ended() {
            break status;
        }
        assert!(started.elapsed() < PATIENCE, "the process that was to die at {case} hangs");
        thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(
        status.signal(),
        Some(Signal::SIGKILL as i32),
        "the process never came to {case}, and ended with {status}"
    );
}

/// What message `sequence` says: every word depends on it, and no two mixed look like a third.
fn message(sequence: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for (index, chunk) in bytes.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(
            &(sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ index as u64).to_le_bytes(),
        );
    }
    bytes
}

fn ring(name: &str) -> Ring<[u8]> {
    let builder = Ring::<[u8]>::builder(name)
        .slots(SLOTS)
        .slot_bytes(BYTES)
        .max_registered(3)
        .if_exists(IfExists::Attach);
    builder.create().unwrap_or_else(|error| panic!("{error}"))
}

fn publish(producer: &mut Producer<[u8]>) {
    let message = message(producer.next_sequence());
    if producer.next_sequence() % 2 == 0 {
        producer.publish(&message).expect("it fits");
    } else {
        let (first, second) = message.split_at(13);
        let pieces =
            producer.publish_with(|slot| slot.write(first).and_then(|()| slot.write(second)));
        pieces.expect("it fits");
    }
}

/// Receives until `end`, which is known once the last producer has closed the ring; dead producers
/// are waited through.
fn receive_all<R: Registration>(
    mut consumer: Consumer<[u8], R>,
    is_gating: bool,
    done: &AtomicBool,
) -> u64 {
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < PATIENCE, "a consumer hangs at {}", consumer.cursor());
        let sequence = consumer.cursor();
        match consumer.recv_timeout(Duration::from_millis(200)) {
            Ok(received) => {
                assert_eq!(received, message(sequence), "message {sequence} is torn, or another")
            }
            Err(RecvTimeoutError::Lagged(lost)) => {
                assert!(!is_gating && lost > 0, "a gating consumer lost {lost} messages")
            }
            Err(RecvTimeoutError::Closed(_) | RecvTimeoutError::Timeout)
                if done.load(Ordering::Acquire) =>
            {
                return consumer.cursor();
            }
            Err(RecvTimeoutError::Closed(CloseReason::Closed | CloseReason::ProducerDied)) => {
                thread::sleep(Duration::from_millis(1))
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(error) => panic!("at message {sequence}: {error}"),
        }
    }
}

/// How many messages of a ring without a producer can be received.
fn ready(ring: &Ring<[u8]>) -> u64 {
    let mut consumer = ring.consumer().start(Start::Oldest).attach();
    loop {
        match consumer.try_recv() {
            Ok(_) | Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed(_)) => return consumer.cursor(),
        }
    }
}

/// Lets the consumers end when a test fails, too.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The rows of the table can all be taken by the living, whatever the dead have left in them, and
/// are free behind them.
fn expect_free_rows(ring: &Ring<[u8]>, taken: usize) {
    let rows: Vec<_> = (taken..3)
        .map(|_| ring.consumer().name("next").attach().unwrap_or_else(|error| panic!("{error}")))
        .collect();
    drop(rows);
    assert_eq!(ring.consumers().len(), taken, "rows are left behind: {:?}", ring.consumers());
}

// --- Several producers ---

/// Who publishes and what: the author, its number, and both again.
fn signed(author: u64, number: u64) -> [u64; 4] {
    [author, number, !author, !number]
}

/// Does all that one of several producers can do.
fn publish_among_others(name: &str) {
    let ring = Ring::<[u64; 4]>::open(name).expect("the ring");
    let mut producer = ring.shared_producer().expect("there is a row");
    (0..MESSAGES).for_each(|number| assert!(producer.publish(&signed(1, number)) < u64::MAX));
    producer.close();
}

/// The others go on, and all consumers see the same; what the dead one has claimed and not
/// published is gone over.
fn kill_a_member(case: &str, step: Step) {
    let name = Name::new(&format!("failpoint-{}", case.replace(['.', ':'], "-")));
    let ring = Ring::<[u64; 4]>::builder(&name)
        .slots(SLOTS)
        .max_producers(3)
        .if_exists(IfExists::Error)
        .create()
        .expect("a new ring");
    let mut survivor = ring.shared_producer().expect("there is a row");
    if step == Step::ClaimBury {
        // Somebody has to lie there.
        expect_death(&mut start(Role::Member, "claim.head", &name), "claim.head");
    }
    let attach = |who: &str| {
        ring.consumer().start(Start::Oldest).name(who).gating().attach().expect("there is a row")
    };
    let receive = |mut consumer: Consumer<[u64; 4], seqring::Registered>| {
        let mut seen = Vec::new();
        loop {
            match consumer.recv_timeout(PATIENCE) {
                Ok(message) => {
                    assert_eq!(message, signed(message[0], message[1]), "torn");
                    seen.push((consumer.cursor() - 1, message[0], message[1]));
                }
                Err(RecvTimeoutError::Closed(CloseReason::Closed)) => {
                    return (seen, consumer.tombstones());
                }
                Err(error) => panic!("a survivor of {case}: {error}"),
            }
        }
    };
    let (one, other) = (attach("one"), attach("other"));
    let (one, other) = thread::scope(|scope| {
        let consumers = [scope.spawn(|| receive(one)), scope.spawn(|| receive(other))];
        let mut victim = start(Role::Member, case, &name);
        if step == Step::ClaimBury {
            // Or the survivor would be first.
            expect_death(&mut victim, case);
        }
        (0..MESSAGES).for_each(|number| assert!(survivor.publish(&signed(2, number)) < u64::MAX));
        expect_death(&mut victim, case);
        (MESSAGES..2 * MESSAGES)
            .for_each(|number| assert!(survivor.publish(&signed(2, number)) < u64::MAX));
        // Its row is free.
        drop(ring.shared_producer().expect("the row of the dead"));
        drop(ring.shared_producer().expect("the row of the dead"));
        survivor.close();
        let [one, other] = consumers.map(|consumer| consumer.join().expect("a consumer"));
        (one, other)
    });
    assert_eq!(one, other, "two consumers see two orders");
    let (messages, tombstones) = one;
    let of = |author: u64| -> Vec<u64> {
        messages.iter().filter(|message| message.1 == author).map(|message| message.2).collect()
    };
    assert_eq!(
        of(2),
        (0..2 * MESSAGES).collect::<Vec<_>>(),
        "of the survivor's messages some are missing"
    );
    assert_eq!(
        of(1),
        (0..of(1).len() as u64).collect::<Vec<_>>(),
        "of the dead one's messages some in between are missing"
    );
    assert_eq!(messages.len() as u64 + tombstones, ring.head());
    let expected = u64::from(matches!(step, Step::ClaimHead | Step::ClaimBury));
    assert_eq!(tombstones, expected, "killed at {case}");
}

// --- Windows that the steps alone do not show ---

/// Joins to be resumed.
fn resume(name: &str) {
    let ring = ring(name);
    drop(ring.consumer().name("risk").resume().attach());
}

#[test]
fn a_checkpoint_outlives_a_joiner_that_dies() {
    for case in ["join.field:1", "join.field:5", "join.provisional", "join.state", "join.cursor"] {
        let name = Name::new("failpoint-checkpoint");
        let ring = ring(&name);
        let mut producer = ring.producer().unwrap();
        let mut consumer =
            ring.consumer().start(Start::Next).name("risk").resume().attach().unwrap();
        publish(&mut producer);
        consumer.recv().unwrap();
        consumer.checkpoint().unwrap();
        drop(consumer);
        publish(&mut producer);
        publish(&mut producer);
        expect_death(&mut start(Role::Resumer, case, &name), case);
        assert_eq!(
            ring.consumer().name("risk").resume().attach().unwrap().cursor(),
            1,
            "behind a death at {case}"
        );
    }
}

/// Evicts a consumer.
fn evict(name: &str) {
    let ring = ring(name);
    let mut producer = ring.producer().expect("the ring has none");
    assert!(producer.evict(0));
}

#[test]
fn who_is_evicted_learns_it_though_its_producer_dies_over_it() {
    for case in ["vacate.row", "order.row"] {
        let name = Name::new("failpoint-evicted");
        let ring = ring(&name);
        let mut consumer = ring.consumer().name("evicted").gating().attach().unwrap();
        expect_death(&mut start(Role::Evictor, case, &name), case);
        assert_eq!(
            consumer.try_recv(),
            Err(TryRecvError::Closed(CloseReason::Evicted)),
            "behind a death at {case}"
        );
        assert_eq!(
            consumer.recv(),
            Err(RecvError::Closed(CloseReason::Evicted)),
            "behind a death at {case}"
        );
    }
}

// --- Producers ---

/// Does all that a producer can do, once.
fn produce(name: &str) {
    let ring = ring(name);
    let mut producer = ring.producer().expect("the ring has none");
    say("produces");
    // A row that its owner left by dying, the last of the roster.
    hear();
    for _ in 0..SLOTS {
        publish(&mut producer);
    }
    // Full: nobody reads yet. The dead one is evicted and the living one waited for, in vain.
    let next = message(producer.next_sequence());
    producer.publish_timeout(&next, Duration::from_millis(100)).expect_err("nobody reads yet");
    say("full");
    while producer.next_sequence() < MESSAGES {
        publish(&mut producer);
    }
    let idle =
        ring.consumers().into_iter().find(|reader| reader.name == "idle").expect("it is there");
    assert!(producer.skip_to_newest(idle.row));
    producer.close();
    // The ring was created elsewhere: nothing but the close is left to do.
}

/// Registers, in the row behind the last, and waits for its death.
fn doomed(name: &str) {
    let ring = Ring::<[u8]>::open_read_only(name).expect("the ring");
    let _consumer = ring.consumer().name("doomed").gating().attach().expect("a row");
    say("ready");
    hear();
}

fn kill_a_producer(case: &str) {
    let name = Name::new("failpoint-producer");
    let owner = ring(&name);
    let watching = Ring::<[u8]>::open_read_only(&name).unwrap();
    // Joined in this order: rows 0 to 2.
    let gating =
        watching.consumer().start(Start::Sequence(0)).name("gates").gating().attach().unwrap();
    let idle = watching.consumer().name("idle").attach().unwrap();
    let free = watching.consumer().start(Start::Sequence(0)).attach();
    let mut doomed = Child::start("doomed", &name);
    doomed.line();
    doomed.kill();

    let mut victim = start(Role::Producer, case, &name);
    // It dies before, between or behind these; if it lives, it needs the consumers to go on.
    let says = |victim: &mut Child, expected: &str| match victim.said() {
        Some(said) => assert_eq!(said, expected),
        None => expect_death(victim, case),
    };
    says(&mut victim, "produces");
    victim.try_tell("go");
    says(&mut victim, "full");

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let done = &done;
        let ended = Done(done);
        let receiving = [
            scope.spawn(move || receive_all(gating, true, done)),
            scope.spawn(move || receive_all(free, false, done)),
        ];
        expect_death(&mut victim, case);
        let ready = ready(&watching);
        // A successor, at once.
        let mut producer =
            owner.producer().unwrap_or_else(|error| panic!("no successor at {case}: {error}"));
        assert_eq!(producer.next_sequence(), ready, "messages that were ready are not kept");
        let last = producer.next_sequence() + 3 * SLOTS as u64;
        while producer.next_sequence() < last {
            publish(&mut producer);
        }
        drop(producer);
        drop(ended);
        for receiving in receiving {
            assert_eq!(receiving.join().expect("see above"), last, "not all messages have come");
        }
    });
    // `gating` has left with its thread.
    expect_free_rows(&owner, 1);
    drop(idle);
    assert_eq!(owner.consumers(), []);
    drop((owner, watching));
    assert!(!name.path().exists(), "the name is left behind");
}

// --- Consumers ---

/// Joins, receives, sleeps when there is nothing to receive, and leaves.
fn consume(name: &str) {
    let ring = Ring::<[u8]>::open_read_only(name).expect("the ring");
    let mut consumer = ring
        .consumer()
        .start(Start::Sequence(0))
        .name("victim")
        .gating()
        .resume()
        .attach()
        .expect("a row");
    say("joined");
    while consumer.cursor() < MESSAGES {
        let sequence = consumer.cursor();
        if sequence + 1 == 2 * SLOTS as u64 {
            // Behind when it has come round: only then does it have a lag to tell.
            wake::wait_until("nobody publishes", || ring.head() > sequence + 1);
        }
        match consumer.recv() {
            Ok(received) => assert_eq!(received, message(sequence)),
            Err(RecvError::Lagged(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    drop(consumer);
}

fn kill_a_consumer(case: &str) {
    let name = Name::new("failpoint-consumer");
    let owner = ring(&name);
    let mut producer = owner.producer().unwrap();
    let watching = Ring::<[u8]>::open_read_only(&name).unwrap();
    let gating =
        watching.consumer().start(Start::Sequence(0)).name("gates").gating().attach().unwrap();
    for _ in 0..SLOTS {
        publish(&mut producer);
    }
    let mut victim = start(Role::Consumer, case, &name);
    if victim.said().is_none() {
        expect_death(&mut victim, case);
    }
    // It receives what there is, and sleeps.
    wake::wait_until(case, || {
        wake::has_waiters(name.path(), WakeWord::Consumers) || victim.ended().is_some()
    });
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let ended = Done(&done);
        let receiving = scope.spawn(|| receive_all(gating, true, &done));
        // Waits for the victim while that lives, and no longer.
        let last = 4 * MESSAGES;
        while producer.next_sequence() < last {
            let next = message(producer.next_sequence());
            producer
                .publish_timeout(&next, PATIENCE)
                .unwrap_or_else(|error| panic!("at {case}: {error}"));
        }
        expect_death(&mut victim, case);
        expect_free_rows(&owner, 1);
        drop(producer);
        drop(ended);
        assert_eq!(receiving.join().expect("see above"), last);
    });
    assert_eq!(owner.consumers(), []);
}

// --- Those who wake others ---

/// Wakes the consumers once for each reason that there is; each time, at least one of them sleeps.
fn wake(name: &str) {
    let ring = ring(name);
    let asleep = || wake::wait_for_waiter(ring.path(), WakeWord::Consumers);
    asleep();
    let mut producer = ring.producer().expect("the ring has none");
    asleep();
    publish(&mut producer);
    asleep();
    let evictable = ring
        .consumers()
        .into_iter()
        .find(|reader| reader.name == "evictable")
        .expect("it is there")
        .row;
    assert!(producer.skip_to_newest(evictable));
    asleep();
    assert!(producer.evict(evictable));
    asleep();
    producer.close();
}

/// Nobody wakes the consumers: the end of their sleep is what bounds it.
fn kill_a_waker(case: &str, times: u32) {
    const PUBLISHED: u32 = 2;
    const SYNCED: u32 = 3;
    const EVICTED: u32 = 4;
    const CLOSED: u32 = 5;
    let name = Name::new("failpoint-waker");
    let owner = ring(&name);
    let watching = Ring::<[u8]>::open_read_only(&name).unwrap();
    let mut evictable =
        watching.consumer().start(Start::Sequence(0)).name("evictable").attach().unwrap();
    let mut stays = owner.consumer().start(Start::Sequence(0)).attach();
    thread::scope(|scope| {
        let evictable = scope.spawn(move || {
            let first = evictable.recv();
            // It may be told to skip, or to go, before it comes to receive.
            match first {
                Ok(received) if times >= PUBLISHED => assert_eq!(received, message(0)),
                Err(RecvError::Lagged(1)) if times >= SYNCED => {}
                end => return end,
            }
            evictable.recv()
        });
        let stays = scope.spawn(move || {
            if times >= PUBLISHED {
                assert_eq!(stays.recv().unwrap(), message(0));
            }
            (stays.recv(), stays)
        });
        let mut victim = start(Role::Waker, case, &name);
        expect_death(&mut victim, case);
        let (end, mut stays) = stays.join().expect("see above");
        let closed = if times >= CLOSED { CloseReason::Closed } else { CloseReason::ProducerDied };
        assert_eq!(end, Err(RecvError::Closed(closed)));
        let evicted =
            if times >= EVICTED { CloseReason::Evicted } else { CloseReason::ProducerDied };
        assert_eq!(evictable.join().expect("see above"), Err(RecvError::Closed(evicted)));
        // The bell is as good as ever.
        let mut producer = owner.producer().unwrap();
        let before = wake::word(name.path(), WakeWord::Consumers);
        assert_eq!(before & 1, 0, "a new producer wakes all who sleep");
        let next = producer.next_sequence();
        let receiving = scope.spawn(move || stays.recv());
        wake::wait_for_waiter(name.path(), WakeWord::Consumers);
        publish(&mut producer);
        assert_eq!(receiving.join().expect("see above"), Ok(message(next).to_vec()));
        assert_eq!(wake::word(name.path(), WakeWord::Consumers) & !1, before + 2, "it rings once");
    });
}

/// Makes room twice, for a producer that sleeps: by receiving, and by leaving.
fn make_room(name: &str) {
    let ring = Ring::<[u8]>::open_read_only(name).expect("the ring");
    let mut consumer =
        ring.consumer().start(Start::Sequence(0)).name("victim").gating().attach().expect("a row");
    say("joined");
    wake::wait_for_waiter(ring.path(), WakeWord::Producers);
    assert_eq!(consumer.recv().expect("the ring is full"), message(0));
    wake::wait_for_waiter(ring.path(), WakeWord::Producers);
    drop(consumer);
}

/// Nobody wakes the producer: the end of its sleep is what bounds it.
fn kill_a_room_maker(case: &str) {
    let name = Name::new("failpoint-room");
    let owner = ring(&name);
    let mut producer = owner.producer().unwrap();
    let mut free = owner.consumer().start(Start::Sequence(0)).attach();
    let mut victim = start(Role::RoomMaker, case, &name);
    assert_eq!(victim.line(), "joined");
    // Full behind the first lap, and again behind the one message that is received.
    for _ in 0..MESSAGES {
        let next = message(producer.next_sequence());
        producer
            .publish_timeout(&next, PATIENCE)
            .unwrap_or_else(|error| panic!("at {case}: {error}"));
    }
    expect_death(&mut victim, case);
    expect_free_rows(&owner, 0);
    assert!(matches!(free.try_recv(), Err(TryRecvError::Lagged(_))));
    let next = free.cursor();
    assert_eq!(free.try_recv(), Ok(message(next).to_vec()));
}

// --- Creators ---

/// Leaves a ring behind whose owner is dead: what a creator finds.
fn leave_stale(name: &str) {
    let ring = ring(name);
    publish(&mut ring.producer().expect("the ring is new"));
    say("ready");
    hear();
}

/// Replaces what has the name, publishes one message, and removes it.
fn create(name: &str) {
    let ring = Ring::<[u8]>::builder(name)
        .slots(SLOTS)
        .slot_bytes(BYTES)
        .create()
        .unwrap_or_else(|error| panic!("{error}"));
    let mut producer = ring.producer().expect("the ring is new");
    publish(&mut producer);
}

fn kill_a_creator(case: &str) {
    let name = Name::new("failpoint-creator");
    let mut stale = Child::start("stale", &name);
    stale.line();
    let old = Ring::<[u8]>::open_read_only(&name).unwrap();
    let mut consumer = old.consumer().start(Start::Oldest).attach();
    stale.kill();
    expect_death(&mut start(Role::Creator, case, &name), case);

    // Who only looks gets a ring or an error, and nothing else.
    match Ring::<[u8]>::open_read_only(&name) {
        Ok(ring) => assert!(!ring.is_producer_alive(), "nobody is left at {case}"),
        Err(error) => assert!(
            ["NotFound", "NotReady"].contains(&support::variant(&error).as_str()),
            "{error}"
        ),
    }
    let ring = Ring::<[u8]>::builder(&name).slots(2 * SLOTS).slot_bytes(BYTES).create();
    let ring =
        ring.unwrap_or_else(|error| panic!("the name cannot be used again at {case}: {error}"));
    let mut producer = ring.producer().unwrap();
    publish(&mut producer);
    assert_eq!(ring.consumer().start(Start::Oldest).attach().recv(), Ok(message(0).to_vec()));
    // The old ring's consumers have its message, and then the news.
    assert_eq!(consumer.recv(), Ok(message(0).to_vec()));
    assert_eq!(consumer.recv(), Err(RecvError::Closed(CloseReason::Superseded)));
    drop((producer, ring));
    assert!(!name.path().exists(), "the file is left behind");
}
