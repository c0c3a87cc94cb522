//! A writer and readers that are killed at random: whoever is alive goes on, and sees nothing but whole messages in order.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use seqring::{CloseReason, IfExists, OnLag, RecvTimeoutError, Ring, Start};
use support::role::{self, Child, PATIENCE};
use support::{Name, monotonic_ns};

const KILLS: usize = 200;
const READERS: usize = 4;
const SLOTS: usize = 32;
/// Both kinds of copy happen: most messages are far smaller than a slot, some fill it.
const SLOT_BYTES: usize = 64 * 1024;
/// How often a child says how far it is.
const REPORT: Duration = Duration::from_millis(2);

/// SplitMix64, the generator: all of a message follows from its sequence.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

fn message(sequence: u64) -> Vec<u8> {
    let mut random = Random(sequence);
    let length = match random.below(8) {
        0 => SLOT_BYTES,
        1 => 257 + random.below(4096) as usize,
        _ => random.below(256) as usize,
    };
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_ne_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Publishes until the input ends; says how many messages there are.
fn writer(name: &str) {
    let ring = Ring::<[u8]>::builder(name).slots(SLOTS).slot_bytes(SLOT_BYTES).if_exists(IfExists::Attach).persistent(true).create();
    let ring = ring.unwrap_or_else(|error| panic!("the writer cannot start: {error}"));
    let mut producer = ring.producer().unwrap_or_else(|error| panic!("the writer cannot produce: {error}"));
    // Where it takes over, first of all.
    role::say(&format!("{} {}", producer.next_sequence(), ring.epoch()));
    let mut said = Some(Instant::now());
    let end = end_of_input();
    while !end.load(Ordering::Relaxed) {
        let first = producer.next_sequence();
        // By one call, by pieces, or as a batch: a kill can come between those.
        let published = match first % 3 {
            0 => {
                let bytes = message(first);
                producer.publish_with(|slot| bytes.chunks(1000).try_for_each(|piece| slot.write(piece))).map(|_| ())
            }
            1 => producer.publish_batch((first..first + 1 + first % 8).map(message)).map(|_| ()),
            _ => producer.publish(&message(first)).map(|_| ()),
        };
        assert_eq!(published, Ok(()));
        report(&mut said, producer.next_sequence(), ring.epoch());
        thread::sleep(Duration::from_micros(20));
    }
    producer.close();
}

/// Receives until the ring is closed; says how far it is.
fn reader(name: &str) {
    let ring = Ring::<[u8]>::open_wait(name, PATIENCE).unwrap_or_else(|error| panic!("the reader cannot start: {error}"));
    let mut consumer = ring.consumer().start(Start::Oldest).on_lag(OnLag::Oldest).attach();
    let start = consumer.cursor();
    let mut bytes = Vec::new();
    let (mut said, mut next) = (None, start);
    loop {
        match consumer.recv_timeout_into(&mut bytes, Duration::from_millis(50)) {
            Ok(()) => {
                let sequence = consumer.cursor() - 1;
                assert!(sequence >= next, "message {sequence} after {next}");
                next = sequence + 1;
                assert!(bytes == message(sequence), "message {sequence} is damaged");
            }
            Err(RecvTimeoutError::Lagged(n)) => assert!(n > 0),
            Err(RecvTimeoutError::Timeout) => {}
            Err(error @ RecvTimeoutError::Cancelled) => panic!("{error}"),
            // Somebody will restart it.
            Err(RecvTimeoutError::Closed(CloseReason::ProducerDied)) => thread::sleep(Duration::from_millis(1)),
            Err(RecvTimeoutError::Closed(CloseReason::Closed)) => break,
            Err(RecvTimeoutError::Closed(other)) => panic!("nothing but a death ends this ring: {other}"),
        }
        assert_eq!(start + consumer.received() + consumer.lost(), consumer.cursor());
        report(&mut said, consumer.cursor(), ring.epoch());
    }
    assert_eq!(consumer.cursor(), ring.head(), "closed before the last message");
    role::say(&format!("{} {} closed", consumer.cursor(), ring.epoch()));
}

/// Says the progress, if the last time was long enough ago.
fn report(said: &mut Option<Instant>, progress: u64, epoch: u64) {
    if said.is_none_or(|said| said.elapsed() >= REPORT) {
        *said = Some(Instant::now());
        role::say(&format!("{progress} {epoch}"));
    }
}

/// Becomes true at the end of the input.
fn end_of_input() -> Arc<AtomicBool> {
    let end = Arc::new(AtomicBool::new(false));
    let ended = end.clone();
    thread::spawn(move || {
        while role::hear().is_some() {}
        ended.store(true, Ordering::Relaxed);
    });
    end
}

#[test]
fn role() {
    match role::current() {
        None => {}
        Some((role, name)) if role == "writer" => writer(&name),
        Some((role, name)) if role == "reader" => reader(&name),
        Some((role, _)) => panic!("no role is called {role:?}"),
    }
}

/// A child, and what it last said.
struct Actor {
    child: Child,
    role: &'static str,
    progress: u64,
    epoch: u64,
    /// When it last got further.
    moved: Instant,
    closed: bool,
}

impl Actor {
    fn start(role: &'static str, name: &str) -> Self {
        Self { child: Child::start(role, name), role, progress: 0, epoch: 0, moved: Instant::now(), closed: false }
    }

    /// Hears what it says and checks it; fails if it has ended or hangs. Returns whether it got further.
    fn watch(&mut self) -> bool {
        let before = self.progress;
        let lines: Vec<String> = self.child.lines_so_far().collect();
        for line in lines {
            let mut words = line.split(' ');
            let mut number =
                || words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_else(|| panic!("a {} said {line:?}", self.role));
            let (progress, epoch) = (number(), number());
            self.closed |= words.next().is_some();
            assert!(progress >= self.progress, "a {} went from {} back to {progress}", self.role, self.progress);
            (self.progress, self.epoch) = (progress, epoch);
        }
        if self.progress > before {
            self.moved = Instant::now();
        }
        let id = self.child.id();
        assert!(self.moved.elapsed() < PATIENCE, "{} {id} stays at {} for {PATIENCE:?}", self.role, self.progress);
        self.progress > before
    }

    fn expect_alive(&mut self) {
        let ended = self.child.ended();
        assert!(ended.is_none(), "{} {} ended by itself: {ended:?}", self.role, self.child.id());
    }
}

#[test]
fn survivors_of_two_hundred_kills_go_on() {
    let name = Name::new("chaos");
    // Another run, another choice; printed to tell which when it fails.
    let seed = monotonic_ns();
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut actors = vec![Actor::start("writer", &name)];
    actors.extend((0..READERS).map(|_| Actor::start("reader", &name)));
    let mut killed = HashMap::new();
    let mut survived_restarts = 0;
    for _ in 0..KILLS {
        // Who is to be killed next (the writer three times as often as each reader), and after how much of its life: from its first instructions to well under way.
        let victim = random.below(2 + actors.len() as u64).saturating_sub(2) as usize;
        let started = Instant::now();
        let wait = Duration::from_millis(random.below(25));
        let mut progress = false;
        while started.elapsed() < wait || !progress {
            for actor in &mut actors {
                progress |= actor.watch();
                actor.expect_alive();
            }
            thread::sleep(Duration::from_micros(500));
        }
        actors[victim].child.kill();
        // What anybody has received is published, whether or not its writer lived to count it: the next one continues behind
        // that.
        actors.iter_mut().for_each(|actor| {
            actor.watch();
        });
        let reached = actors.iter().map(|actor| actor.progress).max().unwrap_or_default();
        let actor = &mut actors[victim];
        let (role, epoch) = (actor.role, actor.epoch);
        *killed.entry(role).or_insert(0) += 1;
        *actor = Actor::start(role, &name);
        if role == "writer" {
            actor.progress = reached;
            // Every other time, see the readers through the change before the next kill.
            if random.below(2) == 0 {
                survived_restarts += see_through(&mut actors, epoch);
            }
        }
    }
    println!("killed {killed:?}; readers seen to go on behind a restart of the writer: {survived_restarts}");
    assert!(killed.len() == 2 && survived_restarts > 0, "the kills did not cover the ground: {killed:?}");

    // The end: everybody leaves in order.
    let mut actors = actors.into_iter();
    actors.next().expect("the writer").child.finish();
    for mut reader in actors {
        while !reader.closed {
            reader.watch();
            thread::sleep(Duration::from_millis(1));
        }
        reader.child.finish();
    }
    // And the next start cleans up.
    let next = Ring::<[u8]>::builder(&name).slots(4).slot_bytes(8).create().expect("what is left is stale");
    assert_eq!((next.head(), next.slots()), (0, 4));
    drop(next);
    assert!(!name.path().exists(), "{} is left", name.path().display());
}

/// Waits until all readers have received from the writer that follows the one of `epoch`; returns how many did.
fn see_through(actors: &mut [Actor], epoch: u64) -> usize {
    let from: Vec<u64> = actors.iter().map(|actor| actor.progress).collect();
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        for actor in &mut *actors {
            actor.watch();
            actor.expect_alive();
        }
        if actors.iter().zip(&from).all(|(actor, from)| actor.progress > *from && actor.epoch > epoch) {
            return actors.len() - 1;
        }
        thread::sleep(Duration::from_micros(500));
    }
    let now: Vec<_> = actors.iter().map(|actor| (actor.role, actor.progress, actor.epoch)).collect();
    panic!("{PATIENCE:?} after a restart of the writer of epoch {epoch}, not all have come from {from:?} into another epoch: {now:?}");
}
