//! What a forked process is told of its request: `Http_*` variables beside the environment of the instance.
//!
//! A header's variable has its name as Go writes headers, with `_` for `-`, and the first of its values. The names of what
//! is no header come first and are not given away: a header called `Method` changes nothing.

use http::header::{CONTENT_LENGTH, HOST, HeaderName};
use http::request;

use crate::CallInfo;
use crate::head;

/// Would be obeyed by HTTP clients that look for a proxy's variable in any case of letters.
const PROXY: HeaderName = HeaderName::from_static("proxy");

/// The variables of a call. Of the two watchdogs, the older tells more.
pub(super) fn of(
    parts: &request::Parts,
    info: &CallInfo,
    has_body: bool,
    older: bool,
) -> Vec<(String, String)> {
    let headers = &parts.headers;
    let mut all: Vec<(String, String)> = Vec::with_capacity(8 + headers.keys_len());
    let mut set = |name: &str, value: String| all.push((name.to_owned(), value));
    let (path, query) = head::after(&parts.uri, info.prefix.len);
    set("Http_Method", parts.method.as_str().to_owned());
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        set("Http_Query", query.to_owned());
    }
    set("Http_Path", decoded(path));
    let length = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    let chunked = has_body && length.is_none();
    if chunked {
        set("Http_Transfer_Encoding", "chunked".to_owned());
    }
    if older {
        let length = match length {
            Some(length) => length.to_owned(),
            None if chunked => "-1".to_owned(),
            None => "0".to_owned(),
        };
        set("Http_ContentLength", length.clone());
        set("Http_Content_Length", length);
        let host = headers.get(HOST).and_then(|v| v.to_str().ok());
        let host = host.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str));
        set("Http_Host", host.unwrap_or_default().to_owned());
    }
    for name in headers.keys() {
        if *name == HOST || *name == PROXY {
            continue;
        }
        let variable = format!("Http_{}", canonical(name).replace('-', "_"));
        if all.iter().any(|(taken, _)| *taken == variable) {
            continue;
        }
        if let Some(value) = headers.get(name) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            all.push((variable, value));
        }
    }
    all
}

/// A header's name as Go writes it: `X-My-Header`.
pub(super) fn canonical(name: &HeaderName) -> String {
    let mut begins = true;
    name.as_str()
        .chars()
        .map(|c| {
            let written = if begins { c.to_ascii_uppercase() } else { c };
            begins = c == '-';
            written
        })
        .collect()
}

/// The path as it is meant, `/` where there is none. One that no variable can hold stays as it was written.
fn decoded(path: &str) -> String {
    if path.is_empty() {
        return "/".to_owned();
    }
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    if decoded.contains('\0') {
        return path.to_owned();
    }
    decoded.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Prefix;
    use http::Request;
    use tidegate_core::InvocationId;

    fn variables(request: http::request::Builder, has_body: bool, older: bool) -> Vec<String> {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let info = CallInfo {
            id: InvocationId::from_u128(1),
            prefix: Prefix {
                len: "/function/f".len(),
            },
            remaining: std::time::Duration::from_secs(1),
            caller: None,
        };
        let mut all: Vec<_> = of(&parts, &info, has_body, older)
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        all.sort();
        all
    }

    fn request(uri: &str) -> http::request::Builder {
        Request::post(uri)
            .header("host", "fn.example")
            .header("content-type", "text/plain")
            .header("x-my-hdr", "a")
            .header("x-my-hdr", "b")
    }

    #[test]
    fn both_watchdogs_tell_of_headers_method_query_and_path() {
        let with_length = request("/function/f/a%20b?x=1").header("content-length", "3");
        assert_eq!(
            variables(with_length, true, false),
            [
                "Http_Content_Length=3",
                "Http_Content_Type=text/plain",
                "Http_Method=POST",
                "Http_Path=/a b",
                "Http_Query=x=1",
                "Http_X_My_Hdr=a",
            ]
        );
        assert_eq!(
            variables(request("/function/f"), true, true),
            [
                "Http_ContentLength=-1",
                "Http_Content_Length=-1",
                "Http_Content_Type=text/plain",
                "Http_Host=fn.example",
                "Http_Method=POST",
                "Http_Path=/",
                "Http_Transfer_Encoding=chunked",
                "Http_X_My_Hdr=a",
            ]
        );
    }

    #[test]
    fn headers_neither_name_a_proxy_nor_pass_for_what_is_no_header() {
        let forged = Request::get("/function/f")
            .header("proxy", "http://evil")
            .header("method", "DELETE")
            .header("path", "/etc");
        assert_eq!(
            variables(forged, false, false),
            ["Http_Method=GET", "Http_Path=/"]
        );
    }
}
