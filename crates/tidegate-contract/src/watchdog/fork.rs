//! Modes in which a process is forked a call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, request};
use tidegate_instance::{Exec, Exit};
use tokio::time::{Instant, timeout_at};

use super::config::{Classic, Watchdog};
use super::log::{Said, Subject};
use super::told::{Tells, Watch};
use super::{DURATION, Entered, HELD, PLAIN, bare, kept, seconds, sniff, variables};
use crate::body::{AnswerBody, Body};
use crate::process::{Output, ProcessBody, Running};
use crate::{CallError, CallInfo, Target, head};

/// Output that goes to the log where it is asked for, in bytes.
const LOGGED: usize = 16 * 1024;

/// A process that was started for a call.
struct Forked {
    running: Running,
    subject: Subject,
    until: Option<Instant>,
}

/// What a process has answered.
enum Collected {
    /// All of it.
    Whole(BytesMut, Exit),
    /// More than is held back, and it goes on.
    Longer(BytesMut),
    /// It had its time, and was killed.
    Late(Duration),
}

/// Mode `streaming`: what the process writes is the answer, as it comes, and however the process ends.
pub(super) async fn streaming(
    target: &Arc<Target>,
    dog: &Watchdog,
    request: Request<Body>,
    info: &CallInfo,
    entered: Entered,
) -> Result<Response<AnswerBody>, CallError> {
    let forked = forked(target, dog, request, info).await?;
    let body = AnswerBody::Process(ProcessBody::lenient(forked.running, forked.until));
    let watch = Watch {
        target: target.clone(),
        subject: forked.subject,
        tells: Tells::Forked(StatusCode::OK),
        until: None,
        entered,
    };
    let mut response = Response::new(watch.over(body, None));
    typed(&mut response, dog.content_type.clone());
    Ok(response)
}

/// Mode `serializing`: the process's end decides the status.
pub(super) async fn serializing(
    target: &Arc<Target>,
    dog: &Watchdog,
    request: Request<Body>,
    info: &CallInfo,
    entered: Entered,
) -> Result<Response<AnswerBody>, CallError> {
    let mut forked = forked(target, dog, request, info).await?;
    let collected = forked.collect(dog.exec_timeout).await?;
    let started = forked.subject.started;
    let dress = |response: &mut Response<AnswerBody>| {
        typed(response, dog.content_type.clone());
        response
            .headers_mut()
            .insert(DURATION, seconds(started.elapsed()));
    };
    let failure = |text: String| {
        let mut response = Response::new(AnswerBody::full(text.into()));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        dress(&mut response);
        response
    };
    let (response, error) = match collected {
        Collected::Whole(bytes, exit) if exit.is_success() => {
            (Response::new(AnswerBody::full(bytes.freeze())), None)
        }
        Collected::Whole(_, exit) => (failure(words(exit)), Some(CallError::Exit(exit))),
        Collected::Late(limit) => {
            let text = "signal: killed".to_owned();
            (failure(text), Some(CallError::Late(limit)))
        }
        Collected::Longer(first) => {
            let body = ProcessBody::new(first.freeze(), forked.running);
            (Response::new(AnswerBody::Process(body)), None)
        }
    };
    let watch = Watch {
        target: target.clone(),
        subject: forked.subject,
        tells: Tells::Forked(response.status()),
        until: forked.until,
        entered,
    };
    let mut response = response.map(|body| watch.over(body, None));
    match error {
        Some(error) => Err(error.answered(response)),
        None => {
            dress(&mut response);
            Ok(response)
        }
    }
}

/// The older watchdog.
pub(super) async fn classic(
    target: &Arc<Target>,
    dog: &Watchdog,
    classic: Classic,
    request: Request<Body>,
    info: &CallInfo,
    entered: Entered,
) -> Result<Response<AnswerBody>, CallError> {
    let taken = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ];
    if !taken.contains(request.method()) {
        return Ok(bare(StatusCode::METHOD_NOT_ALLOWED));
    }
    let (mut parts, mut body) = unless_gone(target, request)?.into_parts();
    head::to_process(&mut parts, info);
    let variables = match classic.cgi_headers {
        true => variables::of(&parts, info, !body.is_empty(), true),
        false => Vec::new(),
    };
    if classic.marshal_request {
        body = marshalled(&parts.headers, body).await?;
    }
    let merged = classic.combine_output;
    let mut forked = fork(target, dog, &parts, info, body, variables, merged).await?;
    forked.subject.log(target, Said::Plain("Forking fprocess."));
    let collected = forked.collect(dog.exec_timeout).await?;
    let took = forked.subject.started.elapsed();
    let (bytes, rest) = match collected {
        Collected::Whole(bytes, exit) if exit.is_success() => (bytes, None),
        Collected::Longer(bytes) => (bytes, Some(forked.running)),
        Collected::Whole(bytes, exit) => {
            let mut text = format!("{}\n", words(exit)).into_bytes();
            let kind = sniff::content_type(&text);
            text.extend_from_slice(&bytes);
            let mut response = Response::new(AnswerBody::full(text.into()));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            typed(&mut response, kind);
            return Err(CallError::Exit(exit).answered(response));
        }
        Collected::Late(limit) => {
            let text = Bytes::from_static(b"Killed process.\n");
            let mut response = Response::new(AnswerBody::full(text));
            *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
            typed(&mut response, Some(PLAIN));
            return Err(CallError::Late(limit).answered(response));
        }
    };
    let asked = parts.headers.get(CONTENT_TYPE).cloned();
    let kind = dog.content_type.clone().or(asked);
    let kind = kind.or_else(|| sniff::content_type(&bytes));
    if classic.write_debug {
        write_out(target, &forked.subject, &bytes);
    }
    let bytes = bytes.freeze();
    let body = match rest {
        None if classic.write_debug => {
            let line = format!("Duration: {:.6}s", took.as_secs_f64());
            forked.subject.log(target, Said::Plain(&line));
            AnswerBody::full(bytes)
        }
        rest => {
            let watch = Watch {
                target: target.clone(),
                subject: forked.subject,
                tells: Tells::Wrote,
                until: forked.until,
                entered,
            };
            let inner = match rest {
                None => AnswerBody::full(bytes),
                Some(running) => AnswerBody::Process(ProcessBody::new(bytes, running)),
            };
            watch.over(inner, None)
        }
    };
    let mut response = Response::new(body);
    typed(&mut response, kind);
    response.headers_mut().insert(DURATION, seconds(took));
    Ok(response)
}

