//! One function: to read, write, scale and remove it.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use tidegate_platform::{
    Lower as _, Object, ObjectKey, Phase, Platform, Preconditions, Put, settled_phase,
};
use utoipa::IntoParams;

use super::accept::{check_identity, check_runtime, stored};
use super::code::parse_digest;
use super::target::{function_key, get_object, no_function, not_there, place, readable};
use super::{Answer, Context, images, parse, unreadable, versions};
use crate::document::{API_VERSION, ErrorBody, FUNCTION, Function, FunctionSpec, ScaleChange};
use crate::error::ApiError;
use crate::lower::{self, build, spec_of};
use crate::{image, render};

/// Longest time that an answer is held for a function to become ready.
const MAX_WAIT: Duration = Duration::from_secs(120);
/// How long a deletion may take until calls are refused; it is a table entry.
const DELETION_WAIT: Duration = Duration::from_secs(2);
/// Tries of a change that others race with.
const CHANGE_TRIES: usize = 8;

/// How long to wait for what.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", default)]
#[into_params(parameter_in = Query)]
pub(crate) struct WaitParams {
    /// Seconds to hold the answer, until the generation is ready or has failed.
    wait: Option<f64>,
    /// The generation to wait for; the newest where absent.
    wait_generation: Option<u64>,
}

impl WaitParams {
    pub(crate) fn bound(&self) -> Option<Duration> {
        self.wait
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map(|wait| wait.min(MAX_WAIT))
    }
}

/// A function, at once or when a generation of it is ready or has failed.
#[utoipa::path(get, path = "/tidegate/v1/namespaces/{namespace}/functions/{name}", tag = "functions",
    params(("namespace" = String, Path), ("name" = String, Path), WaitParams),
    responses((status = 200, body = Function), (status = 404, body = ErrorBody)))]
pub(crate) async fn get_function(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
    Query(params): Query<WaitParams>,
) -> Answer<Json<Function>> {
    let platform = &context.platform;
    let key = function_key(&namespace, &name)?;
    let mut object = readable(platform, &key).await?;
    if let Some(wait) = params.bound() {
        let generation = params.wait_generation.unwrap_or(object.generation());
        object = platform
            .settle(&object.key().clone(), generation, wait)
            .await?;
    }
    let is_ours = *object.key() == key;
    if is_ours {
        let function = render::function(platform, object);
        return Ok(Json(function.map_err(unreadable)?));
    }
    let view = platform
        .foreign(place(&key), (API_VERSION, FUNCTION))
        .await?;
    let view = view.ok_or_else(|| no_function(&key))?;
    Ok(Json(render::view(platform, &view)))
}

