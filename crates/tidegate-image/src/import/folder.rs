//! A folder as an image: one layer, no command.
//!
//! It is written as a tar first, which then goes the way of any other layer: there is one piece of code that writes what
//! will be a root, and the image has the same digest wherever the same folder is imported.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Found, Place, Things};
use crate::digest::Hashing;
use crate::error::at;
use crate::manifest::{Descriptor, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
use crate::unpack::Wanted;
use crate::{Error, ImageDigest, Platform};

/// Deepest nesting, as of a layer.
const MAX_DEPTH: usize = 256;

/// The one layer.
pub(super) struct Packed {
    path: PathBuf,
    shown: String,
}

impl Things for Packed {
    fn open(&self, _: &str) -> Result<Option<Box<dyn Read + Send>>, Error> {
        let file = File::open(&self.path).map_err(at(&self.path))?;
        Ok(Some(Box::new(file)))
    }

    fn shown(&self) -> String {
        self.shown.clone()
    }
}

/// Writes the folder's tar, and the documents of an image that has it.
pub(super) fn pack(
    folder: &Path,
    scratch: &Path,
    limit: u64,
    platform: &Platform,
    wanted: &Wanted,
) -> Result<(Found, Packed), Error> {
    let path = scratch.join("folder.tar");
    let file = File::create_new(&path).map_err(at(&path))?;
    let mut writer = Writer {
        tar: ::tar::Builder::new(Limited {
            to: BufWriter::new(file),
            left: limit,
        }),
        folder,
        linked: BTreeMap::new(),
        wanted,
        path: &path,
        limit,
    };
    writer.level(Path::new(""), 0)?;
    let Limited { to, .. } = writer.tar.into_inner().map_err(at(&path))?;
    to.into_inner().map_err(|e| at(&path)(e.into_error()))?;
    let mut hashing = Hashing::new(File::open(&path).map_err(at(&path))?);
    let size = io::copy(&mut hashing, &mut io::sink()).map_err(at(&path))?;
    let (diff_id, _) = hashing.into_parts();
    let config = json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    });
    let config = config.to_string().into_bytes();
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.to_owned(),
        config: Descriptor::new(OCI_CONFIG, ImageDigest::of(&config), config.len() as u64),
        layers: vec![Descriptor::new(OCI_LAYER, diff_id.clone(), size)],
    };
    let manifest = manifest.bytes();
    let found = Found {
        digest: ImageDigest::of(&manifest),
        manifest,
        config,
        names: Vec::new(),
        layers: vec![Place {
            name: "layer".to_owned(),
            announced: Some((diff_id, size)),
        }],
    };
    let shown = folder.display().to_string();
    Ok((found, Packed { path, shown }))
}

struct Writer<'a, W: Write> {
    tar: ::tar::Builder<W>,
    folder: &'a Path,
    /// First names of files that have several.
    linked: BTreeMap<(u64, u64), PathBuf>,
    wanted: &'a Wanted,
    path: &'a Path,
    limit: u64,
}

impl<W: Write> Writer<'_, W> {
    /// A folder's entries by name, so that the order is always the same.
    fn level(&mut self, below: &Path, depth: usize) -> Result<(), Error> {
        let here = self.folder.join(below);
        if depth > MAX_DEPTH {
            return Err(Error::TooLarge {
                what: format!("the nesting of {}", self.folder.display()),
                limit: MAX_DEPTH as u64,
                unit: "folders",
            });
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&here).map_err(at(&here))? {
            names.push(entry.map_err(at(&here))?.file_name());
        }
        names.sort();
        for name in names {
            self.wanted.check()?;
            let below = below.join(name);
            let path = self.folder.join(&below);
            let meta = fs::symlink_metadata(&path).map_err(at(&path))?;
            let kind = meta.file_type();
            let mut header = ::tar::Header::new_gnu();
            header.set_mode(meta.mode() & 0o1777);
            header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(0);
            let written = if kind.is_dir() {
                header.set_entry_type(::tar::EntryType::Directory);
                self.tar.append_data(&mut header, &below, io::empty())
            } else if kind.is_symlink() {
                header.set_entry_type(::tar::EntryType::Symlink);
                let target = fs::read_link(&path).map_err(at(&path))?;
                self.tar.append_link(&mut header, &below, target)
            } else if !kind.is_file() {
                // A socket or device, which a layer would not keep either.
                continue;
            } else if let Some(first) = self.first(&meta, &below) {
                header.set_entry_type(::tar::EntryType::Link);
                self.tar.append_link(&mut header, &below, first)
            } else {
                let file = File::open(&path).map_err(at(&path))?;
                header.set_size(meta.len());
                // A file that shrinks meanwhile makes an archive that its reader refuses.
                self.tar
                    .append_data(&mut header, &below, file.take(meta.len()))
            };
            written.map_err(|e| self.failed(e, &below))?;
            if kind.is_dir() {
                self.level(&below, depth + 1)?;
            }
        }
        Ok(())
    }

    fn first(&mut self, meta: &fs::Metadata, below: &Path) -> Option<PathBuf> {
        if meta.nlink() < 2 {
            return None;
        }
        let first = self
            .linked
            .entry((meta.dev(), meta.ino()))
            .or_insert_with(|| below.to_owned());
        (first.as_os_str().as_bytes() != below.as_os_str().as_bytes()).then(|| first.clone())
    }

    fn failed(&self, error: io::Error, below: &Path) -> Error {
        match error.kind() {
            io::ErrorKind::FileTooLarge => Error::TooLarge {
                what: self.folder.display().to_string(),
                limit: self.limit,
                unit: "bytes",
            },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => at(self.path)(error),
            _ => at(&self.folder.join(below))(error),
        }
    }
}

/// Takes so much and no more.
struct Limited<W> {
    to: W,
    left: u64,
}

impl<W: Write> Write for Limited<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.left = self
            .left
            .checked_sub(n as u64)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
