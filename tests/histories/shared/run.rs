//! Runs with several producers, of which some are killed: those that live on are threads of this
//! process, or processes as well.

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{env, fs, process, thread};

use proptest::collection::vec;
use proptest::prelude::*;
use seqring::{Message, Ring};
use serde::{Deserialize, Serialize};

use crate::history::Span;
use crate::plan::{self, Plan, Publish, Reading, Shape};
use crate::record::{Traffic, clock, read};
use crate::run::with_traffic;
use crate::shared::record::{Author, Crew, Journal, Told, builder};
use crate::shared::{History, Produced};
use crate::support::Name;
use crate::support::role::{self, Child};

/// What several producers and their consumers do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CrewPlan {
    /// The shape, the slots and the consumers; its own publishing is that of the first producer.
    pub base: Plan,
    /// What the other producers do that live on.
    pub others: Vec<Vec<Publish>>,
    /// After how many microseconds each of those is killed that publish until then. Another takes
    /// its place and closes when it has published.
    pub kills: Vec<u64>,
}

impl CrewPlan {
    fn survivors(&self) -> usize {
        1 + self.others.len()
    }

    /// Rows: those of the dead are used again.
    fn rows(&self) -> usize {
        (self.survivors() + self.kills.len()).max(2)
    }

    /// What producer `index` publishes.
    fn steps(&self, index: usize) -> &[Publish] {
        match index.checked_sub(1) {
            None => &self.base.publishing,
            // Successors do what the first does.
            Some(other) => self.others.get(other).unwrap_or(&self.base.publishing),
        }
    }
}

/// Plans with consumers that gate if asked to, and others.
pub fn plans(steps: usize, gating: bool) -> impl Strategy<Value = CrewPlan> {
    let others = vec(vec(plan::shared_publishes(), 1..steps), 0..=2);
    let kills = prop_oneof![1 => Just(vec![]), 2 => vec(200..6000u64, 1..=2)];
    (plan::shared_plans(steps, gating), others, kills).prop_map(|(base, others, kills)| CrewPlan {
        base,
        others,
        kills,
    })
}

/// The journals of a run, which go with it.
struct Journals(PathBuf);

impl Journals {
    fn create() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let directory = format!(
            "seqring-histories-{}-{}",
            process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = env::temp_dir().join(directory);
        fs::create_dir(&path).expect("a directory for temporary files");
        Self(path)
    }

    fn of(&self, producer: usize) -> PathBuf {
        journal(&self.0, producer)
    }
}

impl Drop for Journals {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn journal(directory: &Path, producer: usize) -> PathBuf {
    directory.join(producer.to_string())
}

/// What a child is told: the ring, the plan, and which of the producers or readers it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Part {
    name: String,
    plan: CrewPlan,
    journals: PathBuf,
    index: usize,
}

/// Runs `plan` with a thread for each consumer and for each producer that is not killed.
pub fn threads(plan: &CrewPlan) -> History {
    with_traffic!(plan.base, threads_of(plan))
}

fn threads_of<T: Crew>(plan: &CrewPlan) -> History {
    let name = Name::new("crew-threads");
    let ring = builder::<T>(&name, &plan.base, plan.rows()).create().expect("a new ring");
    let journals = Journals::create();
    let part =
        Part { name: name.to_string(), plan: plan.clone(), journals: journals.0.clone(), index: 0 };
    let (readings, survivors) = (&plan.base.readings, plan.survivors());
    let mut doomed = Doomed::start(&part);
    let (ready, dead) = (Barrier::new(readings.len() + survivors + 1), Barrier::new(survivors + 1));
    thread::scope(|scope| {
        let (ring, name, ready, dead, journals) = (&ring, &name, &ready, &dead, &journals);
        let readers = readings.iter().enumerate().map(|(index, reading)| {
            scope.spawn(move || {
                let own = Ring::open_read_only(name).expect("an open ring");
                let ring = if reading.writable { ring } else { &own };
                receive::<T>(ring, plan, reading, index, || {
                    ready.wait();
                })
            })
        });
        let readers: Vec<_> = readers.collect();
        let authors = (0..survivors).map(|index| {
            scope.spawn(move || {
                let mut author = Author::<T>::join(ring, index, &journals.of(index));
                ready.wait();
                author.publish(plan.steps(index));
                dead.wait();
                author.close()
            })
        });
        let authors: Vec<_> = authors.collect();
        ready.wait();
        let ended = doomed.play(&part);
        dead.wait();
        let closed = authors.into_iter().map(|author| author.join().expect("no panic"));
        let producers = ends(journals, closed.collect(), ended);
        History {
            slots: plan.base.slots as u64,
            producers,
            readers: readers
                .into_iter()
                .map(|reader| Told(reader.join().expect("no panic")).into())
                .collect(),
        }
    })
}

