//! Walking folders that something untrusted writes into, or has written into.
//!
//! By descriptors and never by path: what is a folder at one moment may be a link to somewhere else at the next. Bounded
//! in entries and in depth, since both are the writer's to choose.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};

/// Most entries in a job's folders together: a large tree of packages has a hundred thousand.
pub(crate) const MAX_ENTRIES: u64 = 1_000_000;

/// Deepest folder, each of which holds a descriptor while it is walked. Packages within packages come to fifty.
pub(crate) const MAX_DEPTH: usize = 128;

/// Why a walk ended before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// More than [`MAX_ENTRIES`].
    Entries,
    /// More than [`MAX_DEPTH`].
    Depth,
    /// What the visitor wanted.
    Enough,
    /// The folder itself cannot be read.
    Io(io::Error),
}

/// What lies in a folder, seen once.
pub(crate) struct Entry<'a> {
    folder: BorrowedFd<'a>,
    name: &'a std::ffi::CStr,
    pub(crate) stat: &'a Stat,
    /// It is a folder, and this is it, opened without a right to read.
    itself: Option<BorrowedFd<'a>>,
}

/// Shows everything below a folder, and the folder itself first, to `visit`, which says whether to go on. A folder is
/// shown before what is in it. Other file systems mounted below are not entered. `entries` counts on from walk to walk.
pub(crate) fn walk(
    root: &Path,
    entries: &mut u64,
    visit: &mut dyn FnMut(&Entry<'_>) -> bool,
) -> Result<(), Stop> {
    let open = |at: BorrowedFd<'_>, name: &std::ffi::CStr| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(at, name, flags, Mode::empty())
    };
    let path = std::ffi::CString::new(root.as_os_str().as_encoded_bytes())
        .map_err(|e| Stop::Io(e.into()))?;
    let first = open(CWD, &path).map_err(|e| Stop::Io(e.into()))?;
    let stat = rustix::fs::fstat(&first).map_err(|e| Stop::Io(e.into()))?;
    let device = stat.st_dev;
    let shown = visit(&Entry {
        folder: CWD,
        name: &path,
        stat: &stat,
        itself: Some(first.as_fd()),
    });
    if !shown {
        return Err(Stop::Enough);
    }
    let mut stack = vec![read(&first, &stat).map_err(Stop::Io)?];
    while let Some(dir) = stack.last_mut() {
        let Some(Ok(found)) = dir.read() else {
            stack.pop();
            continue;
        };
        let name = found.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        *entries += 1;
        if *entries > MAX_ENTRIES {
            return Err(Stop::Entries);
        }
        let Ok(folder) = dir.fd() else { continue };
        // What is gone again by now is none of ours.
        let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let is_folder =
            FileType::from_raw_mode(stat.st_mode) == FileType::Directory && stat.st_dev == device;
        let itself = is_folder.then(|| open(folder, name).ok()).flatten();
        let go_on = visit(&Entry {
            folder,
            name,
            stat: &stat,
            itself: itself.as_ref().map(AsFd::as_fd),
        });
        if !go_on {
            return Err(Stop::Enough);
        }
        if let Some(itself) = itself {
            if stack.len() >= MAX_DEPTH {
                return Err(Stop::Depth);
            }
            if let Ok(dir) = read(&itself, &stat) {
                stack.push(dir);
            }
        }
    }
    Ok(())
}

/// Opens for reading what was opened by name. An ordinary owner who took the rights to his own folder from himself gets
/// them back: what cannot be read cannot be counted.
fn read(folder: &OwnedFd, stat: &Stat) -> io::Result<Dir> {
    let mine = stat.st_uid == rustix::process::geteuid().as_raw();
    if stat.st_mode & 0o500 != 0o500 && mine && stat.st_uid != 0 {
        set_mode(folder.as_fd(), stat.st_mode | 0o700)?;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(folder, c".", flags, Mode::empty())?;
    Ok(Dir::new(opened)?)
}

/// Changes the mode of what was opened by name alone, which the plain call does not take.
fn set_mode(opened: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777))
}

