//! From a layer's tar to a folder, trusting nothing of it.
//!
//! The folder is one of the lower layers of an overlay, so it holds what the tar says *and* marks for what the tar takes
//! away: a character device 0:0 in the place of a file that is gone, and the attribute `user.overlay.opaque` on a folder
//! that hides all below it. Both may be made by an ordinary user (such a device is allowed to anyone since Linux 5.8), so
//! there is one form whoever runs the server; the overlay must be mounted with `userxattr`, which works for root too.
//!
//! Nothing is followed while writing. Every entry's folder is opened below the layer's own with `openat2`, which refuses
//! links and `..`, and the entry is made in it by its last name alone: a link that the layer has planted leads nowhere.
//!
//! Left out: owners (all belongs to the server's user), set-user-id, set-group-id and sticky bits of files, extended
//! attributes and with them file capabilities, devices and pipes, and the times of folders. Folders can always be entered
//! and written to by their owner, so that any of it can be removed again.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags,
};
use rustix::io::Errno;

use crate::compression::Plain;
use crate::digest::Hashing;
use crate::error::{at, sys};
use crate::tar::{Entry, Kind, Tar, TarError};
use crate::{Error, ImageDigest, Settings};

/// Longest path in bytes, as Linux has it.
const MAX_PATH: usize = 4095;
/// Longest name in bytes, likewise.
const MAX_NAME: usize = 255;
/// Deepest nesting: what removes it goes down a level a folder.
const MAX_DEPTH: usize = 256;
/// Room for headers and padding in bytes an entry, beyond the content: two extension headers with what they hold.
const OVERHEAD: u64 = 8 << 10;
/// What names of things that are taken away begin with.
const GONE: &[u8] = b".wh.";
/// What hides all that is below a folder.
const HIDES: &[u8] = b".wh..wh..opq";
/// Other notes of the file system that this form comes from.
const NOTES: &[u8] = b".wh..wh.";
/// The attribute of a folder that hides all below it, as overlayfs reads it when mounted with `userxattr`.
const OPAQUE: &str = "user.overlay.opaque";
/// Bytes written at a time.
const CHUNK: usize = 128 << 10;

/// What an image may still take: shared by its layers, which are unpacked side by side.
pub(crate) struct Budget {
    bytes: AtomicU64,
    entries: AtomicU64,
    max_bytes: u64,
    max_entries: u64,
    name: String,
}

impl Budget {
    pub(crate) fn new(name: String, settings: &Settings) -> Self {
        Self {
            bytes: AtomicU64::new(settings.max_image_bytes),
            entries: AtomicU64::new(settings.max_entries),
            max_bytes: settings.max_image_bytes,
            max_entries: settings.max_entries,
            name,
        }
    }

    pub(crate) fn take(&self, bytes: u64, entries: u64) -> Result<(), Error> {
        take(&self.bytes, bytes)
            .map_err(|()| self.too_large(self.max_bytes, "bytes, unpacked,"))?;
        take(&self.entries, entries)
            .map_err(|()| self.too_large(self.max_entries, "files and folders"))
    }

    /// Most bytes that a layer's tar can have, whatever it says of itself.
    fn tar_limit(&self) -> u64 {
        self.bytes
            .load(Ordering::Relaxed)
            .saturating_add(OVERHEAD.saturating_mul(self.entries.load(Ordering::Relaxed)))
            .saturating_add(1 << 20)
    }

    fn too_large(&self, limit: u64, unit: &'static str) -> Error {
        Error::TooLarge {
            what: format!("image {}", self.name),
            limit,
            unit,
        }
    }
}

fn take(from: &AtomicU64, much: u64) -> Result<(), ()> {
    from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        left.checked_sub(much)
    })
    .map(drop)
    .map_err(drop)
}

/// Whether somebody still waits. Work on a thread of its own looks at it, for such work cannot be dropped.
#[derive(Clone, Default)]
pub(crate) struct Wanted(Arc<AtomicBool>);

/// Held by whoever waits: dropping it ends the work.
pub(crate) struct Waiting(Wanted);

