//! The courier: sends what somebody asked to be told of, by HTTP, on a function's behalf.
//!
//! The address is a stranger's, so it is dialled by the rules that functions are held to: judged by name when it is
//! accepted, and by every address that the name has when it is dialled; the one that was judged is the one that is reached.
//! Redirects are not followed, since they would be a second address that nobody judged. Each delivery has a connection of
//! its own: they are rare and far between, and nothing of one tenant's is left on it for the next.
//!
//! A receiver knows who sent it from a signature over the body, and what it has seen before from the delivery's id, which
//! is the same for each attempt.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tidegate_core::Outcome;
use tidegate_core::queue::Ended;
use tidegate_egress::{Dialer, NoWay, Target, Wire};
use tidegate_store::BlobError;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::runner::{Attempt, Ran};
use crate::queue::{Queue, Work};
use crate::submission::{Answer, Body};

/// The HMAC-SHA256 of the body, in hexadecimal digits behind `sha256=`.
const SIGNATURE: HeaderName = HeaderName::from_static("x-tidegate-signature");
/// The delivery's own id, the same for each attempt.
const DELIVERY: HeaderName = HeaderName::from_static("tidegate-delivery");
/// Which attempt it is.
const ATTEMPT: HeaderName = HeaderName::from_static("tidegate-attempt");

/// Headers of one connection, or of another request than this one.
const NOT_SENT: [&str; 12] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-tidegate-signature",
];

/// Longest address in bytes: more than any program accepts.
const MAX_URL: usize = 8 * 1024;

/// Settings of the courier.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CourierOptions {
    /// From the connection's begin to the end of the answer.
    pub timeout: Duration,
    /// How much of an answer is read, in bytes; nobody waits for it but whoever looks at the dead letters.
    pub answer_bytes: usize,
}

/// A key that bodies are signed with. It does not show itself.
#[derive(Clone)]
pub struct SigningKey(Arc<hmac::Key>);

/// The key of a namespace, or the server's.
pub type Signing = Arc<dyn Fn(&str) -> Option<SigningKey> + Send + Sync>;

/// Why an address is not delivered to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// It is no address of the web.
    #[error("{0:?} is no URL that can be called, such as \"https://hooks.example.org/path\"")]
    NotAUrl(String),
    /// It carries a name and a password, which would be kept with the invocation for everyone to see who may look at it.
    #[error("a URL to be called must not carry a password; sign requests instead")]
    Password,
    /// It may not be reached.
    #[error("{target} may not be reached: {why}")]
    Refused {
        /// Host and port.
        target: String,
        /// Why.
        why: String,
    },
}

/// Delivers. Cheap to clone.
#[derive(Clone)]
pub struct Courier {
    queue: Queue,
    dialer: Dialer,
    tls: TlsConnector,
    signing: Signing,
    options: CourierOptions,
}

type Chunks = BoxStream<'static, Result<Bytes, BlobError>>;
type Sent = StreamBody<BoxStream<'static, Result<Frame<Bytes>, BlobError>>>;

impl Default for CourierOptions {
    fn default() -> Self {
        Self {
            // Receivers are to take it in, not to work on it.
            timeout: Duration::from_secs(30),
            answer_bytes: 16 * 1024,
        }
    }
}

// === impl SigningKey ===

