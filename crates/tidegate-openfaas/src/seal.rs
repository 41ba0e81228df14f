//! Secrets of a build, sealed so that only the builder reads them.
//!
//! The names are plain, each value is a NaCl box for the builder's key from a key made for this one sealing, behind the nonce
//! that it was made with.

use std::collections::BTreeMap;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_box::aead::Aead as _;
use crypto_box::{Nonce, PublicKey as BoxPublic, SalsaBox, SecretKey};
use serde::{Deserialize, Serialize};

use crate::build::PublicKey;

/// The one way of sealing there is.
pub const ALGORITHM: &str = "nacl/box";

/// The one version of the format.
const VERSION: &str = "v1";

/// Letters of a key's id: the first of the key itself.
const KEY_ID: usize = 8;

/// Length of a key in bytes.
const KEY: usize = 32;

/// Length of a nonce in bytes.
const NONCE: usize = 24;

/// Most secrets of one build: there are fewer places that a build reads any from.
const MAX_SECRETS: usize = 64;

/// The builder's key.
#[derive(Clone)]
pub struct KeyPair(SecretKey);

/// The sealed secrets of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Sealed {
    version: String,
    algorithm: String,
    key_id: String,
    /// The sender's.
    public_key: String,
    secrets: BTreeMap<String, String>,
}

/// Why secrets cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It is not of the form.
    #[error("build secrets cannot be read: {0}")]
    Form(String),
    /// Another version of the form.
    #[error("build secrets have version {0:?}; \"v1\" is known here")]
    Version(String),
    /// Another way of sealing.
    #[error("build secrets are sealed with {0:?}; \"nacl/box\" is known here")]
    Algorithm(String),
    /// For somebody else.
    #[error(
        "build secrets are sealed for key {given:?}, and this builder's is {ours:?}: fetch it from /publickey and seal again"
    )]
    KeyId {
        /// The one that they name.
        given: String,
        /// This builder's.
        ours: String,
    },
    /// No key.
    #[error("{0} is no public key: a key is 32 bytes in base64")]
    Key(String),
    /// Damaged, or for somebody else.
    #[error("build secret {0:?} cannot be opened: it is damaged, or was sealed for another key")]
    Open(String),
    /// More than anybody needs.
    #[error("there are {0} build secrets; at most {MAX_SECRETS} are taken")]
    Many(usize),
    /// No randomness.
    #[error("this machine gives no random bytes")]
    Random,
}

/// Seals secrets for a builder: the entry [`crate::build::SECRETS_ENTRY`].
///
/// # Errors
/// The key is none, or of another algorithm.
pub fn seal(to: &PublicKey, secrets: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, SealError> {
    if !(to.algorithm.is_empty() || to.algorithm == ALGORITHM) {
        return Err(SealError::Algorithm(to.algorithm.clone()));
    }
    let receiver = public(&to.public_key)?;
    let sender = KeyPair::new()?;
    let cipher = SalsaBox::new(&receiver, &sender.0);
    let mut sealed = Sealed {
        version: VERSION.to_owned(),
        algorithm: ALGORITHM.to_owned(),
        key_id: to.public_key.chars().take(KEY_ID).collect(),
        public_key: sender.public().public_key,
        secrets: BTreeMap::new(),
    };
    for (name, value) in secrets {
        let nonce = random::<NONCE>()?;
        let mut bytes = nonce.to_vec();
        let boxed = cipher.encrypt(Nonce::from_slice(&nonce), &**value);
        bytes.extend(boxed.map_err(|_| SealError::Open(name.clone()))?);
        sealed.secrets.insert(name.clone(), STANDARD.encode(bytes));
    }
    // JSON is YAML too, and needs no writer of its own.
    serde_json::to_vec(&sealed).map_err(|e| SealError::Form(e.to_string()))
}

fn public(text: &str) -> Result<BoxPublic, SealError> {
    let bytes = STANDARD.decode(text.trim()).ok();
    let bytes: Option<[u8; KEY]> = bytes.and_then(|bytes| bytes.try_into().ok());
    match bytes {
        Some(bytes) => Ok(BoxPublic::from(bytes)),
        None => Err(SealError::Key(format!("{text:?}"))),
    }
}

fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| SealError::Random)?;
    Ok(bytes)
}

// === impl KeyPair ===

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KeyPair")
            .field(&self.public().key_id)
            .finish()
    }
}

impl KeyPair {
    /// A new one.
    ///
    /// # Errors
    /// The machine gives no random bytes.
    pub fn new() -> Result<Self, SealError> {
        Ok(Self(SecretKey::from(random::<KEY>()?)))
    }

