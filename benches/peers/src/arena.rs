//! Where the systems meet: who takes part, turn by turn, in short rounds, each turn behind a look
//! at the floor.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use seqring_cli::bench::scenario::leftovers::Session;
use seqring_cli::interrupt::{Interrupt, Interrupted};

use crate::follower::Follower;
use crate::job::{Count, Job, Lead, Style, cold, lead};
use crate::row::{Series, Skip, Unit};
use crate::spec::{Mode, Spec, System};
use crate::systems::python::Python;

/// Round trips of the bare line in front of every turn.
const FLOOR_TRIPS: u64 = 500;
/// Between two messages of the systems in Python that find their reader asleep.
const PYTHON_NAP: Duration = Duration::from_millis(1);

/// All that the benchmarks have at hand.
pub struct Arena<'a> {
    process: Follower<'a>,
    thread: Option<Follower<'a>>,
    python: Option<Python<'a>>,
    session: &'a Session,
    next: u32,
    hand_off: Option<Player>,
    /// Who takes part.
    pub systems: Vec<System>,
    /// Bytes of the messages, where a benchmark goes through all sizes.
    pub payloads: Vec<usize>,
    /// Rounds of everything, and how long a turn may take.
    pub pace: Pace,
    /// What was measured so far.
    pub all: Vec<Series>,
    /// What was not, and why.
    pub skipped: Vec<Skip>,
    bar: ProgressBar,
}

/// How long the run shall be.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Some of the numbers of readers are left out.
    pub is_quick: bool,
    /// Rounds that count.
    pub rounds: usize,
    /// Rounds before them that do not.
    pub warm_up: usize,
    /// Nanoseconds that a turn shall take.
    pub turn_ns: f64,
    /// So often the memory of a channel is created anew in the course of these: where its pages
    /// lie makes up to a third of what large messages take.
    pub placements: usize,
    /// Rounds of what takes long by nature: attaching a thousand readers, falling asleep.
    pub few_rounds: usize,
}

/// One system in one case.
pub struct Player {
    /// Which.
    pub system: System,
    id: u32,
    seat: Seat,
    lead: Option<Box<dyn Lead>>,
    /// What opening took.
    pub opened: Count,
    /// Bytes of shared memory, where the system says so itself.
    pub says_bytes: Option<f64>,
    /// Messages of a turn.
    pub count: u64,
    sleeps: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seat {
    Process,
    Thread,
    Python,
}

/// Values and floors of one player, round by round.
#[derive(Debug, Clone, Default)]
pub struct Track {
    /// One per round.
    pub values: Vec<f64>,
    /// Nanoseconds.
    pub floors: Vec<f64>,
}

impl<'a> Arena<'a> {
    /// Starts the followers that the systems need.
    ///
    /// # Errors
    ///
    /// When there are not two CPUs, or the process cannot be started.
    pub fn open(
        systems: Vec<System>,
        payloads: Vec<usize>,
        pace: Pace,
        session: &'a Session,
        interrupt: &'a Interrupt,
    ) -> Result<Self> {
        let cpus = seqring_cli::bench::pin::two_cpus()?;
        let mut skipped = Vec::new();
        let python = if systems.iter().any(|system| system.is_python()) {
            Python::start(cpus, interrupt).map_err(|error| skipped.push(format!("{error:#}"))).ok()
        } else {
            None
        };
        let process = Follower::process(&session.name("line"), cpus, interrupt)?;
        let thread = if systems.iter().any(|system| system.is_in_process()) {
            Some(Follower::thread(&session.name("thread-line"), cpus[1], interrupt)?)
        } else {
            None
        };
        let style =
            ProgressStyle::with_template("{prefix:12} {bar:30.cyan} {percent:>3}%  {wide_msg}")?;
        let bar = ProgressBar::new(1).with_style(style);
        let mut arena = Self {
            process,
            thread,
            python,
            session,
            next: 0,
            hand_off: None,
            systems,
            payloads,
            pace,
            all: Vec::new(),
            skipped: Vec::new(),
            bar,
        };
        for reason in skipped {
            for system in arena.systems.clone().into_iter().filter(|system| system.is_python()) {
                arena.skip("all", system, "everywhere", &reason);
            }
            arena.systems.retain(|system| !system.is_python());
        }
        arena.hand_off = Some(arena.floor_player(Job::HandOff)?);
        Ok(arena)
    }

