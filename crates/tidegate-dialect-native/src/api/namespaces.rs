//! Namespaces.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use tidegate_platform::{Error, StoreError, canonical_namespace};

use super::{Answer, Context, parse};
use crate::document::{ErrorBody, Namespace, NamespaceList};
use crate::error::ApiError;
use crate::render;

/// What a request says of a namespace. Of labels and annotations, those that it leaves out stay as they are.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    metadata: WantedMetadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WantedMetadata {
    name: String,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

/// Namespaces.
#[utoipa::path(get, path = "/tidegate/v1/namespaces", tag = "namespaces", responses((status = 200, body = NamespaceList)))]
pub(crate) async fn list_namespaces(State(context): State<Context>) -> Answer<Json<NamespaceList>> {
    let items = context
        .platform
        .namespaces()
        .await?
        .iter()
        .map(render::namespace)
        .collect();
    Ok(Json(NamespaceList { items }))
}

/// Creates a namespace, or gives one that is there the labels and the annotations that are sent. `tidegate.dev/egress` lists
/// all that its functions reach.
#[utoipa::path(put, path = "/tidegate/v1/namespaces/{namespace}", tag = "namespaces", params(("namespace" = String, Path)),
    request_body = Option<Namespace>, responses((status = 200, body = Namespace), (status = 400, body = ErrorBody)))]
pub(crate) async fn create_namespace(
    State(context): State<Context>,
    Path(namespace): Path<String>,
    body: Bytes,
) -> Answer<Json<Namespace>> {
    let platform = &context.platform;
    let name = canonical_namespace(&namespace);
    let WantedMetadata {
        name: said,
        labels,
        annotations,
    } = wanted(&body)?;
    if !said.is_empty() && canonical_namespace(&said) != name {
        return Err(ApiError::invalid(format!(
            "metadata.name is {said:?}, but the request is for {name:?}"
        )));
    }
    let says_nothing = labels.is_none() && annotations.is_none();
    let (new_labels, new_annotations) = (
        labels.clone().unwrap_or_default(),
        annotations.clone().unwrap_or_default(),
    );
    let made = platform
        .make_namespace(name, &new_labels, &new_annotations)
        .await;
    let object = match made {
        Err(Error::Store(StoreError::AlreadyExists { .. })) => {
            let found = platform.namespace(name).await?;
            if says_nothing {
                found
            } else {
                let kept = render::namespace(&found).metadata;
                let labels = labels.unwrap_or(kept.labels);
                let annotations = annotations.unwrap_or(kept.annotations);
                platform
                    .describe_namespace(name, &labels, &annotations)
                    .await?
            }
        }
        made => made?,
    };
    Ok(Json(render::namespace(&object)))
}

/// Nothing is sent by those who only want it to be there.
fn wanted(body: &[u8]) -> Answer<WantedMetadata> {
    if body.is_empty() {
        return Ok(WantedMetadata::default());
    }
    Ok(parse::<Wanted>(body, "a Namespace")?.metadata)
}

/// Removes an empty namespace.
#[utoipa::path(delete, path = "/tidegate/v1/namespaces/{namespace}", tag = "namespaces", params(("namespace" = String, Path)),
    responses((status = 204, description = "Removed"), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn delete_namespace(
    State(context): State<Context>,
    Path(namespace): Path<String>,
) -> Answer<StatusCode> {
    context.platform.delete_namespace(&namespace).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_not_what_is_empty() {
        let bare = wanted(b"").unwrap();
        assert!(bare.labels.is_none() && bare.annotations.is_none());
        let named = wanted(br#"{"kind":"Namespace","metadata":{"name":"team"}}"#).unwrap();
        assert!(named.name == "team" && named.annotations.is_none());
        let cleared = wanted(br#"{"metadata":{"annotations":{}}}"#).unwrap();
        assert_eq!(cleared.annotations, Some(BTreeMap::new()));
        assert!(wanted(b"team").is_err());
    }
}
