//! The control routes: the table of them, and what all of them share. A file a family.

mod accept;
pub(crate) mod code;
pub(crate) mod functions;
pub(crate) mod images;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod namespaces;
pub(crate) mod queue;
pub(crate) mod records;
pub(crate) mod secrets;
pub(crate) mod server;
mod target;
pub(crate) mod triggers;
pub(crate) mod versions;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use tidegate_platform::Platform;

pub use code::MAX_CODE_BYTES;

use crate::document::CapabilityInfo;
use crate::error::{self, ApiError};
use crate::{CONTROL_PREFIX, openapi};

/// Largest JSON body in bytes: the store's own limit on documents, and room for metadata.
const MAX_JSON_BYTES: usize = 512 * 1024;

pub(crate) type Answer<T> = Result<T, ApiError>;

/// What the routes tell of the server itself.
#[derive(Clone)]
pub struct Info {
    /// What this machine permits.
    pub capabilities: Arc<[CapabilityInfo]>,
}

#[derive(Clone)]
pub(crate) struct Context {
    platform: Platform,
    info: Info,
}

/// The control routes, with paths as they are below [`CONTROL_PREFIX`]. Whoever serves them checks the caller's key first,
/// except where [`is_open`] says otherwise.
pub fn router(platform: Platform, info: Info) -> Router {
    Router::new()
        .route("/", get(server::server_info))
        .route("/openapi.json", get(|| async { Json(openapi::openapi()) }))
        .route("/blobs/{digest}", put(code::put_code).head(code::head_code))
        .route("/functions", get(list::list_all_functions))
        .route("/namespaces", get(namespaces::list_namespaces))
        .route(
            "/namespaces/{namespace}",
            put(namespaces::create_namespace).delete(namespaces::delete_namespace),
        )
        .route("/namespaces/{namespace}/functions", get(list::list_functions))
        .route(
            "/namespaces/{namespace}/functions/{name}",
            get(functions::get_function).put(functions::put_function).delete(functions::delete_function),
        )
        .route(
            "/namespaces/{namespace}/functions/{name}/scale",
            put(functions::scale_function),
        )
        .route(
            "/namespaces/{namespace}/functions/{name}/logs",
            get(logs::function_logs),
        )
        .route(
            "/namespaces/{namespace}/functions/{name}/build",
            get(logs::function_build),
        )
        .route(
            "/namespaces/{namespace}/functions/{name}/revisions",
            get(versions::list_revisions),
        )
        .route(
            "/namespaces/{namespace}/functions/{name}/revisions/{revision}",
            get(versions::get_revision),
        )
        .route(
            "/namespaces/{namespace}/functions/{name}/traffic",
            put(versions::put_traffic),
        )
        .route(
            "/namespaces/{namespace}/functions/{name}/rollback",
            post(versions::roll_back),
        )
        .route(
            "/namespaces/{namespace}/functions/{name}/promote",
            post(versions::promote),
        )
        .merge(images::routes())
        .route("/records", get(records::list_records))
        .route("/records/{id}", get(records::get_record))
        .route("/records/{id}/logs", get(records::record_logs))
        .route("/usage", get(records::usage))
        .route("/cost", get(records::cost))
        .merge(queue::routes())
        .merge(triggers::routes())
        .route("/namespaces/{namespace}/secrets", get(secrets::list_secrets))
        .route(
            "/namespaces/{namespace}/secrets/{name}",
            put(secrets::put_secret).delete(secrets::delete_secret),
        )
        .fallback(|uri: http::Uri| async move {
            ApiError::not_found(format!(
                "no route {CONTROL_PREFIX}{}; GET {CONTROL_PREFIX}/openapi.json lists them",
                uri.path()
            ))
        })
        .method_not_allowed_fallback(|method: http::Method, uri: http::Uri| async move {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                format!(
                    "{method} is not for {CONTROL_PREFIX}{}; GET {CONTROL_PREFIX}/openapi.json tells what is",
                    uri.path()
                ),
            )
        })
        .layer(DefaultBodyLimit::max(MAX_JSON_BYTES))
        .layer(axum::middleware::map_response(error::in_shape))
        .with_state(Context { platform, info })
}

/// Whether a route below the prefix tells nothing that needs a key.
#[must_use]
pub fn is_open(path: &str) -> bool {
    matches!(path, "" | "/" | "/openapi.json")
}

fn parse<T: DeserializeOwned>(body: &[u8], what: &str) -> Answer<T> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::invalid(format!("the body is not {what} as JSON: {error}")))
}

/// A document of ours that does not read as one: damage or a newer version, not the caller's fault.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: serde_json::Error) -> ApiError {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "unreadable",
        format!("a stored function does not read as one: {error}"),
    )
}
