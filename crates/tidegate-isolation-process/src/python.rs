//! Our host for Python. Its zygote runs outside of any sandbox, so its files are in the state folder as well as where the
//! other hosts' are.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The host's sources, by path below its folder.
pub(crate) const SOURCES: &[(&str, &str)] = &[
    (
        "host_main.py",
        include_str!("../../../runtimes/python/host_main.py"),
    ),
    (
        "tidegate.py",
        include_str!("../../../runtimes/python/tidegate.py"),
    ),
    (
        "tidegate_host/__init__.py",
        include_str!("../../../runtimes/python/tidegate_host/__init__.py"),
    ),
    (
        "tidegate_host/aio.py",
        include_str!("../../../runtimes/python/tidegate_host/aio.py"),
    ),
    (
        "tidegate_host/answers.py",
        include_str!("../../../runtimes/python/tidegate_host/answers.py"),
    ),
    (
        "tidegate_host/asgi.py",
        include_str!("../../../runtimes/python/tidegate_host/asgi.py"),
    ),
    (
        "tidegate_host/body.py",
        include_str!("../../../runtimes/python/tidegate_host/body.py"),
    ),
    (
        "tidegate_host/confine.py",
        include_str!("../../../runtimes/python/tidegate_host/confine.py"),
    ),
    (
        "tidegate_host/exchange.py",
        include_str!("../../../runtimes/python/tidegate_host/exchange.py"),
    ),
    (
        "tidegate_host/handlers.py",
        include_str!("../../../runtimes/python/tidegate_host/handlers.py"),
    ),
    (
        "tidegate_host/http1.py",
        include_str!("../../../runtimes/python/tidegate_host/http1.py"),
    ),
    (
        "tidegate_host/life.py",
        include_str!("../../../runtimes/python/tidegate_host/life.py"),
    ),
    (
        "tidegate_host/load.py",
        include_str!("../../../runtimes/python/tidegate_host/load.py"),
    ),
    (
        "tidegate_host/logs.py",
        include_str!("../../../runtimes/python/tidegate_host/logs.py"),
    ),
    (
        "tidegate_host/sync.py",
        include_str!("../../../runtimes/python/tidegate_host/sync.py"),
    ),
    (
        "tidegate_host/threads.py",
        include_str!("../../../runtimes/python/tidegate_host/threads.py"),
    ),
    (
        "tidegate_host/websocket.py",
        include_str!("../../../runtimes/python/tidegate_host/websocket.py"),
    ),
    (
        "tidegate_host/wire.py",
        include_str!("../../../runtimes/python/tidegate_host/wire.py"),
    ),
    (
        "tidegate_host/wsgi.py",
        include_str!("../../../runtimes/python/tidegate_host/wsgi.py"),
    ),
    (
        "zygote.py",
        include_str!("../../../runtimes/python/zygote.py"),
    ),
];

/// Writes the host's sources to a folder named by their content, so that servers of two versions may share one state
/// folder. Gives back the folder.
pub(crate) fn write_sources(state_dir: &Path) -> Result<PathBuf, Error> {
    let folder = state_dir.join(format!("python-{:016x}", digest()));
    let write = || -> io::Result<()> {
        for (name, text) in SOURCES {
            let path = folder.join(name);
            if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
                continue;
            }
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            // Renamed into place: a zygote that starts at this moment reads the whole file or the old one.
            let temporary = path.with_extension(format!("{}.new", std::process::id()));
            std::fs::write(&temporary, text)?;
            std::fs::rename(&temporary, &path)?;
        }
        Ok(())
    };
    write().map_err(|source| Error::Folder {
        path: folder.clone(),
        source,
    })?;
    Ok(folder)
}

/// FNV-1a of the sources: a name, no protection; what is there is compared before it is used.
fn digest() -> u64 {
    SOURCES
        .iter()
        .flat_map(|(name, text)| name.bytes().chain([0]).chain(text.bytes()).chain([0]))
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_of_the_host_is_embedded() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtimes/python");
        let mut there = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                let name = path
                    .strip_prefix(&root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                let ours =
                    !matches!(name.as_str(), "tests" | "bench") && !name.ends_with("__pycache__");
                if path.is_dir() && ours {
                    folders.push(path);
                } else if name.ends_with(".py") {
                    there.push(name);
                }
            }
        }
        there.sort();
        let mut embedded: Vec<_> = SOURCES.iter().map(|(name, _)| (*name).to_owned()).collect();
        embedded.sort();
        assert_eq!(embedded, there);
    }

    #[test]
    fn sources_are_written_once_and_repaired() {
        let folder = tempfile::tempdir().unwrap();
        let at = write_sources(folder.path()).unwrap();
        std::fs::write(at.join("zygote.py"), "damaged").unwrap();
        assert_eq!(write_sources(folder.path()).unwrap(), at);
        let text = std::fs::read_to_string(at.join("zygote.py")).unwrap();
        assert!(text.contains("fork"));
    }
}
