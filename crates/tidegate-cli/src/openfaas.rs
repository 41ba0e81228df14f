//! What OpenFaaS's own command line keeps on this machine: which servers it is logged in to.
//!
//! Its file is shared with other tools, so whatever is in it stays but the one entry that is set. The format is theirs:
//! `auths`, a list of servers with `base64(user:key)`, found again by the very address that is asked for, in lower case and
//! without a slash at its end.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value as Json, json};

use crate::client::USER;
use crate::credentials::create_private;

/// The file in its folder.
const FILE: &str = "config.yml";

/// Largest such file in bytes; a login is some hundred.
const MAX_FILE: u64 = 1 << 20;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not what faas-cli writes: {why}; repair or remove it", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("there is no home folder for faas-cli's logins; set HOME or OPENFAAS_CONFIG")]
    NoHome,
}

/// The folder of its settings, found as it finds it.
pub(crate) fn folder(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(named) = env("OPENFAAS_CONFIG") {
        return Some(named.into());
    }
    if env("CI").is_some_and(|v| v == "true" || v == "1") {
        return Some(PathBuf::from(".openfaas"));
    }
    let home = env("HOME").or_else(|| env("USERPROFILE"))?;
    Some(PathBuf::from(home).join(".openfaas"))
}

/// An address as it is written there.
pub(crate) fn plain(url: &str) -> String {
    url.trim().trim_end_matches('/').to_ascii_lowercase()
}

/// The key for a server that somebody logged in to.
pub(crate) fn key(env: impl Fn(&str) -> Option<OsString>, url: &str) -> Option<String> {
    let file = read(&folder(env)?.join(FILE)).ok()?;
    let wanted = plain(url);
    let auths = file.get("auths")?.as_array()?;
    let entry = auths.iter().find(|auth| auth["gateway"] == wanted)?;
    if entry["auth"] != "basic" {
        return None;
    }
    let pair = BASE64_STANDARD.decode(entry["token"].as_str()?).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    let (_, key) = pair.split_once(':')?;
    (!key.is_empty()).then(|| key.to_owned())
}

/// Writes a login, in place of an earlier one for the same server, and gives the file's path.
pub(crate) fn log_in(folder: &Path, url: &str, key: &str) -> Result<PathBuf, ConfigError> {
    let path = folder.join(FILE);
    let mut file = read(&path)?;
    let damaged = |why: &str| ConfigError::Damaged {
        path: path.clone(),
        why: why.to_owned(),
    };
    let auths = file.entry("auths").or_insert(Json::Null);
    if auths.is_null() {
        *auths = json!([]);
    }
    let Json::Array(auths) = auths else {
        return Err(damaged("auths is no list"));
    };
    let gateway = plain(url);
    let entry = json!({
        "gateway": gateway,
        "auth": "basic",
        "token": BASE64_STANDARD.encode(format!("{USER}:{key}")),
    });
    match auths.iter_mut().find(|auth| auth["gateway"] == gateway) {
        Some(there) => *there = entry,
        None => auths.push(entry),
    }
    let text = serde_saphyr::to_string(&Json::Object(file)).map_err(|e| damaged(&e.to_string()))?;
    write_private(&path, &text)?;
    Ok(path)
}

/// Keeps a key in a file of its own, for tools that want one, and gives its path.
pub(crate) fn keep_key(folder: &Path, url: &str, key: &str) -> Result<PathBuf, ConfigError> {
    let name: String = plain(url)
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') {
                c
            } else {
                '_'
            }
        })
        .collect();
    let path = folder.join(format!("{name}.key"));
    write_private(&path, &format!("{key}\n"))?;
    Ok(path)
}

fn read(path: &Path) -> Result<Map<String, Json>, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let damaged = |why: String| ConfigError::Damaged {
        path: path.to_owned(),
        why,
    };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut text = String::new();
    file.take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(damaged(format!("it is larger than {} MiB", MAX_FILE >> 20)));
    }
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    // What is a text in YAML 1.2, `y` among others, is to be one when it is written again.
    let options = serde_saphyr::options! { strict_booleans: true };
    match serde_saphyr::from_str_with_options(&text, options) {
        Ok(Json::Object(map)) => Ok(map),
        Ok(Json::Null) => Ok(Map::new()),
        Ok(_) => Err(damaged("it is no map".to_owned())),
        Err(e) => {
            let told = e.without_snippet().to_string();
            Err(damaged(told.lines().next().unwrap_or_default().to_owned()))
        }
    }
}

