//! The control routes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use base64::Engine as _;
use futures_util::StreamExt as _;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidegate_core::{FunctionRef, Name, parse_duration};
use tidegate_platform::{
    Digest, Event, LogQuery, Lower as _, Object, ObjectKey, Phase, Platform, Preconditions, Put,
    ResourceVersion, Runtime, canonical_namespace, settled_phase,
};
use utoipa::IntoParams;

use crate::document::{
    API_VERSION, BuildLine, CapabilityInfo, ErrorBody, FUNCTION, Function, FunctionList,
    FunctionSpec, LogLine, Metadata, Namespace, NamespaceList, RuntimeInfo, ScaleChange,
    SecretInfo, SecretList, SecretValue, ServerInfo, WatchEvent,
};
use crate::error::{self, ApiError};
use crate::lower::{self, build, spec_of};
use crate::{CONTROL_PREFIX, image, images, logs, openapi, render, versions};

/// Largest archive in bytes that is taken.
pub const MAX_CODE_BYTES: u64 = 256 << 20;
/// Largest JSON body in bytes: the store's own limit on documents, and room for metadata.
const MAX_JSON_BYTES: usize = 512 * 1024;
/// Longest time that an answer is held for a function to become ready.
const MAX_WAIT: Duration = Duration::from_secs(120);
/// How long a deletion may take until calls are refused; it is a table entry.
const DELETION_WAIT: Duration = Duration::from_secs(2);
/// Tries of a change that others race with.
const CHANGE_TRIES: usize = 8;

pub(crate) type Answer<T> = Result<T, ApiError>;

/// What the routes tell of the server itself.
#[derive(Clone)]
pub struct Info {
    /// What this machine permits.
    pub capabilities: Arc<[CapabilityInfo]>,
}

#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) platform: Platform,
    info: Info,
}

/// The control routes, with paths as they are below [`CONTROL_PREFIX`]. Whoever serves them checks the caller's key first,
/// except where [`is_open`] says otherwise.
pub fn router(platform: Platform, info: Info) -> Router {
    Router::new()
        .route("/", get(server_info))
        .route("/openapi.json", get(|| async { Json(openapi::openapi()) }))
        .route("/blobs/{digest}", put(put_code).head(head_code))
        .route("/functions", get(list_all_functions))
        .route("/namespaces", get(list_namespaces))
        .route(
            "/namespaces/{namespace}",
            put(create_namespace).delete(delete_namespace),
        )
        .route("/namespaces/{namespace}/functions", get(list_functions))
        .route(
            "/namespaces/{namespace}/functions/{name}",
            get(get_function).put(put_function).delete(delete_function),
        )
        .route(
            "/namespaces/{namespace}/functions/{name}/scale",
            put(scale_function),
        )
        .route(
            "/namespaces/{namespace}/functions/{name}/logs",
            get(function_logs),
        )
        .route(
            "/namespaces/{namespace}/functions/{name}/build",
            get(function_build),
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
        .route("/namespaces/{namespace}/secrets", get(list_secrets))
        .route(
            "/namespaces/{namespace}/secrets/{name}",
            put(put_secret).delete(delete_secret),
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

/// What this server is.
#[utoipa::path(get, path = "/tidegate/v1", tag = "server", security(()), responses((status = 200, body = ServerInfo)))]
pub(crate) async fn server_info(State(context): State<Context>) -> Json<ServerInfo> {
    let told = |runtime: Runtime| RuntimeInfo {
        name: runtime.name,
        version: runtime.version,
        available: runtime.available.is_ok(),
        detail: runtime.available.unwrap_or_else(|how| how),
    };
    let tools = context.platform.tools().await;
    let runtimes = context.platform.runtimes().into_iter().map(|mut runtime| {
        // What is compiled needs nothing to run, and its compiler to be deployed.
        let compiler = match &*runtime.name {
            "go" => "go",
            "rust" => "cargo",
            _ => return runtime,
        };
        if let Some(tool) = tools.iter().find(|tool| tool.name == compiler) {
            runtime.version.clone_from(&tool.version);
            runtime.available.clone_from(&tool.available);
        }
        runtime
    });
    let mut runtimes: Vec<RuntimeInfo> = runtimes.map(told).collect();
    match context.platform.added_runtimes().await {
        Ok(added) => runtimes.extend(added.into_iter().map(images::runtime_info)),
        Err(error) => tracing::error!(%error, "runtimes could not be read"),
    }
    Json(ServerInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        runtimes,
        tools: tools.into_iter().map(told).collect(),
        capabilities: context.info.capabilities.to_vec(),
    })
}

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

/// Which functions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParams {
    /// `app=shop,tier in (web,api),!legacy`.
    label_selector: Option<String>,
    /// Most items of a page.
    limit: Option<usize>,
    /// The `continue` of the page before.
    r#continue: Option<String>,
    /// Answer newline-delimited changes instead of a page.
    watch: bool,
    /// Begin the watch after this version.
    resource_version: Option<String>,
}

/// Functions of all namespaces.
#[utoipa::path(get, path = "/tidegate/v1/functions", tag = "functions", params(ListParams), responses((status = 200, body = FunctionList)))]
pub(crate) async fn list_all_functions(
    State(context): State<Context>,
    Query(params): Query<ListParams>,
) -> Answer<Response> {
    list(&context.platform, None, params).await
}

/// Functions of a namespace.
#[utoipa::path(get, path = "/tidegate/v1/namespaces/{namespace}/functions", tag = "functions",
    params(("namespace" = String, Path), ListParams), responses((status = 200, body = FunctionList)))]
