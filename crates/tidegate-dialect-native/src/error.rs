//! The native error table: what went wrong inside, and what the caller is told.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tidegate_core::{InvocationId, Limit, Outcome};
use tidegate_platform::{
    BlobError, Error, Failure, LowerError, NotQueued, QueueError, RecordsError, StoreError,
};

use crate::document::ErrorBody;

/// Bytes of a refusal of the web framework's that are passed on: it is a line.
const MAX_REFUSAL: usize = 16 * 1024;

/// An answer that is an error.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: ErrorBody,
    /// Seconds after which trying again makes sense.
    pub retry_after: Option<u64>,
}

impl ApiError {
    /// An error with a word to act on.
    pub fn new(status: StatusCode, reason: &str, error: impl Into<String>) -> Self {
        let body = ErrorBody {
            error: error.into(),
            reason: reason.to_owned(),
            request_id: None,
        };
        Self {
            status,
            body,
            retry_after: None,
        }
    }

    /// 400 with reason `invalid`.
    pub fn invalid(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", error)
    }

    /// 404 with reason `not-found`.
    pub fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", error)
    }

    /// The answer to a call that brought no response from the code.
    pub(crate) fn of_call(failure: Failure, id: InvocationId) -> Self {
        let status = match failure.outcome {
            Outcome::Ok | Outcome::Application | Outcome::Function => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Outcome::Platform | Outcome::Limit(Limit::Capacity) => StatusCode::SERVICE_UNAVAILABLE,
            Outcome::Limit(Limit::Timeout | Limit::FirstByte) => StatusCode::GATEWAY_TIMEOUT,
            Outcome::Limit(Limit::Idle) => StatusCode::REQUEST_TIMEOUT,
            Outcome::Limit(Limit::Memory | Limit::Processes | Limit::Disk) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Outcome::Limit(Limit::Body) => StatusCode::PAYLOAD_TOO_LARGE,
            Outcome::Limit(Limit::Concurrency | Limit::Quota) => StatusCode::TOO_MANY_REQUESTS,
            Outcome::Cancelled => StatusCode::BAD_REQUEST,
        };
        let retry_after = failure.retry_after_seconds();
        let mut error = Self::new(status, failure.outcome.as_str(), failure.message);
        error.body.request_id = Some(id.to_string());
        error.retry_after = retry_after;
        error
    }

    /// The answer in the shape of the data path, which is no axum body.
    pub(crate) fn into_parts(self) -> (http::response::Parts, bytes::Bytes) {
        let mut json = serde_json::to_vec(&self.body).unwrap_or_default();
        json.push(b'\n');
        let mut response = http::Response::new(());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"tidegate\""),
            );
        }
        (response.into_parts().0, json.into())
    }
}

/// Gives a refusal of the web framework's own, which is a line of text, the shape of every other error.
pub(crate) async fn in_shape(response: Response) -> Response {
    let is_text = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let status = response.status();
    if !status.is_client_error() || !is_text {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), MAX_REFUSAL).await;
    let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
    let reason = if status == StatusCode::PAYLOAD_TOO_LARGE {
        "too-large"
    } else {
        "invalid"
    };
    // Ours begin with a small letter.
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_ascii_lowercase());
    let text: String = first.into_iter().chain(letters).collect();
    ApiError::new(status, reason, text).into_response()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (parts, body) = self.into_parts();
        Response::from_parts(parts, axum::body::Body::from(body))
    }
}

impl From<LowerError> for ApiError {
    fn from(error: LowerError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let retry_after = match &error {
            Error::NotQueued(NotQueued::Later { after, .. }) => {
                Some(after.map_or(1, |after| after.as_secs().max(1)))
            }
            _ => None,
        };
        let (status, reason) = match &error {
            Error::Invalid(_) | Error::Digest(_) | Error::Code(_) => {
                (StatusCode::BAD_REQUEST, "invalid")
            }
            Error::NotFound(_) => (StatusCode::NOT_FOUND, "not-found"),
            Error::Quota(_) => (StatusCode::FORBIDDEN, Limit::Quota.as_str()),
            Error::InUse(_) => (StatusCode::CONFLICT, "in-use"),
            Error::Records(records) => match records {
                RecordsError::Token { .. } | RecordsError::TooManyRows { .. } => {
                    (StatusCode::BAD_REQUEST, "invalid")
                }
                RecordsError::Closed => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
                _ => (StatusCode::INTERNAL_SERVER_ERROR, "records"),
            },
            Error::NotQueued(NotQueued::Later { .. }) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Error::NotQueued(NotQueued::Never { .. }) => (StatusCode::BAD_REQUEST, "invalid"),
            Error::Queue(QueueError::Busy { .. } | QueueError::Closed) => {
                (StatusCode::SERVICE_UNAVAILABLE, "busy")
            }
            Error::Queue(QueueError::Damaged { .. }) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "damaged")
            }
            Error::Image(image) => crate::api::images::status_of(image),
            Error::Store(store) => match store {
                StoreError::NotFound { .. } => (StatusCode::NOT_FOUND, "not-found"),
                StoreError::AlreadyExists { .. } | StoreError::Conflict { .. } => {
                    (StatusCode::CONFLICT, "conflict")
                }
                StoreError::Invalid { .. } | StoreError::Selector(_) => {
                    (StatusCode::BAD_REQUEST, "invalid")
                }
                StoreError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
                StoreError::Expired { .. } => (StatusCode::GONE, "expired"),
                StoreError::Full { .. } => (StatusCode::INSUFFICIENT_STORAGE, "disk-full"),
                StoreError::Busy { .. } | StoreError::Closed => {
                    (StatusCode::SERVICE_UNAVAILABLE, "busy")
                }
                StoreError::Damaged { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "damaged"),
                _ => (StatusCode::INTERNAL_SERVER_ERROR, "store"),
            },
            Error::Blob(blob) => match blob {
                BlobError::NotFound { .. } => (StatusCode::NOT_FOUND, "not-found"),
                BlobError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
                BlobError::Mismatch { .. } | BlobError::Source(_) => {
                    (StatusCode::BAD_REQUEST, "invalid")
                }
                BlobError::Full { .. } => (StatusCode::INSUFFICIENT_STORAGE, "disk-full"),
                _ => (StatusCode::INTERNAL_SERVER_ERROR, "store"),
            },
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        if status.is_server_error() {
            tracing::error!(error = &error as &dyn std::error::Error, "a request failed");
        }
        Self {
            retry_after,
            ..Self::new(status, reason, message)
        }
    }
}
