//! One request to the collector: the connection is kept for the next one.
//!
//! The operator names the collector, so it is reached wherever it is, by the dialler that everything else here leaves by:
//! his proxies count for it too. Redirects are not followed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tidegate_egress::{Dialer, Policy, Wire};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::options::{Endpoint, Headers, Options};
use crate::proto::{Answer, Refusal};

/// Longest answer that is read, in bytes: a number and a sentence.
const MAX_ANSWER: usize = 64 * 1024;
/// Longest part of a collector's own words that is passed on, in characters.
const MAX_WORDS: usize = 200;

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION")));

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was taken, all but so many of its items.
    Taken {
        /// Items that were not.
        rejected: u64,
        /// Why, or a warning; may be empty.
        message: String,
    },
    /// It may be taken later: as soon as that, where the collector says so.
    Later {
        why: String,
        after: Option<Duration>,
    },
    /// It never will be.
    Refused { why: String },
}

/// Sends one signal.
pub(crate) struct Client {
    endpoint: Endpoint,
    path: String,
    headers: Headers,
    dialer: Dialer,
    tls: Option<TlsConnector>,
    timeout: Duration,
    open: Option<Open>,
}

/// A connection.
struct Open {
    requests: SendRequest<Full<Bytes>>,
    _connection: AbortOnDropHandle<()>,
}

impl Client {
    /// # Errors
    /// The machine's roots of trust cannot be read.
    pub(crate) fn new(options: &Options, signal: &str) -> Result<Self, rustls::Error> {
        let endpoint = options.endpoint.clone();
        let policy = Policy {
            named: vec![endpoint.target.clone()],
            upstreams: options.upstreams.clone(),
            ..Policy::default()
        };
        let tls = if endpoint.is_tls {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_platform_verifier()?
                .with_no_client_auth();
            Some(TlsConnector::from(Arc::new(config)))
        } else {
            None
        };
        Ok(Self {
            path: endpoint.path(signal),
            headers: options.headers.clone(),
            dialer: Dialer::new(policy),
            tls,
            timeout: options.bounds.timeout,
            open: None,
            endpoint,
        })
    }

    /// Sends it once; twice where a kept connection turns out to be closed.
    pub(crate) async fn send(&mut self, body: Bytes) -> Verdict {
        match tokio::time::timeout(self.timeout, self.exchange(body)).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(why)) => {
                self.open = None;
                Verdict::Later { why, after: None }
            }
            Err(_) => {
                self.open = None;
                Verdict::Later {
                    why: format!("no whole answer within {:?}", self.timeout),
                    after: None,
                }
            }
        }
    }

    async fn exchange(&mut self, body: Bytes) -> Result<Verdict, String> {
        let kept = self.open.take_if(|open| !open.requests.is_closed());
        let was_kept = kept.is_some();
        let mut open = match kept {
            Some(open) => open,
            None => self.connect().await?,
        };
        let mut answered = open.ask(self.request(body.clone())?).await;
        if answered.is_err() && was_kept {
            // Whoever keeps a connection may close it just as something is sent; the collector may see it twice then.
            open = self.connect().await?;
            answered = open.ask(self.request(body)?).await;
        }
        let (status, headers, answer) = answered?;
        self.open = Some(open);
        Ok(judge(status, &headers, &answer))
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.parse().map_err(fault)?;
        let headers = request.headers_mut();
        for (name, value) in &self.headers.0 {
            headers.append(name, value.clone());
        }
        headers.insert(USER_AGENT, AGENT);
        headers.insert(CONTENT_TYPE, PROTOBUF);
        let host = HeaderValue::try_from(&self.endpoint.authority).map_err(fault)?;
        headers.insert(HOST, host);
        Ok(request)
    }

    async fn connect(&self) -> Result<Open, String> {
        let target = &self.endpoint.target;
        let wire = self.dialer.connect(target).await.map_err(fault)?;
        let wire: Box<dyn Wire> = match &self.tls {
            Some(tls) => {
                let name = target.host().to_owned().try_into().map_err(fault)?;
                Box::new(tls.connect(name, wire).await.map_err(fault)?)
            }
            None => wire,
        };
        let (requests, connection) = http1::handshake(TokioIo::new(wire)).await.map_err(fault)?;
        let connection = async {
            // Whoever sends learns of it.
            let _ = connection.await;
        };
        Ok(Open {
            requests,
            _connection: AbortOnDropHandle::new(tokio::spawn(connection)),
        })
    }
}

