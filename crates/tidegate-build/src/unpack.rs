//! From an archive to a folder, trusting nothing of it.

mod name;

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use tar::EntryType;

use crate::limits::{
    LAYER_DEPTH, LAYER_ENTRIES, LAYER_EXPANDED, LAYER_PATH, MAX_DEPTH, MAX_ENTRIES, MAX_EXPANDED,
    MAX_PATH,
};
use crate::link::{self, LinkError};

pub use name::NameError;

/// Largest header that only carries a long name, in bytes: the name and as much again for what other packers add.
const MAX_EXTENSION: u64 = 64 << 10;

/// Room for headers and padding, in bytes an entry: two extension headers, their content, and the entry's own.
const OVERHEAD: u64 = 4 << 10;

/// Folders and programs: anyone reads and runs, the owner writes.
const MODE_EXECUTABLE: u32 = 0o755;

/// Everything else.
const MODE_PLAIN: u32 = 0o644;

/// Limits of what an archive may become.
#[derive(Clone, Copy, Debug)]
pub struct UnpackLimits {
    /// Most files, folders and links.
    pub entries: usize,
    /// Largest sum of file sizes in bytes.
    pub bytes: u64,
    /// Longest path in bytes.
    pub path: usize,
    /// Deepest nesting in components.
    pub depth: usize,
}

/// Why an archive was refused or could not be written. Nothing is left of it then.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is no gzipped tar, or a damaged or cut one.
    #[error("archive is not a readable .tar.gz")]
    Malformed(#[source] io::Error),
    /// A name that an honest packer does not write.
    #[error("archive entry {name:?} {why}")]
    Name {
        /// As found, shortened.
        name: String,
        /// Which rule.
        why: NameError,
    },
    /// See [`LinkError`].
    #[error("archive link {name:?} points to {target:?}, which {why}")]
    Link {
        /// The link.
        name: String,
        /// Where it points.
        target: String,
        /// Which rule.
        why: LinkError,
    },
    /// The same name twice, or a file where a folder is needed.
    #[error("archive entry {0:?} collides with an earlier one")]
    Collision(String),
    /// A device, pipe, hard link or sparse file.
    #[error(
        "archive entry {name:?} is {kind}; only files, folders and symbolic links are accepted"
    )]
    Kind {
        /// Its name.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// One of [`UnpackLimits`].
    #[error("archive has more than {limit} {of}")]
    Limit {
        /// The limit.
        limit: u64,
        /// Of what.
        of: &'static str,
    },
    /// There is a folder of that name already, perhaps from another unpacking of the same archive.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// The file system's own answer.
    #[error("cannot write {}", path.display())]
    Write {
        /// What was being written.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Default for UnpackLimits {
    /// What [`crate::pack`] keeps to.
    fn default() -> Self {
        Self {
            entries: MAX_ENTRIES,
            bytes: MAX_EXPANDED,
            path: MAX_PATH,
            depth: MAX_DEPTH,
        }
    }
}

impl UnpackLimits {
    /// What [`crate::archive_folder`] keeps to.
    #[must_use]
    pub fn layer() -> Self {
        Self {
            entries: LAYER_ENTRIES,
            bytes: LAYER_EXPANDED,
            path: LAYER_PATH,
            depth: LAYER_DEPTH,
        }
    }
}

/// Unpacks a `.tar.gz` to `dest`, which must not exist while its parent must.
///
/// It is unpacked into a sibling that only this user can enter and renamed when complete, so `dest` is whole or absent.
/// Folders and files that are executable for their owner end with mode 0755, other files with 0644; owners, times and
/// everything else that an archive may say are dropped. Nothing is made durable: a lost folder is unpacked again.
///
/// # Errors
/// The archive is damaged, holds what is refused, or passes a limit; or the file system refuses.
pub fn unpack(archive: impl Read, dest: &Path, limits: &UnpackLimits) -> Result<(), UnpackError> {
    if fs::symlink_metadata(dest).is_ok() {
        return Err(UnpackError::Exists(dest.to_owned()));
    }
    let parent = match dest.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let staging = tempfile::Builder::new()
        .prefix(".unpack-")
        .tempdir_in(parent)
        .map_err(write_error(parent))?;
    let root = staging.path().join("root");
    DirBuilder::new()
        .mode(MODE_EXECUTABLE)
        .create(&root)
        .map_err(write_error(&root))?;
    Unpacker {
        root: &root,
        limits,
        made: HashMap::new(),
        bytes: 0,
    }
    .run(archive)?;
    set_mode(&root, MODE_EXECUTABLE)?;
    fs::rename(&root, dest).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists
        | io::ErrorKind::DirectoryNotEmpty
        | io::ErrorKind::NotADirectory => UnpackError::Exists(dest.to_owned()),
        _ => UnpackError::Write {
            path: dest.to_owned(),
            source,
        },
    })
}

