//! Several rings, each with a producer in a process of its own, received as one.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use seqring::{
    CloseReason, Consumer, Merge, MergeError, MergeOrder, Registered, Registration, Ring, Start,
};

use crate::support::role::{Child, PATIENCE, hear, say};
use crate::support::{Name, monotonic_ns};

/// A timestamp, the ring, the number in the ring, and a function of these.
type Event = [u64; 4];

/// The role of a process that produces one ring; its argument is the ring and the name of the ring.
pub const ROLE: &str = "merged ring";

const ORDERS: [Order; 3] = [
    Order::Fixed(MergeOrder::RoundRobin),
    Order::Fixed(MergeOrder::Priority),
    Order::Timestamp(PATIENCE),
];

#[derive(Debug, Clone, Copy)]
enum Order {
    Fixed(MergeOrder),
    Timestamp(Duration),
}

impl Order {
    fn of<R: Registration>(self, consumers: Vec<Consumer<Event, R>>) -> Merge<Event, R> {
        match self {
            Self::Fixed(order) => Merge::new(consumers, order),
            Self::Timestamp(patience) => Merge::by_timestamp(consumers, |event| event[0], patience),
        }
    }
}

fn event(timestamp: u64, ring: u64, number: u64) -> Event {
    [timestamp, ring, number, timestamp ^ ring.rotate_left(20) ^ number.rotate_left(40)]
}

/// Publishes what it is told to.
pub fn run(argument: &str) {
    let (index, name) = argument.split_once(' ').expect("an index and a name");
    let index: u64 = index.parse().expect("a number");
    let ring = Ring::<Event>::open(name).expect("the ring");
    let mut producer = ring.producer().expect("its producer");
    say("ready");
    while let Some(line) = hear() {
        let (order, number) = line.split_once(' ').unwrap_or((&line, "0"));
        let number: u64 = number.parse().expect("a number");
        match order {
            // So many, each with the time at which it is published.
            "publish" => {
                for _ in 0..number {
                    let sequence = producer.next_sequence();
                    producer.publish(&event(monotonic_ns(), index, sequence));
                }
            }
            // One with this time.
            "at" => _ = producer.publish(&event(number, index, producer.next_sequence())),
            "close" => {
                producer.close();
                return say("ok");
            }
            other => panic!("no ring understands {other:?}"),
        }
        say("ok");
    }
}

/// The rings of a test.
struct Rings {
    names: Vec<Name>,
    rings: Vec<Ring<Event>>,
}

impl Rings {
    fn new(test: &str, count: usize, slots: usize) -> Self {
        let names: Vec<Name> =
            (0..count).map(|ring| Name::new(&format!("merge-{test}-{ring}"))).collect();
        let rings =
            names.iter().map(|name| Ring::builder(name).slots(slots).create().unwrap()).collect();
        Self { names, rings }
    }

    fn start(&self, ring: usize) -> Child {
        let mut child = Child::start(ROLE, &format!("{ring} {}", &*self.names[ring]));
        assert_eq!(child.line(), "ready");
        child
    }

    fn start_all(&self) -> Vec<Child> {
        (0..self.rings.len()).map(|ring| self.start(ring)).collect()
    }

    fn free(&self) -> Vec<Consumer<Event>> {
        self.rings.iter().map(|ring| ring.consumer().start(Start::Oldest).attach()).collect()
    }

    fn gating(&self) -> Vec<Consumer<Event, Registered>> {
        self.rings
            .iter()
            .map(|ring| {
                ring.consumer().start(Start::Oldest).name("merge").gating().attach().unwrap()
            })
            .collect()
    }
}

/// What a merge has delivered and reported, until all merge had closed.
#[derive(Debug, Default)]
struct Seen {
    timestamps: Vec<u64>,
    /// By ring.
    received: HashMap<usize, u64>,
    lost: HashMap<usize, u64>,
    /// In the order in which they were reported.
    ends: Vec<(usize, CloseReason)>,
}

