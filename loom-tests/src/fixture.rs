//! A ring over loom's atomics, and a reader that checks every promise on every call.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed as Ghostly;
use std::sync::atomic::{AtomicU64 as Ghost, Ordering};

use loom::cell::UnsafeCell;
use seqring::layout::{
    EVICTED, FREE, Geometry, HEAD, Kind, LINE, PRODUCER_ROW, ROSTER, ROW, ROWS, SLOT_MARK,
    SLOT_STAMP, Shape, WORD,
};
use seqring::protocol::publish::{Blocked, Publish, Upkeep};
use seqring::protocol::slot::Miss;
use seqring::protocol::{
    self, Blocker, Group, JoinRequest, Joined, OnLag, Order, Reader, Row, Start, TryRecvError,
    Writer, head, table,
};
use seqring::sync::{AtomicU64, zeroed};

/// Words of a payload: two, so that a copy can be torn.
const PAYLOAD_WORDS: usize = 2;

/// Words of a slot whose mark is apart from its stamp, with the payload behind it. In the models,
/// slots of fewer words have theirs in the stamp.
pub const LARGE_SLOT: usize = SLOT_MARK + 1 + PAYLOAD_WORDS;

/// Word of a slot of so many words that holds its mark.
pub fn mark_of(slot_words: usize) -> usize {
    if slot_words < LARGE_SLOT { SLOT_STAMP } else { SLOT_MARK }
}

/// What message `sequence` says. The second word is the complement of the first, so that no mixture
/// of two messages, and no mixture with fresh memory, looks like a message.
pub fn payload(sequence: u64) -> [u64; PAYLOAD_WORDS] {
    let value = 1000 + sequence;
    [value, !value]
}

/// The words of the payload, of those behind a stamp. A mark of its own comes before them.
pub fn payload_words(body: &[AtomicU64]) -> &[AtomicU64] {
    let first = mark_of(1 + body.len());
    &body[first..first + PAYLOAD_WORDS]
}

/// Writes `words` behind a stamp, as the copy of a ring of word granularity does.
pub fn store_payload(body: &[AtomicU64], words: [u64; PAYLOAD_WORDS]) {
    for (word, value) in payload_words(body).iter().zip(words) {
        word.store(value, Ordering::Relaxed);
    }
}

/// Copies a payload out from behind a stamp.
pub fn take_payload(body: &[AtomicU64]) -> [u64; PAYLOAD_WORDS] {
    let words = payload_words(body);
    [words[0].load(Ordering::Relaxed), words[1].load(Ordering::Relaxed)]
}

/// A ring without the texts and the padding of a real segment: loom's cost grows with the number of
/// atomics.
#[derive(Debug, Clone)]
pub struct Ring {
    words: Arc<[AtomicU64]>,
    geometry: Geometry,
    /// Ghost: number of messages that a writer has begun to write, ahead of its first store. Not
    /// part of the model's memory: what is read here has happened in this execution, whatever
    /// the reader's view of the ring.
    begun: Arc<Ghost>,
    /// Ghost: one per slot, held while a payload is written and while a gating consumer copies it.
    /// Loom panics unless each copy happened before the overwriting, by the orderings of the
    /// protocol: a copy that is whole by luck does not do. That is the only trace of an
    /// execution in which a copy is delayed behind the cursor, as loom has no such executions.
    payloads: Arc<[UnsafeCell<()>]>,
}

impl Ring {
    /// A ring of `slots` slots that no producer has opened yet, and that nobody can register with.
    pub fn new(slots: usize) -> Self {
        Self::with_readers(slots, 0)
    }

    /// A ring of `slots` slots, with a reader table of `readers` rows.
    pub fn with_readers(slots: usize, readers: usize) -> Self {
        Self::with_producers(slots, readers, 1)
    }

    /// A ring of `slots` slots for so many producers, with a reader table of `readers` rows.
    pub fn with_producers(slots: usize, readers: usize, producers: usize) -> Self {
        Self::with_slots_of(1 + PAYLOAD_WORDS, slots, readers, producers)
    }

