//! The `seqring` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    seqring_cli::main()
}