impl Wanted {
    pub(crate) fn new() -> (Waiting, Self) {
        let wanted = Self::default();
        (Waiting(wanted.clone()), wanted)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.0.load(Ordering::Relaxed) {
            Err(Error::Interrupted)
        } else {
            Ok(())
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// What a layer has become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Made {
    /// Sum of the sizes of its files, in bytes.
    pub(crate) size: u64,
    /// Files, folders, links and marks.
    pub(crate) entries: u64,
    /// Devices and pipes left out.
    pub(crate) skipped: u64,
    /// Whether it hides all layers below it: the attribute means nothing on the root of an overlay.
    pub(crate) opaque: bool,
}

/// Unpacks a layer, compressed or not, into the folder `into`, which must not exist. On failure what was made is left to the
/// caller to remove.
pub(crate) fn unpack(
    from: impl Read,
    into: &Path,
    diff_id: &ImageDigest,
    budget: &Budget,
    wanted: &Wanted,
) -> Result<Made, Error> {
    fs::create_dir(into).map_err(at(into))?;
    let folder = File::open(into).map_err(at(into))?;
    rustix::fs::fchmod(&folder, Mode::from_raw_mode(0o755)).map_err(sys(into))?;
    let limit = budget.tar_limit();
    let mut layer = Layer {
        root: folder.into(),
        path: into,
        at: None,
        id: diff_id.short(),
        budget,
        made: Made::default(),
        buffer: vec![0; CHUNK],
    };
    let damaged = |e: io::Error| match wanted.check() {
        Err(interrupted) => interrupted,
        Ok(()) if e.kind() == io::ErrorKind::FileTooLarge => {
            budget.too_large(budget.max_bytes, "bytes, unpacked,")
        }
        Ok(()) => Error::invalid(format!("layer {}", diff_id.short()), e.to_string()),
    };
    let plain = Plain::new(from).map_err(damaged)?;
    let mut tar = Tar::new(Guarded {
        from: Hashing::new(plain),
        left: limit,
        wanted,
    });
    loop {
        let entry = tar.next().map_err(|e| match e {
            TarError::Read(e) => damaged(e),
            TarError::Malformed(why) => Error::invalid(format!("layer {}", diff_id.short()), why),
            TarError::Unsupported(why) => Error::Unsupported {
                what: format!("layer {}", diff_id.short()),
                why: why.to_owned(),
            },
        })?;
        let Some(entry) = entry else { break };
        layer.entry(&entry, &mut tar, &damaged)?;
    }
    // To the end: the digest is of all of it, and so is the decoder's checksum.
    let mut guarded = tar.into_inner();
    io::copy(&mut guarded, &mut io::sink()).map_err(damaged)?;
    let (found, plain) = guarded.from.into_parts();
    io::copy(&mut plain.into_inner(), &mut io::sink()).map_err(damaged)?;
    if found != *diff_id {
        return Err(Error::Digest {
            what: format!("layer {}, unpacked,", diff_id.short()),
            expected: diff_id.clone(),
            found,
        });
    }
    Ok(layer.made)
}

/// Ends where there is too much, or nobody waits any more.
struct Guarded<'a, R> {
    from: R,
    left: u64,
    wanted: &'a Wanted,
}

impl<R: Read> Read for Guarded<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.wanted.check().is_err() {
            return Err(io::Error::other("interrupted"));
        }
        let n = self.from.read(into)?;
        self.left = self
            .left
            .checked_sub(n as u64)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(n)
    }
}

struct Layer<'a> {
    root: OwnedFd,
    path: &'a Path,
    /// The folder that was entered last: most entries are in the one of the entry before.
    at: Option<(Vec<u8>, OwnedFd)>,
    id: &'a str,
    budget: &'a Budget,
    made: Made,
    buffer: Vec<u8>,
}