impl SigningKey {
    /// From any bytes; thirty-two random ones are as good as it gets.
    pub fn new(secret: &[u8]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

// === impl Courier ===

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier")
            .field("dialer", &self.dialer)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Courier {
    /// A courier that dials as `dialer` allows.
    ///
    /// # Errors
    /// The machine's roots of trust cannot be read.
    pub fn new(
        queue: Queue,
        dialer: Dialer,
        signing: Signing,
        options: CourierOptions,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_platform_verifier()?
            .with_no_client_auth();
        Ok(Self {
            queue,
            dialer,
            tls: TlsConnector::from(Arc::new(config)),
            signing,
            options,
        })
    }

    /// What can be said of an address before anything is sent there. To be asked when it is accepted.
    ///
    /// # Errors
    /// See [`Forbidden`].
    pub fn check(&self, url: &str) -> Result<(), Forbidden> {
        self.judge(url).map(drop)
    }

    fn judge(&self, url: &str) -> Result<(Uri, Target), Forbidden> {
        let (uri, target) = parse(url)?;
        match self.dialer.check(&target) {
            Ok(()) => Ok((uri, target)),
            Err(NoWay::Refused(why) | NoWay::Failed(why)) => Err(Forbidden::Refused {
                target: target.to_string(),
                why,
            }),
        }
    }

    /// Makes one attempt at sending an item's request to `url`, where its method and headers go and its path does not.
    /// Answers of 2xx are success.
    pub async fn deliver(&self, work: &Work, url: &str, attempt: Attempt) -> Ran {
        let (uri, target) = match self.judge(url) {
            Ok(judged) => judged,
            Err(forbidden) => return Ran::refused(forbidden.to_string()),
        };
        let sent = self.send(work, &uri, &target, attempt);
        match tokio::time::timeout(self.options.timeout, sent).await {
            Ok(Ok(ran)) => ran,
            Ok(Err(NoWay::Refused(why))) => {
                Ran::refused(format!("{target} may not be reached: {why}"))
            }
            Ok(Err(NoWay::Failed(why))) => failed(format!("{target}: {why}")),
            Err(_) => failed(format!(
                "{target}: no whole answer within {:?}",
                self.options.timeout
            )),
        }
    }

    async fn send(
        &self,
        work: &Work,
        uri: &Uri,
        target: &Target,
        attempt: Attempt,
    ) -> Result<Ran, NoWay> {
        let request = self.request(work, uri, attempt).await?;
        let wire = self.dialer.connect(target).await?;
        let wire: Box<dyn Wire> = if uri.scheme_str() == Some("https") {
            let name = target.host().to_owned().try_into().map_err(fault)?;
            Box::new(self.tls.connect(name, wire).await.map_err(fault)?)
        } else {
            wire
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(wire)).await.map_err(fault)?;
        // Ends with this attempt, whichever way that ends.
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let answer = sender.send_request(request).await.map_err(fault)?;
        self.answered(answer).await
    }

    async fn request(
        &self,
        work: &Work,
        uri: &Uri,
        attempt: Attempt,
    ) -> Result<Request<Sent>, NoWay> {
        let submission = &work.submission;
        let payload = &submission.request;
        let mut headers = HeaderMap::new();
        for (name, value) in &payload.headers {
            if NOT_SENT.contains(&name.as_str()) {
                continue;
            }
            // What was read from a request can be written into one.
            if let (Ok(name), Ok(value)) = (
                HeaderName::try_from(name.as_str()),
                HeaderValue::from_bytes(value),
            ) {
                headers.append(name, value);
            }
        }
        if let Some(key) = (self.signing)(&submission.function.namespace) {
            let mut context = hmac::Context::with_key(&key.0);
            let mut body = self.body(&payload.body).await?;
            while let Some(chunk) = body.try_next().await.map_err(fault)? {
                context.update(&chunk);
            }
            let mut signature = "sha256=".to_owned();
            for byte in context.sign().as_ref() {
                signature.push_str(&format!("{byte:02x}"));
            }
            headers.insert(SIGNATURE, HeaderValue::try_from(signature).map_err(fault)?);
        }
        let id = HeaderValue::try_from(submission.id.hyphenated()).map_err(fault)?;
        headers.insert(DELIVERY, id);
        headers.insert(ATTEMPT, attempt.number.into());
        let agent = concat!("tidegate/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        let host = uri.authority().map_or("", |authority| authority.as_str());
        headers.insert(header::HOST, HeaderValue::try_from(host).map_err(fault)?);
        headers.insert(header::CONTENT_LENGTH, payload.body_bytes().into());

        let body = self.body(&payload.body).await?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(StreamBody::new(body.map_ok(Frame::data).boxed()));
        *request.method_mut() = Method::try_from(payload.method.as_str()).map_err(fault)?;
        *request.uri_mut() = Uri::try_from(path).map_err(fault)?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn body(&self, body: &Body) -> Result<Chunks, NoWay> {
        Ok(match body {
            Body::Inline(bytes) => stream::iter([Ok(bytes.clone())]).boxed(),
            Body::Spooled(spooled) => self.queue.spooled(spooled).await.map_err(fault)?.boxed(),
        })
    }

    async fn answered(&self, answer: Response<Incoming>) -> Result<Ran, NoWay> {
        let (head, mut body) = answer.into_parts();
        let mut kept = BytesMut::new();
        while kept.len() < self.options.answer_bytes
            && let Some(frame) = body.frame().await
        {
            if let Ok(data) = frame.map_err(fault)?.into_data() {
                let room = self.options.answer_bytes - kept.len();
                kept.extend_from_slice(&data[..data.len().min(room)]);
            }
        }
        let status = head.status;
        let kind = head.headers.get(header::CONTENT_TYPE);
        let answer = Answer {
            status: status.as_u16(),
            headers: kind
                .map(|kind| ("content-type".to_owned(), kind.as_bytes().to_vec()))
                .into_iter()
                .collect(),
            body: kept.freeze(),
        };
        let ended = Ended {
            outcome: match status.as_u16() {
                200..=299 => Outcome::Ok,
                400.. => Outcome::Application,
                _ => Outcome::Function,
            },
            status: Some(status.as_u16()),
            retry_after_ms: retry_after(&head.headers),
        };
        let ran = Ran::ended(ended, Some(answer));
        Ok(if status.is_success() {
            ran
        } else if status.is_redirection() {
            ran.because(format!("it answered {status}; redirects are not followed"))
        } else {
            ran.because(format!("it answered {status}"))
        })
    }
}

fn parse(url: &str) -> Result<(Uri, Target), Forbidden> {
    let wrong = || {
        let shown: String = url.chars().take(200).collect();
        Forbidden::NotAUrl(shown)
    };
    if url.len() > MAX_URL {
        return Err(wrong());
    }
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let authority = uri.authority().ok_or_else(wrong)?;
    if authority.as_str().contains('@') {
        return Err(Forbidden::Password);
    }
    let target = Target::of_url(url).map_err(|_| wrong())?;
    Ok((uri, target))
}

/// In milliseconds, where it is a number of seconds, as it mostly is.
fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = value.trim().parse().ok()?;
    Some(seconds.saturating_mul(1000))
}

fn fault(error: impl fmt::Display) -> NoWay {
    NoWay::Failed(error.to_string())
}

fn failed(message: String) -> Ran {
    let ended = Ended {
        outcome: Outcome::Function,
        status: None,
        retry_after_ms: None,
    };
    Ran::ended(ended, None).because(message)
}
