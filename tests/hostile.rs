//! Segments as an enemy, a bug or a full disk would leave them: an error, or a ring that keeps
//! within its bounds; never a crash, a hang, or an allocation of the segment's choice.

mod support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::symlink;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::Mode;
use proptest::prelude::*;
use seqring::{Error, IfExists, Message, OnLag, Producer, ProducerKind, Ring, Start};
use support::role::PATIENCE;
use support::{Name, monotonic_ns, variant};

/// Word indices of the header, as `docs/layout.md` has them.
const MAGIC: usize = 0;
const ABI: usize = 1;
const SEGMENT_BYTES: usize = 2;
const INSTANCE: usize = 3;
const PAYLOAD_BYTES: usize = 5;
const META_BYTES: usize = 14;
const CREATED: usize = 15;
const READERS: usize = 16;
const STATE: usize = 32;
/// From here to the end of the control words, nothing makes a ring invalid but the head.
const RESERVED: usize = 20;
const PRODUCERS: usize = 18;
const PARKABLE: usize = 19;
const HEAD: usize = 48;
const TEXT: usize = 128;
const TABLE_WORD: usize = 512;
const SLOTS_WORD: usize = TABLE_WORD + 2560;

const SLOTS: usize = 8;
const SLOT_BYTES: usize = 24;
const METADATA: &[u8] = b"{\"unit\":\"EUR\"}";

/// Values at and beside every limit that there is.
fn extremes() -> Vec<u64> {
    let powers = [1, 12, 20, 29, 31, 32, 45, 46, 47, 61, 62, 63].map(|bits| 1u64 << bits);
    let mut values =
        vec![0, 3, 255, u64::MAX, u64::MAX / 3, u64::from_ne_bytes(*b"SEQRING2"), 4097];
    values.extend(
        powers.iter().flat_map(|power| [power - 1, *power, power + 1, power.wrapping_neg()]),
    );
    values
}

/// The types that hostile segments are opened as.
trait Kind: Message {
    const NAME: &str;
    fn make(name: &str) -> Ring<Self>;
    fn publish<S: ProducerKind>(producer: &mut Producer<Self, S>, slot_bytes: usize, count: usize);
    fn check(message: &Self::Owned, slot_bytes: usize);
}

impl Kind for u64 {
    const NAME: &str = "fixed";

    fn make(name: &str) -> Ring<u64> {
        Ring::builder(name).slots(SLOTS).metadata(METADATA).create().expect("a new ring")
    }

    fn publish<S: ProducerKind>(producer: &mut Producer<u64, S>, _: usize, count: usize) {
        (0..count as u64).for_each(|i| assert!(producer.publish(&i) < u64::MAX / 2));
    }

    fn check(_: &u64, slot_bytes: usize) {
        assert_eq!(slot_bytes, 8);
    }
}

impl Kind for [u8] {
    const NAME: &str = "variable";

    fn make(name: &str) -> Ring<[u8]> {
        Ring::builder(name)
            .slots(SLOTS)
            .slot_bytes(SLOT_BYTES)
            .metadata(METADATA)
            .create()
            .expect("a new ring")
    }

    fn publish<S: ProducerKind>(producer: &mut Producer<[u8], S>, slot_bytes: usize, count: usize) {
        (0..count).for_each(|i| assert!(producer.publish(&vec![7; i % (slot_bytes + 1)]).is_ok()));
    }

    fn check(message: &Vec<u8>, slot_bytes: usize) {
        assert!(message.len() <= slot_bytes, "{} bytes from a slot of {slot_bytes}", message.len());
    }
}

/// Whether other values of this header word also make a ring: of the lengths those that take as
/// many words.
fn may_differ<M: Kind + ?Sized>(word: usize) -> bool {
    matches!(word, INSTANCE | CREATED | META_BYTES | READERS | PRODUCERS)
        || (word == PAYLOAD_BYTES && M::NAME == "variable")
}

