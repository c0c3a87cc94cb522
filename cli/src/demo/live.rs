//! The live part: starting the processes, killing one, and adding up in the end.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use seqring::{IfExists, Ring};

use super::crew::Member;
use super::stats::{Stats, Tick};
use super::story::{Act, Story};
use crate::bench::output::figure;
use crate::bench::scenario::leftovers::Session;
use crate::interrupt::Interrupt;

/// Slots of the ring: 80 ms of what the producer publishes.
const SLOTS: usize = 4096;
/// Readers that keep up; one of them is killed.
const READERS: usize = 4;
/// The one that is killed, counted from 0.
const VICTIM: usize = 1;
/// Time between two looks.
const TICK: Duration = Duration::from_millis(100);

/// How the live part is shown.
pub trait Show {
    /// Shows the state, and waits up to `patience` for the user; `true` when the user wants to
    /// leave.
    ///
    /// # Errors
    ///
    /// When it cannot be shown.
    fn show(&mut self, scene: &Scene, patience: Duration) -> Result<bool>;
}

/// All there is to show.
#[derive(Debug)]
pub struct Scene {
    /// The writing process.
    pub producer: Member,
    /// The reading ones, also those that were killed.
    pub readers: Vec<Member>,
    /// What happened, with the second at which it did.
    pub events: Vec<(f64, String)>,
    /// Since the beginning.
    pub elapsed_seconds: f64,
    /// How long it will take.
    pub total_seconds: f64,
    /// Bytes of a message.
    pub message_bytes: usize,
    /// Slots of the ring.
    pub slots: usize,
}

/// How it ended.
#[derive(Debug)]
pub struct Ending {
    /// What happened, a line each.
    pub events: String,
    /// What it came to, in words.
    pub summary: String,
    /// The user did not want to see the rest.
    pub quit: bool,
}

/// Plays the live part.
///
/// # Errors
///
/// When a process cannot be started or dies uninvited, a promise is broken, or the user interrupts.
pub fn run(
    seconds: f64,
    session: &Session,
    interrupt: &Interrupt,
    show: &mut impl Show,
) -> Result<Ending> {
    let ring = Ring::<Tick>::builder(&session.name("demo"))
        .slots(SLOTS)
        .if_exists(IfExists::Error)
        .prefault(true)
        .create()?;
    let mut stage = Stage::open(seconds, session, &ring)?;
    let mut story = Story::new(seconds);
    loop {
        interrupt.check()?;
        stage.update()?;
        match story.due(stage.scene.elapsed_seconds) {
            Some(Act::Kill) => stage.kill()?,
            Some(Act::Replace) => stage.replace()?,
            Some(Act::JoinLate) => stage.join_late()?,
            Some(Act::End) => return stage.close(false),
            None => {}
        }
        if show.show(&stage.scene, TICK)? {
            return stage.close(true);
        }
    }
}

struct Stage<'a> {
    scene: Scene,
    session: &'a Session,
    ring: &'a Ring<Tick>,
    began: Instant,
    /// When the reader was killed, and how many messages had been published and lost by others.
    kill: Option<(Instant, u64, u64)>,
}

impl<'a> Stage<'a> {
    fn open(seconds: f64, session: &'a Session, ring: &'a Ring<Tick>) -> Result<Self> {
        let member = |name: &str, role: &[&str]| {
            let report = session.name(&format!("report-{}", name.replace(' ', "-")));
            Member::start(name, ring.name(), &report, role)
        };
        let reader = |name: &str, role: &[&str]| member(name, &[role, &["--name", name]].concat());
        let mut readers = Vec::new();
        for number in 1..=READERS {
            readers.push(reader(&format!("reader {number}"), &["demo-reader"])?);
        }
        readers.push(reader("slow reader", &["demo-reader", "--slow"])?);
        let scene = Scene {
            producer: member("producer", &["demo-producer"])?,
            readers,
            events: Vec::new(),
            elapsed_seconds: 0.0,
            total_seconds: seconds,
            message_bytes: ring.slot_bytes(),
            slots: ring.slots(),
        };
        let mut stage = Self { scene, session, ring, began: Instant::now(), kill: None };
        stage.tell(format!(
            "1 producer, {} readers, each a process; one is slow on purpose",
            READERS + 1
        ));
        Ok(stage)
    }

