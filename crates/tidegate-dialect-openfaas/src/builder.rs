//! The builder: a signed build context becomes an image.

use axum::Router;

use crate::OpenFaas;

/// `/build` and `/publickey`.
pub(crate) fn router(openfaas: OpenFaas) -> Router {
    let _ = openfaas;
    Router::new()
}
