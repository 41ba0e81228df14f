//! Blobs: bytes of any size, addressed by their digest.
//!
//! A blob is written under a temporary name, synced, checked, and only then renamed to its digest: under a digest there
//! is either nothing or all of it. What a crash leaves under temporary names is removed at the next start. Writing a
//! blob that is already there replaces it, which also heals one that was damaged.
//!
//! Everything goes through `object_store`, so that S3 or another bucket can take the place of the folder.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt as _};

use crate::folder::{self, Folder};
use crate::{Digest, OpenError};

/// Bytes of a blob held in memory while it is written. Buckets ask for parts of at least 5 MiB.
pub const PUT_PART_BYTES: usize = 5 * 1024 * 1024;
/// Where finished blobs are.
const FINISHED: &str = "sha256";
/// Where unfinished blobs are.
const UNFINISHED: &str = "unfinished";

/// Why a blob was not stored or not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// There is no such blob.
    #[error("blob {digest} does not exist")]
    NotFound {
        /// The digest asked for.
        digest: Digest,
    },
    /// The stored bytes are not those of the digest. What was already read of them must not be used.
    #[error("blob {digest} is damaged: its bytes have digest {found}")]
    Damaged {
        /// The digest asked for.
        digest: Digest,
        /// The digest of what is stored.
        found: Digest,
    },
    /// More bytes than were allowed.
    #[error("blob is larger than the {max} bytes allowed")]
    TooLarge {
        /// The limit, in bytes.
        max: u64,
    },
    /// The bytes given are not those announced.
    #[error("blob has digest {found}; announced was {expected}")]
    Mismatch {
        /// The digest announced.
        expected: Digest,
        /// The digest of the bytes given.
        found: Digest,
    },
    /// Whoever sent the bytes failed.
    #[error("reading the bytes to store: {0}")]
    Source(#[source] Box<dyn StdError + Send + Sync>),
    /// No room on the disk or in the quota.
    #[error("no room left for blobs in {}; free some space and retry", path.display())]
    Full {
        /// The folder.
        path: PathBuf,
    },
    /// The file system does not take writes.
    #[error("{} is read-only", path.display())]
    ReadOnly {
        /// The folder.
        path: PathBuf,
    },
    /// The storage failed otherwise.
    #[error("blobs in {}: {source}", path.display())]
    Storage {
        /// The folder.
        path: PathBuf,
        /// What it said.
        source: object_store::Error,
    },
}

/// All blobs of a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs {
    storage: Arc<dyn ObjectStore>,
    path: Arc<Path>,
    /// Held so that no other server removes unfinished blobs under us.
    folder: Arc<Folder>,
}

impl Blobs {
    /// Opens the folder and removes what an earlier run left unfinished; gives their number.
    pub(crate) fn open(path: &Path, data: Arc<Folder>) -> Result<(Self, usize), OpenError> {
        let unfinished = path.join(UNFINISHED);
        folder::make(&unfinished)?;
        let io = |source| OpenError::NotWritable {
            path: unfinished.clone(),
            source,
        };
        let mut removed = 0;
        for entry in std::fs::read_dir(&unfinished).map_err(io)? {
            std::fs::remove_file(entry.map_err(io)?.path()).map_err(io)?;
            removed += 1;
        }
        let storage = LocalFileSystem::new_with_prefix(path)
            .map_err(|error| OpenError::NotWritable {
                path: path.to_owned(),
                source: io::Error::other(error),
            })?
            .with_fsync(true);
        Ok((
            Self {
                storage: Arc::new(storage),
                path: path.into(),
                folder: data,
            },
            removed,
        ))
    }

    /// Blobs of somebody else's in a folder of this name beside these, which know nothing of one another. What an earlier
    /// run left unfinished there is removed.
    ///
    /// # Errors
    /// [`OpenError::NotWritable`].
    pub fn beside(&self, name: &str) -> Result<Self, OpenError> {
        Self::open(&self.path.join(name), Arc::clone(&self.folder)).map(|(blobs, _)| blobs)
    }

