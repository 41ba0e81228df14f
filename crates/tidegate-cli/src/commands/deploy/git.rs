//! Code in a git repository.
//!
//! The user's own git fetches it, with the user's own configuration and keys: there is no better way to reach what the user
//! can reach. It never asks anything, fetches one commit and no history, takes no submodules, runs no hooks, and has an end.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::error::{Error, Result};

/// The annotation that says which commit the code is.
pub(crate) const SOURCE: &str = "tidegate.dev/source";

/// How long git may take for one step; a shallow fetch that takes longer is a repository that is too large to deploy.
const PATIENCE: Duration = Duration::from_secs(120);

/// Wait between two looks whether git has ended.
const PAUSE: Duration = Duration::from_millis(10);

/// Bytes of what git says that are read.
const MAX_SAID: u64 = 64 << 10;

/// Lines of what git says that are shown.
const SHOWN: usize = 5;

/// A repository, a place in its history, a folder in it: `URL[#REF][:FOLDER]`, the folder after a ref or a bare `#`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    url: String,
    reference: Option<String>,
    folder: Option<String>,
}

/// A fetched commit; gone when dropped.
pub(crate) struct Fetched {
    /// The folder to deploy.
    pub(crate) folder: PathBuf,
    /// Where it is from, without passwords: `URL#COMMIT`.
    pub(crate) source: String,
    /// What a function made of it is called, unless told otherwise.
    pub(crate) name: String,
    _dir: TempDir,
}

/// Whether a path is the address of a repository rather than a path.
pub(crate) fn is_address(text: &str) -> bool {
    let repository = text.split('#').next().unwrap_or(text);
    // A drive's letter or a single word before the colon is a path; `user@host:` is none.
    let scp = repository
        .split_once(':')
        .is_some_and(|(host, path)| host.contains('@') && !host.contains('/') && !path.is_empty());
    let scheme = repository.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some("git" | "ssh" | "file") => true,
        Some("http" | "https") => {
            text.contains('#') || repository.trim_end_matches('/').ends_with(".git")
        }
        Some(_) => false,
        None => scp || repository.ends_with(".git") && !repository.starts_with('-'),
    }
}

/// Fetches what an address means into a temporary folder.
pub(crate) fn fetch(text: &str) -> Result<Fetched> {
    let address = parse(text)?;
    let dir = tempfile::Builder::new()
        .prefix("tidegate-git-")
        .tempdir()
        .map_err(|e| Error::failed("cannot make a temporary folder").because(&e))?;
    let shown = without_password(&address.url);
    let wanted = address.reference.as_deref().unwrap_or("HEAD");
    git(dir.path(), &["init", "--quiet", "--template="], &shown)?;
    git(
        dir.path(),
        &[
            "fetch",
            "--quiet",
            "--depth=1",
            "--no-tags",
            "--no-recurse-submodules",
            "--",
            &address.url,
            wanted,
        ],
        &format!("{shown} at {wanted}"),
    )?;
    git(
        dir.path(),
        &["checkout", "--quiet", "--detach", "FETCH_HEAD"],
        &shown,
    )?;
    let commit = git(dir.path(), &["rev-parse", "HEAD"], &shown)?;
    let commit = commit.trim().to_owned();
    let root = dir
        .path()
        .canonicalize()
        .map_err(|e| Error::failed("the temporary folder is gone").because(&e))?;
    let folder = match &address.folder {
        None => root,
        Some(folder) => {
            let inside = root.join(folder).canonicalize().ok();
            inside
                .filter(|path| path.starts_with(&root))
                .ok_or_else(|| Error::usage(format!("{shown} has no folder {folder:?}")))?
        }
    };
    let last = address
        .folder
        .as_deref()
        .unwrap_or(&address.url)
        .trim_end_matches('/');
    let last = last.rsplit(['/', ':']).next().unwrap_or(last);
    let name = last.strip_suffix(".git").unwrap_or(last).to_owned();
    let source = match &address.folder {
        Some(folder) => format!("{shown}#{commit}:{folder}"),
        None => format!("{shown}#{commit}"),
    };
    Ok(Fetched {
        folder,
        source,
        name,
        _dir: dir,
    })
}

fn parse(text: &str) -> Result<Address> {
    let refuse = |why: &str| {
        Error::usage(format!(
            "{} {why}; write URL.git#REF:FOLDER, such as https://example.com/shop.git#main:resize",
            without_password(text)
        ))
    };
    let (url, rest) = match text.split_once('#') {
        Some((url, rest)) => (url, Some(rest)),
        // A folder may follow the repository's name at once.
        None => match text.split_once(".git:") {
            Some((url, folder)) if !folder.starts_with('/') => {
                return of(&format!("{url}.git"), None, Some(folder)).map_err(|w| refuse(&w));
            }
            _ => (text, None),
        },
    };
    let (reference, folder) = match rest {
        None => (None, None),
        Some(rest) => match rest.split_once(':') {
            Some((reference, folder)) => (Some(reference), Some(folder)),
            None => (Some(rest), None),
        },
    };
    of(url, reference, folder).map_err(|w| refuse(&w))
}