/// Runs `plan` with a process for each producer and each consumer.
pub fn processes(plan: &CrewPlan) -> History {
    with_traffic!(plan.base, processes_of(plan))
}

fn processes_of<T: Crew>(plan: &CrewPlan) -> History {
    let name = Name::new("crew-processes");
    let _ring = builder::<T>(&name, &plan.base, plan.rows()).create().expect("a new ring");
    let journals = Journals::create();
    let part =
        Part { name: name.to_string(), plan: plan.clone(), journals: journals.0.clone(), index: 0 };
    let mut doomed = Doomed::start(&part);
    let start = |role: &str, count: usize| -> Vec<Child> {
        let mut children: Vec<Child> = (0..count)
            .map(|index| Child::start(role, &told(&Part { index, ..part.clone() })))
            .collect();
        children.iter_mut().for_each(|child| assert_eq!(child.line(), "ready"));
        children
    };
    let readers = start("crew-reader", plan.base.readings.len());
    let mut authors = start("crew-author", plan.survivors());
    authors.iter_mut().for_each(|author| author.tell("publish"));
    let ended = doomed.play(&part);
    authors.iter_mut().for_each(|author| assert_eq!(author.line(), "published"));
    let closed = authors.into_iter().map(|mut author| {
        let closed: Span = heard(&author.ask("close"));
        author.finish();
        closed
    });
    let producers = ends(&journals, closed.collect(), ended);
    let readers = readers.into_iter().map(|mut reader| {
        let told: Told = heard(&reader.line());
        reader.finish();
        told.into()
    });
    History { slots: plan.base.slots as u64, producers, readers: readers.collect() }
}

/// The producers that are killed.
struct Doomed(Vec<Child>);

impl Doomed {
    fn start(part: &Part) -> Self {
        let index = |victim: usize| part.plan.survivors() + 2 * victim;
        let start = |victim: usize| {
            Child::start("crew-doomed", &told(&Part { index: index(victim), ..part.clone() }))
        };
        let mut children: Vec<Child> = (0..part.plan.kills.len()).map(start).collect();
        children.iter_mut().for_each(|child| assert_eq!(child.line(), "ready"));
        Self(children)
    }

    /// Lets them publish, kills them one after the other, and sees their successors through.
    /// Returns whether each of all these was killed, and when it ended.
    fn play(&mut self, part: &Part) -> Vec<(bool, Span)> {
        self.0.iter_mut().for_each(|child| child.tell("publish"));
        let mut ended = Vec::new();
        for (victim, (child, micros)) in self.0.iter_mut().zip(&part.plan.kills).enumerate() {
            thread::sleep(Duration::from_micros(*micros));
            let invoked = clock();
            child.kill();
            ended.push((true, Span { invoked, returned: clock() }));
            let index = part.plan.survivors() + 2 * victim + 1;
            let mut successor = Child::start("crew-author", &told(&Part { index, ..part.clone() }));
            assert_eq!(successor.line(), "ready");
            assert_eq!(successor.ask("publish"), "published");
            ended.push((false, heard(&successor.ask("close"))));
            successor.finish();
        }
        ended
    }
}

