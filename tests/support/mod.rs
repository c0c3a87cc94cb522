//! What all black-box tests share: names of their own, files that do not stay, and this binary in
//! other roles.

// Every test binary compiles this for itself and uses a part of it.
#![allow(dead_code)]

pub mod role;
pub mod wake;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use seqring::Error;

/// A ring name that no other test uses; whatever has its file is removed at the end, also of a
/// failed test.
#[derive(Debug)]
pub struct Name {
    name: String,
    path: PathBuf,
}

impl Name {
    /// A name that says which test it belongs to.
    pub fn new(test: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{test}-{}-{count}", std::process::id());
        assert!(name.len() <= 128, "longer names become hashes");
        let path = Path::new("/dev/shm").join(format!("seqring.{name}"));
        Self { name, path }
    }

    /// The file of the ring.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl std::ops::Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir(&self.path);
    }
}

/// Nanoseconds of the clock that all processes share.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    u64::try_from(now.num_nanoseconds()).expect("the clock starts at 0")
}

/// The variant of an error, as a word.
pub fn variant(error: &Error) -> String {
    let debug = format!("{error:?}");
    debug.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

/// Asserts that `result` is an error of this variant whose text names the ring; returns the text.
#[track_caller]
pub fn expect_error<T>(result: Result<T, Error>, expected: &str, name: &str) -> String {
    match result {
        Ok(_) => panic!("expected {expected} for ring {name:?}, but it worked"),
        Err(error) => {
            assert_eq!(variant(&error), expected, "{error}");
            let text = error.to_string();
            assert!(
                text.contains(&format!("{name:?}")),
                "the error does not name the ring {name:?}: {text}"
            );
            text
        }
    }
}
