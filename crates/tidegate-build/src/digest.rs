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
pub fn digest(mut from: impl Read) -> io::Result<String> {
    let mut context = Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => context.update(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let mut text = DIGEST_PREFIX.to_owned();
    for byte in context.finish().as_ref() {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
    Ok(text)
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
