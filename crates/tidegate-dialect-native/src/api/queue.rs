//! What was accepted to run later, and what was given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use futures_util::stream;
use http::HeaderValue;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use serde::{Deserialize, Serialize};
use tidegate_core::queue::Reason;
use tidegate_core::{FunctionKey, InvocationId, Name, ParseIdError};
use tidegate_platform::{
    Answer as Kept, DOOR_HEADERS, DeadFilter, DeadLetter as Letter, Ending, Error, Finished,
    KeptBody, MAX_QUEUED, QueueEntry, QueueFilter, Shown, canonical_namespace,
};
use utoipa::{IntoParams, ToSchema};

use super::logs::moment;
use super::{Answer, Context, parse};
use crate::document::ErrorBody;
use crate::document::queue::{
    DeadAnswer, DeadCount, DeadLetter, DeadLetterList, DeadRequest, QueueList, QueueState, Queued,
    Redrive, headers as names,
};
use crate::error::ApiError;
use crate::logs;

/// Entries of a page where nobody says how many.
const PAGE: usize = 100;

/// Dead letters sent again in a second where nobody says how many: as fast as the disk goes.
const UNHURRIED: u32 = 1_000_000;

/// Bytes of a body that are shown.
const SHOWN: usize = 4096;

/// How often is told how many dead letters were sent again until then.
const TELL: Duration = Duration::from_secs(1);

const NDJSON: &str = "application/x-ndjson";

/// Headers whose values are not shown.
const HIDDEN: [&str; 4] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-api-key",
];

/// The routes, below [`crate::CONTROL_PREFIX`].
pub(crate) fn routes() -> Router<Context> {
    Router::new()
        .route("/queue", get(list_queued))
        .route("/queue/{id}", get(get_queued).delete(cancel_queued))
        .route("/queue/{id}/result", get(queued_result))
        .route(
            "/dead-letters",
            get(list_dead_letters).delete(purge_dead_letters),
        )
        .route("/dead-letters/redrive", post(redrive_dead_letters))
        .route(
            "/dead-letters/{id}",
            get(get_dead_letter).merge(delete(purge_dead_letter)),
        )
        .route("/namespaces/{namespace}/callback-key", get(callback_key))
}

/// Which of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct QueueParams {
    /// Only of this namespace.
    namespace: Option<String>,
    /// Only of this function, in `namespace` or the default one.
    function: Option<String>,
    /// At most so many, 1 to 1000; 100 where absent.
    limit: Option<usize>,
    /// What the page before gave.
    r#continue: Option<String>,
}

/// Which dead letters.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeadParams {
    /// Only of this namespace.
    namespace: Option<String>,
    /// Only of this function, in `namespace` or the default one.
    function: Option<String>,
    /// Only those that were given up for this reason.
    reason: Option<String>,
    /// Only those given up from then on: a duration back from now such as `1h`, or an RFC 3339 time.
    since: Option<String>,
    /// Only those given up before then.
    until: Option<String>,
    /// At most so many, 1 to 1000; 100 where absent.
    limit: Option<usize>,
    /// What the page before gave.
    r#continue: Option<String>,
}

/// What requests to receivers of a namespace's answers are signed with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CallbackKey {
    /// Its text is the key of the HMAC-SHA256 over a body that header `x-tidegate-signature` carries.
    key: String,
}

/// Invocations that were accepted and are not done, in the order in which they were accepted.
#[utoipa::path(get, path = "/tidegate/v1/queue", tag = "queue", params(QueueParams),
    responses((status = 200, body = QueueList), (status = 400, body = ErrorBody)))]
pub(crate) async fn list_queued(
    State(context): State<Context>,
    Query(params): Query<QueueParams>,
) -> Answer<Json<QueueList>> {
    let filter = filter(params.namespace.as_deref(), params.function.as_deref())?;
    let (from, limit) = page_of(params.r#continue.as_deref(), params.limit)?;
    let page = context.platform.queued(filter, from, limit).await?;
    Ok(Json(QueueList {
        items: page.items.iter().map(queued).collect(),
        next: page.next.map(|next| next.to_string()),
    }))
}

/// Where an invocation stands that was accepted to run later. What ended is known as long as its result is kept.
#[utoipa::path(get, path = "/tidegate/v1/queue/{id}", tag = "queue", params(("id" = String, Path)),
    responses((status = 200, body = Queued), (status = 404, body = ErrorBody)))]
