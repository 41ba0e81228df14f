//! The control routes, a file a family.
//!
//! They are what unmodified clients know: the same paths, statuses and texts, errors as a line of plain text, documents as
//! JSON. Three things are kinder than upstream, and no client minds: a missing namespace is said to be missing, a function
//! that could not be started says why among its annotations, and a deployment that asks for something impossible is
//! refused when it is sent rather than failing where nobody looks.
//!
//! Whoever serves them has looked at the caller's credentials before.

mod answer;
mod deploy;
mod functions;
mod info;
mod logs;
mod namespaces;
mod place;
mod scale;
mod secrets;
mod status;
mod ui;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use http::StatusCode;

use crate::OpenFaas;
use answer::Refusal;

/// Largest body of a control request in bytes: the store's own limit on documents, and room for what is around one.
const MAX_BODY: usize = 512 * 1024;

/// `/system/…`, `/ui/` and `/`.
pub(crate) fn router(openfaas: OpenFaas) -> Router {
    Router::new()
        .route("/", get(ui::home))
        .route("/ui", get(ui::home))
        .route("/ui/", get(ui::page))
        .route(
            "/system/functions",
            get(functions::list)
                .post(deploy::create)
                .put(deploy::replace)
                .delete(functions::delete),
        )
        .route("/system/function/{name}", get(functions::describe))
        .route("/system/scale-function/{name}", post(scale::scale))
        .route(
            "/system/secrets",
            get(secrets::list)
                .post(secrets::create)
                .put(secrets::replace)
                .delete(secrets::delete),
        )
        .route("/system/namespaces", get(namespaces::list))
        .route("/system/namespace/", namespaces::unnamed())
        .route("/system/namespace/{name}", namespaces::named())
        .route("/system/logs", get(logs::logs))
        .route("/system/info", get(info::info))
        .route("/system/alert", post(scale::alert))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "404 page not found") })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(openfaas)
}
