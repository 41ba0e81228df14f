//! The proxy as its clients see it: `CONNECT`, and requests with a whole URL.

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tidegate_instance::Egress;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::dial::{Dialer, Machine, NoWay, Resolve};
use crate::event::Event;
use crate::meter::{Budget, Metered};
use crate::policy::Policy;
use crate::target::Target;
use crate::upstream::Upstream;

/// Bytes that a connection buffers, and so about the longest head: registries' tokens are long, and nothing is longer.
pub(crate) const HEAD: usize = 64 * 1024;

/// Bytes that a tunnel moves at once, each way.
const PIECE: usize = 32 * 1024;

/// Most targets that are told of: a log does not grow with what a job tries.
const MAX_TOLD: usize = 500;

/// Longest reason in a status line in bytes; most tools show that line and nothing else.
const MAX_REASON: usize = 200;

/// Headers of one connection, which end here.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The same, without a constant of their own.
const HOP_BY_HOP_TOO: [&str; 2] = ["keep-alive", "proxy-connection"];

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// The proxy of one job. Dropping it ends its connections.
pub struct EgressProxy {
    inner: Arc<Inner>,
    _end: DropGuard,
}

pub(crate) struct Inner {
    dialer: Dialer,
    report: Report,
    budget: Arc<Budget>,
    seats: Arc<Semaphore>,
    end: CancellationToken,
}

/// Tells each thing once.
#[derive(Clone)]
struct Report {
    to: Arc<dyn Fn(Event) + Send + Sync>,
    told: Arc<Mutex<HashSet<String>>>,
}

impl EgressProxy {
    /// A proxy with this policy. What happens is told to `report`, which must not block.
    #[must_use]
    pub fn new(
        policy: impl Into<Arc<Policy>>,
        report: impl Fn(Event) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::with_resolver(policy, report, Arc::new(Machine))
    }

    /// The same with a resolver of its own.
    #[must_use]
    pub fn with_resolver(
        policy: impl Into<Arc<Policy>>,
        report: impl Fn(Event) + Send + Sync + 'static,
        resolver: Arc<dyn Resolve>,
    ) -> Arc<Self> {
        let policy = policy.into();
        let report = Report {
            to: Arc::new(report),
            told: Arc::default(),
        };
        let end = CancellationToken::new();
        let bytes = policy.limits.bytes;
        let last = (report.clone(), end.clone());
        let budget = Budget::new(bytes, move || {
            last.0.tell(Event::Exhausted { bytes });
            last.1.cancel();
        });
        Arc::new(Self {
            _end: end.clone().drop_guard(),
            inner: Arc::new(Inner {
                seats: Arc::new(Semaphore::new(policy.limits.connections)),
                dialer: Dialer { policy, resolver },
                report,
                budget,
                end,
            }),
        })
    }
}

impl Egress for EgressProxy {
    fn accept(&self, connection: TcpStream) {
        let inner = &self.inner;
        if inner.end.is_cancelled() {
            return;
        }
        match inner.seats.clone().try_acquire_owned() {
            Ok(seat) => {
                let inner = inner.clone();
                tokio::spawn(async move {
                    let end = inner.end.clone();
                    end.run_until_cancelled(inner.serve(connection, seat)).await;
                });
            }
            Err(_) => busy(connection, inner.dialer.policy.limits.connections),
        }
    }
}

/// Turns one away without waiting for anything.
fn busy(connection: TcpStream, most: usize) {
    let text = format!("{most} connections are open already, which is as many as a job may have\n");
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    // A fresh connection has room for this much; if not, its end has to say it.
    if let Ok(mut connection) = connection.into_std() {
        let _ = connection.write_all(answer.as_bytes());
    }
}

