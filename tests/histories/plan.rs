//! What a run does: drawn by proptest, the same in threads and in processes.

use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// One ring, its producer and its consumers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    pub shape: Shape,
    pub slots: usize,
    pub publishing: Vec<Publish>,
    pub readings: Vec<Reading>,
}

/// The type of the messages.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Shape {
    /// 8 bytes.
    Word,
    /// 48 bytes.
    Line,
    /// 64 bytes, in slots that straddle lines.
    Straddling,
    /// 512 bytes, copied in bulk.
    Block,
    /// Any length up to this.
    Bytes(usize),
}

/// A step of the producer.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Publish {
    /// So many messages, one at a time.
    Single(u64),
    /// So many messages in one batch.
    Batch(u64),
    /// So many messages, each unless the ring is full.
    Try(u64),
    /// So many messages, each waiting for room for at most so many microseconds.
    Timeout(u64, u64),
    /// So many messages written piece by piece, if they are bytes.
    Built(u64),
    /// A message that is given up half-way, if they are bytes.
    Aborted,
    /// A message whose construction panics half-way, if they are bytes.
    Panicked,
    /// Microseconds of sleep.
    Pause(u64),
}

/// A consumer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reading {
    pub start: From,
    pub on_lag: Policy,
    pub standing: ConsumerKind,
    /// Attach only when a part of all messages (in percent) has been published; 0 is before the
    /// first.
    pub join_percent: u64,
    /// Through the mapping of the creator, where messages can be written, too. In threads only.
    pub writable: bool,
    pub calls: Vec<Call>,
    /// How often the calls are made, before what is left is received.
    pub rounds: usize,
    /// What is left is not received: the consumer leaves.
    pub leaves: bool,
}

/// What the producer has to do with a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsumerKind {
    Free,
    /// In the reader table, but nobody waits for it.
    Registered,
    /// The producer waits for it.
    Gating,
}

/// A call of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    TryRecv,
    TryRecvInto,
    Recv,
    /// With so many microseconds.
    RecvTimeout(u64),
    /// The next of the iterator.
    Next,
    /// At most so many.
    RecvBatch(usize),
    TryRecvBatch(usize),
    RecvEach(usize),
    TryRecvEach(usize),
    Latest,
    Seek(From),
    Lag,
    /// No call: microseconds of sleep.
    Pause(u64),
}

/// [`seqring::Start`], as data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum From {
    Next,
    Newest,
    Oldest,
    Sequence(u64),
}

/// How far behind the oldest message a lapped consumer goes on, if it goes on there.
pub fn margin(slots: u64) -> u64 {
    (slots / 8).max(4).min((slots - 1) / 2)
}

/// [`seqring::OnLag`], as data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    Oldest,
    Newest,
    Stay,
}

impl std::convert::From<From> for seqring::Start {
    fn from(from: From) -> Self {
        match from {
            From::Next => Self::Next,
            From::Newest => Self::Newest,
            From::Oldest => Self::Oldest,
            From::Sequence(sequence) => Self::Sequence(sequence),
        }
    }
}

impl std::convert::From<Policy> for seqring::OnLag {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Oldest => Self::Oldest,
            Policy::Newest => Self::Newest,
            Policy::Stay => Self::Stay,
        }
    }
}

impl Plan {
    /// Messages that are published whether or not the ring is full at times.
    pub fn messages(&self) -> u64 {
        let of = |step: &Publish| match (step, self.shape) {
            (Publish::Single(n) | Publish::Batch(n), _) | (Publish::Built(n), Shape::Bytes(_)) => {
                *n
            }
            _ => 0,
        };
        self.publishing.iter().map(of).sum()
    }

    /// Messages that are published only if there is room.
    pub fn tries(&self) -> u64 {
        let of = |step: &Publish| match step {
            Publish::Try(n) | Publish::Timeout(n, _) => *n,
            _ => 0,
        };
        self.publishing.iter().map(of).sum()
    }
}

/// Plans whose producer takes at most so many steps and waits for nobody.
pub fn plans(steps: usize) -> impl Strategy<Value = Plan> {
    let standings = prop_oneof![3 => Just(ConsumerKind::Free), 1 => Just(ConsumerKind::Registered)];
    plans_with(steps, publishes(), vec(readings(standings, 1), 1..=4))
}

/// Plans with consumers that gate, beside others. None of them can keep the producer waiting for
/// ever: each receives until the end or leaves, and waits only when it has received all there is.
pub fn gating_plans(steps: usize) -> impl Strategy<Value = Plan> {
    let standings = prop_oneof![2 => Just(ConsumerKind::Gating), 1 => Just(ConsumerKind::Free), 1 => Just(ConsumerKind::Registered)];
    // One gates from the head on or from what is older, mostly in the middle of things: there its
    // jump behind what it has missed must end before what it is owed.
    let old = prop_oneof![2 => froms(), 1 => Just(From::Oldest), 1 => (0..300u64).prop_map(From::Sequence)];
    let gating = (readings(Just(ConsumerKind::Gating), 3), old)
        .prop_map(|(gating, start)| Reading { start, ..gating });
    let readings = (gating, vec(readings(standings, 3), 0..=3)).prop_map(|(gating, mut others)| {
        others.push(gating);
        others
    });
    // Batches of many laps, for consumers to join in the middle of.
    let publishing = prop_oneof![5 => publishes(), 1 => (200..800u64).prop_map(Publish::Batch)];
    plans_with(steps, publishing, readings)
}

