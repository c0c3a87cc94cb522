//! The options of `seqring bench scenario`.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, ValueEnum, value_parser};

use super::payload;
use super::plan::{DEFAULT_SECONDS, Plan, Preset};
use crate::engine::{Engine, Mode, Wait};

const USAGE: &str = "\
seqring bench scenario <PRESET> [OPTIONS]
       seqring bench scenario --slot-bytes <N> --slots <N> --readers <N> --writes-per-second <N> [OPTIONS]";

const EXAMPLES: &str = "\
Examples:
  seqring bench scenario steady
  seqring bench scenario fast --engine ring --duration-seconds 3
  seqring bench scenario slow-readers --mode gating
  seqring bench scenario fast --engine ring --writers 4 --mode gating
  seqring bench scenario steady --engine ring --wait spin
  seqring bench scenario all --json > scenarios.json
  seqring bench scenario all --report scenarios.html
  seqring bench scenario --slot-bytes 4096 --slots 1024 --readers 3 --writes-per-second 50000

Without a preset, the four sizes of the last example are required. With one, each option
replaces the preset's value. The ring overwrites, so a slow reader loses messages and the
writer keeps its pace; the locked queue is lossless, so a slow reader stalls the writer, and so
does the ring with --mode gating.

Several writers share the rate, and readers check the order of each; where nothing was lost, all
readers must have seen one order of all. The locked queue has one writer: use --engine ring.

Readers that park are registered in the ring's table, so that the writer can wake them; those
that spin or yield are free and only look, unless they gate. With more of them than CPUs,
latencies are those of the scheduler. A writer that waits for room sleeps, whatever --wait says.

Latency is the time from just before a message is handed to the queue until a reader has
its copy. CPU seconds count from the start signal to the end of each process.";

/// Each reader is a process: more of them than this is a typing error.
const MOST_READERS: u64 = 4096;

/// A ring has no room for more.
const MOST_WRITERS: u64 = 256;

/// The options of a scenario.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, override_usage = USAGE)]
pub struct ScenarioArgs {
    /// A published scenario
    pub preset: Option<Preset>,

    /// Bytes of each message: 8 sequence, 8 send time, random bytes, 4 CRC-32
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        required_unless_present = "preset",
        value_parser = slot_bytes
    )]
    slot_bytes: Option<usize>,

    /// Number of slots
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        required_unless_present = "preset",
        value_parser = value_parser!(u64).range(1..=1 << 40)
    )]
    slots: Option<u64>,

    /// Number of reader processes
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        required_unless_present = "preset",
        value_parser = value_parser!(u64).range(1..=MOST_READERS)
    )]
    readers: Option<u64>,

    /// Messages a second that the writer aims for
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        required_unless_present = "preset",
        value_parser = positive
    )]
    writes_per_second: Option<f64>,

    /// How long the writer writes [default: 10]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive)]
    duration_seconds: Option<f64>,

    /// CPU time that each reader burns on each message
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = not_negative)]
    reader_burn_cpu_milliseconds: Option<f64>,

    /// Check the CRC of each message (default, except in the preset large)
    #[arg(long, overrides_with = "no_verify")]
    verify: bool,

    /// Do not check the CRC of each message
    #[arg(long, overrides_with = "verify")]
    no_verify: bool,

    /// Whether the ring's writer waits for its readers
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,

    /// How the ring's readers wait for a message; the locked queue has a condition variable
    #[arg(long, value_enum, default_value_t)]
    wait: Wait,

    /// Number of writer processes, which share the rate; more than one only with --engine ring
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        default_value_t = 1,
        value_parser = value_parser!(u64).range(1..=MOST_WRITERS)
    )]
    writers: u64,

    /// Tell about each process on standard error
    #[arg(long)]
    pub debug: bool,

    /// Which queue carries the messages
    #[arg(long, value_enum, default_value = "both")]
    engine: EngineChoice,

    /// Print JSON, an array with one object per engine and preset
    #[arg(long)]
    pub json: bool,

    /// Write an HTML report with plots to this file
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
}

/// Which engines to run.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum EngineChoice {
    /// The lock-free overwriting ring
    Ring,
    /// The lossless queue under a readers-writer lock
    Locked,
    /// One after the other
    Both,
}

impl ScenarioArgs {
    /// The engines to run, in this order.
    pub fn engines(&self) -> &'static [Engine] {
        match self.engine {
            EngineChoice::Ring => &[Engine::Ring],
            EngineChoice::Locked => &[Engine::Locked],
            EngineChoice::Both => &[Engine::Ring, Engine::Locked],
        }
    }

    /// Whether the options fit together.
    ///
    /// # Errors
    ///
    /// Which do not, for people.
    pub fn check(&self) -> Result<(), clap::Error> {
        if self.writers == 1 || self.engines() == [Engine::Ring] {
            return Ok(());
        }
        let reason = format!(
            "'--writers {}' is for the ring: the locked queue has one writer; add '--engine ring'\n",
            self.writers
        );
        Err(clap::Error::raw(ErrorKind::ArgumentConflict, reason))
    }

    /// The scenarios to run, in this order.
    pub fn plans(&self) -> Vec<Plan> {
        let mut plans = self.preset.map_or_else(|| vec![blank()], Preset::plans);
        for plan in &mut plans {
            self.apply_to(plan);
        }
        plans
    }

    fn apply_to(&self, plan: &mut Plan) {
        fn set<T>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }
        set(&mut plan.slot_bytes, self.slot_bytes);
        // Both were checked to be far below what fits.
        set(&mut plan.slots, self.slots.map(|n| n as usize));
        set(&mut plan.readers, self.readers.map(|n| n as usize));
        set(&mut plan.writes_per_second, self.writes_per_second);
        set(&mut plan.duration_seconds, self.duration_seconds);
        set(&mut plan.reader_burn_cpu_milliseconds, self.reader_burn_cpu_milliseconds);
        set(&mut plan.verify, self.verify.then_some(true));
        set(&mut plan.verify, self.no_verify.then_some(false));
        plan.mode = self.mode;
        plan.wait = self.wait;
        plan.writers = self.writers as usize;
    }
}

