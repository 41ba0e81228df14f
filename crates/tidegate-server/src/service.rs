//! From a request to an answer: calls first, since they are what there is most of.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tidegate_dialect_native::{ApiError, CONTROL_PREFIX, call, is_open, route};
use tidegate_dialect_openfaas::OpenFaas;
use tidegate_platform::{Body, Caller, Platform};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::auth::Keys;
use crate::body::ServerBody;
use crate::export::Export;
use crate::inside::{self, Insider};
use crate::{guard, metrics};

/// Largest head of a request in bytes, path and headers: more than any client sends, and less than a process can be given
/// in its environment.
const MAX_HEAD: usize = 64 * 1024;

/// What every request needs.
pub(crate) struct Service {
    pub(crate) platform: Platform,
    pub(crate) control: Router,
    pub(crate) openfaas: OpenFaas,
    pub(crate) openfaas_control: Router,
    pub(crate) keys: Keys,
    pub(crate) hosts: Vec<String>,
    /// Longest time that the body of a control request may go without a byte.
    pub(crate) body_idle: Duration,
    pub(crate) connections: AtomicI64,
    pub(crate) export: Export,
    /// Cancelled when the server takes no more connections.
    pub(crate) stop: CancellationToken,
}

/// Answers a request. A panic while it is answered ends this request and no other.
pub(crate) async fn serve(
    service: Arc<Service>,
    caller: Caller,
    insider: Option<Arc<Insider>>,
    request: Request<Incoming>,
) -> Result<Response<ServerBody>, Infallible> {
    let answered = AssertUnwindSafe(answer(&service, caller, insider.as_deref(), request))
        .catch_unwind()
        .await;
    Ok(answered.unwrap_or_else(|_| {
        // The panic's own message went to the log through the panic hook.
        tracing::error!("a request ended in a panic");
        error(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "internal error",
        ))
    }))
}

async fn answer(
    service: &Service,
    caller: Caller,
    insider: Option<&Insider>,
    request: Request<Incoming>,
) -> Response<ServerBody> {
    let (mut parts, incoming) = request.into_parts();
    if head_bytes(&parts) > MAX_HEAD {
        return error(ApiError::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "too-large",
            format!("the request's head is larger than {MAX_HEAD} bytes"),
        ));
    }
    // Limits of the body follow when the function, or the route, is known.
    let body = Body::incoming(incoming, u64::MAX, service.body_idle);
    inside::forget(&mut parts.headers);
    if let Some(insider) = insider {
        return inside::answer(service, insider, caller, parts, body).await;
    }
    let is_admin = || service.keys.may_call(&parts.uri, &parts.headers);
    if let Some(routed) = route(&service.platform, &parts.uri, &parts.headers, is_admin) {
        let request = Request::from_parts(parts, body);
        return call(&service.platform, routed, request, Some(caller))
            .await
            .map(ServerBody::Call);
    }
    if let Some(routed) = service.openfaas.route(&parts.uri, is_admin) {
        let request = Request::from_parts(parts, body);
        let answered = service.openfaas.call(routed, request, Some(caller)).await;
        return answered.map(ServerBody::OpenFaas);
    }
    let request = Request::from_parts(parts, body);
    let path = request.uri().path();
    match path {
        path if OpenFaas::claims(path) => answer_openfaas(service, request).await,
        "/healthz" => text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n"),
        "/metrics" => {
            if let Err(refused) = guard::check(request.uri(), request.headers(), &service.hosts) {
                return error(refused);
            }
            match metrics::render(service) {
                Ok(page) => text(StatusCode::OK, metrics::CONTENT_TYPE, page),
                Err(failed) => error(ApiError::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    failed.to_string(),
                )),
            }
        }
        _ => match path.strip_prefix(CONTROL_PREFIX) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                answer_control(service, request).await
            }
            _ => error(ApiError::not_found(format!(
                "nothing is served at {path}: functions are at /fn/NAME, the API is at {CONTROL_PREFIX}"
            ))),
        },
    }
}

/// OpenFaaS's control routes. Their clients read plain text.
async fn answer_openfaas(service: &Service, request: Request<Body>) -> Response<ServerBody> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if let Err(refused) = guard::check(request.uri(), request.headers(), &service.hosts) {
        return text(refused.status, TEXT, format!("{}\n", refused.body.error));
    }
    let path = request.uri().path();
    if !OpenFaas::is_open(path) && !service.keys.is_admin(request.headers()) {
        let mut response = text(StatusCode::UNAUTHORIZED, TEXT, "invalid credentials");
        response.headers_mut().insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"Restricted\""),
        );
        return response;
    }
    let request = request.map(axum::body::Body::new);
    let answered = service.openfaas_control.clone().oneshot(request).await;
    let answered = answered.unwrap_or_else(|never| match never {});
    ServerBody::control(answered, &service.stop)
}

async fn answer_control(service: &Service, request: Request<Body>) -> Response<ServerBody> {
    if let Err(refused) = guard::check(request.uri(), request.headers(), &service.hosts) {
        return error(refused);
    }
    let rest = &request.uri().path()[CONTROL_PREFIX.len()..];
    if !is_open(rest) && !service.keys.is_admin(request.headers()) {
        return error(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "the admin key is needed: send 'Authorization: Bearer KEY', or run 'tidegate login'",
        ));
    }
    let Some(uri) = below(request.uri(), rest) else {
        return error(ApiError::invalid("the path cannot be read"));
    };
    let mut request = request.map(axum::body::Body::new);
    *request.uri_mut() = uri;
    let answered = service.control.clone().oneshot(request).await;
    let answered = answered.unwrap_or_else(|never| match never {});
    ServerBody::control(answered, &service.stop)
}

fn head_bytes(parts: &http::request::Parts) -> usize {
    let headers: usize = parts
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    let query = parts.uri.query().map_or(0, str::len);
    parts.uri.path().len() + query + headers
}

/// The part of a path below the prefix, as a path.
fn below(uri: &Uri, rest: &str) -> Option<Uri> {
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let slash = if rest.is_empty() { "/" } else { "" };
    format!("{slash}{rest}{query}").parse().ok()
}

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<ServerBody> {
    let mut response = Response::new(ServerBody::Full(Full::new(body.into())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

pub(crate) fn error(error: ApiError) -> Response<ServerBody> {
    error.into_response().map(ServerBody::Control)
}