    /// A ring of `slots` slots whose marks are apart from their stamps, for so many producers.
    /// Nobody can register with it.
    pub fn with_large_slots(slots: usize, producers: usize) -> Self {
        Self::with_slots_of(LARGE_SLOT, slots, 0, producers)
    }

    /// A ring of slots that are more than a line, so that batches are written in groups of a
    /// quarter of the ring, with a reader table.
    pub fn with_groups(slots: usize, readers: usize) -> Self {
        Self::with_slots_of(LINE + 1, slots, readers, 1)
    }

    fn with_slots_of(stride: usize, slots: usize, readers: usize, producers: usize) -> Self {
        // The reserved words at the start of the table overlap the header.
        let table_word = HEAD + 1 - ROSTER;
        let geometry = Geometry {
            kind: Kind::Fixed,
            payload_bytes: PAYLOAD_WORDS * WORD,
            payload_align: WORD,
            slots,
            stride,
            slots_word: table_word
                + ROWS
                + readers * ROW
                + if producers > 1 { producers * PRODUCER_ROW } else { 0 },
            readers,
            producers,
            table_word,
        };
        Self {
            words: zeroed(geometry.end_word()).into(),
            geometry,
            begun: Arc::new(Ghost::new(0)),
            payloads: (0..slots).map(|_| UnsafeCell::new(())).collect(),
        }
    }

    /// Word of each slot that holds its mark.
    pub fn mark(&self) -> usize {
        mark_of(self.geometry.stride)
    }

    /// The shape of the slots, whose mark goes by their size and not by that of the payload.
    pub(crate) fn shape(&self) -> Shape {
        Shape { mark: self.mark(), stride: self.geometry.stride }
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

    /// The reader table.
    pub fn table(&self) -> &[AtomicU64] {
        table(&self.words, &self.geometry)
    }

    /// Publishes the next message on a ring without gating consumers.
    pub fn publish(&self, writer: &mut Writer) {
        self.try_publish(writer).expect("nobody gates");
    }

    /// Publishes the next `messages` one after the other, on a ring without gating consumers.
    pub fn publish_each(&self, writer: &mut Writer, messages: u64) {
        (0..messages).for_each(|_| self.publish(writer));
    }

    /// Publishes the next message.
    ///
    /// # Errors
    /// The slowest gating consumer, if there is no room.
    pub fn try_publish(&self, writer: &mut Writer) -> Result<(), Blocker> {
        self.begin(writer.next_sequence());
        let claim = loop {
            match writer.begin(&self.words, self.shape()) {
                Ok(claim) => break claim,
                Err(Blocked::NoSpace(next)) => writer.set_limit(self.refresh_limit(next)?),
                Err(blocked) => unreachable!("there is one producer: {blocked:?}"),
            }
        };
        self.ghost(claim.sequence).with_mut(|_| store_payload(claim.body, payload(claim.sequence)));
        writer.commit(&self.words, &claim);
        writer.advance(claim);
        Ok(())
    }

    /// Writes the next message without counting it.
    ///
    /// # Errors
    /// The slowest gating consumer, if there is no room.
    pub fn try_write(&self, writer: &mut Writer) -> Result<(), Blocker> {
        self.write_where(
            writer,
            |next| self.refresh_limit(next),
            |body, sequence| {
                store_payload(body, payload(sequence));
                Ok(())
            },
        )
    }

    /// Writes the next message with `fill`, which gets its sequence too, on a ring without gating
    /// consumers.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn write_with<E>(
        &self,
        writer: &mut Writer,
        fill: impl FnOnce(&[AtomicU64], u64) -> Result<(), E>,
    ) -> Result<(), E> {
        self.write_where(writer, |next| Ok(self.refresh_limit(next).expect("nobody gates")), fill)
    }

