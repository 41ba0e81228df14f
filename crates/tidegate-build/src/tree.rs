//! What is packed: a sorted list of the files, folders and links below a root.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::credential;
use crate::ignore::{Ignore, IgnoreError, Verdict};
use crate::limits::{MAX_DEPTH, MAX_ENTRIES, MAX_EXPANDED, MAX_PATH};
use crate::link::{self, LinkError};

/// One thing to pack.
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    /// Relative to the root, `/` between the parts.
    pub path: String,
    /// What it is.
    pub kind: Kind,
}

/// What a [`Node`] is.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file.
    File {
        /// In bytes.
        size: u64,
        /// Whether it can be run.
        executable: bool,
    },
    /// A symbolic link that stays inside.
    Link {
        /// Where it leads.
        target: String,
    },
}

/// The files, folders and links of a folder, sorted by path, and what was left out of it.
#[derive(Debug, Default)]
pub struct Tree {
    /// What is sent.
    pub nodes: Vec<Node>,
    /// What is not, a line each.
    pub warnings: Vec<String>,
    bytes: u64,
    bounds: Bounds,
}

/// How much a tree may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) entries: usize,
    pub(crate) bytes: u64,
    pub(crate) depth: usize,
    pub(crate) path: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            entries: MAX_ENTRIES,
            bytes: MAX_EXPANDED,
            depth: MAX_DEPTH,
            path: MAX_PATH,
        }
    }
}

/// Why a folder cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The file system's own answer.
    #[error("cannot read {}", path.display())]
    Read {
        /// What was being read.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// See [`IgnoreError`].
    #[error(transparent)]
    Ignore(#[from] IgnoreError),
    /// Archives carry UTF-8 names, so that they mean the same everywhere.
    #[error("{} has a name that is not UTF-8; rename it", .0.display())]
    NotUtf8(PathBuf),
    /// Neither file, folder nor link.
    #[error("{} is a device, socket or pipe; only files, folders and links can be packed", .0.display())]
    Special(PathBuf),
    /// A link that leads out.
    #[error(
        "link {path} points to {target:?}, which {why}; a link must be relative and stay inside the folder"
    )]
    Link {
        /// The link.
        path: String,
        /// Where it points.
        target: String,
        /// Which part of the rule it breaks.
        why: LinkError,
    },
    /// See [`MAX_ENTRIES`].
    #[error(
        "more than {limit} files and folders; name a smaller folder, or leave some out with .tidegateignore"
    )]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// See [`MAX_EXPANDED`].
    #[error("more than {} MiB of files; name a smaller folder, or leave some out with .tidegateignore", limit >> 20)]
    TooLarge {
        /// In bytes.
        limit: u64,
    },
    /// See [`MAX_DEPTH`] and [`MAX_PATH`].
    #[error("{path} is nested deeper than {depth} folders or longer than {length} bytes")]
    TooDeep {
        /// The first one.
        path: String,
        /// Most folders.
        depth: usize,
        /// Most bytes.
        length: usize,
    },
}