/// Receives until all merge have closed; checks that each ring is in order and complete but for the
/// losses that are reported.
fn receive<R: Registration>(merge: &mut Merge<Event, R>) -> Seen {
    let mut seen = Seen::default();
    let mut next: HashMap<usize, u64> = HashMap::new();
    loop {
        match merge.recv_timeout(PATIENCE) {
            Ok((ring, found)) => {
                let [timestamp, author, number, _] = found;
                assert_eq!(
                    found,
                    event(timestamp, ring as u64, number),
                    "damaged, or of ring {author}"
                );
                let expected = next.entry(ring).or_default();
                assert_eq!(
                    number, *expected,
                    "ring {ring} is not in order, or a loss was not told"
                );
                *expected += 1;
                *seen.received.entry(ring).or_default() += 1;
                seen.timestamps.push(timestamp);
            }
            Err(MergeError::Lagged { ring, lost }) => {
                *next.entry(ring).or_default() += lost;
                *seen.lost.entry(ring).or_default() += lost;
            }
            Err(MergeError::Closed { ring, reason }) => seen.ends.push((ring, reason)),
            Err(MergeError::Ended) => return seen,
            Err(error) => panic!("{error}, after {} messages", seen.timestamps.len()),
        }
    }
}

#[test]
fn three_sources_arrive_complete_and_in_order_and_sorted_if_asked() {
    const MESSAGES: u64 = 5000;
    for order in ORDERS {
        let rings = Rings::new("complete", 3, 64);
        let mut merge = order.of(rings.gating());
        let mut children = rings.start_all();
        children.iter_mut().for_each(|child| child.tell(&format!("publish {MESSAGES}")));
        children.iter_mut().for_each(|child| child.tell("close"));
        let seen = receive(&mut merge);
        for ring in 0..3 {
            assert_eq!(seen.received.get(&ring), Some(&MESSAGES), "{order:?}");
            assert_eq!(merge.consumer(ring).unwrap().received(), MESSAGES);
        }
        assert!(seen.lost.is_empty(), "{:?}", seen.lost);
        let mut ends = seen.ends;
        ends.sort_by_key(|(ring, _)| *ring);
        assert_eq!(
            ends,
            [0, 1, 2].map(|ring| (ring, CloseReason::Closed)),
            "each end is told once"
        );
        if matches!(order, Order::Timestamp(_)) {
            assert!(seen.timestamps.is_sorted());
        }
        assert_eq!(merge.late(), 0);
    }
}

#[test]
fn the_lane_of_a_killed_producer_ends_and_goes_on_with_its_successor() {
    for order in ORDERS {
        let rings = Rings::new("killed", 3, 256);
        let mut merge = order.of(rings.gating());
        let mut children = rings.start_all();
        assert_eq!(children[1].ask("publish 10"), "ok");
        children[1].kill();
        let publish_others = |children: &mut Vec<Child>| {
            [0, 2].map(|ring| assert_eq!(children[ring].ask("publish 1"), "ok"))
        };
        // By timestamp, the others must speak, or they are waited for. What they say now is held
        // until the silence of the dead is explained.
        let is_by_timestamp = matches!(order, Order::Timestamp(_));
        if is_by_timestamp {
            publish_others(&mut children);
        }
        for number in 0..10 {
            let found = merge.recv_timeout(PATIENCE);
            assert!(matches!(found, Ok((1, [_, 1, n, _])) if n == number), "{order:?}: {found:?}");
        }
        let died = MergeError::Closed { ring: 1, reason: CloseReason::ProducerDied };
        let began = Instant::now();
        assert_eq!(merge.recv_timeout(PATIENCE), Err(died), "{order:?}");
        assert!(began.elapsed() < PATIENCE / 2, "the death was found late");
        if !is_by_timestamp {
            publish_others(&mut children);
        }
        // The others go on, and nobody waits for the dead.
        let found = merge.recv_timeout(PATIENCE / 2);
        assert!(matches!(found, Ok((0 | 2, _))), "{order:?}: {found:?}");
        // A successor that is silent at first.
        children[1] = rings.start(1);
        for child in &mut children {
            assert_eq!(child.ask("publish 3"), "ok");
            assert_eq!(child.ask("close"), "ok");
        }
        let (mut ends, mut revived) = (Vec::new(), Vec::new());
        loop {
            match merge.recv_timeout(PATIENCE) {
                Ok((1, [_, 1, number, _])) => revived.push(number),
                Ok(_) => {}
                Err(MergeError::Closed { ring, reason: CloseReason::Closed }) => ends.push(ring),
                Err(MergeError::Ended) => break,
                other => panic!("{other:?}"),
            }
        }
        ends.sort_unstable();
        assert_eq!((revived, ends), (vec![10, 11, 12], vec![0, 1, 2]), "{order:?}");
    }
}

