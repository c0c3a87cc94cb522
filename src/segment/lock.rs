//! Which processes are alive: one byte lock per role on the segment's file.
//!
//! Open-file-description locks belong to an open file, not to a process id. The kernel releases
//! them when the last descriptor of that open file is closed, also after SIGKILL. Reused process
//! ids and PID namespaces cannot confuse them. (POSIX record locks would be released when *any*
//! descriptor of the file is closed; `flock` has only one lock per file.)

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use crate::layout::MAX_PRODUCERS;

/// Byte of the first of several producers.
const MEMBERS: libc::off_t = 8192;

/// What a lock stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The process has created the segment or taken it over, and will unlink it. Also held while
    /// the segment is replaced.
    Owner,
    /// The process writes messages. In a ring of several producers: the process joins or leaves
    /// them at this moment.
    Producer,
    /// The process has a consumer in this row of the reader table.
    Consumer(usize),
    /// The process has one of several producers, with this row.
    SharedProducer(usize),
    /// Any of several producers. Only for checks; never locked.
    AnySharedProducer,
}

impl Role {
    /// The offset of the role's byte. The content of the byte is unrelated.
    fn offset(self) -> libc::off_t {
        match self {
            Self::Owner => 0,
            Self::Producer => 1,
            // The number of a row is at most 4095.
            Self::Consumer(row) => 64 + row as libc::off_t,
            Self::SharedProducer(row) => MEMBERS + row as libc::off_t,
            Self::AnySharedProducer => MEMBERS,
        }
    }

    /// Length of the lock in bytes.
    fn length(self) -> libc::off_t {
        if self == Self::AnySharedProducer { MAX_PRODUCERS as libc::off_t } else { 1 }
    }
}

pub(super) fn try_lock(file: &File, role: Role) -> io::Result<bool> {
    match request(file, libc::F_OFD_SETLK, role, libc::F_WRLCK as libc::c_short) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn unlock(file: &File, role: Role) {
    // Unlocking a byte of an open file cannot fail, and closing the file would have the same
    // effect.
    let _ = request(file, libc::F_OFD_SETLK, role, libc::F_UNLCK as libc::c_short);
}

pub(super) fn is_locked_elsewhere(file: &File, role: Role) -> io::Result<bool> {
    // For a read lock, the kernel reports only write locks as conflicts. Write locks need write
    // permission, so a process that may only read cannot pretend to be alive.
    let answer = request(file, libc::F_OFD_GETLK, role, libc::F_RDLCK as libc::c_short)?;
    Ok(answer.l_type != libc::F_UNLCK as libc::c_short)
}

fn request(
    file: &File,
    command: libc::c_int,
    role: Role,
    kind: libc::c_short,
) -> io::Result<libc::flock> {
    // `l_pid` must be 0 for these commands.
    let mut lock = libc::flock {
        l_type: kind,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: role.offset(),
        l_len: role.length(),
        l_pid: 0,
    };
    loop {
        // SAFETY: the descriptor is open as long as `file` is borrowed, and `lock` is the structure
        // that both commands take, writable for the answer.
        let code = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
        if code != -1 {
            return Ok(lock);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_by_other_open_files_and_ends_with_its_own() {
        let path = std::env::temp_dir().join(format!("seqring-lock-{}", std::process::id()));
        let open = || {
            File::options().read(true).write(true).create(true).truncate(false).open(&path).unwrap()
        };
        let (first, second) = (open(), open());
        let read_only = File::open(&path).unwrap();
        assert!(!is_locked_elsewhere(&read_only, Role::Producer).unwrap());
        assert!(try_lock(&first, Role::Producer).unwrap());
        assert!(
            try_lock(&first, Role::Producer).unwrap(),
            "our own lock does not conflict with itself"
        );
        assert!(!try_lock(&second, Role::Producer).unwrap());
        assert!(try_lock(&second, Role::Owner).unwrap(), "roles are independent");
        assert!(
            is_locked_elsewhere(&read_only, Role::Producer).unwrap(),
            "a read-only file can ask"
        );
        assert!(!is_locked_elsewhere(&first, Role::Producer).unwrap());
        drop(first);
        assert!(try_lock(&second, Role::Producer).unwrap());
        unlock(&second, Role::Producer);
        assert!(!is_locked_elsewhere(&read_only, Role::Producer).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
}