impl Tree {
    /// Everything below the folder that is not left out: by its `.gitignore` and `.tidegateignore`, and by what looks like
    /// credentials.
    ///
    /// # Errors
    /// Something cannot be read, can be in no archive, or is beyond a limit.
    pub fn read(root: &Path) -> Result<Self, TreeError> {
        let mut ignore = Ignore::read(root)?;
        let mut tree = Self::default();
        tree.walk(root, "", 0, Some(&mut ignore))?;
        // By the bytes of the whole path: one order for every file system and locale, and parents before children.
        tree.nodes.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    /// Everything below the folder.
    pub(crate) fn all(root: &Path, bounds: Bounds) -> Result<Self, TreeError> {
        let mut tree = Self {
            bounds,
            ..Self::default()
        };
        tree.walk(root, "", 0, None)?;
        tree.nodes.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    /// One file, under its own name.
    pub(crate) fn single(file: &Path, name: &str) -> Result<Self, TreeError> {
        let mut tree = Self::default();
        let meta = fs::metadata(file).map_err(read_error(file))?;
        tree.push_file(name.to_owned(), &meta)?;
        Ok(tree)
    }

    /// Makes a file executable in the archive, whatever its mode on disk: the entry of an executable must be.
    pub(crate) fn set_executable(&mut self, path: &str) {
        for node in &mut self.nodes {
            if let (true, Kind::File { executable, .. }) = (node.path == path, &mut node.kind) {
                *executable = true;
            }
        }
    }

    /// Sum of file sizes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn walk(
        &mut self,
        folder: &Path,
        prefix: &str,
        depth: usize,
        mut ignore: Option<&mut Ignore>,
    ) -> Result<(), TreeError> {
        // Patterns of a folder hold below it, and stand behind those of the folders above.
        let above = match ignore.as_deref_mut() {
            Some(ignore) => ignore.enter(folder, prefix)?,
            None => 0,
        };
        for entry in fs::read_dir(folder).map_err(read_error(folder))? {
            let entry = entry.map_err(read_error(folder))?;
            let full = entry.path();
            let name = entry
                .file_name()
                .into_string()
                .map_err(|_| TreeError::NotUtf8(full.clone()))?;
            let path = format!("{prefix}{name}");
            if depth >= self.bounds.depth || path.len() > self.bounds.path {
                return Err(self.too_deep(path));
            }
            let meta = fs::symlink_metadata(&full).map_err(read_error(&full))?;
            let kind = meta.file_type();
            let verdict = ignore
                .as_deref()
                .map_or(Verdict::Keep, |ignore| ignore.verdict(&path, kind.is_dir()));
            match verdict {
                Verdict::Leave => continue,
                Verdict::Keep => {}
                Verdict::Unnamed => {
                    if let Some(why) = left_out(&full, &name, &meta) {
                        self.warnings.push(format!(
                            "{path} was left out: {why}; '!{path}' in .tidegateignore would keep it"
                        ));
                        continue;
                    }
                }
            }
            if kind.is_dir() {
                self.push(path.clone(), Kind::Folder)?;
                self.walk(&full, &format!("{path}/"), depth + 1, ignore.as_deref_mut())?;
            } else if kind.is_symlink() {
                self.push_link(path, &full, depth)?;
            } else if kind.is_file() {
                self.push_file(path, &meta)?;
            } else {
                return Err(TreeError::Special(full));
            }
        }
        if let Some(ignore) = ignore {
            ignore.leave(above);
        }
        Ok(())
    }

    fn too_deep(&self, path: String) -> TreeError {
        TreeError::TooDeep {
            path,
            depth: self.bounds.depth,
            length: self.bounds.path,
        }
    }

    fn push_link(&mut self, path: String, full: &Path, depth: usize) -> Result<(), TreeError> {
        let target = fs::read_link(full).map_err(read_error(full))?;
        let target = target
            .into_os_string()
            .into_string()
            .map_err(|_| TreeError::NotUtf8(full.to_owned()))?;
        match link::check(&target, depth) {
            Ok(()) => self.push(path, Kind::Link { target }),
            Err(why) => Err(TreeError::Link { path, target, why }),
        }
    }

    fn push_file(&mut self, path: String, meta: &fs::Metadata) -> Result<(), TreeError> {
        self.bytes += meta.len();
        if self.bytes > self.bounds.bytes {
            return Err(TreeError::TooLarge {
                limit: self.bounds.bytes,
            });
        }
        self.push(
            path,
            Kind::File {
                size: meta.len(),
                executable: is_executable(meta),
            },
        )
    }

    fn push(&mut self, path: String, kind: Kind) -> Result<(), TreeError> {
        if self.nodes.len() >= self.bounds.entries {
            return Err(TreeError::TooMany {
                limit: self.bounds.entries,
            });
        }
        self.nodes.push(Node { path, kind });
        Ok(())
    }
}

/// Why the thing stays behind though no pattern names it.
fn left_out(full: &Path, name: &str, meta: &fs::Metadata) -> Option<&'static str> {
    if meta.is_dir() {
        // Its interpreter and paths are this machine's, so it would not work elsewhere.
        if full.join("pyvenv.cfg").is_file() {
            return Some("a Python virtual environment");
        }
        credential::folder(name)
    } else if meta.is_file() {
        credential::file(full, name)
    } else {
        None
    }
}

