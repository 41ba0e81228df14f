//! What a function and its build wrote.

use std::time::SystemTime;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use tidegate_core::parse_duration;
use tidegate_platform::LogQuery;
use utoipa::IntoParams;

use super::target::{function_key, place, readable};
use super::{Answer, Context};
use crate::document::{BuildLine, ErrorBody, LogLine};
use crate::error::ApiError;
use crate::logs;

/// Which lines.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogParams {
    /// Only the last so many lines of those kept.
    tail: Option<usize>,
    /// Go on with lines as they are written.
    follow: bool,
    /// Only of this request.
    request: Option<String>,
    /// Only from then on: a duration back from now such as `5m`, or an RFC 3339 time.
    since: Option<String>,
}

/// What a function wrote, as newline-delimited JSON.
#[utoipa::path(get, path = "/tidegate/v1/namespaces/{namespace}/functions/{name}/logs", tag = "functions",
    params(("namespace" = String, Path), ("name" = String, Path), LogParams),
    responses((status = 200, body = LogLine, content_type = "application/x-ndjson"), (status = 404, body = ErrorBody)))]
pub(crate) async fn function_logs(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
    Query(params): Query<LogParams>,
) -> Answer<Response> {
    let key = function_key(&namespace, &name)?;
    readable(&context.platform, &key).await?;
    let invocation = params.request.as_deref().map(str::parse).transpose();
    let query = LogQuery {
        invocation: invocation
            .map_err(|e: tidegate_core::ParseIdError| ApiError::invalid(format!("request: {e}")))?,
        since: params
            .since
            .as_deref()
            .map(|text| moment("since", text))
            .transpose()?,
        ..LogQuery::default()
    };
    let headers = [(CONTENT_TYPE, "application/x-ndjson")];
    let Some(function) = context.platform.function(place(&key)) else {
        // Stored, but not yet known to the engine: it has written nothing.
        return Ok((headers, Body::empty()).into_response());
    };
    let tail = context.platform.logs(&function, query, params.tail);
    Ok((headers, logs::body(tail, params.follow)).into_response())
}

/// Which build.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct BuildParams {
    /// That of this generation, or of a newer one; of the newest where absent.
    generation: Option<u64>,
}

/// What the build of a function says, from its beginning to its end, as newline-delimited JSON. Empty where there was
/// nothing to build, and where a build was too long ago.
#[utoipa::path(get, path = "/tidegate/v1/namespaces/{namespace}/functions/{name}/build", tag = "functions",
    params(("namespace" = String, Path), ("name" = String, Path), BuildParams),
    responses((status = 200, body = BuildLine, content_type = "application/x-ndjson"), (status = 404, body = ErrorBody)))]
pub(crate) async fn function_build(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
    Query(params): Query<BuildParams>,
) -> Answer<Response> {
    let key = function_key(&namespace, &name)?;
    let object = readable(&context.platform, &key).await?;
    let generation = params.generation.unwrap_or_else(|| object.generation());
    if generation > object.generation() {
        return Err(ApiError::invalid(format!(
            "generation: {generation} is not there yet; the newest of {name} is {}",
            object.generation()
        )));
    }
    let tail = context.platform.build_log(object.key(), generation);
    let headers = [(CONTENT_TYPE, "application/x-ndjson")];
    Ok((headers, logs::build(tail)).into_response())
}

/// A moment that a parameter of this name gives.
pub(super) fn moment(what: &str, text: &str) -> Answer<SystemTime> {
    if let Ok(back) = parse_duration(text) {
        return Ok(SystemTime::now()
            .checked_sub(back)
            .unwrap_or(SystemTime::UNIX_EPOCH));
    }
    text.parse::<jiff::Timestamp>().map(SystemTime::from).map_err(|_| {
        ApiError::invalid(format!(
            "{what}: {text:?} is neither a duration such as 5m nor a time such as 2026-01-31T12:00:00Z"
        ))
    })
}
