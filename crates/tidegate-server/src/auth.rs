//! The admin key.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use subtle::ConstantTimeEq as _;

use crate::Error;

/// File of the admin key below the data folder.
pub const ADMIN_KEY_FILE: &str = "admin.key";

/// What stands before the key in basic credentials: the only user there is.
const USER: &[u8] = b"admin:";

/// Random bytes in a key.
const KEY_BYTES: usize = 24;
/// Longest key that is read: a person may have put their own there.
const MAX_KEY: u64 = 4096;

/// Who may use the control routes.
#[derive(Clone)]
pub(crate) enum Keys {
    /// Whoever sends this.
    Admin(Box<str>),
    /// Anyone.
    Open,
}

impl Keys {
    /// Reads the admin key, and makes one at the first start.
    pub(crate) fn load(data: &Path) -> Result<Self, Error> {
        let path = data.join(ADMIN_KEY_FILE);
        let failed = |source| Error::File {
            path: path.clone(),
            source,
        };
        match std::fs::File::open(&path) {
            Ok(file) => {
                let mode = file.metadata().map_err(failed)?.permissions().mode();
                if mode & 0o077 != 0 {
                    return Err(failed(io::Error::other(format!(
                        "is open to other users (mode {:03o}): chmod 600 it, or delete it to get a new key",
                        mode & 0o777
                    ))));
                }
                let mut key = String::new();
                file.take(MAX_KEY)
                    .read_to_string(&mut key)
                    .map_err(failed)?;
                let key = key.trim();
                if key.len() < 16 {
                    return Err(failed(io::Error::other(
                        "holds no key of at least 16 characters; delete it to get a new one",
                    )));
                }
                Ok(Self::Admin(key.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = fresh().map_err(failed)?;
                let temporary = path.with_extension("key.new");
                let mut file = std::fs::OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&temporary)
                    .map_err(failed)?;
                writeln!(file, "{key}")
                    .and_then(|()| file.sync_all())
                    .map_err(failed)?;
                std::fs::rename(&temporary, &path).map_err(failed)?;
                Ok(Self::Admin(key.into()))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The admin's key; `None` where none is needed.
    pub(crate) fn admin(&self) -> Option<Arc<[u8]>> {
        match self {
            Self::Admin(key) => Some(key.as_bytes().into()),
            Self::Open => None,
        }
    }

    /// Whether the request's credential is the admin's: the key as a bearer token, or as the password of `admin`. Takes as
    /// long for a nearly right key as for a wrong one.
    pub(crate) fn is_admin(&self, headers: &HeaderMap) -> bool {
        let Self::Admin(key) = self else { return true };
        let Some((scheme, given)) = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
        else {
            return false;
        };
        let given = given.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return given.as_bytes().ct_eq(key.as_bytes()).into();
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return false;
        }
        let pair = STANDARD.decode(given).unwrap_or_default();
        let Some(password) = pair.strip_prefix(USER) else {
            return false;
        };
        password.ct_eq(key.as_bytes()).into()
    }
}

/// `tg_` and random hexadecimal digits from the kernel.
fn fresh() -> io::Result<String> {
    let mut bytes = [0; KEY_BYTES];
    // So few bytes come whole or not at all.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes
        .iter()
        .fold(String::from("tg_"), |key, byte| format!("{key}{byte:02x}")))
}