fn of(url: &str, reference: Option<&str>, folder: Option<&str>) -> Result<Address, String> {
    let some = |text: Option<&str>| text.filter(|t| !t.is_empty()).map(str::to_owned);
    let (reference, folder) = (some(reference), some(folder));
    // Words that begin with a dash would be options, and double colons other programs.
    if url.is_empty() || url.starts_with('-') || url.contains("::") {
        return Err("is no repository".to_owned());
    }
    if let Some(reference) = &reference
        && (reference.starts_with('-')
            || reference.contains([' ', '^', '~', '*', '?', '[', '\\', ':']))
    {
        return Err(format!("names no branch, tag or commit with {reference:?}"));
    }
    if let Some(folder) = &folder
        && (folder.starts_with('/') || folder.split('/').any(|part| part == ".."))
    {
        return Err(format!("names no folder of the repository with {folder:?}"));
    }
    Ok(Address {
        url: url.to_owned(),
        reference,
        folder,
    })
}

/// The address as it can be shown and kept.
fn without_password(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.find('/').unwrap_or(rest.len());
            let rest = match rest[..host].rfind('@') {
                Some(at) => &rest[at + 1..],
                None => rest,
            };
            format!("{scheme}://{rest}")
        }
        None => url.to_owned(),
    }
}

/// Runs git to its end and gives what it wrote.
fn git(dir: &Path, args: &[&str], what: &str) -> Result<String> {
    let failed = |e: std::io::Error| Error::failed("cannot run git").because(&e);
    let mut said = tempfile::tempfile().map_err(failed)?;
    let mut wrote = tempfile::tempfile().map_err(failed)?;
    let mut command = Command::new("git");
    command
        .args([
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "core.fsmonitor=false",
            "-c",
            "advice.detachedHead=false",
        ])
        .args(args)
        .current_dir(dir)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .stdin(Stdio::null())
        .stdout(wrote.try_clone().map_err(failed)?)
        .stderr(said.try_clone().map_err(failed)?);
    if std::env::var_os("GIT_SSH_COMMAND").is_none() {
        command.env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes");
    }
    let mut child = command.spawn().map_err(|e| {
        if e.kind() == std::io::ErrorKind::NotFound {
            Error::failed("git is not there, which fetches repositories")
                .hint("install git, or give a folder")
        } else {
            failed(e)
        }
    })?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::failed(format!(
                "git took longer than {}s to fetch {what}",
                PATIENCE.as_secs()
            )));
        }
        std::thread::sleep(PAUSE);
    };
    if status.success() {
        return Ok(read(&mut wrote));
    }
    let said = read(&mut said);
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let mut error = Error::failed(format!("cannot fetch {what}"));
    for line in lines.iter().take(SHOWN) {
        error.causes.push(without_password(line));
    }
    Err(error)
}

fn read(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let _ = file
        .seek(SeekFrom::Start(0))
        .and_then(|_| file.take(MAX_SAID).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_paths() {
        for address in [
            "https://example.com/shop.git",
            "https://example.com/shop.git#main:resize",
            "https://example.com/shop#main",
            "git@example.com:shop/resize",
            "ssh://git@example.com/shop",
            "git://example.com/shop.git",
            "file:///srv/shop",
            "../shop.git",
        ] {
            assert!(is_address(address), "{address}");
        }
        for path in [
            "./shop",
            "shop.zip",
            "https://example.com/shop.zip",
            "C:shop",
            "a:b",
            "ext::sh -c x",
            "-x.git",
        ] {
            assert!(!is_address(path), "{path}");
        }
    }

    #[test]
    fn addresses_have_parts() {
        let told = |text: &str| {
            parse(text)
                .map(|a| (a.url, a.reference, a.folder))
                .map_err(|e| e.message)
        };
        let some = |text: &str| Some(text.to_owned());
        let url = "https://h/x.git".to_owned();
        assert_eq!(told("https://h/x.git"), Ok((url.clone(), None, None)));
        assert_eq!(
            told("https://h/x.git#v1"),
            Ok((url.clone(), some("v1"), None))
        );
        assert_eq!(
            told("https://h/x.git#v1:a/b"),
            Ok((url.clone(), some("v1"), some("a/b")))
        );
        assert_eq!(
            told("https://h/x.git#:a"),
            Ok((url.clone(), None, some("a")))
        );
        assert_eq!(told("https://h/x.git:a"), Ok((url, None, some("a"))));
        assert_eq!(
            told("git@h:x.git"),
            Ok(("git@h:x.git".to_owned(), None, None))
        );
        for wrong in [
            "https://h/x.git#--upload-pack=x",
            "https://h/x.git#a:../b",
            "https://h/x.git#a:/b",
            "ext::sh#x",
            "#x",
        ] {
            assert!(told(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(
            without_password("https://me:pass@h/x.git#a"),
            "https://h/x.git#a"
        );
        assert_eq!(without_password("https://h/a@b"), "https://h/a@b");
    }
}
