//! What becomes of a request's and a response's head between caller and code.

use std::fmt::Write as _;

use http::header::{
    CONNECTION, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{Uri, Version, request};

use crate::CallInfo;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The invocation's id, for the code and the caller.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const DEADLINE: HeaderName = HeaderName::from_static("x-tidegate-deadline-ms");
const PATH_PREFIX: HeaderName = HeaderName::from_static("x-tidegate-path-prefix");

/// Who reads the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader<'a> {
    /// A language host of ours.
    Host,
    /// A server of the user's.
    Server,
    /// A function behind a watchdog: of what we add it sees what it would see upstream.
    Watched {
        /// A language host of ours stands for it.
        hosted: bool,
        /// What precedes every path.
        base: &'a str,
    },
}

/// Rewrites the head for the code: origin-form path after the prefix, no hop-by-hop headers but an upgrade that is asked
/// for, none of the headers that are ours to set, and those set.
pub(crate) fn to_instance(parts: &mut request::Parts, info: &CallInfo, reader: Reader<'_>) {
    let headers = &mut parts.headers;
    let upgrade = wants_upgrade(headers)
        .then(|| headers.remove(UPGRADE))
        .flatten();
    strip_hop_by_hop(headers);
    headers.remove(EXPECT);
    if let Some(protocol) = upgrade {
        headers.insert(UPGRADE, protocol);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    if !headers.contains_key(HOST)
        && let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        headers.insert(HOST, host);
    }
    if parts.version == Version::HTTP_2 {
        join_cookies(headers);
    }
    headers.remove(DEADLINE);
    headers.remove(PATH_PREFIX);
    let base = match reader {
        Reader::Watched { hosted, base } => {
            forwarded_where_absent(headers, info.caller.as_ref());
            if hosted {
                headers.insert(REQUEST_ID, id_value(info));
                headers.insert(DEADLINE, deadline(info));
            }
            base
        }
        Reader::Host | Reader::Server => {
            headers.insert(REQUEST_ID, id_value(info));
            if let Some(caller) = &info.caller {
                forwarded(headers, caller);
            }
            if reader == Reader::Host {
                headers.insert(DEADLINE, deadline(info));
                let prefix = &parts.uri.path()[..info.prefix.len];
                if let Ok(prefix) = HeaderValue::from_str(prefix) {
                    headers.insert(PATH_PREFIX, prefix);
                }
            }
            ""
        }
    };
    parts.uri = origin_form(&parts.uri, info.prefix.len, base);
    parts.version = Version::HTTP_11;
}

/// Puts the headers in order for a process that is forked by a watchdog.
pub(crate) fn to_process(parts: &mut request::Parts, info: &CallInfo) {
    let headers = &mut parts.headers;
    strip_hop_by_hop(headers);
    for ours in [EXPECT, DEADLINE, PATH_PREFIX] {
        headers.remove(ours);
    }
    if parts.version == Version::HTTP_2 {
        join_cookies(headers);
    }
    forwarded_where_absent(headers, info.caller.as_ref());
}

/// The path after the prefix, and the query.
pub(crate) fn after(uri: &Uri, prefix: usize) -> (&str, Option<&str>) {
    (&uri.path()[prefix..], uri.query())
}

/// Removes what was meant for the instance's connection only. `Trailer` stays: trailers pass through.
pub(crate) fn from_instance(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
}

/// The path after the prefix and below the base, beginning with `/`, and the query.
pub(crate) fn origin_form(uri: &Uri, prefix: usize, base: &str) -> Uri {
    let path = &uri.path()[prefix..];
    if prefix == 0 && base.is_empty() && uri.authority().is_none() {
        return uri.clone();
    }
    let query = uri.query().map_or(0, |q| q.len() + 1);
    let mut text = String::with_capacity(base.len() + path.len() + 1 + query);
    text.push_str(base);
    if !path.starts_with('/') {
        text.push('/');
    }
    text.push_str(path);
    if let Some(query) = uri.query() {
        // Writing to a string cannot fail.
        let _ = write!(text, "?{query}");
    }
    // Every part was a part of a valid URI, at a `/`.
    PathAndQuery::from_maybe_shared(text).map_or_else(|_| Uri::from_static("/"), Uri::from)
}

pub(crate) fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
        && headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

