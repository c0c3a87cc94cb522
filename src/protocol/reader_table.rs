//! One row of the reader table, from the side of its consumer: joining, progress, leaving. And what
//! producers and tools do with a row: evict, command, describe.
//!
//! The process that holds a row's kernel lock owns the row. So no row has two owners, and an owner
//! whose lock is free is dead. The state word counts how often the row was taken, so that an
//! eviction that was decided about one owner cannot hit the next.

use crate::failpoint::{Step, hit};
use crate::layout::{
    EVICTED, FREE, GATING, JOINED, MAX_READER_NAME_BYTES, ROSTER, ROW, ROW_CHECKPOINT,
    ROW_COMMANDS, ROW_CURSOR, ROW_LONGEST_LAG, ROW_LOST, ROW_NAME, ROW_NAME_BYTES, ROW_PID,
    ROW_RECEIVED, ROW_SKIP_TO, ROW_SLEEPS, ROW_STATE, ROW_WAITED, ROW_WAITS, ROWS, WORD,
};
use crate::protocol::head;
use crate::sync::{AtomicU64, Ordering, fence};

/// The words of row `index` of the reader table.
#[inline(always)]
pub fn row_words(table: &[AtomicU64], index: usize) -> &[AtomicU64] {
    &table[ROWS + index * ROW..ROWS + (index + 1) * ROW]
}

/// What a consumer states when it registers.
#[derive(Debug, Clone, Copy)]
pub struct JoinRequest<'a> {
    /// Its name, for tools and reports. A name too long for a row is cut.
    pub name: &'a str,
    /// Its process id, for tools.
    pub pid: u64,
    /// Whether the producer must not overwrite what it has not read.
    pub gating: bool,
    /// The sequence to start at; `None` for the head.
    pub start: Option<u64>,
    /// The checkpoint that it takes over from the row's last owner, if that owner had the same
    /// name.
    pub checkpoint: Option<u64>,
}

/// A row that this consumer owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    index: usize,
    /// The state word as this consumer wrote it. Any other value means that the producer has
    /// evicted this consumer.
    state: u64,
    /// How many commands this consumer has seen. Commands to former owners of the row count too.
    orders: u64,
}

/// What a consumer has after it has joined the table.
#[derive(Debug)]
pub struct Joined {
    /// Its row.
    pub row: Row,
    /// The sequence to start at.
    pub first: u64,
    /// The head at its joining.
    pub head: u64,
}

/// A producer's command to a registered consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// No command: it was for a former owner of the row.
    Nothing,
    /// Continue at this sequence, if the cursor is before it.
    Sync(u64),
    /// Leave: the producer no longer waits for this consumer.
    Evicted,
}

