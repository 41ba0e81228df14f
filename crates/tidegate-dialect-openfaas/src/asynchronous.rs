//! Calls that are made later: `/async-function/NAME[.NAMESPACE]/rest…`.
//!
//! The gateway answers with a call id once the request is on disk. The call that comes of it is a POST whatever the request
//! was, with the request's headers; whoever is named by `X-Callback-Url` gets the function's answer with the function's
//! headers, and some that say how it went. The call id is the queued invocation's own id, unless the client had one.

use std::sync::Arc;
use std::time::Instant;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tidegate_core::queue::Ended;
use tidegate_core::{Access, FunctionKey, InvocationId, Limit, Name, Outcome};
use tidegate_platform::{
    Answer, Body, BodyFault, CallBody, Caller, Error, Function, KeptBody, Later, Led, NotAccepted,
    Payload, QueueDoor, Told, WHO_CALLS, Work, canonical_namespace, new_id,
};

use crate::OpenFaas;
use crate::call::{
    self, CALL_ID, Count, SERVED_BY, SERVER, START_TIME, complete, refused, split, start_time,
};
use crate::metrics::Metrics;

/// The word that what comes through here carries.
const DOOR: &str = "openfaas";

const CALLBACK: HeaderName = HeaderName::from_static("x-callback-url");
/// How the function was addressed: told to callbacks, not to the function.
const ADDRESSED: HeaderName = HeaderName::from_static("x-tidegate-door-addressed");

/// What the worker calls itself.
const WORKER: HeaderValue =
    HeaderValue::from_static(concat!("tidegate-queue/", env!("CARGO_PKG_VERSION")));

/// Where functions' code finds the gateway.
const GATEWAYS: [&str; 2] = ["gateway", "gateway.openfaas"];
const CLUSTER: [&str; 2] = [".svc.cluster.local", ".svc"];

/// Headers of an answer that belong to its connection.
const NOT_SENT: [&str; 4] = [
    "connection",
    "content-length",
    "keep-alive",
    "transfer-encoding",
];

/// What the queue has to know of this dialect, and what the dialect is told by it.
#[derive(Clone, Default)]
pub struct Door(Arc<Metrics>);

impl Door {
    pub(crate) fn metrics(&self) -> Arc<Metrics> {
        self.0.clone()
    }
}

impl QueueDoor for Door {
    fn word(&self) -> &'static str {
        DOOR
    }

    fn callback(&self, work: &Work, told: &Told<'_>) -> Payload {
        let request = &work.submission.request;
        let asked = |name: &HeaderName| {
            let found = request.headers.iter().find(|(n, _)| n == name.as_str());
            found.map(|(_, value)| value.clone())
        };
        let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
        let mut body = bytes::Bytes::new();
        match told.answer {
            Some(answer) => {
                let sent = answer.headers.iter().filter(|(name, _)| {
                    !NOT_SENT.contains(&name.as_str())
                        && !WHO_CALLS.contains(&name.as_str())
                        && !name.starts_with("x-tidegate-")
                });
                headers.extend(sent.cloned());
                body = answer.body.clone();
            }
            None => {
                if let Some(message) = told.message {
                    headers.push((
                        CONTENT_TYPE.to_string(),
                        b"text/plain; charset=utf-8".into(),
                    ));
                    body = bytes::Bytes::copy_from_slice(message.as_bytes());
                }
            }
        }
        let status = told.answer.map_or_else(
            || {
                told.ended
                    .map_or(StatusCode::SERVICE_UNAVAILABLE, |e| status_of(e.outcome))
                    .as_u16()
            },
            |answer| answer.status,
        );
        let function = &work.submission.function;
        let id = || work.submission.id.hyphenated().into_bytes();
        let told = [
            ("x-call-id", asked(&CALL_ID).unwrap_or_else(id)),
            (
                "x-duration-seconds",
                format!("{:.6}", told.took.as_secs_f64()).into(),
            ),
            ("x-function-status", status.to_string().into()),
            (
                "x-function-name",
                asked(&ADDRESSED).unwrap_or_else(|| function.name.as_bytes().to_vec()),
            ),
        ];
        for (name, value) in told {
            headers.retain(|(n, _)| n != name);
            headers.push((name.to_owned(), value));
        }
        Payload {
            method: "POST".to_owned(),
            path_and_query: "/".to_owned(),
            headers,
            body: KeptBody::Inline(body),
        }
    }

    fn inside(&self, url: &str) -> Option<(FunctionKey, String)> {
        let uri: http::Uri = url.parse().ok()?;
        let host = uri.host()?.to_ascii_lowercase();
        let host = CLUSTER
            .iter()
            .find_map(|end| host.strip_suffix(end))
            .unwrap_or(&host);
        if !GATEWAYS.contains(&host) {
            return None;
        }
        let path = uri.path();
        // What is told comes by the queue either way.
        let rest = path
            .strip_prefix(call::CALL_PREFIX)
            .or_else(|| path.strip_prefix(call::ASYNC_PREFIX))?;
        let word = rest.split('/').next().unwrap_or_default();
        let (name, namespace) = split(word);
        let key = FunctionKey::new(
            &Name::new(canonical_namespace(namespace)).ok()?,
            &Name::new(name).ok()?,
        );
        let below = match &rest[word.len()..] {
            "" => "/",
            below => below,
        };
        let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
        Some((key, format!("{below}{query}")))
    }

    fn ended(
        &self,
        function: &FunctionKey,
        began: Instant,
        ended: &Ended,
        answer: Option<&Answer>,
    ) {
        let status = answer.and_then(|answer| StatusCode::from_u16(answer.status).ok());
        let mut count = Count::begin(self.0.of(function), began.into());
        count.code = Some(status.unwrap_or_else(|| status_of(ended.outcome)));
    }
}

