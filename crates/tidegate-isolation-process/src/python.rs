//! The Python on this machine, and our host that runs in it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::Error;

/// Where a Debian, Fedora, Arch or Alpine machine has it.
const DEFAULT: &str = "/usr/bin/python3";

/// Oldest version that the host supports.
const OLDEST: (u32, u32) = (3, 9);

/// How to get one, as one sentence.
pub(crate) const HOW_TO_GET: &str = "install it with `apt-get install python3` (or dnf, pacman, apk), or name one under /usr in the configuration";

/// How long an interpreter may take to say its version. A cold disk is slow; a wrapper that hangs is worse.
const ANSWER: Duration = Duration::from_secs(5);

/// The host's sources, by path below its folder.
const SOURCES: &[(&str, &str)] = &[
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

/// An interpreter that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Python {
    pub(crate) interpreter: PathBuf,
    /// `3.11.2`.
    pub(crate) version: String,
}

/// Finds the interpreter, or says in one sentence what is missing.
pub(crate) fn find(wanted: Option<&Path>) -> Result<Python, String> {
    let path = wanted.unwrap_or(Path::new(DEFAULT));
    let real = path
        .canonicalize()
        .map_err(|e| format!("no Python at {}: {e}; {HOW_TO_GET}", path.display()))?;
    if !real.starts_with("/usr") {
        return Err(format!(
            "{} is {}, outside of /usr, which is all a sandbox sees of the machine; {HOW_TO_GET}",
            path.display(),
            real.display()
        ));
    }
    let version = ask(path).map_err(|e| format!("{} does not run: {e}", path.display()))?;
    let mut numbers = version.split('.').filter_map(|n| n.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < OLDEST {
        return Err(format!(
            "{} is Python {version}; at least {}.{} is needed",
            path.display(),
            OLDEST.0,
            OLDEST.1
        ));
    }
    Ok(Python {
        interpreter: path.to_owned(),
        version,
    })
}

fn ask(path: &Path) -> io::Result<String> {
    let mut child = Command::new(path)
        .args([
            "-I",
            "-S",
            "-c",
            "import sys; print('%d.%d.%d' % sys.version_info[:3])",
        ])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let until = Instant::now() + ANSWER;
    let pid = rustix::process::Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [rustix::event::PollFd::new(
            &pidfd,
            rustix::event::PollFlags::IN,
        )];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error.into()),
            Ok(_) => break,
        }
    }
    // It printed a dozen bytes, which fit in the pipe, so reading after its end loses nothing.
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !text.is_empty() {
        Ok(text)
    } else {
        Err(io::Error::other(format!("{}", output.status)))
    }
}

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
    fn an_interpreter_outside_of_usr_is_refused_with_the_reason() {
        let error = find(Some(Path::new("/etc/passwd"))).unwrap_err();
        assert!(error.contains("outside of /usr"), "{error}");
        let error = find(Some(Path::new("/usr/bin/no-such-python"))).unwrap_err();
        assert!(error.contains("apt-get install python3"), "{error}");
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