impl Row {
    /// Joins the table at row `index`, whose lock the caller holds.
    ///
    /// A gating consumer loses nothing from the head on. If it starts before the head, the messages
    /// before the head may be overwritten until the producer reaches its present limit; such a loss
    /// is reported like any other.
    pub fn join(
        words: &[AtomicU64],
        table: &[AtomicU64],
        index: usize,
        joiner: JoinRequest<'_>,
    ) -> Joined {
        let row = row_words(table, index);
        let put = |word: usize, value: u64| {
            row[word].store(value, Ordering::Relaxed);
            hit(Step::JoinField);
        };
        let gate = row[ROW_STATE].load(Ordering::Relaxed);
        if gate & 0xFF == GATING && joiner.checkpoint.is_none() {
            // The old owner is dead, as the caller holds its lock, and this consumer need not keep
            // what the old owner has not read.
            vacate(table, index, gate, FREE);
        }
        // Release: pairs with the acquire fence in `name_of`: a process that reads any part of the
        // new name sees that the row no longer belongs to its last owner. And, as in `advance`, on
        // behalf of the last owner: a producer that sees the new cursor sees that the last owner's
        // copies are done.
        fence(Ordering::Release);
        // Loaded before the state is stored: a producer that commands this consumer has seen its
        // state. A late command to the last owner is read, and found to be no command.
        let orders = row[ROW_COMMANDS].load(Ordering::Relaxed);
        // Cleared first, and only if the checkpoint is not taken over: a consumer that dies during
        // its joining does not lose its checkpoint.
        if joiner.checkpoint.is_none() {
            put(ROW_CHECKPOINT, 0);
        }
        for word in [
            ROW_RECEIVED,
            ROW_LOST,
            ROW_LONGEST_LAG,
            ROW_SLEEPS,
            ROW_SKIP_TO,
            ROW_WAITS,
            ROW_WAITED,
        ] {
            put(word, 0);
        }
        put(ROW_PID, joiner.pid);
        let name = cut(joiner.name).as_bytes();
        put(ROW_NAME_BYTES, name.len() as u64);
        for (offset, chunk) in name.chunks(WORD).enumerate() {
            let mut padded = [0; WORD];
            padded[..chunk.len()].copy_from_slice(chunk);
            put(ROW_NAME + offset, u64::from_ne_bytes(padded));
        }
        // Relaxed: a producer that still sees the last owner's state may see this cursor, but the
        // fence above has released the last owner's copies.
        row[ROW_CURSOR].store(joiner.start.unwrap_or_else(|| head(words)), Ordering::Relaxed);
        hit(Step::JoinProvisional);
        let owners = (row[ROW_STATE].load(Ordering::Relaxed) >> 8).wrapping_add(1);
        let state = owners << 8 | if joiner.gating { GATING } else { JOINED };
        // A swap, so that whatever the last owner released when it left is released together with
        // the new state. Release: pairs with the acquire load of the state in
        // `gating::refresh_limit`. A producer that waits for this consumer finds its name here. (A
        // producer that sees the row taken but not the cursor is bound by an earlier refresh, as
        // below.)
        row[ROW_STATE].swap(state, Ordering::Release);
        hit(Step::JoinState);
        enlist(table, index);
        hit(Step::JoinRoster);
        // SeqCst: pairs with the fence in `gating::refresh_limit`. There are two cases. Either the
        // producer's next refresh sees this row. Or the head loaded below is at least the head at
        // that refresh, which allowed the producer one lap from there: the producer overwrites
        // nothing from this head on before it refreshes again. Without the fence, the row may be
        // unseen and the head old, and a joining consumer is lapped.
        fence(Ordering::SeqCst);
        let head = head(words);
        let first = joiner.start.unwrap_or(head);
        // Relaxed: the fence above has released the copies of the row's last owner.
        row[ROW_CURSOR].store(first, Ordering::Relaxed);
        hit(Step::JoinCursor);
        Joined { row: Self { index, state, orders }, first, head }
    }

    /// Publishes that everything before `cursor` has been read.
    #[inline(always)]
    pub fn advance(&self, table: &[AtomicU64], cursor: u64) {
        // Release: pairs with the acquire load of the cursor in `gating::refresh_limit`. The copies
        // of all messages before `cursor` are done. Without it, the producer could overwrite a
        // message that is still being copied.
        row_words(table, self.index)[ROW_CURSOR].store(cursor, Ordering::Release);
        hit(Step::TellCursor);
    }

    /// Publishes the counters of messages received and lost, for tools.
    pub fn report(&self, table: &[AtomicU64], received: u64, lost: u64) {
        let row = row_words(table, self.index);
        row[ROW_RECEIVED].store(received, Ordering::Relaxed);
        hit(Step::TellReceived);
        row[ROW_LOST].store(lost, Ordering::Relaxed);
        hit(Step::TellLost);
    }

    /// Publishes a lag if it is the longest so far, for tools.
    pub fn report_lag(&self, table: &[AtomicU64], lag: u64) {
        let longest = &row_words(table, self.index)[ROW_LONGEST_LAG];
        if lag > longest.load(Ordering::Relaxed) {
            longest.store(lag, Ordering::Relaxed);
            hit(Step::TellLag);
        }
    }

    /// Publishes where a successor of the same name continues.
    pub fn checkpoint(&self, table: &[AtomicU64], sequence: u64) {
        row_words(table, self.index)[ROW_CHECKPOINT].store(sequence + 1, Ordering::Relaxed);
        hit(Step::TellCheckpoint);
    }

