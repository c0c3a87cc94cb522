//! Waiting between processes: who sleeps, who wakes whom, and what ends a wait that nobody ends.
//!
//! Nothing here depends on time being kept. That a sleeper was woken, and did not find out by
//! itself when its sleep ended, does not show in what it receives; it shows in the bell, which has
//! rung.

use std::thread;
use std::time::{Duration, Instant};

use seqring::{
    Canceller, CloseReason, Consumer, IfExists, RecvError, RecvTimeoutError, Registration, Ring,
    Start, TryRecvError, WaitStrategy,
};

use crate::peer::{self, FACTOR};
use crate::support::Name;
use crate::support::role::{Child, PATIENCE};
use crate::support::wake::{self, WakeWord, wait_asleep, wait_for_waiter, wait_until};

/// A process with a registered consumer of the ring called `name`.
fn registered(name: &Name, consumer: &str) -> Child {
    let mut child = peer::start(name);
    assert_eq!(child.ask("open_read_only"), "ok");
    assert_eq!(child.ask(&format!("register {consumer}")), "ok");
    child
}

/// Lets the only consumer that sleeps wait for a message, until it sleeps.
fn falls_asleep(child: &mut Child, name: &Name) {
    child.tell("recv");
    wait_asleep(name.path(), WakeWord::Consumers, child);
}

/// How often a bell has rung.
fn rings(name: &Name, bell: WakeWord) -> u64 {
    wake::word(name.path(), bell) >> 1
}

// --- Consumers ---

#[test]
fn a_sleeper_is_woken_by_messages_and_orders() {
    let name = Name::new("wait-woken");
    let ring = Ring::<u64>::builder(&name).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let mut child = registered(&name, "sleeper");
    for sequence in 0..3 {
        falls_asleep(&mut child, &name);
        let before = rings(&name, WakeWord::Consumers);
        producer.publish(&sequence);
        assert_eq!(child.line(), format!("Ok({sequence})"));
        assert_eq!(rings(&name, WakeWord::Consumers), before + 1);
    }
    // One ring for a batch.
    falls_asleep(&mut child, &name);
    let before = rings(&name, WakeWord::Consumers);
    producer.publish_batch(&[3, 4]);
    assert_eq!(child.line(), "Ok(3)");
    assert_eq!(
        (child.ask("recv"), rings(&name, WakeWord::Consumers)),
        ("Ok(4)".into(), before + 1)
    );
    // It has nothing to skip, so it looks and sleeps on.
    falls_asleep(&mut child, &name);
    let before = rings(&name, WakeWord::Consumers);
    assert!(producer.skip_to_newest(0));
    assert_eq!(rings(&name, WakeWord::Consumers), before + 1);
    wait_asleep(name.path(), WakeWord::Consumers, &child);
    assert!(producer.evict(0));
    assert_eq!(child.line(), "Err(Closed(Evicted))");
    assert_eq!(rings(&name, WakeWord::Consumers), before + 2);
}

#[test]
fn a_sleeper_counts_its_sleeps() {
    let name = Name::new("wait-sleeps");
    let ring = Ring::<u64>::builder(&name).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let mut child = registered(&name, "sleeper");
    assert_eq!(ring.consumers()[0].sleeps, 0);
    for sequence in 0..5 {
        falls_asleep(&mut child, &name);
        producer.publish(&sequence);
        assert_eq!(child.line(), format!("Ok({sequence})"));
        assert!(ring.consumers()[0].sleeps > sequence, "{:?}", ring.consumers()[0]);
    }
    let slept = ring.consumers()[0].sleeps;
    producer.publish(&5);
    assert_eq!(child.ask("recv"), "Ok(5)");
    assert_eq!(ring.consumers()[0].sleeps, slept, "there was nothing to wait for");
}

#[test]
fn a_sleeper_is_woken_by_the_close_and_by_a_takeover() {
    let name = Name::new("wait-close");
    let ring = Ring::<u64>::builder(&name).create().unwrap();
    let mut child = registered(&name, "sleeper");
    for (round, sequence) in [(1, 0), (2, 1)] {
        // The first has no predecessor, the second finds a ring that was closed, whose consumers do
        // not wait.
        if round == 1 {
            falls_asleep(&mut child, &name);
        }
        let mut producer = ring.producer().unwrap();
        if round == 2 {
            falls_asleep(&mut child, &name);
        }
        producer.publish(&sequence);
        assert_eq!(child.line(), format!("Ok({sequence})"));
        falls_asleep(&mut child, &name);
        let before = rings(&name, WakeWord::Consumers);
        producer.close();
        assert_eq!(child.line(), "Err(Closed(Closed))");
        assert_eq!(rings(&name, WakeWord::Consumers), before + 1);
    }
}

