//! Writing a batch in groups, so that consumers do not take a cache line from the producer while it
//! still writes there.
//!
//! A group is a piece of one lap. It is written run by run; the messages of a run become ready
//! together. Where slots share a line, a run is the rest of that line; where a slot is more than a
//! line, it is the whole group.

use crate::failpoint::{Step, hit, is_dying};
use crate::layout::{LINE, Shape};
use crate::protocol::Writer;
use crate::protocol::publish::Blocked;
use crate::protocol::slot;
use crate::sync::AtomicU64;

/// A group of a batch that is being written. When it is dropped, what was written of it becomes
/// ready, also if the next message could not be had.
#[derive(Debug)]
pub struct Group<'a> {
    writer: &'a mut Writer,
    shape: Shape,
    /// The slots of the group from that of message `ready` on.
    slots: &'a [AtomicU64],
    /// Words of the next run, if the group has as many.
    run: usize,
    /// Messages of the group before this sequence are ready.
    ready: u64,
    /// Messages of the group before this sequence are written.
    written: u64,
}

impl<'a> Group<'a> {
    /// Begins a group of the next messages of `writer`. The head does not move until
    /// [`Writer::publish_head`], or the next refresh of the limit.
    ///
    /// The caller may know the `shape` of the slots when it is compiled, and is faster for it.
    ///
    /// # Errors
    /// [`Blocked::NoSpace`], if the limit does not allow one message.
    #[inline(always)]
    pub fn begin(
        writer: &'a mut Writer,
        words: &'a [AtomicU64],
        shape: Shape,
    ) -> Result<Self, Blocked> {
        let first = writer.next_sequence();
        let slots = writer.group_slots(words);
        if slots.is_empty() {
            return Err(Blocked::NoSpace(first));
        }
        // To the end of the line, which may have been begun.
        let run = match shape.stride {
            // Said for the compiler, which then knows that there is one slot to a run.
            LINE => LINE,
            stride if LINE % stride == 0 => LINE - writer.word() % LINE,
            _ => slots.len(),
        };
        Ok(Self { writer, shape, slots, run, ready: first, written: first })
    }

    /// The slots of the next run: for each, [`Group::begin_message`], the payload and
    /// [`Group::end_message`], and then [`Group::commit_run`]. Nothing at the end of the group.
    #[inline(always)]
    pub fn next_run(&self) -> Option<&'a [AtomicU64]> {
        let run = match self.shape.stride {
            LINE => LINE.min(self.slots.len()),
            _ => self.run.min(self.slots.len()),
        };
        (run > 0).then(|| &self.slots[..run])
    }

    /// Begins the next message, in its `slot`; returns the words after the stamp.
    #[inline(always)]
    pub fn begin_message<'s>(&self, slot: &'s [AtomicU64]) -> &'s [AtomicU64] {
        slot::begin(slot, self.shape.mark, self.written)
    }

    /// The payload of the message is written.
    #[inline(always)]
    pub fn end_message(&mut self) {
        hit(Step::PublishPayload);
        self.written += 1;
    }

    /// Makes the messages of a run ready, of which all are written.
    #[inline(always)]
    pub fn commit_run(&mut self, run: &[AtomicU64]) {
        for slot in run.chunks_exact(self.shape.stride) {
            slot::commit(slot, self.ready);
            self.ready += 1;
        }
        self.slots = &self.slots[run.len()..];
        self.run = LINE;
    }
}

impl Drop for Group<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if is_dying() {
            return;
        }
        // What a run that was cut short has.
        let rest = (self.written - self.ready) as usize * self.shape.stride;
        let slots = self.slots;
        self.commit_run(&slots[..rest]);
        self.writer.skip((self.written - self.writer.next_sequence()) as usize);
    }
}
