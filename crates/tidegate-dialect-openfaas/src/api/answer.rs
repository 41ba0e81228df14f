//! What is sent and what is answered: bodies in, the table of errors out.

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;
use tidegate_platform::{BlobError, Error, StoreError};

/// Every error's type, and that of the texts.
pub(super) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// An answer that is an error: a status, and a line of text or nothing at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

/// What most handlers give.
pub(super) type Answer<T> = Result<T, Refusal>;

/// A request's body, whole. Its type is not looked at, since clients differ in what they say, and it may come in chunks.
pub(super) struct Sent(pub(super) Bytes);

/// The query, where the last of several values counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

// === impl Refusal ===

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { status, text }
    }

    pub(super) fn empty(status: StatusCode) -> Self {
        Self::new(status, "")
    }

    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    pub(super) fn conflict(text: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, text)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if self.text.is_empty() {
            return self.status.into_response();
        }
        let body = format!("{}\n", self.text);
        (self.status, [(header::CONTENT_TYPE, TEXT)], body).into_response()
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Invalid(_) | Error::Digest(_) | Error::Code(_) => StatusCode::BAD_REQUEST,
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            Error::InUse(_) => StatusCode::CONFLICT,
            Error::Quota(_) => StatusCode::FORBIDDEN,
            Error::Store(store) => match store {
                StoreError::NotFound { .. } => StatusCode::NOT_FOUND,
                StoreError::AlreadyExists { .. } | StoreError::Conflict { .. } => {
                    StatusCode::CONFLICT
                }
                StoreError::Invalid { .. } | StoreError::Selector(_) => StatusCode::BAD_REQUEST,
                StoreError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                StoreError::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
                StoreError::Busy { .. } | StoreError::Closed => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Error::Blob(BlobError::NotFound { .. }) => StatusCode::NOT_FOUND,
            Error::Blob(BlobError::Full { .. }) => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            tracing::error!(error = &error as &dyn std::error::Error, "a request failed");
        }
        Self::new(status, error.to_string())
    }
}

// === impl Sent ===

impl Sent {
    /// The JSON object that was sent.
    pub(super) fn object<T: DeserializeOwned>(&self) -> Result<T, String> {
        // A list would be taken for the members in their order.
        match self.0.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => serde_json::from_slice(&self.0).map_err(|e| e.to_string()),
            Some(_) => Err("the body is no JSON object".to_owned()),
            None => Err("the body is empty".to_owned()),
        }
    }

    /// The JSON object that was sent, or the refusal that clients know.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Answer<T> {
        self.object()
            .map_err(|e| Refusal::bad(format!("failed to unmarshal request: {e}")))
    }
}

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match Bytes::from_request(request, state).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Refusal::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!(
                        "the body is larger than {} bytes, the most that is taken",
                        super::MAX_BODY
                    ),
                ))
            }
            Err(rejection) => Err(Refusal::new(
                rejection.status(),
                "the body could not be read",
            )),
        }
    }
}

// === impl Params ===

impl Params {
    /// The last value of a parameter; an empty one is none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter().rev();
        let (_, value) = pairs.find(|(known, _)| known == name)?;
        Some(&**value).filter(|value| !value.is_empty())
    }

    /// Whether a parameter is on, as clients of this API write it.
    pub(super) fn is_on(&self, name: &str) -> bool {
        matches!(self.get(name), Some("1" | "true"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        Ok(Self(pairs.map(|Query(pairs)| pairs).unwrap_or_default()))
    }
}