/// A plan whose sizes are all still to be given; the parser requires that they are.
fn blank() -> Plan {
    Plan {
        name: "custom".to_owned(),
        slot_bytes: 0,
        slots: 0,
        readers: 0,
        writes_per_second: 0.0,
        duration_seconds: DEFAULT_SECONDS,
        reader_burn_cpu_milliseconds: 0.0,
        verify: true,
        writers: 1,
        mode: Mode::default(),
        wait: Wait::default(),
    }
}

fn slot_bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse().map_err(|error| format!("{error}"))?;
    if bytes < payload::OVERHEAD_BYTES {
        return Err(format!(
            "a message needs at least {} bytes: 8 sequence, 8 send time, 4 CRC-32",
            payload::OVERHEAD_BYTES
        ));
    }
    Ok(bytes)
}

fn number(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|error| format!("{error}"))?;
    // Nanoseconds are kept in 64 bits; a billion seconds or writes per second is beyond use.
    if number.is_finite() && number <= 1e9 { Ok(number) } else { Err("use at most 1e9".to_owned()) }
}

fn positive(text: &str) -> Result<f64, String> {
    let number = number(text)?;
    if number >= 1e-3 { Ok(number) } else { Err("use at least 0.001".to_owned()) }
}

fn not_negative(text: &str) -> Result<f64, String> {
    let number = number(text)?;
    if number >= 0.0 { Ok(number) } else { Err("use at least 0".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        scenario: ScenarioArgs,
    }

    fn parse(line: &str) -> Result<ScenarioArgs, String> {
        let words = std::iter::once("scenario").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.scenario).map_err(|error| error.to_string())
    }

    #[test]
    fn options_replace_the_values_of_a_preset() {
        let plans = parse("slow-readers --slots 7 --duration-seconds 0.5").unwrap().plans();
        assert_eq!(
            plans,
            [Plan {
                name: "slow-readers".to_owned(),
                slot_bytes: 1_000_000,
                slots: 7,
                readers: 4,
                writes_per_second: 24.0,
                duration_seconds: 0.5,
                reader_burn_cpu_milliseconds: 100.0,
                verify: true,
                writers: 1,
                mode: Mode::Overwrite,
                wait: Wait::Park,
            }]
        );
    }

    #[test]
    fn all_is_the_five_presets_and_options_apply_to_each() {
        let plans = parse("all --readers 2").unwrap().plans();
        let names: Vec<_> = plans.iter().map(|plan| plan.name.as_str()).collect();
        assert_eq!(names, ["steady", "contended", "fast", "large", "slow-readers"]);
        assert!(plans.iter().all(|plan| plan.readers == 2));
    }

    #[test]
    fn the_last_of_verify_and_no_verify_wins() {
        let verifies = |line| parse(line).unwrap().plans()[0].verify;
        assert!(!verifies("large"));
        assert!(verifies("large --verify"));
        assert!(!verifies("steady --no-verify"));
        assert!(verifies("steady --no-verify --verify"));
    }

    #[test]
    fn without_a_preset_the_missing_sizes_are_named() {
        let error = parse("--slot-bytes 100 --slots 3").unwrap_err();
        let (missing, _) = error.split_once("Usage:").expect("the error ends with the usage");
        assert!(
            ["--readers <N>", "--writes-per-second <N>"]
                .iter()
                .all(|option| missing.contains(option)),
            "{error}"
        );
        assert!(!missing.contains("--slots"), "{error}");
        let sizes = "--slot-bytes 100 --slots 3 --readers 1 --writes-per-second 10";
        assert_eq!(parse(sizes).unwrap().plans()[0].name, "custom");
    }

    #[test]
    fn absurd_numbers_are_refused() {
        for line in [
            "steady --slot-bytes 19",
            "steady --slots 0",
            "steady --readers 0",
            "steady --readers -2",
            "steady --readers 5000",
            "steady --writes-per-second 0",
            "steady --writes-per-second NaN",
            "steady --duration-seconds inf",
            "steady --duration-seconds -1",
            "steady --reader-burn-cpu-milliseconds -1",
            "steady --writers 0",
            "steady --writers 257",
            "steady --wait sleep",
        ] {
            let error = parse(line).unwrap_err();
            // Of the number, not of an option that nobody meant.
            assert!(error.contains("invalid value"), "{line}: {error}");
        }
    }

    #[test]
    fn several_writers_are_for_the_ring() {
        let check = |line| parse(line).unwrap().check();
        check("steady --writers 2 --engine ring").unwrap();
        check("steady --writers 1").unwrap();
        for line in ["steady --writers 2", "steady --writers 2 --engine locked"] {
            let error = check(line).unwrap_err().to_string();
            assert!(error.contains("'--writers 2'") && error.contains("--engine ring"), "{error}");
        }
    }
}
