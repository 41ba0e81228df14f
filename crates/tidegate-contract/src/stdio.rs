//! A process a call: the request body on standard input, the response body on standard output.
//!
//! The environment carries the request in the names of CGI/1.1 (RFC 3875), which every language has a reader for. What
//! the process writes is held back until it has ended or has written more than [`SPOOL`]: a process that fails before
//! then becomes a proper error response; one that fails later breaks the response off, never ends it cleanly.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body::Frame;
use tidegate_instance::{Exec, Exit, Process};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::unix::pipe;

use crate::body::{AnswerBody, Body, BodyFault};
use crate::{CallError, CallInfo, Target, head};

/// Output held back until the exit code is known: enough for most answers, little enough to hold for every call.
const SPOOL: usize = 64 * 1024;

/// One read from the pipe; a pipe holds this much by default.
const CHUNK: usize = 64 * 1024;

/// Output of a process that has outgrown the spool.
pub struct ProcessBody {
    first: Option<Bytes>,
    stdout: Option<pipe::Receiver>,
    chunk: Box<[u8]>,
    running: Running,
}

/// What must stay alive while a process runs.
struct Running {
    exit: tokio::sync::oneshot::Receiver<Exit>,
    guard: tidegate_instance::KillOnDrop,
    feeder: Option<Feeder>,
}

/// The task that writes the request body; ended with the call. On a fault it gives standard input back unclosed, so that
/// the process cannot take a broken body for a whole one.
struct Feeder(tokio::task::JoinHandle<Option<(BodyFault, pipe::Sender)>>);

pub(crate) async fn call(
    target: &Arc<Target>,
    request: Request<Body>,
    info: &CallInfo,
) -> Result<Response<AnswerBody>, CallError> {
    let env = environment(&request, info);
    let exec = Exec {
        env,
        invocation: Some(info.id),
    };
    let Process {
        stdin,
        mut stdout,
        exit,
        guard,
    } = target
        .instance()
        .exec(exec)
        .await
        .map_err(CallError::Exec)?;

    let body = request.into_body();
    let feeder = (!body.is_empty()).then(|| Feeder(tokio::spawn(feed(body, stdin))));
    let mut running = Running {
        exit,
        guard,
        feeder,
    };

    let mut spool = BytesMut::with_capacity(4096);
    let ended = loop {
        let read = tokio::select! {
            biased;
            fault = std::future::poll_fn(|cx| running.poll_fault(cx)) => return Err(fault.into()),
            read = stdout.read_buf(&mut spool) => read,
        };
        match read {
            Ok(0) => break true,
            Ok(_) if spool.len() >= SPOOL => break false,
            Ok(_) => {}
            Err(error) => return Err(CallError::Exec(error)),
        }
    };
    let kind = guess_type(&spool, ended);
    let spool = spool.freeze();
    let body = if ended {
        match std::future::poll_fn(|cx| running.poll_exit(cx)).await {
            Some(exit) if exit.is_success() => AnswerBody::full(spool),
            Some(exit) => return Err(CallError::Exit(exit)),
            None => return Err(CallError::Closed),
        }
    } else {
        AnswerBody::Process(Box::new(ProcessBody {
            first: Some(spool),
            stdout: Some(stdout),
            chunk: vec![0; CHUNK].into(),
            running,
        }))
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// Writes the body to the process. A process that does not read its input, or ends before it has, is no fault.
async fn feed(mut body: Body, mut stdin: pipe::Sender) -> Option<(BodyFault, pipe::Sender)> {
    use http_body::Body as _;
    loop {
        match std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            None => return None,
            Some(Err(fault)) => return Some((fault, stdin)),
            Some(Ok(frame)) => {
                if let Ok(mut data) = frame.into_data()
                    && stdin.write_all_buf(&mut data).await.is_err()
                {
                    return None;
                }
            }
        }
    }
}

/// The request in the names of CGI/1.1, with `REQUEST_ID` and `REQUEST_URI` beside them as every server adds.
fn environment(request: &Request<Body>, info: &CallInfo) -> Vec<(String, String)> {
    let uri = head::origin_form(request.uri(), info.prefix.len);
    let mut env = Vec::with_capacity(12 + request.headers().len());
    let mut set = |name: &str, value: &str| env.push((name.to_owned(), value.to_owned()));
    set("GATEWAY_INTERFACE", "CGI/1.1");
    set("SERVER_PROTOCOL", &format!("{:?}", request.version()));
    set(
        "SERVER_SOFTWARE",
        concat!("tidegate/", env!("CARGO_PKG_VERSION")),
    );
    set("REQUEST_METHOD", request.method().as_str());
    set(
        "REQUEST_URI",
        uri.path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str),
    );
    set("SCRIPT_NAME", &request.uri().path()[..info.prefix.len]);
    set("PATH_INFO", uri.path());
    set("QUERY_STRING", uri.query().unwrap_or(""));
    set("REQUEST_ID", &info.id.to_string());
    set(
        "TIDEGATE_DEADLINE_MS",
        &info.remaining.as_millis().to_string(),
    );
    if let Some(caller) = &info.caller {
        set("REMOTE_ADDR", caller.address.to_str().unwrap_or(""));
    }
    for (header, name) in [
        (CONTENT_TYPE, "CONTENT_TYPE"),
        (CONTENT_LENGTH, "CONTENT_LENGTH"),
    ] {
        if let Some(value) = request.headers().get(header).and_then(|v| v.to_str().ok()) {
            set(name, value);
        }
    }
    for name in request.headers().keys() {
        // `Proxy` would become HTTP_PROXY, which HTTP clients obey (CVE-2016-5385); the two above have names of their own.
        // One with a `_` would pass for the header that has a `-` there.
        let forged = name.as_str() == "proxy" || name.as_str().contains('_');
        if *name == CONTENT_TYPE || *name == CONTENT_LENGTH || forged {
            continue;
        }
        let values: Vec<_> = request
            .headers()
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .collect();
        let joined = values.join(", ");
        let variable: String = std::iter::once("HTTP_")
            .flat_map(str::chars)
            .chain(name.as_str().chars())
            .map(|c| {
                if c == '-' {
                    '_'
                } else {
                    c.to_ascii_uppercase()
                }
            })
            .collect();
        set(&variable, &joined);
    }
    env
}

