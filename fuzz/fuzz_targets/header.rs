//! Any bytes as the segment of a ring: opening gives an error or a ring that keeps within its
//! bounds.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use seqring::{Message, OnLag, Ring, Start};

const SLOTS: usize = 5;
const SLOT_BYTES: usize = 300;

static NAME: LazyLock<String> = LazyLock::new(|| format!("fuzz-header-{}", std::process::id()));
static PATH: LazyLock<PathBuf> =
    LazyLock::new(|| PathBuf::from(format!("/dev/shm/seqring.{}", *NAME)));

/// Segments with some messages in them: of numbers, and of bytes.
static VALID: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let numbers = {
        let ring = Ring::<u64>::builder(&NAME).slots(SLOTS).create().expect("a new ring");
        ring.producer().expect("the only producer").publish_batch(&[1, 2, 3, 4, 5, 6, 7]);
        fs::read(&*PATH).expect("our own file")
    };
    let bytes = {
        let ring = Ring::<[u8]>::builder(&NAME)
            .slots(SLOTS)
            .slot_bytes(SLOT_BYTES)
            .create()
            .expect("a new ring");
        let messages = [&[7; 300][..], &[8; 10], b"", &[9; 299], &[1; 7], &[2; 8]];
        ring.producer().expect("the only producer").publish_batch(messages).expect("they fit");
        fs::read(&*PATH).expect("our own file")
    };
    [numbers, bytes]
});

#[derive(Debug, Arbitrary)]
enum Segment {
    Raw(Vec<u8>),
    /// A valid segment with some words changed, and another length if there is one.
    Damaged {
        of_bytes: bool,
        words: Vec<(u16, u64)>,
        length: Option<u16>,
    },
}

impl Segment {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Raw(bytes) => bytes,
            Self::Damaged { of_bytes, words, length } => {
                let mut bytes = VALID[usize::from(of_bytes)].clone();
                for (word, value) in words {
                    let at = usize::from(word) * 8 % bytes.len();
                    bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
                }
                bytes.resize(length.map_or(bytes.len(), usize::from), 0);
                bytes
            }
        }
    }
}

fuzz_target!(|segment: Segment| {
    fs::write(&*PATH, segment.bytes()).expect("a file in /dev/shm");
    let numbers = (Ring::<u64>::open_read_only(&NAME), Ring::<u64>::open(&NAME));
    let bytes = (Ring::<[u8]>::open_read_only(&NAME), Ring::<[u8]>::open(&NAME));
    // Now, so that nothing is left if the rest fails.
    fs::remove_file(&*PATH).expect("our own file");
    assert_eq!(numbers.0.is_ok(), numbers.1.is_ok());
    assert_eq!(bytes.0.is_ok(), bytes.1.is_ok());

    for ring in [&numbers.0, &numbers.1].into_iter().flatten() {
        consume(ring, |_| ());
    }
    for ring in [&bytes.0, &bytes.1].into_iter().flatten() {
        consume(ring, |message| assert!(message.len() <= ring.slot_bytes()));
    }
    if let Ok(mut producer) = numbers.1.and_then(|ring| ring.producer()) {
        (0..2 * SLOTS as u64).for_each(|message| drop_sequence(producer.publish(&message)));
    }
    if let Ok(ring) = bytes.1 {
        if let Ok(mut producer) = ring.producer() {
            let message = vec![3; ring.slot_bytes()];
            (0..2 * SLOTS)
                .for_each(|_| drop_sequence(producer.publish(&message).expect("it fits")));
        }
        consume(&ring, |message| assert!(message.len() <= ring.slot_bytes()));
    }
});

fn drop_sequence(sequence: u64) {
    assert!(sequence < 1 << 63);
}

/// Every call of a consumer that does not wait, and one that does.
fn consume<M: Message + ?Sized>(ring: &Ring<M>, check: impl Fn(&M::Owned)) {
    let _ = (
        ring.head(),
        ring.epoch(),
        ring.is_producer_alive(),
        ring.created(),
        ring.type_name().len(),
        ring.metadata().len(),
    );
    let starts =
        [Start::Oldest, Start::Newest, Start::Next, Start::Sequence(0), Start::Sequence(u64::MAX)];
    for (start, on_lag) in
        starts.into_iter().zip([OnLag::Oldest, OnLag::Newest, OnLag::Stay].into_iter().cycle())
    {
        let mut consumer = ring.consumer().start(start).on_lag(on_lag).attach();
        for _ in 0..2 * SLOTS {
            let _ = consumer.try_recv().map(|message| check(&message));
        }
        let _ = consumer.try_latest().map(|message| check(&message));
        let _ = consumer.lag();
        consumer.seek(start);
        let _ = consumer.try_recv().map(|message| check(&message));
    }
    let mut consumer = ring.consumer().start(Start::Oldest).attach();
    let _ = consumer.recv_timeout(Duration::ZERO).map(|message| check(&message));
}