    /// Publishes how often the consumer has slept, for tools.
    pub fn slept(&self, table: &[AtomicU64], sleeps: u64) {
        row_words(table, self.index)[ROW_SLEEPS].store(sleeps, Ordering::Relaxed);
    }

    /// Whether there is a command to be read; one load.
    #[inline(always)]
    pub fn has_command(&self, table: &[AtomicU64]) -> bool {
        table[ROWS + self.index * ROW + ROW_COMMANDS].load(Ordering::Relaxed) != self.orders
    }

    /// The producer's command, after [`Row::has_command`]. An eviction is final.
    pub fn order(&mut self, table: &[AtomicU64]) -> Order {
        let row = row_words(table, self.index);
        let orders = row[ROW_COMMANDS].load(Ordering::Relaxed);
        // Acquire: pairs with the release in the function `order` below. The words of the command
        // are seen. Without it, the command could be taken for one to a former owner.
        fence(Ordering::Acquire);
        if self.is_evicted(table) {
            return Order::Evicted;
        }
        self.orders = orders;
        match row[ROW_SKIP_TO].load(Ordering::Relaxed) {
            0 => Order::Nothing,
            sequence => Order::Sync(sequence),
        }
    }

    /// Whether the producer has evicted this consumer; one load.
    #[inline(always)]
    pub fn is_evicted(&self, table: &[AtomicU64]) -> bool {
        row_words(table, self.index)[ROW_STATE].load(Ordering::Relaxed) != self.state
    }

    /// The index of the row.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Leaves the table. The caller releases the lock afterwards.
    pub fn leave(self, table: &[AtomicU64]) {
        let evicted = self.state & !0xFF | EVICTED;
        let _ =
            vacate(table, self.index, self.state, FREE) || vacate(table, self.index, evicted, FREE);
    }
}

/// Enters row `index` in the roster, so that refreshes of the limit reach the row.
fn enlist(table: &[AtomicU64], index: usize) {
    let mut roster = table[ROSTER].load(Ordering::Relaxed);
    loop {
        // The count makes every join visible as a change, so that no producer can shorten the
        // roster concurrently and leave this row out.
        let joins = (roster >> 16).wrapping_add(1);
        let rows = (roster & 0xFFFF).max(index as u64 + 1);
        // Release: pairs with the acquire load in `gating::refresh_limit`. A refresh that uses this
        // roster sees the row taken.
        match table[ROSTER].compare_exchange(
            roster,
            joins << 16 | rows,
            Ordering::Release,
            Ordering::Relaxed,
        ) {
            Ok(_) => return,
            Err(changed) => roster = changed,
        }
    }
}

/// Frees row `index` if its state is still `seen`, and returns whether it was. The new state is
/// `FREE` for a consumer that has left or died, and `EVICTED` for a consumer that was evicted.
pub fn vacate(table: &[AtomicU64], index: usize, seen: u64, state: u64) -> bool {
    let word = &row_words(table, index)[ROW_STATE];
    // Release: pairs with the acquire load of the state in `gating::refresh_limit`. A consumer that
    // leaves has copied everything that it received, whether or not it has published that progress.
    // Without it, the producer could overwrite a message that is still being copied.
    let vacated = word
        .compare_exchange(seen, seen & !0xFF | state, Ordering::Release, Ordering::Relaxed)
        .is_ok();
    if vacated {
        hit(Step::VacateRow);
        if state == EVICTED {
            order(table, index);
        }
    }
    vacated
}

/// Evicts the consumer in row `index`; returns whether there was one.
pub fn evict(table: &[AtomicU64], index: usize) -> bool {
    let state = row_words(table, index)[ROW_STATE].load(Ordering::Relaxed);
    matches!(state & 0xFF, JOINED | GATING) && vacate(table, index, state, EVICTED)
}