/// All producers, in the order of their numbers: those that closed, and the rest.
fn ends(journals: &Journals, closed: Vec<Span>, rest: Vec<(bool, Span)>) -> Vec<Produced> {
    let all = closed.into_iter().map(|end| (false, end)).chain(rest);
    let produced = |(index, (killed, mut end)): (usize, (bool, Span))| {
        let calls = Journal::read(&journals.of(index));
        if let Some(last) = calls.last().filter(|_| killed) {
            // It went on for a moment behind the kill.
            end.invoked =
                end.invoked.max(last.sequence.map_or(last.span.invoked, |_| last.span.returned));
        }
        Produced { calls, killed, end }
    };
    all.enumerate().map(produced).collect()
}

/// Receives as planned; `ready` is called when the producers may begin.
fn receive<T: Traffic>(
    ring: &Ring<T::Message>,
    plan: &CrewPlan,
    reading: &Reading,
    index: usize,
    ready: impl FnOnce(),
) -> crate::history::Read {
    if reading.join_percent == 0 {
        return read::<T>(ring, reading, index, ready);
    }
    ready();
    wait_to_join(ring, plan.base.messages() * reading.join_percent / 100);
    read::<T>(ring, reading, index, || ())
}

/// Waits until so much has been claimed.
fn wait_to_join<M: Message + ?Sized>(ring: &Ring<M>, due: u64) {
    while ring.head() < due {
        thread::sleep(Duration::from_micros(50));
    }
}

fn told<T: Serialize>(what: &T) -> String {
    serde_json::to_string(what).expect("plain data")
}

fn heard<T: for<'a> Deserialize<'a>>(line: &str) -> T {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("a child said {line:?}: {error}"))
}

/// This process is a child of a run.
pub fn child(role: &str, argument: &str) {
    let part: Part = heard(argument);
    match role {
        "crew-author" => with_traffic!(part.plan.base, author(&part)),
        "crew-doomed" => with_traffic!(part.plan.base, doomed(&part)),
        "crew-reader" => with_traffic!(part.plan.base, reader(&part)),
        other => panic!("no role is called {other:?}"),
    }
}

fn join<T: Crew>(part: &Part) -> Author<T> {
    let ring = Ring::<T::Message>::open(&part.name).expect("an open ring");
    let author = Author::join(&ring, part.index, &journal(&part.journals, part.index));
    role::say("ready");
    assert_eq!(role::hear().as_deref(), Some("publish"));
    author
}

fn author<T: Crew>(part: &Part) {
    let mut author = join::<T>(part);
    author.publish(part.plan.steps(part.index));
    role::say("published");
    assert_eq!(role::hear().as_deref(), Some("close"));
    role::say(&told(&author.close()));
}

fn doomed<T: Crew>(part: &Part) {
    let mut author = join::<T>(part);
    loop {
        author.publish(&[
            Publish::Single(20),
            Publish::Built(5),
            Publish::Pause(50),
            Publish::Try(10),
        ]);
    }
}

fn reader<T: Crew>(part: &Part) {
    let ring = Ring::<T::Message>::open_read_only(&part.name).expect("an open ring");
    let reading = &part.plan.base.readings[part.index];
    let read = receive::<T>(&ring, &part.plan, reading, part.index, || role::say("ready"));
    role::say(&told(&Told(read)));
}

/// The runs are worth something only if some of the killed leave claims behind.
#[test]
fn the_killed_leave_claims() {
    let reading = |standing| Reading {
        start: plan::From::Next,
        on_lag: plan::Policy::Oldest,
        standing,
        join_percent: 0,
        writable: false,
        calls: vec![plan::Call::Recv],
        rounds: 1,
        leaves: false,
    };
    let readings = vec![reading(plan::ConsumerKind::Gating), reading(plan::ConsumerKind::Free)];
    let base = Plan {
        shape: Shape::Bytes(4000),
        slots: 8,
        publishing: vec![Publish::Built(20), Publish::Single(20)],
        readings,
    };
    let plan = CrewPlan { base, others: vec![], kills: vec![2000, 2000] };
    let left = (0..100).any(|_| {
        let history = threads(&plan);
        assert_eq!(crate::shared::check::check(&history), []);
        let gating = history.readers[0].events.last().expect("the end");
        gating.after.tombstones > 0
    });
    assert!(left, "of 200 killed producers none left a tombstone");
}
