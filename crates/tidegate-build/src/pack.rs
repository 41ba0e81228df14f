//! From a path to an archive.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};

use crate::detect::{self, DetectError, Detected, Hints, Runtime};
use crate::digest::digest;
use crate::limits::MAX_ARCHIVE;
use crate::tree::{Kind, Tree, TreeError};

/// Archives up to this size in bytes stay in memory; most functions are a few files.
const IN_MEMORY: usize = 4 << 20;

/// "Unknown" in the gzip header, so that the archive does not tell where it was made.
const GZIP_OS_UNKNOWN: u8 = 255;

/// Fixed, since it is part of what makes the archive a function of its content.
const GZIP_LEVEL: u32 = 6;

/// Endings of archives, which cannot be given yet.
const ARCHIVES: &[&str] = &[".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst"];

/// What the user wants other than what is detected.
#[derive(Clone, Debug, Default)]
pub struct PackOptions {
    /// Who runs the code.
    pub runtime: Option<Runtime>,
    /// The file to load or run, relative to the folder.
    pub entry: Option<String>,
    /// A command of the user's makes the entry, so it need not be there yet.
    pub built: bool,
}

/// An archive, what is in it, and what its maker should know.
#[derive(Debug)]
pub struct Packed {
    /// The bytes.
    pub archive: Archive,
    /// `sha256:` and 64 hexadecimal digits, of the archive's bytes.
    pub digest: String,
    /// Length of the archive in bytes.
    pub size: u64,
    /// Sum of the sizes of the files in it, in bytes.
    pub expanded: u64,
    /// What the code is.
    pub detected: Detected,
    /// One line each: what was left out, what may not work.
    pub warnings: Vec<String>,
}

/// A gzipped tar, in memory or in a temporary file that goes when this does. Reads from its beginning.
#[derive(Debug)]
pub struct Archive(tempfile::SpooledTempFile);

/// Why a path cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// There is nothing.
    #[error("no file or folder {}", .0.display())]
    NotFound(PathBuf),
    /// It will be possible.
    #[error("not supported yet: {what}; give a file or a folder")]
    NotYet {
        /// What was given.
        what: String,
    },
    /// Nothing is left to pack.
    #[error("{} has no files", .0.display())]
    Empty(PathBuf),
    /// See [`DetectError`].
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// See [`TreeError`].
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// See [`MAX_ARCHIVE`].
    #[error("the archive would be larger than {} MiB; leave files out with .tidegateignore", limit >> 20)]
    TooLarge {
        /// In bytes.
        limit: u64,
    },
    /// Somebody writes while we read.
    #[error("{0} changed while it was read; try again")]
    Changed(String),
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The temporary file could not be written.
    #[error("cannot write the archive to a temporary file")]
    Write(#[source] io::Error),
}

/// Makes an archive of a file or folder and says what it is.
///
/// # Errors
/// The path does not exist, holds what cannot be packed or is not supported, or passes a limit.
pub fn pack(path: &Path, options: &PackOptions) -> Result<Packed, PackError> {
    refuse_not_yet(path)?;
    let meta = fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => PackError::NotFound(path.to_owned()),
        _ => PackError::Read {
            path: path.to_owned(),
            source,
        },
    })?;
    // A link given by name is followed; what it points to is what is meant.
    let real = fs::canonicalize(path).map_err(|source| PackError::Read {
        path: path.to_owned(),
        source,
    })?;
    let (mut tree, root, only) = if meta.is_dir() {
        (Tree::read(&real)?, real.as_path(), None)
    } else if meta.is_file() {
        let name = real
            .file_name()
            .and_then(|n| n.to_str())
            .ok_or_else(|| TreeError::NotUtf8(real.clone()))?;
        let root = real.parent().expect("a file has a parent");
        (Tree::single(&real, name)?, root, Some(name))
    } else {
        return Err(TreeError::Special(path.to_owned()).into());
    };
    if !tree.nodes.iter().any(|n| !matches!(n.kind, Kind::Folder)) {
        return Err(PackError::Empty(path.to_owned()));
    }
    let detected = detect::detect(
        &mut tree,
        root,
        only,
        Hints {
            runtime: options.runtime,
            entry: options.entry.as_deref(),
            built: options.built,
        },
    )?;
    let mut archive = write_archive(&tree, root, GZIP_LEVEL, MAX_ARCHIVE)?;
    let size = archive.0.seek(SeekFrom::End(0)).map_err(PackError::Write)?;
    archive.rewind().map_err(PackError::Write)?;
    let digest = digest(&mut archive).map_err(PackError::Write)?;
    archive.rewind().map_err(PackError::Write)?;
    Ok(Packed {
        archive,
        digest,
        size,
        expanded: tree.bytes(),
        detected,
        warnings: tree.warnings,
    })
}

