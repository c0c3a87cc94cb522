//! One row of the reader table, from its consumer's side: joining, progress, leaving.
//!
//! Whoever holds the row's kernel lock owns it, so no row is taken by two, and an owner whose lock
//! is free is dead. The state word counts how often the row was taken, so that an eviction that was
//! decided about one owner cannot hit the next.

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

/// What a consumer brings along when it registers.
#[derive(Debug, Clone, Copy)]
pub struct JoinRequest<'a> {
    /// Its name, for tools and reports; cut to what a row holds.
    pub name: &'a str,
    /// Its process id, for tools.
    pub pid: u64,
    /// Whether the producer must not overwrite what it has not read.
    pub gating: bool,
    /// The sequence it would like to start at; the head if it has no wish.
    pub start: Option<u64>,
    /// The checkpoint that it takes over from the row's last owner, if that was of its name.
    pub checkpoint: Option<u64>,
}

/// A row that we own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    index: usize,
    /// The state word as we wrote it; anything else means that the producer has evicted us.
    state: u64,
    /// How many orders we have seen, those for former owners of the row included.
    orders: u64,
}

/// What a consumer has that has entered the table.
#[derive(Debug)]
pub struct Joined {
    /// Its row.
    pub row: Row,
    /// The sequence to start at.
    pub first: u64,
    /// The head at its joining.
    pub head: u64,
}

/// What a producer wants of a registered consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Nothing: it was for a former owner of the row.
    Nothing,
    /// Go on at this sequence, if that is ahead.
    Sync(u64),
    /// Go: the producer waits for it no longer.
    Evicted,
}

impl Row {
    /// Enters the table at row `index`, whose lock the caller holds.
    ///
    /// A gating consumer loses nothing from the head on. If it begins before that, what lies there
    /// may be overwritten until the producer comes to the limit that it had, and is reported
    /// like any loss.
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
            // Its owner is dead, as we hold the lock, and what it has not read is not ours to keep.
            vacate(table, index, gate, FREE);
        }
        // Release: pairs with the acquire fence in `name_of`: who reads of our name sees that the
        // row is no longer its last owner's. And, as in `advance`, for the last owner: who
        // sees our cursor, its copies are done.
        fence(Ordering::Release);
        // Before the state: who gives orders to us has seen it. What comes late for the last owner
        // is looked at and found to be nothing.
        let orders = row[ROW_COMMANDS].load(Ordering::Relaxed);
        // First, and only if it is another's: who dies over its joining has not lost it.
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
        // Relaxed: a producer that still sees the last owner's state may see our cursor, but the
        // fence above has released what that one copied.
        row[ROW_CURSOR].store(joiner.start.unwrap_or_else(|| head(words)), Ordering::Relaxed);
        hit(Step::JoinProvisional);
        let owners = (row[ROW_STATE].load(Ordering::Relaxed) >> 8).wrapping_add(1);
        let state = owners << 8 | if joiner.gating { GATING } else { JOINED };
        // A swap, so that what the last owner released when it left is released with our state too.
        // Release: pairs with the acquire load of the state in `gating::refresh_limit`. A
        // producer that waits for us finds our name here. (One that sees the row taken and not its
        // cursor is bound by an older look, as below.)
        row[ROW_STATE].swap(state, Ordering::Release);
        hit(Step::JoinState);
        enlist(table, index);
        hit(Step::JoinRoster);
        // SeqCst: pairs with the fence in `gating::refresh_limit`. Either the producer's next look
        // sees this row; or the head loaded below is at least the one at that look, which
        // allowed the producer one lap from there: it overwrites nothing from this
        // head on before it looks again. Without the fence the row may be unseen and the head old:
        // a joiner is lapped.
        fence(Ordering::SeqCst);
        let head = head(words);
        let first = joiner.start.unwrap_or(head);
        // Relaxed: the fence above has released what the row's last owner copied.
        row[ROW_CURSOR].store(first, Ordering::Relaxed);
        hit(Step::JoinCursor);
        Joined { row: Self { index, state, orders }, first, head }
    }

    /// Says that everything before `cursor` has been read.
    #[inline(always)]
    pub fn advance(&self, table: &[AtomicU64], cursor: u64) {
        // Release: pairs with the acquire load of the cursor in `gating::refresh_limit`. The copies
        // of all messages before `cursor` are done; without it, the producer could
        // overwrite a message that is still being copied.
        row_words(table, self.index)[ROW_CURSOR].store(cursor, Ordering::Release);
        hit(Step::TellCursor);
    }

    /// Publishes counters, for tools.
    pub fn report(&self, table: &[AtomicU64], received: u64, lost: u64) {
        let row = row_words(table, self.index);
        row[ROW_RECEIVED].store(received, Ordering::Relaxed);
        hit(Step::TellReceived);
        row[ROW_LOST].store(lost, Ordering::Relaxed);
        hit(Step::TellLost);
    }

    /// Publishes a lag, if it is the longest so far, for tools.
    pub fn report_lag(&self, table: &[AtomicU64], lag: u64) {
        let longest = &row_words(table, self.index)[ROW_LONGEST_LAG];
        if lag > longest.load(Ordering::Relaxed) {
            longest.store(lag, Ordering::Relaxed);
            hit(Step::TellLag);
        }
    }

    /// Says where a successor of our name is to go on.
    pub fn checkpoint(&self, table: &[AtomicU64], sequence: u64) {
        row_words(table, self.index)[ROW_CHECKPOINT].store(sequence + 1, Ordering::Relaxed);
        hit(Step::TellCheckpoint);
    }

    /// Publishes how often the consumer has slept, for tools.
    pub fn slept(&self, table: &[AtomicU64], sleeps: u64) {
        row_words(table, self.index)[ROW_SLEEPS].store(sleeps, Ordering::Relaxed);
    }

    /// Whether there is an order to be looked at; one load.
    #[inline(always)]
    pub fn has_command(&self, table: &[AtomicU64]) -> bool {
        table[ROWS + self.index * ROW + ROW_COMMANDS].load(Ordering::Relaxed) != self.orders
    }

    /// What the producer wants, behind [`Row::has_command`]. An eviction is an order for ever.
    pub fn order(&mut self, table: &[AtomicU64]) -> Order {
        let row = row_words(table, self.index);
        let orders = row[ROW_COMMANDS].load(Ordering::Relaxed);
        // Acquire: pairs with the release in `order`. What is wanted is seen; without it, the order
        // would be taken for another's.
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

    /// Whether the producer has given up on us; one load.
    #[inline(always)]
    pub fn is_evicted(&self, table: &[AtomicU64]) -> bool {
        row_words(table, self.index)[ROW_STATE].load(Ordering::Relaxed) != self.state
    }

    /// Which row it is.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Leaves the table; the caller releases the lock behind it.
    pub fn leave(self, table: &[AtomicU64]) {
        let evicted = self.state & !0xFF | EVICTED;
        let _ =
            vacate(table, self.index, self.state, FREE) || vacate(table, self.index, evicted, FREE);
    }
}

