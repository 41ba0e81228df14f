//! The data folder: made private, owned by one server at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::OpenError;

/// Longest content of a lock file that is read, in bytes: a process id and a line end.
const MAX_LOCK_BYTES: u64 = 32;

/// Holds the lock of a data folder. The kernel lets go of it when the process ends, however it ends, so a lock file
/// left behind means nothing.
#[derive(Debug)]
pub(crate) struct Folder {
    _lock: File,
}

impl Folder {
    /// Makes the folder if needed and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        make(path)?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|source| OpenError::NotWritable {
                path: lock_path.clone(),
                source,
            })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked {
                    path: path.to_owned(),
                    pid: holder(&lock),
                });
            }
            Err(TryLockError::Error(source)) => {
                return Err(OpenError::Io {
                    path: lock_path,
                    source,
                });
            }
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(|source| OpenError::NotWritable {
                path: lock_path,
                source,
            })?;
        Ok(Self { _lock: lock })
    }
}

/// Makes a folder that only its owner enters; an existing one stays as it is.
///
/// # Errors
/// [`OpenError::NotWritable`].
pub fn make(path: &Path) -> Result<(), OpenError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| OpenError::NotWritable {
            path: path.to_owned(),
            source,
        })
}

/// Makes names created or removed in this folder durable.
///
/// # Errors
/// Those of the system.
pub fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn holder(lock: &File) -> Option<u32> {
    let mut text = String::new();
    lock.take(MAX_LOCK_BYTES).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_at_a_time_named_by_pid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/on/the/way");
        let held = Folder::open(&path).unwrap();
        match Folder::open(&path) {
            Err(OpenError::Locked { path: locked, pid }) => {
                assert_eq!((locked, pid), (path.clone(), Some(std::process::id())));
            }
            other => panic!("{other:?}"),
        }
        drop(held);
        Folder::open(&path).unwrap();
    }

    #[test]
    fn what_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let error = Folder::open(&file.join("data")).unwrap_err();
        assert!(matches!(error, OpenError::NotWritable { .. }));
        assert!(
            error.to_string().contains("file/data is not writable"),
            "{error}"
        );
    }
}
