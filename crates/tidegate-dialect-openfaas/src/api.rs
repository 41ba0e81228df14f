//! The control routes.

use axum::Router;

use crate::OpenFaas;

/// `/system/…`, `/ui/`, `/healthz`.
pub(crate) fn router(openfaas: OpenFaas) -> Router {
    let _ = (openfaas.platform(), openfaas.config());
    Router::new()
}