pub(crate) async fn get_queued(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Answer<Json<Queued>> {
    let shown = context.platform.queue_entry(invocation(&id)?).await?;
    Ok(Json(standing(&shown)))
}

/// Cancels an invocation. One that runs is stopped.
#[utoipa::path(delete, path = "/tidegate/v1/queue/{id}", tag = "queue", params(("id" = String, Path)),
    responses((status = 204, description = "Cancelled"), (status = 404, body = ErrorBody)))]
pub(crate) async fn cancel_queued(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    context.platform.cancel(invocation(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the function answered, as it answered it; its status is in a header. 202 with where it stands before that, 410
/// where there will be no answer.
#[utoipa::path(get, path = "/tidegate/v1/queue/{id}/result", tag = "queue", params(("id" = String, Path)),
    responses((status = 200, description = "The function's answer"), (status = 202, body = Queued),
        (status = 404, body = ErrorBody), (status = 410, body = ErrorBody)))]
pub(crate) async fn queued_result(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Answer<Response> {
    let id = invocation(&id)?;
    match context.platform.queue_entry(id).await? {
        shown @ Shown::Queued { .. } => {
            Ok((StatusCode::ACCEPTED, Json(standing(&shown))).into_response())
        }
        Shown::Dead(letter) => ended(&letter.finished),
        Shown::Finished(finished) => ended(&finished),
    }
}

/// What was given up, the latest first.
#[utoipa::path(get, path = "/tidegate/v1/dead-letters", tag = "queue", params(DeadParams),
    responses((status = 200, body = DeadLetterList), (status = 400, body = ErrorBody)))]
pub(crate) async fn list_dead_letters(
    State(context): State<Context>,
    Query(params): Query<DeadParams>,
) -> Answer<Json<DeadLetterList>> {
    let (from, limit) = page_of(params.r#continue.as_deref(), params.limit)?;
    let filter = params.filter()?;
    let page = context.platform.dead_letters(filter, from, limit).await?;
    Ok(Json(DeadLetterList {
        items: page.items.iter().map(letter_of).collect(),
        next: page.next.map(|next| next.to_string()),
    }))
}

/// One of them, with what was asked and what was answered last.
#[utoipa::path(get, path = "/tidegate/v1/dead-letters/{id}", tag = "queue", params(("id" = String, Path)),
    responses((status = 200, body = DeadLetter), (status = 404, body = ErrorBody)))]
