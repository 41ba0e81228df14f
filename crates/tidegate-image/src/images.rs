//! The images of this machine: the one handle that others have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::locks::Locks;
use crate::pull::blocking;
use crate::registry::Clients;
use crate::store::{Rubbish, Store};
use crate::{
    Credentials, Error, Image, ImageDigest, Progress, Pruned, Reference, Settings, Source, import,
    pull, users, view,
};

/// The images of this machine, in one folder. A cheap handle; one process at a time may have a folder open.
#[derive(Clone)]
pub struct Images(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) store: Arc<Store>,
    pub(crate) clients: Arc<Clients>,
    /// By diff id.
    pub(crate) locks: Locks,
    /// By the digest of what is fetched.
    pub(crate) blob_locks: Locks,
}

impl Images {
    /// Finds what is in the folder, which is made where it is not there, and throws away what was being made when the
    /// process before ended. Blocks, for longer the more that was.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(folder: &Path, settings: Settings) -> Result<Self, Error> {
        Ok(Self(Arc::new(Shared {
            settings,
            store: Arc::new(Store::open(folder)?),
            clients: Arc::default(),
            locks: Locks::default(),
            blob_locks: Locks::default(),
        })))
    }

    /// Fetches what the name stands for in its registry now, and names it so. Of what is here already only the manifest is
    /// asked for.
    ///
    /// Dropping the future ends it. What has come by then, parts of layers and whole ones, stays for a day and is gone on
    /// with; [`Self::prune`] removes it sooner. The same is true after [`Error::Unreachable`]; after another failure
    /// nothing stays.
    ///
    /// # Errors
    /// Any of [`Error`], but for those of users.
    pub async fn pull(
        &self,
        reference: &Reference,
        credentials: &Credentials,
        progress: Arc<dyn Progress>,
    ) -> Result<Image, Error> {
        pull::pull(&self.0, reference, credentials, progress).await
    }

    /// Takes images from this machine. The name is for the only one; without it, those count that an archive or layout has
    /// for them, and an image may end up with none.
    ///
    /// Dropping the future ends it, with what was unpacked by then as after [`Self::pull`].
    ///
    /// # Errors
    /// Any of [`Error`], but for those of registries; [`Error::Invalid`] for a name where there are several images.
    pub async fn import(
        &self,
        source: Source,
        name: Option<Reference>,
        progress: Arc<dyn Progress>,
    ) -> Result<Vec<Image>, Error> {
        import::import(&self.0, source, name, progress).await
    }

    /// What a name stands for on this machine; a name with a digest, also any image that has it.
    #[must_use]
    pub fn resolve(&self, reference: &Reference) -> Option<ImageDigest> {
        self.0.store.resolve(reference)
    }

    /// Gives an image one more name, which until then may have meant another. Blocks for a write.
    ///
    /// # Errors
    /// There is no such image, or the file system refuses.
    pub fn alias(&self, name: &Reference, digest: &ImageDigest) -> Result<(), Error> {
        self.0.store.name(name, digest)
    }

    /// The image of a digest.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn get(&self, digest: &ImageDigest) -> Result<Image, Error> {
        self.0.store.get(digest)
    }

    /// All images, by digest.
    ///
    /// # Errors
    /// None today.
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        Ok(self.0.store.list())
    }

    /// The folders of an image's layers, the lowest first, for an overlay that is mounted with `userxattr`. The lowest is
    /// always an empty folder, so there are at least one, and at least two of an image with a layer. From memory.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn layers(&self, digest: &ImageDigest) -> Result<Vec<PathBuf>, Error> {
        self.0.store.layers(digest)
    }

    /// User and group as numbers: of a name or number, or both with a colon between, as an image's configuration has them.
    /// Nothing is root. Blocks for a look at the image's `/etc/passwd` and `/etc/group`.
    ///
    /// # Errors
    /// [`Error::User`], or there is no such image.
    pub fn user(&self, digest: &ImageDigest, user: &str) -> Result<(u32, u32), Error> {
        let layers = self.layers(digest)?;
        users::resolve(user, |path| view::read(&layers, path, users::MAX_FILE))
    }

    /// A file of an image, as a program in it would see it; nothing where there is none, or no plain file. Blocks.
    ///
    /// # Errors
    /// There is no such image, the file is larger than `most` bytes, or the file system refuses.
    pub fn read(
        &self,
        digest: &ImageDigest,
        path: &str,
        most: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        view::read(&self.layers(digest)?, path, most)
    }

    /// Takes a name away. The image stays, even without any, until [`Self::prune`]. Tells whether it was there.
    ///
    /// # Errors
    /// The file system refuses.
    pub async fn remove(&self, name: &Reference) -> Result<bool, Error> {
        let (shared, name) = (Arc::clone(&self.0), name.clone());
        blocking(move || shared.store.unname(&name)).await
    }

    /// Removes all images, with their names, but those to keep; then layers that no image has, and parts of layers that
    /// nobody is fetching. What is removed must not be in use: an overlay over layers that go away breaks.
    ///
    /// # Errors
    /// The file system refuses. What could not be deleted then is gone after the next start.
    pub async fn prune(
        &self,
        keep: &(dyn Fn(&ImageDigest) -> bool + Sync),
    ) -> Result<Pruned, Error> {
        let unwanted: Vec<ImageDigest> = self
            .0
            .store
            .digests()
            .into_iter()
            .filter(|digest| !keep(digest))
            .collect();
        let shared = Arc::clone(&self.0);
        blocking(move || shared.prune(unwanted)).await
    }
}

impl Shared {
    fn prune(&self, unwanted: Vec<ImageDigest>) -> Result<Pruned, Error> {
        let mut rubbish = Rubbish::default();
        let mut pruned = Pruned::default();
        for digest in unwanted {
            if self.store.drop_image(&digest, &mut rubbish)? {
                pruned.images.push(digest);
            }
        }
        (pruned.layers, pruned.bytes) = self.store.drop_layers(None, &mut rubbish)?;
        for (digest, path, size) in self.store.parts()? {
            let Some(_free) = self.blob_locks.try_lock(&digest) else {
                continue;
            };
            if std::fs::remove_file(&path).is_ok() {
                pruned.layers += 1;
                pruned.bytes += size;
            }
        }
        rubbish.delete()?;
        Ok(pruned)
    }
}
