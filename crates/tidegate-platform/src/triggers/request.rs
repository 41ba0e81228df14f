//! What a trigger calls its function with.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Method, header};
use serde::{Deserialize, Serialize};

use crate::LowerError;

/// Largest body in bytes: it is a part of the trigger's document, which is read whole at every tick.
pub const MAX_TRIGGER_BODY: usize = 128 * 1024;

/// Most headers.
const MAX_HEADERS: usize = 64;

/// Longest path in bytes.
const MAX_PATH: usize = 4096;

/// Headers that say how a message is carried, which is not the trigger's to say.
const NOT_THEIRS: [HeaderName; 10] = [
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
];

/// What a function is called with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TriggerRequest {
    /// `POST` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Below the function, with the query; `/` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What the body is; where absent, `application/json` if it is JSON, else plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The body; none where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

impl TriggerRequest {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks all of it.
    ///
    /// # Errors
    /// It says something that cannot be sent.
    pub(super) fn check(&self) -> Result<(), LowerError> {
        let method = self.method();
        if method.parse::<Method>().is_err()
            || method.bytes().any(|b| b.is_ascii_lowercase())
            || matches!(method, "CONNECT" | "TRACE")
        {
            return Err(LowerError::new(
                "spec.request.method",
                format!("{method:?} is not a method; write one such as POST or GET"),
            ));
        }
        let path = self.path();
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
        if self.headers.len() > MAX_HEADERS {
            return Err(LowerError::new(
                "spec.request.headers",
                format!(
                    "has {} headers; at most {MAX_HEADERS} are sent",
                    self.headers.len()
                ),
            ));
        }
        for (name, value) in &self.headers {
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
        if let Some(kind) = &self.content_type
            && HeaderValue::from_str(kind).is_err()
        {
            return Err(LowerError::new(
                "spec.request.contentType",
                format!("{kind:?} cannot be sent; write one such as application/json"),
            ));
        }
        let bytes = self.body.as_ref().map_or(0, String::len);
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

    /// The method, in capitals.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method.as_deref().unwrap_or("POST")
    }

    /// The path below the function, with the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.as_deref().unwrap_or("/")
    }

    /// The same for a request.
    pub(super) fn header_map(&self) -> http::HeaderMap {
        let all = self.all_headers().into_iter();
        // What cannot be sent was refused when it was stored.
        all.filter_map(|(name, value)| {
            let name = HeaderName::try_from(name).ok()?;
            Some((name, HeaderValue::from_bytes(&value).ok()?))
        })
        .collect()
    }

    /// The headers, names in lower case, with that which says what the body is.
    #[must_use]
    pub fn all_headers(&self) -> Vec<(String, Vec<u8>)> {
        let own = self.headers.iter();
        let mut all: Vec<_> = own
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone().into_bytes()))
            .collect();
        let kind = match (&self.content_type, &self.body) {
            (Some(kind), _) => Some(kind.as_str()),
            (None, None) => None,
            (None, Some(body)) if is_json(body) => Some("application/json"),
            (None, Some(_)) => Some("text/plain; charset=utf-8"),
        };
        if let Some(kind) = kind {
            all.push((header::CONTENT_TYPE.to_string(), kind.into()));
        }
        all
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
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
        assert_eq!(nothing.all_headers(), []);
        for (body, kind) in [
            ("{\"a\":1}", "application/json"),
            ("12", "application/json"),
            ("hello", "text/plain; charset=utf-8"),
        ] {
            let headers = of(serde_json::json!({ "body": body, "headers": { "X-A": "b" } }));
            let expected = [("x-a", "b"), ("content-type", kind)];
            let expected = expected.map(|(name, value)| (name.to_owned(), value.into()));
            assert_eq!(headers.all_headers(), expected);
        }
        let named = of(serde_json::json!({ "body": "a: 1", "contentType": "application/yaml" }));
        assert_eq!(named.all_headers()[0].1, b"application/yaml");
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
            let error = of(request).check().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
