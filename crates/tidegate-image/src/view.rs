//! A file of an image, found in its layers as the overlay would find it, without one being mounted.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{self, File, FileType};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::error::at;
use crate::unpack::hides;

/// Links followed before a path counts as one that leads nowhere, as Linux has it.
const MAX_LINKS: usize = 40;

/// What a name in a folder is.
enum Found {
    /// A folder, in those layers that it is made of, the highest first.
    Folder(Vec<PathBuf>),
    Link(PathBuf),
    File(PathBuf),
    Nothing,
}

/// The content of a plain file, or nothing where the path leads to none.
pub(crate) fn read(layers: &[PathBuf], path: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
    let roots: Vec<PathBuf> = layers.iter().rev().cloned().collect();
    // The folders that have been entered, so that `..` leads back.
    let mut at_folder = vec![roots];
    let mut todo: VecDeque<Vec<u8>> = names(path.as_bytes());
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        match &name[..] {
            b"" | b"." => continue,
            b".." => {
                if at_folder.len() > 1 {
                    at_folder.pop();
                }
                continue;
            }
            _ => {}
        }
        let here = at_folder.last().map_or(&[][..], Vec::as_slice);
        match look(here, OsStr::from_bytes(&name))? {
            Found::Folder(folder) => at_folder.push(folder),
            Found::Link(link) => {
                links += 1;
                if links > MAX_LINKS {
                    return Ok(None);
                }
                let target = fs::read_link(&link).map_err(at(&link))?;
                if target.is_absolute() {
                    at_folder.truncate(1);
                }
                for name in names(target.as_os_str().as_bytes()).into_iter().rev() {
                    todo.push_front(name);
                }
            }
            Found::File(file) if todo.is_empty() => return content(&file, path, most).map(Some),
            Found::File(_) | Found::Nothing => return Ok(None),
        }
    }
    Ok(None)
}

fn names(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect()
}

/// A name in a folder that is made of those of several layers.
fn look(here: &[PathBuf], name: &OsStr) -> Result<Found, Error> {
    let mut folder = Vec::new();
    for layer in here {
        let path = layer.join(name);
        let kind = match kind(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            kind => kind.map_err(at(&path))?,
        };
        // Anything but a folder hides what is below it, and is hidden by a folder above.
        if !kind.is_dir() && !folder.is_empty() {
            break;
        }
        if kind.is_symlink() {
            return Ok(Found::Link(path));
        }
        if kind.is_file() {
            return Ok(Found::File(path));
        }
        if kind.is_char_device() || !kind.is_dir() {
            return Ok(Found::Nothing);
        }
        let last = hides(&path)?;
        folder.push(path);
        if last {
            break;
        }
    }
    Ok(if folder.is_empty() {
        Found::Nothing
    } else {
        Found::Folder(folder)
    })
}

fn kind(path: &Path) -> io::Result<FileType> {
    Ok(fs::symlink_metadata(path)?.file_type())
}

fn content(file: &Path, path: &str, most: u64) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    File::open(file)
        .and_then(|file| file.take(most + 1).read_to_end(&mut content))
        .map_err(at(file))?;
    if content.len() as u64 > most {
        return Err(Error::TooLarge {
            what: format!("file {path} of the image"),
            limit: most,
            unit: "bytes",
        });
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn gone(path: &Path) {
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, rustix::fs::Mode::empty(), 0).unwrap();
    }

    #[test]
    fn layers_hide_what_is_below_them() {
        let dir = tempfile::tempdir().unwrap();
        let layers = ["0", "1", "2"].map(|name| dir.path().join(name));
        for layer in &layers {
            fs::create_dir_all(layer.join("etc/sub")).unwrap();
        }
        let write = |layer: usize, path: &str, text: &str| {
            fs::write(layers[layer].join(path), text).unwrap();
        };
        write(0, "etc/passwd", "old");
        write(1, "etc/passwd", "new");
        write(0, "etc/gone", "x");
        gone(&layers[1].join("etc/gone"));
        write(0, "etc/back", "x");
        gone(&layers[1].join("etc/back"));
        write(2, "etc/back", "again");
        write(0, "etc/sub/hidden", "x");
        let opaque = layers[1].join("etc/sub");
        rustix::fs::setxattr(
            &opaque,
            "user.overlay.opaque",
            b"y",
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
        write(2, "etc/sub/shown", "seen");
        symlink("/etc/../etc/back", layers[0].join("link")).unwrap();
        symlink("../../../../etc/passwd", layers[2].join("etc/up")).unwrap();
        symlink("round", layers[0].join("round")).unwrap();
        let read = |path: &str| {
            let found = read(&layers, path, 10).unwrap();
            found.map(|bytes| String::from_utf8(bytes).unwrap())
        };
        assert_eq!(read("/etc/passwd").as_deref(), Some("new"));
        assert_eq!(read("/etc/gone"), None);
        assert_eq!(read("etc/back").as_deref(), Some("again"));
        assert_eq!(read("/etc/sub/hidden"), None);
        assert_eq!(read("/etc/sub/shown").as_deref(), Some("seen"));
        assert_eq!(read("/link").as_deref(), Some("again"));
        assert_eq!(
            read("/etc/up").as_deref(),
            Some("new"),
            "inside, whatever is outside"
        );
        for nothing in ["/round", "/etc", "/etc/passwd/x", "/", "/none/x"] {
            assert_eq!(read(nothing), None, "{nothing}");
        }
        write(0, "large", "eleven byte");
        assert!(matches!(
            super::read(&layers, "/large", 10),
            Err(Error::TooLarge { .. })
        ));
    }
}