    /// The one that was kept as these bytes.
    ///
    /// # Errors
    /// There are not 32.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let bytes: [u8; KEY] = bytes
            .try_into()
            .map_err(|_| SealError::Key(format!("what is kept, {} bytes,", bytes.len())))?;
        Ok(Self(SecretKey::from(bytes)))
    }

    /// What has to be kept of it, and from everybody else.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// What everybody may have.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let public_key = STANDARD.encode(self.0.public_key().as_bytes());
        PublicKey {
            key_id: public_key.chars().take(KEY_ID).collect(),
            algorithm: ALGORITHM.to_owned(),
            public_key,
        }
    }

    /// The secrets by their names.
    ///
    /// # Errors
    /// They are of another form, sealed in another way or for another key, or damaged; never shows a value.
    pub fn open(&self, sealed: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, SealError> {
        let text = std::str::from_utf8(sealed)
            .map_err(|_| SealError::Form("they are not text".to_owned()))?;
        let sealed: Sealed =
            serde_saphyr::from_str(text).map_err(|e| SealError::Form(e.to_string()))?;
        if sealed.version != VERSION {
            return Err(SealError::Version(sealed.version));
        }
        if sealed.algorithm != ALGORITHM {
            return Err(SealError::Algorithm(sealed.algorithm));
        }
        let ours = self.public().key_id;
        if !(sealed.key_id.is_empty() || sealed.key_id == ours) {
            return Err(SealError::KeyId {
                given: sealed.key_id,
                ours,
            });
        }
        if sealed.secrets.len() > MAX_SECRETS {
            return Err(SealError::Many(sealed.secrets.len()));
        }
        let cipher = SalsaBox::new(&public(&sealed.public_key)?, &self.0);
        let mut opened = BTreeMap::new();
        for (name, value) in sealed.secrets {
            let bytes = STANDARD.decode(value.trim()).unwrap_or_default();
            let value = bytes
                .split_at_checked(NONCE)
                .and_then(|(nonce, boxed)| cipher.decrypt(Nonce::from_slice(nonce), boxed).ok());
            match value {
                Some(value) => opened.insert(name, value),
                None => return Err(SealError::Open(name)),
            };
        }
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> BTreeMap<String, Vec<u8>> {
        [
            ("pip-conf".to_owned(), b"[global]\n".to_vec()),
            ("empty".to_owned(), Vec::new()),
            ("binary".to_owned(), vec![0, 255, 254]),
        ]
        .into()
    }

    #[test]
    fn what_was_sealed_is_opened_by_its_key_alone() {
        let (ours, theirs) = (KeyPair::new().unwrap(), KeyPair::new().unwrap());
        let sealed = seal(&ours.public(), &secrets()).unwrap();
        assert_eq!(ours.open(&sealed).unwrap(), secrets());
        let again = KeyPair::from_bytes(&ours.to_bytes()).unwrap();
        assert_eq!(again.open(&sealed).unwrap(), secrets());
        assert!(matches!(theirs.open(&sealed), Err(SealError::KeyId { .. })));
        // Nor where it claims to be for them.
        let text = String::from_utf8(sealed).unwrap();
        let claimed = text.replace(&ours.public().key_id, &theirs.public().key_id);
        assert!(matches!(
            theirs.open(claimed.as_bytes()),
            Err(SealError::Open(_))
        ));
    }

    #[test]
    fn what_is_not_known_is_named() {
        let key = KeyPair::new().unwrap();
        for (text, said) in [
            (
                "version: v9\nalgorithm: nacl/box\n",
                "build secrets have version \"v9\"; \"v1\" is known here",
            ),
            (
                "version: v1\nalgorithm: aes-gcm\n",
                "build secrets are sealed with \"aes-gcm\"; \"nacl/box\" is known here",
            ),
            (
                "version: v1\nalgorithm: nacl/box\npublic_key: AAAA\n",
                "\"AAAA\" is no public key: a key is 32 bytes in base64",
            ),
        ] {
            assert_eq!(key.open(text.as_bytes()).unwrap_err().to_string(), said);
        }
        let for_others = "version: v1\nalgorithm: nacl/box\nkey_id: AbCdEfGh\n";
        let error = key.open(for_others.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("sealed for key \"AbCdEfGh\""), "{error}");
    }

    /// A box of another implementation's, PyNaCl 1.6.
    #[test]
    fn boxes_of_others_are_opened() {
        let key = KeyPair::from_bytes(&[7; 32]).unwrap();
        assert_eq!(key.public().public_key, VECTOR.0);
        let sealed = format!(
            "version: v1\nalgorithm: nacl/box\nkey_id: {}\npublic_key: {}\nsecrets:\n  api_key: {}\n",
            &VECTOR.0[..KEY_ID],
            VECTOR.1,
            VECTOR.2
        );
        let opened = key.open(sealed.as_bytes()).unwrap();
        assert_eq!(opened["api_key"], b"sk-live-1234");
    }

    /// The public key of the secret key of 32 sevens, that of the sender with 32 nines, and nonce of 24 fives with the box.
    const VECTOR: (&str, &str, &str) = (
        "E75P6uryBMf9M1j8nAByGIHRdCeBKCJ+xnTzf3/pe20=",
        "V9tLNZ8jrl4Ubk4lEgVnBHIlBjSMFQwUdT0Mkz0E1CE=",
        "BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFUhUZv0wnq3F6847ToF3N0ZzGmMM37gJ67lhOFw==",
    );
}
