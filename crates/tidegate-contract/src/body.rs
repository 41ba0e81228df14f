//! Bodies of calls, both ways.
//!
//! A body is a stream that nobody collects. The request's enforces the size limit and the idle limit while it flows, and
//! leaves a note of why it broke off, because "who failed?" decides what the caller is told. Timers are made only when a body has to wait, so a small body costs none.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::Sleep;

use crate::http1::Lease;
use crate::process::ProcessBody;
use crate::tunnel::Carried;
use crate::watchdog::Told;

/// A request body on its way to an instance.
pub struct Body {
    source: Source,
    /// Bytes that may still come.
    left: u64,
    limit: u64,
    idle: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    watch: Option<BodyWatch>,
}

enum Source {
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    /// Out of the server's own keeping.
    Kept(Kept),
}

/// Bytes that the server kept, and how many are still to come.
struct Kept {
    // Never locked: only a body that can be shared between threads can be held over a wait.
    bytes: Mutex<UnsyncBoxBody<Bytes, BodyFault>>,
    left: u64,
}

/// What became of a request body, readable after the body was given away.
#[derive(Clone, Debug)]
pub struct BodyWatch(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    state: AtomicU8,
    read: AtomicU64,
    limit: u64,
    idle: Duration,
}

/// Why a body ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// The request body is larger than the function takes.
    #[error("the request body is larger than {limit} bytes, the most this function takes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// No byte came for the idle limit.
    #[error("no byte of the body came for {0:?}")]
    Idle(Duration),
    /// The caller went away before the body was whole.
    #[error("the caller closed the connection before the request body was whole")]
    CallerGone,
    /// The deadline passed in the middle of the response.
    #[error("the response was not complete within its time limit")]
    Deadline,
    /// The instance ended in the middle of the response.
    #[error("the instance ended in the middle of the response")]
    InstanceGone,
    /// What the server kept of the body could not be read.
    #[error("the request body, which was kept, could not be read")]
    Lost,
}

const GOOD: u8 = 0;
const TOO_LARGE: u8 = 1;
const IDLE: u8 = 2;
const GONE: u8 = 3;
const LOST: u8 = 4;

/// A response body on its way from an instance. At its end the connection goes back to its lane.
pub enum AnswerBody {
    /// Whole already.
    Full(Option<Bytes>),
    /// Streamed from a connection.
    Http {
        /// The bytes.
        incoming: Incoming,
        /// The connection they come from.
        lease: Option<Lease>,
    },
    /// Streamed from a process.
    Process(Box<ProcessBody>),
    /// Streamed from a file of the bundle.
    File(UnsyncBoxBody<Bytes, std::io::Error>),
    /// One of these, with a watchdog's eye on it.
    Told(Box<Told>),
    /// None: the connection was upgraded, and this task carries its bytes.
    Tunnel(Option<tokio::task::JoinHandle<Carried>>),
}

// === impl Body ===

impl Body {
    /// No body.
    #[must_use]
    pub const fn empty() -> Self {
        Self::with(Source::Empty, u64::MAX, Duration::MAX)
    }

    /// A body that is in memory.
    #[must_use]
    pub fn full(bytes: Bytes) -> Self {
        let limit = bytes.len() as u64;
        Self::with(
            if bytes.is_empty() {
                Source::Empty
            } else {
                Source::Full(bytes)
            },
            limit,
            Duration::MAX,
        )
    }

    /// A body that is still arriving, at most `limit` bytes of it, cut when none comes for `idle`.
    #[must_use]
    pub fn incoming(incoming: Incoming, limit: u64, idle: Duration) -> Self {
        use http_body::Body as _;
        let empty = incoming.is_end_stream();
        Self::with(
            if empty {
                Source::Empty
            } else {
                Source::Incoming(incoming)
            },
            limit,
            idle,
        )
    }

    /// A body of so many bytes that the server kept, read while it is sent.
    #[must_use]
    pub fn kept(bytes: UnsyncBoxBody<Bytes, BodyFault>, length: u64) -> Self {
        let kept = Kept {
            bytes: Mutex::new(bytes),
            left: length,
        };
        Self::with(Source::Kept(kept), length, Duration::MAX)
    }

    const fn with(source: Source, limit: u64, idle: Duration) -> Self {
        Self {
            source,
            left: limit,
            limit,
            idle,
            waiting: None,
            watch: None,
        }
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        matches!(self.source, Source::Empty)
    }

    /// The limits, once the function is known: at most `limit` bytes, cut when none comes for `idle`.
    pub fn bound(&mut self, limit: u64, idle: Duration) {
        (self.left, self.limit, self.idle) = (limit, limit, idle);
    }

    /// Bytes of a body that is in memory; 0 for one that is still arriving, of which [`Body::watch`] tells.
    #[must_use]
    pub fn in_memory(&self) -> u64 {
        match &self.source {
            Source::Full(bytes) => bytes.len() as u64,
            Source::Empty | Source::Incoming(_) | Source::Kept(_) => 0,
        }
    }

    /// A note of what becomes of the body; none for a body that cannot fail.
    pub fn watch(&mut self) -> Option<BodyWatch> {
        if matches!(self.source, Source::Empty | Source::Full(_)) {
            return None;
        }
        let (limit, idle) = (self.limit, self.idle);
        let fresh = || {
            BodyWatch(Arc::new(Watched {
                state: AtomicU8::new(GOOD),
                read: AtomicU64::new(0),
                limit,
                idle,
            }))
        };
        Some(self.watch.get_or_insert_with(fresh).clone())
    }