impl Layer<'_> {
    fn entry(
        &mut self,
        entry: &Entry,
        content: &mut impl Read,
        damaged: &dyn Fn(io::Error) -> Error,
    ) -> Result<(), Error> {
        let path = clean(&entry.name).map_err(|why| self.refuse(&entry.name, why))?;
        let Some((folder, name)) = part(&path) else {
            // The root itself. Its mode stays: whoever runs the image must get in.
            return Ok(());
        };
        self.budget.take(entry.size, 1)?;
        self.made.entries += 1;
        if entry.kind == Kind::Special {
            self.made.skipped += 1;
            return Ok(());
        }
        if name == HIDES {
            return self.hide(folder, &entry.name);
        }
        if name.starts_with(NOTES) {
            return Ok(());
        }
        if let Some(gone) = name.strip_prefix(GONE) {
            if matches!(gone, b"" | b"." | b"..") {
                return Err(self.refuse(&entry.name, "takes away what cannot be"));
            }
            return self.gone(folder, gone, &entry.name);
        }
        match entry.kind {
            Kind::Folder => self.folder(&path, folder, name, entry),
            Kind::File => self.file(folder, name, entry, content, damaged),
            Kind::Symlink => self.symlink(folder, name, entry),
            Kind::Hardlink => self.hardlink(folder, name, entry),
            Kind::Special => Ok(()),
        }
    }

    fn folder(
        &mut self,
        path: &[u8],
        folder: &[u8],
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), Error> {
        let before = self.clear(folder, name, true, &entry.name)?;
        let failed = sys(&self.shown(&entry.name));
        let dir = self.enter(folder, &entry.name)?;
        let mode = Mode::from_raw_mode(entry.mode & 0o1777 | 0o700);
        if before != Before::Folder {
            rustix::fs::mkdirat(dir, OsStr::from_bytes(name), mode).map_err(failed)?;
        }
        let failed = sys(&self.shown(&entry.name));
        // Not through the last folder's descriptor: the mask of the process must not count.
        let made = self.enter(path, &entry.name)?;
        rustix::fs::fchmod(made, mode).map_err(failed)?;
        if before == Before::Gone {
            self.hide(path, &entry.name)?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        folder: &[u8],
        name: &[u8],
        entry: &Entry,
        content: &mut impl Read,
        damaged: &dyn Fn(io::Error) -> Error,
    ) -> Result<(), Error> {
        self.clear(folder, name, false, &entry.name)?;
        let path = self.shown(&entry.name);
        let mut buffer = std::mem::take(&mut self.buffer);
        let dir = self.enter(folder, &entry.name)?;
        let file = rustix::fs::openat(
            dir,
            OsStr::from_bytes(name),
            OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )
        .map_err(sys(&path))?;
        let mut file = File::from(file);
        loop {
            match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => file.write_all(&buffer[..n]).map_err(at(&path))?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(damaged(e)),
            }
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode & 0o777)).map_err(sys(&path))?;
        rustix::fs::futimens(&file, &times(entry.modified)).map_err(sys(&path))?;
        self.buffer = buffer;
        self.made.size += entry.size;
        Ok(())
    }

    fn symlink(&mut self, folder: &[u8], name: &[u8], entry: &Entry) -> Result<(), Error> {
        // Where it points is the sandbox's concern: here it is a name like any other.
        if entry.target.is_empty() || entry.target.len() > MAX_PATH || entry.target.contains(&0) {
            return Err(self.refuse(&entry.name, "is a link to no valid path"));
        }
        self.clear(folder, name, false, &entry.name)?;
        let path = self.shown(&entry.name);
        let dir = self.enter(folder, &entry.name)?;
        let name = OsStr::from_bytes(name);
        rustix::fs::symlinkat(OsStr::from_bytes(&entry.target), dir, name).map_err(sys(&path))?;
        rustix::fs::utimensat(dir, name, &times(entry.modified), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(sys(&path))
    }

    fn hardlink(&mut self, folder: &[u8], name: &[u8], entry: &Entry) -> Result<(), Error> {
        let refuse = |why| self.refuse(&entry.name, why);
        let target = clean(&entry.target).map_err(refuse)?;
        let Some((target_folder, target_name)) = part(&target) else {
            return Err(refuse("is a hard link to a folder"));
        };
        if target_folder == folder && target_name == name {
            return Err(refuse("is a hard link to itself"));
        }
        self.clear(folder, name, false, &entry.name)?;
        let path = self.shown(&entry.name);
        let source = self.open(target_folder).map_err(|e| {
            self.refuse(
                &entry.name,
                match e {
                    Errno::LOOP | Errno::XDEV => "is a hard link through a link",
                    _ => "is a hard link to what is not in the layer",
                },
            )
        })?;
        let target_name = OsStr::from_bytes(target_name);
        let kind = rustix::fs::statat(&source, target_name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| FileType::from_raw_mode(stat.st_mode));
        if !matches!(kind, Ok(FileType::RegularFile | FileType::Symlink)) {
            return Err(self.refuse(&entry.name, "is a hard link to what is not in the layer"));
        }
        let dir = self.enter(folder, &entry.name)?;
        // Without AT_SYMLINK_FOLLOW a link to a symbolic link is one to the link itself.
        rustix::fs::linkat(
            &source,
            target_name,
            dir,
            OsStr::from_bytes(name),
            AtFlags::empty(),
        )
        .map_err(sys(&path))
    }

    /// Marks a name as taken away from the layers below. What this layer itself has there stays, whichever came first.
    fn gone(&mut self, folder: &[u8], name: &[u8], entry: &[u8]) -> Result<(), Error> {
        let path = self.shown(entry);
        let dir = self.enter(folder, entry)?;
        let os_name = OsStr::from_bytes(name);
        match rustix::fs::statat(dir, os_name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {
                rustix::fs::mknodat(dir, os_name, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(sys(&path))
            }
            Err(e) => Err(sys(&path)(e)),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                let whole = [folder, b"/", name].concat();
                self.hide(whole.strip_prefix(b"/").unwrap_or(&whole), entry)
            }
            Ok(_) => Ok(()),
        }
    }

    /// Marks a folder as hiding all below it.
    fn hide(&mut self, folder: &[u8], entry: &[u8]) -> Result<(), Error> {
        if folder.is_empty() {
            self.made.opaque = true;
            return Ok(());
        }
        let path = self.shown(entry);
        let dir = self.enter(folder, entry)?;
        rustix::fs::fsetxattr(dir, OPAQUE, b"y", XattrFlags::empty()).map_err(|e| match e {
            Errno::OPNOTSUPP => Error::Unsupported {
                what: format!("the file system of {}", path.display()),
                why: "images need one with extended attributes, such as ext4, xfs or btrfs"
                    .to_owned(),
            },
            e => sys(&path)(e),
        })
    }

    /// Takes away what an earlier entry of this layer has put in the place: the last one counts, as in any tar.
    fn clear(
        &mut self,
        folder: &[u8],
        name: &[u8],
        for_folder: bool,
        entry: &[u8],
    ) -> Result<Before, Error> {
        let path = self.shown(entry);
        let occupied = self.refuse(entry, "would take the place of a folder that is not empty");
        let dir = self.enter(folder, entry)?;
        let name = OsStr::from_bytes(name);
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Before::Nothing),
            Err(e) => return Err(sys(&path)(e)),
            Ok(stat) => stat,
        };
        let (flags, before) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if for_folder => return Ok(Before::Folder),
            FileType::Directory => (AtFlags::REMOVEDIR, Before::Nothing),
            FileType::CharacterDevice => (AtFlags::empty(), Before::Gone),
            _ => (AtFlags::empty(), Before::Nothing),
        };
        rustix::fs::unlinkat(dir, name, flags).map_err(|e| match e {
            Errno::NOTEMPTY | Errno::EXIST => occupied,
            e => sys(&path)(e),
        })?;
        // It may be the folder that was entered last.
        self.at = None;
        Ok(before)
    }

    /// A folder below the layer's own, made where it is not there.
    fn enter(&mut self, folder: &[u8], entry: &[u8]) -> Result<&OwnedFd, Error> {
        if folder.is_empty() {
            return Ok(&self.root);
        }
        if self.at.as_ref().is_none_or(|(last, _)| last != folder) {
            let opened = match self.open(folder) {
                Err(Errno::NOENT | Errno::NOTDIR) => self.make(folder, entry)?,
                Err(e) => return Err(self.refused(e, entry)),
                Ok(opened) => opened,
            };
            self.at = Some((folder.to_owned(), opened));
        }
        Ok(self.at.as_ref().map_or(&self.root, |(_, fd)| fd))
    }

    fn open(&self, folder: &[u8]) -> Result<OwnedFd, Errno> {
        if folder.is_empty() {
            return rustix::io::fcntl_dupfd_cloexec(&self.root, 0);
        }
        rustix::fs::openat2(
            &self.root,
            OsStr::from_bytes(folder),
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
        )
    }

    /// Makes the folders of a path that the layer does not name itself, as all tools do.
    fn make(&mut self, folder: &[u8], entry: &[u8]) -> Result<OwnedFd, Error> {
        let mut dir = self.open(b"").map_err(|e| self.refused(e, entry))?;
        for name in folder.split(|b| *b == b'/') {
            let name = OsStr::from_bytes(name);
            let mut hides = false;
            match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => {}
                    FileType::CharacterDevice => {
                        rustix::fs::unlinkat(&dir, name, AtFlags::empty())
                            .map_err(|e| self.refused(e, entry))?;
                        hides = true;
                    }
                    FileType::Symlink => return Err(self.refused(Errno::LOOP, entry)),
                    _ => return Err(self.refused(Errno::NOTDIR, entry)),
                },
                Err(Errno::NOENT) => {}
                Err(e) => return Err(self.refused(e, entry)),
            }
            match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    self.budget.take(0, 1)?;
                    self.made.entries += 1;
                }
                Err(Errno::EXIST) => {}
                Err(e) => return Err(self.refused(e, entry)),
            }
            dir = rustix::fs::openat(
                &dir,
                name,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(|e| self.refused(e, entry))?;
            if hides {
                rustix::fs::fsetxattr(dir.as_fd(), OPAQUE, b"y", XattrFlags::empty())
                    .map_err(|e| self.refused(e, entry))?;
            }
        }
        Ok(dir)
    }

    fn refused(&self, errno: Errno, entry: &[u8]) -> Error {
        match errno {
            Errno::LOOP | Errno::XDEV => self.refuse(entry, "goes through a link"),
            Errno::NOTDIR => self.refuse(entry, "goes through what is no folder"),
            errno => sys(&self.shown(entry))(errno),
        }
    }

    fn refuse(&self, entry: &[u8], why: &'static str) -> Error {
        Error::Unsafe {
            layer: self.id.to_owned(),
            entry: shorten(entry),
            why,
        }
    }

    /// Only for messages.
    fn shown(&self, entry: &[u8]) -> PathBuf {
        self.path.join(shorten(entry).trim_start_matches('/'))
    }
}

