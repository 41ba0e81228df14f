//! Logs as newline-delimited JSON, a line a message.
//!
//! A stream that follows goes on until its reader leaves, the function is deleted, or the server ends: no time limit of the
//! server's cuts it off.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{StatusCode, header};
use serde::Serialize;
use tidegate_core::InstanceId;
use tidegate_platform::{Function, LogLine, LogQuery, LogTail, Platform};

use super::answer::{Answer, Params, Refusal};
use super::place::Place;
use crate::{OpenFaas, shown_namespace};

/// What is told where neither a number of lines nor a time is asked for.
const HISTORY: Duration = Duration::from_secs(5 * 60);

/// How often a stream that follows looks whether its function is still there.
const LOOK: Duration = Duration::from_secs(2);

/// One line as clients read it.
#[derive(Serialize)]
struct Message<'a> {
    name: &'a str,
    namespace: &'a str,
    instance: String,
    timestamp: String,
    text: &'a str,
}

/// Which lines.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    tail: Option<usize>,
    since: Option<SystemTime>,
    instance: Option<String>,
    follow: bool,
}

/// What a function wrote.
pub(super) async fn logs(State(openfaas): State<OpenFaas>, params: Params) -> Answer<Response> {
    let platform = openfaas.platform();
    let wanted = Wanted::read(&params, SystemTime::now())
        .ok_or_else(|| unprocessable("could not parse the log request"))?;
    let name = params
        .get("name")
        .ok_or_else(|| unprocessable("could not parse the log request"))?;
    let place = Place::of(name, None, &params);
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    let Some(function) = platform.function(place.key()) else {
        // Stored, but not yet known to the engine: it has written nothing.
        if platform.owner_of(place.key()).await?.is_some() {
            return Ok((headers, Body::empty()).into_response());
        }
        return Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "function log request failed",
        ));
    };
    let instance = match &wanted.instance {
        None => None,
        Some(word) => match instance(word) {
            Some(id) => Some(id),
            // Nobody is called so, so nobody has written anything.
            None => return Ok((headers, Body::empty()).into_response()),
        },
    };
    let query = LogQuery {
        invocation: None,
        instance,
        since: wanted.since,
    };
    let reading = Reading {
        tail: platform.logs(&function, query, wanted.tail),
        platform: platform.clone(),
        function,
        place,
        follow: wanted.follow,
    };
    Ok((headers, Body::from_stream(reading.lines())).into_response())
}

struct Reading {
    tail: LogTail,
    platform: Platform,
    function: Arc<Function>,
    place: Place,
    follow: bool,
}

impl Reading {
    fn lines(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
        stream::unfold(self, |mut reading| async move {
            let mut lines = reading.tail.read();
            while lines.is_empty() {
                if !reading.follow || !reading.is_there() {
                    return None;
                }
                if let Ok(more) = tokio::time::timeout(LOOK, reading.tail.follow()).await {
                    lines = more;
                }
            }
            Some((Ok(reading.text(&lines)), reading))
        })
    }

    /// Whether the function is still the one whose log this is.
    fn is_there(&self) -> bool {
        self.platform
            .function(self.place.key())
            .is_some_and(|now| Arc::ptr_eq(&now, &self.function))
    }

    fn text(&self, lines: &[LogLine]) -> Bytes {
        let mut text = Vec::new();
        for line in lines {
            let message = Message {
                name: &self.place.name,
                namespace: shown_namespace(&self.place.namespace),
                instance: line.instance.to_string(),
                timestamp: timestamp(line.time),
                text: &line.text,
            };
            // A struct of strings is always JSON.
            if serde_json::to_writer(&mut text, &message).is_ok() {
                text.push(b'\n');
            }
        }
        text.into()
    }
}

impl Wanted {
    /// None where a value does not read as what it should be.
    fn read(params: &Params, now: SystemTime) -> Option<Self> {
        let tail = params.get("tail").map(str::parse::<i64>).transpose().ok()?;
        let since = params
            .get("since")
            .map(str::parse::<jiff::Timestamp>)
            .transpose()
            .ok()?
            .map(SystemTime::from);
        let follow = match params.get("follow") {
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
            Some(_) => return None,
        };
        let recent = now.checked_sub(HISTORY);
        Some(Self {
            // One that is not above zero asks for all there is.
            tail: tail
                .and_then(|n| usize::try_from(n).ok())
                .filter(|&n| n > 0),
            since: since.or(recent.filter(|_| tail.is_none())),
            instance: params.get("instance").map(str::to_owned),
            follow,
        })
    }
}

fn instance(word: &str) -> Option<InstanceId> {
    word.strip_prefix('i')?.parse().ok().map(InstanceId)
}

fn unprocessable(text: &str) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, text)
}

/// RFC 3339 with microseconds.
fn timestamp(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| String::new(), |t| format!("{t:.6}"))
}

#[cfg(test)]
mod tests {
    use axum::extract::FromRequestParts as _;

    use super::*;

    async fn read(query: &str) -> Option<Wanted> {
        let request = http::Request::get(format!("/x?{query}")).body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        let params = match Params::from_request_parts(&mut parts, &()).await {
            Ok(params) => params,
            Err(never) => match never {},
        };
        Wanted::read(&params, SystemTime::UNIX_EPOCH + Duration::from_secs(1000))
    }

    #[tokio::test]
    async fn what_is_asked_for_reads_as_clients_write_it() {
        let at = |s| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(s));
        let wanted = |tail, since, follow| Wanted {
            tail,
            since,
            instance: None,
            follow,
        };
        for (query, expected) in [
            ("name=f", wanted(None, at(700), false)),
            ("tail=-1&follow=true", wanted(None, None, true)),
            ("tail=5&follow=0", wanted(Some(5), None, false)),
            ("tail=0", wanted(None, None, false)),
            ("tail=5&tail=7", wanted(Some(7), None, false)),
            ("since=1970-01-01T00:00:09Z", wanted(None, at(9), false)),
            (
                "since=1970-01-01T02:00:09%2B02:00&tail=1",
                wanted(Some(1), at(9), false),
            ),
        ] {
            assert_eq!(read(query).await, Some(expected), "{query}");
        }
        for bad in ["tail=x", "tail=1.5", "since=yesterday", "follow=maybe"] {
            assert_eq!(read(bad).await, None, "{bad}");
        }
    }
}
