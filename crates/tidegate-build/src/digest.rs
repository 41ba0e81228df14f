//! Digests, written `sha256:` and 64 lower-case hexadecimal digits.

use std::fmt::Write as _;
use std::io::{self, Read};

use aws_lc_rs::digest::{Context, SHA256};

/// What every digest begins with.
pub const DIGEST_PREFIX: &str = "sha256:";

/// Bytes read at a time.
const CHUNK: usize = 64 << 10;

/// The digest of everything that the reader gives.
///
/// # Errors
/// The reader's own.
pub fn digest(from: impl Read) -> io::Result<String> {
    let mut context = Context::new(&SHA256);
    update(&mut context, from)?;
    Ok(DIGEST_PREFIX.to_owned() + &hex(context))
}

/// A digest over a list of fields, told apart by their lengths: no two lists have the same bytes.
pub(crate) struct Hasher(Context);

impl Hasher {
    pub(crate) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(crate) fn field(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// How many fields there are in what follows.
    pub(crate) fn count(&mut self, fields: usize) {
        self.0.update(&(fields as u64).to_le_bytes());
    }

    pub(crate) fn list(&mut self, fields: &[String]) {
        self.count(fields.len());
        for field in fields {
            self.field(field.as_bytes());
        }
    }

    /// The content as a field of fixed length, its own digest.
    pub(crate) fn file(&mut self, from: impl Read) -> io::Result<()> {
        self.field(digest(from)?.as_bytes());
        Ok(())
    }

    /// 64 digits.
    pub(crate) fn hex(self) -> String {
        hex(self.0)
    }
}

fn update(context: &mut Context, mut from: impl Read) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(n) => context.update(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn hex(context: Context) -> String {
    let mut text = String::with_capacity(64);
    for byte in context.finish().as_ref() {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_published_vector() {
        assert_eq!(
            digest(&b"abc"[..]).unwrap(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
