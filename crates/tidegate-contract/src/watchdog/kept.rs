//! Mode `http`: a process is kept, and calls are passed on to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use tidegate_core::parse_go_duration;
use tokio::time::timeout_at;

use super::config::{Upstream, Watchdog};
use super::log::Subject;
use super::told::{Tells, Watch, next};
use super::{DURATION, Entered, INTERNAL, bare, seconds, sniff};
use crate::body::{AnswerBody, Body, BodyFault};
use crate::head::Reader;
use crate::{CallError, CallInfo, Target, http1};

/// Gives a call less time than its function would.
const TIMEOUT: HeaderName = HeaderName::from_static("x-timeout");

/// The watchdog's name, on answers that are its own.
const NAME: HeaderValue = HeaderValue::from_static("of-watchdog");

pub(super) async fn call(
    target: &Arc<Target>,
    dog: &Watchdog,
    upstream: &Upstream,
    request: Request<Body>,
    info: &CallInfo,
    entered: Entered,
) -> Result<Response<AnswerBody>, CallError> {
    let headers = request.headers();
    let subject = Subject::new(
        request.method(),
        request.uri(),
        headers,
        info,
        dog.log_callid,
    );
    let streams = is_stream(headers);
    let limit = match dog.exec_timeout {
        Some(limit) if !streams => Some(limited(limit, headers)),
        _ => None,
    };
    let until = limit.map(|limit| subject.started + limit);
    let reader = Reader::Watched {
        hosted: upstream.hosted,
        base: &upstream.base,
    };
    let answer = answer(target, dog, request, info, reader);
    let answered = match (until, limit) {
        (Some(until), Some(limit)) => timeout_at(until, answer)
            .await
            .unwrap_or(Err(CallError::Late(limit))),
        _ => answer.await,
    };
    let (mut response, first) = match answered {
        Ok(answered) => answered,
        Err(error) => {
            let status = match &error {
                CallError::Late(_) => StatusCode::GATEWAY_TIMEOUT,
                CallError::Closed | CallError::Protocol(_) => StatusCode::INTERNAL_SERVER_ERROR,
                _ => return Err(error),
            };
            let mut response = bare(status);
            let headers = response.headers_mut();
            headers.insert(INTERNAL, NAME);
            if !streams {
                headers.insert(DURATION, seconds(subject.started.elapsed()));
            }
            return Err(error.answered(response));
        }
    };
    let (status, headers) = (response.status(), response.headers_mut());
    let tells = if streams {
        Tells::Streamed(status)
    } else {
        headers.insert(DURATION, seconds(subject.started.elapsed()));
        let declared = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok());
        Tells::Upstream(status, declared.and_then(|text| text.parse().ok()))
    };
    let watch = Watch {
        target: target.clone(),
        subject,
        tells,
        until,
        entered,
    };
    Ok(response.map(|body| watch.over(body, first)))
}

/// The head of the answer, with a type where it has a body, and what of that had to be read to tell the type.
async fn answer(
    target: &Arc<Target>,
    dog: &Watchdog,
    mut request: Request<Body>,
    info: &CallInfo,
    reader: Reader<'_>,
) -> Result<(Response<AnswerBody>, Option<Frame<Bytes>>), CallError> {
    if dog.buffer_http && !request.body().is_empty() {
        let (parts, body) = request.into_parts();
        request = Request::from_parts(parts, Body::full(whole(body).await?));
    }
    let mut response = http1::call(target, request, info, reader).await?;
    let headers = response.headers();
    let is_typed = headers.contains_key(CONTENT_TYPE) || headers.contains_key(CONTENT_ENCODING);
    if is_typed
        || response.body().is_end_stream()
        || response.status() == StatusCode::SWITCHING_PROTOCOLS
    {
        return Ok((response, None));
    }
    let first = match next(response.body_mut()).await {
        Some(Ok(frame)) => frame,
        Some(Err(_)) => return Err(CallError::Closed),
        None => return Ok((response, None)),
    };
    if let Some(kind) = first.data_ref().and_then(|data| sniff::content_type(data)) {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    Ok((response, Some(first)))
}

/// A body read to its end, within the limits that it carries.
pub(super) async fn whole(mut body: Body) -> Result<Bytes, BodyFault> {
    let mut bytes = bytes::BytesMut::new();
    while let Some(frame) =
        std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await
    {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// Whether the answer is for somebody who reads it as it comes, for as long as it comes.
fn is_stream(headers: &HeaderMap) -> bool {
    let accepts = headers.get(ACCEPT).is_some_and(|accept| {
        let accept = accept.as_bytes();
        contains(accept, b"text/event-stream") || contains(accept, b"application/x-ndjson")
    });
    accepts
        || headers
            .get(UPGRADE)
            .is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// The time that a call has: the function's, or less where the caller wants it so.
fn limited(limit: Duration, headers: &HeaderMap) -> Duration {
    let Some(text) = headers.get(TIMEOUT).and_then(|value| value.to_str().ok()) else {
        return limit;
    };
    // A bare number, which settings may be, is no duration here, but for zero.
    if text.bytes().all(|b| b.is_ascii_digit()) && text != "0" {
        return limit;
    }
    parse_go_duration(text).map_or(limit, |wanted| wanted.min(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_may_have_less_time_and_never_more() {
        let limit = Duration::from_secs(10);
        for (text, want) in [
            ("2s", 2000),
            ("1500ms", 1500),
            ("1m", 10_000),
            ("soon", 10_000),
            ("-1s", 10_000),
            ("5", 10_000),
            ("0", 0),
        ] {
            let headers = HeaderMap::from_iter([(TIMEOUT, HeaderValue::from_static(text))]);
            assert_eq!(
                limited(limit, &headers),
                Duration::from_millis(want),
                "{text}"
            );
        }
        assert_eq!(limited(limit, &HeaderMap::new()), limit);
    }

    #[test]
    fn who_reads_as_it_comes_is_known_by_what_it_accepts() {
        for (name, value, want) in [
            (ACCEPT, "text/event-stream", true),
            (ACCEPT, "text/html, application/x-ndjson;q=0.5", true),
            (ACCEPT, "*/*", false),
            (UPGRADE, "websocket", true),
            (UPGRADE, "h2c", false),
        ] {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            assert_eq!(is_stream(&headers), want, "{value}");
        }
    }
}
