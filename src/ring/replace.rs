//! Removing what dead owners have left.

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
    /// Removes the name of a ring; who has it open keeps it. Returns whether there was one.
    ///
    /// # Errors
    /// [`Error::InUse`] if its owner or producer is alive, or [`Error::Io`].
    pub fn unlink(name: &str) -> Result<bool, Error> {
        match Stale::claim(name) {
            Ok(Some(stale)) => stale.segment.unlink().map_err(|e| cannot_remove(name, e)),
            Ok(None) => Ok(false),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A segment that nobody alive owns or produces into, with both locks held by us.
pub(super) struct Stale {
    segment: Segment,
}

impl Stale {
    /// Takes the segment of `name`, whatever is in it. `Ok(None)` if the name changed its meaning
    /// meanwhile.
    fn claim(name: &str) -> Result<Option<Self>, Error> {
        let segment = Segment::open(name, false)?;
        let io = |e| Error::io(name, "lock the segment", e);
        for role in [Role::Owner, Role::Producer, Role::AnySharedProducer] {
            let free = match role {
                // Behind the lock of the producer, without which nobody joins them.
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
        // A ring whose name has the same hash is not ours to remove; a damaged name, which leads
        // elsewhere, is nobody's.
        let header = segment.is_reserved().then(|| Header::read(segment.words()).ok()).flatten();
        if let Some(header) = header.filter(|header| {
            std::str::from_utf8(&header.name).is_ok_and(|found| path(found) == path(name))
        }) {
            check_name(name, &header)?;
        }
        Ok(segment.is_named().then_some(Self { segment }))
    }

    /// Clears the segment of `name` away, unless the name has changed its meaning meanwhile.
    pub(super) fn clear_away(name: &str) -> Result<(), Error> {
        Self::claim(name)?.map_or(Ok(()), |stale| stale.replace(name))
    }

    /// Tells attached consumers, and frees the name.
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
            // It keeps its name, so it has not been superseded.
            if let (Some(before), Some(_)) = (before, &header) {
                words[STATE].store(before, Ordering::Relaxed);
            }
            cannot_remove(name, error)
        })
    }
}

/// The name stays: in `/dev/shm`, as in every sticky directory, only its owner may remove a file.
fn cannot_remove(name: &str, error: std::io::Error) -> Error {
    Error::io(
        name,
        "remove the stale segment (its owner or root can, or choose another name)",
        error,
    )
}
