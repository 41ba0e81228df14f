//! The mark: the last version that was acknowledged, noted outside the database.
//!
//! The database cannot tell by itself that its end is missing: if the last commits of the log are damaged, or the log
//! was deleted, what remains is consistent and merely older. So after each durable commit, before it is answered, its
//! version is written to a small file. That write is not synced: a killed process leaves it behind all the same, and
//! after a power cut it may be older than the data, which hides a loss but never invents one.
//!
//! It serves a second end: a version noted here is never given out again, even if the database was put back from an
//! old copy.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::Digest;

/// The version and the beginning of its digest, eight bytes each.
const LENGTH: usize = 16;

/// The file that holds the mark.
#[derive(Debug)]
pub struct Mark {
    file: File,
    path: PathBuf,
    warned: bool,
}

impl Mark {
    /// Opens the file and reads the mark; one that is absent or torn says nothing.
    ///
    /// # Errors
    /// Those of opening the file.
    pub fn open(path: &Path) -> io::Result<(Self, Option<u64>)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let mut content = [0; LENGTH];
        let noted = file
            .read_exact_at(&mut content, 0)
            .ok()
            .and_then(|()| decode(content));
        Ok((
            Self {
                file,
                path: path.to_owned(),
                warned: false,
            },
            noted,
        ))
    }

    /// Notes a version. A failure costs a check at the next start, not data, so it is only logged, once.
    pub fn note(&mut self, version: u64) {
        match self.file.write_all_at(&encode(version), 0) {
            Ok(()) => self.warned = false,
            Err(error) if !self.warned => {
                self.warned = true;
                tracing::warn!(path = %self.path.display(), %error, "cannot note the last version");
            }
            Err(_) => {}
        }
    }
}

fn encode(version: u64) -> [u8; LENGTH] {
    let number = version.to_be_bytes();
    let mut content = [0; LENGTH];
    content[..8].copy_from_slice(&number);
    content[8..].copy_from_slice(&Digest::of(&number).as_bytes()[..8]);
    content
}

fn decode(content: [u8; LENGTH]) -> Option<u64> {
    let version = u64::from_be_bytes(content[..8].try_into().expect("eight bytes"));
    (encode(version) == content).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_and_ignored_when_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        let (mut mark, noted) = Mark::open(&path).unwrap();
        assert_eq!(noted, None);
        mark.note(7);
        mark.note(8);
        assert_eq!(Mark::open(&path).unwrap().1, Some(8));
        let mut content = std::fs::read(&path).unwrap();
        content[7] ^= 1;
        std::fs::write(&path, content).unwrap();
        assert_eq!(Mark::open(&path).unwrap().1, None);
    }
}