/// Creates a function or replaces it; with `If-None-Match: *` only creates.
#[utoipa::path(put, path = "/tidegate/v1/namespaces/{namespace}/functions/{name}", tag = "functions",
    params(("namespace" = String, Path), ("name" = String, Path), WaitParams), request_body = Function,
    responses((status = 200, body = Function, description = "Replaced"), (status = 201, body = Function, description = "Created"),
        (status = 400, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn put_function(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
    Query(params): Query<WaitParams>,
    headers: http::HeaderMap,
    body: Bytes,
) -> Answer<(StatusCode, Json<Function>)> {
    let platform = &context.platform;
    let mut document: Function = parse(&body, "a Function")?;
    let key = function_key(&namespace, &name)?;
    check_identity(
        [&document.api_version, &document.kind],
        &document.metadata,
        &key,
    )?;
    let image = image::image(&document.spec)?;
    let spec = spec_of(&document.spec)?;
    if image.is_none() {
        check_runtime(platform, &document.spec).await?;
    }
    build(document.spec.build.as_ref())?;
    lower::traffic(&document.spec.traffic)?;
    lower::records(document.spec.records.as_deref())?;
    document
        .spec
        .rollout
        .as_ref()
        .map(lower::rollout)
        .transpose()?;
    platform.require_namespace(key.namespace()).await?;
    // A secret or archive that is missing is the request's mistake, not a missing page.
    let as_invalid = |error: tidegate_platform::Error| match error {
        tidegate_platform::Error::NotFound(message) => ApiError::invalid(message),
        other => other.into(),
    };
    platform
        .require_secrets(key.namespace(), &spec)
        .await
        .map_err(as_invalid)?;
    if image.is_some() {
        images::pin(platform, key.namespace(), &mut document.spec).await?;
    } else {
        let digest = parse_digest(&spec.code.digest)?;
        if !platform.has_code(&digest).await? {
            return Err(ApiError::invalid(format!(
                "spec.code.digest: no archive {digest} was uploaded; PUT it to /tidegate/v1/blobs/{digest} first"
            )));
        }
        // Nothing is stored of what cannot be run.
        platform.check_code(&digest).await?;
    }
    let wanted = stored(&document.metadata, &document.spec, &key)?;
    if document.spec.later.is_some() {
        let lowered = lower::Native.lower(&wanted)?;
        let checked = platform.check_queue_rules(&lowered.queue).await;
        checked.map_err(|(field, why)| ApiError::invalid(format!("spec.async.{field}: {why}")))?;
    }
    if image.is_some() {
        let lowered = lower::Native.lower(&wanted)?;
        platform.check_image(&lowered).map_err(as_invalid)?;
    }
    // Whoever believes that there is none yet must not write over one that somebody else has just made.
    let only_new = headers
        .get(http::header::IF_NONE_MATCH)
        .is_some_and(|value| value.as_bytes() == b"*");
    let put = if only_new {
        Put::Created(platform.create(wanted).await?)
    } else {
        platform.put(wanted).await?
    };
    let status = if matches!(put, Put::Created(_)) {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut object = put.object();
    // The same document once more: whoever sends it wants it tried again.
    if settled_phase(&object) == Some(Phase::Failed) {
        object = platform.retry(object).await?;
    }
    if let Some(wait) = params.bound() {
        object = platform.settle(&key, object.generation(), wait).await?;
    }
    Ok((
        status,
        Json(render::function(platform, object).map_err(unreadable)?),
    ))
}

/// Removes a function. Calls in flight finish.
#[utoipa::path(delete, path = "/tidegate/v1/namespaces/{namespace}/functions/{name}", tag = "functions",
    params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 204, description = "Removed"), (status = 404, body = ErrorBody)))]
pub(crate) async fn delete_function(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let key = function_key(&namespace, &name)?;
    get_object(&context.platform, &key).await?;
    context
        .platform
        .delete(&key, Preconditions::default())
        .await
        .map_err(|e| not_there(e, &key))?;
    let platform = &context.platform;
    platform.settle_deletion(place(&key), DELETION_WAIT).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes how many instances there may be. Restarts nothing.
#[utoipa::path(put, path = "/tidegate/v1/namespaces/{namespace}/functions/{name}/scale", tag = "functions",
    params(("namespace" = String, Path), ("name" = String, Path)), request_body = ScaleChange,
    responses((status = 200, body = Function), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn scale_function(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
    body: Bytes,
) -> Answer<Json<Function>> {
    let platform = &context.platform;
    let change: ScaleChange = parse(&body, "a ScaleChange")?;
    let key = function_key(&namespace, &name)?;
    let changed = change_spec(platform, &key, "scaled", |_, spec| {
        spec.scale.min = change.min.or(spec.scale.min);
        spec.scale.max = change.max.or(spec.scale.max);
        spec_of(spec)?;
        Ok(())
    });
    Ok(Json(
        render::function(platform, changed.await?).map_err(unreadable)?,
    ))
}

/// Changes a part of a function's specification, again where others change it at the same time.
pub(crate) async fn change_spec(
    platform: &Platform,
    key: &ObjectKey,
    what: &str,
    change: impl Fn(&versions::View, &mut FunctionSpec) -> Answer<()> + Send,
) -> Answer<Object> {
    for _ in 0..CHANGE_TRIES {
        let object = get_object(platform, key).await?;
        let mut spec = FunctionSpec::deserialize(object.spec().unwrap_or(&serde_json::Value::Null))
            .map_err(unreadable)?;
        change(&versions::View::of(platform, &object).await?, &mut spec)?;
        let spec = serde_json::to_value(&spec).map_err(unreadable)?;
        let changed = object
            .replace_spec(spec)
            .map_err(tidegate_platform::Error::Store)?;
        match platform.put(changed).await {
            Ok(put) => return Ok(put.object()),
            Err(tidegate_platform::Error::Store(tidegate_platform::StoreError::Conflict {
                ..
            })) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::new(
        StatusCode::CONFLICT,
        "conflict",
        format!(
            "function {:?} kept changing while it was to be {what}; try again",
            key.name()
        ),
    ))
}