#[test]
fn all_producers_die_and_a_silent_successor_is_waited_for() {
    let rings = Rings::new("all-die", 2, 16);
    let mut merge = Merge::new(rings.free(), MergeOrder::Priority);
    let mut children = rings.start_all();
    children.iter_mut().for_each(Child::kill);
    let mut ends =
        [merge.recv_timeout(PATIENCE), merge.recv_timeout(PATIENCE)].map(|end| match end {
            Err(MergeError::Closed { ring, reason: CloseReason::ProducerDied }) => ring,
            other => panic!("{other:?}"),
        });
    ends.sort_unstable();
    assert_eq!(ends, [0, 1]);
    assert_eq!(merge.recv_timeout(PATIENCE), Err(MergeError::Ended));
    let mut successor = rings.start(1);
    assert_eq!(
        merge.recv_timeout(Duration::from_millis(5)),
        Err(MergeError::Timeout),
        "a producer lives again"
    );
    let waiting =
        thread::spawn(move || (merge.recv_timeout(PATIENCE), merge.recv_timeout(PATIENCE)));
    assert_eq!(successor.ask("at 7"), "ok");
    successor.kill();
    let (message, end) = waiting.join().unwrap();
    assert_eq!(message, Ok((1, event(7, 1, 0))));
    assert_eq!(
        end,
        Err(MergeError::Closed { ring: 1, reason: CloseReason::ProducerDied }),
        "it is news again"
    );
}

#[test]
fn a_silent_successor_is_seen_while_another_lane_is_open() {
    let rings = Rings::new("successor", 2, 16);
    let mut merge = Merge::new(rings.free(), MergeOrder::RoundRobin);
    let mut children = rings.start_all();
    let died = Err(MergeError::Closed { ring: 1, reason: CloseReason::ProducerDied });
    for _ in 0..2 {
        children[1].kill();
        assert_eq!(merge.recv_timeout(PATIENCE), died);
        assert_eq!(
            merge.recv_timeout(Duration::from_millis(1)),
            Err(MergeError::Timeout),
            "an end is told once"
        );
        children[1] = rings.start(1);
        assert_eq!(merge.recv_timeout(Duration::from_millis(1)), Err(MergeError::Timeout));
    }
}

#[test]
fn a_claim_of_a_dead_producer_holds_up_no_ring() {
    let (shared, single) = (Name::new("merge-orphan-0"), Name::new("merge-orphan-1"));
    let crew =
        Ring::<[u8]>::builder(&shared).slots(16).slot_bytes(64).max_producers(3).create().unwrap();
    let ring = Ring::<[u8]>::builder(&single).slots(16).slot_bytes(64).create().unwrap();
    let mut merge = Merge::new(
        [&crew, &ring].map(|ring| ring.consumer().start(Start::Oldest).attach()),
        MergeOrder::Priority,
    );
    let (mut survivor, mut other) = (crew.shared_producer().unwrap(), ring.producer().unwrap());
    // A child claims a sequence and is killed in the middle of its message; nobody marks it as
    // dead.
    let mut child = Child::start("half", &shared);
    assert_eq!(child.line(), "half");
    assert_eq!(survivor.publish(b"behind"), Ok(1));
    other.publish(b"meanwhile").unwrap();
    assert_eq!(merge.recv_timeout(PATIENCE), Ok((1, b"meanwhile".to_vec())));
    assert_eq!(
        merge.recv_timeout(Duration::from_millis(30)),
        Err(MergeError::Timeout),
        "its author lives"
    );
    child.kill();
    assert_eq!(merge.recv_timeout(PATIENCE), Ok((0, b"behind".to_vec())));
    assert_eq!(merge.consumer(0).unwrap().tombstones(), 1);
}

