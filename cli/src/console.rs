//! Standard output and standard error, whose readers may have seen enough.

use std::fmt::Display;
use std::io::{self, Write as _};

use anyhow::{Context as _, Result};

/// Prints a text to standard output. A pipe that nobody reads any more is no failure: `seqring ...
/// | head`.
///
/// # Errors
///
/// When the text cannot be written for another reason.
pub fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// Writes a line to standard error. Unlike `eprintln!` it does not panic when nobody takes it:
/// `seqring ... 2>&1 | head`.
pub fn note(line: impl Display) {
    // There is no other place to complain.
    let _ = writeln!(io::stderr(), "{line}");
}