impl Entry<'_> {
    pub(crate) fn is_file(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::RegularFile
    }

    /// The thing itself and never what it points to.
    fn own(&self, (uid, gid): (u32, u32)) -> io::Result<()> {
        if (self.stat.st_uid, self.stat.st_gid) == (uid, gid) {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::chownat(
            self.folder,
            self.name,
            Some(uid),
            Some(gid),
            flags,
        )?)
    }
}

/// Gives a folder with all in it to these ids.
pub(crate) fn give(root: &Path, to: (u32, u32)) -> io::Result<()> {
    let mut failed = None;
    let walked = walk(root, &mut 0, &mut |entry| match entry.own(to) {
        Ok(()) => true,
        Err(error) => {
            failed = Some(error);
            false
        }
    });
    finished(walked, failed)
}

/// Makes a folder, into which nobody writes any more, wholly ours: our ids, no bits that lend a program its owner's
/// rights, and every folder open to its owner, so that it can be emptied.
pub(crate) fn tidy(root: &Path) -> io::Result<()> {
    let ours = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let mut failed = None;
    let walked = walk(root, &mut 0, &mut |entry| {
        if let Err(error) = entry.own(ours).and_then(|()| entry.plain()) {
            failed.get_or_insert(error);
        }
        true
    });
    finished(walked, failed)
}

impl Entry<'_> {
    /// An ordinary mode.
    fn plain(&self) -> io::Result<()> {
        let mode = self.stat.st_mode & 0o7777;
        if let Some(itself) = self.itself {
            let wanted = (mode & 0o777) | 0o700;
            return if wanted == mode {
                Ok(())
            } else {
                set_mode(itself, wanted)
            };
        }
        if self.is_file() && mode & 0o6000 != 0 {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(self.folder, self.name, flags, Mode::empty())?;
            set_mode(file.as_fd(), mode & 0o777)?;
        }
        Ok(())
    }
}

fn finished(walked: Result<(), Stop>, failed: Option<io::Error>) -> io::Result<()> {
    if let Some(error) = failed {
        return Err(error);
    }
    match walked {
        Ok(()) | Err(Stop::Enough) => Ok(()),
        Err(Stop::Entries) => Err(io::Error::other(format!(
            "it holds more than {MAX_ENTRIES} files"
        ))),
        Err(Stop::Depth) => Err(io::Error::other(format!(
            "its folders are nested deeper than {MAX_DEPTH}"
        ))),
        Err(Stop::Io(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn links_are_not_followed_and_modes_become_plain() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(&outside, "x").unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o4755)).unwrap();
        symlink(&outside, root.join("a/link")).unwrap();
        symlink(folder.path(), root.join("up")).unwrap();
        let program = root.join("a/program");
        fs::write(&program, "x").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o6755)).unwrap();
        fs::set_permissions(root.join("a/b"), fs::Permissions::from_mode(0o000)).unwrap();
        let mut seen = 0;
        walk(&root, &mut 0, &mut |_| {
            seen += 1;
            true
        })
        .unwrap();
        assert_eq!(seen, 6, "root, a, a/b, a/link, a/program, up");
        tidy(&root).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&program), 0o755);
        assert_eq!(mode(&root.join("a/b")), 0o700);
        assert_eq!(mode(&outside), 0o4755, "what a link points to is not ours");
    }

    #[test]
    fn endless_depth_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let deep: std::path::PathBuf = std::iter::repeat_n("d", MAX_DEPTH + 1).collect();
        fs::create_dir_all(folder.path().join(deep)).unwrap();
        let walked = walk(folder.path(), &mut 0, &mut |_| true);
        assert!(matches!(walked, Err(Stop::Depth)), "{walked:?}");
        let error = tidy(folder.path()).unwrap_err().to_string();
        assert!(error.contains("deeper than 128"), "{error}");
    }

    #[test]
    fn the_visitor_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x"), "").unwrap();
        let walked = walk(folder.path(), &mut 0, &mut |_| false);
        assert!(matches!(walked, Err(Stop::Enough)));
        assert!(matches!(
            walk(&folder.path().join("x"), &mut 0, &mut |_| true),
            Err(Stop::Io(_))
        ));
    }
}