pub(crate) async fn list_functions(
    State(context): State<Context>,
    Path(namespace): Path<String>,
    Query(params): Query<ListParams>,
) -> Answer<Response> {
    let namespace = canonical_namespace(&namespace);
    context.platform.require_namespace(namespace).await?;
    list(&context.platform, Some(namespace), params).await
}

async fn list(
    platform: &Platform,
    namespace: Option<&str>,
    params: ListParams,
) -> Answer<Response> {
    let mut query = tidegate_platform::Query::kind(API_VERSION, FUNCTION);
    if let Some(namespace) = namespace {
        query = query.namespace(namespace);
    }
    if let Some(selector) = &params.label_selector {
        let labels = selector.parse().map_err(|e| {
            ApiError::invalid(format!(
                "labelSelector {selector:?}: {}",
                tidegate_platform::StoreError::Selector(e)
            ))
        })?;
        query = query.labels(labels);
    }
    if params.watch {
        let from = params
            .resource_version
            .as_deref()
            .map(str::parse::<ResourceVersion>)
            .transpose();
        let from = from.map_err(|e| ApiError::invalid(e.to_string()))?;
        return watch(platform.clone(), &query, from);
    }
    let page = platform
        .list(&query, params.limit, params.r#continue.as_deref())
        .await?;
    let mut items = page
        .items
        .into_iter()
        .map(|object| render::function(platform, object).map_err(unreadable))
        .collect::<Answer<Vec<_>>>()?;
    // After the last page. They have no labels of ours to select by.
    if page.next.is_none() && params.label_selector.is_none() {
        let foreigners = platform
            .foreigners(namespace, (API_VERSION, FUNCTION))
            .await?;
        items.extend(foreigners.iter().map(|view| render::view(platform, view)));
    }
    Ok(Json(FunctionList {
        items,
        resource_version: page.resource_version.to_string(),
        next: page.next,
    })
    .into_response())
}

fn watch(
    platform: Platform,
    query: &tidegate_platform::Query,
    from: Option<ResourceVersion>,
) -> Answer<Response> {
    let watch = platform.watch(query, from)?;
    let lines = watch.into_stream().map(move |event| {
        let event = match event {
            Ok(Event::Added(object)) => watched(&platform, "ADDED", object),
            Ok(Event::Modified(object)) => watched(&platform, "MODIFIED", object),
            Ok(Event::Deleted(object)) => watched(&platform, "DELETED", object),
            Ok(Event::Bookmark(version)) => WatchEvent {
                kind: "BOOKMARK".to_owned(),
                object: serde_json::json!({ "metadata": { "resourceVersion": version.to_string() } }),
            },
            Err(error) => WatchEvent {
                kind: "ERROR".to_owned(),
                object: serde_json::json!({ "error": error.to_string(), "reason": "expired" }),
            },
        };
        let mut line = serde_json::to_vec(&event).map_err(std::io::Error::other)?;
        line.push(b'\n');
        Ok::<_, std::io::Error>(Bytes::from(line))
    });
    Ok((
        [(CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response())
}

fn watched(platform: &Platform, kind: &str, object: Object) -> WatchEvent {
    let shown = render::function(platform, object).and_then(serde_json::to_value);
    WatchEvent {
        kind: kind.to_owned(),
        object: shown.unwrap_or_else(|e| serde_json::json!({ "error": e.to_string() })),
    }
}

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
    check_identity(&document, &key)?;
    let image = image::image(&document.spec)?;
    let spec = spec_of(&document.spec)?;
    if image.is_none() {
        check_runtime(platform, &document.spec).await?;
    }
    build(document.spec.build.as_ref())?;
    lower::traffic(&document.spec.traffic)?;
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
        since: params.since.as_deref().map(since).transpose()?,
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

fn since(text: &str) -> Answer<SystemTime> {
    if let Ok(back) = parse_duration(text) {
        return Ok(SystemTime::now()
            .checked_sub(back)
            .unwrap_or(SystemTime::UNIX_EPOCH));
    }
    text.parse::<jiff::Timestamp>().map(SystemTime::from).map_err(|_| {
        ApiError::invalid(format!(
            "since: {text:?} is neither a duration such as 5m nor a time such as 2026-01-31T12:00:00Z"
        ))
    })
}

/// Namespaces.
#[utoipa::path(get, path = "/tidegate/v1/namespaces", tag = "namespaces", responses((status = 200, body = NamespaceList)))]
pub(crate) async fn list_namespaces(State(context): State<Context>) -> Answer<Json<NamespaceList>> {
    let items = context
        .platform
        .namespaces()
        .await?
        .iter()
        .map(render::namespace)
        .collect();
    Ok(Json(NamespaceList { items }))
}

/// Creates a namespace; one that is there stays as it is.
#[utoipa::path(put, path = "/tidegate/v1/namespaces/{namespace}", tag = "namespaces", params(("namespace" = String, Path)),
    responses((status = 200, body = Namespace), (status = 400, body = ErrorBody)))]
pub(crate) async fn create_namespace(
    State(context): State<Context>,
    Path(namespace): Path<String>,
) -> Answer<Json<Namespace>> {
    let object = context
        .platform
        .create_namespace(canonical_namespace(&namespace))
        .await?;
    Ok(Json(render::namespace(&object)))
}

/// Removes an empty namespace.
#[utoipa::path(delete, path = "/tidegate/v1/namespaces/{namespace}", tag = "namespaces", params(("namespace" = String, Path)),
    responses((status = 204, description = "Removed"), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn delete_namespace(
    State(context): State<Context>,
    Path(namespace): Path<String>,
) -> Answer<StatusCode> {
    context.platform.delete_namespace(&namespace).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Secrets of a namespace, without their values.
#[utoipa::path(get, path = "/tidegate/v1/namespaces/{namespace}/secrets", tag = "secrets", params(("namespace" = String, Path)),
    responses((status = 200, body = SecretList)))]
pub(crate) async fn list_secrets(
    State(context): State<Context>,
    Path(namespace): Path<String>,
) -> Answer<Json<SecretList>> {
    let namespace = canonical_namespace(&namespace);
    context.platform.require_namespace(namespace).await?;
    let items = context
        .platform
        .secrets(namespace)
        .await?
        .into_iter()
        .map(render::secret)
        .collect();
    Ok(Json(SecretList { items }))
}

/// Creates a secret or changes it. Functions that use it get new instances.
#[utoipa::path(put, path = "/tidegate/v1/namespaces/{namespace}/secrets/{name}", tag = "secrets",
    params(("namespace" = String, Path), ("name" = String, Path)), request_body = SecretValue,
    responses((status = 200, body = SecretInfo), (status = 400, body = ErrorBody)))]
