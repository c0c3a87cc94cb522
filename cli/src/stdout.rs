//! Standard output, whose reader may have seen enough.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};

/// Prints a text. A pipe that nobody reads any more is no failure: `seqring ... | head`.
///
/// # Errors
///
/// When the text cannot be written for another reason.
pub fn print(text: &[u8]) -> Result<()> {
    match io::stdout().write_all(text).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}
