//! Calls that are made later: how a request asks for it, what is answered, and what a function's document says of it.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use tidegate_core::queue::{Policy, Retrying};
use tidegate_core::{FunctionKey, InvocationId, Limit, Name, parse_duration};
use tidegate_platform::{
    Accepted, BodyFault, CallBody, Destination, Later, LowerError, MAX_KEY_BYTES, NotAccepted,
    QueueRules, canonical_namespace,
};

use crate::CONTROL_PREFIX;
use crate::document;
use crate::document::queue::headers as names;
use crate::error::ApiError;

/// The word that what comes through here carries.
pub(crate) const DOOR: &str = "native";

const PREFER: HeaderName = HeaderName::from_static("prefer");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What asks for it.
const RESPOND_ASYNC: &str = "respond-async";

/// Longest delay, and longest age.
const MAX_TIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Most calls of one function at once.
const MAX_CONCURRENCY: u32 = 10_000;

/// Whether a request asks to be answered before the call was made.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let all = headers.get_all(&PREFER).iter();
    let words = all.filter_map(|value| value.to_str().ok());
    let mut words = words.flat_map(|value| value.split(','));
    words.any(|word| {
        let word = word.split(';').next().unwrap_or(word);
        word.trim().eq_ignore_ascii_case(RESPOND_ASYNC)
    })
}

/// The call that a request asks for. What is for us in the headers is taken out of what the function will see.
pub(crate) fn wanted(
    method: &Method,
    path_and_query: String,
    headers: &mut HeaderMap,
) -> Result<Later, ApiError> {
    headers.remove(&PREFER);
    let delay = duration(headers, names::DELAY)?.unwrap_or_default();
    let max_age = duration(headers, names::MAX_AGE)?;
    let order_key = word(headers, names::ORDER_KEY)?;
    let callback = word(headers, names::CALLBACK)?;
    // The function may want to know it too.
    let idempotency = word(&mut headers.clone(), names::IDEMPOTENCY_KEY)?;
    Ok(Later {
        door: DOOR,
        method: method.as_str().to_owned(),
        path_and_query,
        headers: std::mem::take(headers),
        delay,
        max_age,
        order_key,
        idempotency,
        callback,
        ..Later::default()
    })
}

fn word(headers: &mut HeaderMap, name: &'static str) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.remove(name) else {
        return Ok(None);
    };
    let refuse = |why: &str| ApiError::invalid(format!("header {name} {why}"));
    let text = value.to_str().map(str::trim);
    let text = text.map_err(|_| refuse("is not text; write visible ASCII characters"))?;
    if text.is_empty() {
        return Err(refuse("is empty; write a word, or leave it out"));
    }
    if text.len() > MAX_KEY_BYTES && name != names::CALLBACK {
        return Err(refuse(&format!(
            "has {} bytes; write at most {MAX_KEY_BYTES}",
            text.len()
        )));
    }
    Ok(Some(text.to_owned()))
}

fn duration(headers: &mut HeaderMap, name: &'static str) -> Result<Option<Duration>, ApiError> {
    let Some(text) = word(headers, name)? else {
        return Ok(None);
    };
    let refuse = |why: String| ApiError::invalid(format!("header {name}: {why}"));
    let duration = parse_duration(&text).map_err(|e| refuse(e.to_string()))?;
    if duration > MAX_TIME {
        return Err(refuse(format!("{text:?} is longer than 30d")));
    }
    Ok(Some(duration))
}

/// The answer to a request that was accepted.
pub(crate) fn accepted(accepted: Accepted) -> Response<CallBody> {
    let mut response = Response::new(CallBody::Full(Full::new(Bytes::new())));
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    let id = accepted.id;
    if let Ok(value) = HeaderValue::from_bytes(&id.hex()) {
        headers.insert(REQUEST_ID, value);
    }
    if let Ok(value) = HeaderValue::try_from(format!("{CONTROL_PREFIX}/queue/{id}")) {
        headers.insert(LOCATION, value);
    }
    headers.insert(APPLIED, HeaderValue::from_static(RESPOND_ASYNC));
    if accepted.duplicate {
        headers.insert(names::DUPLICATE, HeaderValue::from_static("true"));
    }
    response
}

/// The answer to one that was not.
pub(crate) fn refused(error: NotAccepted, id: InvocationId) -> ApiError {
    let message = error.to_string();
    match error {
        NotAccepted::Quota(failure) => ApiError::of_call(failure, id),
        NotAccepted::TooLarge { .. } => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, Limit::Body.as_str(), message)
        }
        NotAccepted::Body(BodyFault::Idle(_)) => {
            ApiError::new(StatusCode::REQUEST_TIMEOUT, Limit::Idle.as_str(), message)
        }
        NotAccepted::Body(_) => ApiError::new(StatusCode::BAD_REQUEST, "cancelled", message),
        NotAccepted::Later { after, .. } => ApiError {
            retry_after: Some(after.as_secs().max(1)),
            ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "queue-full", message)
        },
        NotAccepted::NoQueue => ApiError::new(StatusCode::NOT_IMPLEMENTED, "no-queue", message),
        _ => ApiError::invalid(message),
    }
}

