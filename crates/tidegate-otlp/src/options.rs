//! Where to, as whom, how much, and the words that people write for it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use tidegate_core::Backoff;
use tidegate_egress::{Target, Upstreams};

/// What is sent, and where to.
#[derive(Clone, Debug)]
pub struct Options {
    /// The collector.
    pub endpoint: Endpoint,
    /// Sent with every request.
    pub headers: Headers,
    /// What the server calls itself. Functions are services of their own names.
    pub service: String,
    /// Attributes of everything that is sent.
    pub attributes: Attributes,
    /// Whether spans are sent.
    pub traces: bool,
    /// Whether metrics are sent.
    pub metrics: bool,
    /// Whether lines are sent: what functions print, and the server's own.
    pub logs: bool,
    /// How often metrics are sent.
    pub interval: Duration,
    /// The operator's own proxies.
    pub upstreams: Upstreams,
    /// How much is kept in memory, and for how long it is tried.
    pub bounds: Bounds,
}

/// How much is kept in memory, and for how long it is tried.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Bounds {
    /// Most spans or lines of one request.
    pub batch: usize,
    /// How long spans and lines are gathered before they are sent.
    pub gather: Duration,
    /// How long a line waits for the record of its invocation, which says of which trace it is.
    pub patience: Duration,
    /// Bytes of lines, and as many of spans without a record, that wait in memory; beyond it they are dropped and counted.
    pub queue_bytes: usize,
    /// From a request's begin to the end of its answer.
    pub timeout: Duration,
    /// How long a batch is tried again before it is dropped. Spans behind it wait on disk, as records.
    pub give_up: Duration,
    /// Pauses between tries, where the collector asks for none.
    pub backoff: Backoff,
    /// The longest pause that a collector's `Retry-After` can ask for.
    pub longest_pause: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            // Some 300 KiB: below what collectors take as one request, by a factor of ten.
            batch: 512,
            // Soon enough for whoever looks at what he has just called.
            gather: Duration::from_secs(1),
            // Most invocations are over by then; lines of longer ones have the invocation's id alone.
            patience: Duration::from_secs(5),
            queue_bytes: 8 << 20,
            // As other exporters have it.
            timeout: Duration::from_secs(10),
            // A collector's restart or upgrade; what is older would be told long after anybody asked.
            give_up: Duration::from_secs(15 * 60),
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
            longest_pause: Duration::from_secs(5 * 60),
        }
    }
}

/// The address of a collector, below which the three signals have their paths: `http://127.0.0.1:4318`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) target: Target,
    pub(crate) is_tls: bool,
    /// As the URL has it, for the `Host` header.
    pub(crate) authority: String,
    /// Without a slash at its end.
    base: String,
}

/// Header fields, `api-key=secret,other=value`. Their values show themselves nowhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub(crate) Vec<(HeaderName, HeaderValue)>);

/// Attributes, `deployment.environment.name=production,host.name=a`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub(crate) Vec<(String, String)>);

/// What somebody wrote is no address, no header fields or no attributes. Says nothing of values, which may be secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

// === impl Endpoint ===

impl Endpoint {
    /// The path of a signal: `traces`, `metrics` or `logs`.
    pub(crate) fn path(&self, signal: &str) -> String {
        format!("{}/v1/{signal}", self.base)
    }
}

impl FromStr for Endpoint {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let example =
            || ParseError("write the URL of a collector, such as http://127.0.0.1:4318".to_owned());
        let target = Target::of_url(text).map_err(|_| example())?;
        let uri: Uri = text.parse().map_err(|_| example())?;
        let authority = uri.authority().ok_or_else(example)?.as_str().to_owned();
        if authority.contains('@') {
            return Err(ParseError(
                "the URL must carry no password: write otlp.headers = \"authorization=Basic …\""
                    .to_owned(),
            ));
        }
        if uri.query().is_some() {
            return Err(example());
        }
        let base = uri.path().trim_end_matches('/').to_owned();
        if ["/v1/traces", "/v1/metrics", "/v1/logs"]
            .iter()
            .any(|path| base.ends_with(path))
        {
            return Err(ParseError(
                "write the URL without /v1/… at its end: each signal has its own".to_owned(),
            ));
        }
        Ok(Self {
            target,
            is_tls: uri.scheme_str() == Some("https"),
            authority,
            base,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.base)
    }
}

