use super::*;
use crate::protocol::{OnLag, Start};
use crate::{Producer, Ring};

/// Longer than any test lasts: a test that waits for it hangs.
const FOREVER: Duration = Duration::from_secs(3600);

/// A timestamp, and a value.
type Event = [u64; 2];

/// Rings of this process, with their producers.
struct Rings {
    rings: Vec<Ring<Event>>,
    producers: Vec<Producer<Event>>,
}

impl Rings {
    fn new(test: &str, rings: usize) -> Self {
        let create = |ring| {
            Ring::builder(&format!("merge-{test}-{ring}-{}", std::process::id()))
                .slots(64)
                .create()
                .unwrap()
        };
        let rings: Vec<Ring<Event>> = (0..rings).map(create).collect();
        let producers = rings.iter().map(|ring| ring.producer().unwrap()).collect();
        Self { rings, producers }
    }

    fn consumers(&self) -> Vec<Consumer<Event>> {
        self.rings.iter().map(|ring| ring.consumer().start(Start::Oldest).attach()).collect()
    }

    fn merged(&self, order: MergeOrder) -> Merge<Event> {
        Merge::new(self.consumers(), order)
    }

    fn by_timestamp(&self, patience: Duration) -> Merge<Event> {
        Merge::by_timestamp(self.consumers(), |event| event[0], patience)
    }

    fn publish(&mut self, ring: usize, timestamps: &[u64]) {
        timestamps
            .iter()
            .for_each(|timestamp| _ = self.producers[ring].publish(&[*timestamp, ring as u64]));
    }
}

/// The sources and timestamps of all messages that are available now.
fn drain(merge: &mut Merge<Event>) -> Vec<(usize, u64)> {
    std::iter::from_fn(|| match merge.try_recv() {
        Ok((ring, [timestamp, value])) => {
            assert_eq!(ring as u64, value, "a message of another ring");
            Some((ring, timestamp))
        }
        Err(MergeError::Empty) => None,
        Err(error) => panic!("{error}"),
    })
    .collect()
}

#[test]
fn in_turn_a_busy_ring_starves_no_other() {
    let mut rings = Rings::new("turn", 3);
    let mut merge = rings.merged(MergeOrder::RoundRobin);
    rings.publish(0, &[0, 1, 2, 3, 4]);
    rings.publish(2, &[0, 1]);
    assert_eq!(drain(&mut merge), [(0, 0), (2, 0), (0, 1), (2, 1), (0, 2), (0, 3), (0, 4)]);
    // The next turn is that of the source after the last one delivered.
    rings.publish(0, &[5]);
    rings.publish(1, &[6]);
    assert_eq!(drain(&mut merge), [(1, 6), (0, 5)]);
}

#[test]
fn by_priority_the_lowest_lane_goes_first() {
    let mut rings = Rings::new("priority", 3);
    let mut merge = rings.merged(MergeOrder::Priority);
    rings.publish(2, &[0, 1]);
    rings.publish(0, &[0]);
    assert_eq!(merge.recv().map(|found| found.0), Ok(0));
    assert_eq!(merge.recv().map(|found| found.0), Ok(2));
    rings.publish(0, &[1, 2]);
    assert_eq!(drain(&mut merge), [(0, 1), (0, 2), (2, 1)]);
}

#[test]
fn by_timestamp_the_smallest_goes_first_and_silence_is_waited_for() {
    let mut rings = Rings::new("time", 3);
    let mut merge = rings.by_timestamp(FOREVER);
    rings.publish(0, &[10, 30, 30]);
    rings.publish(1, &[20, 30, 50]);
    assert_eq!(merge.try_recv(), Err(MergeError::Empty), "the third ring may have a smaller one");
    rings.publish(2, &[5, 40]);
    // Equal timestamps are delivered by source; the end of the first source holds up the messages
    // after it.
    assert_eq!(drain(&mut merge), [(2, 5), (0, 10), (1, 20), (0, 30), (0, 30)]);
    assert_eq!(merge.recv_timeout(Duration::from_millis(20)), Err(MergeError::Timeout));
    // The merge does not wait for a source that has closed.
    rings.producers.remove(0).close();
    assert_eq!(merge.recv(), Err(MergeError::Closed { ring: 0, reason: CloseReason::Closed }));
    assert_eq!(drain(&mut merge), [(1, 30), (2, 40)]);
    assert_eq!(merge.late(), 0);
}

