//! The routes of images, and of runtimes that are images.
//!
//! A pull and an import take their time, so they answer with what they are at, a line of JSON each, and the last line says how
//! it came out. What goes wrong before anything has come about is an error as any other. The names of images have slashes,
//! so what is done with images stands below `-`, which no name can begin with.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use futures_util::StreamExt as _;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use tidegate_platform::{
    AddedRuntime, Attended, Error, ImageError, ImageEvent, ImageName, ImageProgress, ImageSource,
    Login, Platform, canonical_namespace,
};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use utoipa::IntoParams;

use super::secrets::ForceParams;
use super::{Answer, Context, parse};
use crate::document::{
    AliasRequest, ErrorBody, FunctionSpec, Image, ImageList, Layer, Pruned, PullEvent, PullRequest,
    Runtime, RuntimeInfo, RuntimeList, RuntimeRequest,
};
use crate::error::ApiError;

/// Largest archive in bytes that is taken for an import: what the largest image may be unpacked, for few are compressed.
const MAX_ARCHIVE_BYTES: u64 = 16 << 30;

/// Events that wait for whoever reads them; beyond it those that only count bytes are left out.
const EVENTS: usize = 256;

/// The routes, below [`crate::CONTROL_PREFIX`].
pub(crate) fn routes() -> Router<Context> {
    Router::new()
        .route("/images", get(list_images))
        .route("/images/{*image}", get(get_image).delete(delete_image))
        .route("/images/-/pull", post(pull_image))
        .route("/images/-/import", put(import_image))
        .route("/images/-/alias", post(alias_image))
        .route("/images/-/prune", post(prune_images))
        .route("/runtimes", get(list_runtimes))
        .route("/runtimes/{name}", put(put_runtime).delete(delete_runtime))
}

/// Notes in a specification what its image's name means here; the client's own word of it does not count.
pub(crate) async fn pin(
    platform: &Platform,
    namespace: &str,
    spec: &mut FunctionSpec,
) -> Answer<()> {
    spec.image_digest = None;
    for secret in &spec.pull_secrets {
        let there = platform.secrets(namespace).await?;
        if !there.iter().any(|info| info.name == *secret) {
            return Err(ApiError::invalid(format!(
                "spec.pullSecrets: secret {secret:?} does not exist in namespace {namespace:?}; make it with 'tidegate secret set {secret}'"
            )));
        }
    }
    let Some(name) = &spec.image else {
        return Ok(());
    };
    if name.contains('@') {
        return Ok(());
    }
    let known = platform.known_image(name)?;
    spec.image_digest = known.map(|image| image.digest.to_string());
    Ok(())
}

/// Images that the server has.
#[utoipa::path(get, path = "/tidegate/v1/images", tag = "images", responses((status = 200, body = ImageList)))]
pub(crate) async fn list_images(State(context): State<Context>) -> Answer<Json<ImageList>> {
    let mut items: Vec<Image> = context.platform.images()?.into_iter().map(shown).collect();
    items.sort_by(|a, b| (&a.names, &a.digest).cmp(&(&b.names, &b.digest)));
    Ok(Json(ImageList { items }))
}

/// An image, by its name, its digest, or the first digits of that.
#[utoipa::path(get, path = "/tidegate/v1/images/{image}", tag = "images", params(("image" = String, Path)),
    responses((status = 200, body = Image), (status = 404, body = ErrorBody)))]
pub(crate) async fn get_image(
    State(context): State<Context>,
    Path(word): Path<String>,
) -> Answer<Json<Image>> {
    Ok(Json(shown(context.platform.image(&word)?)))
}

/// Takes the name from an image, or all its names where it is given by its digest. What functions run stays.
#[utoipa::path(delete, path = "/tidegate/v1/images/{image}", tag = "images", params(("image" = String, Path)),
    responses((status = 204, description = "Removed"), (status = 404, body = ErrorBody)))]
