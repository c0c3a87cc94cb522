//! Bytes of memory for the same depth and readers: what the files of a channel occupy once it has
//! been filled, or for systems without files how much more the process has allocated.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Result;
use seqring_cli::bench::output;
use seqring_cli::bench::scenario::leftovers::DIRECTORY;

use super::depth;
use crate::arena::{Arena, Case, Track};
use crate::job::{Job, Style};
use crate::row::Unit;
use crate::spec::{Mode, System};
use crate::systems::{carries, offers};

/// The benchmark's name.
pub const NAME: &str = "memory";

const SIZES: [usize; 3] = [48, 4 << 10, 64 << 10];
const READERS: [usize; 2] = [1, 16];

pub fn run(arena: &mut Arena<'_>) -> Result<()> {
    for bytes in SIZES {
        for readers in READERS {
            run_case(arena, bytes, readers)?;
        }
    }
    Ok(())
}

fn run_case(arena: &mut Arena<'_>, bytes: usize, readers: usize) -> Result<()> {
    let depth = depth(bytes);
    let label = format!("{depth} messages of {}, {readers} readers", output::bytes(bytes));
    arena.announce(NAME, &label);
    let mut players = Vec::new();
    let mut tracks = Vec::new();
    for system in arena.systems.clone() {
        if matches!(system, System::Pipe | System::UnixSocket | System::PythonQueue) {
            arena.skip(NAME, system, "everywhere", "its buffers are the kernel's");
            continue;
        }
        let mode =
            if offers(system, Mode::Overwrite).is_ok() { Mode::Overwrite } else { Mode::Lossless };
        if let Err(reason) = carries(system, mode, bytes) {
            arena.skip(NAME, system, &label, reason);
            continue;
        }
        let spec = arena.spec(system, bytes, depth, readers, mode);
        let run = spec.run.clone();
        let before = if system.is_in_process() { allocated() } else { files(&run)? };
        // Systems that wait for their readers have reserved all of it at the start.
        let Some(mut player) = arena.enter(NAME, &label, Job::Idle(spec))? else { continue };
        if mode == Mode::Overwrite {
            arena.turn(&mut player, depth as u64, Style::Sent)?;
        }
        let after = if system.is_in_process() { allocated() } else { files(&run)? };
        let value =
            player.says_bytes.unwrap_or((after - before - ours(system, bytes, readers)) as f64);
        tracks.push(Track { values: vec![value], floors: Vec::new() });
        players.push(player);
    }
    let case = Case {
        bench: NAME,
        bytes,
        readers,
        mode: format!("{depth} messages"),
        unit: Unit::Bytes,
        has_floor: false,
    };
    let none = vec![None; players.len()];
    arena.finish(&case, players, tracks, none)
}

/// Bytes that the files of this run occupy.
fn files(run: &str) -> Result<i64> {
    let mut bytes = 0;
    for entry in fs::read_dir(DIRECTORY)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        #[cfg(feature = "iceoryx2")]
        let of_iceoryx = name.starts_with(&crate::systems::iceoryx::prefix(run));
        #[cfg(not(feature = "iceoryx2"))]
        let of_iceoryx = false;
        // seqring puts a prefix of its own before the name.
        if of_iceoryx || name.strip_prefix("seqring.").unwrap_or(&name).starts_with(run) {
            bytes += occupied(&entry.path());
        }
    }
    #[cfg(feature = "iceoryx2")]
    {
        bytes += tree(&crate::systems::iceoryx::directory(run));
    }
    Ok(bytes)
}

#[cfg(feature = "iceoryx2")]
fn tree(directory: &Path) -> i64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    entries
        .flatten()
        .map(
            |entry| {
                if entry.path().is_dir() { tree(&entry.path()) } else { occupied(&entry.path()) }
            },
        )
        .sum()
}

/// A file that has gone meanwhile occupies nothing.
fn occupied(path: &Path) -> i64 {
    // The kernel counts blocks of 512 bytes.
    fs::symlink_metadata(path).map_or(0, |file| file.blocks() as i64 * 512)
}

/// Bytes that the benchmark itself allocates for the ends of a channel: the messages that they send
/// from and receive into.
fn ours(system: System, bytes: usize, readers: usize) -> i64 {
    let messages = match system {
        System::PhotonRing => 1,
        System::Disruptor => 1 + readers,
        // Of the others the files count.
        _ => 0,
    };
    (messages * bytes) as i64
}

/// Bytes that this process has allocated.
fn allocated() -> i64 {
    // SAFETY: the call has no preconditions.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as i64
}
