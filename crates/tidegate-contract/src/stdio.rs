//! A process a call: the request body on standard input, the response body on standard output.
//!
//! The environment carries the request in the names of CGI/1.1 (RFC 3875), which every language has a reader for. What
//! the process writes is held back until it has ended or has written more than [`SPOOL`]: a process that fails before
//! then becomes a proper error response; one that fails later breaks the response off, never ends it cleanly.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use tidegate_instance::Exec;

use crate::body::{AnswerBody, Body};
use crate::process::{Output, ProcessBody, Running};
use crate::{CallError, CallInfo, Target, head};

/// Output held back until the exit code is known: enough for most answers, little enough to hold for every call.
const SPOOL: usize = 64 * 1024;

pub(crate) async fn call(
    target: &Arc<Target>,
    request: Request<Body>,
    info: &CallInfo,
) -> Result<Response<AnswerBody>, CallError> {
    let exec = Exec {
        env: environment(&request, info),
        invocation: Some(info.id),
        ..Exec::default()
    };
    let mut running = Running::start(target, exec, request.into_body())
        .await
        .map_err(CallError::Exec)?;
    let Output { bytes, whole } = running.read(SPOOL).await?;
    let kind = guess_type(&bytes, whole);
    let bytes = bytes.freeze();
    let body = if whole {
        match running.exit().await {
            Some(exit) if exit.is_success() => AnswerBody::full(bytes),
            Some(exit) => return Err(CallError::Exit(exit)),
            None => return Err(CallError::Closed),
        }
    } else {
        AnswerBody::Process(ProcessBody::new(bytes, running))
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// The request in the names of CGI/1.1, with `REQUEST_ID` and `REQUEST_URI` beside them as every server adds.
fn environment(request: &Request<Body>, info: &CallInfo) -> Vec<(String, String)> {
    let uri = head::origin_form(request.uri(), info.prefix.len, "");
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