    /// Stores what the stream gives, up to `max_bytes`, and gives its digest, which must be the expected one if any.
    /// When this returns, the blob is on disk. Nothing remains of a blob that was refused or not finished.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`], [`BlobError::Mismatch`], [`BlobError::Source`], or what keeps the storage from writing.
    pub async fn put_stream<E>(
        &self,
        expected: Option<Digest>,
        source: impl Stream<Item = Result<Bytes, E>>,
        max_bytes: u64,
    ) -> Result<Digest, BlobError>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let temporary = Location::from_iter([UNFINISHED, &uuid::Uuid::now_v7().to_string()]);
        let mut upload = self
            .storage
            .put_multipart(&temporary)
            .await
            .map_err(|error| self.error(error))?;
        let result = self.write(&mut *upload, expected, source, max_bytes).await;
        let digest = match result {
            Ok(digest) => digest,
            Err(error) => {
                if let Err(abort) = upload.abort().await {
                    tracing::warn!(error = %abort, "an unfinished blob stays until the next start");
                }
                return Err(error);
            }
        };
        upload.complete().await.map_err(|error| self.error(error))?;
        self.storage
            .rename(&temporary, &location(&digest))
            .await
            .map_err(|error| self.error(error))?;
        Ok(digest)
    }

    async fn write<E>(
        &self,
        upload: &mut dyn object_store::MultipartUpload,
        expected: Option<Digest>,
        source: impl Stream<Item = Result<Bytes, E>>,
        max_bytes: u64,
    ) -> Result<Digest, BlobError>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let mut source = pin!(source);
        let mut hash = Context::new(&SHA256);
        let mut part = BytesMut::new();
        let mut total = 0u64;
        while let Some(chunk) = source.next().await {
            let mut chunk = chunk.map_err(|error| BlobError::Source(error.into()))?;
            total += chunk.len() as u64;
            if total > max_bytes {
                return Err(BlobError::TooLarge { max: max_bytes });
            }
            hash.update(&chunk);
            while !chunk.is_empty() {
                let room = PUT_PART_BYTES - part.len();
                part.extend_from_slice(&chunk.split_to(room.min(chunk.len())));
                if part.len() == PUT_PART_BYTES {
                    let full = part.split().freeze();
                    upload
                        .put_part(full.into())
                        .await
                        .map_err(|error| self.error(error))?;
                }
            }
        }
        if !part.is_empty() {
            upload
                .put_part(part.freeze().into())
                .await
                .map_err(|error| self.error(error))?;
        }
        let found = Digest::from_hash(&hash.finish());
        match expected {
            Some(expected) if expected != found => Err(BlobError::Mismatch { expected, found }),
            _ => Ok(found),
        }
    }

    /// Stores these bytes.
    ///
    /// # Errors
    /// What keeps the storage from writing.
    pub async fn put_bytes(&self, bytes: Bytes) -> Result<Digest, BlobError> {
        let length = bytes.len() as u64;
        self.put_stream(None, stream::iter([Ok::<_, io::Error>(bytes)]), length)
            .await
    }

    /// The size of a blob in bytes, and its bytes. The stream ends with [`BlobError::Damaged`] instead of a clean end if
    /// they are not those of the digest, so what is read counts only once the stream has ended.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], or what keeps the storage from reading.
    pub async fn get(
        &self,
        digest: &Digest,
    ) -> Result<
        (
            u64,
            impl Stream<Item = Result<Bytes, BlobError>> + Send + use<>,
        ),
        BlobError,
    > {
        let digest = *digest;
        let found = self
            .storage
            .get(&location(&digest))
            .await
            .map_err(|error| self.read_error(digest, error))?;
        let size = found.meta.size;
        let state = Some((found.into_stream(), Context::new(&SHA256)));
        let blobs = self.clone();
        let checked = stream::unfold((state, blobs), move |(state, blobs)| async move {
            let (mut bytes, mut hash) = state?;
            match bytes.next().await {
                Some(Ok(chunk)) => {
                    hash.update(&chunk);
                    Some((Ok(chunk), (Some((bytes, hash)), blobs)))
                }
                Some(Err(error)) => Some((Err(blobs.read_error(digest, error)), (None, blobs))),
                None => {
                    let found = Digest::from_hash(&hash.finish());
                    (found != digest)
                        .then(|| (Err(BlobError::Damaged { digest, found }), (None, blobs)))
                }
            }
        });
        Ok((size, checked))
    }

    /// The whole blob, checked, if it has at most `max_bytes`.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::TooLarge`], [`BlobError::Damaged`], or what keeps the storage from reading.
    pub async fn get_bytes(&self, digest: &Digest, max_bytes: u64) -> Result<Bytes, BlobError> {
        let (size, bytes) = self.get(digest).await?;
        if size > max_bytes {
            return Err(BlobError::TooLarge { max: max_bytes });
        }
        let mut bytes = pin!(bytes);
        let mut whole = BytesMut::with_capacity(usize::try_from(size).unwrap_or(0));
        while let Some(chunk) = bytes.next().await {
            whole.extend_from_slice(&chunk?);
        }
        Ok(whole.freeze())
    }

    /// Whether there is such a blob; its bytes are not looked at.
    ///
    /// # Errors
    /// What keeps the storage from reading.
    pub async fn exists(&self, digest: &Digest) -> Result<bool, BlobError> {
        Ok(self.size(digest).await?.is_some())
    }

    /// The size of a blob in bytes, if there is one; its bytes are not looked at.
    ///
    /// # Errors
    /// What keeps the storage from reading.
    pub async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        match self.storage.head(&location(digest)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error(error)),
        }
    }

    /// Removes a blob; false if there was none.
    ///
    /// # Errors
    /// What keeps the storage from writing.
    pub async fn delete(&self, digest: &Digest) -> Result<bool, BlobError> {
        match self.storage.delete(&location(digest)).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.error(error)),
        }
    }

    /// The digests of all blobs with their sizes in bytes, in no order.
    pub fn list(&self) -> impl Stream<Item = Result<(Digest, u64), BlobError>> + Send + use<> {
        let blobs = self.clone();
        self.storage
            .list(Some(&Location::from(FINISHED)))
            .filter_map(move |found| {
                let entry = match found {
                    Ok(meta) => meta
                        .location
                        .filename()
                        .and_then(Digest::from_hex)
                        .map(|digest| Ok((digest, meta.size))),
                    Err(error) => Some(Err(blobs.error(error))),
                };
                std::future::ready(entry)
            })
    }

    fn read_error(&self, digest: Digest, error: object_store::Error) -> BlobError {
        match error {
            object_store::Error::NotFound { .. } => BlobError::NotFound { digest },
            error => self.error(error),
        }
    }

    fn error(&self, error: object_store::Error) -> BlobError {
        let path = self.path.to_path_buf();
        let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
        while let Some(at) = cause {
            match at.downcast_ref::<io::Error>().map(io::Error::kind) {
                Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                    return BlobError::Full { path };
                }
                Some(io::ErrorKind::ReadOnlyFilesystem) => return BlobError::ReadOnly { path },
                _ => cause = at.source(),
            }
        }
        BlobError::Storage {
            path,
            source: error,
        }
    }
}

/// `sha256/ab/abcd…`: no folder grows beyond a 256th of all blobs.
fn location(digest: &Digest) -> Location {
    let hex = digest.hex();
    Location::from_iter([FINISHED, &hex[..2], &hex])
}
