//! What the tests leave behind in shared memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Where Linux shows named shared memory as files.
const DIRECTORY: &str = "/dev/shm";

/// How every segment's file name begins.
const PREFIX: &str = "seqring.";

/// A process that is just ending may still be about to unlink its segment.
const PATIENCE: Duration = Duration::from_secs(2);

/// The segments that are there now; none on a system that does not show them as files.
pub fn segments() -> BTreeSet<String> {
    segments_in(Path::new(DIRECTORY))
}

/// Fails if segments are there now that were not there `before`.
pub fn expect_no_new(before: &BTreeSet<String>) -> Result<()> {
    let start = Instant::now();
    loop {
        let left: Vec<String> = segments().difference(before).cloned().collect();
        if left.is_empty() {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            bail!(
                "the tests left {} segment(s) in {DIRECTORY}: {}; find the test that does not unlink its ring, \
                 then remove the files",
                left.len(),
                left.join(", ")
            );
        }
        sleep(Duration::from_millis(50));
    }
}

fn segments_in(directory: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return BTreeSet::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(PREFIX))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_count() {
        let directory = std::env::temp_dir().join(format!("xtask-shm-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for name in ["seqring.a", "sem.other", "seqring-b"] {
            fs::write(directory.join(name), b"").unwrap();
        }
        let found = segments_in(&directory);
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(found, BTreeSet::from(["seqring.a".to_owned()]));
    }
}