/// What has been made under a name. Kept here rather than asked of the file system, so that a path only ever leads through
/// folders that this very unpacking made: a link planted as a parent is a collision.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    Folder,
    Other,
}

struct Unpacker<'a> {
    root: &'a Path,
    limits: &'a UnpackLimits,
    made: HashMap<String, Made>,
    bytes: u64,
}

/// Names carried by extension headers for the entry that follows them.
#[derive(Default)]
struct Long {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
}

impl Unpacker<'_> {
    fn run(mut self, archive: impl Read) -> Result<(), UnpackError> {
        // Whatever the entries claim of themselves, no more than this comes out of the decoder.
        let most = self
            .limits
            .bytes
            .saturating_add(OVERHEAD.saturating_mul(self.limits.entries as u64));
        let mut expanded = GzDecoder::new(archive).take(most);
        {
            let mut tar = tar::Archive::new(&mut expanded);
            let mut long = Long::default();
            let mut headers = 0;
            // Raw, because the library otherwise reads extension headers into memory at whatever size they claim.
            let entries = tar.entries().map_err(UnpackError::Malformed)?.raw(true);
            for entry in entries {
                let mut entry = entry.map_err(UnpackError::Malformed)?;
                headers += 1;
                if headers > self.limits.entries.saturating_mul(3) {
                    return Err(self.too_many());
                }
                let kind = entry.header().entry_type();
                match kind {
                    EntryType::GNULongName => long.path = Some(extension(&mut entry)?),
                    EntryType::GNULongLink => long.target = Some(extension(&mut entry)?),
                    EntryType::XHeader => pax(&extension(&mut entry)?, &mut long)?,
                    // Comments for all entries, such as git's commit id: nothing that is kept here.
                    EntryType::XGlobalHeader => drop(extension(&mut entry)?),
                    _ => self.entry(&mut entry, kind, std::mem::take(&mut long))?,
                }
            }
        }
        // Reading to the end makes the decoder compare its checksum.
        io::copy(&mut expanded, &mut io::sink()).map_err(UnpackError::Malformed)?;
        Ok(())
    }

    fn entry<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        kind: EntryType,
        long: Long,
    ) -> Result<(), UnpackError> {
        let raw = long.path.unwrap_or_else(|| entry.path_bytes().into_owned());
        let name = name::clean(&raw, self.limits.path, self.limits.depth).map_err(|why| {
            UnpackError::Name {
                name: shown(&raw),
                why,
            }
        })?;
        let refused = |kind| UnpackError::Kind {
            name: shown(&raw),
            kind,
        };
        match kind {
            EntryType::Directory => self.folder(&name),
            EntryType::Regular | EntryType::Continuous if raw.ends_with(b"/") => self.folder(&name),
            EntryType::Regular | EntryType::Continuous => self.file(&name, entry),
            EntryType::Symlink => {
                let target = long
                    .target
                    .or_else(|| entry.link_name_bytes().map(std::borrow::Cow::into_owned));
                self.link(&name, &target.unwrap_or_default())
            }
            EntryType::Link => Err(refused("a hard link")),
            EntryType::Char | EntryType::Block => Err(refused("a device")),
            EntryType::Fifo => Err(refused("a pipe")),
            EntryType::GNUSparse => Err(refused("a sparse file")),
            _ => Err(refused("of an unknown kind")),
        }
    }

    fn folder(&mut self, name: &str) -> Result<(), UnpackError> {
        if name.is_empty() || self.made.get(name) == Some(&Made::Folder) {
            return Ok(());
        }
        self.parents(name)?;
        self.claim(name, Made::Folder)?;
        let path = self.root.join(name);
        DirBuilder::new()
            .mode(MODE_EXECUTABLE)
            .create(&path)
            .map_err(write_error(&path))?;
        set_mode(&path, MODE_EXECUTABLE)
    }

    fn file<R: Read>(
        &mut self,
        name: &str,
        entry: &mut tar::Entry<'_, R>,
    ) -> Result<(), UnpackError> {
        let size = entry
            .header()
            .entry_size()
            .map_err(UnpackError::Malformed)?;
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.limits.bytes {
            return Err(UnpackError::Limit {
                limit: self.limits.bytes,
                of: "bytes of files",
            });
        }
        let executable = entry.header().mode().map_err(UnpackError::Malformed)? & 0o100 != 0;
        let mode = if executable {
            MODE_EXECUTABLE
        } else {
            MODE_PLAIN
        };
        self.parents(name)?;
        self.claim(name, Made::Other)?;
        let path = self.root.join(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .map_err(write_error(&path))?;
        copy(entry, &mut file, size, &path)?;
        // The mode given at creation is subject to the umask.
        file.set_permissions(Permissions::from_mode(mode))
            .map_err(write_error(&path))
    }

    fn link(&mut self, name: &str, target: &[u8]) -> Result<(), UnpackError> {
        let refused = |why| UnpackError::Link {
            name: name.to_owned(),
            target: shown(target),
            why,
        };
        let text = std::str::from_utf8(target).map_err(|_| refused(LinkError::Malformed))?;
        link::check(text, name.matches('/').count()).map_err(refused)?;
        self.parents(name)?;
        self.claim(name, Made::Other)?;
        let path = self.root.join(name);
        std::os::unix::fs::symlink(text, &path).map_err(write_error(&path))
    }

    /// Makes the folders above a name, where the archive did not list them.
    fn parents(&mut self, name: &str) -> Result<(), UnpackError> {
        match name.rsplit_once('/') {
            Some((parent, _)) => self.folder(parent),
            None => Ok(()),
        }
    }

    fn claim(&mut self, name: &str, made: Made) -> Result<(), UnpackError> {
        // An empty name is the root itself, which only a folder may be.
        if name.is_empty() || self.made.contains_key(name) {
            return Err(UnpackError::Collision(shown(name.as_bytes())));
        }
        if self.made.len() >= self.limits.entries {
            return Err(self.too_many());
        }
        self.made.insert(name.to_owned(), made);
        Ok(())
    }

    fn too_many(&self) -> UnpackError {
        UnpackError::Limit {
            limit: self.limits.entries as u64,
            of: "entries",
        }
    }
}

