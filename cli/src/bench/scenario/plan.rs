//! What a scenario is made of, and the published ones.

use clap::ValueEnum;

use crate::engine::{Mode, Wait};

/// Seconds a scenario runs when nothing else is asked for.
pub const DEFAULT_SECONDS: f64 = 10.0;

/// A published scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// 5 readers of 1 MB messages, 24 a second
    Steady,
    /// 100 readers of 1 MB messages, 24 a second
    Contended,
    /// 1 reader of 1 MB messages, 2000 a second
    Fast,
    /// 1 reader of 100 MB messages, 24 a second, not verified
    Large,
    /// 4 readers that burn 100 ms of CPU on each 1 MB message, 24 a second
    SlowReaders,
    /// All five, one after the other
    All,
}

/// A scenario with all its numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The preset it started from, or "custom".
    pub name: String,
    /// Bytes of a message, and of a slot.
    pub slot_bytes: usize,
    /// Number of slots.
    pub slots: usize,
    /// Number of reader processes.
    pub readers: usize,
    /// Messages per second that the writer aims for.
    pub writes_per_second: f64,
    /// How long the writer writes, in seconds.
    pub duration_seconds: f64,
    /// CPU time a reader burns on each message, in milliseconds.
    pub reader_burn_cpu_milliseconds: f64,
    /// Whether readers check the CRC of each message.
    pub verify: bool,
    /// Number of writer processes, which share the rate; more than one only in the ring.
    pub writers: usize,
    /// Whether the ring's writer waits for its readers.
    pub mode: Mode,
    /// How the ring's readers wait.
    pub wait: Wait,
}

impl Preset {
    /// The plans this stands for.
    pub fn plans(self) -> Vec<Plan> {
        let plan = match self {
            Self::All => {
                return [Self::Steady, Self::Contended, Self::Fast, Self::Large, Self::SlowReaders]
                    .into_iter()
                    .flat_map(Self::plans)
                    .collect();
            }
            Self::Steady => Plan { slots: 50, ..self.base() },
            Self::Contended => Plan { readers: 100, ..self.base() },
            Self::Fast => Plan { readers: 1, writes_per_second: 2000.0, ..self.base() },
            Self::Large => {
                Plan { slot_bytes: 100_000_000, slots: 3, readers: 1, verify: false, ..self.base() }
            }
            Self::SlowReaders => {
                Plan { readers: 4, reader_burn_cpu_milliseconds: 100.0, ..self.base() }
            }
        };
        vec![plan]
    }

    /// What most of the presets have in common.
    fn base(self) -> Plan {
        let value = self.to_possible_value().expect("no preset is skipped");
        Plan {
            name: value.get_name().to_owned(),
            slot_bytes: 1_000_000,
            slots: 10,
            readers: 5,
            writes_per_second: 24.0,
            duration_seconds: DEFAULT_SECONDS,
            reader_burn_cpu_milliseconds: 0.0,
            verify: true,
            writers: 1,
            mode: Mode::default(),
            wait: Wait::default(),
        }
    }
}
