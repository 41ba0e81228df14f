//! OpenFaaS's two watchdogs.
//!
//! Upstream, a watchdog is a program in the function's image that listens for HTTP and starts the function. Here its work
//! is done by the server itself, so a call has one hop less and an instance one process less; what the function and its
//! callers see of it is the same: modes, statuses, headers, variables, log lines, health paths.
//!
//! What differs, because it is kinder or since there is no process that could behave so: a function that cannot be started
//! is an error and no empty success; a dead upstream is replaced rather than asked forever; a log line that is too long is
//! split rather than the last one; `Proxy` headers become no variable, since HTTP clients obey it (CVE-2016-5385); and an
//! answer of more than [`HELD`] bytes is not held back until the exit code is known.

mod config;
mod files;
mod fork;
mod kept;
mod log;
mod sniff;
mod told;
mod variables;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};

pub use config::Watchdog;
pub(crate) use config::{MAX_CONCURRENCY, Mode};
pub(crate) use log::prefixed;
pub use told::Told;

use crate::body::{AnswerBody, Body};
use crate::{CallError, CallInfo, Prefix, Target, head};

/// Output of a forked process held back until its exit code is known, where that decides the status.
const HELD: usize = 1024 * 1024;

/// Marks answers that are the platform's and not the function's; callers that queue may try these again.
const INTERNAL: HeaderName = HeaderName::from_static("x-openfaas-internal");

/// Seconds that the function took.
const DURATION: HeaderName = HeaderName::from_static("x-duration-seconds");

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Where a watchdog answers for itself.
const OWN_PATHS: &str = "/_/";

/// Most of an answer to a question for readiness that is read; only its status counts.
const READY_BODY: usize = 64 * 1024;

/// A call that counts against `max_inflight`, until it is dropped.
pub(crate) struct Entered(Option<Arc<Target>>);

/// Makes a call.
pub(crate) async fn call(
    target: &Arc<Target>,
    dog: &Arc<Watchdog>,
    request: Request<Body>,
    info: &CallInfo,
) -> Result<Response<AnswerBody>, CallError> {
    let (path, _) = head::after(request.uri(), info.prefix.len);
    if let Some(own) = path.strip_prefix(OWN_PATHS) {
        let is_get = request.method() == Method::GET;
        match own {
            "health" if !is_get => return Ok(bare(StatusCode::METHOD_NOT_ALLOWED)),
            "health" => return Ok(health(dog)),
            "ready" if matches!(dog.mode, Mode::Classic(_)) => {}
            "ready" if !is_get => return Ok(bare(StatusCode::METHOD_NOT_ALLOWED)),
            "ready" => return Box::pin(ready(target, dog, request, info)).await,
            _ => {}
        }
    }
    match Entered::new(target, dog) {
        Ok(entered) => run(target, dog, request, info, entered).await,
        Err(most) => Ok(crowded(most)),
    }
}

async fn run(
    target: &Arc<Target>,
    dog: &Arc<Watchdog>,
    request: Request<Body>,
    info: &CallInfo,
    entered: Entered,
) -> Result<Response<AnswerBody>, CallError> {
    // Those that are boxed would make the future of the first, which most calls are, a multiple of what it is.
    match &dog.mode {
        Mode::Http(upstream) => kept::call(target, dog, upstream, request, info, entered).await,
        Mode::Streaming => Box::pin(fork::streaming(target, dog, request, info, entered)).await,
        Mode::Serializing => Box::pin(fork::serializing(target, dog, request, info, entered)).await,
        Mode::Classic(classic) => {
            Box::pin(fork::classic(target, dog, *classic, request, info, entered)).await
        }
        Mode::Static(folder) => {
            Box::pin(files::serve(target.bundle(), folder, request, info)).await
        }
    }
}

/// An instance that can be called is healthy, unless it is the function that says so. It would by a file that only its own
/// processes see, so then it never is.
fn health(dog: &Watchdog) -> Response<AnswerBody> {
    if dog.suppress_lock {
        return bare(StatusCode::SERVICE_UNAVAILABLE);
    }
    let mut response = Response::new(AnswerBody::full(Bytes::from_static(b"OK")));
    response.headers_mut().insert(CONTENT_TYPE, PLAIN);
    response
}

/// Whether another call would be taken; the function itself is asked where it has a path for that.
async fn ready(
    target: &Arc<Target>,
    dog: &Arc<Watchdog>,
    request: Request<Body>,
    info: &CallInfo,
) -> Result<Response<AnswerBody>, CallError> {
    let entered = match Entered::new(target, dog) {
        Ok(entered) => entered,
        Err(_) => return Ok(bare(StatusCode::TOO_MANY_REQUESTS)),
    };
    let Some(path) = &dog.ready_path else {
        return Ok(bare(StatusCode::OK));
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    let Ok(uri) = format!("{slash}{path}").parse::<Uri>() else {
        return Ok(bare(StatusCode::SERVICE_UNAVAILABLE));
    };
    let (mut parts, _) = request.into_parts();
    parts.uri = uri;
    let info = CallInfo {
        prefix: Prefix { len: 0 },
        ..info.clone()
    };
    let asked = Request::from_parts(parts, Body::empty());
    let answered = Box::pin(run(target, dog, asked, &info, entered)).await;
    let status = match answered {
        Ok(mut response) => {
            // Read, so that what follows finds the connection, and the process its end.
            let mut left = READY_BODY;
            while let Some(Ok(frame)) = told::next(response.body_mut()).await {
                match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                    Some(rest) => left = rest,
                    None => break,
                }
            }
            response.status()
        }
        Err(CallError::Answered { response, .. }) => response.status(),
        Err(other) => return Err(other),
    };
    Ok(bare(status))
}

/// The answer where more calls come than the function says it takes.
fn crowded(most: u32) -> Response<AnswerBody> {
    let text = format!("Concurrent request limit exceeded. Max concurrent requests: {most}\n");
    let mut response = Response::new(AnswerBody::full(text.into()));
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(INTERNAL, HeaderValue::from_static("faas-middleware"));
    response
}

/// A status and nothing else.
fn bare(status: StatusCode) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Full(None));
    *response.status_mut() = status;
    response
}

/// Seconds with six digits.
fn seconds(time: std::time::Duration) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(format!("{:.6}", time.as_secs_f64())))
        .unwrap_or_else(|_| HeaderValue::from_static("0.000000"))
}

// === impl Entered ===

impl Entered {
    /// Counts a call, or says how many there may be at once.
    fn new(target: &Arc<Target>, dog: &Watchdog) -> Result<Self, u32> {
        let Some(most) = dog.max_inflight else {
            return Ok(Self(None));
        };
        if target.in_flight.fetch_add(1, Ordering::AcqRel) >= most {
            target.in_flight.fetch_sub(1, Ordering::AcqRel);
            return Err(most);
        }
        Ok(Self(Some(target.clone())))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(target) = &self.0 {
            target.in_flight.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