pub(crate) async fn get_dead_letter(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Answer<Json<DeadLetter>> {
    let id = invocation(&id)?;
    let Shown::Dead(letter) = context.platform.queue_entry(id).await? else {
        return Err(ApiError::not_found(format!(
            "invocation {id} is not among the dead letters"
        )));
    };
    let request = match context.platform.queued_request(id).await {
        Ok(submission) => {
            let request = submission.request;
            Some(DeadRequest {
                method: request.method,
                path: request.path_and_query,
                headers: request
                    .headers
                    .into_iter()
                    .filter(|(name, _)| !name.starts_with(DOOR_HEADERS))
                    .map(|(name, value)| {
                        let is_hidden = HIDDEN.contains(&name.as_str());
                        let value = match is_hidden {
                            true => String::new(),
                            false => String::from_utf8_lossy(&value).into_owned(),
                        };
                        (name, value)
                    })
                    .collect(),
                body: match &request.body {
                    KeptBody::Inline(bytes) => text(bytes),
                    KeptBody::Spooled(_) => None,
                },
            })
        }
        // It is shown as far as it can be read.
        Err(Error::Queue(_) | Error::NotFound(_)) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Json(DeadLetter {
        request,
        answer: letter.finished.answer.as_ref().map(|answer| DeadAnswer {
            status: answer.status,
            body: text(&answer.body),
        }),
        ..letter_of(&letter)
    }))
}

/// Sends dead letters again, as if they had just been accepted, and tells how many when it is done.
#[utoipa::path(post, path = "/tidegate/v1/dead-letters/redrive", tag = "queue", request_body = Redrive,
    responses((status = 200, body = DeadCount, content_type = "application/x-ndjson"), (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(crate) async fn redrive_dead_letters(
    State(context): State<Context>,
    body: Bytes,
) -> Answer<Response> {
    let wanted: Redrive = parse(&body, "a Redrive")?;
    let platform = context.platform;
    if let Some(id) = &wanted.id {
        platform.redrive_one(invocation(id)?).await?;
        let told = logs::text(std::iter::once(DeadCount { count: 1 }));
        return Ok(([(CONTENT_TYPE, NDJSON)], told).into_response());
    }
    let filter = DeadParams {
        namespace: wanted.namespace,
        function: wanted.function,
        reason: wanted.reason,
        since: wanted.since,
        until: wanted.until,
        ..DeadParams::default()
    }
    .filter()?;
    if wanted.rate == Some(0) {
        return Err(ApiError::invalid(
            "rate: 0 would never end; write at least 1",
        ));
    }
    let rate = wanted.rate.unwrap_or(UNHURRIED);
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    let work = Box::pin(async move {
        let told = |count| counted.store(count, Ordering::Relaxed);
        platform.redrive(filter, rate, told).await
    });
    // How many until now, again and again, and at the end how many.
    let told = stream::unfold(Some(work), move |work| {
        let sent = sent.clone();
        async move {
            let mut work = work?;
            let (count, work) = tokio::select! {
                done = &mut work => (done, None),
                () = tokio::time::sleep(TELL) => (Ok(sent.load(Ordering::Relaxed)), Some(work)),
            };
            let line = count.map(|count| logs::text(std::iter::once(DeadCount { count })));
            Some((line, work))
        }
    });
    let told = Body::from_stream(told);
    Ok(([(CONTENT_TYPE, NDJSON)], told).into_response())
}

/// Throws dead letters away, and tells how many.
#[utoipa::path(delete, path = "/tidegate/v1/dead-letters", tag = "queue", params(DeadParams),
    responses((status = 200, body = DeadCount), (status = 400, body = ErrorBody)))]
pub(crate) async fn purge_dead_letters(
    State(context): State<Context>,
    Query(params): Query<DeadParams>,
) -> Answer<Json<DeadCount>> {
    let count = context.platform.purge(params.filter()?).await?;
    Ok(Json(DeadCount { count }))
}

/// Throws one away.
#[utoipa::path(delete, path = "/tidegate/v1/dead-letters/{id}", tag = "queue", params(("id" = String, Path)),
    responses((status = 204, description = "Thrown away"), (status = 404, body = ErrorBody)))]
