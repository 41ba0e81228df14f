//! The builder: a signed build context becomes an image.
//!
//! A context is taken whole before anything of it is looked at, since its signature is over all of it and what it is to
//! become stands at its end. From there the work is the platform's own: a client that reads slowly holds up nobody, and one
//! that hangs up ends it. What a template makes of the context is built at once, so that the client sees what the tools say
//! and a deploy finds it done.
//!
//! What is wrong with a context is no error of HTTP's: the client shows the text of an answer only where its status is 200.

mod answer;
mod secrets;
mod spool;
#[cfg(test)]
mod tests;
mod work;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use tidegate_openfaas::build::{BUILD_PATH, NDJSON, PUBLIC_KEY_PATH, SIGNATURE_HEADER, Signer};
use tidegate_openfaas::seal::KeyPair;
use tidegate_openfaas::{BuildConfig, Prepared, templates};
use tidegate_platform::{BuildOutput, Error, Platform};
use tokio::sync::Semaphore;

pub use answer::LastWords;

use crate::OpenFaas;
use spool::Refused;

/// Largest context in bytes: as much as code may be that is sent in any other way.
const MAX_CONTEXT_BYTES: u64 = tidegate_build::MAX_ARCHIVE;

/// Contexts that are taken and unpacked at the same time. Each may lie on the disk three times over while it is.
const AT_HAND: usize = 4;

/// How long a client waits for the others before it is sent away.
const ROOM_WAIT: Duration = Duration::from_secs(60);

/// Under which name the key is kept that secrets are sealed for.
const KEY: &str = "openfaas-builder";

/// What makes a source tree of a context.
type Prepare = fn(&Path, &BuildConfig, &Path) -> Result<Prepared, templates::TemplateError>;

/// What builds need.
struct Builder {
    openfaas: OpenFaas,
    room: Arc<Semaphore>,
    prepare: Prepare,
}

/// `/build` and `/publickey`.
pub(crate) fn router(openfaas: OpenFaas) -> Router {
    router_with(openfaas, templates::prepare)
}

fn router_with(openfaas: OpenFaas, prepare: Prepare) -> Router {
    Router::new()
        .route(BUILD_PATH, post(build))
        .route(PUBLIC_KEY_PATH, get(public_key))
        .with_state(Arc::new(Builder {
            openfaas,
            room: Arc::new(Semaphore::new(AT_HAND)),
            prepare,
        }))
}

async fn build(State(builder): State<Arc<Builder>>, headers: HeaderMap, body: Body) -> Response {
    let by_lines = wants_lines(&headers);
    let room = builder.room.clone().acquire_owned();
    let Ok(Ok(room)) = tokio::time::timeout(ROOM_WAIT, room).await else {
        let busy = format!("the builder has been busy with other contexts for {ROOM_WAIT:?}");
        return answer::failed(by_lines, format!("{busy}; try again"));
    };
    let platform = builder.openfaas.platform().clone();
    let scratch = match platform.scratch() {
        Ok(scratch) => scratch,
        Err(error) => return answer::failed(by_lines, format!("the builder's folder: {error}")),
    };
    let signer = builder.openfaas.config().payload_secret.as_deref();
    let signer = signer.map(|secret| {
        let given = headers.get(SIGNATURE_HEADER);
        let given = given.and_then(|value| value.to_str().ok());
        (Signer::new(secret), given.unwrap_or_default())
    });
    match spool::spool(body, &scratch.path(work::ARCHIVE), signer).await {
        Ok(()) => {}
        Err(Refused::Signature) => {
            return (StatusCode::UNAUTHORIZED, "invalid signature\n").into_response();
        }
        Err(Refused::Body(why)) => {
            return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response();
        }
        Err(refused) => return answer::failed(by_lines, refused.to_string()),
    }
    let (output, reader) = BuildOutput::new();
    let work = work::run(builder, scratch, room, output);
    let work = platform.attend(work);
    if by_lines {
        answer::by_lines(reader, work)
    } else {
        answer::whole(reader, work).await
    }
}

/// The key that secrets of builds are sealed for.
async fn public_key(State(builder): State<Arc<Builder>>) -> Response {
    match key(builder.openfaas.platform()).await {
        Ok(key) => Json(key.public()).into_response(),
        Err(error) => {
            tracing::error!(%error, "the builder's key cannot be read");
            let text = "the builder's key cannot be read\n";
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

async fn key(platform: &Platform) -> Result<KeyPair, Error> {
    let invalid = |error: tidegate_openfaas::seal::SealError| Error::Invalid(error.to_string());
    let fresh = || Ok(KeyPair::new().map_err(invalid)?.to_bytes().to_vec());
    let bytes = platform.own_key(KEY, fresh).await?;
    KeyPair::from_bytes(&bytes).map_err(invalid)
}

fn wants_lines(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).into_iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(NDJSON))
}
