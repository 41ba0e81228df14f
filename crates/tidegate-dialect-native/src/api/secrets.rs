//! Secrets, whose values go in and never out.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use base64::Engine as _;
use serde::Deserialize;
use tidegate_platform::canonical_namespace;
use utoipa::IntoParams;

use super::{Answer, Context, parse};
use crate::document::{ErrorBody, SecretInfo, SecretList, SecretValue};
use crate::error::ApiError;
use crate::render;

/// Secrets of a namespace, without their values.
#[utoipa::path(get, path = "/tidegate/v1/namespaces/{namespace}/secrets", tag = "secrets", params(("namespace" = String, Path)),
    responses((status = 200, body = SecretList)))]
pub(crate) async fn list_secrets(
    State(context): State<Context>,
    Path(namespace): Path<String>,
) -> Answer<Json<SecretList>> {
    let namespace = canonical_namespace(&namespace);
    context.platform.require_namespace(namespace).await?;
    let items = context
        .platform
        .secrets(namespace)
        .await?
        .into_iter()
        .map(render::secret)
        .collect();
    Ok(Json(SecretList { items }))
}

/// Creates a secret or changes it. Functions that use it get new instances.
#[utoipa::path(put, path = "/tidegate/v1/namespaces/{namespace}/secrets/{name}", tag = "secrets",
    params(("namespace" = String, Path), ("name" = String, Path)), request_body = SecretValue,
    responses((status = 200, body = SecretInfo), (status = 400, body = ErrorBody)))]
pub(crate) async fn put_secret(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
    body: Bytes,
) -> Answer<Json<SecretInfo>> {
    let sent: SecretValue = parse(&body, "a SecretValue")?;
    let value = base64::engine::general_purpose::STANDARD
        .decode(&sent.value)
        .map_err(|e| ApiError::invalid(format!("value: not base64: {e}")))?;
    let namespace = canonical_namespace(&namespace);
    let info = context
        .platform
        .put_secret(namespace, &name, &value)
        .await?;
    Ok(Json(render::secret(info)))
}

/// Whether to remove a secret that is used.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ForceParams {
    /// Remove it even if functions use it.
    pub(crate) force: bool,
}

/// Removes a secret.
#[utoipa::path(delete, path = "/tidegate/v1/namespaces/{namespace}/secrets/{name}", tag = "secrets",
    params(("namespace" = String, Path), ("name" = String, Path), ForceParams),
    responses((status = 204, description = "Removed"), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn delete_secret(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
    Query(params): Query<ForceParams>,
) -> Answer<StatusCode> {
    let namespace = canonical_namespace(&namespace);
    context
        .platform
        .delete_secret(namespace, &name, params.force)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