pub(crate) async fn put_secret(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
    body: Bytes,
) -> Answer<Json<SecretInfo>> {
    let sent: SecretValue = parse(&body, "a SecretValue")?;
    let value = base64::engine::general_purpose::STANDARD
        .decode(&sent.value)
        .map_err(|e| ApiError::invalid(format!("value: not base64: {e}")))?;
    let namespace = canonical_namespace(&namespace);
    let info = context
        .platform
        .put_secret(namespace, &name, &value)
        .await?;
    Ok(Json(render::secret(info)))
}

/// Whether to remove a secret that is used.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ForceParams {
    /// Remove it even if functions use it.
    pub(crate) force: bool,
}

/// Removes a secret.
#[utoipa::path(delete, path = "/tidegate/v1/namespaces/{namespace}/secrets/{name}", tag = "secrets",
    params(("namespace" = String, Path), ("name" = String, Path), ForceParams),
    responses((status = 204, description = "Removed"), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn delete_secret(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
    Query(params): Query<ForceParams>,
) -> Answer<StatusCode> {
    let namespace = canonical_namespace(&namespace);
    context
        .platform
        .delete_secret(namespace, &name, params.force)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is stored of a document: what the client says of it, with the key that it was sent to.
fn stored(metadata: &Metadata, spec: &FunctionSpec, key: &ObjectKey) -> Answer<Object> {
    let mut kept = serde_json::json!({ "name": key.name(), "namespace": key.namespace() });
    for (field, given) in [
        ("labels", &metadata.labels),
        ("annotations", &metadata.annotations),
    ] {
        if !given.is_empty() {
            kept[field] = serde_json::to_value(given).map_err(unreadable)?;
        }
    }
    for (field, given) in [
        ("uid", &metadata.uid),
        ("resourceVersion", &metadata.resource_version),
    ] {
        if !given.is_empty() {
            kept[field] = given.as_str().into();
        }
    }
    let document = serde_json::json!({
        "apiVersion": API_VERSION,
        "kind": FUNCTION,
        "metadata": kept,
        "spec": serde_json::to_value(spec).map_err(unreadable)?,
    });
    Object::new(document).map_err(|e| tidegate_platform::Error::Store(e).into())
}

fn check_identity(document: &Function, key: &ObjectKey) -> Answer<()> {
    let same = |field: &str, given: &str, wanted: &str| {
        if given.is_empty() || given == wanted {
            return Ok(());
        }
        Err(ApiError::invalid(format!(
            "{field} is {given:?}, but the request is for {wanted:?}"
        )))
    };
    same("apiVersion", &document.api_version, API_VERSION)?;
    same("kind", &document.kind, FUNCTION)?;
    same("metadata.name", &document.metadata.name, key.name())?;
    same(
        "metadata.namespace",
        canonical_namespace(&document.metadata.namespace),
        key.namespace(),
    )
}

async fn check_runtime(platform: &Platform, spec: &FunctionSpec) -> Answer<()> {
    if platform.added_runtime(&spec.runtime).await?.is_some() {
        return Ok(());
    }
    let runtimes = platform.runtimes();
    let (name, version) = match spec.runtime.split_once(':') {
        Some((name, version)) => (name, Some(version)),
        None => (spec.runtime.as_str(), None),
    };
    let described = || {
        let all: Vec<_> = runtimes
            .iter()
            .map(|r| match (&r.available, &r.version) {
                (Ok(_), Some(version)) => format!("{}:{version}", r.name),
                (Ok(_), None) => r.name.clone(),
                (Err(how), _) => format!("{} (missing: {how})", r.name),
            })
            .collect();
        all.join(", ")
    };
    let wrong = |what: &str| {
        Err(ApiError::invalid(format!(
            "spec.runtime: {what} {:?}; this machine has {}",
            spec.runtime,
            described()
        )))
    };
    match runtimes.iter().find(|runtime| runtime.name == name) {
        None => wrong("unknown runtime"),
        Some(runtime) => match (&runtime.available, version, &runtime.version) {
            (Err(_), _, _) => wrong("missing runtime"),
            (Ok(_), Some(wanted), Some(found))
                if found == wanted || found.starts_with(&format!("{wanted}.")) =>
            {
                Ok(())
            }
            (Ok(_), Some(_), _) => wrong("another version is here than that of runtime"),
            (Ok(_), None, _) => Ok(()),
        },
    }
}

pub(crate) fn function_key(namespace: &str, name: &str) -> Answer<ObjectKey> {
    let check = |what: &str, text: &str| {
        Name::new(text).map_err(|e| ApiError::invalid(format!("{what} {e}")))
    };
    let namespace = canonical_namespace(namespace);
    check("namespace:", namespace)?;
    check("function:", name)?;
    ObjectKey::new(API_VERSION, FUNCTION, namespace, name)
        .map_err(|e| tidegate_platform::Error::Store(e).into())
}

/// A function of ours, to change it.
pub(crate) async fn get_object(platform: &Platform, key: &ObjectKey) -> Answer<Object> {
    match platform.get(key).await {
        Err(error) => {
            let refused = not_there(error, key);
            if refused.status == StatusCode::NOT_FOUND {
                platform
                    .require_own(place(key), (API_VERSION, FUNCTION))
                    .await?;
            }
            Err(refused)
        }
        found => Ok(found?),
    }
}

/// A function, whichever dialect's it is.
pub(crate) async fn readable(platform: &Platform, key: &ObjectKey) -> Answer<Object> {
    match platform.owner_of(place(key)).await? {
        Some(owner) => platform.get(&owner).await.map_err(|e| not_there(e, key)),
        None => Err(no_function(key)),
    }
}

/// Where a function of ours is called.
fn place(key: &ObjectKey) -> FunctionRef<'_> {
    FunctionRef {
        namespace: key.namespace(),
        group: "",
        name: key.name(),
    }
}

fn not_there(error: tidegate_platform::Error, key: &ObjectKey) -> ApiError {
    match error {
        tidegate_platform::Error::Store(tidegate_platform::StoreError::NotFound { .. }) => {
            no_function(key)
        }
        error => error.into(),
    }
}

fn no_function(key: &ObjectKey) -> ApiError {
    ApiError::not_found(format!(
        "function {:?} does not exist in namespace {:?}",
        key.name(),
        key.namespace()
    ))
}

pub(crate) fn parse<T: DeserializeOwned>(body: &[u8], what: &str) -> Answer<T> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::invalid(format!("the body is not {what} as JSON: {error}")))
}

