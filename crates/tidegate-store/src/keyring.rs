//! Seals secrets before they reach a disk, so that a copy of the data without the key folder tells nothing.
//!
//! XChaCha20-Poly1305 with a random nonce: its 192 bits can be drawn blindly for any number of secrets. What the secret
//! belongs to (say, the uid of its object and the field) goes in as associated data, so that a sealed value moved to
//! another place does not open.
//!
//! `secrets.key` seals and opens. Other files named `secrets-*.key` only open: to change the key, rename the old file
//! so, and the next start makes a new one; what is sealed again afterwards uses it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::digest::hex;
use crate::folder;
use crate::{Digest, OpenError};

/// The form of the envelope: version, key id, nonce, ciphertext with its tag.
const VERSION: u8 = 1;
const KEY: usize = 32;
const KEY_ID: usize = 8;
const NONCE: usize = 24;
const HEADER: usize = 1 + KEY_ID;
/// Most old keys that are read; someone who changes it daily should seal again now and then.
const MAX_KEYS: usize = 64;

/// Why a key or a secret cannot be used. Never contains either.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// Others on this machine can read the key.
    #[error("{} has mode {mode:04o} and can be read by others; run chmod 600 on it, and consider changing the key", path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file does not hold a key.
    #[error("{} has {found} bytes; expected a key of {KEY} bytes", path.display())]
    NotAKey {
        /// The key file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
    },
    /// More old keys than are read.
    #[error("{} has more than {MAX_KEYS} keys; remove those no longer needed", path.display())]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
    /// The key folder cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The folder or the file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The secret was sealed with a key that is not here.
    #[error("the secret was sealed with key {id}, which is not in the key folder")]
    UnknownKey {
        /// The key's id, in hexadecimal.
        id: String,
    },
    /// Not an envelope of this release.
    #[error("this is not a sealed secret of version {VERSION}")]
    NotSealed,
    /// The envelope was changed, or belongs to something else.
    #[error("the sealed secret does not open: it was changed, or it belongs elsewhere")]
    Forged,
    /// Nothing random to be had.
    #[error("the system gave no random numbers")]
    NoRandom,
}

/// The keys of a store. Cheap to clone.
#[derive(Clone)]
pub struct Keyring {
    /// The first one seals.
    keys: Arc<[Key]>,
}

struct Key {
    id: [u8; KEY_ID],
    cipher: XChaCha20Poly1305,
}

impl Keyring {
    /// Reads the keys in `folder`, and makes the sealing one if there is none.
    pub(crate) fn open(folder: &Path) -> Result<Self, OpenError> {
        folder::make(folder)?;
        Ok(Self::read(folder)?)
    }

    fn read(folder: &Path) -> Result<Self, KeyringError> {
        let io = |source| KeyringError::Io {
            path: folder.to_owned(),
            source,
        };
        let current = folder.join("secrets.key");
        if !current.try_exists().map_err(io)? {
            make_key(folder, &current)?;
        }
        let mut keys = vec![read_key(&current)?];
        for entry in fs::read_dir(folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = entry.file_name();
            let old = name
                .to_str()
                .is_some_and(|name| name.starts_with("secrets-") && name.ends_with(".key"));
            if old && keys.len() == MAX_KEYS {
                return Err(KeyringError::TooMany {
                    path: folder.to_owned(),
                });
            }
            if old {
                keys.push(read_key(&entry.path())?);
            }
        }
        Ok(Self { keys: keys.into() })
    }

    /// Seals a secret that belongs to `aad`.
    ///
    /// # Errors
    /// [`KeyringError::NoRandom`].
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, KeyringError> {
        let key = &self.keys[0];
        let mut nonce = [0; NONCE];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| KeyringError::NoRandom)?;
        let mut sealed = vec![VERSION];
        sealed.extend_from_slice(&key.id);
        let aad = bind(&sealed, aad);
        let secret = key
            .cipher
            .encrypt(
                &XNonce::from(nonce),
                Payload {
                    msg: plaintext,
                    aad: &aad,
                },
            )
            .map_err(|_| KeyringError::Forged)?;
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&secret);
        Ok(sealed)
    }

    /// Opens what [`seal`](Self::seal) gave for the same `aad`.
    ///
    /// # Errors
    /// [`KeyringError::NotSealed`], [`KeyringError::UnknownKey`], or [`KeyringError::Forged`].
    pub fn open_sealed(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, KeyringError> {
        let (header, rest) = sealed
            .split_at_checked(HEADER)
            .ok_or(KeyringError::NotSealed)?;
        let (nonce, secret) = rest
            .split_first_chunk::<NONCE>()
            .ok_or(KeyringError::NotSealed)?;
        if header[0] != VERSION {
            return Err(KeyringError::NotSealed);
        }
        let id = &header[1..];
        let key = self
            .keys
            .iter()
            .find(|key| key.id == id)
            .ok_or_else(|| KeyringError::UnknownKey { id: hex(id) })?;
        key.cipher
            .decrypt(
                &XNonce::from(*nonce),
                Payload {
                    msg: secret,
                    aad: &bind(header, aad),
                },
            )
            .map_err(|_| KeyringError::Forged)
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring")
            .field("keys", &self.keys.len())
            .finish()
    }
}

