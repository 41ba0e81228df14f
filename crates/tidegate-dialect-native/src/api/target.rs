//! Which function a request is for.

use axum::http::StatusCode;
use tidegate_core::{FunctionRef, Name};
use tidegate_platform::{Object, ObjectKey, Platform, canonical_namespace};

use super::Answer;
use crate::document::{API_VERSION, FUNCTION};
use crate::error::ApiError;

pub(super) fn function_key(namespace: &str, name: &str) -> Answer<ObjectKey> {
    let check = |what: &str, text: &str| {
        Name::new(text).map_err(|e| ApiError::invalid(format!("{what} {e}")))
    };
    let namespace = canonical_namespace(namespace);
    check("namespace:", namespace)?;
    check("function:", name)?;
    ObjectKey::new(API_VERSION, FUNCTION, namespace, name)
        .map_err(|e| tidegate_platform::Error::Store(e).into())
}

/// A function of ours, to change it.
pub(super) async fn get_object(platform: &Platform, key: &ObjectKey) -> Answer<Object> {
    match platform.get(key).await {
        Err(error) => {
            let refused = not_there(error, key);
            if refused.status == StatusCode::NOT_FOUND {
                platform
                    .require_own(place(key), (API_VERSION, FUNCTION))
                    .await?;
            }
            Err(refused)
        }
        found => Ok(found?),
    }
}

/// A function, whichever dialect's it is.
pub(super) async fn readable(platform: &Platform, key: &ObjectKey) -> Answer<Object> {
    match platform.owner_of(place(key)).await? {
        Some(owner) => platform.get(&owner).await.map_err(|e| not_there(e, key)),
        None => Err(no_function(key)),
    }
}

/// Where a function of ours is called.
pub(super) fn place(key: &ObjectKey) -> FunctionRef<'_> {
    FunctionRef {
        namespace: key.namespace(),
        group: "",
        name: key.name(),
    }
}

pub(super) fn not_there(error: tidegate_platform::Error, key: &ObjectKey) -> ApiError {
    match error {
        tidegate_platform::Error::Store(tidegate_platform::StoreError::NotFound { .. }) => {
            no_function(key)
        }
        error => error.into(),
    }
}

pub(super) fn no_function(key: &ObjectKey) -> ApiError {
    ApiError::not_found(format!(
        "function {:?} does not exist in namespace {:?}",
        key.name(),
        key.namespace()
    ))
}
