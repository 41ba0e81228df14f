//! Namespaces.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use tidegate_platform::canonical_namespace;

use super::{Answer, Context};
use crate::document::{ErrorBody, Namespace, NamespaceList};
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

/// Creates a namespace; one that is there stays as it is.
#[utoipa::path(put, path = "/tidegate/v1/namespaces/{namespace}", tag = "namespaces", params(("namespace" = String, Path)),
    responses((status = 200, body = Namespace), (status = 400, body = ErrorBody)))]
pub(crate) async fn create_namespace(
    State(context): State<Context>,
    Path(namespace): Path<String>,
) -> Answer<Json<Namespace>> {
    let object = context
        .platform
        .create_namespace(canonical_namespace(&namespace))
        .await?;
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
