//! Finds the segments that tests have left in shared memory.

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

/// How long a process that is ending may take to unlink its segment.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The segments that exist now. Empty on a system that does not show segments as files.
pub fn segments() -> BTreeSet<String> {
    segments_in(Path::new(DIRECTORY))
}

/// Fails if a segment exists that did not exist `before`.
pub fn expect_no_new(before: &BTreeSet<String>) -> Result<()> {
    let start = Instant::now();
    loop {
        let left: Vec<String> = segments().difference(before).cloned().collect();
        if left.is_empty() {
            return Ok(());
        }
        if start.elapsed() > TIMEOUT {
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