pub(crate) async fn purge_dead_letter(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    context.platform.purge_one(invocation(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What receivers of a namespace's answers check the sender by.
#[utoipa::path(get, path = "/tidegate/v1/namespaces/{namespace}/callback-key", tag = "queue",
    params(("namespace" = String, Path)), responses((status = 200, body = CallbackKey), (status = 404, body = ErrorBody)))]
pub(crate) async fn callback_key(
    State(context): State<Context>,
    Path(namespace): Path<String>,
) -> Answer<Json<CallbackKey>> {
    let namespace = canonical_namespace(&namespace);
    context.platform.require_namespace(namespace).await?;
    let key = context.platform.signing_key(namespace)?;
    Ok(Json(CallbackKey { key }))
}

impl DeadParams {
    fn filter(&self) -> Answer<DeadFilter> {
        let reason = |word: &str| {
            let found = Reason::ALL.into_iter().find(|r| r.as_str() == word);
            found.ok_or_else(|| {
                let all = Reason::ALL.map(Reason::as_str).join(", ");
                ApiError::invalid(format!("reason: {word:?} is none of {all}"))
            })
        };
        let at = |what, text: &Option<String>| {
            let time = text.as_deref().map(|text| moment(what, text)).transpose()?;
            Ok::<_, ApiError>(time.map(millis))
        };
        Ok(DeadFilter {
            of: filter(self.namespace.as_deref(), self.function.as_deref())?,
            reason: self.reason.as_deref().map(reason).transpose()?,
            since_ms: at("since", &self.since)?,
            until_ms: at("until", &self.until)?,
        })
    }
}

fn filter(namespace: Option<&str>, function: Option<&str>) -> Answer<QueueFilter> {
    let checked = |what: &str, text: &str| {
        Name::new(text).map_err(|e| ApiError::invalid(format!("{what}: {e}")))
    };
    Ok(match (namespace, function) {
        (None, None) => QueueFilter::All,
        (Some(namespace), None) => {
            QueueFilter::Namespace(canonical_namespace(namespace).to_owned())
        }
        (namespace, Some(function)) => {
            let namespace = namespace.unwrap_or(tidegate_platform::DEFAULT_NAMESPACE);
            QueueFilter::Function(FunctionKey::new(
                &checked("namespace", canonical_namespace(namespace))?,
                &checked("function", function)?,
            ))
        }
    })
}

fn page_of(token: Option<&str>, limit: Option<usize>) -> Answer<(Option<i64>, usize)> {
    let limit = limit.unwrap_or(PAGE);
    if !(1..=MAX_QUEUED).contains(&limit) {
        return Err(ApiError::invalid(format!(
            "limit: {limit} is not from 1 to {MAX_QUEUED}"
        )));
    }
    let from = token.map(str::parse).transpose();
    let from = from.map_err(|_| ApiError::invalid("continue: it is not what a page gave"))?;
    Ok((from, limit))
}

fn standing(shown: &Shown) -> Queued {
    match shown {
        Shown::Queued { entry, .. } => queued(entry),
        Shown::Dead(letter) => Queued {
            state: QueueState::Dead,
            accepted: (letter.accepted_ms > 0).then(|| timestamp(letter.accepted_ms)),
            failures: failures(letter),
            reason: Some(letter.reason.as_str().to_owned()),
            ..finished(&letter.finished)
        },
        Shown::Finished(ended) => finished(ended),
    }
}

fn queued(entry: &QueueEntry) -> Queued {
    Queued {
        id: entry.id.to_string(),
        namespace: entry.function.namespace.to_string(),
        function: entry.function.name.to_string(),
        state: match entry.leased {
            true => QueueState::Running,
            false => QueueState::Waiting,
        },
        accepted: Some(timestamp(entry.accepted_ms)),
        due: Some(timestamp(entry.due_ms)),
        deadline: Some(timestamp(entry.deadline_ms)),
        behind: entry.behind,
        tries: entry.tries,
        failures: entry.failures,
        ..Queued::default()
    }
}

fn finished(finished: &Finished) -> Queued {
    let (state, outcome, reason) = match finished.ended {
        Ending::Done(ended) => (QueueState::Done, Some(ended.outcome), None),
        Ending::Dead(reason) => {
            let last = finished.last.map(|last| last.outcome);
            (QueueState::Dead, last, Some(reason))
        }
        Ending::Cancelled => (QueueState::Cancelled, None, None),
    };
    Queued {
        id: finished.id.to_string(),
        namespace: finished.function.namespace.to_string(),
        function: finished.function.name.to_string(),
        state,
        tries: finished.tries,
        ended: Some(timestamp(finished.ended_ms)),
        outcome: outcome.map(|outcome| outcome.as_str().to_owned()),
        status: finished.answer.as_ref().map(|answer| answer.status),
        reason: reason.map(|reason| reason.as_str().to_owned()),
        message: finished.message.clone(),
        ..Queued::default()
    }
}

/// Failures of the function. What is kept was written before the last attempt.
fn failures(letter: &Letter) -> u32 {
    let last = matches!(letter.reason, Reason::Failed | Reason::NotRetried);
    letter.failures + u32::from(last)
}

fn letter_of(letter: &Letter) -> DeadLetter {
    let finished = &letter.finished;
    DeadLetter {
        id: finished.id.to_string(),
        namespace: finished.function.namespace.to_string(),
        function: finished.function.name.to_string(),
        reason: letter.reason.as_str().to_owned(),
        outcome: finished.last.map(|last| last.outcome.as_str().to_owned()),
        status: finished.answer.as_ref().map(|answer| answer.status),
        message: finished.message.clone(),
        accepted: (letter.accepted_ms > 0).then(|| timestamp(letter.accepted_ms)),
        died: timestamp(finished.ended_ms),
        tries: finished.tries,
        failures: failures(letter),
        body_bytes: letter.body_bytes,
        request: None,
        answer: None,
    }
}

/// What a function answered, or why there will be no answer.
fn ended(finished: &Finished) -> Answer<Response> {
    let id = finished.id;
    let gone = |why: String| ApiError::new(StatusCode::GONE, "gone", why);
    let why = finished.message.as_deref().unwrap_or("it did not succeed");
    match (finished.ended, &finished.answer) {
        (Ending::Cancelled, _) => Err(gone(format!("invocation {id} was cancelled"))),
        (Ending::Dead(reason), _) => Err(gone(format!(
            "invocation {id} was given up ({}) after {} tries: {why}",
            reason.as_str(),
            finished.tries
        ))),
        (Ending::Done(_), None) => Err(gone(format!(
            "the answer to invocation {id} was too large to be kept"
        ))),
        (Ending::Done(_), Some(answer)) => Ok(answer_of(answer)),
    }
}

fn answer_of(answer: &Kept) -> Response {
    let mut response = Response::new(Body::from(answer.body.clone()));
    let headers = response.headers_mut();
    headers.insert(names::STATUS, HeaderValue::from(answer.status));
    for (name, value) in &answer.headers {
        let Ok(name) = HeaderName::try_from(name.as_str()) else {
            continue;
        };
        // What else a function says is for its own caller, whose browser is not this one's.
        let is_shown = [CONTENT_TYPE, CONTENT_ENCODING].contains(&name) || name == names::CUT;
        if let Ok(value) = HeaderValue::from_bytes(value)
            && is_shown
        {
            headers.insert(name, value);
        }
    }
    response
}

/// The beginning of a body that is text.
fn text(body: &[u8]) -> Option<String> {
    let shown = &body[..body.len().min(SHOWN)];
    match std::str::from_utf8(shown) {
        Ok(text) => Some(text.to_owned()),
        // Cut in the middle of a letter.
        Err(error) if error.error_len().is_none() && body.len() > SHOWN => {
            let whole = &shown[..error.valid_up_to()];
            std::str::from_utf8(whole).ok().map(str::to_owned)
        }
        Err(_) => None,
    }
}

fn invocation(text: &str) -> Answer<InvocationId> {
    text.parse()
        .map_err(|e: ParseIdError| ApiError::invalid(format!("id: {e}")))
}

fn timestamp(ms: u64) -> String {
    super::records::timestamp(ms.saturating_mul(1000))
}

fn millis(time: SystemTime) -> u64 {
    let since: Duration = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    since.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_and_mistakes_are_named() {
        let params = DeadParams {
            function: Some("f".to_owned()),
            reason: Some("too-old".to_owned()),
            ..DeadParams::default()
        };
        let read = params.filter().map_err(|e| e.body.error).unwrap();
        assert_eq!(read.reason, Some(Reason::TooOld));
        assert!(matches!(&read.of, QueueFilter::Function(key) if key.to_string() == "default/f"));
        let wrong = DeadParams {
            reason: Some("bored".to_owned()),
            ..DeadParams::default()
        };
        let error = wrong.filter().unwrap_err().body.error;
        assert!(
            error.starts_with("reason: \"bored\" is none of failed,"),
            "{error}"
        );
        for (token, limit, part) in [
            (Some("x"), None, "continue"),
            (None, Some(0), "limit: 0"),
            (None, Some(5000), "limit: 5000"),
        ] {
            let error = page_of(token, limit).unwrap_err().body.error;
            assert!(error.starts_with(part), "{error}");
        }
    }

    #[test]
    fn text_is_shown_and_other_bytes_are_not() {
        assert_eq!(text(b"hello").as_deref(), Some("hello"));
        assert_eq!(text(&[0xff, 0]), None);
        let long = "ä".repeat(SHOWN);
        let odd = format!("x{long}");
        assert_eq!(text(odd.as_bytes()).map(|t| t.len()), Some(SHOWN - 1));
    }
}