/// The words of a segment into which a producer has put two laps.
fn valid<M: Kind + ?Sized>(name: &str) -> Vec<u64> {
    let ring = M::make(name);
    let mut producer = ring.producer().expect("the only producer");
    M::publish(&mut producer, ring.slot_bytes(), 2 * SLOTS + 3);
    let bytes = fs::read(ring.path()).expect("our own file");
    bytes
        .chunks_exact(8)
        .map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes")))
        .collect()
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Makes huge allocations fail, and hangs end: a watchdog aborts the process when a segment takes
/// too long.
fn guard() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        setrlimit(Resource::RLIMIT_AS, 4 << 30, 4 << 30).expect("a process may limit itself");
        thread::spawn(|| {
            loop {
                thread::sleep(Duration::from_millis(500));
                let deadline = DEADLINE.load(Ordering::Relaxed);
                if deadline != 0 && monotonic_ns() > deadline {
                    eprintln!("a hostile segment has hung us for {PATIENCE:?}; which, a debugger can tell: this process aborts");
                    std::process::abort();
                }
            }
        });
    });
    DEADLINE.store(monotonic_ns() + PATIENCE.as_nanos() as u64, Ordering::Relaxed);
}

/// When the watchdog bites; every segment that is done moves it.
static DEADLINE: AtomicU64 = AtomicU64::new(0);

/// Lets everything that there is loose on the segment of `name`, as a ring of `M`. Returns what
/// opening said.
fn exercise<M: Kind + ?Sized>(name: &Name) -> Result<(), Error> {
    guard();
    let opened = Ring::<M>::open_read_only(name);
    let writable = Ring::<M>::open(name);
    assert_eq!(opened.is_ok(), writable.is_ok(), "{opened:?}, {writable:?}");
    if let Ok(ring) = &opened {
        consume(ring);
    }
    if let Ok(ring) = writable {
        let _ = (
            ring.head(),
            ring.epoch(),
            ring.is_producer_alive(),
            ring.created(),
            ring.type_name().len(),
            ring.metadata().len(),
        );
        match ring.producer() {
            Ok(mut producer) => {
                M::publish(&mut producer, ring.slot_bytes(), 3 * SLOTS);
                let newest = producer.next_sequence() - 1;
                // Consumers refuse to go beyond the limit of sequences, which no honest ring
                // reaches.
                if newest <= 1 << 62 {
                    let mut consumer = ring.consumer().start(Start::Sequence(newest)).attach();
                    M::check(&consumer.try_recv().expect("the newest message"), ring.slot_bytes());
                }
            }
            Err(Error::ProducerKind { .. }) => match ring.shared_producer() {
                Ok(mut producer) => M::publish(&mut producer, ring.slot_bytes(), 3 * SLOTS),
                Err(error) => assert_eq!(variant(&error), "Superseded", "{error}"),
            },
            Err(error) => assert_eq!(variant(&error), "Superseded", "{error}"),
        }
        consume(&ring);
    }
    opened.map(drop)
}

/// Every call of a consumer, from every start, by every policy.
fn consume<M: Kind + ?Sized>(ring: &Ring<M>) {
    let bytes = ring.slot_bytes();
    let starts = [
        Start::Next,
        Start::Newest,
        Start::Oldest,
        Start::Sequence(0),
        Start::Sequence(20),
        Start::Sequence(u64::MAX),
    ];
    for (start, on_lag) in
        starts.into_iter().zip([OnLag::Oldest, OnLag::Newest, OnLag::Stay].into_iter().cycle())
    {
        let mut consumer = ring.consumer().start(start).on_lag(on_lag).attach();
        for _ in 0..2 * SLOTS {
            let _ = consumer.try_recv().map(|message| M::check(&message, bytes));
        }
        let _ = consumer.try_latest().map(|message| M::check(&message, bytes));
        let _ = consumer
            .recv_timeout(Duration::from_micros(10))
            .map(|message| M::check(&message, bytes));
        // Only where it does not wait.
        let mut messages = Vec::new();
        consumer.seek(Start::Oldest);
        if consumer.lag() > 0
            && consumer.recv_timeout(Duration::ZERO).is_ok()
            && consumer.try_latest().is_ok()
        {
            consumer.seek(Start::Newest);
            let _ = consumer.recv_batch(&mut messages, 1000);
            messages.iter().for_each(|message| M::check(message, bytes));
        }
        let _ = (consumer.cursor(), consumer.received(), consumer.lost(), consumer.skipped());
    }
}