    /// As [`Ring::write_with`], after a look that has allowed it.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn write_admitted<E>(
        &self,
        writer: &mut Writer,
        limit: u64,
        fill: impl FnOnce(&[AtomicU64], u64) -> Result<(), E>,
    ) -> Result<(), E> {
        self.write_where(writer, |_| Ok(limit), fill)
    }

    fn write_where<E>(
        &self,
        writer: &mut Writer,
        room: impl FnOnce(u64) -> Result<u64, E>,
        fill: impl FnOnce(&[AtomicU64], u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let sequence = writer.next_sequence();
        self.begin(sequence);
        if writer.is_at_limit() {
            writer.set_limit(room(sequence)?);
        }
        let mut group = Group::begin(writer, &self.words, self.shape()).expect("there is space");
        let run = group.next_run().expect("a group has a message");
        let body = group.begin_message(&run[..self.geometry.stride]);
        self.ghost(sequence).with_mut(|_| fill(body, sequence))?;
        group.end_message();
        drop(group);
        assert_eq!(writer.next_sequence(), sequence + 1);
        Ok(())
    }

    /// Writes the next messages without counting them, `messages` or as many as there is room for
    /// in a group, with what `words` says of each. Returns how many.
    ///
    /// # Errors
    /// The slowest gating consumer, if there is no room.
    pub fn write_group(
        &self,
        writer: &mut Writer,
        messages: u64,
        words: impl Fn(u64) -> [u64; PAYLOAD_WORDS],
    ) -> Result<u64, Blocker> {
        let first = writer.next_sequence();
        if writer.is_at_limit() {
            writer.set_limit(self.refresh_limit(first)?);
        }
        let mut sequences = first..first + messages;
        let mut group = Group::begin(writer, &self.words, self.shape()).expect("there is space");
        'group: while let Some(run) = group.next_run() {
            for slot in run.chunks_exact(self.geometry.stride) {
                let Some(sequence) = sequences.next() else { break 'group };
                self.begin(sequence);
                let body = group.begin_message(slot);
                self.ghost(sequence).with_mut(|_| store_payload(body, words(sequence)));
                group.end_message();
            }
            group.commit_run(run);
        }
        drop(group);
        Ok(writer.next_sequence() - first)
    }

    /// The producer's look at the reader table before message `next`.
    ///
    /// # Errors
    /// The slowest gating consumer, if there is no room.
    pub fn refresh_limit(&self, next: u64) -> Result<u64, Blocker> {
        protocol::refresh_limit(&self.words, &self.geometry, next)
    }

    /// What producers do behind a message: a look ahead of time, if it is due.
    pub fn refresh_early(&self, writer: &mut Writer) {
        if writer.refresh_early() == Upkeep::RefreshLimit {
            let limit = self.refresh_limit(writer.next_sequence()).ok();
            writer.set_early_limit(limit);
        }
    }

    /// Notes that the message with this sequence is about to be written.
    pub(crate) fn begin(&self, sequence: u64) {
        self.begun.fetch_max(sequence + 1, Ghostly);
    }

    /// A reader that starts at `start`.
    pub fn follower(&self, start: Start, on_lag: OnLag) -> Follower {
        let reader = Reader::new(&self.words, self.geometry, start, on_lag);
        Follower { ring: self.clone(), start: reader.cursor(), on_lag, gating: false, reader }
    }

    /// A consumer that takes row `index` of the reader table, to gate from the head on.
    pub fn join(&self, index: usize) -> Member {
        self.join_as(index, "", None)
    }

    /// As [`Ring::join`], under a name, and starting there.
    pub fn join_as(&self, index: usize, name: &str, start: Option<u64>) -> Member {
        let joiner = JoinRequest { name, pid: 0, gating: true, start, checkpoint: None };
        let Joined { row, first, head } = Row::join(&self.words, self.table(), index, joiner);
        let mut follower =
            Follower { gating: true, ..self.follower(Start::Sequence(first), OnLag::Oldest) };
        follower.reader.protect(head);
        Member { follower, row }
    }

    /// A consumer that takes row `index` of the reader table, and does not gate.
    pub fn join_freely(&self, index: usize) -> Member {
        let joiner = JoinRequest { name: "", pid: 0, gating: false, start: None, checkpoint: None };
        let Joined { row, first, .. } = Row::join(&self.words, self.table(), index, joiner);
        Member { follower: self.follower(Start::Sequence(first), OnLag::Oldest), row }
    }

    /// Frees the row of `blocker`, which is dead; returns whether it still had it.
    pub fn bury(&self, blocker: Blocker) -> bool {
        protocol::vacate(self.table(), blocker.row, blocker.state, FREE)
    }

    /// The name of `blocker`, if it still has its row.
    pub fn name_of(&self, blocker: Blocker) -> Option<String> {
        protocol::name_of(self.table(), blocker.row, blocker.state)
    }

    /// Evicts `blocker`, which lives; returns whether it still had its row.
    pub fn evict(&self, blocker: Blocker) -> bool {
        protocol::vacate(self.table(), blocker.row, blocker.state, EVICTED)
    }

    /// Where the consumer in row `index` is, as the table says.
    pub fn cursor_of(&self, index: usize) -> u64 {
        protocol::describe(self.table(), index).cursor
    }

    /// Where the slots are.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(crate) fn ghost(&self, sequence: u64) -> &UnsafeCell<()> {
        &self.payloads[(sequence % self.geometry.slots as u64) as usize]
    }
}