/// An instance that is gone already has taken nothing of the request.
fn unless_gone(target: &Target, request: Request<Body>) -> Result<Request<Body>, CallError> {
    if !target.instance().is_gone() {
        return Ok(request);
    }
    Err(CallError::Unreached {
        request: Box::new(request),
        source: std::io::ErrorKind::NotConnected.into(),
    })
}

/// A process for a request as it came.
async fn forked(
    target: &Arc<Target>,
    dog: &Watchdog,
    request: Request<Body>,
    info: &CallInfo,
) -> Result<Forked, CallError> {
    let (mut parts, body) = unless_gone(target, request)?.into_parts();
    head::to_process(&mut parts, info);
    let variables = variables::of(&parts, info, !body.is_empty(), false);
    fork(target, dog, &parts, info, body, variables, false).await
}

async fn fork(
    target: &Arc<Target>,
    dog: &Watchdog,
    parts: &request::Parts,
    info: &CallInfo,
    body: Body,
    variables: Vec<(String, String)>,
    merged: bool,
) -> Result<Forked, CallError> {
    let subject = Subject::new(
        &parts.method,
        &parts.uri,
        &parts.headers,
        info,
        dog.log_callid,
    );
    let exec = Exec {
        env: variables,
        invocation: Some(info.id),
        merged,
    };
    let running = Running::start(target, exec, body)
        .await
        .map_err(CallError::Exec)?;
    Ok(Forked {
        running,
        until: dog.exec_timeout.map(|limit| subject.started + limit),
        subject,
    })
}

impl Forked {
    /// Reads until the process has ended, has answered more than is held back, or has had its time.
    async fn collect(&mut self, limit: Option<Duration>) -> Result<Collected, CallError> {
        let running = &mut self.running;
        let work = async {
            let Output { bytes, whole } = running.read(HELD).await?;
            if !whole {
                return Ok(Collected::Longer(bytes));
            }
            let exit = running.exit().await.ok_or(CallError::Closed)?;
            Ok(Collected::Whole(bytes, exit))
        };
        let (Some(until), Some(limit)) = (self.until, limit) else {
            return work.await;
        };
        if let Ok(collected) = timeout_at(until, work).await {
            return collected;
        }
        self.running.kill().await;
        Ok(Collected::Late(limit))
    }
}

fn typed(response: &mut Response<AnswerBody>, kind: Option<HeaderValue>) {
    if let Some(kind) = kind {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
}

/// The request as one JSON document.
async fn marshalled(headers: &HeaderMap, body: Body) -> Result<Body, CallError> {
    let mut header: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if *name != HOST {
            header
                .entry(variables::canonical(name))
                .or_default()
                .push(String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
    }
    let raw = kept::whole(body).await?;
    let raw = base64::engine::general_purpose::STANDARD.encode(&raw);
    let document = serde_json::json!({ "header": header, "body": { "raw": raw } });
    Ok(Body::full(document.to_string().into()))
}

/// Writes what was answered to the log, as far as that is reasonable.
fn write_out(target: &Target, subject: &Subject, bytes: &[u8]) {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LOGGED)]);
    for line in text.lines() {
        subject.log(target, Said::Plain(line));
    }
}

/// How a process ended, in the words of Go's standard library.
fn words(exit: Exit) -> String {
    match (exit.code, exit.signal) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal: {}", signal_name(signal)),
        (None, None) => "signal: killed".to_owned(),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Body as _;
    use tidegate_instance::Reason;

    #[test]
    fn ends_are_told_as_go_tells_them() {
        let exit = |code, signal| Exit {
            code,
            signal,
            reason: Reason::Exited,
        };
        assert_eq!(words(exit(Some(1), None)), "exit status 1");
        assert_eq!(words(exit(None, Some(11))), "signal: segmentation fault");
        assert_eq!(words(exit(None, Some(40))), "signal: signal 40");
        assert_eq!(words(Exit::KILLED), "signal: killed");
    }

    #[tokio::test]
    async fn a_marshalled_request_has_its_header_and_its_body() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("b"));
        headers.append("x-a", HeaderValue::from_static("c"));
        headers.append("host", HeaderValue::from_static("h"));
        let mut body = marshalled(&headers, Body::full(Bytes::from_static(b"hi\n")))
            .await
            .unwrap();
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await;
        let text = frame.unwrap().unwrap().into_data().unwrap();
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&text).unwrap(),
            serde_json::json!({"header": {"X-A": ["b", "c"]}, "body": {"raw": "aGkK"}})
        );
    }
}
