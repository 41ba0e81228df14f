//! Digests of content, and a reader that makes one of what passes through it.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// What every digest that is accepted begins with. The specification knows others, but no registry serves them.
const PREFIX: &str = "sha256:";
/// Hexadecimal digits after it.
const DIGITS: usize = 64;

/// `sha256:` and 64 lower-case hexadecimal digits: of an image's manifest, or of a blob.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageDigest(Box<str>);

/// A digest in a form that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a digest: expected sha256: and 64 lower-case hexadecimal digits")]
pub struct DigestError(String);

impl ImageDigest {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(bytes);
        finish(context)
    }

    /// All of it, with its prefix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 digits alone: what files are called.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0[PREFIX.len()..]
    }

    /// The first twelve digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }
}

impl FromStr for ImageDigest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let fine = text.strip_prefix(PREFIX).is_some_and(|hex| {
            hex.len() == DIGITS
                && hex
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        });
        if fine {
            Ok(Self(text.into()))
        } else {
            Err(DigestError(text.chars().take(100).collect()))
        }
    }
}

impl TryFrom<String> for ImageDigest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<ImageDigest> for String {
    fn from(digest: ImageDigest) -> Self {
        digest.0.into()
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Digests and counts what is read through it.
pub(crate) struct Hashing<R> {
    from: R,
    hasher: Hasher,
}

/// The digest and length of what it is given, piece by piece.
#[derive(Clone)]
pub(crate) struct Hasher {
    context: Context,
    length: u64,
}

impl Hasher {
    pub(crate) fn new() -> Self {
        Self {
            context: Context::new(&SHA256),
            length: 0,
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.length += bytes.len() as u64;
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn finish(self) -> ImageDigest {
        finish(self.context)
    }
}

impl<R> Hashing<R> {
    pub(crate) fn new(from: R) -> Self {
        Self {
            from,
            hasher: Hasher::new(),
        }
    }

    /// The digest of what was read, and what it was read from.
    pub(crate) fn into_parts(self) -> (ImageDigest, R) {
        (self.hasher.finish(), self.from)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(into)?;
        self.hasher.update(&into[..n]);
        Ok(n)
    }
}

fn finish(context: Context) -> ImageDigest {
    use fmt::Write as _;
    let mut text = String::with_capacity(PREFIX.len() + DIGITS);
    text.push_str(PREFIX);
    for byte in context.finish().as_ref() {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
    ImageDigest(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn agrees_with_the_published_vector() {
        assert_eq!(ImageDigest::of(b"abc").as_str(), ABC);
        let mut hashing = Hashing::new(&b"abc"[..]);
        io::copy(&mut hashing, &mut io::sink()).unwrap();
        assert_eq!(hashing.into_parts().0.as_str(), ABC);
    }

    #[test]
    fn only_one_form_is_accepted() {
        for text in [
            "",
            "sha256:",
            "sha512:ba78",
            &ABC.to_uppercase(),
            &ABC.replace("ba78", "../.."),
            &format!("{ABC}0"),
        ] {
            assert!(text.parse::<ImageDigest>().is_err(), "{text}");
        }
    }
}
