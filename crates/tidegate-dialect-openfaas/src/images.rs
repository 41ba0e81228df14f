//! Images, by the names that their senders gave them.

use tidegate_openfaas::Image;
use tidegate_platform::{Error, Object, ObjectKey, Platform};

const API_VERSION: &str = "openfaas.tidegate.dev/v1";
const KIND: &str = "Image";

/// Keeps an image, in place of the one that had its name.
pub(crate) async fn put(platform: &Platform, image: &Image) -> Result<(), Error> {
    let spec = serde_json::to_value(image).map_err(|e| Error::Invalid(e.to_string()))?;
    platform
        .put(Object::with_spec(&key(&image.name)?, spec)?)
        .await?;
    Ok(())
}

/// The image of this name.
pub(crate) async fn find(platform: &Platform, name: &str) -> Result<Option<Image>, Error> {
    match platform.get(&key(name)?).await {
        Ok(object) => {
            let spec = object.spec().cloned().unwrap_or_default();
            let image = serde_json::from_value(spec).map_err(|e| Error::Invalid(e.to_string()))?;
            Ok(Some(image))
        }
        Err(Error::Store(tidegate_platform::StoreError::NotFound { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A name has slashes and colons, which an object's may not have: its digest stands for it. A name without a tag means the
/// same as with `:latest`.
fn key(name: &str) -> Result<ObjectKey, Error> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let tagged = if last.contains(':') || last.contains('@') {
        name.to_owned()
    } else {
        format!("{name}:latest")
    };
    let word = tidegate_platform::Digest::of(tagged.as_bytes()).hex();
    Ok(ObjectKey::new(API_VERSION, KIND, "", &word[..32])?)
}
