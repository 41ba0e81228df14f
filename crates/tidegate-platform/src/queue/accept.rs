//! From a request to something that is on disk and will run.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use http::HeaderMap;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tidegate_contract::{BodyFault, Caller};
use tidegate_core::queue::Retrying;
use tidegate_core::record::{Cause, CauseKind, TraceContext};
use tidegate_core::{FunctionKey, InvocationId};
use tidegate_engine::Failure;
use tidegate_queue::{
    AcceptError, Accepted, Body as Kept, Callback, MAX_INLINE_BYTES, Payload, Spooled, Submission,
    Target,
};
use tidegate_store::BlobError;
use tokio::sync::oneshot;

use super::marks::Marks;
use crate::{Body, Error, NotQueued, Platform};

/// What belongs to a connection, or to the way that a body came.
const NOT_KEPT: [http::HeaderName; 9] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// How long a full queue's callers are told to wait where nothing better is known.
const AGAIN: Duration = Duration::from_secs(1);

/// Longest time that a body may go without a byte, where the function does not say.
const BODY_IDLE: Duration = Duration::from_secs(60);

/// Least age at which a call may be given up: what cannot run in time at all should not be accepted.
const LEAST_AGE: Duration = Duration::from_secs(1);

/// The key by which everything of a function that is ordered is ordered.
pub(super) const ALL: &str = "";

/// A call that is to be made later.
#[derive(Clone, Debug, Default)]
pub struct Later {
    /// The word of the door it came through.
    pub door: &'static str,
    /// In capitals.
    pub method: String,
    /// Below the function, with the query.
    pub path_and_query: String,
    /// Those of the request.
    pub headers: HeaderMap,
    /// Who called, where the function is to be told as if it were called directly.
    pub caller: Option<Caller>,
    /// Which revision it is for, where it is for one.
    pub revision: Option<Named>,
    /// What led to it.
    pub cause: Cause,
    /// Where that stands in a distributed trace.
    pub trace: Option<TraceContext>,
    /// How many functions called one another until this.
    pub depth: u32,
    /// Not before this has passed.
    pub delay: Duration,
    /// What becomes of it if it does not succeed, over what its function says of that.
    pub retrying: Retrying,
    /// When it is given up, in place of all of that.
    pub max_age: Option<Duration>,
    /// See [`Submission::order_key`].
    pub order_key: Option<String>,
    /// See [`Submission::idempotency`].
    pub idempotency: Option<String>,
    /// Who gets the answer.
    pub callback: Option<String>,
}

/// A revision that a call is for, looked for when the call is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its own word, a tag, or `latest`.
    pub word: String,
    /// Whether whoever asked may call private ones.
    pub may_be_private: bool,
}

/// Why a call was not accepted. It will not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotAccepted {
    /// It asks for something that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// Its body is larger than what is taken.
    #[error(
        "the request body is larger than {limit} bytes, the most that is kept for a call to be made later"
    )]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The namespace may have no more of it.
    #[error(transparent)]
    Quota(Failure),
    /// The body did not come whole.
    #[error(transparent)]
    Body(BodyFault),
    /// There is no room now, or the disk fails.
    #[error("{message}")]
    Later {
        /// For people.
        message: String,
        /// When to try again.
        after: Duration,
    },
    /// This server makes no calls later.
    #[error("this server has no queue: call the function and wait for the answer")]
    NoQueue,
}

