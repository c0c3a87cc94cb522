//! What must not pile up: rows of the table, files, memory, descriptors.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use seqring::Ring;

use crate::actor::Actor;
use crate::roles::Kind;

/// How much private memory a process may gain, in KiB: its allocator's whims.
const WHIMS: u64 = 512;

/// What a survivor, or the ring, holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holdings {
    /// Files of the ring and their blocks of 512 bytes.
    files: BTreeMap<String, u64>,
    /// Of each veteran: private memory in KiB, open files, mappings of the ring.
    veterans: Vec<(u64, usize, usize)>,
}

impl Holdings {
    pub fn of(ring: &str, actors: &[Actor]) -> Self {
        let veterans = actors.iter().filter(|actor| actor.is_veteran);
        Self {
            files: files(ring),
            veterans: veterans.map(|actor| of_process(actor.id(), ring)).collect(),
        }
    }

    /// # Panics
    /// If there is more now than before.
    pub fn expect_no_more(&self, before: &Self) {
        let (now_private, now_rest): (Vec<_>, Vec<_>) =
            self.veterans.iter().map(|(private, fds, maps)| (*private, (*fds, *maps))).unzip();
        let (private, rest): (Vec<_>, Vec<_>) =
            before.veterans.iter().map(|(private, fds, maps)| (*private, (*fds, *maps))).unzip();
        assert_eq!(
            (&self.files, now_rest),
            (&before.files, rest),
            "files and their blocks; open files and mappings of the survivors"
        );
        let more = now_private.iter().zip(&private).all(|(now, before)| *now <= before + WHIMS);
        assert!(
            more,
            "the private memory of the survivors grew from {private:?} to {now_private:?} KiB"
        );
    }
}

fn of_process(id: u32, ring: &str) -> (u64, usize, usize) {
    let read =
        |what: &str| fs::read_to_string(format!("/proc/{id}/{what}")).expect("the process lives");
    let status = read("status");
    let private = status.lines().find_map(|line| {
        line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.trim().parse().ok()
    });
    let open = fs::read_dir(format!("/proc/{id}/fd")).expect("the process lives").count();
    let mappings = read("maps").lines().filter(|line| line.contains(ring)).count();
    (private.expect("every Linux tells it"), open, mappings)
}

/// The files of shared memory whose names contain that of the ring.
pub fn files(ring: &str) -> BTreeMap<String, u64> {
    let entries =
        fs::read_dir("/dev/shm").expect("every Linux has it").map(|entry| entry.expect("readable"));
    let named = |entry: fs::DirEntry| {
        Some((entry.file_name().into_string().ok()?, entry.metadata().ok()?.blocks()))
    };
    entries.filter_map(named).filter(|(name, _)| name.contains(ring)).collect()
}

/// # Panics
/// If the table does not list exactly those who live and have registered.
pub fn expect_rows_of_the_living(ring: &Ring<[u8]>, actors: &[Actor]) {
    let mut listed: Vec<_> =
        ring.consumers().iter().map(|reader| (reader.pid, reader.is_gating)).collect();
    let registered =
        actors.iter().filter(|actor| matches!(actor.role.kind, Kind::Registers | Kind::Gates));
    let mut alive: Vec<_> =
        registered.map(|actor| (u64::from(actor.id()), actor.role.kind == Kind::Gates)).collect();
    listed.sort_unstable();
    alive.sort_unstable();
    assert_eq!(listed, alive, "rows of the reader table: {:?}", ring.consumers());
}
