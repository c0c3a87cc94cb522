//! Names in /dev/shm, and what a killed run leaves there.
//!
//! A run that is killed cannot unlink its queue. So each run holds a kernel lock
//! on a small marker file for as long as it lives, and its queues are named after
//! the marker. Whoever can take the lock of a marker knows for certain that its
//! run is gone, whatever process ids have been reused since or in whichever
//! container it ran, and removes what it left.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use seqring::Ring;

use crate::console::note;
use crate::engine::Engine;

/// Where Linux keeps named shared memory.
pub const DIRECTORY: &str = "/dev/shm";

const PREFIX: &str = "seqring-bench-";
const SUFFIX: &str = ".run";

/// How long the processes of a killed run may take to notice and end.
const FOLLOW_TIME: Duration = Duration::from_secs(2);

/// This run. Dropping it removes everything it made.
#[derive(Debug)]
pub struct Session {
    id: String,
    marker: PathBuf,
    /// Held until the end.
    _lock: Flock<File>,
}

impl Session {
    /// Removes what dead runs left, and marks this one as alive.
    ///
    /// # Errors
    ///
    /// When `/dev/shm` cannot be used.
    pub fn begin() -> Result<Self> {
        sweep()?;
        // A sweeper may remove the marker between its creation and its locking.
        for _ in 0..10 {
            let id = format!("{}-{:08x}", process::id(), rand::random::<u32>());
            let marker = Path::new(DIRECTORY).join(format!("{PREFIX}{id}{SUFFIX}"));
            let file = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&marker)
                .with_context(|| format!("cannot create {}", marker.display()))?;
            if let Some(lock) = try_lock(file, &marker)? {
                return Ok(Self { id, marker, _lock: lock });
            }
        }
        bail!("cannot keep a marker in {DIRECTORY}: something removes the files there")
    }

    /// A name for something else in shared memory, a ring or not.
    pub fn name(&self, purpose: &str) -> String {
        format!("{PREFIX}{}-{purpose}", self.id)
    }

    /// The name of this run's queue. Only one exists at a time.
    pub fn queue_name(&self, engine: Engine) -> String {
        queue_name(&self.id, engine)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // There is nothing to be done here about a failure; the next start tries again.
        let _ = remove(&self.id, &self.marker);
    }
}

fn queue_name(id: &str, engine: Engine) -> String {
    format!("{PREFIX}{id}-{engine}")
}

/// Removes what runs that are gone have left.
fn sweep() -> Result<()> {
    let entries = fs::read_dir(DIRECTORY).with_context(|| format!("cannot list {DIRECTORY}"))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
        let Some(id) = id else { continue };
        let marker = entry.path();
        // Another user's marker cannot be opened, and is that user's to remove.
        let Ok(file) = File::options().read(true).write(true).open(&marker) else { continue };
        if let Some(_lock) = try_lock(file, &marker)?
            && let Err(error) = remove_patiently(id, &marker)
        {
            note(format_args!(
                "seqring: cannot remove what a dead run left, the next start tries again: {error:#}"
            ));
        }
    }
    Ok(())
}

/// Takes the lock of a marker, unless its run lives or the marker was removed.
fn try_lock(file: File, marker: &Path) -> Result<Option<Flock<File>>> {
    let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { return Ok(None) };
    let locked = lock.metadata().with_context(|| format!("cannot examine {}", marker.display()))?;
    let still_there = fs::metadata(marker)
        .is_ok_and(|there| (there.dev(), there.ino()) == (locked.dev(), locked.ino()));
    Ok(still_there.then_some(lock))
}

/// Removes what a run left, whose processes may need a moment to follow their parent:
/// a ring is not taken from a living producer.
fn remove_patiently(id: &str, marker: &Path) -> Result<()> {
    let deadline = Instant::now() + FOLLOW_TIME;
    loop {
        match remove(id, marker) {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            result => return result,
        }
    }
}

/// Removes a run's queues, and then its marker, so that an interrupted removal
/// is found again.
fn remove(id: &str, marker: &Path) -> Result<()> {
    Ring::<[u8]>::unlink(&queue_name(id, Engine::Ring))?;
    remove_file(&Path::new(DIRECTORY).join(queue_name(id, Engine::Locked)))?;
    // What other benchmarks made, under the names of `Session::name`.
    let named = format!("{PREFIX}{id}-");
    for entry in
        fs::read_dir(DIRECTORY).with_context(|| format!("cannot list {DIRECTORY}"))?.flatten()
    {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // The library puts its own prefix before the name of a ring.
        if name.strip_prefix("seqring.").unwrap_or(&name).starts_with(&named) {
            remove_file(&entry.path())?;
        }
    }
    remove_file(marker)
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_run_is_swept_and_a_live_one_is_not() {
        let live = Session::begin().unwrap();
        // What SIGKILL leaves: a marker that nobody locks, and the queues.
        let dead = format!("{}-dead", process::id());
        let marker = Path::new(DIRECTORY).join(format!("{PREFIX}{dead}{SUFFIX}"));
        let locked = Path::new(DIRECTORY).join(queue_name(&dead, Engine::Locked));
        File::create(&locked).unwrap();
        let ring = queue_name(&dead, Engine::Ring);
        drop(
            Ring::<[u8]>::builder(&ring).slots(2).slot_bytes(8).persistent(true).create().unwrap(),
        );
        assert!(Ring::<[u8]>::open_read_only(&ring).is_ok());
        // The marker last: from here on any start on this machine may sweep.
        File::create(&marker).unwrap();

        let next = Session::begin().unwrap();
        assert!(!marker.exists() && !locked.exists());
        assert!(Ring::<[u8]>::open_read_only(&ring).is_err());
        assert!(live.marker.exists() && next.marker.exists());
        let markers = [live.marker.clone(), next.marker.clone()];
        drop((live, next));
        assert!(markers.iter().all(|marker| !marker.exists()));
    }
}