/// Exercises these bytes as a segment, and lets creators deal with them.
fn exercise_bytes<M: Kind + ?Sized>(name: &Name, bytes: &[u8]) -> Result<(), Error> {
    fs::write(name.path(), bytes).expect("a file in /dev/shm");
    let result = exercise::<M>(name);
    fs::write(name.path(), bytes).expect("a file in /dev/shm");
    let attached = Ring::<M>::builder(name).slots(SLOTS).if_exists(IfExists::Attach).create();
    drop(attached);
    result
}

/// Whatever a file holds: when nobody uses it, the next creator gets its ring.
fn expect_replaceable(name: &Name, what: &str) {
    guard();
    match Ring::<u64>::builder(name).slots(SLOTS).create() {
        Ok(ring) => assert_eq!((ring.head(), ring.slots()), (0, SLOTS)),
        Err(error) => panic!("{what}: {error}"),
    }
}

/// A test for both kinds of ring.
macro_rules! for_both_kinds {
    ($($test:ident)*) => {
        mod fixed { $(#[test] fn $test() { super::$test::<u64>(); })* }
        mod variable { $(#[test] fn $test() { super::$test::<[u8]>(); })* }
    };
}

for_both_kinds! { truncated bits_flipped extremes_in_every_field slots_of_garbage heads_near_the_limit random_damage }

fn truncated<M: Kind + ?Sized>() {
    let name = Name::new(&format!("truncated-{}", M::NAME));
    let bytes = bytes_of(&valid::<M>(&name));
    let edges = [0, 8, 16, 64, 128, 256, 264, 1024, 1024 + 8, 4096, bytes.len() - 8, bytes.len()];
    let lengths =
        edges.into_iter().flat_map(|edge: usize| [edge.saturating_sub(1), edge, edge + 1]);
    for length in lengths.chain((0..bytes.len()).step_by(97)).filter(|length| *length < bytes.len())
    {
        let error = exercise_bytes::<M>(&name, &bytes[..length]).expect_err("not a whole ring");
        assert!(
            matches!(error, Error::Invalid { .. } | Error::NotReady { .. }),
            "{length} bytes: {error}"
        );
        expect_replaceable(&name, &format!("{length} bytes"));
    }
    for more in [1, 7, 8, 4096] {
        let longer: Vec<u8> = bytes.iter().copied().chain(vec![0; more]).collect();
        let result = exercise_bytes::<M>(&name, &longer);
        // Less than a word does not count.
        assert_eq!(result.is_err(), more >= 8, "{more} bytes more: {result:?}");
    }
}

fn bits_flipped<M: Kind + ?Sized>() {
    let name = Name::new(&format!("flipped-{}", M::NAME));
    let words = valid::<M>(&name);
    let texts = TEXT..TEXT + name.len().div_ceil(8) + 1 + METADATA.len().div_ceil(8);
    for word in (0..=HEAD).chain(texts) {
        for bit in 0..64 {
            let mut flipped = words.clone();
            flipped[word] ^= 1 << bit;
            let result = exercise_bytes::<M>(&name, &bytes_of(&flipped));
            let said = result.as_ref().err().map(variant);
            let place = format!("bit {bit} of word {word}: {said:?}");
            match word {
                word if may_differ::<M>(word) => {}
                MAGIC => assert_eq!(said.as_deref(), Some("Invalid"), "{place}"),
                ABI => assert_eq!(said.as_deref(), Some("Version"), "{place}"),
                PARKABLE => assert_eq!(result.is_err(), bit > 0, "{place}"),
                SEGMENT_BYTES..RESERVED => assert!(result.is_err(), "{place}"),
                HEAD => assert_eq!(result.is_err(), bit >= 62, "{place}"),
                // It is 1 and may be 0.
                RESERVED..HEAD => assert!(result.is_ok(), "{place}"),
                // The texts: name and type are checked; the metadata is the caller's, and padding
                // nobody's.
                _ => assert!(
                    said.is_none_or(|said| ["NameCollision", "TypeMismatch"].contains(&&*said)),
                    "bit {bit} of word {word}"
                ),
            }
        }
    }
    // Each byte of the name and of the type's name counts.
    for byte in 0..name.len() {
        let mut bytes = bytes_of(&words);
        bytes[TEXT * 8 + byte] ^= 0x20;
        let error = exercise_bytes::<M>(&name, &bytes).expect_err("another name");
        assert_eq!(variant(&error), "NameCollision", "byte {byte}");
    }
    let mut bytes = bytes_of(&words);
    bytes[(TEXT + name.len().div_ceil(8)) * 8] ^= 1;
    assert_eq!(
        variant(&exercise_bytes::<M>(&name, &bytes).expect_err("another type")),
        "TypeMismatch"
    );
}

fn extremes_in_every_field<M: Kind + ?Sized>() {
    let name = Name::new(&format!("extremes-{}", M::NAME));
    let words = valid::<M>(&name);
    for word in (0..RESERVED).chain([HEAD]) {
        for value in extremes() {
            let mut changed = words.clone();
            changed[word] = value;
            let result = exercise_bytes::<M>(&name, &bytes_of(&changed));
            let harmless =
                changed == words || may_differ::<M>(word) || (word == PARKABLE && value <= 1);
            if !harmless && word != HEAD {
                assert!(result.is_err(), "{value:#x} in word {word}");
            }
            if word == HEAD {
                assert_eq!(result.is_err(), value > 1 << 62, "a head of {value:#x}");
            }
        }
    }
    // Two fields that agree with each other.
    for value in extremes() {
        let mut changed = words.clone();
        (changed[SEGMENT_BYTES], changed[7]) = (value, value / 16);
        assert!(
            exercise_bytes::<M>(&name, &bytes_of(&changed)).is_err(),
            "{value:#x} bytes and a matching number of slots"
        );
    }
}

fn slots_of_garbage<M: Kind + ?Sized>() {
    let name = Name::new(&format!("garbage-{}", M::NAME));
    let words = valid::<M>(&name);
    for garbage in extremes() {
        let mut changed = words.clone();
        changed[SLOTS_WORD..].fill(garbage);
        exercise_bytes::<M>(&name, &bytes_of(&changed)).expect("the header is fine");
        // Every slot ready, and whatever else is in it (the length, if there is one) garbage.
        let stride = (words.len() - SLOTS_WORD) / SLOTS;
        for slot in 0..SLOTS {
            changed[SLOTS_WORD + slot * stride] = 4 * (SLOTS + slot) as u64 + 2;
        }
        changed[HEAD] = 2 * SLOTS as u64;
        exercise_bytes::<M>(&name, &bytes_of(&changed)).expect("the header is fine");
        let ring = {
            fs::write(name.path(), bytes_of(&changed)).expect("a file in /dev/shm");
            Ring::<M>::open_read_only(&name).expect("the header is fine")
        };
        let mut consumer = ring.consumer().start(Start::Oldest).attach();
        for _ in 0..SLOTS {
            M::check(&consumer.try_recv().expect("a ready slot"), ring.slot_bytes());
        }
    }
}

fn heads_near_the_limit<M: Kind + ?Sized>() {
    let name = Name::new(&format!("heads-{}", M::NAME));
    let words = valid::<M>(&name);
    for head in (0..=3 * SLOTS as u64).map(|below| (1 << 62) - below) {
        for state in [0, 1, 2, 3, 4, u64::MAX] {
            let mut changed = words.clone();
            (changed[HEAD], changed[STATE]) = (head, state);
            exercise_bytes::<M>(&name, &bytes_of(&changed))
                .expect("sequences up to 2^62 are allowed");
        }
    }
}

/// Any damage to any words, with values that hurt and lengths that do not fit.
fn random_damage<M: Kind + ?Sized>() {
    let name = Name::new(&format!("damage-{}", M::NAME));
    let words = valid::<M>(&name);
    let value = prop_oneof![any::<u64>(), 0..64u64, prop::sample::select(extremes())];
    let place = prop_oneof![3 => 0..=HEAD, 1 => TEXT..TEXT + 16, 3 => TABLE_WORD..SLOTS_WORD, 3 => SLOTS_WORD..words.len()];
    let length = prop_oneof![4 => Just(words.len() * 8), 1 => 0..words.len() * 8 + 5000];
    let damage = (prop::collection::vec((place, value), 0..8), length);
    let config =
        ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((changes, length) in damage)| {
        let mut changed = words.clone();
        changes.iter().for_each(|(word, value)| changed[*word] = *value);
        let mut bytes = bytes_of(&changed);
        bytes.resize(length, 0xa5);
        let _ = exercise_bytes::<M>(&name, &bytes);
        expect_replaceable(&name, "damaged");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..6000), magic in any::<bool>()) {
        let name = Name::new("random");
        let mut bytes = bytes;
        if let (true, Some(start)) = (magic, bytes.get_mut(..16)) {
            start[..8].copy_from_slice(b"SEQRING1");
            start[8..].copy_from_slice(&1u64.to_ne_bytes());
        }
        prop_assert!(exercise_bytes::<u64>(&name, &bytes).is_err());
        prop_assert!(exercise_bytes::<[u8]>(&name, &bytes).is_err());
        expect_replaceable(&name, "random bytes");
    }
}

#[test]
fn a_ring_that_cannot_be_mapped_leaves_nothing() {
    guard();
    let name = Name::new("unmappable");
    // There may be space for it, but not within the limit of this process.
    let result = Ring::<[u8]>::builder(&name).slots(5).slot_bytes(1 << 30).create();
    let error = result.expect_err("beyond the limit");
    assert!(matches!(error, Error::Io { .. } | Error::NoSpace { .. }), "{error}");
    assert!(!name.path().exists(), "{} is left", name.path().display());
}

#[test]
fn sparse_files_of_absurd_sizes() {
    let name = Name::new("sparse");
    for size in [
        1 << 20,
        1 << 32,
        1 << 40,
        1 << 45,
        1 << 46,
        (1 << 46) + 1,
        1 << 47,
        i64::MAX as u64 - 4095,
    ] {
        guard();
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(name.path())
            .expect("a file in /dev/shm");
        file.set_len(size).expect("a sparse file");
        let error = exercise::<u64>(&name).expect_err("nothing but a hole");
        assert!(
            matches!(error, Error::NotReady { .. } | Error::Invalid { .. } | Error::Io { .. }),
            "{size} bytes: {error}"
        );
        let _ = Ring::<u64>::builder(&name).slots(SLOTS).if_exists(IfExists::Attach).create();
        let _ = Ring::<u64>::builder(&name).slots(SLOTS).create();
        let _ = fs::remove_file(name.path());
    }
}

/// Neither followed, nor waited for, nor removed.
#[test]
fn other_things_than_files() {
    guard();
    let name = Name::new("things");
    let target = Name::new("things-target");
    fs::write(target.path(), bytes_of(&valid::<u64>(&target))).expect("a file in /dev/shm");
    let before = fs::read(target.path()).expect("our own file");
    let things: [(&str, &dyn Fn()); 4] = [
        ("link", &|| symlink(target.path(), name.path()).expect("a link")),
        ("dangling link", &|| {
            symlink("/dev/shm/seqring.no-such-ring", name.path()).expect("a link")
        }),
        ("fifo", &|| nix::unistd::mkfifo(name.path(), Mode::S_IRWXU).expect("a fifo")),
        ("directory", &|| fs::create_dir(name.path()).expect("a directory")),
    ];
    for (thing, make) in things {
        make();
        let error = exercise::<u64>(&name).expect_err("no ring");
        assert!(matches!(error, Error::Invalid { .. } | Error::Io { .. }), "{thing}: {error}");
        assert!(Ring::<u64>::open_wait(&name, Duration::from_millis(20)).is_err(), "{thing}");
        for policy in [IfExists::Error, IfExists::Attach, IfExists::ReplaceStale] {
            let error = Ring::<u64>::builder(&name).if_exists(policy).create().expect_err(thing);
            assert!(error.to_string().contains(&*name), "{error}");
        }
        assert!(name.path().symlink_metadata().is_ok(), "the {thing} was removed");
        assert!(Ring::<u64>::unlink(&name).is_err(), "{thing}");
        let _ = fs::remove_file(name.path()).or_else(|_| fs::remove_dir(name.path()));
    }
    assert_eq!(
        fs::read(target.path()).expect("our own file"),
        before,
        "the link's target was touched"
    );
}
