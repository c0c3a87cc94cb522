//! The readers-writer lock and the queue on top of it.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Result, ensure};

use super::memory::{Geometry, Memory};

/// A queue that this process created; dropping it unlinks the name.
pub struct Queue {
    _memory: Memory,
}

impl Queue {
    /// Creates the queue `name`.
    ///
    /// # Errors
    ///
    /// When the name is taken, or the space is not there.
    pub fn create(name: &str, geometry: Geometry) -> Result<Self> {
        Ok(Self { _memory: Memory::create(name, geometry)? })
    }
}

/// What became of an offered message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The message is in its slot; otherwise the deadline passed first.
    pub accepted: bool,
    /// A reader was a full lap behind, so that the writer had to wait for it.
    pub stalled: bool,
}

/// The one writer of a queue.
pub struct Writer {
    memory: Memory,
    /// No reader's cursor is below this. Cursors only grow, so they need to be
    /// scanned only when this says that the queue is full.
    slowest: u64,
}

impl Writer {
    /// Opens the queue `name` for writing.
    ///
    /// # Errors
    ///
    /// When there is no such queue, or it has another geometry.
    pub fn open(name: &str, geometry: Geometry) -> Result<Self> {
        Ok(Self { memory: Memory::open(name, geometry)?, slowest: 0 })
    }

    /// Writes a message, waiting for the slowest reader if it is a lap behind,
    /// but not beyond `deadline_ns` on CLOCK_MONOTONIC.
    ///
    /// # Errors
    ///
    /// When the message is larger than a slot, or a process died in the lock.
    pub fn offer(&mut self, message: &[u8], deadline_ns: u64) -> Result<Offer> {
        let Geometry { slots, slot_bytes, .. } = self.memory.geometry();
        ensure!(
            message.len() <= slot_bytes,
            "a message of {} bytes does not fit into slots of {slot_bytes} bytes",
            message.len()
        );
        let control = self.memory.control();
        let mut stalled = false;

        let mut state = control.state.lock()?;
        let sequence = state.written;
        while sequence - self.slowest >= slots as u64 {
            self.slowest = sequence;
            state.blockers = 0;
            for cursor in self.memory.cursors() {
                let cursor = cursor.load(Relaxed);
                self.slowest = self.slowest.min(cursor);
                state.blockers += usize::from(sequence - cursor >= slots as u64);
            }
            if state.blockers > 0 {
                stalled = true;
                if !control.writable.wait_until(&mut state, deadline_ns)? {
                    state.blockers = 0;
                    return Ok(Offer { accepted: false, stalled });
                }
            }
        }
        state.writer_waits = true;
        while state.active_readers > 0 {
            if !control.writable.wait_until(&mut state, deadline_ns)? && state.active_readers > 0 {
                state.writer_waits = false;
                drop(state);
                control.readable.notify_all();
                return Ok(Offer { accepted: false, stalled });
            }
        }
        state.writer_waits = false;
        state.writing = true;
        drop(state);

        let index = slot_index(sequence, slots);
        self.memory.lengths()[index].store(message.len() as u64, Relaxed);
        let slot = self.memory.slot(index);
        // SAFETY: the slot has room for `slot_bytes`, which is not less than the
        // message (checked above); `writing` with no active reader is the
        // exclusive hold, so nobody else touches any slot; a caller's slice and
        // the mapping, which never leaves this module, do not overlap.
        unsafe { slot.copy_from_nonoverlapping(message.as_ptr(), message.len()) };

        let mut state = control.state.lock()?;
        state.writing = false;
        state.written = sequence + 1;
        drop(state);
        control.readable.notify_all();
        Ok(Offer { accepted: true, stalled })
    }

    /// Tells the readers that nothing more will come.
    ///
    /// # Errors
    ///
    /// When a process died in the lock.
    pub fn close(self) -> io::Result<()> {
        let control = self.memory.control();
        control.state.lock()?.closed = true;
        control.readable.notify_all();
        Ok(())
    }
}

/// What a reader got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// The message with this sequence number.
    Message(u64),
    /// Nothing came before the deadline.
    TimedOut,
    /// The writer closed the queue and everything was read.
    Closed,
}

/// One of the readers the queue was created for. It reads from the first message.
pub struct Reader {
    memory: Memory,
    row: usize,
    cursor: u64,
}

impl Reader {
    /// Opens the queue `name` as its reader number `row`, counted from 0.
    ///
    /// # Errors
    ///
    /// When there is no such queue, or it has another geometry, or fewer readers.
    pub fn open(name: &str, geometry: Geometry, row: usize) -> Result<Self> {
        ensure!(
            row < geometry.readers,
            "reader {row} does not exist: the queue {name:?} has {}",
            geometry.readers
        );
        Ok(Self { memory: Memory::open(name, geometry)?, row, cursor: 0 })
    }