/// JSON where all of it is JSON, else text where it is text, else bytes.
fn guess_type(output: &[u8], whole: bool) -> HeaderValue {
    let json = whole
        && matches!(output.trim_ascii_start().first(), Some(b'{' | b'['))
        && serde_json::from_slice::<serde::de::IgnoredAny>(output).is_ok();
    // A character cut at the end of the spool does not make text binary.
    let text = match std::str::from_utf8(output) {
        Ok(_) => true,
        Err(error) => !whole && error.error_len().is_none(),
    };
    HeaderValue::from_static(if json {
        "application/json"
    } else if text {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    })
}

// === impl ProcessBody ===

impl http_body::Body for ProcessBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Poll::Ready(fault) = this.running.poll_fault(cx) {
            return Poll::Ready(Some(Err(fault)));
        }
        if let Some(stdout) = &mut this.stdout {
            let mut chunk = ReadBuf::new(&mut this.chunk);
            let read = ready!(Pin::new(stdout).poll_read(cx, &mut chunk));
            if read.is_ok() && !chunk.filled().is_empty() {
                let data = Bytes::copy_from_slice(chunk.filled());
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            this.stdout = None;
        }
        Poll::Ready(match ready!(this.running.poll_exit(cx)) {
            Some(exit) if exit.is_success() => None,
            _ => Some(Err(BodyFault::InstanceGone)),
        })
    }
}

// === impl Running ===

impl Running {
    /// Ready with how the process ended, once it has; it need not be killed then. `None` when the instance died.
    fn poll_exit(&mut self, cx: &mut Context<'_>) -> Poll<Option<Exit>> {
        let exit = ready!(Pin::new(&mut self.exit).poll(cx));
        self.guard.0 = None;
        Poll::Ready(exit.ok())
    }

    /// Ready when the request body failed, never otherwise.
    fn poll_fault(&mut self, cx: &mut Context<'_>) -> Poll<BodyFault> {
        let Some(feeder) = &mut self.feeder else {
            return Poll::Pending;
        };
        match ready!(Pin::new(&mut feeder.0).poll(cx)) {
            Ok(Some((fault, stdin))) => {
                // Closed only after the process was told to end, which dropping the guard does.
                self.guard.kill();
                drop(stdin);
                Poll::Ready(fault)
            }
            Ok(None) | Err(_) => {
                self.feeder = None;
                Poll::Pending
            }
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_guessed_from_all_of_the_output() {
        for (output, whole, want) in [
            (&b"{\"a\":1}\n"[..], true, "application/json"),
            (b"[1,2]", true, "application/json"),
            (b"{not json", true, "text/plain; charset=utf-8"),
            (b"[1,2", false, "text/plain; charset=utf-8"),
            (b"", true, "text/plain; charset=utf-8"),
            (b"caf\xc3", false, "text/plain; charset=utf-8"),
            (b"caf\xc3", true, "application/octet-stream"),
            (b"\x89PNG", true, "application/octet-stream"),
        ] {
            assert_eq!(guess_type(output, whole), want, "{output:?}");
        }
    }

    #[test]
    fn the_environment_is_cgi_and_carries_no_proxy() {
        let request = Request::post("/fn/wc/a%20b?lines")
            .header("content-type", "text/plain")
            .header("proxy", "http://evil")
            .header("x-multi", "1")
            .header("x-multi", "2")
            .header("x_multi", "forged")
            .body(Body::empty())
            .unwrap();
        let info = CallInfo {
            id: tidegate_core::InvocationId::from_u128(1),
            prefix: crate::Prefix {
                len: "/fn/wc".len(),
            },
            remaining: std::time::Duration::from_secs(1),
            caller: None,
        };
        let env = environment(&request, &info);
        let get = |n: &str| {
            env.iter()
                .find(|(name, _)| name == n)
                .map(|(_, v)| v.as_str())
        };
        assert_eq!(get("REQUEST_METHOD"), Some("POST"));
        assert_eq!(get("PATH_INFO"), Some("/a%20b"));
        assert_eq!(get("QUERY_STRING"), Some("lines"));
        assert_eq!(get("SCRIPT_NAME"), Some("/fn/wc"));
        assert_eq!(get("CONTENT_TYPE"), Some("text/plain"));
        assert_eq!(get("HTTP_X_MULTI"), Some("1, 2"));
        assert_eq!(get("HTTP_PROXY"), None);
        assert_eq!(get("HTTP_CONTENT_TYPE"), None);
    }
}