fn parse_digest(text: &str) -> Answer<Digest> {
    text.parse()
        .map_err(|e: tidegate_platform::DigestError| ApiError::invalid(e.to_string()))
}

/// A document of ours that does not read as one: damage or a newer version, not the caller's fault.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn unreadable(error: serde_json::Error) -> ApiError {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "unreadable",
        format!("a stored function does not read as one: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_for_where_it_is_sent() {
        for (namespace, name, good) in [
            ("", "", true),
            ("default", "f", true),
            // Another system's word for the same place, but only where a namespace stands.
            ("guest", "f", true),
            ("default", "guest", false),
            ("team", "f", false),
        ] {
            let document: Function = serde_json::from_value(serde_json::json!({
                "metadata": { "name": name, "namespace": namespace },
                "spec": { "runtime": "python", "code": { "digest": "", "entry": "" } },
            }))
            .unwrap();
            let key = function_key("default", "f").unwrap();
            assert_eq!(
                check_identity(&document, &key).is_ok(),
                good,
                "{namespace}/{name}"
            );
        }
        let named: Function = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "guest" },
            "spec": { "runtime": "python", "code": { "digest": "", "entry": "" } },
        }))
        .unwrap();
        assert!(check_identity(&named, &function_key("default", "guest").unwrap()).is_ok());
    }
}