/// Plans for consumers of several producers, and for the first of these. None seeks or leaves, and
/// none stays where it has lost something.
pub fn shared_plans(steps: usize, gating: bool) -> impl Strategy<Value = Plan> {
    let standings = if gating {
        vec![
            ConsumerKind::Gating,
            ConsumerKind::Gating,
            ConsumerKind::Free,
            ConsumerKind::Registered,
        ]
    } else {
        vec![ConsumerKind::Free, ConsumerKind::Registered]
    };
    let shapes = prop_oneof![
        Just(Shape::Word),
        Just(Shape::Line),
        Just(Shape::Straddling),
        Just(Shape::Block),
        (8..=64usize).prop_map(Shape::Bytes),
        (1000..=4200usize).prop_map(Shape::Bytes)
    ];
    let slots = prop_oneof![Just(1usize), 2..=8usize, 9..=64usize];
    let readings =
        vec(readings(proptest::sample::select(standings), 1), 1..=3).prop_map(|mut readings| {
            for reading in &mut readings {
                reading.start = From::Next;
                reading.leaves = false;
                if reading.on_lag == Policy::Stay {
                    reading.on_lag = Policy::Oldest;
                }
                reading.calls.retain(|call| !matches!(call, Call::Seek(_)));
            }
            readings
        });
    (shapes, slots, vec(shared_publishes(), 1..steps), readings).prop_map(
        |(shape, slots, publishing, readings)| Plan { shape, slots, publishing, readings },
    )
}

/// What one of several producers does.
pub fn shared_publishes() -> impl Strategy<Value = Publish> {
    prop_oneof![
        4 => (1..100u64).prop_map(Publish::Single),
        2 => (1..50u64).prop_map(Publish::Try),
        1 => (1..20u64, 0..300u64).prop_map(|(count, micros)| Publish::Timeout(count, micros)),
        2 => (1..50u64).prop_map(Publish::Built),
        3 => (0..300u64).prop_map(Publish::Pause),
    ]
}

fn plans_with(
    steps: usize,
    publishing: impl Strategy<Value = Publish>,
    readings: impl Strategy<Value = Vec<Reading>>,
) -> impl Strategy<Value = Plan> {
    let slots = prop_oneof![Just(1usize), 2..=8usize, 9..=64usize];
    (shapes(), slots, vec(publishing, 1..steps), readings).prop_map(
        |(shape, slots, publishing, readings)| Plan { shape, slots, publishing, readings },
    )
}

fn shapes() -> impl Strategy<Value = Shape> {
    let bytes = prop_oneof![1..=64usize, 200..=300usize, 1000..=4200usize];
    prop_oneof![
        Just(Shape::Word),
        Just(Shape::Line),
        Just(Shape::Straddling),
        Just(Shape::Block),
        bytes.clone().prop_map(Shape::Bytes),
        bytes.prop_map(Shape::Bytes)
    ]
}

fn publishes() -> impl Strategy<Value = Publish> {
    prop_oneof![
        4 => (1..200u64).prop_map(Publish::Single),
        2 => (0..150u64).prop_map(Publish::Batch),
        2 => (1..100u64).prop_map(Publish::Try),
        1 => (1..20u64, 0..300u64).prop_map(|(count, micros)| Publish::Timeout(count, micros)),
        2 => (1..100u64).prop_map(Publish::Built),
        1 => Just(Publish::Aborted),
        1 => Just(Publish::Panicked),
        3 => (0..300u64).prop_map(Publish::Pause),
    ]
}

/// Consumers of which so many join late for three that join at the beginning.
fn readings(
    standings: impl Strategy<Value = ConsumerKind>,
    late: u32,
) -> impl Strategy<Value = Reading> {
    let policies = prop_oneof![Just(Policy::Oldest), Just(Policy::Newest), Just(Policy::Stay)];
    let join = prop_oneof![3 => Just(0), late => 1..=100u64];
    let leaves = prop_oneof![3 => Just(false), 1 => Just(true)];
    (froms(), policies, standings, join, any::<bool>(), vec(calls(), 1..20), 0..30usize, leaves)
        .prop_map(|(start, on_lag, standing, join_percent, writable, calls, rounds, leaves)| {
            Reading { start, on_lag, standing, join_percent, writable, calls, rounds, leaves }
        })
}

fn froms() -> impl Strategy<Value = From> {
    prop_oneof![
        Just(From::Next),
        Just(From::Newest),
        Just(From::Oldest),
        (0..3000u64).prop_map(From::Sequence)
    ]
}

fn calls() -> impl Strategy<Value = Call> {
    prop_oneof![
        6 => Just(Call::TryRecv),
        2 => Just(Call::TryRecvInto),
        6 => Just(Call::Recv),
        2 => (0..200u64).prop_map(Call::RecvTimeout),
        1 => Just(Call::Next),
        2 => (0..40usize).prop_map(Call::RecvBatch),
        1 => (0..40usize).prop_map(Call::TryRecvBatch),
        2 => (0..40usize).prop_map(Call::RecvEach),
        1 => (0..40usize).prop_map(Call::TryRecvEach),
        2 => Just(Call::Latest),
        1 => froms().prop_map(Call::Seek),
        2 => Just(Call::Lag),
        2 => (0..200u64).prop_map(Call::Pause),
    ]
}