#[test]
fn a_lapped_lane_tells_its_losses_and_the_others_have_none() {
    for order in ORDERS {
        let rings = Rings::new("lapped", 3, 64);
        let mut merge = order.of(rings.free());
        let mut children = rings.start_all();
        assert_eq!(children[1].ask("publish 1000"), "ok");
        for child in &mut children {
            assert_eq!(child.ask("publish 20"), "ok");
            assert_eq!(child.ask("close"), "ok");
        }
        let seen = receive(&mut merge);
        assert_eq!((seen.received[&0], seen.received[&2]), (20, 20), "{order:?}");
        assert!(seen.lost[&1] >= 1020 - 64, "{order:?}");
        assert_eq!(seen.received[&1] + seen.lost[&1], 1020, "{order:?}");
        assert_eq!(merge.consumer(1).unwrap().lost(), seen.lost[&1]);
        assert_eq!(seen.lost.len(), 1, "{order:?}");
    }
}

#[test]
fn what_comes_late_is_delivered_and_counted() {
    let rings = Rings::new("late", 2, 16);
    let mut merge = Order::Timestamp(Duration::from_millis(1)).of(rings.free());
    let mut children = rings.start_all();
    assert_eq!(children[0].ask("at 10"), "ok");
    assert_eq!(merge.recv_timeout(PATIENCE), Ok((0, event(10, 0, 0))));
    assert_eq!(children[1].ask("at 5"), "ok");
    assert_eq!(merge.recv_timeout(PATIENCE), Ok((1, event(5, 1, 0))));
    assert_eq!((merge.late_of(0), merge.late_of(1)), (Some(0), Some(1)));
}

#[test]
fn a_silent_lane_that_speaks_in_time_keeps_its_place() {
    let rings = Rings::new("in-time", 2, 16);
    let mut merge = Order::Timestamp(PATIENCE).of(rings.free());
    let mut children = rings.start_all();
    assert_eq!(children[0].ask("at 10"), "ok");
    let waiting = thread::spawn(move || merge.recv());
    // Whether it waits by now or not.
    thread::sleep(Duration::from_millis(20));
    assert_eq!(children[1].ask("at 5"), "ok");
    assert_eq!(waiting.join().unwrap(), Ok((1, event(5, 1, 0))));
}

#[test]
fn waits_end_at_their_deadline_or_when_cancelled_and_do_not_poll() {
    for order in ORDERS {
        let rings = Rings::new("waits", 3, 16);
        let mut merge = order.of(rings.gating());
        let mut children = rings.start_all();
        // One that has closed is not looked at again and again either.
        assert_eq!(children[2].ask("close"), "ok");
        assert_eq!(
            merge.recv_timeout(PATIENCE),
            Err(MergeError::Closed { ring: 2, reason: CloseReason::Closed })
        );
        children.pop();
        let processor = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
        let (began, used) = (Instant::now(), processor());
        let timeout = Duration::from_millis(500);
        assert_eq!(merge.recv_timeout(timeout), Err(MergeError::Timeout));
        assert!(began.elapsed() >= timeout);
        let used = processor() - used;
        assert!(
            used < timeout / 5,
            "{order:?}: an idle wait of {timeout:?} took {used:?} of processor time"
        );
        assert_eq!(merge.recv_deadline(began), Err(MergeError::Timeout), "a deadline in the past");
        // By timestamp, a message that is held up is not delivered by the end of a wait either.
        if matches!(order, Order::Timestamp(_)) {
            assert_eq!(children[0].ask("at 1"), "ok");
            assert_eq!(merge.recv_timeout(Duration::from_millis(5)), Err(MergeError::Timeout));
        }
        let canceller = merge.canceller();
        let waiting = thread::spawn(move || (merge.recv(), merge));
        thread::sleep(Duration::from_millis(5));
        canceller.cancel();
        let (end, mut merge) = waiting.join().unwrap();
        assert_eq!(end, Err(MergeError::Cancelled));
        // What does not wait goes on.
        for child in &mut children {
            assert_eq!(child.ask("at 10"), "ok");
        }
        assert!(merge.try_recv().is_ok());
    }
}