    /// The version of Python, if it takes part.
    pub fn python_version(&self) -> Option<&str> {
        self.python.as_ref().map(|python| python.version.as_str())
    }

    /// A channel of a system in this run; its name is used once.
    pub fn spec(
        &mut self,
        system: System,
        bytes: usize,
        depth: usize,
        readers: usize,
        mode: Mode,
    ) -> Spec {
        self.next += 1;
        let name = self.session.name(&self.next.to_string());
        Spec { system, name, run: run_of(self.session), bytes, depth, readers, mode, parks: false }
    }

    /// Remembers that a system takes no part in something.
    pub fn skip(&mut self, bench: &'static str, system: System, case: &str, reason: &str) {
        self.skipped.push(Skip { bench, system, case: case.to_owned(), reason: reason.to_owned() });
    }

    /// Lets a system prepare for a job; if it cannot, that is remembered, and it takes no part.
    ///
    /// # Errors
    ///
    /// Only when the run shall end.
    pub fn enter(&mut self, bench: &'static str, case: &str, job: Job) -> Result<Option<Player>> {
        let (Job::PingPong(spec) | Job::Wake(spec) | Job::Flow(spec) | Job::Idle(spec)) = &job
        else {
            return self.floor_player(job).map(Some);
        };
        let system = spec.system;
        match self.seat(system, &job) {
            Ok(player) => Ok(Some(player)),
            Err(error) if error.is::<Interrupted>() => Err(error),
            Err(error) => {
                self.skip(bench, system, case, &format!("{error:#}"));
                Ok(None)
            }
        }
    }

    fn seat(&mut self, system: System, job: &Job) -> Result<Player> {
        self.next += 1;
        let id = self.next;
        let sleeps = matches!(job, Job::Wake(_));
        let mut player = Player {
            system,
            id,
            seat: Seat::Process,
            lead: None,
            opened: Count::default(),
            says_bytes: None,
            count: 1,
            sleeps,
        };
        if system.is_python() {
            let (Job::PingPong(spec) | Job::Wake(spec) | Job::Flow(spec) | Job::Idle(spec)) = job
            else {
                anyhow::bail!("{system} has no part in the floor");
            };
            let python = self.python.as_mut().context("there is no Python program")?;
            let opened = python.open(id, spec, matches!(job, Job::PingPong(_) | Job::Wake(_)))?;
            player.opened.create_ns = opened.create_ns;
            player.says_bytes = opened.shared_bytes;
            player.seat = Seat::Python;
            return Ok(player);
        }
        if system.is_in_process() {
            player.seat = Seat::Thread;
        }
        let follower = self.follower(player.seat)?;
        match lead(job, id, follower) {
            Ok((lead, opened)) => {
                player.lead = Some(lead);
                player.opened = opened;
                Ok(player)
            }
            Err(error) => {
                // The follower may have prepared already.
                let _ = self.follower(player.seat)?.close(id);
                Err(error)
            }
        }
    }

    fn floor_player(&mut self, job: Job) -> Result<Player> {
        self.next += 1;
        let (lead, opened) = lead(&job, self.next, &mut self.process)?;
        Ok(Player {
            system: System::Seqring,
            id: self.next,
            seat: Seat::Process,
            lead: Some(lead),
            opened,
            says_bytes: None,
            count: FLOOR_TRIPS,
            sleeps: false,
        })
    }

    /// A player that copies through shared memory with no protocol.
    ///
    /// # Errors
    ///
    /// When there is no room for it.
    pub fn copier(&mut self, bytes: usize) -> Result<Player> {
        let name = self.session.name(&format!("copy-{bytes}"));
        self.floor_player(Job::Copy { name, bytes })
    }

