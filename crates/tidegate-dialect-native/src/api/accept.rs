//! What is stored of what a client sent, and what is refused at once.

use serde::Serialize;
use tidegate_platform::{Object, ObjectKey, Platform, canonical_namespace};

use super::{Answer, unreadable};
use crate::document::{API_VERSION, FunctionSpec, Metadata};
use crate::error::ApiError;

/// What is stored of a document: what the client says of it, with the key that it was sent to.
pub(super) fn stored(
    metadata: &Metadata,
    spec: &impl Serialize,
    key: &ObjectKey,
) -> Answer<Object> {
    let mut kept = serde_json::json!({ "name": key.name(), "namespace": key.namespace() });
    for (field, given) in [
        ("labels", &metadata.labels),
        ("annotations", &metadata.annotations),
    ] {
        if !given.is_empty() {
            kept[field] = serde_json::to_value(given).map_err(unreadable)?;
        }
    }
    for (field, given) in [
        ("uid", &metadata.uid),
        ("resourceVersion", &metadata.resource_version),
    ] {
        if !given.is_empty() {
            kept[field] = given.as_str().into();
        }
    }
    let document = serde_json::json!({
        "apiVersion": API_VERSION,
        "kind": key.kind(),
        "metadata": kept,
        "spec": serde_json::to_value(spec).map_err(unreadable)?,
    });
    Object::new(document).map_err(|e| tidegate_platform::Error::Store(e).into())
}

/// `said`: its apiVersion and its kind.
pub(super) fn check_identity(said: [&str; 2], metadata: &Metadata, key: &ObjectKey) -> Answer<()> {
    let same = |field: &str, given: &str, wanted: &str| {
        if given.is_empty() || given == wanted {
            return Ok(());
        }
        Err(ApiError::invalid(format!(
            "{field} is {given:?}, but the request is for {wanted:?}"
        )))
    };
    same("apiVersion", said[0], API_VERSION)?;
    same("kind", said[1], key.kind())?;
    same("metadata.name", &metadata.name, key.name())?;
    same(
        "metadata.namespace",
        canonical_namespace(&metadata.namespace),
        key.namespace(),
    )
}

pub(super) async fn check_runtime(platform: &Platform, spec: &FunctionSpec) -> Answer<()> {
    if platform.added_runtime(&spec.runtime).await?.is_some() {
        return Ok(());
    }
    let runtimes = platform.runtimes();
    let (name, version) = match spec.runtime.split_once(':') {
        Some((name, version)) => (name, Some(version)),
        None => (spec.runtime.as_str(), None),
    };
    let described = || {
        let all: Vec<_> = runtimes
            .iter()
            .map(|r| match (&r.available, &r.version) {
                (Ok(_), Some(version)) => format!("{}:{version}", r.name),
                (Ok(_), None) => r.name.clone(),
                (Err(how), _) => format!("{} (missing: {how})", r.name),
            })
            .collect();
        all.join(", ")
    };
    let wrong = |what: &str| {
        Err(ApiError::invalid(format!(
            "spec.runtime: {what} {:?}; this machine has {}",
            spec.runtime,
            described()
        )))
    };
    match runtimes.iter().find(|runtime| runtime.name == name) {
        None => wrong("unknown runtime"),
        Some(runtime) => match (&runtime.available, version, &runtime.version) {
            (Err(_), _, _) => wrong("missing runtime"),
            (Ok(_), Some(wanted), Some(found))
                if found == wanted || found.starts_with(&format!("{wanted}.")) =>
            {
                Ok(())
            }
            // Compiled, or run by nobody: whatever is here is used.
            (Ok(_), Some(_), None) => wrong("no version can be named of runtime"),
            (Ok(_), Some(_), Some(_)) => {
                let added = platform.added_runtimes().await?;
                let added: Vec<_> = added.iter().map(|runtime| runtime.name.as_str()).collect();
                Err(other_version(&spec.runtime, &described(), &added))
            }
            (Ok(_), None, _) => Ok(()),
        },
    }
}

/// There is the language, but in another version: an image can bring the one that is wanted.
fn other_version(wanted: &str, machine: &str, images: &[&str]) -> ApiError {
    let images = if images.is_empty() {
        "none".to_owned()
    } else {
        images.join(", ")
    };
    ApiError::invalid(format!(
        "spec.runtime: no {wanted:?} here: this machine has {machine}, and runtimes that are images are {images}; \
         'tidegate runtime add {wanted} --image IMAGE' makes one of an image"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::target::function_key;
    use super::*;
    use crate::document::Function;

    fn check(document: &Function, key: &ObjectKey) -> Answer<()> {
        let said = [&*document.api_version, &*document.kind];
        check_identity(said, &document.metadata, key)
    }

    #[test]
    fn a_version_that_is_not_here_may_come_from_an_image() {
        let told = other_version(
            "python:3.13",
            "go, python:3.11.2",
            &["node:22", "python:3.12"],
        );
        assert_eq!(
            told.body.error,
            "spec.runtime: no \"python:3.13\" here: this machine has go, python:3.11.2, and runtimes that are images are \
             node:22, python:3.12; 'tidegate runtime add python:3.13 --image IMAGE' makes one of an image"
        );
    }

    #[test]
    fn a_document_is_for_where_it_is_sent() {
        for (namespace, name, good) in [
            ("", "", true),
            ("default", "f", true),
            // Another system's word for the same place, but only where a namespace stands.
            ("guest", "f", true),
            ("default", "guest", false),
            ("team", "f", false),
        ] {
            let document: Function = serde_json::from_value(serde_json::json!({
                "metadata": { "name": name, "namespace": namespace },
                "spec": { "runtime": "python", "code": { "digest": "", "entry": "" } },
            }))
            .unwrap();
            let key = function_key("default", "f").unwrap();
            assert_eq!(check(&document, &key).is_ok(), good, "{namespace}/{name}");
        }
        let named: Function = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "guest" },
            "spec": { "runtime": "python", "code": { "digest": "", "entry": "" } },
        }))
        .unwrap();
        assert!(check(&named, &function_key("default", "guest").unwrap()).is_ok());
    }
}
