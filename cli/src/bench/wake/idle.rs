//! What a consumer uses that waits for a message which does not come.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use seqring::{IfExists, RecvTimeoutError, Registration, Ring};
use serde::{Deserialize, Serialize};

use super::Bench;
use super::row::Idle;
use crate::bench::output::Bar;
use crate::bench::peer;
use crate::clock;

/// How often the first process looks whether it is still to go on.
const TICK: Duration = Duration::from_millis(50);

/// How the consumer waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Registered: asleep until it is woken.
    Parked,
    /// It only reads, so nobody can wake it: it naps.
    Napping,
}

impl Kind {
    /// As it stands in the output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Napping => "napping",
        }
    }
}

/// What both processes have to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    kind: Kind,
    ring: String,
    seconds: f64,
}

/// What the second process used.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Usage {
    /// How long it was watched.
    pub seconds: f64,
    /// How much of it the processor was used.
    pub cpu_seconds: f64,
}

/// Lets a consumer of the second process wait for so long, on a ring whose producer lives and is
/// silent.
///
/// # Errors
///
/// When it cannot be measured.
pub fn run(bench: &mut Bench<'_>, kind: Kind, seconds: f64) -> Result<Idle> {
    let task = Task { kind, ring: bench.session.name(&format!("idle-{}", kind.name())), seconds };
    let ring = Ring::<u64>::builder(&task.ring)
        .slots(1024)
        .if_exists(IfExists::Error)
        .prefault(true)
        .create()?;
    let _producer = ring.producer()?;
    bench.peer.begin(&peer::Task::Doze(task))?;
    let duration = Duration::from_secs_f64(seconds);
    let bar = Bar::new(
        &format!("idle {}", kind.name()),
        duration.as_nanos().div_ceil(TICK.as_nanos()) as u64,
    );
    // The second process has the word when the time is up; until then this one listens for Ctrl-C.
    let (_, mut check) = bench.peer.parts();
    let began = Instant::now();
    while began.elapsed() < duration {
        check()?;
        thread::sleep(TICK);
        bar.step();
    }
    drop(check);
    Ok(Idle::new(kind, bench.peer.end()?))
}

/// The part of the second process.
///
/// # Errors
///
/// When the ring ends, or something comes.
pub fn follow(task: &Task, desk: &peer::Desk<'_>) -> Result<Usage> {
    let ring = Ring::<u64>::options(&task.ring).read_only(true).prefault(true).open()?;
    match task.kind {
        Kind::Parked => doze(ring.consumer().name("idle").attach()?, task.seconds, desk),
        Kind::Napping => doze(ring.consumer().attach(), task.seconds, desk),
    }
}

fn doze<R: Registration>(
    mut consumer: seqring::Consumer<u64, R>,
    seconds: f64,
    desk: &peer::Desk<'_>,
) -> Result<Usage> {
    desk.ready()?;
    let cpu_before = clock::process_cpu_seconds();
    let began = Instant::now();
    match consumer.recv_timeout(Duration::from_secs_f64(seconds)) {
        Err(RecvTimeoutError::Timeout) => {}
        Err(error) => return Err(error.into()),
        Ok(message) => bail!("nobody sent the message {message}"),
    }
    Ok(Usage {
        seconds: began.elapsed().as_secs_f64(),
        cpu_seconds: clock::process_cpu_seconds() - cpu_before,
    })
}