/// A registered consumer, which tells its progress behind each message.
#[derive(Debug)]
pub struct Member {
    /// What it receives.
    pub follower: Follower,
    row: Row,
}

impl Member {
    /// Receives the next message, says so in the table, and returns its sequence.
    ///
    /// # Errors
    /// Those of [`Reader::resolve`].
    pub fn recv(&mut self) -> Result<u64, TryRecvError> {
        let received = self.follower.recv();
        if received.is_ok() {
            self.tell();
        }
        received
    }

    /// Receives until there is nothing new, without a writer running; returns the end.
    pub fn drain(&mut self) -> TryRecvError {
        let end = self.follower.drain();
        self.tell();
        end
    }

    /// Says in the table what has been received.
    pub fn tell(&self) {
        self.row.advance(self.follower.ring.table(), self.follower.reader.cursor());
    }

    /// Follows the producer's wish to go on elsewhere; returns how many messages are lost by that.
    pub fn apply_command(&mut self) -> u64 {
        let table = self.follower.ring.table();
        if !self.row.has_command(table) {
            return 0;
        }
        let Order::Sync(sequence) = self.row.order(table) else {
            panic!("an order that does not say what is wanted")
        };
        let lost = self.follower.reader.skip_to(sequence);
        self.tell();
        lost
    }

    /// Whether the producer has given up on it.
    pub fn is_evicted(&mut self) -> bool {
        let table = self.follower.ring.table();
        let ordered = self.row.has_command(table);
        if ordered {
            assert_eq!(
                self.row.order(table),
                Order::Evicted,
                "an order that does not say what is wanted"
            );
        }
        ordered
    }

    /// Leaves the table.
    pub fn leave(self) {
        self.row.leave(self.follower.ring.table());
    }
}

/// A reader that checks what it is told: payloads are whole and of the expected message, no message
/// comes twice or out of order, every message is accounted for, and none is given up that could not
/// have been overwritten.
#[derive(Debug)]
pub struct Follower {
    ring: Ring,
    on_lag: OnLag,
    /// Nothing is overwritten under its hands, and nothing is lost to it.
    gating: bool,
    start: u64,
    /// The reader itself.
    pub reader: Reader,
}

