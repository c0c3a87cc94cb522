//! The command line.

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::bench::BenchCommand;
use crate::bench::peer::PeerArgs;
use crate::demo::DemoArgs;
use crate::demo::child::{ProducerArgs, ReaderArgs};

const EXAMPLES: &str = "\
Examples:
  seqring demo                                 a live ring, in about 15 seconds
  seqring bench scenario steady                a published scenario, ring and locked side by side
  seqring bench scenario all --report r.html   all five of them, with plots
  seqring completions bash > ~/.local/share/bash-completion/completions/seqring

Exit status: 0 success, 1 failure, 2 bad usage, 130 interrupted.";

/// Benchmarks and scenarios of the seqring shared-memory ring.
#[derive(Debug, Parser)]
#[command(name = "seqring", version, about, after_help = EXAMPLES, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch a producer and its readers, live, and what happens when one is killed
    Demo(DemoArgs),
    /// Measure the ring, beside a yardstick taken in the same run
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Print a completion script for a shell
    #[command(after_help = "Examples:
  seqring completions bash > ~/.local/share/bash-completion/completions/seqring
  seqring completions zsh > ~/.zfunc/_seqring
  seqring completions fish > ~/.config/fish/completions/seqring.fish")]
    Completions {
        /// The shell to print for
        shell: Shell,
    },
    /// The producer process of the demo; started by `demo`
    #[command(hide = true)]
    DemoProducer(ProducerArgs),
    /// A reader process of the demo; started by `demo`
    #[command(hide = true)]
    DemoReader(ReaderArgs),
    /// The second process of a benchmark; started by `bench latency`, `bench throughput` and `bench
    /// wake`
    #[command(hide = true)]
    BenchPeer(PeerArgs),
    /// The writer process of a scenario; started by `bench scenario`
    #[command(hide = true)]
    ScenarioWriter,
    /// A reader process of a scenario; started by `bench scenario`
    #[command(hide = true)]
    ScenarioReader {
        /// Which reader this is, counted from 0
        row: usize,
    },
}

/// The command line without the processes that only the command itself starts:
/// completion scripts would offer them.
pub fn public_command() -> clap::Command {
    let all = Cli::command();
    let mut public =
        clap::Command::new("seqring").version(env!("CARGO_PKG_VERSION")).propagate_version(true);
    if let Some(about) = all.get_about() {
        public = public.about(about.clone());
    }
    public.subcommands(all.get_subcommands().filter(|command| !command.is_hide_set()).cloned())
}
