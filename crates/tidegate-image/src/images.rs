//! The images of this machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{
    Credentials, Error, Image, ImageDigest, Progress, Pruned, Reference, Settings, Source,
};

/// The images of this machine, in one folder. A cheap handle.
#[derive(Clone)]
pub struct Images(#[allow(dead_code)] Arc<(PathBuf, Settings)>);

fn later<T>() -> Result<T, Error> {
    Err(Error::Unsupported {
        what: "this operation on images".to_owned(),
        why: "this version has the types only".to_owned(),
    })
}

#[allow(missing_docs, clippy::unused_async, clippy::missing_errors_doc)]
impl Images {
    pub fn open(folder: &Path, settings: Settings) -> Result<Self, Error> {
        Ok(Self(Arc::new((folder.to_owned(), settings))))
    }
    pub async fn pull(
        &self,
        _reference: &Reference,
        _credentials: &Credentials,
        _progress: Arc<dyn Progress>,
    ) -> Result<Image, Error> {
        later()
    }
    pub async fn import(
        &self,
        _source: Source,
        _name: Option<Reference>,
        _progress: Arc<dyn Progress>,
    ) -> Result<Vec<Image>, Error> {
        later()
    }
    #[must_use]
    pub fn resolve(&self, _reference: &Reference) -> Option<ImageDigest> {
        None
    }
    pub fn alias(&self, _name: &Reference, _digest: &ImageDigest) -> Result<(), Error> {
        later()
    }
    pub fn get(&self, _digest: &ImageDigest) -> Result<Image, Error> {
        later()
    }
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        later()
    }
    pub fn layers(&self, _digest: &ImageDigest) -> Result<Vec<PathBuf>, Error> {
        later()
    }
    pub fn user(&self, _digest: &ImageDigest, _user: &str) -> Result<(u32, u32), Error> {
        later()
    }
    pub async fn remove(&self, _name: &Reference) -> Result<bool, Error> {
        later()
    }
    pub async fn prune(
        &self,
        _keep: &(dyn Fn(&ImageDigest) -> bool + Sync),
    ) -> Result<Pruned, Error> {
        later()
    }
}
