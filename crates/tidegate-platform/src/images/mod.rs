//! Images: where they come from, which are kept, and what a function that names one becomes.
//!
//! A name may come to mean another image, so a function never runs a name: it is resolved when the function is deployed,
//! and what it meant then stands in the revision. A client that asks first has the digest in its document; else the
//! controller pulls the image, says so in the status, and keeps there what the name was. Names that are known here are
//! not asked for again: whoever wants what a registry has now pulls it, and deploys.
//!
//! What is pulled is shared by all namespaces, as layers are; the credentials for it are a namespace's own.

mod credentials;
mod deploy;
mod furnish;
mod kept;
mod runtimes;

use std::path::PathBuf;
use std::sync::Arc;

use tidegate_image::{
    Credentials, Image, ImageDigest, Images, Progress, Reference, Settings, Source,
};

pub(crate) use deploy::Furnished;
pub use furnish::ImageUse;
pub use kept::PrunedImages;
pub use runtimes::{AddedRuntime, RUNTIME_KIND};

use crate::{Error, Platform};

/// Pulls and imports at the same time: each has several connections or a disk's whole attention.
const AT_ONCE: usize = 4;

/// Digits of a digest that are enough to name an image by.
const SHORT: usize = 6;

/// Where images are kept, and what they may be.
#[derive(Clone, Debug)]
pub struct ImageOptions {
    /// Where they are kept.
    pub folder: PathBuf,
    /// Their bounds, and how registries are spoken to.
    pub settings: Settings,
    /// The registries that images may come from, as names have them; any where absent.
    pub registries: Option<Vec<String>>,
    /// The Docker configuration whose credentials are used where a namespace's own have none for a registry.
    pub docker_config: Option<PathBuf>,
}

/// What is shown to a registry.
#[derive(Clone, Debug)]
pub enum Login<'a> {
    /// These credentials.
    Given(Credentials),
    /// Those of these secrets of the namespace, each a Docker configuration, or else those of the server's own.
    Secrets(&'a [String]),
}

pub(crate) struct ImageStore {
    images: Images,
    registries: Option<Vec<String>>,
    docker_config: Option<PathBuf>,
    room: tokio::sync::Semaphore,
}

/// What the image of a function was when it was deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageStatus {
    /// As the document names it.
    pub name: String,
    /// Digest of its manifest.
    pub digest: String,
}

impl ImageStore {
    pub(crate) async fn open(options: ImageOptions) -> Result<Self, Error> {
        let ImageOptions {
            folder,
            settings,
            registries,
            docker_config,
        } = options;
        let opened = tokio::task::spawn_blocking(move || Images::open(&folder, settings)).await;
        Ok(Self {
            images: crate::builds::joined(opened)?,
            registries,
            docker_config,
            room: tokio::sync::Semaphore::new(AT_ONCE),
        })
    }
}

impl Platform {
    /// Gets an image from its registry, whether or not its name is known here. Dropped, it ends; what has come is kept for
    /// the next try.
    ///
    /// # Errors
    /// Why there is no such image.
    pub async fn pull_image(
        &self,
        namespace: &str,
        name: &Reference,
        login: Login<'_>,
        progress: Arc<dyn Progress>,
    ) -> Result<Image, Error> {
        let (store, registry) = (self.image_store(), name.registry());
        if let Some(known) = &store.registries
            && !known.iter().any(|known| known == registry)
        {
            let known = match known.len() {
                0 => "none".to_owned(),
                _ => known.join(", "),
            };
            return Err(Error::Invalid(format!(
                "registry {registry} is not one that images may come from: the setting 'images.registries' has {known}"
            )));
        }
        let credentials = match login {
            Login::Given(credentials) => credentials,
            Login::Secrets(names) => self.registry_login(namespace, name, names).await?,
        };
        let _room = store.room.acquire().await;
        let image = store.images.pull(name, &credentials, progress).await?;
        tracing::info!(image = %name, digest = %image.digest, "pulled an image");
        Ok(image)
    }

    /// Takes images from a file or folder of this machine. What has a name in it keeps that; another name goes to its only
    /// image.
    ///
    /// # Errors
    /// It holds no images, or what they may not.
    pub async fn import_image(
        &self,
        source: Source,
        name: Option<Reference>,
        progress: Arc<dyn Progress>,
    ) -> Result<Vec<Image>, Error> {
        let store = self.image_store();
        let _room = store.room.acquire().await;
        Ok(store.images.import(source, name, progress).await?)
    }

    /// Every image that is here.
    ///
    /// # Errors
    /// What keeps the folder from being read.
    pub fn images(&self) -> Result<Vec<Image>, Error> {
        Ok(self.image_store().images.list()?)
    }

    /// An image by its name, its digest, or the first digits of that.
    ///
    /// # Errors
    /// It is not here.
    pub fn image(&self, word: &str) -> Result<Image, Error> {
        let images = &self.image_store().images;
        if let Ok(digest) = word.parse::<ImageDigest>() {
            return Ok(images.get(&digest)?);
        }
        if let Some(image) = self.known_image(word)? {
            return Ok(image);
        }
        let is_short = word.len() >= SHORT && word.bytes().all(|b| b.is_ascii_hexdigit());
        if is_short {
            let mut like = images.list()?;
            like.retain(|image| image.digest.hex().starts_with(word));
            match like.len() {
                0 => {}
                1 => return Ok(like.remove(0)),
                n => {
                    return Err(Error::Invalid(format!(
                        "{word:?} is the beginning of {n} images' digests: give more of it"
                    )));
                }
            }
        }
        Err(Error::NotFound(format!(
            "image {word:?} is not here; get it with 'tidegate image pull {word}' or 'tidegate image import'"
        )))
    }

    /// The image that a name means here, without asking a registry.
    ///
    /// # Errors
    /// It is no name, or what it meant cannot be read.
    pub fn known_image(&self, name: &str) -> Result<Option<Image>, Error> {
        self.image_here(&image_name(name)?)
    }

    /// The same for a name that has been read. The digest in one may be that of an index, which stands for one image here.
    fn image_here(&self, name: &Reference) -> Result<Option<Image>, Error> {
        let images = &self.image_store().images;
        match images.resolve(name).map(|digest| images.get(&digest)) {
            Some(Ok(image)) => Ok(Some(image)),
            None | Some(Err(tidegate_image::Error::NotFound { .. })) => Ok(None),
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// Gives an image that is here a further name.
    ///
    /// # Errors
    /// It is not here, or the name is none.
    pub fn alias_image(&self, name: &str, word: &str) -> Result<Image, Error> {
        let name = image_name(name)?;
        if name.digest().is_some() {
            return Err(Error::Invalid(format!(
                "image name {:?} has a digest, which is no name to choose",
                name.to_string()
            )));
        }
        let digest = self.image(word)?.digest;
        self.image_store().images.alias(&name, &digest)?;
        self.image(digest.as_str())
    }

    pub(crate) fn image_layers(&self, digest: &str) -> Result<Vec<PathBuf>, Error> {
        let digest = digest
            .parse()
            .map_err(|e: tidegate_image::DigestError| Error::Invalid(e.to_string()))?;
        Ok(self.image_store().images.layers(&digest)?)
    }
}

/// The name of an image as a client wrote it.
pub(crate) fn image_name(text: &str) -> Result<Reference, Error> {
    text.parse()
        .map_err(|e: tidegate_image::ReferenceError| Error::Invalid(e.to_string()))
}