impl Platform {
    /// Accepts a call that is made later. When this returns with `Ok` it is on disk, and will be made.
    ///
    /// # Errors
    /// See [`NotAccepted`].
    pub async fn enqueue(
        &self,
        id: InvocationId,
        function: &FunctionKey,
        mut later: Later,
        mut body: Body,
    ) -> Result<Accepted, NotAccepted> {
        let queued = self.in_queue().ok_or(NotAccepted::NoQueue)?;
        let queue = &queued.queue;
        let rules = self.rules().of(function);
        // Ticks of schedules count, and are accepted all the same: nobody is there to send them again.
        let is_limited = later.cause.kind != CauseKind::Schedule;
        if is_limited {
            // Before a byte of the body is read; what counts is asked again when it is there.
            self.admit_queued(&function.namespace)
                .map_err(NotAccepted::Quota)?;
        }
        if let Some(url) = &later.callback {
            self.check_callback(url).map_err(NotAccepted::Invalid)?;
        }
        let (limit, idle) = self.body_bounds(function);
        let limit = limit.min(queued.max_body);
        // Before a byte of it is read.
        if body.size_hint().lower() > limit {
            return Err(NotAccepted::TooLarge { limit });
        }
        body.bound(limit, idle);
        let began_us = crate::ledger::now_us();
        let trace = self.place_later(id, &mut later);
        if later.max_age.is_some_and(|age| age < LEAST_AGE) {
            return Err(NotAccepted::Invalid(format!(
                "a call that is given up after {:?} would never be made; write at least {LEAST_AGE:?}",
                later.max_age.unwrap_or_default()
            )));
        }
        let mut policy = later
            .retrying
            .over(rules.policy)
            .map_err(|e| NotAccepted::Invalid(e.to_string()))?;
        if let Some(age) = later.max_age {
            policy.max_age_ms = millis(age);
        }
        // Held until all of it is on disk.
        let _room = queued.reading(&body)?;
        let kept = self.keep_body(body, limit).await?;
        let due_ms = match later.delay {
            Duration::ZERO => 0,
            delay => queue.now_ms().saturating_add(millis(delay)),
        };
        let order_key = later
            .order_key
            .or_else(|| rules.ordered.then(|| ALL.to_owned()));
        let keep_result = rules.keep_result.unwrap_or(queued.keep_result);
        let mut headers = headers(&later.headers);
        let marks = Marks {
            caller: later.caller,
            revision: later.revision,
            told: false,
        };
        marks.write(&mut headers);
        let submission = Submission {
            id,
            function: function.clone(),
            target: Target::Function,
            door: later.door.to_owned(),
            request: Payload {
                method: later.method,
                path_and_query: later.path_and_query,
                headers,
                body: kept,
            },
            cause: later.cause,
            trace,
            depth: later.depth,
            due_ms,
            policy,
            order_key,
            idempotency: later.idempotency,
            on_success: rules.on_success.clone(),
            on_failure: rules.on_failure.clone(),
            callback: later.callback.map(|url| Callback { url }),
            keep_result_ms: millis(keep_result),
        };
        let accepted = self.hand_over(submission, is_limited).await?;
        if !accepted.duplicate {
            self.count_queued(function);
            self.witness_accepted(id, function, trace, began_us);
        }
        Ok(accepted)
    }

    /// Has a submission accepted. What has to be set right when it is or is not, is so though its client hangs up.
    async fn hand_over(
        &self,
        submission: Submission,
        is_limited: bool,
    ) -> Result<Accepted, NotAccepted> {
        let spooled = match &submission.request.body {
            Kept::Spooled(spooled) => Some(*spooled),
            Kept::Inline(_) => None,
        };
        let is_limited = is_limited && self.limits_queued(&submission.function.namespace);
        if spooled.is_none() && !is_limited {
            let queued = self.in_queue().ok_or(NotAccepted::NoQueue)?;
            return Ok(queued.queue.accept(submission).await?);
        }
        let (tell, told) = oneshot::channel();
        let platform = self.clone();
        self.spawn(async move {
            let accepted = platform.accept(submission, is_limited).await;
            let is_new = accepted.as_ref().is_ok_and(|accepted| !accepted.duplicate);
            if let Some(spooled) = spooled
                && !is_new
            {
                platform.unspool(&spooled).await;
            }
            // Nobody may be there any more.
            let _ = tell.send(accepted);
        });
        // Where the server ends first, it may have been accepted: its body stays, and the next start looks whose it is.
        told.await.unwrap_or_else(|_| {
            Err(NotAccepted::Later {
                message: "the server is shutting down".to_owned(),
                after: AGAIN,
            })
        })
    }

    /// Has a submission accepted, which holds its place in what the namespace may have queued until it is or is not.
    async fn accept(
        &self,
        submission: Submission,
        is_limited: bool,
    ) -> Result<Accepted, NotAccepted> {
        let queued = self.in_queue().ok_or(NotAccepted::NoQueue)?;
        let _reserved = match is_limited {
            true => self
                .reserve_queued(&submission.function.namespace)
                .await
                .map_err(NotAccepted::Quota)?,
            false => None,
        };
        Ok(queued.queue.accept(submission).await?)
    }

    /// What can be said of a callback's address before anything is sent there.
    ///
    /// # Errors
    /// It may not be reached, or is no address; for people.
    pub fn check_callback(&self, url: &str) -> Result<(), String> {
        if let Some((function, _)) = self.inside(url) {
            if self.is_private(&function) {
                return Err(super::runner::private(&function));
            }
            return Ok(());
        }
        let courier = self.in_queue().and_then(|queued| queued.courier.as_ref());
        let courier = courier
            .ok_or_else(|| "this server tells nobody of ends: see queue.callbacks".to_owned())?;
        courier.check(url).map_err(|e| e.to_string())
    }

    /// The limits of a body, as the function has them.
    fn body_bounds(&self, function: &FunctionKey) -> (u64, Duration) {
        let function = self.function(function.borrowed());
        let members = function.map(|f| self.members(&f)).unwrap_or_default();
        let limits = members.first().map(|member| &member.revision.spec.limits);
        limits.map_or((u64::MAX, BODY_IDLE), |limits| {
            (limits.body, limits.stream_idle)
        })
    }