pub(crate) async fn delete_image(
    State(context): State<Context>,
    Path(word): Path<String>,
) -> Answer<StatusCode> {
    context.platform.remove_image(&word).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gets an image from its registry, whether or not it is known here.
#[utoipa::path(post, path = "/tidegate/v1/images/-/pull", tag = "images", request_body = PullRequest,
    responses((status = 200, body = PullEvent, content_type = "application/x-ndjson"), (status = 400, body = ErrorBody),
        (status = 403, body = ErrorBody, description = "The registry wants other credentials"), (status = 404, body = ErrorBody),
        (status = 502, body = ErrorBody, description = "The registry cannot be reached, or is not trusted")))]
pub(crate) async fn pull_image(State(context): State<Context>, body: Bytes) -> Answer<Response> {
    let request: PullRequest = parse(&body, "a PullRequest")?;
    let name: ImageName = request
        .image
        .parse()
        .map_err(|e| ApiError::invalid(format!("{e}")))?;
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let namespace = canonical_namespace(namespace).to_owned();
    context.platform.require_namespace(&namespace).await?;
    let platform = context.platform.clone();
    told(&context.platform, |progress| async move {
        let login = Login::Secrets(&request.pull_secrets);
        let pulled = platform
            .pull_image(&namespace, &name, login, progress)
            .await?;
        Ok(vec![pulled])
    })
    .await
}

/// What the image is to be called.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ImportParams {
    /// The name of the archive's only image, in place of that in it.
    name: Option<String>,
}

/// Takes images from an archive of the OCI image layout or of Docker's own form, perhaps compressed.
#[utoipa::path(put, path = "/tidegate/v1/images/-/import", tag = "images", params(ImportParams),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = PullEvent, content_type = "application/x-ndjson"), (status = 400, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 507, body = ErrorBody)))]
pub(crate) async fn import_image(
    State(context): State<Context>,
    Query(params): Query<ImportParams>,
    body: Body,
) -> Answer<Response> {
    let name = params.name.as_deref().map(str::parse::<ImageName>);
    let name = name
        .transpose()
        .map_err(|e| ApiError::invalid(format!("name: {e}")))?;
    let platform = context.platform.clone();
    // Before the answer begins, so that a client which writes first and reads then is not held up.
    let scratch = platform.scratch().map_err(|e| disk(&e))?;
    let archive = scratch.path("archive");
    if let Err(refused) = spool(body, &archive).await {
        scratch.remove().await;
        return Err(refused);
    }
    told(&context.platform, |progress| async move {
        let imported = platform
            .import_image(ImageSource::Archive(archive), name, progress)
            .await;
        scratch.remove().await;
        imported
    })
    .await
}

async fn spool(body: Body, to: &std::path::Path) -> Answer<()> {
    let mut file = tokio::fs::File::create_new(to)
        .await
        .map_err(|e| disk(&e))?;
    let mut body = body.into_data_stream();
    let mut size = 0_u64;
    while let Some(part) = body.next().await {
        let part =
            part.map_err(|e| ApiError::invalid(format!("the archive did not arrive whole: {e}")))?;
        size = size.saturating_add(part.len() as u64);
        if size > MAX_ARCHIVE_BYTES {
            return Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                format!(
                    "the archive is larger than {MAX_ARCHIVE_BYTES} bytes, the most that is taken"
                ),
            ));
        }
        file.write_all(&part).await.map_err(|e| disk(&e))?;
    }
    file.flush().await.map_err(|e| disk(&e))
}

fn disk(error: &std::io::Error) -> ApiError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ApiError::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "disk-full",
            "no room left on the server's disk for the archive; free some space and try again",
        ),
        _ => ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            format!("the archive cannot be written: {error}"),
        ),
    }
}

/// Gives an image a further name, such as that under which functions know it where there is no registry.
#[utoipa::path(post, path = "/tidegate/v1/images/-/alias", tag = "images", request_body = AliasRequest,
    responses((status = 200, body = Image), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn alias_image(
    State(context): State<Context>,
    body: Bytes,
) -> Answer<Json<Image>> {
    let request: AliasRequest = parse(&body, "an AliasRequest")?;
    let image = context
        .platform
        .alias_image(&request.name, &request.image)?;
    Ok(Json(shown(image)))
}

/// Which images.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct PruneParams {
    /// Only those without a name.
    unnamed: bool,
}