#[test]
fn a_sleeper_learns_of_a_death_and_goes_on_with_the_successor() {
    let name = Name::new("wait-death");
    let mut first = peer::start(&name);
    assert_eq!((first.ask("create attach 8"), first.ask("produce")), ("ok".into(), "ok".into()));
    let mut child = registered(&name, "sleeper");
    falls_asleep(&mut child, &name);
    first.kill();
    let died = Instant::now();
    // Nobody rings for a death.
    assert_eq!(child.line(), "Err(Closed(ProducerDied))");
    println!("the death of the producer was noticed after {:?}", died.elapsed());
    // Not again: one of a ring without a producer asks at once.
    let ring = Ring::<u64>::open(&name).unwrap();
    let mut producer = ring.producer().unwrap();
    falls_asleep(&mut child, &name);
    producer.publish(&7);
    assert_eq!(child.line(), "Ok(7)");
}

#[test]
fn a_sleeper_is_woken_by_a_successor_that_comes_at_once_or_by_a_replacement() {
    for replaced in [false, true] {
        let name = Name::new(&format!("wait-successor-{replaced}"));
        let mut first = peer::start(&name);
        assert_eq!(
            (first.ask("create attach 8"), first.ask("produce")),
            ("ok".into(), "ok".into())
        );
        let mut child = registered(&name, "sleeper");
        falls_asleep(&mut child, &name);
        first.kill();
        let if_exists = if replaced { IfExists::ReplaceStale } else { IfExists::Attach };
        let ring = Ring::<u64>::builder(&name).slots(8).if_exists(if_exists).create().unwrap();
        let mut producer = ring.producer().unwrap();
        producer.publish(&7);
        let mut woken = child.line();
        if woken == "Err(Closed(ProducerDied))" {
            // It happened to look in between.
            woken = child.ask("recv");
        }
        assert_eq!(woken, if replaced { "Err(Closed(Superseded))" } else { "Ok(7)" });
    }
}

/// The others are woken as ever, and the dead one costs one ring of the bell, which it was to hear.
#[test]
fn a_sleeper_that_is_killed_costs_a_ring_of_the_bell() {
    let name = Name::new("wait-killed");
    let ring = Ring::<u64>::builder(&name).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let mut doomed = registered(&name, "doomed");
    falls_asleep(&mut doomed, &name);
    doomed.kill();
    assert!(wake::has_waiters(name.path(), WakeWord::Consumers), "nobody has rung since");
    (0..10).for_each(|n| assert_eq!(producer.publish(&n), n));
    assert_eq!(wake::word(name.path(), WakeWord::Consumers), 1 << 1, "rung once, and not raised");

    let mut others = ["one", "two"].map(|other| registered(&name, other));
    let mut doomed = registered(&name, "doomed");
    others.iter_mut().chain([&mut doomed]).for_each(|child| child.tell("recv"));
    others
        .iter()
        .chain([&doomed])
        .for_each(|child| wait_asleep(name.path(), WakeWord::Consumers, child));
    doomed.kill();
    for sequence in 10..15 {
        producer.publish(&sequence);
        for other in &mut others {
            assert_eq!(other.line(), format!("Ok({sequence})"));
            other.tell("recv");
        }
        others.iter().for_each(|other| wait_asleep(name.path(), WakeWord::Consumers, other));
    }
}

#[test]
fn a_ring_on_which_nobody_may_sleep_is_waited_for_all_the_same() {
    let name = Name::new("wait-unparkable");
    let ring = Ring::<u64>::builder(&name).slots(4).parkable(false).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let mut child = peer::start(&name);
    assert_eq!((child.ask("open_read_only"), child.ask("gate naps")), ("ok".into(), "ok".into()));
    for sequence in 0..3 {
        child.tell("recv");
        // Long enough to take some naps, as a rule.
        thread::sleep(Duration::from_millis(5));
        producer.publish(&(sequence * FACTOR));
        assert_eq!(child.line(), format!("Ok({})", sequence * FACTOR));
    }
    assert_eq!((wake::word(name.path(), WakeWord::Consumers), ring.consumers()[0].sleeps), (0, 0));
    child.tell("drain");
    (3..50).for_each(|n| assert_eq!(producer.publish(&(n * FACTOR)), n));
    producer.close();
    assert_eq!(child.line(), "3..50");
}