    /// How many invocations of a namespace wait or run, with what is told on behalf of its functions.
    pub(crate) fn queued_in(&self, namespace: &str) -> u64 {
        let Some(queued) = self.in_queue() else {
            return 0;
        };
        // Lanes are in the order of namespaces.
        let mut after = FunctionKey {
            namespace: namespace.into(),
            group: "".into(),
            name: "".into(),
        };
        let mut waiting = 0;
        loop {
            let lanes = queued.queue.lanes(Some(&after), LANES);
            let of_namespace = lanes
                .iter()
                .take_while(|lane| *lane.function.namespace == *namespace);
            waiting += of_namespace.map(|lane| lane.queued).sum::<u64>();
            match lanes.last() {
                Some(last) if lanes.len() == LANES && *last.function.namespace == *namespace => {
                    after = last.function.clone();
                }
                _ => return waiting,
            }
        }
    }

    /// In memory what is small, on disk what is not.
    async fn keep_body(&self, mut body: Body, limit: u64) -> Result<Kept, NotAccepted> {
        let mut start = BytesMut::new();
        while start.len() <= MAX_INLINE_BYTES {
            match body.frame().await {
                None => return Ok(Kept::Inline(start.freeze())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        start.extend_from_slice(&data);
                    }
                }
                Some(Err(fault)) => return Err(of_body(fault, limit)),
            }
        }
        let Some(queued) = self.in_queue() else {
            return Err(NotAccepted::NoQueue);
        };
        let mut fault = None;
        let spooled = {
            let rest = rest(start.freeze(), body, &mut fault);
            queued.queue.spool(rest, limit).await
        };
        match (spooled, fault) {
            (Ok(spooled), None) => Ok(Kept::Spooled(spooled)),
            (Ok(spooled), Some(fault)) => {
                self.unspool(&spooled).await;
                Err(of_body(fault, limit))
            }
            (Err(_), Some(fault)) => Err(of_body(fault, limit)),
            (Err(BlobError::TooLarge { max }), None) => Err(NotAccepted::TooLarge { limit: max }),
            (Err(error), None) => Err(NotAccepted::Later {
                message: format!("the body cannot be kept: {error}"),
                after: AGAIN,
            }),
        }
    }

    async fn unspool(&self, spooled: &Spooled) {
        let Some(queued) = self.in_queue() else {
            return;
        };
        if let Err(error) = queued.queue.unspool(spooled).await {
            tracing::warn!(%error, "a body that is not needed stays on disk until the next start");
        }
    }
}

/// Lanes that are looked at at once.
const LANES: usize = 256;

type Chunks<'a> = Pin<Box<dyn Stream<Item = Result<Bytes, BodyFault>> + Send + 'a>>;

/// What was read of a body, then what is left of it.
fn rest<'a>(start: Bytes, body: Body, fault: &'a mut Option<BodyFault>) -> Chunks<'a> {
    let left = stream::unfold((body, fault), |(mut body, fault)| async move {
        loop {
            match body.frame().await? {
                Ok(frame) => {
                    // Trailers are not kept.
                    if let Ok(data) = frame.into_data() {
                        return Some((Ok(data), (body, fault)));
                    }
                }
                Err(broken) => {
                    *fault = Some(broken);
                    return Some((Err(broken), (body, fault)));
                }
            }
        }
    });
    stream::iter([Ok(start)]).chain(left).boxed()
}

fn of_body(fault: BodyFault, limit: u64) -> NotAccepted {
    match fault {
        BodyFault::TooLarge { .. } => NotAccepted::TooLarge { limit },
        fault => NotAccepted::Body(fault),
    }
}

fn headers(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let kept = headers.iter().filter(|(name, _)| {
        !NOT_KEPT.contains(name) && !matches!(name.as_str(), "keep-alive" | "proxy-connection")
    });
    kept.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect()
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

// === impl NotAccepted ===

impl From<AcceptError> for NotAccepted {
    fn from(error: AcceptError) -> Self {
        let message = error.to_string();
        match error {
            AcceptError::Full { retry_after, .. } | AcceptError::Store { retry_after, .. } => {
                Self::Later {
                    message,
                    after: retry_after,
                }
            }
            AcceptError::IdTaken { .. } => Self::Later {
                message,
                after: AGAIN,
            },
            _ => Self::Invalid(message),
        }
    }
}

impl From<NotAccepted> for NotQueued {
    fn from(error: NotAccepted) -> Self {
        let message = error.to_string();
        match error {
            NotAccepted::Later { after, .. } => Self::Later {
                message,
                after: Some(after),
            },
            NotAccepted::Quota(failure) => Self::Later {
                message,
                after: failure.retry_after,
            },
            _ => Self::Never { message },
        }
    }
}

impl From<tidegate_queue::Error> for Error {
    fn from(error: tidegate_queue::Error) -> Self {
        use tidegate_queue::Error as Of;
        match error {
            Of::Store(error) => Self::Store(error),
            error @ Of::NotFound { .. } => Self::NotFound(error.to_string()),
            error @ Of::Token { .. } => Self::Invalid(error.to_string()),
            error => Self::Queue(error),
        }
    }
}
