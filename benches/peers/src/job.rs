//! What two sides do with a channel, turn by turn: one leads and takes the time, the other follows.
//!
//! Both sides meet at the hand-off before anything is timed, so no turn begins while the other side
//! is still waking up.

use std::time::{Duration, Instant};
use std::{array, thread};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use seqring_cli::bench::handoff::HandOff;
use seqring_cli::bench::peer::Desk;
use seqring_cli::bench::spin::Check;
use serde::{Deserialize, Serialize};

use crate::copy::Bounce;
use crate::ends::{Receiver, Sender, batch_of};
use crate::follower::Follower;
use crate::spec::{Mode, Spec};
use crate::systems::{Channel, Visitor, visit};

/// How long a follower is left alone before it counts as asleep: far beyond every spinning of every
/// system.
const FALL_ASLEEP: Duration = Duration::from_millis(1);

/// What a follower is asked to prepare.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Job {
    /// The bare line, and nothing else.
    HandOff,
    /// Copies through shared memory, without any protocol but the line.
    Copy {
        /// Of the memory.
        name: String,
        /// Of a message.
        bytes: usize,
    },
    /// Sends back what it receives, polling.
    PingPong(Spec),
    /// Sends back what it receives, sleeping in between.
    Wake(Spec),
    /// Receives with every reader of the channel, one after the other.
    Flow(Spec),
    /// Attaches every reader of the channel, and then does nothing.
    Idle(Spec),
}

/// How a flow goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Style {
    /// Message after message; the follower answers once, when every reader has the last.
    Single,
    /// The same, and the time is that of sending.
    Sent,
    /// Like [`Style::Single`] with the system's calls for batches.
    Batch,
    /// The follower answers each message, when every reader has it.
    Answered,
}

/// What a follower counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Count {
    /// Messages received, by all readers together.
    pub received: u64,
    /// Messages that were overwritten before they were received.
    pub lost: u64,
    /// Nanoseconds that the leader took to create the channel, where that was the task.
    pub create_ns: f64,
    /// Nanoseconds that the follower took to attach, where that was the task.
    pub attach_ns: f64,
}

/// Of so many messages in a row that are timed one by one, how many are left out: they find the
/// caches as another system has left them. In a turn of a thousand, three of them would make the
/// 99.9th percentile, and by that of the system whose turn it was before. Where both sides sleep
/// before each, all are alike.
pub const fn cold(count: u64, sleeps: bool) -> u64 {
    if sleeps { 0 } else { count / 10 }
}

/// The side that takes the time.
pub trait Lead {
    /// Does something so many times, and returns the nanoseconds of all of it.
    fn turn(
        &mut self,
        count: u64,
        style: Style,
        line: &mut HandOff,
        check: &mut Check<'_>,
    ) -> Result<f64>;

    /// Does it so many times, each timed by itself: nanoseconds.
    fn sample(
        &mut self,
        count: u64,
        line: &mut HandOff,
        check: &mut Check<'_>,
        histogram: &mut Histogram<u64>,
    ) -> Result<()> {
        for _ in 0..count {
            histogram.saturating_record(self.turn(1, Style::Answered, line, check)? as u64);
        }
        Ok(())
    }
}