#[test]
fn patience_ends_once_for_all_that_is_there_and_what_comes_late_is_counted() {
    const PATIENCE: Duration = Duration::from_millis(50);
    let mut rings = Rings::new("late", 2);
    let mut merge = rings.by_timestamp(PATIENCE);
    let many: Vec<u64> = (100..160).collect();
    rings.publish(0, &many);
    let began = Instant::now();
    assert_eq!(merge.recv(), Ok((0, [100, 0])));
    assert!(began.elapsed() >= PATIENCE, "the second ring was not waited for");
    // The wait covers all messages that were there. A message that was not there is waited for
    // again.
    rings.publish(0, &[160]);
    let others: Vec<_> = many[1..].iter().map(|&timestamp| (0, timestamp)).collect();
    let began = Instant::now();
    assert_eq!(drain(&mut merge), others);
    assert_eq!(merge.recv_timeout(FOREVER), Ok((0, [160, 0])));
    assert!(began.elapsed() >= PATIENCE, "the second ring was not waited for again");
    rings.publish(1, &[99, 160, 170]);
    rings.publish(0, &[165]);
    assert_eq!(drain(&mut merge), [(1, 99), (1, 160), (0, 165)]);
    assert_eq!(
        (merge.late(), merge.late_of(0), merge.late_of(1), merge.late_of(2)),
        (1, Some(0), Some(1), None)
    );
}

#[test]
fn without_patience_nobody_is_waited_for() {
    let mut rings = Rings::new("impatient", 2);
    let mut merge = rings.by_timestamp(Duration::ZERO);
    rings.publish(0, &[10]);
    assert_eq!(drain(&mut merge), [(0, 10)]);
    rings.publish(0, &[30]);
    rings.publish(1, &[20]);
    assert_eq!(drain(&mut merge), [(1, 20), (0, 30)]);
}

#[test]
fn losses_are_told_by_ring() {
    for by_timestamp in [false, true] {
        let mut rings = Rings::new(if by_timestamp { "lost-time" } else { "lost" }, 2);
        let mut consumers = rings.consumers();
        consumers[1] =
            rings.rings[1].consumer().start(Start::Oldest).on_lag(OnLag::Newest).attach();
        let mut merge = if by_timestamp {
            Merge::by_timestamp(consumers, |event| event[0], FOREVER)
        } else {
            Merge::new(consumers, MergeOrder::RoundRobin)
        };
        rings.publish(0, &[500]);
        rings.publish(1, &(0..200).collect::<Vec<_>>());
        rings.producers.remove(1).close();
        let lagged = Err(MergeError::Lagged { ring: 1, lost: 199 });
        let closed = Err(MergeError::Closed { ring: 1, reason: CloseReason::Closed });
        let (first, second) = (Ok((0, [500, 0])), Ok((1, [199, 1])));
        let expected = if by_timestamp {
            [lagged, second, closed, first]
        } else {
            [first, lagged, second, closed]
        };
        assert_eq!([(); 4].map(|()| merge.try_recv()), expected);
        assert_eq!(merge.try_recv(), Err(MergeError::Empty));
    }
}

