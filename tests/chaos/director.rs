//! Starts the actors, kills them, and sees that the others go on.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use seqring::Ring;

use crate::actor::Actor;
use crate::board::{Board, Phase};
use crate::leaks::{Holdings, expect_rows_of_the_living};
use crate::order;
use crate::random::Random;
use crate::report::Report;
use crate::roles::{self, Kind, SLOTS, Scene};
use crate::stage::Part;
use crate::support::role::PATIENCE;

const POLL: Duration = Duration::from_millis(1);
/// Victims of a round, at most.
const MOST_VICTIMS: usize = 4;
/// So many kills into the life of a ring, its survivors hold what they will ever hold.
const WARM: u64 = 30;

/// One ring's life.
#[derive(Debug)]
pub struct Director<'a> {
    ring: String,
    board: Board,
    scene: Scene,
    /// How many processes have entered so far.
    entries: u64,
    /// How many of its producers were killed.
    dead_producers: u64,
    random: Random,
    actors: Vec<Actor>,
    /// Those of the last round.
    victims: BTreeSet<usize>,
    report: &'a mut Report,
}

impl<'a> Director<'a> {
    /// Starts everybody. They race for the creation of the ring.
    pub fn open(ring: &str, scene: Scene, seed: u64, report: &'a mut Report) -> Self {
        let board = Board::create(ring).expect("a directory for temporary files");
        let mut director = Self {
            ring: ring.into(),
            board,
            scene,
            entries: 0,
            dead_producers: 0,
            random: Random(seed),
            actors: Vec::new(),
            victims: BTreeSet::new(),
            report,
        };
        for role in scene {
            for index in 0..role.veterans + role.mortals {
                let actor = director.start(role, index < role.veterans, director.actors.len());
                director.actors.push(actor);
            }
        }
        director.report.rings += 1;
        director
    }

    /// Kills until there are so many kills more, or `stop` says so.
    pub fn kill(&mut self, kills: u64, mut stop: impl FnMut(&Report) -> bool) {
        let start = self.report.kills();
        let mut before = None;
        while self.report.kills() < start + kills && !stop(self.report) {
            self.round(start + kills - self.report.kills());
            if before.is_none() && self.report.kills() >= start + WARM {
                self.wait_until("everybody has begun", PATIENCE, |actors| {
                    actors.iter().all(Actor::has_begun)
                });
                before = Some(Holdings::of(&self.ring, &self.actors));
            }
        }
        // Whoever was killed last is in nobody's way, either.
        self.all_get_further();
        if let Some(before) = before {
            Holdings::of(&self.ring, &self.actors).expect_no_more(&before);
        }
    }

    /// The end: everybody stays, then leaves in order.
    pub fn close(mut self) {
        self.board.set_phase(Phase::Finale);
        let ring = Ring::<[u8]>::open_read_only(&self.ring).expect("the ring is there");
        // Twice: guests that were just leaving are back by then.
        self.all_get_further();
        self.all_get_further();
        expect_rows_of_the_living(&ring, &self.actors);
        self.board.set_phase(Phase::Close);
        let Self { actors, board, scene, dead_producers, report, .. } = self;
        for mut actor in actors {
            actor.finish(&board);
            report.call(actor.line.longest);
        }
        assert_eq!(ring.consumers(), [], "all have left");
        // All live gating readers have compared what they saw with what was seen before them.
        let (known, tombstones) = order::count(board.path(), ring.head());
        let most = if roles::producers(scene) > 1 { dead_producers } else { 0 };
        assert!(
            tombstones <= most,
            "{tombstones} claims without a message, of {dead_producers} killed producers"
        );
        report.messages += ring.head();
        report.compared += known;
        report.tombstones += tombstones;
    }

    /// Kills some actors at some moment, and restarts them.
    fn round(&mut self, at_most: u64) {
        // From the first instructions of those that were just started to well under way.
        let again = self.random.one_in(4);
        let life = if again { self.random.below(4_000) } else { self.random.below(25_000) };
        self.watch_for(Duration::from_micros(life));
        let victims = if again {
            self.victims.iter().copied().take(at_most as usize).collect()
        } else {
            self.choose(at_most)
        };
        let started = Instant::now();
        self.strike(&victims);
        self.victims.clone_from(&victims);
        let reached = self.reached();
        let producers_died =
            victims.iter().any(|index| self.actors[*index].role.kind == Kind::Publishes);
        let gates_died = victims.iter().any(|index| self.actors[*index].role.kind == Kind::Gates);
        let epoch = self.actors.iter().map(|actor| actor.line.epoch).max().unwrap_or_default();

        // Every other time, see the others through the change.
        let see_through = self.random.one_in(2);
        if see_through && (gates_died || producers_died) && self.publishes() {
            // Before others take the rows of the dead: a producer has to let gating readers go to
            // get a lap further, and the claims of other producers.
            self.wait_until("a producer goes on behind a death", PATIENCE, |actors| {
                actors.iter().any(|actor| {
                    actor.role.kind == Kind::Publishes
                        && actor.line.progress > reached + 2 * SLOTS as u64
                })
            });
            let report =
                if gates_died { &mut self.report.evictions } else { &mut self.report.burials };
            report.add(started.elapsed());
        }
        for index in &victims {
            self.actors[*index].bury();
        }
        if self.random.one_in(4) {
            let absence = self.random.below(10_000);
            self.watch_for(Duration::from_micros(absence));
        }
        let started = Instant::now();
        for index in &victims {
            let Actor { role, is_veteran, .. } = self.actors[*index];
            self.actors[*index] = self.start(role, is_veteran, *index);
        }
        if see_through && producers_died && epoch > 0 {
            self.wait_until(
                "everybody goes on behind a restart of a producer",
                PATIENCE,
                |actors| {
                    actors
                        .iter()
                        .all(|actor| actor.line.progress > reached && actor.line.epoch > epoch)
                },
            );
            self.report.takeovers.add(started.elapsed());
        }
    }