/// The other side.
pub trait Follow {
    /// Its part of a turn.
    fn turn(&mut self, count: u64, style: Style, desk: &mut Desk<'_>) -> Result<Count>;
}

/// Prepares to follow.
///
/// # Errors
///
/// When a channel cannot be attached to.
pub fn follow(job: &Job) -> Result<(Box<dyn Follow>, Count)> {
    let start = Instant::now();
    let follow: Box<dyn Follow> = match job {
        Job::HandOff => Box::new(Waiting),
        Job::Copy { name, bytes } => Box::new(Bounce::open(name, *bytes)?),
        Job::PingPong(spec) => visit(spec, FollowPingPong { sleeps: false })?,
        Job::Wake(spec) => visit(spec, FollowPingPong { sleeps: true })?,
        Job::Flow(spec) => visit(spec, FollowFlow)?,
        Job::Idle(spec) => visit(spec, FollowIdle)?,
    };
    Ok((follow, Count { attach_ns: start.elapsed().as_nanos() as f64, ..Count::default() }))
}

/// Prepares to lead: creates the channel, lets the follower attach, and attaches to what comes
/// back.
///
/// # Errors
///
/// When either side fails.
pub fn lead(job: &Job, id: u32, follower: &mut Follower<'_>) -> Result<(Box<dyn Lead>, Count)> {
    match job {
        Job::HandOff => Ok((Box::new(Waiting), follower.open(id, job)?)),
        Job::Copy { name, bytes } => {
            let bounce = Bounce::create(name, *bytes)?;
            let count = follower.open(id, job)?;
            Ok((Box::new(bounce), count))
        }
        Job::PingPong(spec) | Job::Wake(spec) => {
            let sleeps = matches!(job, Job::Wake(_));
            visit(spec, LeadPingPong { job, id, follower, sleeps })
        }
        Job::Flow(spec) => visit(spec, LeadFlow { job, id, follower, answers: true }),
        Job::Idle(spec) => visit(spec, LeadFlow { job, id, follower, answers: false }),
    }
}

/// The leader's part of the meeting before a turn.
pub fn meet(line: &mut HandOff, check: &mut Check<'_>) -> Result<()> {
    line.pass();
    line.catch(check)
}

/// The follower's part of the meeting before a turn.
pub fn be_met(desk: &mut Desk<'_>) -> Result<()> {
    desk.hand_off.catch(desk.check)?;
    desk.hand_off.pass();
    Ok(())
}

/// Only the line.
struct Waiting;

impl Lead for Waiting {
    fn turn(
        &mut self,
        count: u64,
        _style: Style,
        line: &mut HandOff,
        check: &mut Check<'_>,
    ) -> Result<f64> {
        meet(line, check)?;
        let trips = u32::try_from(count)?;
        Ok(line.lead(trips, check)? * 2.0 * count as f64)
    }
}

impl Follow for Waiting {
    fn turn(&mut self, count: u64, _style: Style, desk: &mut Desk<'_>) -> Result<Count> {
        be_met(desk)?;
        desk.hand_off.follow(u32::try_from(count)?, desk.check)?;
        Ok(Count::default())
    }
}

/// Looks between two checks that the other side is there. Those that enter the kernel may sleep
/// there, and are checked behind each.
const LOOKS: u32 = 1 << 18;

/// What a look has come to.
enum Look {
    /// What was waited for is there.
    Done,
    /// Something is.
    Some,
    Nothing,
}

/// Looks until what is waited for is there, with a pause behind each look that finds nothing: who
/// looks again at once takes the line while the sender is about to write it. The loop stands where
/// it is called, with what it calls, for every system.
macro_rules! until_done {
    ($is_kernel:expr, $check:expr, $look:expr) => {{
        let looks = if $is_kernel { 1 } else { LOOKS };
        'looking: loop {
            for _ in 0..looks {
                match $look {
                    Look::Done => break 'looking,
                    Look::Some => {}
                    Look::Nothing => std::hint::spin_loop(),
                }
            }
            $check()?;
        }
    }};
}

/// Attends to message number `n`.
#[inline(always)]
fn expect<R: Receiver>(
    receiver: &mut R,
    n: u64,
    is_kernel: bool,
    check: &mut Check<'_>,
) -> Result<()> {
    until_done!(is_kernel, check, {
        match receiver.attend()? {
            Some(number) => {
                next_is(number, n)?;
                Look::Done
            }
            None => Look::Nothing,
        }
    });
    Ok(())
}

/// Sleeps until message number `n` is there.
fn expect_asleep<R: Receiver>(receiver: &mut R, n: u64, check: &mut Check<'_>) -> Result<()> {
    loop {
        if let Some(number) = receiver.wait()? {
            return next_is(number, n);
        }
        check()?;
    }
}

#[inline(always)]
fn next_is(number: u64, expected: u64) -> Result<()> {
    ensure!(number == expected, "message {number} arrived instead of message {expected}");
    Ok(())
}

/// Both sides of ping-pong.
struct PingPong<S, R> {
    sender: S,
    receiver: R,
    n: u64,
    is_kernel: bool,
    sleeps: bool,
}

struct LeadPingPong<'a, 'b> {
    job: &'a Job,
    id: u32,
    follower: &'a mut Follower<'b>,
    sleeps: bool,
}

impl Visitor for LeadPingPong<'_, '_> {
    type Output = (Box<dyn Lead>, Count);

    fn visit<C: Channel, const W: usize>(self, spec: &Spec) -> Result<Self::Output> {
        let sender = C::sender::<W>(spec)?;
        let count = self.follower.open(self.id, self.job)?;
        let receiver = C::receiver::<W>(&spec.back(), 0)?;
        let ends = PingPong {
            sender,
            receiver,
            n: 0,
            is_kernel: spec.system.is_kernel(),
            sleeps: self.sleeps,
        };
        Ok((Box::new(ends), count))
    }
}

struct FollowPingPong {
    sleeps: bool,
}

impl Visitor for FollowPingPong {
    type Output = Box<dyn Follow>;