#[test]
fn sources_come_and_go_and_keep_their_indices() {
    let mut rings = Rings::new("change", 3);
    let mut consumers = rings.consumers();
    let last = consumers.pop().unwrap();
    let mut merge = Merge::by_timestamp(consumers, |event| event[0], FOREVER);
    rings.publish(0, &[10]);
    assert_eq!(merge.try_recv(), Err(MergeError::Empty));
    // The held message comes with the consumer that has received it.
    let removed = merge.remove(0).unwrap();
    assert_eq!((removed.held, removed.consumer.received()), (Some([10, 0]), 1));
    assert!(merge.remove(0).is_none() && merge.consumer(0).is_none());
    assert_eq!(merge.add(last), 2);
    rings.publish(1, &[20]);
    rings.publish(2, &[15]);
    assert_eq!(merge.recv(), Ok((2, [15, 2])));
    assert_eq!(merge.indices().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(merge.consumer(1).unwrap().received(), 1);
    assert_eq!(merge.remove(2).unwrap().held, None);
    assert_eq!(merge.recv(), Ok((1, [20, 1])));
    drop(merge.remove(1));
    assert_eq!((merge.try_recv(), merge.recv()), (Err(MergeError::Ended), Err(MergeError::Ended)));

    // Round robin: a removal does not change whose turn is next.
    let mut merge =
        Merge::new(rings.rings.iter().map(|ring| ring.consumer().attach()), MergeOrder::RoundRobin);
    (0..3).for_each(|ring| rings.publish(ring, &[1, 2]));
    assert_eq!((merge.recv(), merge.recv()), (Ok((0, [1, 0])), Ok((1, [1, 1]))));
    drop(merge.remove(0));
    assert_eq!(drain(&mut merge), [(2, 1), (1, 2), (2, 2)]);
}

#[test]
fn an_end_is_said_once_and_again_behind_another_life() {
    let mut rings = Rings::new("ends", 2);
    let mut merge = rings.merged(MergeOrder::RoundRobin);
    let closed = |ring| Err(MergeError::Closed { ring, reason: CloseReason::Closed });
    rings.producers.remove(0).close();
    assert_eq!(merge.recv(), closed(0));
    assert_eq!(merge.try_recv(), Err(MergeError::Empty), "the other ring is open");
    rings.producers.remove(0).close();
    assert_eq!(merge.try_recv(), closed(1));
    assert_eq!(
        (merge.try_recv(), merge.recv(), merge.recv()),
        (Err(MergeError::Ended), Err(MergeError::Ended), Err(MergeError::Ended))
    );
    // Another producer is silent at first, which is no end.
    let mut successor = rings.rings[0].producer().unwrap();
    assert_eq!(merge.recv_timeout(Duration::from_millis(1)), Err(MergeError::Timeout));
    successor.publish(&[1, 0]);
    assert_eq!(merge.recv(), Ok((0, [1, 0])));
    successor.close();
    assert_eq!((merge.recv(), merge.recv()), (closed(0), Err(MergeError::Ended)));
}

#[test]
fn a_held_message_is_no_checkpoint() {
    let mut rings = Rings::new("checkpoint", 2);
    let attach = |ring: &Ring<Event>, start| {
        ring.consumer().start(start).name("heir").resume().attach().unwrap()
    };
    let consumers: Vec<_> = rings.rings.iter().map(|ring| attach(ring, Start::Oldest)).collect();
    let mut merge = Merge::by_timestamp(consumers, |event| event[0], FOREVER);
    rings.publish(0, &[10, 30]);
    rings.publish(1, &[20]);
    assert_eq!((merge.recv(), merge.recv()), (Ok((0, [10, 0])), Ok((1, [20, 1]))));
    assert_eq!(merge.try_recv(), Err(MergeError::Empty), "30 is held");
    merge.checkpoint(0).unwrap().unwrap();
    assert!(merge.checkpoint(7).is_none());
    drop(merge);
    let mut heir = attach(&rings.rings[0], Start::Next);
    assert_eq!(heir.recv_timeout(Duration::from_secs(20)), Ok([30, 0]));
}

#[test]
fn a_held_message_does_not_hold_up_the_producer_that_all_wait_for() {
    let rings = Rings::new("room", 2);
    let consumers: Vec<_> = rings
        .rings
        .iter()
        .map(|ring| ring.consumer().name("merge").gating().attach().unwrap())
        .collect();
    let mut merge = Merge::by_timestamp(consumers, |event| event[0], FOREVER);
    let Rings { rings: _rings, producers } = rings;
    // There is space for the last message of the first ring as soon as the merge holds its first
    // message; only after that, the second ring publishes.
    let publishing = std::thread::spawn(move || {
        let [mut first, mut second] = <[_; 2]>::try_from(producers).unwrap();
        (0..65).for_each(|timestamp| _ = first.publish(&[timestamp, 0]));
        second.publish(&[1000, 1]);
    });
    assert_eq!(merge.recv_timeout(Duration::from_secs(20)), Ok((0, [0, 0])));
    publishing.join().unwrap();
}