/// Copies exactly `size` bytes; reading and writing fail with different errors.
fn copy(from: &mut impl Read, to: &mut File, size: u64, path: &Path) -> Result<(), UnpackError> {
    use std::io::Write as _;
    let mut chunk = vec![0; 64 << 10];
    let mut left = size;
    while left > 0 {
        let most = usize::try_from(left).map_or(chunk.len(), |n| n.min(chunk.len()));
        let n = match from.read(&mut chunk[..most]) {
            Ok(0) => {
                return Err(UnpackError::Malformed(io::ErrorKind::UnexpectedEof.into()));
            }
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(UnpackError::Malformed(e)),
        };
        to.write_all(&chunk[..n]).map_err(write_error(path))?;
        left -= n as u64;
    }
    Ok(())
}

/// The content of an extension header, bounded.
fn extension<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Vec<u8>, UnpackError> {
    if entry.size() > MAX_EXTENSION {
        return Err(UnpackError::Limit {
            limit: MAX_EXTENSION,
            of: "bytes in an extension header",
        });
    }
    let mut content = Vec::new();
    entry
        .read_to_end(&mut content)
        .map_err(UnpackError::Malformed)?;
    // GNU ends names with a NUL, and pax records end with a newline before it.
    while content.last() == Some(&0) {
        content.pop();
    }
    Ok(content)
}

/// Takes names out of pax records, `LENGTH KEY=VALUE\n`. A size there is refused: two sizes for one entry are how an
/// archive shows different files to different readers.
fn pax(mut records: &[u8], long: &mut Long) -> Result<(), UnpackError> {
    let bad = |what: &'static str| {
        UnpackError::Malformed(io::Error::new(io::ErrorKind::InvalidData, what))
    };
    while !records.is_empty() {
        let space = records
            .iter()
            .position(|b| *b == b' ')
            .ok_or_else(|| bad("a pax record has no length"))?;
        let length = std::str::from_utf8(&records[..space])
            .ok()
            .and_then(|t| t.parse::<usize>().ok())
            .filter(|n| *n > space + 1 && *n <= records.len())
            .ok_or_else(|| bad("a pax record has a wrong length"))?;
        let (record, rest) = records.split_at(length);
        records = rest;
        let record = record[space + 1..]
            .strip_suffix(b"\n")
            .ok_or_else(|| bad("a pax record does not end"))?;
        let equals = record
            .iter()
            .position(|b| *b == b'=')
            .ok_or_else(|| bad("a pax record has no value"))?;
        let value = record[equals + 1..].to_vec();
        match &record[..equals] {
            b"path" => long.path = Some(value),
            b"linkpath" => long.target = Some(value),
            b"size" => return Err(bad("a pax record sets a size")),
            key if key.starts_with(b"GNU.sparse") => {
                return Err(bad("a pax record makes a file sparse"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(80).collect()
}

fn set_mode(path: &Path, mode: u32) -> Result<(), UnpackError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(write_error(path))
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> UnpackError + '_ {
    |source| UnpackError::Write {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
