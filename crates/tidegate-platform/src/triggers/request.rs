//! What a trigger calls its function with.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tidegate_document::TriggerRequest;

use crate::LowerError;

/// Largest body in bytes: it is a part of the trigger's document, which is read whole at every tick.
pub const MAX_TRIGGER_BODY: usize = 128 * 1024;

/// Most headers.
const MAX_HEADERS: usize = 64;

/// Longest path in bytes.
const MAX_PATH: usize = 4096;

/// Headers that say how a message is carried, which is not the trigger's to say.
const NOT_THEIRS: [HeaderName; 11] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    // Who calls is not theirs to say either.
    HeaderName::from_static(crate::WHO_CALLS[0]),
    HeaderName::from_static(crate::WHO_CALLS[1]),
    HeaderName::from_static(crate::ATTEMPT),
];

/// Checks all of it.
///
/// # Errors
/// It says something that cannot be sent.
pub(super) fn check(request: &TriggerRequest) -> Result<(), LowerError> {
    let method = request.method();
    if method.parse::<Method>().is_err()
        || method.bytes().any(|b| b.is_ascii_lowercase())
        || matches!(method, "CONNECT" | "TRACE")
    {
        return Err(LowerError::new(
            "spec.request.method",
            format!("{method:?} is not a method; write one such as POST or GET"),
        ));
    }
    let path = request.path();
    let is_path = path.starts_with('/')
        && path.len() <= MAX_PATH
        && path.parse::<http::uri::PathAndQuery>().is_ok();
    if !is_path {
        return Err(LowerError::new(
            "spec.request.path",
            format!(
                "{path:?} is not a path; write one below the function such as /jobs?kind=nightly"
            ),
        ));
    }
    if request.headers.len() > MAX_HEADERS {
        return Err(LowerError::new(
            "spec.request.headers",
            format!(
                "has {} headers; at most {MAX_HEADERS} are sent",
                request.headers.len()
            ),
        ));
    }
    for (name, value) in &request.headers {
        let field = || format!("spec.request.headers.{name}");
        let parsed = name.parse::<HeaderName>().map_err(|_| {
            LowerError::new(
                field(),
                "is not the name of a header; write letters, digits and '-'",
            )
        })?;
        if NOT_THEIRS.contains(&parsed) || parsed == header::CONTENT_TYPE {
            return Err(LowerError::new(
                field(),
                "is not for a trigger to say; what the body is stands in contentType",
            ));
        }
        if HeaderValue::from_str(value).is_err() {
            return Err(LowerError::new(
                field(),
                format!("{value:?} cannot be sent; write visible ASCII characters"),
            ));
        }
    }
    if let Some(kind) = &request.content_type
        && HeaderValue::from_str(kind).is_err()
    {
        return Err(LowerError::new(
            "spec.request.contentType",
            format!("{kind:?} cannot be sent; write one such as application/json"),
        ));
    }
    let bytes = request.body.as_ref().map_or(0, String::len);
    if bytes > MAX_TRIGGER_BODY {
        return Err(LowerError::new(
            "spec.request.body",
            format!(
                "has {bytes} bytes; at most {MAX_TRIGGER_BODY} are kept, and a function can fetch more itself"
            ),
        ));
    }
    Ok(())
}

/// Its headers for a request, with that which says what the body is.
pub(super) fn headers(request: &TriggerRequest) -> HeaderMap {
    let own = request.headers.iter();
    let own = own.map(|(name, value)| (name.as_str(), value.as_str()));
    let kind = request.body_type();
    let kind = kind.map(|kind| (header::CONTENT_TYPE.as_str(), kind));
    // What cannot be sent was refused when it was stored.
    own.chain(kind)
        .filter_map(|(name, value)| {
            let name = HeaderName::try_from(name).ok()?;
            Some((name, HeaderValue::from_str(value).ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: serde_json::Value) -> TriggerRequest {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_sent() {
        let nothing = TriggerRequest::default();
        assert_eq!((nothing.method(), nothing.path()), ("POST", "/"));
        assert!(headers(&nothing).is_empty());
        for (body, kind) in [
            ("{\"a\":1}", "application/json"),
            ("12", "application/json"),
            ("hello", "text/plain; charset=utf-8"),
        ] {
            let request = of(serde_json::json!({ "body": body, "headers": { "X-A": "b" } }));
            let sent = headers(&request);
            assert_eq!(sent.len(), 2);
            assert_eq!(sent["x-a"], "b");
            assert_eq!(sent["content-type"], kind);
        }
        let named = of(serde_json::json!({ "body": "a: 1", "contentType": "application/yaml" }));
        assert_eq!(headers(&named)["content-type"], "application/yaml");
    }

    #[test]
    fn what_cannot_be_sent_is_refused_by_its_field() {
        for (request, expected) in [
            (
                serde_json::json!({ "method": "post" }),
                "spec.request.method: \"post\" is not a method; write one such as POST",
            ),
            (
                serde_json::json!({ "path": "a" }),
                "spec.request.path: \"a\" is not a path",
            ),
            (
                serde_json::json!({ "path": "/a b" }),
                "spec.request.path: \"/a b\" is not a path",
            ),
            (
                serde_json::json!({ "headers": { "a b": "c" } }),
                "spec.request.headers.a b: is not the name",
            ),
            (
                serde_json::json!({ "headers": { "Host": "c" } }),
                "spec.request.headers.Host: is not for a trigger",
            ),
            (
                serde_json::json!({ "headers": { "x": "a\nb" } }),
                "spec.request.headers.x: \"a\\nb\" cannot be sent",
            ),
            (
                serde_json::json!({ "contentType": "a\n" }),
                "spec.request.contentType: ",
            ),
            (
                serde_json::json!({ "body": "x".repeat(MAX_TRIGGER_BODY + 1) }),
                "spec.request.body: has 131073 bytes",
            ),
        ] {
            let error = check(&of(request)).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
