//! Where the command and a server on the same machine keep what they tell each other.
//!
//! | what | where |
//! |---|---|
//! | keys given to `tidegate login` | `$XDG_CONFIG_HOME/tidegate/credentials.json`, or `~/.config/…` |
//! | running servers of this user | `$XDG_STATE_HOME/tidegate/servers/HOST_PORT.json`, or `~/.local/state/…` |
//!
//! The rules are functions of an environment that is passed in, so that the server can use them for what it writes and
//! tests need not change the process.

use std::ffi::OsString;
use std::path::PathBuf;

/// `~/.config/tidegate`, if there is a home at all.
///
/// A relative `XDG_CONFIG_HOME` is ignored, as the XDG rules say.
pub fn config_dir(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    dir(&env, "XDG_CONFIG_HOME", &[".config"])
}

/// `~/.local/state/tidegate`, if there is a home at all.
pub fn state_dir(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    dir(&env, "XDG_STATE_HOME", &[".local", "state"])
}

/// The file of keys that `login` writes, mode 0600.
pub fn credentials_file(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    Some(config_dir(env)?.join("credentials.json"))
}

/// The file by which a running server tells this user's commands where its key is.
///
/// `host` as in a URL, brackets and all. `localhost` and `127.0.0.1` are one, and so is an address that listens everywhere,
/// because the command dials by one name what the server binds by another.
pub fn server_file(
    env: impl Fn(&str) -> Option<OsString>,
    host: &str,
    port: u16,
) -> Option<PathBuf> {
    let host = match host.trim_matches(['[', ']']) {
        "localhost" | "0.0.0.0" | "::" | "::1" => "127.0.0.1",
        other => other,
    };
    // Colons cannot stand in file names everywhere.
    let name = format!("{}_{port}.json", host.replace(':', "-"));
    Some(state_dir(env)?.join("servers").join(name))
}

fn dir(
    env: &impl Fn(&str) -> Option<OsString>,
    variable: &str,
    below_home: &[&str],
) -> Option<PathBuf> {
    let named = env(variable).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = match named {
        Some(path) => path,
        None => {
            let home = env("HOME").or_else(|| env("USERPROFILE"))?;
            let mut path = PathBuf::from(home);
            if !path.is_absolute() {
                return None;
            }
            path.extend(below_home);
            path
        }
    };
    Some(base.join("tidegate"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn rules() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| {
                pairs
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, v)| OsString::from(v))
            }
        };
        let home = env(&[("HOME", "/home/ann")]);
        assert_eq!(
            credentials_file(home).unwrap(),
            Path::new("/home/ann/.config/tidegate/credentials.json")
        );
        for host in ["127.0.0.1", "localhost", "0.0.0.0", "[::1]"] {
            assert_eq!(
                server_file(home, host, 8080).unwrap(),
                Path::new("/home/ann/.local/state/tidegate/servers/127.0.0.1_8080.json")
            );
        }
        let xdg = env(&[("HOME", "/home/ann"), ("XDG_CONFIG_HOME", "/cfg")]);
        assert_eq!(config_dir(xdg).unwrap(), Path::new("/cfg/tidegate"));
        let relative = env(&[("HOME", "/home/ann"), ("XDG_CONFIG_HOME", "cfg")]);
        assert_eq!(
            config_dir(relative).unwrap(),
            Path::new("/home/ann/.config/tidegate")
        );
        assert_eq!(config_dir(env(&[])), None);
    }
}
