//! Namespaces.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use tidegate_platform::{NamespaceChange, canonical_namespace};

use super::{Answer, Context, parse};
use crate::document::{ErrorBody, Namespace, NamespaceList, NamespaceSpec};
use crate::error::ApiError;
use crate::render;

/// What a request says of a namespace. Of labels and annotations, those that it leaves out stay as they are.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    metadata: WantedMetadata,
    spec: Option<NamespaceSpec>,
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

/// Creates a namespace, or changes one: labels, annotations and specification that are sent take the place of those it
/// has, and what is not sent stays as it is. The annotation `tidegate.dev/egress` lists all that its functions reach.
#[utoipa::path(put, path = "/tidegate/v1/namespaces/{namespace}", tag = "namespaces", params(("namespace" = String, Path)),
    request_body(content = Option<Namespace>), responses((status = 200, body = Namespace), (status = 400, body = ErrorBody)))]
pub(crate) async fn create_namespace(
    State(context): State<Context>,
    Path(namespace): Path<String>,
    body: Bytes,
) -> Answer<Json<Namespace>> {
    let name = canonical_namespace(&namespace);
    let Wanted { metadata, spec } = wanted(&body)?;
    let said = &metadata.name;
    if !said.is_empty() && canonical_namespace(said) != name {
        return Err(ApiError::invalid(format!(
            "metadata.name is {said:?}, but the request is for {name:?}"
        )));
    }
    let change = NamespaceChange {
        labels: metadata.labels,
        annotations: metadata.annotations,
        // A document of ours is always JSON.
        spec: spec.and_then(|spec| serde_json::to_value(spec).ok()),
    };
    let object = context.platform.change_namespace(name, change).await?;
    Ok(Json(render::namespace(&object)))
}

/// Nothing is sent by those who only want it to be there.
fn wanted(body: &[u8]) -> Answer<Wanted> {
    if body.is_empty() {
        return Ok(Wanted::default());
    }
    parse(body, "a Namespace")
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
        let bare = wanted(b"").unwrap().metadata;
        assert!(bare.labels.is_none() && bare.annotations.is_none());
        let named = wanted(br#"{"kind":"Namespace","metadata":{"name":"team"}}"#)
            .unwrap()
            .metadata;
        assert!(named.name == "team" && named.annotations.is_none());
        let cleared = wanted(br#"{"metadata":{"annotations":{}}}"#)
            .unwrap()
            .metadata;
        assert_eq!(cleared.annotations, Some(BTreeMap::new()));
        assert!(wanted(b"team").is_err());
    }
}