/// Commands the consumer in row `index` to continue at `sequence`; returns whether there is one.
pub fn sync(table: &[AtomicU64], index: usize, sequence: u64) -> bool {
    let row = row_words(table, index);
    let taken = matches!(row[ROW_STATE].load(Ordering::Relaxed) & 0xFF, JOINED | GATING);
    if taken {
        row[ROW_SKIP_TO].store(sequence, Ordering::Relaxed);
        hit(Step::SyncRow);
        order(table, index);
    }
    taken
}

/// Makes the consumer in row `index` read its command.
fn order(table: &[AtomicU64], index: usize) {
    // Release: pairs with the acquire fence in `Row::order`.
    row_words(table, index)[ROW_COMMANDS].fetch_add(1, Ordering::Release);
    hit(Step::OrderRow);
}

/// Whether the last owner of row `index` left a checkpoint to be resumed from.
pub fn is_kept(table: &[AtomicU64], index: usize) -> bool {
    row_words(table, index)[ROW_CHECKPOINT].load(Ordering::Relaxed) != 0
}

/// The checkpoint in row `index`, if its last owner left one and was called `name`.
pub fn checkpoint(table: &[AtomicU64], index: usize, name: &str) -> Option<u64> {
    let sequence =
        row_words(table, index)[ROW_CHECKPOINT].load(Ordering::Relaxed).checked_sub(1)?;
    (describe(table, index).name == cut(name)).then_some(sequence)
}

/// The part of a name that fits into a row.
fn cut(name: &str) -> &str {
    let end =
        (0..=name.len().min(MAX_READER_NAME_BYTES)).rev().find(|end| name.is_char_boundary(*end));
    &name[..end.unwrap_or(0)]
}

/// Counts a wait of the producer for the consumer in row `index`.
pub fn waited(table: &[AtomicU64], index: usize, nanoseconds: u64) {
    let row = row_words(table, index);
    let add = |word: usize, more: u64| row[word].fetch_add(more, Ordering::Relaxed);
    add(ROW_WAITS, 1);
    hit(Step::WaitCount);
    add(ROW_WAITED, nanoseconds);
    hit(Step::WaitTime);
}

/// Name of the consumer in row `index`, if it is still the one whose state word is `state`.
pub fn name_of(table: &[AtomicU64], index: usize, state: u64) -> Option<String> {
    let name = name(row_words(table, index));
    // Acquire: pairs with the release fence in `Row::join`. If any part of the name is the next
    // owner's, the state is no longer `state`. Without it, a consumer could be named that no
    // producer has waited for.
    fence(Ordering::Acquire);
    (row_words(table, index)[ROW_STATE].load(Ordering::Relaxed) == state).then_some(name)
}

/// The contents of row `index`, for tools.
pub fn describe(table: &[AtomicU64], index: usize) -> Description {
    let row = row_words(table, index);
    let get = |word: usize| row[word].load(Ordering::Relaxed);
    Description {
        state: get(ROW_STATE) & 0xFF,
        name: name(row),
        pid: get(ROW_PID),
        cursor: get(ROW_CURSOR),
        received: get(ROW_RECEIVED),
        lost: get(ROW_LOST),
        longest_lag: get(ROW_LONGEST_LAG),
        sleeps: get(ROW_SLEEPS),
        waits: get(ROW_WAITS),
        waited: get(ROW_WAITED),
    }
}

fn name(row: &[AtomicU64]) -> String {
    let bytes =
        row[ROW_NAME_BYTES].load(Ordering::Relaxed).min(MAX_READER_NAME_BYTES as u64) as usize;
    let words = row[ROW_NAME..].iter().take(bytes.div_ceil(WORD));
    let mut name: Vec<u8> =
        words.flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect();
    name.truncate(bytes);
    String::from_utf8_lossy(&name).into_owned()
}

/// The fields of a row. Each is read at a moment of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // they are those of `layout`
pub struct Description {
    pub state: u64,
    pub name: String,
    pub pid: u64,
    pub cursor: u64,
    pub received: u64,
    pub lost: u64,
    pub longest_lag: u64,
    pub sleeps: u64,
    pub waits: u64,
    pub waited: u64,
}