fn refuse_not_yet(path: &Path) -> Result<(), PackError> {
    let text = path.to_string_lossy();
    let lower = text.to_ascii_lowercase();
    let what = if text.contains("://") || text.starts_with("git@") {
        "addresses"
    } else if ARCHIVES.iter().any(|e| lower.ends_with(e)) && !path.is_dir() {
        "archives"
    } else {
        return Ok(());
    };
    Err(PackError::NotYet {
        what: format!("{what} ({text})"),
    })
}

/// Writes the tree, compressed at a level, to at most so many bytes.
pub(crate) fn write_archive(
    tree: &Tree,
    root: &Path,
    level: u32,
    most: u64,
) -> Result<Archive, PackError> {
    let out = Limited {
        inner: tempfile::SpooledTempFile::new(IN_MEMORY),
        left: most,
        passed: false,
    };
    let mut gzip = GzBuilder::new()
        .mtime(0)
        .operating_system(GZIP_OS_UNKNOWN)
        .write(out, Compression::new(level));
    let written =
        write_tar(tree, root, &mut gzip).and_then(|()| gzip.try_finish().map_err(PackError::Write));
    // The writer's own error is one of many shapes by the time it has come through tar and gzip.
    if gzip.get_ref().passed {
        return Err(PackError::TooLarge { limit: most });
    }
    written?;
    let limited = gzip.finish().map_err(PackError::Write)?;
    Ok(Archive(limited.inner))
}

/// Writes the tree as a tar whose bytes depend on nothing but names, contents, links and which files are executable.
fn write_tar(tree: &Tree, root: &Path, out: impl Write) -> Result<(), PackError> {
    let mut builder = tar::Builder::new(out);
    for node in &tree.nodes {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_mode(0o755);
        match &node.kind {
            Kind::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                builder
                    .append_data(&mut header, format!("{}/", node.path), io::empty())
                    .map_err(PackError::Write)?;
            }
            Kind::Link { target } => {
                header.set_entry_type(tar::EntryType::Symlink);
                builder
                    .append_link(&mut header, &node.path, target)
                    .map_err(PackError::Write)?;
            }
            Kind::File { size, executable } => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(if *executable { 0o755 } else { 0o644 });
                header.set_size(*size);
                let full = root.join(&node.path);
                let file = File::open(&full).map_err(|source| PackError::Read {
                    path: full.clone(),
                    source,
                })?;
                let mut exact = Exact {
                    inner: file,
                    left: *size,
                    fault: None,
                };
                let appended = builder.append_data(&mut header, &node.path, &mut exact);
                match exact.fault {
                    Some(Fault::Changed) => return Err(PackError::Changed(node.path.clone())),
                    Some(Fault::Read(source)) => {
                        return Err(PackError::Read { path: full, source });
                    }
                    None => appended.map_err(PackError::Write)?,
                }
            }
        }
    }
    builder.into_inner().map_err(PackError::Write)?;
    Ok(())
}

// === impl Archive ===

impl Archive {
    pub(crate) fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }

    /// Back to the first byte.
    ///
    /// # Errors
    /// The temporary file's own.
    pub fn rewind(&mut self) -> io::Result<()> {
        self.0.rewind()
    }
}

impl Read for Archive {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

// === Limited, Exact ===

/// Refuses to take more than the limit, and remembers that it did.
struct Limited<W> {
    inner: W,
    left: u64,
    passed: bool,
}

impl<W: Write> Write for Limited<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.len() as u64 > self.left {
            self.passed = true;
            return Err(io::Error::other("archive too large"));
        }
        let n = self.inner.write(buf)?;
        self.left -= n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Gives exactly the announced number of bytes, or says what went wrong: a tar entry whose content is shorter or longer
/// than its header says would spoil everything after it.
struct Exact {
    inner: File,
    left: u64,
    fault: Option<Fault>,
}

enum Fault {
    Changed,
    Read(io::Error),
}

impl Read for Exact {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buf) {
            Ok(0) if buf.is_empty() || self.left == 0 => Ok(0),
            Ok(n) if n > 0 && n as u64 <= self.left => {
                self.left -= n as u64;
                Ok(n)
            }
            Ok(_) => {
                self.fault = Some(Fault::Changed);
                Err(io::Error::other("file changed"))
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => {
                let copy = io::Error::new(e.kind(), "file not readable");
                self.fault = Some(Fault::Read(e));
                Err(copy)
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests;