/// What a document says of the calls to its function that are made later.
pub(crate) fn rules(
    key: &FunctionKey,
    said: Option<&document::Later>,
) -> Result<QueueRules, LowerError> {
    let Some(said) = said else {
        return Ok(QueueRules::default());
    };
    let retrying = Retrying {
        retries: said.retries,
        retry_on: said.retry_on.clone(),
        backoff: said.backoff.clone(),
        max_backoff: said.max_backoff.clone(),
        jitter: said.jitter.clone(),
        max_age: said.max_age.clone(),
    };
    let policy = retrying
        .over(Policy::default())
        .map_err(|e| refuse(e.field, e.why))?;
    let time = |field: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => match parse_duration(text) {
            Ok(time) if time <= MAX_TIME => Ok(Some(time)),
            Ok(_) => Err(refuse(field, format!("{text:?} is longer than 30d"))),
            Err(error) => Err(refuse(field, error.to_string())),
        },
    };
    for (field, count) in [("concurrency", said.concurrency), ("rate", said.rate)] {
        if let Some(count) = count
            && !(1..=MAX_CONCURRENCY).contains(&count)
        {
            return Err(refuse(
                field,
                format!("{count} is not from 1 to {MAX_CONCURRENCY}"),
            ));
        }
    }
    Ok(QueueRules {
        policy,
        codes: None,
        concurrency: said.concurrency,
        rate: said.rate.map(f64::from),
        on_success: destination(key, "onSuccess", said.on_success.as_deref())?,
        on_failure: destination(key, "onFailure", said.on_failure.as_deref())?,
        keep_result: time("keepResult", &said.keep_result)?,
        ordered: said.ordered,
    })
}

fn destination(
    of: &FunctionKey,
    field: &str,
    text: Option<&str>,
) -> Result<Option<Destination>, LowerError> {
    let Some(text) = text else {
        return Ok(None);
    };
    if text.contains("://") {
        return Ok(Some(Destination::Url(text.to_owned())));
    }
    let (name, namespace) = match text.split_once('.') {
        Some((name, namespace)) => (name, canonical_namespace(namespace)),
        None => (text, &*of.namespace),
    };
    let checked = |text: &str| Name::new(text).map_err(|e| refuse(field, e.to_string()));
    let key = FunctionKey::new(&checked(namespace)?, &checked(name)?);
    if key == *of {
        return Err(refuse(field, format!("{text:?} is the function itself")));
    }
    Ok(Some(Destination::Function(key)))
}

fn refuse(field: &str, why: impl Into<String>) -> LowerError {
    LowerError::new(format!("spec.async.{field}"), why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> FunctionKey {
        let name = |text| Name::new(text).unwrap();
        FunctionKey::new(&name("default"), &name("f"))
    }

    #[test]
    fn it_is_asked_for_by_a_preference() {
        for (values, want) in [
            (&["respond-async"][..], true),
            (&["wait=10, Respond-Async"], true),
            (&["return=minimal", "respond-async; x=1"], true),
            (&["respond-asynchronously"], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PREFER, HeaderValue::from_static(value));
            }
            assert_eq!(is_wanted(&headers), want, "{values:?}");
        }
    }

    #[test]
    fn what_is_for_us_is_taken_out() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("prefer", "respond-async"),
            (names::DELAY, "30s"),
            (names::MAX_AGE, "1h"),
            (names::ORDER_KEY, "customer-7"),
            (names::IDEMPOTENCY_KEY, "order-1"),
            (names::CALLBACK, "https://example.org/done"),
            ("x-mine", "1"),
        ] {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let later = wanted(&Method::PUT, "/a?b".to_owned(), &mut headers).unwrap();
        assert_eq!(later.delay, Duration::from_secs(30));
        assert_eq!(later.max_age, Some(Duration::from_secs(3600)));
        assert_eq!(later.order_key.as_deref(), Some("customer-7"));
        assert_eq!(later.idempotency.as_deref(), Some("order-1"));
        assert_eq!(later.callback.as_deref(), Some("https://example.org/done"));
        let mut left: Vec<_> = later.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["idempotency-key", "x-mine"]);
        headers.insert(
            HeaderName::from_static(names::DELAY),
            HeaderValue::from_static("soon"),
        );
        let error = wanted(&Method::POST, "/".to_owned(), &mut headers).unwrap_err();
        assert!(
            error.body.error.starts_with("header x-tidegate-delay: "),
            "{}",
            error.body.error
        );
    }

    #[test]
    fn rules_are_read_and_mistakes_are_named() {
        let said = document::Later {
            retries: Some(5),
            retry_on: Some("all".to_owned()),
            backoff: Some("2s".to_owned()),
            max_age: Some("1h".to_owned()),
            on_failure: Some("alarm.ops".to_owned()),
            ordered: true,
            ..document::Later::default()
        };
        let read = rules(&key(), Some(&said)).unwrap();
        assert_eq!(read.policy.retries, 5);
        assert_eq!(read.policy.min_delay_ms, 2000);
        assert_eq!(read.policy.max_age_ms, 3_600_000);
        assert!(read.ordered);
        let Some(Destination::Function(to)) = read.on_failure else {
            panic!("{:?}", read.on_failure);
        };
        assert_eq!(to.to_string(), "ops/alarm");
        assert_eq!(rules(&key(), None).unwrap(), QueueRules::default());
        for (said, part) in [
            (
                document::Later {
                    jitter: Some("some".to_owned()),
                    ..document::Later::default()
                },
                "spec.async.jitter: \"some\"",
            ),
            (
                document::Later {
                    on_success: Some("f".to_owned()),
                    ..document::Later::default()
                },
                "spec.async.onSuccess: \"f\" is the function itself",
            ),
            (
                document::Later {
                    max_age: Some("90d".to_owned()),
                    ..document::Later::default()
                },
                "spec.async.maxAge: \"90d\" is longer",
            ),
            (
                document::Later {
                    rate: Some(0),
                    ..document::Later::default()
                },
                "spec.async.rate: 0",
            ),
        ] {
            let error = rules(&key(), Some(&said)).unwrap_err().to_string();
            assert!(error.starts_with(part), "{error}");
        }
    }
}
