//! Writing a batch in groups, so that consumers do not take a cache line away from the producer
//! while the producer still writes to that line.
//!
//! A group is a contiguous part of one lap. It is written run by run, and all messages of a run
//! become ready together. Where several slots share a cache line, a run is the rest of that line.
//! Where a slot is larger than a line, the run is the whole group.

use crate::failpoint::{Step, hit, is_dying};
use crate::layout::{LINE, Shape};
use crate::protocol::Writer;
use crate::protocol::publish::Blocked;
use crate::protocol::slot;
use crate::sync::AtomicU64;

/// A group of a batch that is being written. Dropping the group makes all messages written so far
/// ready, even if the batch ended early.
#[derive(Debug)]
pub struct Group<'a> {
    writer: &'a mut Writer,
    shape: Shape,
    /// The remaining slots of the group, beginning with the slot of message `ready`.
    slots: &'a [AtomicU64],
    /// Words of the next run; the run is shorter if the group has fewer words left.
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
    /// A caller that passes a `shape` known at compile time gets faster code.
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
        // The first run ends at the end of its line, part of which an earlier group may have used.
        let run = match shape.stride {
            // A constant, so that the compiler knows that a run has exactly one slot.
            LINE => LINE,
            stride if LINE % stride == 0 => LINE - writer.word() % LINE,
            _ => slots.len(),
        };
        Ok(Self { writer, shape, slots, run, ready: first, written: first })
    }

    /// The slots of the next run, or `None` at the end of the group. For each slot the caller calls
    /// [`Group::begin_message`], writes the payload and calls [`Group::end_message`]; after the
    /// last slot it calls [`Group::commit_run`].
    #[inline(always)]
    pub fn next_run(&self) -> Option<&'a [AtomicU64]> {
        let run = match self.shape.stride {
            LINE => LINE.min(self.slots.len()),
            _ => self.run.min(self.slots.len()),
        };
        (run > 0).then(|| &self.slots[..run])
    }

    /// Begins the next message in its `slot`, and returns the words after the stamp.
    #[inline(always)]
    pub fn begin_message<'s>(&self, slot: &'s [AtomicU64]) -> &'s [AtomicU64] {
        slot::begin(slot, self.shape.mark, self.written)
    }

    /// Notes that the payload of the message has been written.
    #[inline(always)]
    pub fn end_message(&mut self) {
        hit(Step::PublishPayload);
        self.written += 1;
    }

    /// Makes all messages of a run ready. All of them must have been written.
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
        // The messages that are written in a run that was cut short.
        let rest = (self.written - self.ready) as usize * self.shape.stride;
        let slots = self.slots;
        self.commit_run(&slots[..rest]);
        self.writer.skip((self.written - self.writer.next_sequence()) as usize);
    }
}