#[test]
fn every_strategy_receives_everything() {
    const MESSAGES: u64 = 300;
    for strategy in [WaitStrategy::Spin, WaitStrategy::Yield, WaitStrategy::Park] {
        let name = Name::new(&format!("wait-{strategy:?}"));
        let ring = Ring::<u64>::builder(&name).slots(16).create().unwrap();
        let reading = Ring::<u64>::open_read_only(&name).unwrap();
        let mut producer = ring.producer().unwrap();
        producer.set_wait_strategy(strategy);
        thread::scope(|scope| {
            let gating =
                reading.consumer().wait_strategy(strategy).name("gates").gating().attach().unwrap();
            let free = reading.consumer().wait_strategy(strategy).attach();
            let writable = ring.consumer().wait_strategy(strategy).attach();
            let gating = scope.spawn(move || receive(gating));
            let free = [scope.spawn(move || receive(free)), scope.spawn(move || receive(writable))];
            (0..MESSAGES).for_each(|n| assert_eq!(producer.publish(&n), n));
            drop(producer);
            assert_eq!(gating.join().expect("see above"), (MESSAGES, 0), "{strategy:?}");
            for free in free {
                let (received, lost) = free.join().expect("see above");
                assert_eq!(received + lost, MESSAGES, "{strategy:?}");
            }
        });
    }
}

/// How much was received and lost until the end.
fn receive<R: Registration>(mut consumer: Consumer<u64, R>) -> (u64, u64) {
    loop {
        let sequence = consumer.cursor();
        match consumer.recv_timeout(PATIENCE) {
            Ok(message) => assert_eq!(message, sequence),
            Err(RecvTimeoutError::Lagged(_)) => {}
            Err(RecvTimeoutError::Closed(CloseReason::Closed)) => {
                return (consumer.received(), consumer.lost());
            }
            Err(error) => panic!("at message {sequence}: {error}"),
        }
    }
}

/// The goal is a tenth of that, and is measured elsewhere: what a machine full of other tests does
/// to it is no business of this one.
#[test]
fn an_idle_sleeper_uses_hardly_any_processor_time() {
    const IDLE: Duration = Duration::from_secs(3);
    let name = Name::new("wait-idle");
    let ring = Ring::<u64>::builder(&name).create().unwrap();
    let _producer = ring.producer().unwrap();
    let mut child = registered(&name, "idle");
    let used =
        Duration::from_nanos(child.ask(&format!("idle {}", IDLE.as_millis())).parse().unwrap());
    println!(
        "an idle sleeper used {used:?} in {IDLE:?}: {:.3} %",
        used.as_secs_f64() / IDLE.as_secs_f64() * 100.0
    );
    assert!(used < IDLE / 100, "{used:?} of {IDLE:?}");
}

// --- Deadlines and cancellation ---

/// Nor is it the end of the wait for those who wait without a timeout; see
/// `a_sleeper_is_woken_by_messages_and_orders`.
#[test]
fn an_order_that_comes_to_nothing_does_not_end_a_wait() {
    let name = Name::new("wait-order");
    let ring = Ring::<u64>::builder(&name).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let mut consumer = ring.consumer().name("synced").attach().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| consumer.recv_timeout(PATIENCE));
        for _ in 0..3 {
            wait_for_waiter(name.path(), WakeWord::Consumers);
            producer.skip_all_to_newest();
        }
        wait_for_waiter(name.path(), WakeWord::Consumers);
        producer.publish(&5);
        assert_eq!(waiting.join().expect("see above"), Ok(5));
    });
    // Nor do they prolong it.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| consumer.recv_timeout(Duration::from_millis(50)));
        let started = Instant::now();
        while !waiting.is_finished() {
            assert!(started.elapsed() < PATIENCE, "the timeout begins anew with each order");
            producer.skip_all_to_newest();
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(waiting.join().expect("see above"), Err(RecvTimeoutError::Timeout));
    });
}

/// Runs `test` with each kind of consumer of a ring that has a producer but no messages.
fn each_kind(test: &str, run: impl Fn(&str, &Name, &mut dyn Waits)) {
    for strategy in [WaitStrategy::Spin, WaitStrategy::Yield, WaitStrategy::Park] {
        let name = Name::new(&format!("wait-{test}-{strategy:?}"));
        let ring = Ring::<u64>::builder(&name).create().unwrap();
        let _producer = ring.producer().unwrap();
        let reading = Ring::<u64>::open_read_only(&name).unwrap();
        run("read-only", &name, &mut reading.consumer().wait_strategy(strategy).attach());
        run("writable", &name, &mut ring.consumer().wait_strategy(strategy).attach());
        run(
            "registered",
            &name,
            &mut reading.consumer().wait_strategy(strategy).name("registered").attach().unwrap(),
        );
    }
}

/// A consumer of any kind.
trait Waits: Send {
    fn recv(&mut self) -> Result<u64, RecvError>;
    fn recv_timeout(&mut self, timeout: Duration) -> Result<u64, RecvTimeoutError>;
    fn recv_deadline(&mut self, deadline: Instant) -> Result<u64, RecvTimeoutError>;
    fn canceller(&self) -> Canceller;
}

impl<R: Registration + Send> Waits for Consumer<u64, R> {
    fn recv(&mut self) -> Result<u64, RecvError> {
        self.recv()
    }

