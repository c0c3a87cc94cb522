//! Named shared memory: files in `/dev/shm` that are created, opened, mapped, locked and unlinked.
//!
//! The `shared_memory` crate creates a segment and gives it its name. This module does the rest
//! with a file handle of its own: it reserves space before the first access, sets mode bits, maps
//! consumers read-only, uses kernel locks to determine which process is alive, and unlinks a name
//! only while it still means the same inode.

mod fork;
mod lock;
mod map;
mod name;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;

use shared_memory::{ShmemConf, ShmemError};

use fork::Kept;
pub(crate) use lock::Role;
use map::Mapping;
use name::file_name;
pub(crate) use name::path;

use crate::error::Error;
use crate::failpoint::{Step, hit};
use crate::layout::{MAX_SEGMENT_BYTES, WORD};
use crate::sync::AtomicU64;

/// A mapped segment. Dropping it unmaps the memory and releases its locks.
#[derive(Debug)]
pub(crate) struct Segment {
    open: Kept,
    /// Device and number of the file's inode.
    inode: (u64, u64),
    path: PathBuf,
    read_only: bool,
    /// The process that opened the segment, and the fork generation of that process. A forked child
    /// must not release what its parent holds.
    pid: u32,
    generation: u64,
}

impl Segment {
    /// Creates the file of `name` with `bytes` bytes of zeros, reserves its space, and takes
    /// [`Role::Owner`]. Returns `Ok(None)` if the file exists.
    ///
    /// Between the creation and the lock, another process may consider the new file abandoned and
    /// remove it. This also returns `Ok(None)`, and the caller checks again.
    pub(crate) fn create(name: &str, bytes: u64, mode: u32) -> Result<Option<Self>, Error> {
        let path = path(name);
        // This check comes before the check of free space: a stale ring of this name may occupy the
        // space, which its removal frees.
        if fs::symlink_metadata(&path).is_ok() {
            return Ok(None);
        }
        check_space(name, bytes)?;
        let held = fork::hold();
        let size =
            usize::try_from(bytes).map_err(|_| Error::no_space(name, bytes, free_bytes()))?;
        let mut shared = match ShmemConf::new().os_id(file_name(name)).size(size).create() {
            Ok(shared) => shared,
            Err(ShmemError::MappingIdExists) => return Ok(None),
            Err(ShmemError::MapCreateFailed(code) | ShmemError::UnknownOsError(code)) => {
                return Err(Error::io(
                    name,
                    "create the segment",
                    io::Error::from_raw_os_error(code as i32),
                ));
            }
            Err(other) => {
                return Err(Error::io(
                    name,
                    "create the segment",
                    io::Error::other(other.to_string()),
                ));
            }
        };
        // The crate would unlink by name, even if the name means another file by then. Its mapping
        // is not used either: only a mapping of our own descriptor is certain to be of the file
        // that is locked and reserved.
        shared.set_owner(false);
        drop(shared);
        let file = match open_file(&path, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(name, "open the segment just created", error)),
        };
        hit(Step::CreateFile);
        let mapping =
            Mapping::of(&file, size, false).map_err(|e| Error::io(name, "map the segment", e))?;
        let inode = inode_of(&file).map_err(|e| Error::io(name, "look at the segment", e))?;
        let segment = Self::of(held.keep(file, mapping, false, false), inode, path, false);
        if !segment.try_lock(Role::Owner).map_err(|e| Error::io(name, "lock the segment", e))?
            || !segment.is_named()
            || !segment.is_untouched(bytes)
        {
            return Ok(None);
        }
        hit(Step::CreateLock);
        // From here on the file belongs to this process, so an error removes it. The space is
        // reserved before the first access: access to a page that tmpfs cannot provide raises
        // SIGBUS.
        if let Err(error) = segment.set_mode(name, mode).and_then(|()| segment.reserve(name, bytes))
        {
            // The first error is more useful than that of the removal.
            let _ = segment.unlink();
            return Err(error);
        }
        hit(Step::CreateSpace);
        Ok(Some(segment))
    }

    /// Whether the file has `bytes` bytes and was never written to.
    fn is_untouched(&self, bytes: u64) -> bool {
        self.open
            .file
            .metadata()
            .is_ok_and(|metadata| metadata.len() == bytes && metadata.blocks() == 0)
    }

    /// Opens the file of `name` and maps all of it, whatever it contains.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Permission`], [`Error::Invalid`] for a file that cannot be
    /// mapped, or [`Error::Io`].
    pub(crate) fn open(name: &str, read_only: bool) -> Result<Self, Error> {
        let path = path(name);
        let held = fork::hold();
        let file = open_file(&path, read_only).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NotFound { name: name.into(), path: path.clone() },
            // The creator sets the mode before it reserves the space; until then no other user may
            // open the file.
            io::ErrorKind::PermissionDenied
                if fs::symlink_metadata(&path).is_ok_and(|m| m.is_file() && !is_reserved(&m)) =>
            {
                Error::not_ready(name)
            }
            io::ErrorKind::PermissionDenied => Error::permission(name, &path, read_only),
            _ => Error::io(name, "open the segment", error),
        })?;
        let metadata =
            file.metadata().map_err(|e| Error::io(name, "read the size of the segment", e))?;
        if !metadata.is_file() {
            return Err(Error::invalid_segment(
                name,
                format!("{} is not a regular file; remove it by hand", path.display()),
            ));
        }
        // A file that cannot be a ring is not mapped, but it can still be locked and removed.
        let size = usize::try_from(metadata.len())
            .ok()
            .filter(|size| *size as u64 <= MAX_SEGMENT_BYTES)
            .unwrap_or(0);
        let mapping = Mapping::of(&file, size, read_only)
            .map_err(|e| Error::io(name, "map the segment", e))?;
        let inode = (metadata.dev(), metadata.ino());
        Ok(Self::of(held.keep(file, mapping, read_only, false), inode, path, read_only))
    }

    fn of(open: Kept, inode: (u64, u64), path: PathBuf, read_only: bool) -> Self {
        Self { open, inode, path, read_only, pid: process::id(), generation: fork::generation() }
    }

    /// Whether the file is larger than any segment. Then nothing of it is mapped.
    pub(crate) fn is_too_large(&self) -> bool {
        self.open.file.metadata().is_ok_and(|metadata| metadata.len() > MAX_SEGMENT_BYTES)
    }

    /// Whether all of the segment's space is reserved. The memory must not be touched before that:
    /// `/dev/shm` may be too full to provide a page, and the access would raise SIGBUS.
    pub(crate) fn is_reserved(&self) -> bool {
        // The system counts blocks of 512 bytes, whatever the block size of the file system is.
        self.open
            .file
            .metadata()
            .is_ok_and(|metadata| metadata.len() <= MAX_SEGMENT_BYTES && is_reserved(&metadata))
    }

    /// The memory as words, without an incomplete last word.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.open.mapping.words()
    }

    /// Whether this process opened the segment, and did not inherit it by a fork.
    pub(crate) fn is_ours(&self) -> bool {
        // The process id identifies children that were made without the C library's fork handlers.
        // It does not identify all of them, because ids may be equal in different namespaces.
        !self.is_inherited() && self.pid == process::id()
    }

    /// Whether the segment was inherited by a fork that ran the C library's handlers. Makes no
    /// system call.
    pub(crate) fn is_inherited(&self) -> bool {
        self.generation != fork::generation()
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Enters all pages into this process's page table.
    pub(crate) fn prefault(&self) {
        self.open.mapping.prefault(self.read_only);
    }

    /// Opens the same segment once more and maps only `words`: the reader table, or a page of it.
    /// The new handle has locks of its own.
    ///
    /// # Errors
    /// [`Error::Permission`] or [`Error::Io`].
    pub(crate) fn part(
        &self,
        name: &str,
        words: Range<usize>,
        read_only: bool,
    ) -> Result<Self, Error> {
        // The path of our descriptor leads to this inode, whatever the name means by now.
        let ours = PathBuf::from(format!("/proc/self/fd/{}", self.open.file.as_raw_fd()));
        let held = fork::hold();
        let file = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .custom_flags(libc::O_CLOEXEC)
            .open(ours)
            .map_err(|error| match error.kind() {
                io::ErrorKind::PermissionDenied => Error::permission(name, &self.path, read_only),
                _ => Error::io(name, "open the reader table", error),
            })?;
        let mapping = Mapping::part(&file, words.start * WORD, words.len() * WORD, read_only)
            .map_err(|e| Error::io(name, "map the reader table", e))?;
        // The mapping is frozen in a forked child: it shows the row as it was at the fork, so the
        // child does not take the parent's changes for commands.
        Ok(Self::of(
            held.keep(file, mapping, read_only, true),
            self.inode,
            self.path.clone(),
            read_only,
        ))
    }

    /// Takes the lock of `role`, unless another open file holds it.
    pub(crate) fn try_lock(&self, role: Role) -> io::Result<bool> {
        lock::try_lock(&self.open.file, role)
    }

    /// Releases the lock of `role`.
    pub(crate) fn unlock(&self, role: Role) {
        lock::unlock(&self.open.file, role);
    }

    /// Whether another open file holds the lock of `role`, so that its process is alive. Locks of
    /// this handle do not count. In a forked child, those of the parent count.
    ///
    /// # Errors
    /// If the system call fails, or if a forked child could not get an open file of its own.
    pub(crate) fn is_locked_elsewhere(&self, role: Role) -> io::Result<bool> {
        let can_ask =
            self.is_ours() || (self.is_inherited() && inode_of(&self.open.file)? == self.inode);
        if !can_ask {
            return Err(io::Error::other(
                "the segment was inherited from another process, and could not be opened once more",
            ));
        }
        lock::is_locked_elsewhere(&self.open.file, role)
    }

    /// Whether the name still means this segment.
    pub(crate) fn is_named(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|named| (named.dev(), named.ino()) == self.inode)
    }

    /// Removes the name, if it still means this segment. Returns whether it did; fails if the name
    /// stays.
    ///
    /// The caller must hold [`Role::Owner`]: every process that replaces a segment holds that lock,
    /// so the name cannot change its meaning between the check and the removal.
    pub(crate) fn unlink(&self) -> io::Result<bool> {
        if !self.is_named() {
            return Ok(false);
        }
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn reserve(&self, name: &str, bytes: u64) -> Result<(), Error> {
        let length =
            i64::try_from(bytes).map_err(|_| Error::no_space(name, bytes, free_bytes()))?;
        loop {
            // SAFETY: a system call on a descriptor that `file` keeps open; no memory is involved.
            let code = unsafe { libc::posix_fallocate(self.open.file.as_raw_fd(), 0, length) };
            match code {
                0 => return Ok(()),
                libc::EINTR => continue,
                libc::ENOSPC => return Err(Error::no_space(name, bytes, free_bytes())),
                code => {
                    return Err(Error::io(
                        name,
                        "reserve space for the segment",
                        io::Error::from_raw_os_error(code),
                    ));
                }
            }
        }
    }

    fn set_mode(&self, name: &str, mode: u32) -> Result<(), Error> {
        self.open
            .file
            .set_permissions(Permissions::from_mode(mode))
            .map_err(|e| Error::io(name, "set the mode of the segment", e))?;
        hit(Step::CreateMode);
        Ok(())
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // Closing releases the locks only with the last copy of the descriptor. A child that
        // another thread is starting has a copy until it executes its program.
        if self.is_ours() {
            self.unlock(Role::Producer);
            self.unlock(Role::Owner);
        }
    }
}

fn open_file(path: &Path, read_only: bool) -> io::Result<File> {
    // O_NONBLOCK: a FIFO under this name must not block the open.
    OpenOptions::new()
        .read(true)
        .write(!read_only)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

fn inode_of(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn is_reserved(metadata: &fs::Metadata) -> bool {
    metadata.len() > 0 && metadata.blocks().saturating_mul(512) >= metadata.len()
}

/// Refuses a segment at once that does not fit, before the reservation fills the memory.
fn check_space(name: &str, bytes: u64) -> Result<(), Error> {
    match free_bytes() {
        Some(free) if bytes > free => Err(Error::no_space(name, bytes, Some(free))),
        _ => Ok(()),
    }
}

/// Free bytes in `/dev/shm`, if the system reports them.
fn free_bytes() -> Option<u64> {
    let directory = std::ffi::CString::new(name::DIRECTORY).ok()?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path is a C string and `stat` is writable; both live through the call.
    let code = unsafe { libc::statvfs(directory.as_ptr(), stat.as_mut_ptr()) };
    if code != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so it has filled the structure.
    let stat = unsafe { stat.assume_init() };
    if stat.f_blocks == 0 {
        // A tmpfs without a limit reports zeros.
        return None;
    }
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
