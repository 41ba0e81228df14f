//! Logs, of functions and of builds, as newline-delimited JSON.

use std::time::SystemTime;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, stream};
use tidegate_platform::{BuildTail, LogTail};

use crate::document;

/// The lines of a tail, and with `follow` those still to come, as long as there is the function.
pub(crate) fn body(tail: LogTail, follow: bool) -> Body {
    Body::from_stream(lines(tail, follow))
}

fn lines(
    tail: LogTail,
    follow: bool,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    stream::unfold(tail, move |mut tail| async move {
        let mut lines = tail.read();
        if lines.is_empty() {
            if !follow {
                return None;
            }
            lines = tail.follow().await;
            if lines.is_empty() {
                return None;
            }
        }
        let lines = lines.into_iter().map(|line| document::LogLine {
            time: timestamp(line.time),
            instance: line.instance.to_string(),
            stream: line.stream.as_str().to_owned(),
            request: line.invocation.map(|id| id.to_string()),
            text: line.text.to_string(),
        });
        Some((Ok(text(lines)), tail))
    })
}

/// The lines of a build, those said and those still to come.
pub(crate) fn build(tail: BuildTail) -> Body {
    Body::from_stream(stream::unfold(tail, |mut tail| async move {
        let lines = tail.next().await?;
        let lines = lines.into_iter().map(|line| document::BuildLine {
            time: timestamp(line.time),
            stream: line.kind.as_str().to_owned(),
            text: line.text.to_string(),
        });
        Some((Ok::<_, std::convert::Infallible>(text(lines)), tail))
    }))
}

pub(crate) fn text(lines: impl Iterator<Item = impl serde::Serialize>) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        // A struct of strings is always JSON.
        if serde_json::to_writer(&mut text, &line).is_ok() {
            text.push(b'\n');
        }
    }
    text.into()
}

/// RFC 3339 with microseconds.
fn timestamp(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| String::new(), |t| format!("{t:.6}"))
}