    fn follower(&mut self, seat: Seat) -> Result<&mut Follower<'a>> {
        match seat {
            Seat::Process => Ok(&mut self.process),
            Seat::Thread => self.thread.as_mut().context("the following thread was not started"),
            Seat::Python => anyhow::bail!("Python has a follower of its own"),
        }
    }

    /// Removes what the player made.
    ///
    /// # Errors
    ///
    /// When the other side is gone.
    pub fn leave(&mut self, player: Player) -> Result<()> {
        match player.seat {
            Seat::Python => {
                self.python.as_mut().context("there is no Python program")?.close(player.id)
            }
            seat => {
                self.follower(seat)?.close(player.id)?;
                drop(player.lead);
                Ok(())
            }
        }
    }

    /// Plays a turn of so many messages: its nanoseconds, and what was counted.
    ///
    /// # Errors
    ///
    /// When a message was damaged, or the run shall end.
    pub fn turn(&mut self, player: &mut Player, count: u64, style: Style) -> Result<(f64, Count)> {
        let Player { id, seat, lead, sleeps, system, .. } = player;
        if *seat == Seat::Python {
            let python = self.python.as_mut().context("there is no Python program")?;
            let nap = if *sleeps { PYTHON_NAP } else { Duration::ZERO };
            let turn = python.turn(*id, count, style == Style::Answered, nap)?;
            let ns = if style == Style::Sent { turn.sent } else { turn.times.iter().sum() };
            return Ok((ns, Count { received: count, ..Count::default() }));
        }
        let lead = lead.as_mut().context("the player has left")?;
        self.follower(*seat)?
            .turn(*id, lead.as_mut(), count, style)
            .with_context(|| format!("{system} failed"))
    }

    /// Plays a turn of which every message is timed by itself.
    ///
    /// # Errors
    ///
    /// Those of [`Self::turn`].
    pub fn sample(
        &mut self,
        player: &mut Player,
        count: u64,
        histogram: &mut Histogram<u64>,
    ) -> Result<()> {
        let Player { id, seat, lead, sleeps, system, .. } = player;
        if *seat == Seat::Python {
            let python = self.python.as_mut().context("there is no Python program")?;
            let nap = if *sleeps { PYTHON_NAP } else { Duration::ZERO };
            for ns in python
                .turn(*id, count, true, nap)?
                .times
                .into_iter()
                .skip(cold(count, *sleeps) as usize)
            {
                histogram.saturating_record(ns as u64);
            }
            return Ok(());
        }
        let lead = lead.as_mut().context("the player has left")?;
        self.follower(*seat)?
            .sample(*id, lead.as_mut(), count, histogram)
            .with_context(|| format!("{system} failed"))
    }

    /// Nanoseconds of the hand-off, now.
    ///
    /// # Errors
    ///
    /// When the run shall end.
    pub fn hand_off(&mut self) -> Result<f64> {
        let mut player = self.hand_off.take().context("the floor is being measured")?;
        let one_way = self.one_way(&mut player);
        self.hand_off = Some(player);
        one_way
    }

    /// Nanoseconds of one way of a player of ping-pong, over a turn of its length.
    ///
    /// # Errors
    ///
    /// Those of [`Self::turn`].
    pub fn one_way(&mut self, player: &mut Player) -> Result<f64> {
        let (ns, _) = self.turn(player, player.count, Style::Single)?;
        Ok(ns / player.count as f64 / 2.0)
    }

    /// Chooses how many messages make a turn of about the right length, out of what a short one
    /// takes.
    ///
    /// # Errors
    ///
    /// Those of [`Self::turn`].
    pub fn calibrate(
        &mut self,
        player: &mut Player,
        style: Style,
        [least, most]: [u64; 2],
    ) -> Result<()> {
        // The first turn finds everything cold.
        self.turn(player, least.min(10), style)?;
        let trial = least.min(100);
        let (ns, _) = self.turn(player, trial, style)?;
        player.count = turn_length(ns / trial as f64, self.pace.turn_ns, [least, most]);
        Ok(())
    }

