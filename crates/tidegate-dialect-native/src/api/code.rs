//! Uploads of code.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use tidegate_platform::Digest;

use super::{Answer, Context};
use crate::document::ErrorBody;
use crate::error::ApiError;

/// Largest archive in bytes that is taken.
pub const MAX_CODE_BYTES: u64 = 256 << 20;

/// Whether an archive is there.
#[utoipa::path(head, path = "/tidegate/v1/blobs/{digest}", tag = "code", params(("digest" = String, Path)),
    responses((status = 200, description = "It is there"), (status = 404, description = "It is not")))]
pub(crate) async fn head_code(
    State(context): State<Context>,
    Path(digest): Path<String>,
) -> Answer<StatusCode> {
    let digest = parse_digest(&digest)?;
    let there = context.platform.has_code(&digest).await?;
    Ok(if there {
        StatusCode::OK
    } else {
        StatusCode::NOT_FOUND
    })
}

/// Uploads an archive, a gzipped tar, under its digest.
#[utoipa::path(put, path = "/tidegate/v1/blobs/{digest}", tag = "code", params(("digest" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, description = "Stored"), (status = 400, body = ErrorBody, description = "The bytes have another digest"), (status = 413, body = ErrorBody)))]
pub(crate) async fn put_code(
    State(context): State<Context>,
    Path(digest): Path<String>,
    headers: http::HeaderMap,
    body: Body,
) -> Answer<StatusCode> {
    let digest = parse_digest(&digest)?;
    let declared = headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok());
    if declared
        .and_then(|v| v.parse().ok())
        .is_some_and(|n: u64| n > MAX_CODE_BYTES)
    {
        return Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            format!("the archive is larger than {MAX_CODE_BYTES} bytes, the most that is taken"),
        ));
    }
    let bytes = body.into_data_stream();
    context
        .platform
        .put_code(digest, bytes, MAX_CODE_BYTES)
        .await?;
    Ok(StatusCode::CREATED)
}

pub(super) fn parse_digest(text: &str) -> Answer<Digest> {
    text.parse()
        .map_err(|e: tidegate_platform::DigestError| ApiError::invalid(e.to_string()))
}