/// Removes images that no function and no runtime uses.
#[utoipa::path(post, path = "/tidegate/v1/images/-/prune", tag = "images", params(PruneParams), responses((status = 200, body = Pruned)))]
pub(crate) async fn prune_images(
    State(context): State<Context>,
    Query(params): Query<PruneParams>,
) -> Answer<Json<Pruned>> {
    let pruned = context.platform.prune_images(params.unnamed).await?;
    Ok(Json(Pruned {
        images: pruned.images,
        bytes: pruned.bytes,
    }))
}

/// Runtimes that are images.
#[utoipa::path(get, path = "/tidegate/v1/runtimes", tag = "images", responses((status = 200, body = RuntimeList)))]
pub(crate) async fn list_runtimes(State(context): State<Context>) -> Answer<Json<RuntimeList>> {
    let added = context.platform.added_runtimes().await?;
    let items = added.into_iter().map(runtime).collect();
    Ok(Json(RuntimeList { items }))
}

/// Makes a runtime of an image that is here. Functions that name it get new instances.
#[utoipa::path(put, path = "/tidegate/v1/runtimes/{name}", tag = "images", params(("name" = String, Path)), request_body = RuntimeRequest,
    responses((status = 200, body = Runtime), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn put_runtime(
    State(context): State<Context>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer<Json<Runtime>> {
    let request: RuntimeRequest = parse(&body, "a RuntimeRequest")?;
    let added = context.platform.add_runtime(&name, &request.image).await?;
    Ok(Json(runtime(added)))
}

/// Removes a runtime that is an image.
#[utoipa::path(delete, path = "/tidegate/v1/runtimes/{name}", tag = "images", params(("name" = String, Path), ForceParams),
    responses((status = 204, description = "Removed"), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn delete_runtime(
    State(context): State<Context>,
    Path(name): Path<String>,
    Query(params): Query<ForceParams>,
) -> Answer<StatusCode> {
    let platform = &context.platform;
    platform.remove_runtime(&name, params.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A runtime that is an image among those that the machine has.
pub(crate) fn runtime_info(added: AddedRuntime) -> RuntimeInfo {
    let (name, version) = match added.name.split_once(':') {
        Some((name, version)) => (name.to_owned(), Some(version.to_owned())),
        None => (added.name, None),
    };
    RuntimeInfo {
        name,
        version,
        available: true,
        detail: format!("image {}", added.image),
    }
}

fn runtime(added: AddedRuntime) -> Runtime {
    Runtime {
        name: added.name,
        image: added.image,
        digest: added.digest,
    }
}

fn shown(image: tidegate_platform::Image) -> Image {
    let config = image.config;
    Image {
        digest: image.digest.to_string(),
        names: image.names,
        size: image.size,
        created: image.created,
        platform: format!("{}/{}", config.os, config.architecture),
        layers: image
            .layers
            .into_iter()
            .map(|layer| Layer {
                digest: layer.diff_id.to_string(),
                size: layer.size,
            })
            .collect(),
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        env: config.env.into_iter().collect(),
        workdir: config.workdir,
        user: config.user,
        ports: config.ports,
        stop_signal: config.stop_signal,
        labels: config.labels,
    }
}

/// Takes what is reported to whoever reads the answer.
struct Teller(mpsc::Sender<PullEvent>);

impl ImageProgress for Teller {
    fn report(&self, event: ImageEvent) {
        if let Some(event) = line(event) {
            // Whoever reads slowly misses some; how it comes out is told in another way.
            let _ = self.0.try_send(event);
        }
    }
}

fn line(event: ImageEvent) -> Option<PullEvent> {
    let of = |word: &str| PullEvent {
        event: word.to_owned(),
        ..PullEvent::default()
    };
    Some(match event {
        ImageEvent::Resolved { layers, size, .. } => PullEvent {
            layers: Some(layers),
            size: Some(size),
            ..of("resolved")
        },
        ImageEvent::Layer {
            index,
            of: all,
            size,
        } => PullEvent {
            layer: Some(index),
            layers: Some(all),
            size: Some(size),
            ..of("layer")
        },
        ImageEvent::Bytes { layer, done } => PullEvent {
            layer: Some(layer),
            done: Some(done),
            ..of("bytes")
        },
        ImageEvent::Retry { layer, reason, .. } => PullEvent {
            layer,
            error: Some(reason),
            ..of("retry")
        },
        ImageEvent::Unpacking { layer } => PullEvent {
            layer: Some(layer),
            ..of("unpacking")
        },
        ImageEvent::Exists { layer } => PullEvent {
            layer: Some(layer),
            ..of("exists")
        },
        ImageEvent::Unpacked { layer, size, .. } => PullEvent {
            layer: Some(layer),
            size: Some(size),
            ..of("unpacked")
        },
        // Told with the image itself, when it has its name too.
        _ => return None,
    })
}

type Outcome = Result<Vec<tidegate_platform::Image>, Error>;

/// Work that is told of while it goes on.
struct Telling {
    events: mpsc::Receiver<PullEvent>,
    first: Option<PullEvent>,
    outcome: Option<std::pin::Pin<Box<dyn Future<Output = Option<Outcome>> + Send>>>,
}

/// Does work on the platform's own threads, and answers with what it tells. It ends when the answer is no longer read.
async fn told<F>(
    platform: &Platform,
    work: impl FnOnce(Arc<dyn ImageProgress>) -> F,
) -> Answer<Response>
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let (tell, events) = mpsc::channel(EVENTS);
    let attended: Attended<Outcome> = platform.attend(work(Arc::new(Teller(tell))));
    let mut telling = Telling {
        events,
        first: None,
        outcome: Some(Box::pin(attended.result())),
    };
    match telling.next().await {
        Some(Ok(first)) => telling.first = Some(first),
        Some(Err(error)) => return Err(error),
        None => {}
    }
    let lines = futures_util::stream::unfold(telling, |mut telling| async move {
        let event = match telling.first.take() {
            Some(first) => first,
            None => match telling.next().await? {
                Ok(event) => event,
                Err(error) => PullEvent {
                    event: "failed".to_owned(),
                    error: Some(error.body.error),
                    reason: Some(error.body.reason),
                    ..PullEvent::default()
                },
            },
        };
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        Some((
            Ok::<_, std::convert::Infallible>(Bytes::from(line)),
            telling,
        ))
    });
    let headers = [(CONTENT_TYPE, "application/x-ndjson")];
    Ok((headers, Body::from_stream(lines)).into_response())
}

impl Telling {
    /// What comes next; `None` after the outcome.
    async fn next(&mut self) -> Option<Answer<PullEvent>> {
        let outcome = self.outcome.as_mut()?;
        tokio::select! {
            // What was said before the end is told before it.
            biased;
            Some(event) = self.events.recv() => Some(Ok(event)),
            outcome = outcome => {
                self.outcome = None;
                Some(match outcome {
                    Some(Ok(images)) => Ok(PullEvent {
                        event: "done".to_owned(),
                        images: images.into_iter().map(shown).collect(),
                        ..PullEvent::default()
                    }),
                    Some(Err(error)) => Err(error.into()),
                    None => Err(ApiError::new(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "busy",
                        "the server is shutting down",
                    )),
                })
            }
        }
    }
}

/// The status and the word for what is wrong with an image.
pub(crate) fn status_of(error: &ImageError) -> (StatusCode, &'static str) {
    match error {
        ImageError::NotFound { .. } => (StatusCode::NOT_FOUND, "not-found"),
        // Not 401, which speaks of the caller's own key.
        ImageError::Unauthorized { .. } => (StatusCode::FORBIDDEN, "registry-unauthorized"),
        ImageError::Unreachable { .. } => (StatusCode::BAD_GATEWAY, "registry-unreachable"),
        ImageError::Untrusted { .. } => (StatusCode::BAD_GATEWAY, "registry-untrusted"),
        ImageError::Digest { .. } => (StatusCode::BAD_GATEWAY, "digest"),
        ImageError::Architecture { .. } => (StatusCode::BAD_REQUEST, "architecture"),
        ImageError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
        ImageError::Unsafe { .. } => (StatusCode::BAD_REQUEST, "unsafe"),
        ImageError::NoSpace { .. } => (StatusCode::INSUFFICIENT_STORAGE, "disk-full"),
        ImageError::Invalid { .. } | ImageError::Unsupported { .. } | ImageError::User { .. } => {
            (StatusCode::BAD_REQUEST, "invalid")
        }
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    }
}