/// Whether a folder of a layer is marked as hiding all below it.
pub(crate) fn hides(folder: &Path) -> Result<bool, Error> {
    let mut value = [0; 1];
    match rustix::fs::getxattr(folder, OPAQUE, &mut value) {
        Ok(_) => Ok(value == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(sys(folder)(e)),
    }
}

/// What was in the place of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Folder,
    /// The mark for something taken away.
    Gone,
}

/// The path without what says nothing, or which rule it breaks. Empty is the root. A path that begins with a slash begins at
/// the layer's root, as with other tools: builders in common use write such.
fn clean(raw: &[u8]) -> Result<Vec<u8>, &'static str> {
    if raw.len() > MAX_PATH {
        return Err("has a path longer than 4095 bytes");
    }
    if raw.contains(&0) {
        return Err("has a name with a zero byte");
    }
    let mut path = Vec::with_capacity(raw.len());
    let mut depth = 0;
    for name in raw.split(|b| *b == b'/') {
        match name {
            b"" | b"." => continue,
            b".." => return Err("goes up by .."),
            _ if name.len() > MAX_NAME => return Err("has a name longer than 255 bytes"),
            _ => {}
        }
        depth += 1;
        if depth > MAX_DEPTH {
            return Err("is nested deeper than 256 folders");
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
    }
    if path.is_empty() && raw.is_empty() {
        return Err("has no name");
    }
    Ok(path)
}

/// The folder and the last name; nothing of the root.
fn part(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    })
}

fn shorten(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(200)]).into_owned()
}

fn times(modified: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: modified,
            tv_nsec: 0,
        },
    }
}
