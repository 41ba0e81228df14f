//! Who hears of an end: what they are told, and the item that carries it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tidegate_core::queue::Policy;
use tidegate_core::record::{Cause, CauseKind};
use tidegate_core::{InvocationId, Outcome};

use super::runner::{Listener, Runner, Told};
use crate::queue::Work;
use crate::submission::{Body, Destination, Payload, Submission, Target};

/// Most bytes of the request's body that a destination is sent: what failed is to be seen, and the whole of it can be had
/// from the dead letters.
const REQUEST: usize = 64 * 1024;

/// What those who asked to hear of an end are sent, as items of their own.
pub(crate) fn follow_ups(
    runner: &dyn Runner,
    work: &Work,
    told: &Told<'_>,
    delivery: Policy,
) -> Vec<Submission> {
    let submission = &work.submission;
    let destination = if told.done {
        submission.on_success.as_ref().map(Listener::Success)
    } else {
        submission.on_failure.as_ref().map(Listener::Failure)
    };
    let callback = submission.callback.as_ref().map(Listener::Callback);
    let listeners = destination.into_iter().chain(callback);
    let made = listeners.filter_map(|listener| {
        let made = catch_unwind(AssertUnwindSafe(|| {
            let request = runner.tell(work, told, listener)?;
            Some(runner.address(item(submission, listener, request, delivery)))
        }));
        made.unwrap_or_else(|_| {
            tracing::error!(id = %submission.id.hyphenated(), "what tells of an end panicked; nobody is told");
            None
        })
    });
    made.collect()
}

fn item(of: &Submission, listener: Listener<'_>, request: Payload, delivery: Policy) -> Submission {
    let url = |url: &String| (of.function.clone(), Target::Url(url.clone()), delivery);
    let (function, target, policy) = match listener {
        Listener::Callback(callback) => url(&callback.url),
        Listener::Success(Destination::Url(to)) | Listener::Failure(Destination::Url(to)) => {
            url(to)
        }
        Listener::Success(Destination::Function(function))
        | Listener::Failure(Destination::Function(function)) => {
            (function.clone(), Target::Function, Policy::default())
        }
    };
    let random = uuid::Uuid::now_v7();
    Submission {
        id: InvocationId::from_u128(random.as_u128()),
        function,
        target,
        door: of.door.clone(),
        request,
        cause: Cause {
            kind: CauseKind::Destination,
            parent: Some(of.id),
            name: None,
            attempt: 0,
        },
        // Attempts have places of their own, below that of what was accepted first.
        trace: of.trace,
        depth: of.depth.saturating_add(1),
        due_ms: 0,
        policy,
        order_key: None,
        idempotency: None,
        // Those who hear of an end have nobody of their own to tell, unless the runner knows of some.
        on_success: None,
        on_failure: None,
        callback: None,
        keep_result_ms: 0,
    }
}

/// What a listener is told where the door has no words of its own: a callback gets the answer as it was, a destination a
/// document about the invocation.
pub fn plain(work: &Work, told: &Told<'_>, to: Listener<'_>) -> Payload {
    match to {
        Listener::Callback(_) => callback(work, told),
        Listener::Success(_) | Listener::Failure(_) => document(work, told),
    }
}

fn outcome(told: &Told<'_>) -> &'static str {
    match told.ended {
        Some(ended) => ended.outcome.as_str(),
        None if told.done => Outcome::Ok.as_str(),
        None => "none",
    }
}

fn callback(work: &Work, told: &Told<'_>) -> Payload {
    let submission = &work.submission;
    let mut headers = vec![
        ("tidegate-invocation".to_owned(), hyphenated(submission.id)),
        (
            "tidegate-function".to_owned(),
            submission.function.name.as_bytes().to_vec(),
        ),
        ("tidegate-outcome".to_owned(), outcome(told).into()),
    ];
    let mut body = Bytes::new();
    match told.answer {
        Some(answer) => {
            headers.push((
                "tidegate-status".to_owned(),
                answer.status.to_string().into(),
            ));
            let kind = answer
                .headers
                .iter()
                .filter(|(name, _)| matches!(name.as_str(), "content-type" | "content-encoding"));
            headers.extend(kind.cloned());
            body = answer.body.clone();
        }
        None => {
            if let Some(message) = told.message {
                headers.push((
                    "content-type".to_owned(),
                    b"text/plain; charset=utf-8".into(),
                ));
                body = Bytes::copy_from_slice(message.as_bytes());
            }
        }
    }
    Payload {
        method: "POST".to_owned(),
        path_and_query: "/".to_owned(),
        headers,
        body: Body::Inline(body),
    }
}

fn document(work: &Work, told: &Told<'_>) -> Payload {
    let submission = &work.submission;
    let request = &submission.request;
    let mut asked = json!({ "method": request.method, "path": request.path_and_query });
    if let Body::Inline(body) = &request.body
        && body.len() <= REQUEST
    {
        put_body(&mut asked, body);
    }
    let function = &submission.function;
    let mut document = json!({
        "id": String::from_utf8_lossy(&hyphenated(submission.id)),
        "namespace": function.namespace,
        "function": function.name,
        "done": told.done,
        "outcome": outcome(told),
        "attempts": told.tries,
        "request": asked,
    });
    if let Some(message) = told.message {
        document["message"] = message.into();
    }
    if let Some(answer) = told.answer {
        let headers: Map<String, Value> = answer
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into()))
            .collect();
        document["answer"] = json!({ "status": answer.status, "headers": headers });
        put_body(&mut document["answer"], &answer.body);
    }
    Payload {
        method: "POST".to_owned(),
        path_and_query: "/".to_owned(),
        headers: vec![("content-type".to_owned(), b"application/json".into())],
        body: Body::Inline(document.to_string().into()),
    }
}

/// Text as it is, all else in base 64.
fn put_body(into: &mut Value, body: &[u8]) {
    match std::str::from_utf8(body) {
        Ok(text) => into["body"] = text.into(),
        Err(_) => into["bodyBase64"] = STANDARD.encode(body).into(),
    }
}

fn hyphenated(id: InvocationId) -> Vec<u8> {
    id.hyphenated().into_bytes()
}