// === impl Headers, Attributes ===

/// Pairs between commas, their values percent-encoded where they have to be.
fn pairs(text: &str) -> Result<Vec<(String, String)>, usize> {
    let words = text.split(',').map(str::trim).enumerate();
    words
        .filter(|(_, word)| !word.is_empty())
        .map(|(at, word)| {
            let (name, value) = word.split_once('=').ok_or(at + 1)?;
            let value = percent_decode_str(value.trim()).decode_utf8();
            let (name, value) = (name.trim(), value.map_err(|_| at + 1)?);
            if name.is_empty() {
                return Err(at + 1);
            }
            Ok((name.to_owned(), value.into_owned()))
        })
        .collect()
}

impl FromStr for Headers {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |what: String| {
            ParseError(format!(
                "{what}; write name=value, with commas between, and %2C for a comma in a value"
            ))
        };
        let pairs = pairs(text).map_err(|at| wrong(format!("number {at} is no header field")))?;
        let fields = pairs.into_iter().enumerate().map(|(at, (name, value))| {
            // With the wrong sign between them, the name has the secret in it.
            let bad = || wrong(format!("number {} is no header field", at + 1));
            let field = HeaderName::try_from(&name).map_err(|_| bad())?;
            let mut value = HeaderValue::try_from(value).map_err(|_| bad())?;
            value.set_sensitive(true);
            Ok((field, value))
        });
        fields.collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(name, _)| name.as_str()))
            .finish()
    }
}

impl FromStr for Attributes {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        pairs(text).map(Self).map_err(|at| {
            ParseError(format!(
                "number {at} is no attribute; write name=value, with commas between"
            ))
        })
    }
}

impl Attributes {
    /// Takes an attribute out: `service.name` has a place of its own.
    #[must_use]
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_a_path_a_signal() {
        for (text, path) in [
            ("http://127.0.0.1:4318", "/v1/traces"),
            ("http://[::1]:4318/", "/v1/traces"),
            ("https://otlp.example.org/otlp/", "/otlp/v1/traces"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.path("traces"), path, "{text}");
        }
        let endpoint: Endpoint = "https://otlp.example.org/otlp".parse().unwrap();
        assert_eq!(endpoint.to_string(), "https://otlp.example.org/otlp");
        assert_eq!(endpoint.target.port(), 443);
        for bad in [
            "",
            "127.0.0.1:4318",
            "grpc://127.0.0.1:4317",
            "http://user:word@127.0.0.1:4318",
            "http://127.0.0.1:4318/v1/traces",
            "http://127.0.0.1:4318/?a=b",
        ] {
            let error = bad.parse::<Endpoint>().unwrap_err();
            assert!(!error.to_string().contains("word@"), "{error}");
        }
    }

    #[test]
    fn secrets_show_themselves_neither_in_debug_nor_in_mistakes() {
        let headers: Headers = "api-key=s3cret, authorization=Bearer%20s3cret,"
            .parse()
            .unwrap();
        assert_eq!(headers.0[1].1.as_bytes(), b"Bearer s3cret");
        assert_eq!(format!("{headers:?}"), r#"{"api-key", "authorization"}"#);
        for bad in [
            "s3cret",
            "a=b,s3cret",
            "=s3cret",
            "a=s3cret%0A",
            "a=%ff",
            "authorization: Basic s3cret==",
        ] {
            let error = bad.parse::<Headers>().unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
        assert_eq!("".parse::<Headers>().unwrap(), Headers::default());
    }

    #[test]
    fn attributes_are_read_and_one_can_be_taken_out() {
        let mut attributes: Attributes = "a=1,service.name=gate%20way".parse().unwrap();
        assert_eq!(attributes.take("service.name").unwrap(), "gate way");
        assert_eq!(attributes.take("service.name"), None);
        assert_eq!(attributes.0, [("a".to_owned(), "1".to_owned())]);
        assert!("a".parse::<Attributes>().is_err());
    }
}
