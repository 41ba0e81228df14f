//! An archive given in place of a folder.
//!
//! It is opened into a temporary folder under the rules for archives from outside, since nobody looks into an archive
//! before handing it on, and then treated as the folder that it would be had somebody unpacked it.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};

use crate::pack::PackError;
use crate::unpack::{UnpackLimits, unpack, unpack_tar, unpack_zip};

/// Endings of archives that are opened.
const ENDINGS: &[&str] = &[".zip", ".tar", ".tar.gz", ".tgz"];

/// Endings of archives that are not.
const OTHERS: &[&str] = &[
    ".tar.xz", ".tar.zst", ".tar.bz2", ".txz", ".tbz2", ".7z", ".rar",
];

/// A folder that goes when this does.
pub(crate) struct Opened {
    _temporary: tempfile::TempDir,
    root: PathBuf,
}

impl Opened {
    /// Opens the file if it is an archive by its name.
    pub(crate) fn of(path: &Path) -> Result<Option<Self>, PackError> {
        let name = path.to_string_lossy().to_ascii_lowercase();
        if path.is_dir() {
            return Ok(None);
        }
        if let Some(ending) = OTHERS.iter().find(|e| name.ends_with(**e)) {
            return Err(PackError::NotYet {
                what: format!("{ending} archives ({})", path.display()),
            });
        }
        if !ENDINGS.iter().any(|e| name.ends_with(e)) {
            return Ok(None);
        }
        let read = |source| PackError::Read {
            path: path.to_owned(),
            source,
        };
        let temporary = tempfile::Builder::new()
            .prefix("tidegate-")
            .tempdir()
            .map_err(PackError::Write)?;
        let dest = temporary.path().join("archive");
        let mut file = File::open(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => PackError::NotFound(path.to_owned()),
            _ => read(source),
        })?;
        // By what it is rather than by what it is called: a `.tar` is often gzipped.
        let mut magic = [0; 4];
        let n = file.read(&mut magic).map_err(read)?;
        file.rewind().map_err(read)?;
        let limits = UnpackLimits::default();
        match &magic[..n] {
            [0x1f, 0x8b, ..] => unpack(file, &dest, &limits),
            [b'P', b'K', ..] => unpack_zip(file, &dest, &limits),
            _ => unpack_tar(file, &dest, &limits),
        }
        .map_err(|source| PackError::Unpack {
            path: path.to_owned(),
            source,
        })?;
        let root = inner(&dest).map_err(read)?;
        Ok(Some(Self {
            _temporary: temporary,
            root,
        }))
    }

    /// Where its content begins.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

/// The only folder at the top, where archives are made of a folder rather than of what is in it.
fn inner(dest: &Path) -> std::io::Result<PathBuf> {
    let mut only = None;
    for entry in fs::read_dir(dest)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "__MACOSX" || name == ".DS_Store" || name == "pax_global_header" {
            continue;
        }
        if only.is_some() || !entry.file_type()?.is_dir() {
            return Ok(dest.to_owned());
        }
        only = Some(entry.path());
    }
    Ok(only.unwrap_or_else(|| dest.to_owned()))
}