impl Open {
    async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, HeaderMap, Bytes), String> {
        self.requests.ready().await.map_err(fault)?;
        let answer = self.requests.send_request(request).await.map_err(fault)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        // The status counts, whether its words come whole or not.
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        Ok((head.status, head.headers, body))
    }
}

fn fault(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// What an answer means, as the protocol has it: all that is not named here is final.
fn judge(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Verdict {
    if status.is_success() {
        // An answer that is not protobuf is taken at its status.
        let partial = Answer::decode(body.clone()).ok().and_then(|a| a.partial);
        let partial = partial.unwrap_or_default();
        return Verdict::Taken {
            rejected: u64::try_from(partial.rejected).unwrap_or(0),
            message: words(&partial.message),
        };
    }
    let is_protobuf = headers.get(CONTENT_TYPE) == Some(&PROTOBUF);
    let message = if is_protobuf {
        Refusal::decode(body.clone()).unwrap_or_default().message
    } else {
        String::from_utf8_lossy(body).into_owned()
    };
    let why = match words(&message) {
        words if words.is_empty() => format!("it answered {status}"),
        words => format!("it answered {status}: {words}"),
    };
    match status.as_u16() {
        429 | 502 | 503 | 504 => Verdict::Later {
            why,
            after: retry_after(headers),
        },
        300..=399 => Verdict::Refused {
            why: format!("{why}; redirects are not followed"),
        },
        _ => Verdict::Refused { why },
    }
}

/// In seconds; a date is as if nothing were said, and the usual pauses hold.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse();
    seconds.ok().map(Duration::from_secs)
}

/// One line of what a stranger says.
fn words(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let printable = line.chars().filter(|c| !c.is_control());
    printable.take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Partial;

    fn judged(status: u16, headers: &[(&'static str, &'static str)], body: Vec<u8>) -> Verdict {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_static(value));
        }
        judge(StatusCode::from_u16(status).unwrap(), &map, &body.into())
    }

    #[test]
    fn a_success_may_be_partial() {
        let answer = Answer {
            partial: Some(Partial {
                rejected: 3,
                message: "too\nold".to_owned(),
            }),
        };
        let taken = judged(200, &[], answer.encode_to_vec());
        let message = "too old".to_owned();
        assert_eq!(
            taken,
            Verdict::Taken {
                rejected: 3,
                message
            }
        );
        let whole = Verdict::Taken {
            rejected: 0,
            message: String::new(),
        };
        assert_eq!(judged(200, &[], Vec::new()), whole);
        assert_eq!(judged(202, &[], b"{}".to_vec()), whole);
    }

    #[test]
    fn only_what_the_protocol_says_is_tried_again() {
        for status in [429, 502, 503, 504] {
            let verdict = judged(status, &[("retry-after", "7")], Vec::new());
            let Verdict::Later { after, .. } = verdict else {
                panic!("{status}: {verdict:?}");
            };
            assert_eq!(after, Some(Duration::from_secs(7)));
        }
        for status in [301, 400, 401, 404, 413, 500, 501] {
            let verdict = judged(status, &[], b"because\x1b[0m of it".to_vec());
            let Verdict::Refused { why } = verdict else {
                panic!("{status}: {verdict:?}");
            };
            assert!(why.contains("because[0m of it"), "{why}");
        }
    }
}