impl Inner {
    async fn serve(self: Arc<Self>, connection: TcpStream, seat: OwnedSemaphorePermit) {
        let seat = Arc::new(seat);
        let head = self.dialer.policy.limits.head;
        let service = service_fn(move |request| {
            let (inner, seat) = (self.clone(), seat.clone());
            async move { Ok::<_, hyper::Error>(inner.answer(request, seat).await) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head)
            .max_buf_size(HEAD)
            .serve_connection(TokioIo::new(connection), service)
            .with_upgrades()
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a job's connection");
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        seat: Arc<OwnedSemaphorePermit>,
    ) -> Response<Body> {
        let uri = request.uri();
        let tunnel = request.method() == Method::CONNECT;
        let port = match uri.scheme_str() {
            None if tunnel => uri.port_u16(),
            Some("http") => Some(uri.port_u16().unwrap_or(80)),
            _ => None,
        };
        let target = uri
            .host()
            .zip(port)
            .and_then(|(host, port)| Target::new(host, port));
        let Some(target) = target else {
            let text = "this is a proxy: ask it to CONNECT to a host and a port, or for a whole http:// URL";
            return text_answer(StatusCode::BAD_REQUEST, text);
        };
        let answered = if tunnel {
            self.clone().connect(&target, request, seat).await
        } else {
            self.forward(&target, request).await
        };
        match answered {
            Ok(answer) => {
                let to = target.clone();
                self.report
                    .once(format!("connected {target}"), || Event::Connected {
                        target: to,
                    });
                answer
            }
            Err(NoWay::Refused(why)) => {
                let text = format!("builds may not reach {target}: {why}");
                self.report
                    .once(format!("refused {target}"), || Event::Refused {
                        target: target.to_string(),
                        why,
                    });
                text_answer(StatusCode::FORBIDDEN, &text)
            }
            Err(NoWay::Failed(why)) => {
                let text = format!("{target} cannot be reached: {why}");
                self.report
                    .once(format!("failed {target}"), || Event::Failed { target, why });
                text_answer(StatusCode::BAD_GATEWAY, &text)
            }
        }
    }

    /// Opens a tunnel; its bytes flow in a task that holds the seat.
    async fn connect(
        self: Arc<Self>,
        target: &Target,
        request: Request<Incoming>,
        seat: Arc<OwnedSemaphorePermit>,
    ) -> Result<Response<Body>, NoWay> {
        let (stream, upstream) = self.dialer.dial(target, true).await?;
        let stream = self.meter(stream);
        let mut outer = self.dialer.through(stream, target, upstream).await?;
        let end = self.end.clone();
        let flow = async move {
            if let Ok(inner) = hyper::upgrade::on(request).await {
                let mut inner = TokioIo::new(inner);
                let flowed =
                    tokio::io::copy_bidirectional_with_sizes(&mut inner, &mut outer, PIECE, PIECE);
                if let Err(error) = flowed.await {
                    tracing::debug!(%error, "a tunnel");
                }
            }
            drop(seat);
        };
        tokio::spawn(async move { end.run_until_cancelled(flow).await });
        Ok(Response::new(empty()))
    }

    /// Sends a plain request on, over a connection of its own.
    async fn forward(
        &self,
        target: &Target,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, NoWay> {
        let (stream, upstream) = self.dialer.dial(target, false).await?;
        let failed = |error: hyper::Error| {
            // The cause says what happened, and the error only where.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            NoWay::Failed(cause.unwrap_or_else(|| error.to_string()))
        };
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(HEAD)
            .handshake(TokioIo::new(self.meter(stream)))
            .await
            .map_err(failed)?;
        let end = self.end.clone();
        // Ends with the answer's body, or when nothing comes for too long.
        tokio::spawn(async move { end.run_until_cancelled(connection).await });
        let request = onward(request, target, upstream).map_err(NoWay::Failed)?;
        let (mut parts, body) = sender
            .send_request(request)
            .await
            .map_err(failed)?
            .into_parts();
        strip(&mut parts.headers);
        Ok(Response::from_parts(parts, body.boxed_unsync()))
    }

    pub(crate) fn meter(&self, stream: TcpStream) -> Metered {
        Metered::new(stream, self.budget.clone(), self.dialer.policy.limits.idle)
    }
}

impl Report {
    fn once(&self, key: String, event: impl FnOnce() -> Event) {
        let first = {
            let mut told = self.told.lock();
            told.len() < MAX_TOLD && told.insert(key)
        };
        if first {
            self.tell(event());
        }
    }

    fn tell(&self, event: Event) {
        (self.to)(event);
    }
}

/// The request as the host, or the operator's proxy, takes it.
fn onward(
    request: Request<Incoming>,
    target: &Target,
    upstream: Option<&Upstream>,
) -> Result<Request<Incoming>, String> {
    let (mut parts, body) = request.into_parts();
    strip(&mut parts.headers);
    // What the URL says holds, whatever the header said.
    let host = match target.port() {
        80 => {
            let shown = target.to_string();
            shown.strip_suffix(":80").unwrap_or(&shown).to_owned()
        }
        _ => target.to_string(),
    };
    let host = HeaderValue::try_from(host).map_err(|e| e.to_string())?;
    parts.headers.insert(header::HOST, host);
    match upstream {
        Some(upstream) => {
            if let Some(authorization) = &upstream.authorization {
                parts
                    .headers
                    .insert(header::PROXY_AUTHORIZATION, authorization.clone());
            }
        }
        None => {
            let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
            let path = if path.is_empty() { "/" } else { path };
            parts.uri = Uri::try_from(path).map_err(|e| e.to_string())?;
        }
    }
    parts.version = http::Version::HTTP_11;
    Ok(Request::from_parts(parts, body))
}

/// Takes off what is of one connection: the known ones, and those that the message names itself.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.into_iter().chain(HOP_BY_HOP) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP_TOO {
        headers.remove(name);
    }
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// One sentence, in the body and in the status line.
fn text_answer(status: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{text}\n")));
    let mut answer = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, plain);
    let phrase: String = text
        .chars()
        .map(|c| if c.is_ascii_graphic() { c } else { ' ' })
        .take(MAX_REASON)
        .collect();
    if let Ok(phrase) = ReasonPhrase::try_from(phrase) {
        answer.extensions_mut().insert(phrase);
    }
    answer
}
