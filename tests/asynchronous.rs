//! Consumers in asynchronous code, in two runtimes.

mod support;

use std::task::{Context, Waker};
use std::time::Duration;

use futures::executor::{LocalPool, block_on};
use futures::task::LocalSpawnExt;
use futures::{FutureExt, StreamExt};
use seqring::{AsyncConsumer, CloseReason, Lagged, RecvError, Registered, Ring, Start};
use support::Name;
use support::role::{self, Child, hear, say};

const MESSAGES: u64 = 500;

/// In another process: publishes one by one what it is told to, or ends as it is told.
#[test]
fn role() {
    if let Some((_, name)) = role::current() {
        let ring = Ring::<u64>::open(&name).unwrap();
        let mut producer = ring.producer().unwrap();
        say("ready");
        while let Some(line) = hear() {
            match line.as_str() {
                "close" => break,
                count => (0..count.parse::<u64>().unwrap()).for_each(|_| {
                    producer.publish(&producer.next_sequence());
                    // So that the other side falls asleep between two messages, now and then.
                    std::thread::yield_now();
                }),
            }
        }
    }
}

fn producer(name: &Name) -> Child {
    let mut child = Child::start("role", name);
    assert_eq!(child.line(), "ready");
    child
}

fn registered(ring: &Ring<u64>, name: &str) -> AsyncConsumer<u64, Registered> {
    ring.consumer().start(Start::Oldest).name(name).gating().attach().unwrap().into_async().unwrap()
}

#[test]
fn a_stream_of_another_process_is_whole_and_ends() {
    let name = Name::new("async-stream");
    let ring = Ring::<u64>::builder(&name).slots(16).create().unwrap();
    let mut child = producer(&name);
    let consumer = registered(&ring, "stream");
    child.tell(&MESSAGES.to_string());
    child.tell("close");
    let received: Vec<_> = block_on(consumer.collect());
    assert_eq!(received, (0..MESSAGES).map(Ok).collect::<Vec<Result<u64, Lagged>>>());
    child.finish();
}

#[test]
fn many_tasks_of_one_thread_wait_for_many_rings() {
    const RINGS: usize = 20;
    let names: Vec<_> = (0..RINGS).map(|n| Name::new(&format!("async-many-{n}"))).collect();
    let rings: Vec<_> =
        names.iter().map(|name| Ring::<u64>::builder(name).slots(8).create().unwrap()).collect();
    let mut producers: Vec<_> = rings.iter().map(|ring| ring.producer().unwrap()).collect();
    let mut pool = LocalPool::new();
    let tasks: Vec<_> = rings
        .iter()
        .map(|ring| {
            let mut consumer = registered(ring, "task");
            let task = async move {
                let mut sum = 0;
                while let Ok(message) = consumer.recv().await {
                    sum += message;
                }
                sum
            };
            pool.spawner().spawn_local_with_handle(task).unwrap()
        })
        .collect();
    let publishing = std::thread::spawn(move || {
        for n in 0..MESSAGES {
            producers.iter_mut().for_each(|producer| assert_eq!(producer.publish(&n), n));
        }
    });
    let sums = pool.run_until(futures::future::join_all(tasks));
    publishing.join().unwrap();
    assert_eq!(sums, [MESSAGES * (MESSAGES - 1) / 2; RINGS]);
}

#[test]
fn the_death_of_a_producer_ends_a_wait_and_its_successor_is_heard() {
    let name = Name::new("async-death");
    let ring = Ring::<u64>::builder(&name).slots(16).create().unwrap();
    let mut child = producer(&name);
    let mut consumer = registered(&ring, "widow");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let waiting = tokio::time::timeout(Duration::from_millis(20), consumer.recv()).await;
        assert!(waiting.is_err(), "nothing was published, but the wait ended with {waiting:?}");
        child.kill();
        let end = tokio::time::timeout(role::PATIENCE, consumer.recv())
            .await
            .expect("the death is noticed");
        assert_eq!(end, Err(RecvError::Closed(CloseReason::ProducerDied)));
        let mut successor = ring.producer().unwrap();
        successor.publish(&7);
        assert_eq!(consumer.recv().await, Ok(7));
    });
}

#[test]
fn a_wait_that_is_given_up_loses_nothing() {
    let name = Name::new("async-dropped");
    let ring = Ring::<u64>::builder(&name).slots(16).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let mut check = |mut consumer: AsyncConsumer<u64>| {
        assert!(consumer.recv().now_or_never().is_none());
        let sequence = producer.publish(&5);
        assert_eq!(block_on(consumer.recv()), Ok(5));
        assert!(consumer.recv().now_or_never().is_none());
        let mut consumer = consumer.into_inner();
        assert_eq!(consumer.cursor(), sequence + 1);
        producer.publish(&6);
        assert_eq!(consumer.recv(), Ok(6));
    };
    check(ring.consumer().attach().into_async().unwrap());
    check(Ring::open_read_only(&name).unwrap().consumer().attach().into_async().unwrap());
}

#[test]
fn losses_are_items_and_the_end_is_the_end() {
    let name = Name::new("async-losses");
    let ring = Ring::<u64>::builder(&name).slots(8).create().unwrap();
    let mut producer = ring.producer().unwrap();
    let mut consumer = ring.consumer().attach().into_async().unwrap();
    (0..20).for_each(|n| assert_eq!(producer.publish(&n), n));
    producer.close();
    let items: Vec<_> = block_on(consumer.by_ref().collect());
    let Err(Lagged(lost)) = items[0] else {
        panic!("twenty messages went through 8 slots, but the first item is {:?}", items[0])
    };
    assert_eq!(items[1..], (lost..20).map(Ok).collect::<Vec<_>>());
    assert!(consumer.poll_next_unpin(&mut Context::from_waker(Waker::noop())).is_ready());
}

#[test]
fn a_ring_goes_with_its_last_handle_whoever_waited() {
    let name = Name::new("async-gone");
    let ring = Ring::<u64>::builder(&name).slots(8).create().unwrap();
    let path = ring.path().to_owned();
    let mut consumer = ring.consumer().attach().into_async().unwrap();
    assert!(consumer.recv().now_or_never().is_none());
    drop((consumer, ring));
    assert!(!path.exists(), "the thread that waits for tasks keeps the ring alive");
}