impl Follower {
    /// Receives the next message and returns its sequence.
    ///
    /// # Errors
    /// Those of [`Reader::resolve`].
    pub fn recv(&mut self) -> Result<u64, TryRecvError> {
        let (before, tombstones) = (self.reader.cursor(), self.reader.tombstones());
        let ghost = self.gating.then(|| self.ring.ghost(before));
        let (memory, shape) = (&self.ring.words, self.ring.shape());
        let copied = self.reader.begin(memory, shape).and_then(|reading| {
            let words = match ghost {
                Some(ghost) => ghost.with(|_| take_payload(reading.body)),
                None => take_payload(reading.body),
            };
            self.reader.validate(reading, shape).map(|()| words)
        });
        let result = copied.map_err(|miss| self.reader.resolve(memory, shape, miss));
        let received = result.map(|words| {
            let sequence = self.reader.cursor() - 1;
            let gone_over = self.reader.tombstones() - tombstones;
            assert_eq!(sequence, before + gone_over, "skipped a message");
            assert_eq!(words, payload(sequence), "the payload is not that of message {sequence}");
            sequence
        });
        self.check(before, received.err());
        received
    }

    /// Receives what is ready of the next `most` messages of this lap, as a batch does, and returns
    /// how many that were.
    pub fn recv_run(&mut self, most: usize) -> usize {
        let before = self.reader.cursor();
        let mut accepted = Vec::new();
        let mut run = self.reader.begin_run(&self.ring.words, self.ring.shape());
        while run.received() < most {
            let Some(body) = run.begin() else { break };
            let words = take_payload(body);
            if !run.validate() {
                break;
            }
            accepted.push(words);
        }
        let received = run.finish();
        assert_eq!(
            (accepted.len(), self.reader.cursor()),
            (received, before + received as u64),
            "{received} are said to be received"
        );
        for (sequence, words) in (before..).zip(accepted) {
            assert_eq!(words, payload(sequence), "the payload is not that of message {sequence}");
        }
        self.check(before, None);
        received
    }

    /// Receives the newest message and returns its sequence.
    ///
    /// # Errors
    /// Those of [`Reader::resolve`].
    pub fn latest(&mut self) -> Result<u64, TryRecvError> {
        let before = self.reader.cursor();
        let (memory, shape) = (&self.ring.words, self.ring.shape());
        let copied = loop {
            self.reader.skip_to_newest(memory);
            let copied = self.reader.begin(memory, shape).and_then(|reading| {
                let words = take_payload(reading.body);
                self.reader.validate(reading, shape).map(|()| words)
            });
            if copied != Err(Miss::Lapped) {
                break copied;
            }
        };
        let received =
            copied.map_err(|miss| self.reader.resolve(memory, shape, miss)).map(|words| {
                let sequence = self.reader.cursor() - 1;
                assert!(sequence >= before, "went back from {before} to {sequence}");
                assert_eq!(
                    words,
                    payload(sequence),
                    "the payload is not that of message {sequence}"
                );
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
        let accounted =
            self.start + reader.received() + reader.lost() + reader.skipped() + reader.tombstones();
        assert_eq!(
            accounted,
            reader.cursor(),
            "start + received + lost + skipped + tombstones is not the cursor: {reader:?}"
        );
        let begun = self.ring.begun.load(Ghostly);
        assert!(
            !self.gating || !matches!(error, Some(TryRecvError::Lagged(_))),
            "a gating consumer lost message {before}: {error:?}"
        );
        if let Some(TryRecvError::Lagged(lost)) = error {
            assert!(lost > 0, "lagged by nothing");
            // Message m is overwritten by message m + slots. Going on at the oldest message, a
            // reader also gives up the one whose slot is the next to be written, and
            // the margin; at the newest, all before it.
            let justified = match self.on_lag {
                OnLag::Oldest => {
                    (begun + 1).saturating_sub(slots) + (slots / 8).max(4).min((slots - 1) / 2)
                }
                OnLag::Newest => begun.saturating_sub(1).max(before + 1),
                OnLag::Stay => (begun + 1).saturating_sub(slots),
            };
            assert!(
                before + slots < begun,
                "message {before} is said to be lost, but only {begun} messages were begun"
            );
            assert!(
                before + lost <= justified,
                "lost {before} to {}, but only {begun} messages were begun",
                before + lost - 1
            );
        }
    }
}
