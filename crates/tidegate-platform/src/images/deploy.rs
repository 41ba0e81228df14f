//! What a function's image is, when the function is deployed.

use std::sync::Arc;

use tidegate_image::{Image, ImageDigest, Reference};
use tidegate_store::Object;

use super::furnish::{furnish, on_runtime};
use super::{ImageStatus, Login, image_name};
use crate::{Error, FunctionSpec, LowerError, Lowered, Phase, Platform, Status};

/// A lowered document whose image is known.
pub(crate) enum Furnished {
    /// It is here; what is to be written into the status.
    Here(Box<FunctionSpec>, Option<ImageStatus>),
    /// It could not be had at an earlier try, which nobody has asked to repeat.
    GivenUp,
    /// A newer generation came while it was pulled.
    Overtaken,
}

impl Platform {
    /// Says at once what is wrong with a document's image, if the image is here already.
    ///
    /// # Errors
    /// What would keep the function from being made ready.
    pub fn check_image(&self, lowered: &Lowered) -> Result<(), Error> {
        let Some(wanted) = &lowered.image else {
            return Ok(());
        };
        let mut name = image_name(&wanted.name)?;
        if let Some(digest) = &wanted.digest {
            name = name.at(&parsed(digest)?);
        }
        if let Some(image) = self.image_here(&name)? {
            self.furnished(lowered, &image)
                .map_err(|e| Error::Invalid(e.to_string()))?;
        }
        Ok(())
    }

    /// The specification of a document with its image's part in it. The image is pulled where it is not here; meanwhile the
    /// status says so, and the document and the status that are given become those with that in them.
    pub(crate) async fn furnish(
        &self,
        object: &mut Object,
        before: &mut Status,
        lowered: &Lowered,
    ) -> Result<Furnished, Error> {
        let Some(wanted) = &lowered.image else {
            let spec = match self.runtime_image(&lowered.spec.runtime).await? {
                Some(image) => on_runtime(&lowered.spec, &image),
                None => lowered.spec.clone(),
            };
            return Ok(Furnished::Here(Box::new(spec), None));
        };
        let name = image_name(&wanted.name)?;
        let digest = self.meant(&name, wanted.digest.as_deref(), before)?;
        let name = digest.map_or(name.clone(), |digest| name.at(&digest));
        let image = match self.image_here(&name)? {
            Some(image) => image,
            None => {
                if before.phase == Phase::Failed && before.is_settled(object.generation()) {
                    return Ok(Furnished::GivenUp);
                }
                self.tell_of_pull(object, before, &wanted.name).await?;
                let namespace = lowered.key.namespace.clone();
                let login = Login::Secrets(&wanted.pull_secrets);
                let pulling = self.pull_image(&namespace, &name, login, Arc::new(()));
                tokio::select! {
                    pulled = pulling => pulled?,
                    () = self.overtaken(object.key(), object.generation()) => {
                        return Ok(Furnished::Overtaken);
                    }
                }
            }
        };
        let spec = self
            .furnished(lowered, &image)
            .map_err(|e| Error::Invalid(e.to_string()))?;
        let status = ImageStatus {
            name: wanted.name.clone(),
            digest: image.digest.to_string(),
        };
        Ok(Furnished::Here(Box::new(spec), Some(status)))
    }

    /// The digest that a name stands for in this document, if that is known: because the document says so, or because it
    /// was pulled for an earlier generation that named the same. A change of scale must not bring another image.
    fn meant(
        &self,
        name: &Reference,
        said: Option<&str>,
        before: &Status,
    ) -> Result<Option<ImageDigest>, Error> {
        let earlier = before
            .image
            .as_ref()
            .filter(|image| image_name(&image.name).is_ok_and(|earlier| earlier == *name));
        let earlier = earlier.map(|image| image.digest.as_str());
        let text = match name.digest() {
            // It can mean nothing else, and may be the digest of an index, which only a registry tells from.
            Some(_) => earlier.or(said),
            None => said.or(earlier),
        };
        match text {
            Some(text) => parsed(text).map(Some),
            None => Ok(name.digest().cloned()),
        }
    }

    fn furnished(&self, lowered: &Lowered, image: &Image) -> Result<FunctionSpec, LowerError> {
        let Some(wanted) = &lowered.image else {
            return Ok(lowered.spec.clone());
        };
        furnish(&lowered.spec, wanted, image, |user| {
            self.image_store()
                .images
                .user(&image.digest, user)
                .map_err(|e| e.to_string())
        })
    }

    async fn tell_of_pull(
        &self,
        object: &mut Object,
        before: &mut Status,
        name: &str,
    ) -> Result<(), Error> {
        let status = Status {
            phase: Phase::Pending,
            message: format!("Pulling image {name}"),
            ..before.clone()
        };
        if status != *before {
            let value = serde_json::to_value(&status).map_err(|e| Error::Invalid(e.to_string()))?;
            let changed = object.clone().replace_status(value)?;
            *object = self.store().objects().update_status(changed).await?;
            *before = status;
        }
        Ok(())
    }
}

fn parsed(digest: &str) -> Result<ImageDigest, Error> {
    digest
        .parse()
        .map_err(|e: tidegate_image::DigestError| Error::Invalid(e.to_string()))
}