    fn recv_timeout(&mut self, timeout: Duration) -> Result<u64, RecvTimeoutError> {
        self.recv_timeout(timeout)
    }

    fn recv_deadline(&mut self, deadline: Instant) -> Result<u64, RecvTimeoutError> {
        self.recv_deadline(deadline)
    }

    fn canceller(&self) -> Canceller {
        self.canceller()
    }
}

#[test]
fn waits_end_in_time_and_not_before() {
    each_kind("timeout", |kind, _, consumer| {
        for timeout in [Duration::ZERO, Duration::from_micros(100), Duration::from_millis(25)] {
            let started = Instant::now();
            assert_eq!(consumer.recv_timeout(timeout), Err(RecvTimeoutError::Timeout), "{kind}");
            assert!(started.elapsed() >= timeout, "{kind}");
            let deadline = Instant::now() + timeout;
            assert_eq!(consumer.recv_deadline(deadline), Err(RecvTimeoutError::Timeout), "{kind}");
            assert!(Instant::now() >= deadline, "{kind}");
        }
        let past = Instant::now();
        assert_eq!(consumer.recv_deadline(past), Err(RecvTimeoutError::Timeout), "{kind}");
    });
}

#[test]
fn a_wait_is_cancelled_by_another_thread_and_so_are_all_later_ones() {
    each_kind("cancel", |kind, _, consumer| {
        let canceller = consumer.canceller();
        assert!(!canceller.is_cancelled());
        thread::scope(|scope| {
            let waiting = scope.spawn(|| consumer.recv());
            // Long enough to fall asleep, as a rule; right in every other case, too.
            thread::sleep(Duration::from_millis(15));
            assert!(!waiting.is_finished(), "{kind}");
            canceller.cancel();
            assert_eq!(waiting.join().expect("see above"), Err(RecvError::Cancelled), "{kind}");
        });
        assert_eq!(consumer.recv(), Err(RecvError::Cancelled), "{kind}");
        assert_eq!(consumer.recv_timeout(PATIENCE), Err(RecvTimeoutError::Cancelled), "{kind}");
    });
}

#[test]
fn who_is_cancelled_receives_what_is_there() {
    let name = Name::new("wait-cancelled");
    let ring = Ring::<u64>::builder(&name).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let mut consumer = ring.consumer().name("cancelled").attach().unwrap();
    let mut other = ring.consumer().attach();
    consumer.canceller().cancel();
    producer.publish(&5);
    assert_eq!((consumer.recv(), consumer.recv()), (Ok(5), Err(RecvError::Cancelled)));
    assert_eq!(consumer.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(other.recv(), Ok(5), "nobody else is cancelled");
    drop(producer);
    assert_eq!(consumer.recv(), Err(RecvError::Closed(CloseReason::Closed)));
}

// --- Producers ---

/// A consumer in another process makes room by `how`, for a producer that sleeps.
fn makes_room(how: impl FnOnce(&mut Child)) -> (Name, Ring<u64>) {
    const SLOTS: u64 = 4;
    let name = Name::new("wait-room");
    let ring = Ring::<u64>::builder(&name).slots(SLOTS as usize).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let mut child = peer::start(&name);
    assert_eq!((child.ask("open_read_only"), child.ask("gate slow")), ("ok".into(), "ok".into()));
    (0..SLOTS).for_each(|n| assert_eq!(producer.publish(&n), n));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| producer.publish(&SLOTS));
        wait_for_waiter(name.path(), WakeWord::Producers);
        assert!(!waiting.is_finished(), "nothing has been received");
        how(&mut child);
        wait_until("the producer sleeps though there is room", || waiting.is_finished());
        assert_eq!(waiting.join().expect("see above"), SLOTS);
    });
    let mut last = ring.consumer().start(Start::Newest).attach();
    assert_eq!(last.recv(), Ok(SLOTS));
    (name, ring)
}

#[test]
fn a_producer_is_woken_by_a_consumer_that_receives() {
    let (name, ring) = makes_room(|child| assert_eq!(child.ask("recv"), "Ok(0)"));
    assert_eq!(rings(&name, WakeWord::Producers), 1);
    drop(ring);
}

#[test]
fn a_producer_is_woken_by_a_consumer_that_leaves() {
    let (name, ring) = makes_room(|child| assert_eq!(child.ask("drop"), "ok"));
    assert_eq!((rings(&name, WakeWord::Producers), ring.consumers()), (1, vec![]));
}

#[test]
fn a_producer_finds_out_that_a_consumer_is_dead() {
    let (name, ring) = makes_room(Child::kill);
    assert_eq!(
        (rings(&name, WakeWord::Producers), ring.consumers()),
        (0, vec![]),
        "nobody rings for a death"
    );
}
