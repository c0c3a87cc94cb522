//! A file that keeps the checkpoint of one consumer, for the case that its row in the reader table
//! was given to another consumer.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// The checkpoint file of a consumer of one segment. A checkpoint of another segment, such as an
/// earlier ring of the same name, is ignored.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    instance: u64,
}

impl File {
    pub(super) fn new(path: PathBuf, instance: u64) -> Self {
        Self { path, instance }
    }

    /// The checkpoint in the file, if there is one of this segment.
    pub(super) fn read(&self) -> io::Result<Option<u64>> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let invalid = || {
            let path = self.path.display();
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{path} is not a checkpoint file: remove it, or choose another path"),
            )
        };
        let (instance, sequence) = text.trim_end().split_once(' ').ok_or_else(invalid)?;
        let instance = u64::from_str_radix(instance, 16).map_err(|_| invalid())?;
        let sequence = sequence.parse().map_err(|_| invalid())?;
        Ok((instance == self.instance).then_some(sequence))
    }

    /// Writes `sequence`. If the process is killed during the call, the file keeps the previous
    /// checkpoint.
    pub(super) fn write(&self, sequence: u64) -> io::Result<()> {
        // The file name is unique among all threads and processes at this moment.
        static WRITTEN: AtomicU64 = AtomicU64::new(0);
        let mut written = self.path.clone().into_os_string();
        written.push(format!(
            ".{}-{}",
            std::process::id(),
            WRITTEN.fetch_add(1, Ordering::Relaxed)
        ));
        fs::write(&written, format!("{:016x} {sequence}\n", self.instance))?;
        fs::rename(written, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_kept_for_its_own_segment_only() {
        let path = std::env::temp_dir().join(format!("seqring-checkpoint-{}", std::process::id()));
        let (ours, other) = (File::new(path.clone(), 0xAB), File::new(path.clone(), 0xCD));
        assert_eq!(ours.read().unwrap(), None);
        ours.write(7).unwrap();
        ours.write(u64::MAX).unwrap();
        assert_eq!((ours.read().unwrap(), other.read().unwrap()), (Some(u64::MAX), None));
        fs::write(&path, "something else").unwrap();
        assert_eq!(ours.read().unwrap_err().kind(), io::ErrorKind::InvalidData);
        fs::remove_file(path).unwrap();
    }
}