#[cfg(unix)]
fn is_executable(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    meta.permissions().mode() & 0o100 != 0
}

/// Where the file system knows no such bit, only the entry gets it.
#[cfg(not(unix))]
fn is_executable(_: &fs::Metadata) -> bool {
    false
}

fn read_error(path: &Path) -> impl FnOnce(io::Error) -> TreeError + '_ {
    |source| TreeError::Read {
        path: path.to_owned(),
        source,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn paths(tree: &Tree) -> Vec<&str> {
        tree.nodes.iter().map(|n| n.path.as_str()).collect()
    }

    #[test]
    fn ignored_and_secret_files_stay_behind() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("pkg/__pycache__")).unwrap();
        fs::create_dir_all(root.join(".git")).unwrap();
        fs::create_dir_all(root.join("env")).unwrap();
        fs::write(root.join("env/pyvenv.cfg"), "").unwrap();
        fs::write(root.join(".git/config"), "").unwrap();
        fs::write(root.join("pkg/__pycache__/x.pyc"), "").unwrap();
        fs::write(root.join("pkg/x.py"), "").unwrap();
        fs::write(root.join("handler.py"), "").unwrap();
        fs::write(root.join(".env"), "KEY=1").unwrap();
        fs::write(root.join("id_rsa"), "meant").unwrap();
        fs::write(root.join("notes.log"), "").unwrap();
        fs::write(root.join(".tidegateignore"), "*.log\n!id_rsa\n").unwrap();
        let tree = Tree::read(root).unwrap();
        assert_eq!(paths(&tree), ["handler.py", "id_rsa", "pkg", "pkg/x.py"]);
        let mut warnings = tree.warnings;
        warnings.sort();
        assert_eq!(
            warnings,
            [
                ".env was left out: credentials by its name; '!.env' in .tidegateignore would keep it",
                "env was left out: a Python virtual environment; '!env' in .tidegateignore would keep it",
            ]
        );
    }

    #[test]
    fn what_is_made_anew_stays_behind() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for file in [
            "package.json",
            "node_modules/x/index.js",
            "lib/node_modules/kept.js",
            "web/package.json",
            "web/node_modules/y.js",
            "web/.gitignore",
            "web/dist/out.js",
            "web/main.js",
        ] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "dist/\n").unwrap();
        }
        let tree = Tree::read(root).unwrap();
        let files: Vec<&str> = tree
            .nodes
            .iter()
            .filter(|n| n.kind != Kind::Folder)
            .map(|n| &*n.path)
            .collect();
        assert_eq!(
            files,
            [
                "lib/node_modules/kept.js",
                "package.json",
                "web/.gitignore",
                "web/main.js",
                "web/package.json"
            ]
        );
    }

    #[test]
    fn links_inside_are_kept_and_links_out_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir(root.join("lib")).unwrap();
        std::os::unix::fs::symlink("../main", root.join("lib/back")).unwrap();
        assert_eq!(paths(&Tree::read(root).unwrap()), ["lib", "lib/back"]);
        std::os::unix::fs::symlink("/etc/passwd", root.join("out")).unwrap();
        assert_eq!(
            Tree::read(root).unwrap_err().to_string(),
            "link out points to \"/etc/passwd\", which is absolute; a link must be relative and stay inside the folder"
        );
    }

    #[test]
    fn a_socket_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
        assert!(matches!(Tree::read(dir.path()), Err(TreeError::Special(_))));
    }
}