/// Replaces a file in one step, never readable by others: a temporary file is made with mode 0600.
fn write_private(path: &Path, text: &str) -> Result<(), ConfigError> {
    let failed = |source| ConfigError::Write {
        path: path.to_owned(),
        source,
    };
    let dir = path.parent().expect("the path has the name of the file");
    create_private(dir).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(file: &Map<String, Json>, at: usize) -> (&str, &str) {
        let entry = &file["auths"][at];
        (
            entry["gateway"].as_str().unwrap(),
            entry["auth"].as_str().unwrap(),
        )
    }

    #[test]
    fn logins_are_kept_beside_those_of_others() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("new");
        let path = log_in(&folder, "http://Host:8080/", "k1").unwrap();
        let written = fs::read_to_string(&path).unwrap();
        assert_eq!(
            written,
            "auths:\n- auth: basic\n  gateway: http://host:8080\n  token: YWRtaW46azE=\n"
        );
        fs::write(
            &path,
            "# theirs\nother: {a: 1}\nauths:\n- gateway: https://gw\n  auth: oauth2\n  token: abc\n  options: [{name: x, \
             value: y}]\n- gateway: http://host:8080\n  auth: basic\n  token: b2xk\n",
        )
        .unwrap();
        log_in(&folder, "http://host:8080", "k2").unwrap();
        log_in(&folder, "http://third", "k3").unwrap();
        let file = read(&path).unwrap();
        assert_eq!(file["other"]["a"], 1);
        assert_eq!(entry(&file, 0), ("https://gw", "oauth2"));
        assert_eq!(file["auths"][0]["options"][0]["value"], "y");
        assert_eq!(entry(&file, 1), ("http://host:8080", "basic"));
        assert_eq!(entry(&file, 2), ("http://third", "basic"));
        let env = |name: &str| (name == "OPENFAAS_CONFIG").then(|| folder.clone().into_os_string());
        assert_eq!(key(env, "http://HOST:8080/").as_deref(), Some("k2"));
        assert_eq!(key(env, "https://gw"), None);
        assert_eq!(key(env, "http://nobody"), None);
    }

    #[test]
    fn what_is_damaged_is_left_as_it_is() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE);
        for text in ["auths: text\n", "- list\n", "a: [\n"] {
            fs::write(&path, text).unwrap();
            let told = log_in(home.path(), "http://h", "k")
                .unwrap_err()
                .to_string();
            assert!(told.contains("repair or remove it"), "{told}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        for text in ["", "auths:\n", "auths: []\n", "---\n"] {
            fs::write(&path, text).unwrap();
            log_in(home.path(), "http://h", "k").unwrap();
            assert_eq!(
                entry(&read(&path).unwrap(), 0),
                ("http://h", "basic"),
                "{text}"
            );
        }
    }

    #[test]
    #[cfg(unix)]
    fn keys_are_nobody_elses() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".openfaas");
        let file = log_in(&folder, "http://h", "k").unwrap();
        let kept = keep_key(&folder, "http://h:8080/x", "k").unwrap();
        assert!(kept.ends_with("http___h_8080_x.key"), "{kept:?}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(&file), mode(&kept), mode(&folder)),
            (0o600, 0o600, 0o700)
        );
        assert_eq!(fs::read_to_string(kept).unwrap(), "k\n");
    }

    #[test]
    fn the_folder_is_found_as_they_find_it() {
        let of = |pairs: &[(&str, &str)]| {
            let found = folder(|name| {
                let pair = pairs.iter().find(|(n, _)| *n == name)?;
                Some(pair.1.into())
            });
            found.map(|p| p.display().to_string())
        };
        assert_eq!(of(&[("HOME", "/h")]).as_deref(), Some("/h/.openfaas"));
        assert_eq!(
            of(&[("HOME", "/h"), ("OPENFAAS_CONFIG", "/c")]).as_deref(),
            Some("/c")
        );
        assert_eq!(
            of(&[("HOME", "/h"), ("CI", "1")]).as_deref(),
            Some(".openfaas")
        );
        assert_eq!(
            of(&[("HOME", "/h"), ("CI", "no")]).as_deref(),
            Some("/h/.openfaas")
        );
        assert_eq!(of(&[]), None);
    }
}