    /// Copies the next message into `message`, replacing its content; waits for
    /// one until `deadline_ns` on CLOCK_MONOTONIC.
    ///
    /// # Errors
    ///
    /// When a process died in the lock.
    pub fn take(&mut self, message: &mut Vec<u8>, deadline_ns: u64) -> Result<Take> {
        let Geometry { slots, slot_bytes, .. } = self.memory.geometry();
        let control = self.memory.control();

        let mut state = control.state.lock()?;
        loop {
            let news = state.written > self.cursor;
            if news && !state.writing && !state.writer_waits {
                break;
            }
            if !news && state.closed {
                return Ok(Take::Closed);
            }
            if !control.readable.wait_until(&mut state, deadline_ns)? {
                return Ok(Take::TimedOut);
            }
        }
        state.active_readers += 1;
        drop(state);

        let index = slot_index(self.cursor, slots);
        let length = self.memory.lengths()[index].load(Relaxed) as usize;
        let length = length.min(slot_bytes);
        message.resize(length, 0);
        let slot = self.memory.slot(index);
        // SAFETY: `length` is at most `slot_bytes`, the room of the slot, and
        // `message` is that long; while a reader is active the writer does not
        // write, so the bytes do not change; the vector's allocation and the
        // mapping do not overlap.
        unsafe { slot.copy_to_nonoverlapping(message.as_mut_ptr(), length) };

        let mut state = control.state.lock()?;
        state.active_readers -= 1;
        let was_blocker = state.blockers > 0 && state.written - self.cursor >= slots as u64;
        if was_blocker {
            state.blockers -= 1;
        }
        let sequence = self.cursor;
        self.cursor += 1;
        self.memory.cursors()[self.row].store(self.cursor, Relaxed);
        let writer_may_go = if state.writer_waits {
            state.active_readers == 0
        } else {
            was_blocker && state.blockers == 0
        };
        drop(state);
        if writer_may_go {
            control.writable.notify_one();
        }
        Ok(Take::Message(sequence))
    }
}

/// The slot of a sequence number.
fn slot_index(sequence: u64, slots: usize) -> usize {
    // The remainder is below `slots`, so it is a `usize`.
    (sequence % slots as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic_ns;

    fn geometry() -> Geometry {
        Geometry { slots: 2, slot_bytes: 8, readers: 1 }
    }

    fn name(test: &str) -> String {
        format!("seqring-test-{}-{test}", std::process::id())
    }

    fn soon() -> u64 {
        monotonic_ns() + 2_000_000
    }

    #[test]
    fn delivers_in_order_refuses_a_lapped_reader_and_drains_before_close() {
        let name = name("order");
        let _queue = Queue::create(&name, geometry()).unwrap();
        let mut writer = Writer::open(&name, geometry()).unwrap();
        let mut reader = Reader::open(&name, geometry(), 0).unwrap();
        let mut message = Vec::new();
        assert_eq!(reader.take(&mut message, soon()).unwrap(), Take::TimedOut);

        let written = Offer { accepted: true, stalled: false };
        assert_eq!(writer.offer(b"first", soon()).unwrap(), written);
        assert_eq!(writer.offer(b"2", soon()).unwrap(), written);
        let refused = Offer { accepted: false, stalled: true };
        assert_eq!(writer.offer(b"third", soon()).unwrap(), refused);

        assert_eq!(reader.take(&mut message, soon()).unwrap(), Take::Message(0));
        assert_eq!(message, b"first");
        assert_eq!(writer.offer(b"third", soon()).unwrap(), written);
        writer.close().unwrap();
        assert_eq!(reader.take(&mut message, soon()).unwrap(), Take::Message(1));
        assert_eq!(message, b"2");
        assert_eq!(reader.take(&mut message, soon()).unwrap(), Take::Message(2));
        assert_eq!(message, b"third");
        assert_eq!(reader.take(&mut message, soon()).unwrap(), Take::Closed);
    }

    #[test]
    fn a_stalled_writer_is_woken_by_the_reader() {
        let name = name("wake");
        let queue = Queue::create(&name, geometry()).unwrap();
        let count = 1000_u64;
        let reader = std::thread::spawn({
            let name = name.clone();
            move || {
                let mut reader = Reader::open(&name, geometry(), 0).unwrap();
                let far = monotonic_ns() + 60_000_000_000;
                let mut message = Vec::new();
                for sequence in 0..count {
                    assert_eq!(reader.take(&mut message, far).unwrap(), Take::Message(sequence));
                    assert_eq!(message, sequence.to_le_bytes());
                }
                assert_eq!(reader.take(&mut message, far).unwrap(), Take::Closed);
            }
        });
        let mut writer = Writer::open(&name, geometry()).unwrap();
        let far = monotonic_ns() + 60_000_000_000;
        for sequence in 0..count {
            assert!(writer.offer(&sequence.to_le_bytes(), far).unwrap().accepted);
        }
        writer.close().unwrap();
        reader.join().unwrap();
        drop(queue);
        assert!(Reader::open(&name, geometry(), 0).is_err(), "dropping the queue unlinks it");
    }

    #[test]
    fn refuses_what_cannot_be() {
        let name = name("refuses");
        let _queue = Queue::create(&name, geometry()).unwrap();
        assert!(Queue::create(&name, geometry()).is_err(), "the name is taken");
        assert!(Reader::open(&name, geometry(), 1).is_err(), "there is one reader");
        let other = Geometry { slot_bytes: 9, ..geometry() };
        assert!(Writer::open(&name, other).is_err(), "another geometry");
        let mut writer = Writer::open(&name, geometry()).unwrap();
        let error = writer.offer(b"nine byte", soon()).unwrap_err().to_string();
        assert!(error.contains("9 bytes") && error.contains("8 bytes"), "{error}");
        let absurd = Geometry { slots: usize::MAX / 2, slot_bytes: 1 << 20, readers: 1 };
        assert!(Queue::create(&format!("{name}-absurd"), absurd).is_err());
    }

    #[test]
    fn no_space_is_an_error_that_leaves_nothing() {
        let name = name("space");
        let much = Geometry { slots: 1 << 20, slot_bytes: 1 << 26, readers: 1 };
        let error = Queue::create(&name, much).err().expect("64 TiB are not there");
        assert!(format!("{error:#}").contains(&name), "{error:#}");
        assert!(!std::path::Path::new("/dev/shm").join(&name).exists());
    }
}
