//! HTTP/1.1 to an instance, over connections kept in lanes.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, Uri};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::body::{AnswerBody, Body};
use crate::head::Reader;
use crate::{CallError, CallInfo, Target, head, tunnel};

/// Idle connections kept to one instance in one lane. A lane never has more calls in flight to an instance than the
/// instance takes at once; beyond this many idle ones, which only a burst leaves behind, they are closed.
const IDLE_CONNECTIONS: usize = 64;

/// How long a kept connection to a function's own server is trusted. Common servers close theirs after two to five idle
/// seconds, and a request that meets the close is lost; our language hosts never close first.
const KEPT: Duration = Duration::from_millis(1500);

/// Longest the head of a response may be. hyper reads no more than this ahead, so it also bounds what a body buffers.
const HEAD_LIMIT: usize = 256 * 1024;

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(0) };
}

/// Makes the current thread use this lane of every instance. Serving threads number themselves from 0; any other thread
/// shares lane 0, which is correct and only costs contention.
pub fn enter_lane(lane: usize) {
    LANE.set(lane);
}

/// Idle connections to one instance, a list a serving thread.
pub struct Lanes(Box<[Lane]>);

type Lane = Mutex<Vec<Kept>>;

/// An idle connection, and since when.
struct Kept {
    sender: SendRequest<Body>,
    since: Instant,
}

/// What sending a request takes from its head or changes there, to be put back before it is sent elsewhere. All else that
/// is done to the head may be done again.
struct Original {
    uri: Uri,
    forwarded_for: Option<HeaderValue>,
    upgrade: Option<OnUpgrade>,
}

/// A connection in use. Dropping it closes the connection, unless it was put back.
pub struct Lease {
    target: Arc<Target>,
    lane: usize,
    sender: SendRequest<Body>,
}

pub(crate) async fn call(
    target: &Arc<Target>,
    request: Request<Body>,
    info: &CallInfo,
    reader: Reader<'_>,
) -> Result<Response<AnswerBody>, CallError> {
    let (mut parts, body) = request.into_parts();
    let original = Original {
        uri: parts.uri.clone(),
        forwarded_for: parts.headers.get(&head::FORWARDED_FOR).cloned(),
        upgrade: head::wants_upgrade(&parts.headers)
            .then(|| parts.extensions.remove())
            .flatten(),
    };
    head::to_instance(&mut parts, info, reader);
    let mut request = Request::from_parts(parts, body);

    let lane = LANE.get().min(target.lanes.0.len() - 1);
    let mut kept = true;
    let (lease, mut response) = loop {
        // An idle connection may have died since; a fresh one is only tried once.
        let found = kept.then(|| target.kept_connection(lane)).flatten();
        kept = found.is_some();
        let sender = match found {
            Some(sender) => sender,
            None => match connect(target).await {
                Ok(sender) => sender,
                Err(source) => return Err(unreached(request, original, source)),
            },
        };
        let mut lease = Lease {
            target: target.clone(),
            lane,
            sender,
        };
        if let Err(error) = lease.sender.ready().await {
            if kept {
                continue;
            }
            return Err(unreached(request, original, io::Error::other(error)));
        }
        match lease.sender.try_send_request(request).await {
            Ok(response) => break (lease, response),
            Err(mut error) => match error.take_message() {
                Some(unsent) if kept => request = unsent,
                Some(unsent) => {
                    return Err(unreached(
                        unsent,
                        original,
                        io::Error::other(error.into_error()),
                    ));
                }
                None => return Err(classify(error.into_error())),
            },
        }
    };

    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let instance_side = hyper::upgrade::on(&mut response);
        let Some(caller_side) = original.upgrade else {
            return Err(CallError::Closed);
        };
        let task = tokio::spawn(tunnel::carry(caller_side, instance_side));
        return Ok(response.map(|_| AnswerBody::Tunnel(Some(task))));
    }
    head::from_instance(response.headers_mut());
    Ok(response.map(|incoming| {
        if http_body::Body::is_end_stream(&incoming) {
            lease.put_back();
            AnswerBody::Full(None)
        } else {
            AnswerBody::Http {
                incoming,
                lease: Some(lease),
            }
        }
    }))
}

pub(crate) async fn connect(target: &Target) -> io::Result<SendRequest<Body>> {
    let stream = target.instance.connect().await?;
    let (sender, connection) = Builder::new()
        .max_buf_size(HEAD_LIMIT)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // Owned by the connection itself: it ends when the sender and the response body are dropped, or the instance closes.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to an instance ended");
        }
    });
    Ok(sender)
}

fn unreached(mut request: Request<Body>, original: Original, source: io::Error) -> CallError {
    *request.uri_mut() = original.uri;
    match original.forwarded_for {
        Some(chain) => request.headers_mut().insert(&head::FORWARDED_FOR, chain),
        None => request.headers_mut().remove(&head::FORWARDED_FOR),
    };
    if let Some(upgrade) = original.upgrade {
        request.extensions_mut().insert(upgrade);
    }
    CallError::Unreached {
        request: Box::new(request),
        source,
    }
}

fn classify(error: hyper::Error) -> CallError {
    let from_body = std::error::Error::source(&error)
        .and_then(|s| s.downcast_ref())
        .copied();
    match from_body {
        Some(fault) => CallError::Request(fault),
        None if error.is_parse() => CallError::Protocol(error),
        None => {
            tracing::debug!(%error, "an instance did not answer");
            CallError::Closed
        }
    }
}

// === impl Lanes, Lease ===

impl Lanes {
    pub(crate) fn new(lanes: usize) -> Self {
        Self((0..lanes.max(1)).map(|_| Mutex::default()).collect())
    }
}

impl Target {
    /// The connection that was used last, if there is one to be trusted.
    fn kept_connection(&self, lane: usize) -> Option<SendRequest<Body>> {
        let mut idle = self.lanes.0[lane].lock();
        let last = idle.pop()?;
        if !self.contract.is_hosted() && last.since.elapsed() > KEPT {
            // Those below are older still.
            idle.clear();
            return None;
        }
        Some(last.sender)
    }
}

impl Lease {
    /// Gives the connection back for the next call.
    pub(crate) fn put_back(self) {
        let mut idle = self.target.lanes.0[self.lane].lock();
        if !self.sender.is_closed() && idle.len() < IDLE_CONNECTIONS {
            let since = Instant::now();
            idle.push(Kept {
                sender: self.sender,
                since,
            });
        }
    }
}