    fn note(&self, what: u8) {
        if let Some(watch) = &self.watch {
            watch.0.state.store(what, Ordering::Relaxed);
        }
    }

    fn fail(&mut self, fault: BodyFault) -> BodyFault {
        self.note(match fault {
            BodyFault::TooLarge { .. } => TOO_LARGE,
            BodyFault::Idle(_) => IDLE,
            BodyFault::Lost => LOST,
            _ => GONE,
        });
        self.source = Source::Empty;
        fault
    }
}

impl BodyWatch {
    /// Bytes that were read of it.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.read.load(Ordering::Relaxed)
    }

    /// Why the body ended early, if it did.
    #[must_use]
    pub fn fault(&self) -> Option<BodyFault> {
        match self.0.state.load(Ordering::Relaxed) {
            TOO_LARGE => Some(BodyFault::TooLarge {
                limit: self.0.limit,
            }),
            IDLE => Some(BodyFault::Idle(self.0.idle)),
            GONE => Some(BodyFault::CallerGone),
            LOST => Some(BodyFault::Lost),
            _ => None,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = self.get_mut();
        let polled = match &mut this.source {
            Source::Empty => return Poll::Ready(None),
            Source::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.source = Source::Empty;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Source::Kept(kept) => Pin::new(kept.bytes.get_mut()).poll_frame(cx),
            Source::Incoming(incoming) => Pin::new(incoming).poll_frame(cx).map_err(|error| {
                tracing::debug!(%error, "the caller's body failed");
                BodyFault::CallerGone
            }),
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.waiting = None;
                let len = frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Source::Kept(kept) = &mut this.source {
                    kept.left = kept.left.saturating_sub(len);
                }
                let Some(left) = this.left.checked_sub(len) else {
                    let limit = this.limit;
                    return Poll::Ready(Some(Err(this.fail(BodyFault::TooLarge { limit }))));
                };
                this.left = left;
                if let Some(watch) = &this.watch {
                    watch.0.read.store(this.limit - left, Ordering::Relaxed);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(fault))) => Poll::Ready(Some(Err(this.fail(fault)))),
            Poll::Ready(None) => {
                this.source = Source::Empty;
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(poll_idle(&mut this.waiting, this.idle, cx));
                let idle = this.idle;
                Poll::Ready(Some(Err(this.fail(BodyFault::Idle(idle)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Full(_) => false,
            Source::Incoming(incoming) => incoming.is_end_stream(),
            Source::Kept(kept) => kept.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Incoming(incoming) => incoming.size_hint(),
            Source::Kept(kept) => SizeHint::with_exact(kept.left),
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body")
            .field("empty", &self.is_empty())
            .finish_non_exhaustive()
    }
}

/// Ready once a wait that began with the first of these calls in a row has lasted for `idle`.
pub(crate) fn poll_idle(
    waiting: &mut Option<Pin<Box<Sleep>>>,
    idle: Duration,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if idle == Duration::MAX {
        return Poll::Pending;
    }
    waiting
        .get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)))
        .as_mut()
        .poll(cx)
}

// === impl AnswerBody ===

impl AnswerBody {
    /// A body that is whole already.
    #[must_use]
    pub fn full(bytes: Bytes) -> Self {
        Self::Full((!bytes.is_empty()).then_some(bytes))
    }

    /// The task that carries an upgraded connection, if this is one, and tells how much it was.
    pub fn take_tunnel(&mut self) -> Option<tokio::task::JoinHandle<Carried>> {
        match self {
            Self::Tunnel(task) => task.take(),
            _ => None,
        }
    }

    /// Whether all of it is in memory, so that nothing of the instance is held by whoever reads it slowly.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        matches!(self, Self::Full(_))
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Http { incoming, lease } => {
                let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
                let ended = matches!(&frame, None | Some(Err(_)));
                if let Some(lease) = lease.take_if(|_| ended || incoming.is_end_stream()) {
                    match &frame {
                        Some(Err(_)) => drop(lease),
                        _ => lease.put_back(),
                    }
                }
                Poll::Ready(frame.map(|f| {
                    f.map_err(|error| {
                        tracing::debug!(%error, "the instance's response broke off");
                        BodyFault::InstanceGone
                    })
                }))
            }
            Self::Process(body) => Pin::new(&mut **body).poll_frame(cx),
            Self::File(body) => Pin::new(body).poll_frame(cx).map_err(|error| {
                tracing::warn!(%error, "a file of a bundle could not be read to its end");
                BodyFault::InstanceGone
            }),
            Self::Told(body) => Pin::new(&mut **body).poll_frame(cx),
            Self::Tunnel(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::Http { incoming, .. } => incoming.is_end_stream(),
            Self::Process(_) => false,
            Self::File(body) => body.is_end_stream(),
            Self::Told(body) => body.is_end_stream(),
            Self::Tunnel(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Http { incoming, .. } => incoming.size_hint(),
            Self::Process(_) => SizeHint::default(),
            Self::File(body) => body.size_hint(),
            Self::Told(body) => body.size_hint(),
            Self::Tunnel(_) => SizeHint::with_exact(0),
        }
    }
}

impl std::fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "AnswerBody::Full",
            Self::Http { .. } => "AnswerBody::Http",
            Self::Process(_) => "AnswerBody::Process",
            Self::File(_) => "AnswerBody::File",
            Self::Told(_) => "AnswerBody::Told",
            Self::Tunnel(_) => "AnswerBody::Tunnel",
        })
    }
}