    fn visit<C: Channel, const W: usize>(self, spec: &Spec) -> Result<Self::Output> {
        let receiver = C::receiver::<W>(spec, 0)?;
        let sender = C::sender::<W>(&spec.back())?;
        Ok(Box::new(PingPong {
            sender,
            receiver,
            n: 0,
            is_kernel: spec.system.is_kernel(),
            sleeps: self.sleeps,
        }))
    }
}

impl<S: Sender, R: Receiver> PingPong<S, R> {
    #[inline(always)]
    fn serve(&mut self, check: &mut Check<'_>) -> Result<()> {
        self.sender.send(self.n)?;
        if self.sleeps {
            expect_asleep(&mut self.receiver, self.n, check)?
        } else {
            expect(&mut self.receiver, self.n, self.is_kernel, check)?
        }
        self.n += 1;
        Ok(())
    }
}

impl<S: Sender, R: Receiver> Lead for PingPong<S, R> {
    fn turn(
        &mut self,
        count: u64,
        _style: Style,
        line: &mut HandOff,
        check: &mut Check<'_>,
    ) -> Result<f64> {
        meet(line, check)?;
        if self.sleeps {
            let mut elapsed = Duration::ZERO;
            for _ in 0..count {
                thread::sleep(FALL_ASLEEP);
                let start = Instant::now();
                self.serve(check)?;
                elapsed += start.elapsed();
            }
            return Ok(elapsed.as_nanos() as f64);
        }
        let start = Instant::now();
        for _ in 0..count {
            self.serve(check)?;
        }
        Ok(start.elapsed().as_nanos() as f64)
    }

    fn sample(
        &mut self,
        count: u64,
        line: &mut HandOff,
        check: &mut Check<'_>,
        histogram: &mut Histogram<u64>,
    ) -> Result<()> {
        meet(line, check)?;
        let cold = cold(count, self.sleeps);
        for trip in 0..count {
            if self.sleeps {
                thread::sleep(FALL_ASLEEP);
            }
            let start = Instant::now();
            self.serve(check)?;
            if trip >= cold {
                histogram.saturating_record(start.elapsed().as_nanos() as u64);
            }
        }
        Ok(())
    }
}

impl<S: Sender, R: Receiver> Follow for PingPong<S, R> {
    fn turn(&mut self, count: u64, _style: Style, desk: &mut Desk<'_>) -> Result<Count> {
        be_met(desk)?;
        for _ in 0..count {
            if self.sleeps {
                expect_asleep(&mut self.receiver, self.n, desk.check)?;
            } else {
                expect(&mut self.receiver, self.n, self.is_kernel, desk.check)?;
            }
            self.sender.send(self.n)?;
            self.n += 1;
        }
        Ok(Count { received: count, ..Count::default() })
    }
}

struct LeadFlow<'a, 'b> {
    job: &'a Job,
    id: u32,
    follower: &'a mut Follower<'b>,
    answers: bool,
}

/// The sender of a flow.
struct Source<S, const W: usize> {
    sender: S,
    n: u64,
    /// Whether the follower says when it has everything.
    answers: bool,
}

impl Visitor for LeadFlow<'_, '_> {
    type Output = (Box<dyn Lead>, Count);

    fn visit<C: Channel, const W: usize>(self, spec: &Spec) -> Result<Self::Output> {
        let start = Instant::now();
        let sender = C::sender::<W>(spec)?;
        let create_ns = start.elapsed().as_nanos() as f64;
        let count = Count { create_ns, ..self.follower.open(self.id, self.job)? };
        Ok((Box::new(Source::<_, W> { sender, n: 0, answers: self.answers }), count))
    }
}

impl<S: Sender, const W: usize> Lead for Source<S, W> {
    /// The time until the follower has answered; without answers, that of sending.
    fn turn(
        &mut self,
        count: u64,
        style: Style,
        line: &mut HandOff,
        check: &mut Check<'_>,
    ) -> Result<f64> {
        meet(line, check)?;
        let end = self.n + count;
        let start = Instant::now();
        match style {
            Style::Single | Style::Sent => {
                for n in self.n..end {
                    self.sender.send(n)?;
                }
            }
            Style::Batch => {
                let most = batch_of(W) as u64;
                let mut n = self.n;
                while n < end {
                    let batch = most.min(end - n);
                    self.sender.send_batch(n, batch as usize)?;
                    n += batch;
                }
            }
            Style::Answered => {
                for n in self.n..end {
                    self.sender.send(n)?;
                    line.catch(check)?;
                    line.pass();
                }
            }
        }
        self.n = end;
        let sent = start.elapsed();
        if self.answers && style != Style::Answered {
            line.catch(check)?;
            line.pass();
        }
        let elapsed = if style == Style::Sent { sent } else { start.elapsed() };
        Ok(elapsed.as_nanos() as f64)
    }
}

