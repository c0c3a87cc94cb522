//! A ring over loom's atomics, and a reader that checks every promise on every call.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed as Ghostly;
use std::sync::atomic::{AtomicU64 as Ghost, Ordering};

use seqring::layout::{Geometry, HEAD, Kind, WORD};
use seqring::ring::{OnLag, Reader, Start, TryRecvError, Writer, head};
use seqring::sync::{AtomicU64, zeroed};

/// Words of a payload: two, so that a copy can be torn.
const PAYLOAD_WORDS: usize = 2;

/// What message `sequence` says. The second word is the complement of the first, so that no mixture of two messages,
/// and no mixture with fresh memory, looks like a message.
pub fn payload(sequence: u64) -> [u64; PAYLOAD_WORDS] {
    let value = 1000 + sequence;
    [value, !value]
}

/// Writes `words` behind a stamp, as the copy of a ring of word granularity does.
pub fn store_payload(body: &[AtomicU64], words: [u64; PAYLOAD_WORDS]) {
    for (word, value) in body.iter().zip(words) {
        word.store(value, Ordering::Relaxed);
    }
}

/// Copies a payload out from behind a stamp.
pub fn take_payload(body: &[AtomicU64]) -> [u64; PAYLOAD_WORDS] {
    [body[0].load(Ordering::Relaxed), body[1].load(Ordering::Relaxed)]
}

/// A ring without the texts and the padding of a real segment: loom's cost grows with the number of atomics.
#[derive(Debug, Clone)]
pub struct Ring {
    words: Arc<[AtomicU64]>,
    geometry: Geometry,
    /// Ghost: number of messages that a writer has begun to write, ahead of its first store. Not part of the model's
    /// memory: what is read here has happened in this execution, whatever the reader's view of the ring.
    begun: Arc<Ghost>,
}

impl Ring {
    /// A ring of `slots` slots that no producer has opened yet.
    pub fn new(slots: usize) -> Self {
        let geometry = Geometry {
            kind: Kind::Fixed,
            payload_bytes: PAYLOAD_WORDS * WORD,
            payload_align: WORD,
            slots,
            stride: 1 + PAYLOAD_WORDS,
            slots_word: HEAD + 1,
        };
        Self { words: zeroed(geometry.end_word()).into(), geometry, begun: Arc::new(Ghost::new(0)) }
    }

    /// The segment's memory.
    pub fn words(&self) -> &[AtomicU64] {
        &self.words
    }

    /// Number of messages that the head counts, as the calling thread may see it.
    pub fn head(&self) -> u64 {
        head(&self.words)
    }

    /// Opens the ring as its producer.
    pub fn writer(&self) -> Writer {
        Writer::resume(&self.words, self.geometry)
    }

    /// Publishes the next message.
    pub fn publish(&self, writer: &mut Writer) {
        let sequence = writer.next();
        self.begin(sequence);
        let Ok(published) = writer.publish(&self.words, |body| -> Result<(), Infallible> {
            store_payload(body, payload(sequence));
            Ok(())
        });
        assert_eq!(published, sequence);
    }

    /// Publishes the next `messages` one after the other.
    pub fn publish_each(&self, writer: &mut Writer, messages: u64) {
        (0..messages).for_each(|_| self.publish(writer));
    }

    /// Notes that the message with this sequence is about to be written.
    pub fn begin(&self, sequence: u64) {
        self.begun.fetch_max(sequence + 1, Ghostly);
    }

    /// A reader that starts at `start`.
    pub fn follower(&self, start: Start, on_lag: OnLag) -> Follower {
        let reader = Reader::new(&self.words, self.geometry, start, on_lag);
        Follower { ring: self.clone(), start: reader.cursor(), on_lag, reader }
    }
}

/// A reader that checks what it is told: payloads are whole and of the expected message, no message comes twice or out
/// of order, every message is accounted for, and none is given up that could not have been overwritten.
#[derive(Debug)]
pub struct Follower {
    ring: Ring,
    on_lag: OnLag,
    start: u64,
    /// The reader itself.
    pub reader: Reader,
}

impl Follower {
    /// Receives the next message and returns its sequence.
    ///
    /// # Errors
    /// Those of [`Reader::try_read`].
    pub fn recv(&mut self) -> Result<u64, TryRecvError> {
        let before = self.reader.cursor();
        let result = self.reader.try_read(&self.ring.words, take_payload);
        let received = result.map(|words| {
            assert_eq!(words, payload(before), "the payload is not that of message {before}");
            assert_eq!(self.reader.cursor(), before + 1);
            before
        });
        self.check(before, received.err());
        received
    }

    /// Receives the next message if it is ready and returns its sequence, as a batch does.
    pub fn recv_ready(&mut self) -> Option<u64> {
        let before = self.reader.cursor();
        let words = self.reader.read_ready(&self.ring.words, take_payload);
        self.check(before, None);
        words.map(|words| {
            assert_eq!(words, payload(before), "the payload is not that of message {before}");
            before
        })
    }

    /// Receives the newest message and returns its sequence.
    ///
    /// # Errors
    /// Those of [`Reader::latest`].
    pub fn latest(&mut self) -> Result<u64, TryRecvError> {
        let before = self.reader.cursor();
        let received = self.reader.latest(&self.ring.words, take_payload).map(|words| {
            let sequence = self.reader.cursor() - 1;
            assert!(sequence >= before, "went back from {before} to {sequence}");
            assert_eq!(words, payload(sequence), "the payload is not that of message {sequence}");
            sequence
        });
        self.check(self.reader.cursor(), None);
        received
    }

    /// Receives until there is nothing new, without a writer running; returns the end.
    pub fn drain(&mut self) -> TryRecvError {
        loop {
            match self.recv() {
                Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                Err(end) => return end,
            }
        }
    }

    fn check(&self, before: u64, error: Option<TryRecvError>) {
        let (reader, slots) = (&self.reader, self.ring.geometry.slots as u64);
        let accounted = self.start + reader.received() + reader.lost() + reader.skipped();
        assert_eq!(accounted, reader.cursor(), "start + received + lost + skipped is not the cursor: {reader:?}");
        let begun = self.ring.begun.load(Ghostly);
        if let Some(TryRecvError::Lagged(lost)) = error {
            assert!(lost > 0, "lagged by nothing");
            // Message m is overwritten by message m + slots. Going on at the oldest message, a reader also gives up the
            // one whose slot is the next to be written, and an eighth of the ring; at the newest, all before it.
            let justified = match self.on_lag {
                OnLag::Oldest => (begun + 1).saturating_sub(slots) + slots / 8,
                OnLag::Newest => begun.saturating_sub(1).max(before + 1),
                OnLag::Stay => (begun + 1).saturating_sub(slots),
            };
            assert!(before + slots < begun, "message {before} is said to be lost, but only {begun} messages were begun");
            assert!(before + lost <= justified, "lost {before} to {}, but only {begun} messages were begun", before + lost - 1);
        }
    }
}
