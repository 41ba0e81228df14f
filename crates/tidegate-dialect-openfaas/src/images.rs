//! Images, by the names that their senders gave them.
//!
//! An image is what a context was built to, so a deploy of it builds nothing. A function keeps what it was deployed with; the
//! image of that name may be another one by then, or gone.

use tidegate_openfaas::Image;
use tidegate_platform::{Error, Holds, Object, ObjectKey, Platform, Preconditions, Query};

const API_VERSION: &str = "openfaas.tidegate.dev/v1";
const KIND: &str = "Image";

/// Images that are kept, the newest. A pipeline that names each after its commit makes one with every push, and each keeps
/// its code.
const KEPT: usize = 200;

/// Registry that a name without one means, as its clients write it now and then.
const REGISTRY: &str = "docker.io/";

/// The code of images is kept, whether a function runs it or not.
pub struct Images;

impl Holds for Images {
    fn kind(&self) -> (&'static str, &'static str) {
        (API_VERSION, KIND)
    }

    fn code(&self, object: &Object) -> Vec<String> {
        match image(object) {
            Ok(image) => [Some(image.digest), image.layer]
                .into_iter()
                .flatten()
                .collect(),
            Err(error) => {
                tracing::error!(object = %object.key(), %error, "an image cannot be read");
                Vec::new()
            }
        }
    }
}

/// Keeps an image, in place of the one that had its name.
pub(crate) async fn put(platform: &Platform, image: &Image) -> Result<(), Error> {
    let spec = serde_json::to_value(image).map_err(|e| Error::Invalid(e.to_string()))?;
    platform
        .put(Object::with_spec(&key(&image.name)?, spec)?)
        .await?;
    forget_oldest(platform, KEPT).await
}

/// The image of this name.
pub(crate) async fn find(platform: &Platform, name: &str) -> Result<Option<Image>, Error> {
    match platform.get(&key(name)?).await {
        Ok(object) => image(&object).map(Some),
        Err(Error::Store(tidegate_platform::StoreError::NotFound { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

fn image(object: &Object) -> Result<Image, Error> {
    let spec = object.spec().cloned().unwrap_or_default();
    serde_json::from_value(spec).map_err(|e| Error::Invalid(e.to_string()))
}

pub(crate) async fn forget_oldest(platform: &Platform, kept: usize) -> Result<(), Error> {
    let (mut all, mut from) = (Vec::new(), None);
    loop {
        let query = Query::kind(API_VERSION, KIND);
        let page = platform.list(&query, Some(kept), from.as_deref()).await?;
        all.extend(page.items);
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    // Versions only grow, and an image that is built again is as good as new.
    all.sort_by_key(|object| std::cmp::Reverse(object.resource_version()));
    for object in all.iter().skip(kept) {
        let gone = platform
            .delete(object.key(), Preconditions::default())
            .await;
        match gone {
            // Another build was at the same.
            Err(Error::Store(tidegate_platform::StoreError::NotFound { .. })) => {}
            gone => drop(gone?),
        }
    }
    Ok(())
}

/// A name has slashes and colons, which an object's may not have: its digest stands for it. A name without a tag means the
/// same as with `:latest`.
fn key(name: &str) -> Result<ObjectKey, Error> {
    let short = name.strip_prefix(REGISTRY).unwrap_or(name);
    let last = short.rsplit('/').next().unwrap_or(short);
    let tagged = if last.contains(':') || last.contains('@') {
        short.to_owned()
    } else {
        format!("{short}:latest")
    };
    let word = tidegate_platform::Digest::of(tagged.as_bytes()).hex();
    Ok(ObjectKey::new(API_VERSION, KIND, "", &word[..32])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_the_same_are_the_same() {
        let same = |a: &str, b: &str| key(a).unwrap() == key(b).unwrap();
        assert!(same("hello", "hello:latest"));
        assert!(same(
            "docker.io/functions/alpine:latest",
            "functions/alpine"
        ));
        assert!(same("r.example:5000/hello", "r.example:5000/hello:latest"));
        assert!(!same("hello:1", "hello:2"));
        assert!(!same("hello", "r.example/hello"));
    }
}