    fn tell(&mut self, event: String) {
        self.scene.events.push((self.began.elapsed().as_secs_f64(), event));
    }

    fn update(&mut self) -> Result<()> {
        self.scene.elapsed_seconds = self.began.elapsed().as_secs_f64();
        self.scene.producer.update()?;
        self.scene.readers.iter_mut().try_for_each(Member::update)
    }

    /// What the readers that keep up have lost so far.
    fn lost_by_bystanders(&self) -> u64 {
        let bystanders =
            self.scene.readers[..READERS].iter().enumerate().filter(|(index, _)| *index != VICTIM);
        bystanders.filter_map(|(_, reader)| reader.stats()).map(|stats| stats.lost).sum()
    }

    fn kill(&mut self) -> Result<()> {
        let victim = &mut self.scene.readers[VICTIM];
        victim.kill()?;
        let event =
            format!("{} (process {}) was killed with SIGKILL", victim.name, victim.process());
        self.kill = Some((Instant::now(), self.ring.head(), self.lost_by_bystanders()));
        self.tell(event);
        Ok(())
    }

    fn replace(&mut self) -> Result<()> {
        if let Some((when, head, lost)) = self.kill {
            let seconds = when.elapsed().as_secs_f64();
            let published = self.ring.head() - head;
            let lost = self.lost_by_bystanders() - lost;
            self.tell(format!(
                "since then {published} published ({}/s); other fast readers lost {lost}",
                figure(published as f64 / seconds)
            ));
        }
        self.add(&format!("reader {}", READERS + 1), &["demo-reader"], "takes its place")
    }

    fn join_late(&mut self) -> Result<()> {
        self.add(
            "late joiner",
            &["demo-reader", "--history"],
            "joins, with the history in the ring",
        )
    }

    fn add(&mut self, name: &str, role: &[&str], what: &str) -> Result<()> {
        let report = self.session.name(&format!("report-{}", name.replace(' ', "-")));
        let member =
            Member::start(name, self.ring.name(), &report, &[role, &["--name", name]].concat())?;
        let event = format!("{name} (process {}) {what}", member.process());
        self.scene.readers.push(member);
        self.tell(event);
        Ok(())
    }

    /// Stops the producer, lets the readers drain, and adds up.
    fn close(mut self, quit: bool) -> Result<Ending> {
        self.scene.producer.ask_to_stop();
        let producer = self.scene.producer.last_word()?;
        let mut events = String::new();
        for (seconds, event) in &self.scene.events {
            writeln!(events, "{seconds:5.1} s  {event}")?;
        }
        let mut summary = String::new();
        writeln!(
            summary,
            "\npublished {} messages of {} bytes",
            producer.messages, self.scene.message_bytes
        )?;
        for reader in &mut self.scene.readers {
            if reader.is_killed() {
                writeln!(summary, "  {:<12} killed", reader.name)?;
            } else {
                let stats = reader.last_word()?;
                check(&reader.name, stats, producer)?;
                let joined = producer.messages - stats.start;
                writeln!(
                    summary,
                    "  {:<12} received {} + lost {} = {joined} published since it joined",
                    reader.name, stats.messages, stats.lost
                )?;
            }
        }
        writeln!(summary, "no message arrived damaged, twice or out of order")?;
        Ok(Ending { events, summary, quit })
    }
}

/// What a reader counted must add up.
fn check(name: &str, stats: Stats, producer: Stats) -> Result<()> {
    let published = producer.start + producer.messages;
    ensure!(
        stats.wrong == 0,
        "{name}: {} messages arrived damaged or in the wrong place",
        stats.wrong
    );
    ensure!(
        stats.start + stats.messages + stats.lost == published,
        "{name}: it started at {}, received {} and lost {}, which does not add up to the {published} that were published",
        stats.start,
        stats.messages,
        stats.lost
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_do_not_add_up_are_refused() {
        let producer = Stats { messages: 100, ..Stats::default() };
        let good = Stats { start: 10, messages: 60, lost: 30, ..Stats::default() };
        assert!(check("r", good, producer).is_ok());
        for bad in
            [Stats { messages: 59, ..good }, Stats { lost: 31, ..good }, Stats { wrong: 1, ..good }]
        {
            assert!(check("r", bad, producer).is_err(), "{bad:?}");
        }
    }
}