/// The header is bound as well: it has a fixed length, so no other aad gives the same bytes.
fn bind(header: &[u8], aad: &[u8]) -> Vec<u8> {
    [header, aad].concat()
}

/// Makes a key under a temporary name first: half a key must never stand where a key is expected.
fn make_key(folder: &Path, path: &Path) -> Result<(), KeyringError> {
    let io = |source| KeyringError::Io {
        path: path.to_owned(),
        source,
    };
    let mut key = [0; KEY];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| KeyringError::NoRandom)?;
    let temporary = folder.join("secrets.key.new");
    // Only a crash in the middle of this function leaves one behind, and nothing was sealed with it.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(io)?;
    file.write_all(&key)
        .and_then(|()| file.sync_all())
        .map_err(io)?;
    fs::rename(&temporary, path)
        .and_then(|()| folder::sync(folder))
        .map_err(io)
}

fn read_key(path: &Path) -> Result<Key, KeyringError> {
    let io = |source| KeyringError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyringError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    if metadata.len() != KEY as u64 {
        return Err(KeyringError::NotAKey {
            path: path.to_owned(),
            found: metadata.len(),
        });
    }
    let mut key = [0; KEY];
    file.read_exact(&mut key).map_err(io)?;
    let name = Digest::of(&[b"tidegate key id 1\n".as_slice(), &key].concat());
    let id = name.as_bytes()[..KEY_ID]
        .try_into()
        .expect("a digest is longer than a key id");
    Ok(Key {
        id,
        cipher: XChaCha20Poly1305::new(&key.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(folder: &Path) -> Keyring {
        Keyring::open(folder).unwrap()
    }

    #[test]
    fn opens_only_unchanged_and_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let keys = keyring(dir.path());
        let sealed = keys.seal(b"here", b"secret").unwrap();
        assert_ne!(sealed, keys.seal(b"here", b"secret").unwrap());
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(
            keyring(dir.path()).open_sealed(b"here", &sealed).unwrap(),
            b"secret"
        );
        assert!(matches!(
            keys.open_sealed(b"there", &sealed),
            Err(KeyringError::Forged)
        ));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(keys.open_sealed(b"here", &changed).is_err(), "byte {at}");
            assert!(
                keys.open_sealed(b"here", &sealed[..at]).is_err(),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn a_renamed_key_still_opens_and_a_removed_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let sealed = keyring(dir.path()).seal(b"", b"old").unwrap();
        let (current, old) = (
            dir.path().join("secrets.key"),
            dir.path().join("secrets-2026.key"),
        );
        fs::rename(&current, &old).unwrap();
        let both = keyring(dir.path());
        assert_eq!(both.open_sealed(b"", &sealed).unwrap(), b"old");
        let newer = both.seal(b"", b"new").unwrap();
        fs::remove_file(&old).unwrap();
        let one = keyring(dir.path());
        assert_eq!(one.open_sealed(b"", &newer).unwrap(), b"new");
        assert!(matches!(
            one.open_sealed(b"", &sealed),
            Err(KeyringError::UnknownKey { .. })
        ));
    }

    #[test]
    fn keys_that_others_read_or_that_are_none_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        keyring(dir.path());
        let path = dir.path().join("secrets.key");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Keyring::open(dir.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("mode 0{mode:o}")), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        let error = Keyring::open(dir.path()).unwrap_err().to_string();
        assert!(
            error.ends_with("secrets.key has 5 bytes; expected a key of 32 bytes"),
            "{error}"
        );
    }
}
