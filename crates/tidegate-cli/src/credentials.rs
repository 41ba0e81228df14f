//! Which key is sent to which server, and how it is kept.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::paths;

/// Largest file read here in bytes; they hold a few short lines.
const MAX_FILE: u64 = 1 << 20;

/// Where a key was found, for `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `--token` or `TIDEGATE_TOKEN`.
    Given,
    /// `tidegate login`.
    Login(PathBuf),
    /// A server of this machine.
    Server(PathBuf),
}

/// What stands in the file that `login` writes.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct File {
    /// By origin, `https://host:443`.
    servers: BTreeMap<String, Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    token: String,
}

/// What a running server writes about itself.
#[derive(Debug, Deserialize)]
struct Server {
    key_file: PathBuf,
}

/// A file of keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is damaged; remove it and log in again", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("there is no home folder to keep keys in; set HOME, or use TIDEGATE_TOKEN")]
    NoHome,
}

/// Looks for a key for the server, first one found: the one given, the one kept by `login`, and for a server on this
/// machine the one that it points to, if this user may read it.
pub(crate) fn find(
    env: impl Fn(&str) -> Option<OsString>,
    url: &Url,
    given: Option<&str>,
) -> Result<Option<(String, Source)>, FileError> {
    if let Some(token) = given {
        return Ok(Some((token.to_owned(), Source::Given)));
    }
    if let Some(path) = paths::credentials_file(&env)
        && let Some(entry) = File::read(&path)?.servers.remove(&key(url))
    {
        return Ok(Some((entry.token, Source::Login(path))));
    }
    Ok(from_server(env, url))
}

/// The file that a server of this machine keeps this key in, if it is that server's.
pub(crate) fn key_file(
    env: impl Fn(&str) -> Option<OsString>,
    url: &Url,
    key: &str,
) -> Option<PathBuf> {
    match from_server(env, url)? {
        (found, Source::Server(path)) if found == key => Some(path),
        _ => None,
    }
}

/// Whether the server is on this machine, as far as its name says.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or("").trim_matches(['[', ']']);
    host == "localhost"
        || host.ends_with(".localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// A file that cannot be read is one of another user's server, and so no key rather than an error.
fn from_server(env: impl Fn(&str) -> Option<OsString>, url: &Url) -> Option<(String, Source)> {
    if !is_loopback(url) {
        return None;
    }
    let path = paths::server_file(env, url.host_str()?, url.port_or_known_default()?)?;
    let server: Server = serde_json::from_str(&read(&path).ok()?).ok()?;
    let key = read(&server.key_file).ok()?;
    let key = key.trim();
    (!key.is_empty()).then(|| (key.to_owned(), Source::Server(server.key_file)))
}

fn key(url: &Url) -> String {
    format!(
        "{}://{}:{}",
        url.scheme(),
        url.host_str().unwrap_or(""),
        url.port_or_known_default().unwrap_or(0)
    )
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?
        .take(MAX_FILE)
        .read_to_string(&mut text)?;
    Ok(text)
}

// === impl File ===

impl File {
    /// The file, or an empty one.
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let text = match read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => {
                return Err(FileError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        serde_json::from_str(&text).map_err(|source| FileError::Damaged {
            path: path.to_owned(),
            source,
        })
    }

    pub(crate) fn set(&mut self, url: &Url, token: String) {
        self.servers.insert(key(url), Entry { token });
    }

    /// Whether there was one.
    pub(crate) fn remove(&mut self, url: &Url) -> bool {
        self.servers.remove(&key(url)).is_some()
    }

    /// Replaces the file in one step, never readable by others: a temporary file is made with mode 0600.
    pub(crate) fn write(&self, path: &Path) -> Result<(), FileError> {
        let failed = |source| FileError::Write {
            path: path.to_owned(),
            source,
        };
        let dir = path.parent().expect("the path has the name of the file");
        create_private(dir).map_err(failed)?;
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
        let text = serde_json::to_string_pretty(self).map_err(|e| failed(e.into()))?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|e| failed(e.error))?;
        Ok(())
    }
}

pub(crate) fn create_private(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_are_looked_for_in_order() {
        let home = tempfile::tempdir().unwrap();
        let env = |name: &str| (name == "HOME").then(|| home.path().as_os_str().to_owned());
        let url: Url = "http://localhost:8080".parse().unwrap();
        assert!(find(env, &url, None).unwrap().is_none());

        let servers = home.path().join(".local/state/tidegate/servers");
        fs::create_dir_all(&servers).unwrap();
        let key_file = home.path().join("admin.key");
        fs::write(&key_file, "from-server\n").unwrap();
        fs::write(
            servers.join("127.0.0.1_8080.json"),
            format!(r#"{{"url":"http://127.0.0.1:8080","key_file":{key_file:?},"pid":1}}"#),
        )
        .unwrap();
        let token = |given| find(env, &url, given).unwrap().unwrap().0;
        assert_eq!(token(None), "from-server");

        let path = paths::credentials_file(env).unwrap();
        let mut file = File::read(&path).unwrap();
        file.set(&url, "from-login".to_owned());
        file.write(&path).unwrap();
        assert_eq!(token(None), "from-login");
        assert_eq!(token(Some("given")), "given");
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));

        // Another server never gets this one's key, least of all one that is elsewhere.
        for other in ["http://localhost:8081", "http://example.com:8080"] {
            assert!(find(env, &other.parse().unwrap(), None).unwrap().is_none());
        }
        assert!(file.remove(&url));
        assert!(!file.remove(&url));
    }

    #[test]
    fn a_damaged_file_is_said_to_be() {
        let home = tempfile::tempdir().unwrap();
        let env = |name: &str| (name == "HOME").then(|| home.path().as_os_str().to_owned());
        let path = paths::credentials_file(env).unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "{").unwrap();
        let url: Url = "http://localhost:8080".parse().unwrap();
        assert!(matches!(
            find(env, &url, None),
            Err(FileError::Damaged { .. })
        ));
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        for (url, expected) in [
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("http://x.localhost", true),
            ("http://localhost.example.com", false),
            ("http://192.168.0.1", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
