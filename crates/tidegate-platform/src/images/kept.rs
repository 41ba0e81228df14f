//! Which images are kept.

use std::collections::HashSet;

use tidegate_image::Image;
use tidegate_store::Query;

use super::image_name;
use crate::{Error, Platform, Status, revisions};

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrunedImages {
    /// So many images.
    pub images: usize,
    /// So many bytes on the disk.
    pub bytes: u64,
}

impl Platform {
    /// Takes a name from an image, or all of its names where the word is its digest. What functions run stays on the disk
    /// until they no longer do; everything else goes when it is pruned.
    ///
    /// # Errors
    /// It is not here, or the disk.
    pub async fn remove_image(&self, word: &str) -> Result<Image, Error> {
        let image = self.image(word)?;
        let images = &self.image_store().images;
        let only = image_name(word).ok().map(|name| name.to_string());
        let named = only.filter(|name| image.names.contains(name));
        let names = match named {
            Some(name) => vec![name],
            None => image.names.clone(),
        };
        for name in names {
            images.remove(&image_name(&name)?).await?;
        }
        Ok(image)
    }

    /// Removes images that no function and no runtime uses, and their names; with `unnamed`, only those that have none.
    ///
    /// # Errors
    /// What keeps the store or the disk from being read.
    pub async fn prune_images(&self, unnamed: bool) -> Result<PrunedImages, Error> {
        // Nothing may be deployed between the look and the removal.
        let _placing = self.placing().lock().await;
        let used = self.used_images().await?;
        let images = &self.image_store().images;
        let named: HashSet<String> = if unnamed {
            let all = images.list()?.into_iter();
            all.filter(|image| !image.names.is_empty())
                .map(|image| image.digest.to_string())
                .collect()
        } else {
            HashSet::new()
        };
        let keep = |digest: &tidegate_image::ImageDigest| {
            used.contains(digest.as_str()) || named.contains(digest.as_str())
        };
        let pruned = images.prune(&keep).await?;
        Ok(PrunedImages {
            images: pruned.images.len(),
            bytes: pruned.bytes,
        })
    }

    /// Digests of the images that functions run or are about to, that revisions could be rolled back to, and that are
    /// runtimes.
    async fn used_images(&self) -> Result<HashSet<String>, Error> {
        let mut used = HashSet::new();
        for lower in self.kinds() {
            let (api_version, kind) = lower.kind();
            for object in self.list_all(&Query::kind(api_version, kind)).await? {
                used.extend(Status::of(&object).image.map(|image| image.digest));
                let Some(wanted) = self.lower(&object).ok().and_then(|l| l.image) else {
                    continue;
                };
                // One that is named, and was not dealt with yet.
                let known = self.known_image(&wanted.name).ok().flatten();
                used.extend(known.map(|image| image.digest.to_string()));
                used.extend(wanted.digest);
            }
        }
        for object in self.list_all(&revisions::all()).await? {
            let root = revisions::spec_of(&object).and_then(|spec| spec.root);
            used.extend(root.map(|root| root.image));
        }
        used.extend(self.added_runtimes().await?.into_iter().map(|r| r.digest));
        Ok(used)
    }
}
