//! Languages' runtimes that are images, so that functions do not depend on what the machine has.

use serde::{Deserialize, Serialize};
use tidegate_image::Image;
use tidegate_store::{Object, ObjectKey, Preconditions, Query};

use crate::{Error, Platform};

const API_VERSION: &str = "tidegate.dev/v1";

/// `kind` of a runtime that is an image.
pub const RUNTIME_KIND: &str = "Runtime";

/// Longest version in bytes.
const MAX_VERSION: usize = 64;

/// A runtime that is an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedRuntime {
    /// What functions call it: `python:3.13`, or `python` alone, which then is not the machine's own any more.
    pub name: String,
    /// Name of the image, as it was given.
    pub image: String,
    /// What that was.
    pub digest: String,
}

impl Platform {
    /// Makes a runtime of an image that is here. Functions that name it, whether it was there before or not, get new
    /// instances.
    ///
    /// # Errors
    /// It is no runtime's name, or the image is not here.
    pub async fn add_runtime(&self, name: &str, image: &str) -> Result<AddedRuntime, Error> {
        let key = key(name)?;
        let language = name.split(':').next().unwrap_or(name);
        let known = self.runtimes();
        if !known
            .iter()
            .any(|r| r.name == language && !is_compiled(&r.name))
        {
            let names: Vec<_> = known
                .iter()
                .map(|r| r.name.as_str())
                .filter(|name| !is_compiled(name))
                .collect();
            return Err(Error::Invalid(format!(
                "runtime {language:?} is none that an image can be; choose one of {}, with a version after a colon if need be",
                names.join(", ")
            )));
        }
        // What is unused may be removed until it is written that this is not.
        let _placing = self.placing().lock().await;
        let digest = self.image(image)?.digest.to_string();
        let added = AddedRuntime {
            name: name.to_owned(),
            image: image.to_owned(),
            digest,
        };
        let spec = serde_json::to_value(&added).map_err(|e| Error::Invalid(e.to_string()))?;
        let object = Object::with_spec(&key, spec)?;
        self.store().objects().put(object).await?;
        Ok(added)
    }

    /// The runtimes that are images, by name.
    ///
    /// # Errors
    /// The store cannot read.
    pub async fn added_runtimes(&self) -> Result<Vec<AddedRuntime>, Error> {
        let all = self
            .list_all(&Query::kind(API_VERSION, RUNTIME_KIND))
            .await?;
        Ok(all.iter().filter_map(read).collect())
    }

    /// Whether functions can name this runtime because it is an image.
    ///
    /// # Errors
    /// The store cannot read.
    pub async fn added_runtime(&self, name: &str) -> Result<Option<AddedRuntime>, Error> {
        let Ok(key) = key(name) else {
            return Ok(None);
        };
        match self.store().objects().get(&key).await {
            Ok(object) => Ok(read(&object)),
            Err(tidegate_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a runtime that is an image; one that functions use only when forced.
    ///
    /// # Errors
    /// It is not there, or is used.
    pub async fn remove_runtime(&self, name: &str, force: bool) -> Result<(), Error> {
        let missing = || Error::NotFound(format!("no image is the runtime {name:?}"));
        let key = key(name).map_err(|_| missing())?;
        let users = self.users_of_runtime(name).await?;
        if !force && !users.is_empty() {
            return Err(Error::InUse(format!(
                "runtime {name:?} is used by {}",
                users.join(", ")
            )));
        }
        let gone = self
            .store()
            .objects()
            .delete(&key, Preconditions::default())
            .await;
        match gone {
            Err(tidegate_store::Error::NotFound { .. }) => Err(missing()),
            gone => gone.map(drop).map_err(Error::from),
        }
    }

    /// The image that is this runtime, if one is.
    pub(super) async fn runtime_image(&self, name: &str) -> Result<Option<Image>, Error> {
        match self.added_runtime(name).await? {
            Some(added) => Ok(Some(self.image(&added.digest)?)),
            None => Ok(None),
        }
    }

    async fn users_of_runtime(&self, name: &str) -> Result<Vec<String>, Error> {
        let mut users = Vec::new();
        for lower in self.kinds() {
            let (api_version, kind) = lower.kind();
            for object in self.list_all(&Query::kind(api_version, kind)).await? {
                let lowered = self.lower(&object);
                if lowered.is_ok_and(|l| l.image.is_none() && l.spec.runtime == name) {
                    users.push(object.key().name().to_owned());
                }
            }
        }
        users.sort();
        Ok(users)
    }
}

/// What the kernel runs has no interpreter.
fn is_compiled(runtime: &str) -> bool {
    matches!(runtime, "executable" | "go" | "rust" | "image")
}

fn read(object: &Object) -> Option<AddedRuntime> {
    AddedRuntime::deserialize(object.spec()?).ok()
}

/// A colon may not be in an object's name, and a point may not be beside one.
fn key(name: &str) -> Result<ObjectKey, Error> {
    let (language, version) = match name.split_once(':') {
        Some((language, version)) => (language, Some(version)),
        None => (name, None),
    };
    let is_word = |text: &str| {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        bytes.len() <= MAX_VERSION
            && bytes.iter().all(|b| fits(*b))
            && edge(bytes.first())
            && edge(bytes.last())
            && !text.contains("..")
    };
    if !is_word(language) || !version.is_none_or(is_word) {
        return Err(Error::Invalid(format!(
            "{name:?} is no name of a runtime; expected one such as python:3.13"
        )));
    }
    // Two dashes are no part of a language's name, so that no two names meet.
    let word = match version {
        Some(version) => format!("{language}--{version}"),
        None => language.to_owned(),
    };
    Ok(ObjectKey::new(API_VERSION, RUNTIME_KIND, "", &word)?)
}
