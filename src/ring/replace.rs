//! Removes segments that dead owners have left.

use crate::error::Error;
use crate::failpoint::{Step, hit};
use crate::layout::{BELL, Header, PRODUCER_PID, STATE};
use crate::message::Message;
use crate::protocol;
use crate::ring::Ring;
use crate::ring::open::check_name;
use crate::segment::{Role, Segment, path};
use crate::sync::Ordering;
use crate::wait::wake_regardless;

impl<M: Message + ?Sized> Ring<M> {
    /// Removes the name of a ring. Processes that have the ring open keep it. Returns whether the
    /// name existed.
    ///
    /// # Errors
    /// [`Error::InUse`] if its owner or a producer is alive; [`Error::NameCollision`]; or
    /// [`Error::Io`].
    pub fn unlink(name: &str) -> Result<bool, Error> {
        match Stale::claim(name) {
            Ok(Some(stale)) => stale.segment.unlink().map_err(|e| cannot_remove(name, e)),
            Ok(None) => Ok(false),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A segment without a live owner or producer. This process holds the locks of both roles.
pub(super) struct Stale {
    segment: Segment,
}

impl Stale {
    /// Claims the segment of `name`, whatever it contains. Returns `Ok(None)` if the name means
    /// another file by now.
    fn claim(name: &str) -> Result<Option<Self>, Error> {
        let segment = Segment::open(name, false)?;
        let io = |e| Error::io(name, "lock the segment", e);
        for role in [Role::Owner, Role::Producer, Role::AnySharedProducer] {
            let free = match role {
                // The producer lock is held by now, and no shared producer can join without it.
                Role::AnySharedProducer => !segment.is_locked_elsewhere(role).map_err(io)?,
                _ => segment.try_lock(role).map_err(io)?,
            };
            if !free {
                let producer_pid = if segment.is_reserved() {
                    segment.words().get(PRODUCER_PID).map_or(0, |word| word.load(Ordering::Relaxed))
                } else {
                    0
                };
                return Err(Error::InUse { name: name.into(), producer_pid });
            }
        }
        // Another ring whose name has the same hash must not be removed. A damaged name leads to
        // another path and belongs to no ring, so it does not protect the segment.
        let header = segment.is_reserved().then(|| Header::read(segment.words()).ok()).flatten();
        if let Some(header) = header.filter(|header| {
            std::str::from_utf8(&header.name).is_ok_and(|found| path(found) == path(name))
        }) {
            check_name(name, &header)?;
        }
        Ok(segment.is_named().then_some(Self { segment }))
    }

    /// Removes the segment of `name`, unless the name means another file by now.
    pub(super) fn clear_away(name: &str) -> Result<(), Error> {
        Self::claim(name)?.map_or(Ok(()), |stale| stale.replace(name))
    }

    /// Marks the segment as superseded, wakes its attached consumers, and frees the name.
    fn replace(self, name: &str) -> Result<(), Error> {
        hit(Step::ReplaceLock);
        let words = self.segment.words();
        let header = if self.segment.is_reserved() { Header::read(words).ok() } else { None };
        let before = words.get(STATE).map(|state| state.load(Ordering::Relaxed));
        if let Some(header) = &header {
            protocol::supersede(words);
            hit(Step::ReplaceState);
            wake_regardless(&protocol::table(words, &header.geometry)[BELL]);
        }
        self.segment.unlink().map(|_| hit(Step::ReplaceName)).map_err(|error| {
            // The segment keeps its name, so it has not been superseded.
            if let (Some(before), Some(_)) = (before, &header) {
                words[STATE].store(before, Ordering::Relaxed);
            }
            cannot_remove(name, error)
        })
    }
}

/// The error of a name that could not be removed. `/dev/shm` is a sticky directory: only the owner
/// of a file may remove it.
fn cannot_remove(name: &str, error: std::io::Error) -> Error {
    Error::io(
        name,
        "remove the stale segment (its owner or root can, or choose another name)",
        error,
    )
}