/// What stands for an answer that there is none of: a function that cannot be reached is 503.
fn status_of(outcome: Outcome) -> StatusCode {
    match outcome {
        Outcome::Limit(Limit::Timeout | Limit::FirstByte) => StatusCode::GATEWAY_TIMEOUT,
        Outcome::Limit(Limit::Concurrency | Limit::Quota) => StatusCode::TOO_MANY_REQUESTS,
        Outcome::Limit(Limit::Body) => StatusCode::PAYLOAD_TOO_LARGE,
        Outcome::Function | Outcome::Limit(_) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl OpenFaas {
    /// Has a call made later.
    pub(crate) async fn accept(
        &self,
        function: &Function,
        addressed: &str,
        prefix: usize,
        led: Led,
        mut request: Request<Body>,
        caller: Option<&Caller>,
    ) -> Response<CallBody> {
        let id = new_id();
        let start_time = start_time();
        let call_id = complete(&mut request, id, &start_time, caller);
        let (mut parts, body) = request.into_parts();
        let callback = match callback(&parts.headers) {
            Ok(callback) => callback,
            Err(why) => return refused(StatusCode::BAD_REQUEST, why),
        };
        let headers = &mut parts.headers;
        headers.insert(USER_AGENT, WORKER);
        if let Ok(addressed) = HeaderValue::from_str(addressed) {
            headers.insert(ADDRESSED, addressed);
        }
        let below = match &parts.uri.path()[prefix..] {
            "" => "/",
            below => below,
        };
        let query = parts.uri.query().map(|q| format!("?{q}"));
        let later = Later {
            door: DOOR,
            method: Method::POST.as_str().to_owned(),
            path_and_query: format!("{below}{}", query.unwrap_or_default()),
            headers: parts.headers,
            cause: led.cause,
            trace: led.trace,
            depth: led.depth,
            callback,
            ..Later::default()
        };
        let accepted = self
            .platform()
            .enqueue(id, function.key(), later, body)
            .await;
        match accepted {
            Ok(_) => {
                let mut response = refused(StatusCode::ACCEPTED, String::new());
                let headers = response.headers_mut();
                if let Some(call_id) = call_id {
                    headers.insert(CALL_ID, call_id);
                }
                headers.insert(START_TIME, start_time);
                headers.insert(SERVED_BY, SERVER);
                response
            }
            Err(error) => not_accepted(&error),
        }
    }

    /// Cancels a queued call.
    pub(crate) async fn cancel(&self, call_id: &str, is_admin: bool) -> Response<CallBody> {
        let Ok(id) = call_id.parse::<InvocationId>() else {
            return refused(
                StatusCode::BAD_REQUEST,
                format!("{call_id:?} is not a call id\n"),
            );
        };
        let platform = self.platform();
        // Whoever has a call id of the gateway's was told it; it says nothing of calls that came another way, and a private
        // function's are not for everyone.
        let theirs = match platform.queued_request(id).await {
            Ok(request) => {
                let function = platform.function(request.function.borrowed());
                let access = function.and_then(|function| platform.access(&function));
                request.door == DOOR && (is_admin || access != Some(Access::Private))
            }
            Err(Error::NotFound(_)) => false,
            Err(error) => {
                return refused(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"));
            }
        };
        if !theirs {
            return refused(
                StatusCode::NOT_FOUND,
                format!("no queued call of the gateway has the id {call_id}\n"),
            );
        }
        match platform.cancel(id).await {
            Ok(_) => refused(StatusCode::ACCEPTED, String::new()),
            Err(Error::NotFound(message)) => refused(StatusCode::NOT_FOUND, format!("{message}\n")),
            Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

fn callback(headers: &HeaderMap) -> Result<Option<String>, String> {
    let Some(value) = headers.get(CALLBACK) else {
        return Ok(None);
    };
    match value.to_str().map(str::trim) {
        Ok("") => Ok(None),
        Ok(url) => Ok(Some(url.to_owned())),
        Err(_) => Err("X-Callback-Url is not a URL\n".to_owned()),
    }
}

fn not_accepted(error: &NotAccepted) -> Response<CallBody> {
    let text = format!("{error}\n");
    let (status, after) = match error {
        NotAccepted::Quota(failure) => {
            (StatusCode::TOO_MANY_REQUESTS, failure.retry_after_seconds())
        }
        NotAccepted::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, None),
        NotAccepted::Body(BodyFault::Idle(_)) => (StatusCode::REQUEST_TIMEOUT, None),
        NotAccepted::Later { after, .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            Some(after.as_secs().max(1)),
        ),
        NotAccepted::NoQueue => (StatusCode::NOT_IMPLEMENTED, None),
        _ => (StatusCode::BAD_REQUEST, None),
    };
    let mut response = refused(status, text);
    if let Some(after) = after {
        let after = HeaderValue::from(after);
        response
            .headers_mut()
            .insert(http::header::RETRY_AFTER, after);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_known_by_its_names() {
        let inside = |url: &str| {
            let found = Door::default().inside(url);
            found.map(|(key, path)| (key.to_string(), path))
        };
        let some = |key: &str, path: &str| Some((key.to_owned(), path.to_owned()));
        for (url, want) in [
            ("http://gateway:8080/function/f", some("default/f", "/")),
            (
                "http://gateway.openfaas.svc.cluster.local:8080/async-function/f.team/a?b",
                some("team/f", "/a?b"),
            ),
            ("http://gateway:8080/system/functions", None),
            ("http://example.org/function/f", None),
            ("nothing", None),
        ] {
            assert_eq!(inside(url), want, "{url}");
        }
    }
}