fn id_value(info: &CallInfo) -> HeaderValue {
    HeaderValue::from_bytes(&info.id.hex()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn deadline(info: &CallInfo) -> HeaderValue {
    HeaderValue::from(u64::try_from(info.remaining.as_millis()).unwrap_or(u64::MAX))
}

/// As OpenFaaS's gateway has it: who is named already stays the only one.
fn forwarded_where_absent(headers: &mut HeaderMap, caller: Option<&crate::Caller>) {
    let Some(caller) = caller else { return };
    if !headers.contains_key(FORWARDED_FOR) {
        headers.insert(FORWARDED_FOR, caller.peer.clone());
    }
    if !headers.contains_key(FORWARDED_HOST)
        && let Some(host) = headers.get(HOST).cloned()
    {
        headers.insert(FORWARDED_HOST, host);
    }
}

fn forwarded(headers: &mut HeaderMap, caller: &crate::Caller) {
    let chain = match headers.get(FORWARDED_FOR) {
        Some(before) => {
            let mut chain = before.as_bytes().to_vec();
            chain.extend_from_slice(b", ");
            chain.extend_from_slice(caller.address.as_bytes());
            HeaderValue::from_bytes(&chain).unwrap_or_else(|_| caller.address.clone())
        }
        None => caller.address.clone(),
    };
    headers.insert(FORWARDED_FOR, chain);
    if !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(caller.scheme));
    }
    if !headers.contains_key(FORWARDED_HOST)
        && let Some(host) = headers.get(HOST).cloned()
    {
        headers.insert(FORWARDED_HOST, host);
    }
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // There may be several; an empty list allocates nothing.
    let connection: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
    for listed in connection.iter().filter_map(|value| value.to_str().ok()) {
        for name in listed.split(',').map(str::trim) {
            if !name.eq_ignore_ascii_case("close") && !name.eq_ignore_ascii_case("keep-alive") {
                headers.remove(name);
            }
        }
    }
    headers.remove(CONNECTION);
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// HTTP/2 lets a client send a cookie a header; HTTP/1.1 wants one line (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut all = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (all.next(), all.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for cookie in std::iter::once(second).chain(all) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Caller, Prefix};
    use std::time::Duration;
    use tidegate_core::InvocationId;

    fn info(prefix: usize) -> CallInfo {
        CallInfo {
            id: InvocationId::from_u128(0xabc),
            prefix: Prefix { len: prefix },
            remaining: Duration::from_millis(1500),
            caller: Some(Caller {
                address: HeaderValue::from_static("10.1.2.3"),
                peer: HeaderValue::from_static("10.1.2.3:4567"),
                scheme: "http",
            }),
        }
    }

    fn seen(request: http::request::Builder, prefix: usize, reader: Reader<'_>) -> request::Parts {
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        to_instance(&mut parts, &info(prefix), reader);
        parts
    }

    #[test]
    fn the_code_sees_the_path_after_the_prefix() {
        for (uri, prefix, want) in [
            ("/fn/f", 5, "/"),
            ("/fn/f/", 5, "/"),
            ("/fn/f/a/b?x=1&y=%20", 5, "/a/b?x=1&y=%20"),
            ("/fn/f?x", 5, "/?x"),
            ("http://f.default.fn.localhost/a?b", 0, "/a?b"),
            ("/whole/path", 0, "/whole/path"),
        ] {
            let parts = seen(http::Request::get(uri), prefix, Reader::Server);
            assert_eq!(parts.uri.to_string(), want, "{uri}");
        }
    }

    #[test]
    fn hop_by_hop_headers_and_forged_ones_of_ours_are_gone() {
        let request = http::Request::get("/fn/f")
            .header("host", "h")
            .header("connection", "close, x-private")
            .header("connection", "x-secret")
            .header("x-private", "1")
            .header("x-secret", "1")
            .header("te", "trailers")
            .header("x-tidegate-path-prefix", "/forged")
            .header("x-request-id", "forged")
            .header("x-forwarded-for", "1.1.1.1")
            .header("x-kept", "1");
        let parts = seen(request, 5, Reader::Host);
        let get = |n: &str| parts.headers.get(n).map(|v| v.to_str().unwrap().to_owned());
        assert_eq!(get("connection"), None);
        assert_eq!(get("x-private"), None);
        assert_eq!(get("x-secret"), None);
        assert_eq!(get("te"), None);
        assert_eq!(get("x-kept").as_deref(), Some("1"));
        assert_eq!(get("x-tidegate-path-prefix").as_deref(), Some("/fn/f"));
        assert_eq!(get("x-tidegate-deadline-ms").as_deref(), Some("1500"));
        assert_eq!(
            get("x-request-id").as_deref(),
            Some("00000000000000000000000000000abc")
        );
        assert_eq!(get("x-forwarded-for").as_deref(), Some("1.1.1.1, 10.1.2.3"));
        assert_eq!(get("x-forwarded-host").as_deref(), Some("h"));
    }

    #[test]
    fn an_upgrade_that_is_asked_for_survives() {
        let request = http::Request::get("/fn/f")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket");
        let parts = seen(request, 5, Reader::Server);
        assert_eq!(parts.headers["upgrade"], "websocket");
        assert_eq!(parts.headers["connection"], "upgrade");
        let parts = seen(
            http::Request::get("/fn/f").header("upgrade", "h2c"),
            5,
            Reader::Server,
        );
        assert!(!parts.headers.contains_key("upgrade"));
    }

    #[test]
    fn cookies_of_http2_become_one_line() {
        let request = http::Request::get("http://h/fn/f")
            .version(Version::HTTP_2)
            .header("cookie", "a=1")
            .header("cookie", "b=2");
        let parts = seen(request, 5, Reader::Server);
        assert_eq!(parts.headers["cookie"], "a=1; b=2");
        assert_eq!(parts.headers["host"], "h");
    }
}
