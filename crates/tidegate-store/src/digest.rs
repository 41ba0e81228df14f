//! The name of a blob: the SHA-256 of its bytes, written `sha256:` and 64 lower-case hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// The prefix of the written form.
const PREFIX: &str = "sha256:";

/// A SHA-256 digest. Checked when read, so that it can stand in a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

/// A text that is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("digest is {found:?}; expected \"sha256:\" and 64 lower-case hexadecimal digits")]
pub struct DigestError {
    found: String,
}

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(&digest(&SHA256, bytes))
    }

    pub(crate) fn from_hash(hash: &aws_lc_rs::digest::Digest) -> Self {
        Self(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// The digest that is these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 64 hexadecimal digits alone.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// The bytes of the digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads the 64 hexadecimal digits alone.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let bytes: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(out))
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.strip_prefix(PREFIX)
            .and_then(Self::from_hex)
            .ok_or_else(|| DigestError {
                found: text.chars().take(100).collect(),
            })
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [b >> 4, b & 15])
        .map(|n| char::from(DIGITS[usize::from(n)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_form() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(empty.parse(), Ok(Digest::of(b"")));
        assert_eq!(
            serde_json::to_string(&Digest::of(b"")).unwrap(),
            format!("{empty:?}")
        );
        let too_long = format!("{empty}0");
        let capitals = empty.to_uppercase();
        for text in [
            "",
            "sha256:",
            &empty[7..],
            &empty[..70],
            &too_long,
            &capitals,
            "sha256:../../etc/passwd",
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
