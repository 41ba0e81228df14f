//! What watchdogs say in the function's log.
//!
//! Clients look for these lines, so their words are fixed. They carry no time of their own, since the log has one a line;
//! what the function itself writes gets one where its watchdog is told to prefix lines, which is the newer one's habit.

use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Uri, header};
use tidegate_core::{InstanceId, InvocationId};
use tidegate_instance::{LogSink, LogStream};
use tokio::time::Instant;

use crate::{CallInfo, Target, head};

/// Calls from agents whose names begin so are not logged.
const PROBE: &[u8] = b"kube-probe";

/// The call's name, as its caller or the gateway gave it.
const CALL_ID: header::HeaderName = header::HeaderName::from_static("x-call-id");

/// Longest path and query that a line repeats, in bytes.
const LONGEST_URI: usize = 2048;

/// A call that a line will be about.
pub(crate) struct Subject {
    method: Method,
    uri: Uri,
    prefix: usize,
    pub(crate) started: Instant,
    id: InvocationId,
    /// Outer `None`: lines do not name calls. Inner: this one has no name.
    call_id: Option<Option<HeaderValue>>,
    /// Nobody wants to read of it.
    is_probe: bool,
}

/// What there is to say of an answer.
#[derive(Clone, Copy)]
pub(crate) enum Said<'a> {
    /// From an upstream: the status with its reason, and the length that it declared.
    Upstream(http::StatusCode, Option<u64>),
    /// From an upstream, streamed: the bytes that came.
    Streamed(http::StatusCode, u64),
    /// From a process: the status, and the bytes that were answered.
    Forked(http::StatusCode, u64),
    /// A line as it is.
    Plain(&'a str),
}

/// A size as people read it: `126B`, `1.234kB`; `-1B` for one that is not known.
pub(crate) struct Human(pub(crate) Option<u64>);

/// Gives each line of a function's the time and the name of its stream.
struct Prefixed(Arc<dyn LogSink>);

impl Subject {
    pub(crate) fn new(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        info: &CallInfo,
        with_call_id: bool,
    ) -> Self {
        let agent = headers.get(header::USER_AGENT);
        Self {
            method: method.clone(),
            uri: uri.clone(),
            prefix: info.prefix.len,
            started: Instant::now(),
            id: info.id,
            call_id: with_call_id.then(|| headers.get(CALL_ID).cloned()),
            is_probe: agent.is_some_and(|agent| agent.as_bytes().starts_with(PROBE)),
        }
    }

    /// Writes a line about the call.
    pub(crate) fn log(&self, target: &Target, said: Said<'_>) {
        if self.is_probe {
            return;
        }
        if let Said::Plain(line) = said {
            self.write(target, line);
            return;
        }
        let mut line = String::with_capacity(128);
        // Writing to a string cannot fail.
        let _ = self.compose(&mut line, said);
        self.write(target, &line);
    }

    fn write(&self, target: &Target, line: &str) {
        let sink = target.logs();
        // As a watchdog's own lines come, beside what the function says there.
        let stream = LogStream::Stderr;
        sink.line(
            target.instance().id(),
            stream,
            Some(self.id),
            line.as_bytes(),
        );
    }

    fn compose(&self, line: &mut String, said: Said<'_>) -> std::fmt::Result {
        let (path, query) = head::after(&self.uri, self.prefix);
        write!(line, "{} ", self.method)?;
        if !path.starts_with('/') {
            line.push('/');
        }
        line.push_str(shortened(path));
        if let Some(query) = query {
            line.push('?');
            line.push_str(shortened(query));
        }
        match said {
            Said::Upstream(status, length) => {
                write!(line, " - {status} - ContentLength: {}", Human(length))?;
            }
            Said::Streamed(status, bytes) => {
                write!(line, " - {status} - Bytes: {}", Human(Some(bytes)))?;
            }
            Said::Forked(status, bytes) => {
                let code = status.as_u16();
                write!(line, " - {code} - ContentLength: {}", Human(Some(bytes)))?;
            }
            Said::Plain(_) => {}
        }
        write!(line, " ({:.4}s)", self.started.elapsed().as_secs_f64())?;
        match &self.call_id {
            None => Ok(()),
            Some(None) => line.write_str(" [none]"),
            Some(Some(id)) => write!(line, " [{}]", String::from_utf8_lossy(id.as_bytes())),
        }
    }
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_URI)]
}

impl std::fmt::Display for Human {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(bytes) = self.0 else {
            return f.write_str("-1B");
        };
        let mut size = bytes as f64;
        let mut unit = "B";
        for next in ["kB", "MB", "GB", "TB", "PB", "EB"] {
            if size < 1000.0 {
                break;
            }
            size /= 1000.0;
            unit = next;
        }
        // Four digits that matter, and no zeros after them.
        let decimals = match size {
            size if size < 10.0 => 3,
            size if size < 100.0 => 2,
            size if size < 1000.0 => 1,
            _ => 0,
        };
        let digits = format!("{size:.decimals$}");
        let digits = match digits.contains('.') {
            true => digits.trim_end_matches('0').trim_end_matches('.'),
            false => &digits,
        };
        write!(f, "{digits}{unit}")
    }
}

/// The sink for what a function itself writes.
pub(crate) fn prefixed(sink: Arc<dyn LogSink>) -> Arc<dyn LogSink> {
    Arc::new(Prefixed(sink))
}

impl LogSink for Prefixed {
    fn line(
        &self,
        instance: InstanceId,
        stream: LogStream,
        invocation: Option<InvocationId>,
        text: &[u8],
    ) {
        if stream == LogStream::System {
            return self.0.line(instance, stream, invocation, text);
        }
        let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
        let mut line = format!(
            "{} {}: ",
            now.strftime("%Y/%m/%d %H:%M:%S"),
            stream.as_str()
        );
        line.push_str(&String::from_utf8_lossy(text));
        self.0.line(instance, stream, invocation, line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_four_digits_and_no_more() {
        for (bytes, want) in [
            (Some(0), "0B"),
            (Some(126), "126B"),
            (Some(999), "999B"),
            (Some(1000), "1kB"),
            (Some(1234), "1.234kB"),
            (Some(12_345), "12.35kB"),
            (Some(123_456), "123.5kB"),
            (Some(1_000_000), "1MB"),
            (Some(10 << 20), "10.49MB"),
            (None, "-1B"),
        ] {
            assert_eq!(Human(bytes).to_string(), want, "{bytes:?}");
        }
    }
}