/// Makes the producer's looks reach row `index`.
fn enlist(table: &[AtomicU64], index: usize) {
    let mut roster = table[ROSTER].load(Ordering::Relaxed);
    loop {
        // The count makes every join visible as a change, so that the producer cannot shorten the
        // roster over our head.
        let joins = (roster >> 16).wrapping_add(1);
        let rows = (roster & 0xFFFF).max(index as u64 + 1);
        // Release: pairs with the acquire load in `gating::refresh_limit`. A look that goes by this
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

/// Frees row `index` if its state is still `seen`; returns whether it was. The new state is `FREE`
/// for a consumer that has left or died, `EVICTED` for one that was given up on.
pub fn vacate(table: &[AtomicU64], index: usize, seen: u64, state: u64) -> bool {
    let word = &row_words(table, index)[ROW_STATE];
    // Release: pairs with the acquire load of the state in `gating::refresh_limit`. Who leaves has
    // copied what it has received, told or not; without it, the producer could overwrite a
    // message that is still being copied.
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

/// Gives up on the consumer that has row `index`; returns whether there was one.
pub fn evict(table: &[AtomicU64], index: usize) -> bool {
    let state = row_words(table, index)[ROW_STATE].load(Ordering::Relaxed);
    matches!(state & 0xFF, JOINED | GATING) && vacate(table, index, state, EVICTED)
}

/// Wants the consumer that has row `index` to go on at `sequence`; returns whether there is one.
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

/// Makes the consumer that has row `index` look.
fn order(table: &[AtomicU64], index: usize) {
    // Release: pairs with the fence in `Row::order`.
    row_words(table, index)[ROW_COMMANDS].fetch_add(1, Ordering::Release);
    hit(Step::OrderRow);
}

/// Whether the last owner of row `index` wanted to be resumed.
pub fn is_kept(table: &[AtomicU64], index: usize) -> bool {
    row_words(table, index)[ROW_CHECKPOINT].load(Ordering::Relaxed) != 0
}

/// Where a consumer called `name` that had row `index` wanted to be resumed, if it did.
pub fn checkpoint(table: &[AtomicU64], index: usize, name: &str) -> Option<u64> {
    let sequence =
        row_words(table, index)[ROW_CHECKPOINT].load(Ordering::Relaxed).checked_sub(1)?;
    (describe(table, index).name == cut(name)).then_some(sequence)
}

/// What a row holds of a name.
fn cut(name: &str) -> &str {
    let end =
        (0..=name.len().min(MAX_READER_NAME_BYTES)).rev().find(|end| name.is_char_boundary(*end));
    &name[..end.unwrap_or(0)]
}

/// Counts a wait of the producer for the consumer that has row `index`.
pub fn waited(table: &[AtomicU64], index: usize, nanoseconds: u64) {
    let row = row_words(table, index);
    let add = |word: usize, more: u64| row[word].fetch_add(more, Ordering::Relaxed);
    add(ROW_WAITS, 1);
    hit(Step::WaitCount);
    add(ROW_WAITED, nanoseconds);
    hit(Step::WaitTime);
}

/// Name of the consumer that has row `index`, if that is still the one whose state word is `state`.
pub fn name_of(table: &[AtomicU64], index: usize, state: u64) -> Option<String> {
    let name = name(row_words(table, index));
    // Acquire: pairs with the release fence in `Row::join`. If any of the name is the next owner's,
    // the state is no longer this one's; without it, a consumer would be named that nobody has
    // waited for.
    fence(Ordering::Acquire);
    (row_words(table, index)[ROW_STATE].load(Ordering::Relaxed) == state).then_some(name)
}

/// What row `index` says about its consumer.
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

/// The fields of a row; each is from some moment of its own.
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
