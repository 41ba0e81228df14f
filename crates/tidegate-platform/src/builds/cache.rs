//! What earlier builds made, by what it was made from.
//!
//! An entry is a small file named by a digest of everything the result depends on, which holds the result's own digest.
//! The file's time is that of its last use. A result that is no longer among the blobs is as good as none.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tidegate_store::Digest;

/// How long a result is kept that nobody asks for: over a holiday.
const KEEP: Duration = Duration::from_secs(14 * 24 * 3600);

/// Results of stages.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub(super) fn new(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// The entry of these parts. Each is told apart from the next whatever is in them.
    pub(super) fn key(parts: &[&str]) -> Digest {
        let mut text = Vec::new();
        for part in parts {
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        Digest::of(&text)
    }

    /// The result, if there is one.
    pub(super) fn get(&self, key: &Digest) -> Option<Digest> {
        let path = self.path(key);
        let digest = fs::read_to_string(&path).ok()?.trim().parse().ok()?;
        if let Ok(file) = fs::File::open(&path) {
            // A time that cannot be set only makes the entry go earlier.
            let _ = file.set_modified(SystemTime::now());
        }
        Some(digest)
    }

    /// Keeps a result.
    pub(super) fn put(&self, key: &Digest, result: &Digest) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        io::Write::write_all(&mut file, result.to_string().as_bytes())?;
        file.persist(self.path(key)).map_err(|e| e.error)?;
        Ok(())
    }

    /// Forgets what nobody asked for in a long time, and names the rest. What is in use is not forgotten: a function that
    /// is only scaled is looked at again, and must come out as the same revision.
    pub(super) fn sweep(&self, used: &HashSet<Digest>) -> io::Result<HashSet<Digest>> {
        let mut kept = HashSet::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let asked = entry.metadata().and_then(|m| m.modified());
            let old = asked.is_ok_and(|t| t.elapsed().is_ok_and(|age| age > KEEP));
            let result = read(&entry.path());
            if old && !result.is_some_and(|digest| used.contains(&digest)) {
                fs::remove_file(entry.path())?;
            } else {
                kept.extend(result);
            }
        }
        Ok(kept)
    }

    fn path(&self, key: &Digest) -> PathBuf {
        self.folder.join(key.hex())
    }
}

fn read(path: &Path) -> Option<Digest> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_found_by_what_they_were_made_from() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("results")).unwrap();
        let (a, b) = (Cache::key(&["x", "yz"]), Cache::key(&["xy", "z"]));
        assert_ne!(a, b);
        let result = Digest::of(b"result");
        cache.put(&a, &result).unwrap();
        assert_eq!(cache.get(&a), Some(result));
        assert_eq!(cache.get(&b), None);
        assert_eq!(
            cache.sweep(&HashSet::new()).unwrap(),
            HashSet::from([result])
        );
    }

    #[test]
    fn what_nobody_asks_for_or_uses_goes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned()).unwrap();
        let key = Cache::key(&["x"]);
        let result = Digest::of(b"result");
        cache.put(&key, &result).unwrap();
        let file = fs::File::open(cache.path(&key)).unwrap();
        file.set_modified(SystemTime::now() - KEEP - Duration::from_secs(60))
            .unwrap();
        let used = HashSet::from([result]);
        assert_eq!(cache.sweep(&used).unwrap(), used);
        assert_eq!(cache.sweep(&HashSet::new()).unwrap(), HashSet::new());
        assert_eq!(cache.get(&key), None);
    }
}
