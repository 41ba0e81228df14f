//! An archive as a list of things: where each file in it begins. What is compressed is expanded first.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::Things;
use crate::Error;
use crate::compression::Plain;
use crate::error::at;
use crate::tar::{Kind, Tar, TarError};
use crate::unpack::Wanted;

/// Most entries: a layout has one a layer and some documents, an old archive four a layer.
const MAX_ENTRIES: usize = 20_000;
/// Links followed from one name to another: old archives have such instead of a layer that is there twice.
const MAX_LINKS: usize = 4;

pub(super) struct Archive {
    /// As it was given.
    shown: PathBuf,
    /// As it is read.
    path: PathBuf,
    all: HashMap<String, Entry>,
}

enum Entry {
    File { begins: u64, size: u64 },
    Link(String),
}

impl Archive {
    pub(super) fn open(
        path: &Path,
        scratch: &Path,
        limit: u64,
        wanted: &Wanted,
    ) -> Result<Self, Error> {
        let what = path.display().to_string();
        let damaged = |e: io::Error| Error::invalid(what.clone(), e.to_string());
        let file = File::open(path).map_err(at(path))?;
        let mut plain = Plain::new(file).map_err(damaged)?;
        let read = if matches!(plain, Plain::Tar(_)) {
            path.to_owned()
        } else {
            let expanded = scratch.join("expanded.tar");
            copy(&mut plain, &expanded, limit, &what, wanted)?;
            expanded
        };
        let file = File::open(&read).map_err(at(&read))?;
        let mut tar = Tar::new(BufReader::new(file));
        let mut all = HashMap::new();
        loop {
            wanted.check()?;
            let entry = tar.next().map_err(|e| match e {
                TarError::Read(e) => damaged(e),
                TarError::Malformed(why) | TarError::Unsupported(why) => {
                    Error::invalid(what.clone(), why)
                }
            })?;
            let Some(entry) = entry else { break };
            if all.len() >= MAX_ENTRIES {
                return Err(Error::TooLarge {
                    what,
                    limit: MAX_ENTRIES as u64,
                    unit: "entries",
                });
            }
            let name = plain_name(&entry.name);
            match entry.kind {
                Kind::File => {
                    let begins = tar.position();
                    all.insert(
                        name,
                        Entry::File {
                            begins,
                            size: entry.size,
                        },
                    );
                }
                Kind::Symlink => {
                    let target = beside(&name, &String::from_utf8_lossy(&entry.target));
                    all.insert(name, Entry::Link(target));
                }
                Kind::Hardlink => {
                    all.insert(name, Entry::Link(plain_name(&entry.target)));
                }
                Kind::Folder | Kind::Special => {}
            }
        }
        Ok(Self {
            shown: path.to_owned(),
            path: read,
            all,
        })
    }
}

impl Things for Archive {
    fn open(&self, name: &str) -> Result<Option<Box<dyn Read + Send>>, Error> {
        let mut name = plain_name(name.as_bytes());
        for _ in 0..=MAX_LINKS {
            match self.all.get(&name) {
                None => return Ok(None),
                Some(Entry::Link(target)) => name.clone_from(target),
                Some(Entry::File { begins, size }) => {
                    let mut file = File::open(&self.path).map_err(at(&self.path))?;
                    file.seek(SeekFrom::Start(*begins))
                        .map_err(at(&self.path))?;
                    return Ok(Some(Box::new(file.take(*size))));
                }
            }
        }
        Ok(None)
    }

    fn shown(&self) -> String {
        self.shown.display().to_string()
    }
}

/// Only a key, never a path of this machine.
fn plain_name(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    parts.join("/")
}

/// Where a link's target is, read from the folder of the link.
fn beside(link: &str, target: &str) -> String {
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn copy(
    from: &mut impl Read,
    to: &Path,
    limit: u64,
    what: &str,
    wanted: &Wanted,
) -> Result<(), Error> {
    use std::io::Write as _;
    let mut file = File::create_new(to).map_err(at(to))?;
    let mut chunk = vec![0; 256 << 10];
    let mut length = 0;
    loop {
        wanted.check()?;
        let n = from
            .read(&mut chunk)
            .map_err(|e| Error::invalid(what, e.to_string()))?;
        if n == 0 {
            return Ok(());
        }
        length += n as u64;
        if length > limit {
            return Err(Error::TooLarge {
                what: what.to_owned(),
                limit,
                unit: "bytes, expanded,",
            });
        }
        file.write_all(&chunk[..n]).map_err(at(to))?;
    }
}