    /// Different mortals, each by the weight of its role.
    fn choose(&mut self, at_most: u64) -> BTreeSet<usize> {
        let mut number = 1;
        while number < MOST_VICTIMS && (number as u64) < at_most && self.random.one_in(2) {
            number += 1;
        }
        let ballots: Vec<usize> =
            self.actors.iter().enumerate().filter(|(_, actor)| !actor.is_veteran).fold(
                Vec::new(),
                |mut all, (index, actor)| {
                    all.extend((0..actor.role.weight).map(|_| index));
                    all
                },
            );
        let mut victims = BTreeSet::new();
        while victims.len() < number {
            victims.insert(ballots[self.random.below(ballots.len() as u64) as usize]);
        }
        victims
    }

    /// Kills them, all at once or with a little time in between.
    fn strike(&mut self, victims: &BTreeSet<usize>) {
        let apart = self.random.one_in(2);
        for index in victims {
            self.report.asleep += u64::from(self.actors[*index].is_asleep());
            self.actors[*index].kill();
            let victim = &self.actors[*index];
            *self.report.killed.entry(victim.role.name).or_default() += 1;
            self.dead_producers += u64::from(victim.role.kind == Kind::Publishes);
            if apart {
                thread::sleep(Duration::from_micros(self.random.below(2_000)));
            }
        }
        for index in victims {
            let victim = &mut self.actors[*index];
            victim.mourn(&self.board);
            self.report.early += u64::from(!victim.has_begun());
            self.report.call(victim.line.longest);
        }
    }

    fn start(&mut self, role: &'static roles::Role, is_veteran: bool, place: usize) -> Actor {
        self.entries += 1;
        let part = Part {
            ring: self.ring.clone(),
            board: self.board.path().into(),
            rows: roles::rows(self.scene),
            producers: roles::producers(self.scene),
            entry: self.entries,
            place,
            seed: self.random.next(),
        };
        Actor::start(role, is_veteran, &self.board, &part)
    }

    /// How far anybody is. What was received is published, whether or not its producer lived to
    /// count it.
    fn reached(&mut self) -> u64 {
        self.watch();
        self.actors.iter().map(|actor| actor.line.progress).max().unwrap_or_default()
    }

    fn publishes(&self) -> bool {
        self.actors
            .iter()
            .any(|actor| actor.role.kind == Kind::Publishes && actor.has_begun() && !actor.is_dead)
    }

    /// Reads what those say that live, and checks it.
    fn watch(&mut self) {
        for actor in &mut self.actors {
            actor.watch(&self.board);
        }
    }

    fn watch_for(&mut self, time: Duration) {
        let started = Instant::now();
        while started.elapsed() < time {
            thread::sleep(POLL.min(time));
            self.watch();
        }
    }

    fn all_get_further(&mut self) {
        self.wait_until("everybody has begun", PATIENCE, |actors| {
            actors.iter().all(Actor::has_begun)
        });
        let goal = self.reached() + 2 * SLOTS as u64;
        self.wait_until("everybody gets further", PATIENCE, |actors| {
            actors.iter().all(|actor| actor.line.progress > goal)
        });
    }

    /// Watches until this holds.
    fn wait_until(
        &mut self,
        what: &str,
        patience: Duration,
        mut holds: impl FnMut(&[Actor]) -> bool,
    ) {
        let started = Instant::now();
        while !holds(&self.actors) {
            assert!(
                started.elapsed() < patience,
                "not within {patience:?}: {what}; {}",
                self.state()
            );
            thread::sleep(POLL);
            self.watch();
        }
    }

    /// Where everybody is, and what the ring says about that.
    fn state(&self) -> String {
        let actors: Vec<_> =
            self.actors.iter().map(|actor| (actor.role.name, actor.id(), actor.line)).collect();
        let ring = Ring::<[u8]>::open_read_only(&self.ring)
            .map(|ring| (ring.head(), ring.is_producer_alive(), ring.consumers()));
        format!("all are at {actors:#?}, the ring at {ring:#?}")
    }
}
