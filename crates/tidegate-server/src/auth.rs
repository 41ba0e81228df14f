//! The admin key.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Uri, header};
use subtle::ConstantTimeEq as _;

use crate::{Error, guard};

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
        let key = key.as_bytes();
        match Given::of(headers) {
            Some(Given::Token(token)) => token.as_bytes().ct_eq(key).into(),
            Some(Given::Pair(pair)) => pair
                .strip_prefix(USER)
                .is_some_and(|password| password.ct_eq(key).into()),
            None => false,
        }
    }

    /// Whether a call may be made that is the admin's alone. As [`Keys::is_admin`], but that a password does not count
    /// which a browser adds by itself: calls come from the web pages of others, too.
    pub(crate) fn may_call(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let by_browser = || {
            matches!(Given::of(headers), Some(Given::Pair(_)))
                && guard::is_of_another_page(uri, headers)
        };
        self.is_admin(headers) && !by_browser()
    }
}

/// A credential.
enum Given<'a> {
    /// A bearer's.
    Token(&'a str),
    /// User and password, a colon between them.
    Pair(Vec<u8>),
}

impl<'a> Given<'a> {
    fn of(headers: &'a HeaderMap) -> Option<Self> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, given) = value.split_once(' ')?;
        let given = given.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Self::Token(given));
        }
        let pair = STANDARD.decode(given).ok();
        pair.filter(|_| scheme.eq_ignore_ascii_case("basic"))
            .map(Self::Pair)
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn sent(fields: &[(&'static str, &str)]) -> HeaderMap {
        let fields = fields.iter().map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, HeaderValue::from_str(value).unwrap())
        });
        fields.collect()
    }

    #[test]
    fn the_key_is_a_token_or_the_password_of_the_one_user() {
        let keys = Keys::Admin("secret".into());
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for (value, good) in [
            ("Bearer secret".to_owned(), true),
            ("bearer  secret ".to_owned(), true),
            ("Bearer Secret".to_owned(), false),
            ("Bearer ".to_owned(), false),
            ("Bearer".to_owned(), false),
            ("secret".to_owned(), false),
            (basic("admin:secret"), true),
            (basic("admin:secret2"), false),
            (basic("root:secret"), false),
            (basic("secret"), false),
            ("Basic secret".to_owned(), false),
        ] {
            let headers = sent(&[("authorization", &value)]);
            assert_eq!(keys.is_admin(&headers), good, "{value}");
            assert!(Keys::Open.is_admin(&headers));
        }
        assert!(!keys.is_admin(&HeaderMap::new()));
    }

    #[test]
    fn a_password_that_a_browser_adds_makes_no_call_of_anothers_page() {
        let keys = Keys::Admin("secret".into());
        let uri = Uri::from_static("/function/private");
        let basic = format!("Basic {}", STANDARD.encode("admin:secret"));
        for (credential, origin, may) in [
            (&*basic, "http://localhost", true),
            (&basic, "https://evil.example", false),
            // Whoever knows the key may send it from anywhere.
            ("Bearer secret", "https://app.example", true),
        ] {
            let headers = sent(&[
                ("host", "localhost"),
                ("authorization", credential),
                ("origin", origin),
            ]);
            assert_eq!(keys.may_call(&uri, &headers), may, "{credential} {origin}");
        }
    }
}
