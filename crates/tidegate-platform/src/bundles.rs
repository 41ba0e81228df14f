//! Bundles: archives unpacked on this machine, a folder a digest.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use tidegate_build::{UnpackLimits, unpack};
use tidegate_store::{Blobs, Digest};
use tokio::sync::Mutex;

/// File that names the boot of the machine during which the bundles were unpacked.
const BOOT: &str = "boot-id";
/// The bundle of functions whose code is all in an image. No digest is called so.
const EMPTY: &str = "empty";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

pub(crate) struct Bundles {
    folder: PathBuf,
    blobs: Blobs,
    /// One at a time: unpacking is bound by the disk, and two starts of one function must not do it twice.
    unpacking: Mutex<()>,
    /// Bundles known to be there, so that a start asks nobody.
    known: parking_lot::RwLock<HashSet<Digest>>,
    /// Archives that no function named at the last sweep.
    unused: parking_lot::Mutex<HashSet<Digest>>,
}

/// Why a bundle is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("code {digest} was not uploaded, or is gone: {source}")]
    Blob {
        digest: Digest,
        source: tidegate_store::BlobError,
    },
    #[error("code {digest} could not be unpacked: {source}")]
    Unpack {
        digest: Digest,
        source: tidegate_build::UnpackError,
    },
    #[error("bundle folder {path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
}

impl Bundles {
    pub(crate) fn new(folder: PathBuf, blobs: Blobs) -> std::io::Result<Self> {
        // Unpacking makes nothing durable, so after a crash of the machine a bundle may be half there.
        let boot = std::fs::read(BOOT_ID).unwrap_or_default();
        if std::fs::read(folder.join(BOOT)).ok().as_ref() != Some(&boot) {
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join(BOOT), boot)?;
        }
        std::fs::create_dir_all(folder.join(EMPTY))?;
        Ok(Self {
            folder,
            blobs,
            unpacking: Mutex::default(),
            known: parking_lot::RwLock::default(),
            unused: parking_lot::Mutex::default(),
        })
    }

    /// The folder of what a client sent, unpacked if it is not there.
    pub(crate) async fn source(&self, digest: &Digest) -> Result<PathBuf, BundleError> {
        self.get(digest, UnpackLimits::default()).await
    }

    /// The folder of a bundle or a layer, which a build may have made larger than what clients may send.
    pub(crate) async fn built(&self, digest: &Digest) -> Result<PathBuf, BundleError> {
        self.get(digest, UnpackLimits::layer()).await
    }

    /// A folder with nothing in it.
    pub(crate) fn empty(&self) -> PathBuf {
        self.folder.join(EMPTY)
    }

    async fn get(&self, digest: &Digest, limits: UnpackLimits) -> Result<PathBuf, BundleError> {
        let path = self.path(digest);
        if self.known.read().contains(digest) {
            return Ok(path);
        }
        let _one = self.unpacking.lock().await;
        if !tokio::fs::try_exists(&path).await.unwrap_or(false) {
            self.fetch(digest, &path, limits).await?;
        }
        self.known.write().insert(*digest);
        Ok(path)
    }

    async fn fetch(
        &self,
        digest: &Digest,
        path: &Path,
        limits: UnpackLimits,
    ) -> Result<(), BundleError> {
        let missing = |source| BundleError::Blob {
            digest: *digest,
            source,
        };
        // To a file first: unpacking blocks, and the archive may be larger than memory should hold.
        let io = |source| BundleError::Io {
            path: self.folder.clone(),
            source,
        };
        let mut file = tempfile::tempfile_in(&self.folder).map_err(io)?;
        let mut writer = tokio::fs::File::from_std(file.try_clone().map_err(io)?);
        let (_, bytes) = self.blobs.get(digest).await.map_err(missing)?;
        let mut bytes = std::pin::pin!(bytes);
        while let Some(part) = bytes.next().await {
            tokio::io::AsyncWriteExt::write_all(&mut writer, &part.map_err(missing)?)
                .await
                .map_err(io)?;
        }
        tokio::io::AsyncWriteExt::flush(&mut writer)
            .await
            .map_err(io)?;
        let dest = path.to_owned();
        std::io::Seek::rewind(&mut file).map_err(io)?;
        let unpacked = tokio::task::spawn_blocking(move || {
            unpack(std::io::BufReader::new(file), &dest, &limits)
        })
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        unpacked.map_err(|source| BundleError::Unpack {
            digest: *digest,
            source,
        })
    }

    /// Removes archives and bundles that no function names now and none named at the sweep before: a client uploads
    /// before it deploys, so what is unused only once may be about to be used. Returns how many archives went.
    pub(crate) async fn sweep(&self, used: &HashSet<Digest>) -> usize {
        let mut unused = HashSet::new();
        let mut listed = std::pin::pin!(self.blobs.list());
        while let Some(Ok((digest, _))) = listed.next().await {
            if !used.contains(&digest) {
                unused.insert(digest);
            }
        }
        let before = std::mem::replace(&mut *self.unused.lock(), unused.clone());
        let mut removed = 0;
        for digest in unused.intersection(&before) {
            match self.blobs.delete(digest).await {
                Ok(_) => removed += 1,
                Err(error) => tracing::warn!(%digest, %error, "unused code could not be removed"),
            }
            self.known.write().remove(digest);
            // Absent where it was never run.
            let _ = tokio::fs::remove_dir_all(self.path(digest)).await;
        }
        removed
    }

    /// Somebody is about to use this archive: the next sweep must not take it.
    pub(crate) fn wanted(&self, digest: &Digest) {
        self.unused.lock().remove(digest);
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }
}