    /// Plays rounds: in each, every player has one turn, and the floor is looked at before each
    /// turn. Who begins changes.
    ///
    /// # Errors
    ///
    /// Those of the turns.
    pub fn rounds(
        &mut self,
        rounds: usize,
        players: &mut [Player],
        mut floor: impl FnMut(&mut Self) -> Result<f64>,
        mut turn: impl FnMut(&mut Self, &mut Player, f64) -> Result<f64>,
    ) -> Result<Vec<Track>> {
        let mut tracks = vec![Track::default(); players.len()];
        let warm_up = self.pace.warm_up.min(rounds);
        self.bar.inc_length((rounds + warm_up) as u64);
        for round in 0..warm_up + rounds {
            for place in 0..players.len() {
                let index = (place + round) % players.len();
                let floor = floor(self)?;
                let value = turn(self, &mut players[index], floor)?;
                if round >= warm_up {
                    tracks[index].values.push(value);
                    tracks[index].floors.push(floor);
                }
            }
            self.bar.inc(1);
        }
        Ok(tracks)
    }

    /// Keeps what was measured of the players, and removes what they made.
    ///
    /// # Errors
    ///
    /// When the other side is gone.
    pub fn finish(
        &mut self,
        case: &Case,
        players: Vec<Player>,
        tracks: Vec<Track>,
        quantiles: Vec<Option<[f64; 4]>>,
    ) -> Result<()> {
        self.keep(case, &players, tracks, quantiles);
        players.into_iter().try_for_each(|player| self.leave(player))
    }

    /// Keeps what was measured of the players, behind what has been of the same case before.
    pub fn keep(
        &mut self,
        case: &Case,
        players: &[Player],
        tracks: Vec<Track>,
        quantiles: Vec<Option<[f64; 4]>>,
    ) {
        for ((player, track), quantiles) in players.iter().zip(tracks).zip(quantiles) {
            let series = Series {
                bench: case.bench,
                system: player.system,
                payload_bytes: case.bytes,
                readers: case.readers,
                mode: case.mode.clone(),
                unit: case.unit,
                values: track.values,
                floors: if case.has_floor { track.floors } else { Vec::new() },
                quantiles,
            };
            match self
                .all
                .iter_mut()
                .find(|kept| kept.system == series.system && kept.is_comparable(&series))
            {
                Some(kept) => kept.extend(series),
                None => self.all.push(series),
            }
        }
    }

    /// Says what is being measured.
    pub fn announce(&self, bench: &'static str, case: &str) {
        self.bar.set_prefix(bench);
        self.bar.set_message(case.to_owned());
    }
}

/// What the players of some rounds have in common.
#[derive(Debug, Clone)]
pub struct Case {
    /// The benchmark.
    pub bench: &'static str,
    /// Size of a message.
    pub bytes: usize,
    /// Readers attached.
    pub readers: usize,
    /// What was done.
    pub mode: String,
    /// Of the values.
    pub unit: Unit,
    /// Whether the floor means something for it.
    pub has_floor: bool,
}

impl Drop for Arena<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What the names of all files of a run begin with.
pub fn run_of(session: &Session) -> String {
    session.name("").trim_end_matches('-').to_owned()
}

/// How many messages make a turn of about `turn_ns`.
fn turn_length(message_ns: f64, turn_ns: f64, [least, most]: [u64; 2]) -> u64 {
    ((turn_ns / message_ns) as u64).clamp(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_about_as_long_whatever_the_system() {
        assert_eq!(turn_length(100.0, 1e6, [10, 100_000]), 10_000);
        assert_eq!(turn_length(1.0, 1e6, [10, 1000]), 1000, "not more than allowed");
        assert_eq!(turn_length(1e7, 1e6, [10, 1000]), 10, "not less than needed");
    }
}