struct FollowFlow;

/// The readers of a flow.
struct Sink<R> {
    readers: Vec<Reader<R>>,
    is_lossless: bool,
    is_kernel: bool,
    /// Number of the first message of the next turn.
    n: u64,
}

struct Reader<R> {
    receiver: R,
    /// Number of the next message.
    next: u64,
    lost: u64,
}

impl Visitor for FollowFlow {
    type Output = Box<dyn Follow>;

    fn visit<C: Channel, const W: usize>(self, spec: &Spec) -> Result<Self::Output> {
        let receivers = (0..spec.readers)
            .map(|reader| C::receiver::<W>(spec, reader))
            .collect::<Result<Vec<_>>>()?;
        let readers =
            receivers.into_iter().map(|receiver| Reader { receiver, next: 0, lost: 0 }).collect();
        Ok(Box::new(Sink {
            readers,
            is_lossless: spec.mode == Mode::Lossless,
            is_kernel: spec.system.is_kernel(),
            n: 0,
        }))
    }
}

impl<R: Receiver> Sink<R> {
    /// Receives with every reader until each has the last message before `end`.
    #[inline(always)]
    fn drain(&mut self, end: u64, batch: bool, check: &mut Check<'_>) -> Result<()> {
        let Self { readers, is_lossless, is_kernel, .. } = self;
        let mut missing = readers.len();
        until_done!(*is_kernel, check, {
            let mut look = Look::Nothing;
            for reader in readers.iter_mut().filter(|reader| reader.next < end) {
                let Reader { receiver, next, lost } = reader;
                let mut count = |number: u64| {
                    ensure!(
                        number >= *next,
                        "message {number} arrived after message {}",
                        *next - 1
                    );
                    ensure!(
                        number == *next || !*is_lossless,
                        "message {number} arrived instead of message {next}"
                    );
                    *lost += number - *next;
                    *next = number + 1;
                    look = Look::Some;
                    Ok(())
                };
                if batch {
                    receiver.poll_batch(&mut count)?;
                } else if let Some(number) = receiver.poll()? {
                    count(number)?;
                }
                missing -= usize::from(reader.next == end);
            }
            if missing == 0 { Look::Done } else { look }
        });
        Ok(())
    }

    fn lost(&self) -> u64 {
        self.readers.iter().map(|reader| reader.lost).sum()
    }
}

impl<R: Receiver> Follow for Sink<R> {
    fn turn(&mut self, count: u64, style: Style, desk: &mut Desk<'_>) -> Result<Count> {
        be_met(desk)?;
        let lost = self.lost();
        let steps = if style == Style::Answered { count } else { 1 };
        let stride = count / steps;
        for _ in 0..steps {
            self.n += stride;
            self.drain(self.n, style == Style::Batch, desk.check)?;
            desk.hand_off.pass();
            desk.hand_off.catch(desk.check)?;
        }
        let lost = self.lost() - lost;
        Ok(Count { received: count * self.readers.len() as u64 - lost, lost, ..Count::default() })
    }
}

struct FollowIdle;

/// Readers that do nothing.
struct Asleep<R> {
    _receivers: Vec<R>,
}

impl Visitor for FollowIdle {
    type Output = Box<dyn Follow>;

    fn visit<C: Channel, const W: usize>(self, spec: &Spec) -> Result<Self::Output> {
        let receivers = (0..spec.readers).map(|reader| {
            let mut receiver = C::receiver::<W>(spec, reader)?;
            // So that it has seen the channel, like one that waits for its next message.
            ensure!(receiver.poll()?.is_none(), "a message came while nothing was sent");
            Ok(receiver)
        });
        Ok(Box::new(Asleep { _receivers: receivers.collect::<Result<Vec<_>>>()? }))
    }
}

impl<R> Follow for Asleep<R> {
    fn turn(&mut self, _count: u64, _style: Style, desk: &mut Desk<'_>) -> Result<Count> {
        be_met(desk)?;
        Ok(Count::default())
    }
}

/// The quantiles of a row: p50, p99, p99.9 and the maximum.
pub fn quantiles(histogram: &Histogram<u64>, divisor: f64) -> [f64; 4] {
    let of = [0.5, 0.99, 0.999, 1.0];
    array::from_fn(|i| histogram.value_at_quantile(of[i]) as f64 / divisor)
}
