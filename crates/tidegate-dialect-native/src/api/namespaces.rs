//! Namespaces.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use tidegate_platform::{NamespaceChange, canonical_namespace};

use super::{Answer, Context};
use crate::document::{ErrorBody, Namespace, NamespaceList};
use crate::error::ApiError;
use crate::render;

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
/// has, and what is not sent stays as it is.
#[utoipa::path(put, path = "/tidegate/v1/namespaces/{namespace}", tag = "namespaces", params(("namespace" = String, Path)),
    request_body(content = Option<Namespace>), responses((status = 200, body = Namespace), (status = 400, body = ErrorBody)))]
pub(crate) async fn create_namespace(
    State(context): State<Context>,
    Path(namespace): Path<String>,
    body: Bytes,
) -> Answer<Json<Namespace>> {
    let name = canonical_namespace(&namespace);
    let sent: Option<Namespace> = match &*body {
        [] => None,
        body => Some(super::parse(body, "a namespace")?),
    };
    let said = |given: &str| given.is_empty() || canonical_namespace(given) == name;
    if let Some(sent) = sent.as_ref().filter(|sent| !said(&sent.metadata.name)) {
        return Err(ApiError::invalid(format!(
            "metadata.name is {:?}, the path says {namespace:?}",
            sent.metadata.name
        )));
    }
    let change = sent.map(|sent| NamespaceChange {
        labels: Some(sent.metadata.labels).filter(|labels| !labels.is_empty()),
        annotations: Some(sent.metadata.annotations).filter(|notes| !notes.is_empty()),
        // A document of ours is always JSON.
        spec: sent.spec.and_then(|spec| serde_json::to_value(spec).ok()),
    });
    let change = change.unwrap_or_default();
    let object = context.platform.change_namespace(name, change).await?;
    Ok(Json(render::namespace(&object)))
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
