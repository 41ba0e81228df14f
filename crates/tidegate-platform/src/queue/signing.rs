//! The keys that receivers of answers know the server by.
//!
//! There is one secret in the queue's folder, and each namespace has a key that follows from it: whoever is given the key
//! of one can check what comes from that one, and forge nothing of another's.

use std::io;
use std::path::Path;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use tidegate_queue::SigningKey;

/// The file of the secret.
const FILE: &str = "signing-key";
/// Bytes of the secret.
const BYTES: usize = 32;

/// The keys of all namespaces.
#[derive(Clone)]
pub(crate) struct Keys(hmac::Key);

impl Keys {
    /// Reads the secret, or makes one.
    pub(crate) async fn load(folder: &Path) -> io::Result<Self> {
        let path = folder.join(FILE);
        let read = tokio::task::spawn_blocking(move || read_or_make(&path)).await;
        let secret = read.map_err(io::Error::other)??;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
    }

    pub(crate) fn of(&self, namespace: &str) -> SigningKey {
        // What is shown to people is what they sign with.
        SigningKey::new(self.shown(namespace).as_bytes())
    }

    /// A namespace's key as its owner is told it.
    pub(crate) fn shown(&self, namespace: &str) -> String {
        let tag = hmac::sign(&self.0, namespace.as_bytes());
        tag.as_ref().iter().map(|b| format!("{b:02x}")).collect()
    }
}

fn read_or_make(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    match std::fs::read(path) {
        Ok(secret) if secret.len() == BYTES => return Ok(secret),
        Ok(secret) => {
            return Err(io::Error::other(format!(
                "{} has {} bytes, and not {BYTES}",
                path.display(),
                secret.len()
            )));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut secret = vec![0; BYTES];
    SystemRandom::new()
        .fill(&mut secret)
        .map_err(|_| io::Error::other("the system gives no random bytes"))?;
    // Written beside and moved, so that a crash leaves none or a whole one.
    let fresh = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_stay_and_differ_by_namespace() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::load(folder.path()).await.unwrap();
        let again = Keys::load(folder.path()).await.unwrap();
        assert_eq!(keys.shown("team"), again.shown("team"));
        assert_ne!(keys.shown("team"), keys.shown("other"));
        std::fs::write(folder.path().join(FILE), "short").unwrap();
        assert!(Keys::load(folder.path()).await.is_err());
    }
}
