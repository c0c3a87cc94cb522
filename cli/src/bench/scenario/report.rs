//! The HTML report: one file that needs nothing else.

mod page;
mod plot;

use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::outcome::Outcome;
use super::plan::Plan;

/// The file a report will go to. It is opened before the runs, because nobody
/// wants to hear after them that it cannot be written.
#[derive(Debug)]
pub struct ReportFile {
    path: PathBuf,
    file: File,
    /// Nothing was there before, so nothing shall be left if there is no report.
    remove: bool,
}

impl ReportFile {
    /// Opens the file, leaving its content alone for now.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn reserve(path: &Path) -> Result<Self> {
        let is_new = !path.exists();
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("cannot write the report {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file, remove: is_new })
    }

    /// Writes the report and returns its path.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(self, plans: &[Plan], outcomes: &[Outcome]) -> Result<PathBuf> {
        self.write_text(&page::render(plans, outcomes)?)
    }

    /// Writes any text and returns the file's path.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_text(mut self, text: &str) -> Result<PathBuf> {
        self.replace_content(text)
            .with_context(|| format!("cannot write the report {}", self.path.display()))?;
        self.remove = false;
        Ok(self.path.clone())
    }

    fn replace_content(&mut self, page: &str) -> std::io::Result<()> {
        // Pipes and devices have nothing to cut off.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
            self.file.rewind()?;
        }
        self.file.write_all(page.as_bytes())?;
        self.file.flush()
    }
}

impl Drop for ReportFile {
    fn drop(&mut self) {
        if self.remove {
            let _ = fs::remove_file(&self.path);
        }
    }
}
