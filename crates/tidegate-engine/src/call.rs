//! One invocation, from a request to a response whose body is still to come.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::{Request, Response, Version};
use tidegate_contract::{
    AnswerBody, Body, BodyFault, BodyWatch, CallError, CallInfo, Caller, Prefix,
};
use tidegate_core::record::{Cause, TraceContext};
use tidegate_core::{InvocationId, Limit, Outcome};
use tidegate_instance::{Reason, StartError};
use tokio::time::{Instant, timeout_at};

use crate::arrangement::{self, Chosen};
use crate::functions::Function;
use crate::host::Host;
use crate::pool::{Acquire, Lineage, Pool, Refusal};
use crate::reply::{Flight, ReplyBody};
use crate::slot::Slot;
use crate::trace;

/// The outcome, on replies that are no plain success; set by language hosts too, and passed on from them.
const OUTCOME: HeaderName = HeaderName::from_static("x-tidegate-outcome");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The revision that answered.
const REVISION: HeaderName = HeaderName::from_static("x-tidegate-revision");

/// How long the kernel may take to tell of an instance's end after its connection closed; only a call that has failed
/// already waits for it, to say why.
const EXIT_WAIT: Duration = Duration::from_millis(250);

/// What a call carries beside its request.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The invocation.
    pub id: InvocationId,
    /// The part of the path that led here.
    pub prefix: Prefix,
    /// Who called, if it came over the network.
    pub caller: Option<Caller>,
    /// When it arrived.
    pub received: Instant,
    /// How many functions called one another until this.
    pub depth: u32,
    /// What led to it.
    pub cause: Cause,
    /// Where what led to it stands in a distributed trace. The request's own headers count before it; when the engine
    /// works with the call, it is the call's own place.
    pub trace: Option<TraceContext>,
}

/// What led to a call, as far as somebody other than the caller knows it.
#[derive(Clone, Debug, Default)]
pub struct Led {
    /// See [`CallContext::depth`].
    pub depth: u32,
    /// See [`CallContext::cause`].
    pub cause: Cause,
    /// See [`CallContext::trace`].
    pub trace: Option<TraceContext>,
}

/// Why there is no response from the code. Knows no status code: that is the dialect's table.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Whose fault, in a word.
    pub outcome: Outcome,
    /// For the caller: the thing, the value, what would be accepted.
    pub message: String,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
}

pub(crate) async fn call(
    host: &Arc<Host>,
    function: &Arc<Function>,
    chosen: Option<Chosen>,
    mut request: Request<Body>,
    mut context: CallContext,
) -> Result<Response<ReplyBody>, Failure> {
    if host.closed.load(Ordering::Relaxed) {
        return Err(Failure::shutting_down());
    }
    // Over HTTP/2 the caller's window, not our buffer, decides how much of an answer leaves.
    let buffered = request.version() <= Version::HTTP_11;
    context.trace = trace::place(
        request.headers_mut(),
        context.id,
        context.trace,
        host.options.traces,
    );
    let mut flight = Flight::new(function.clone(), &mut context);
    let answered = match flight.admit() {
        Ok(()) => attempt(host, function, chosen, request, context, &mut flight).await,
        Err(refused) => Err(refused),
    };
    match answered {
        Ok((response, outcome)) => Ok(finish(response, outcome, flight, buffered)),
        Err(failure) => {
            flight.explain(&failure.message);
            flight.end(failure.outcome);
            Err(failure)
        }
    }
}

async fn attempt(
    host: &Arc<Host>,
    function: &Arc<Function>,
    chosen: Option<Chosen>,
    mut request: Request<Body>,
    context: CallContext,
    flight: &mut Flight,
) -> Result<(Response<AnswerBody>, Option<Outcome>), Failure> {
    let by_name = chosen.is_some();
    let mut pool = match chosen {
        Some(Chosen(pool)) => pool,
        None => next(function)?,
    };
    // Before a slot is waited for, or an instance started, in vain.
    check_length(&request, pool.revision.spec.limits.body)?;
    let mut again = true;
    loop {
        let acquired = acquire(host, function, &mut pool, by_name, &context).await;
        flight.meant_for(&pool);
        let slot = acquired?;
        let limits = &pool.revision.spec.limits;
        let deadline = context.received + limits.timeout;
        request.body_mut().bound(limits.body, limits.stream_idle);
        let watch = request.body_mut().watch();
        flight.reads(request.body(), watch.as_ref());
        let began = Instant::now();
        let info = CallInfo {
            id: context.id,
            prefix: context.prefix,
            remaining: deadline.saturating_duration_since(began),
            caller: context.caller.clone(),
        };
        let target = slot.target().clone();
        flight.begin(slot, began, deadline, limits.stream_idle);
        let head_by = context.received + limits.first_byte.min(limits.timeout);
        let error = match timeout_at(head_by, target.call(request, &info)).await {
            Ok(Ok(response)) => return Ok((response, None)),
            Ok(Err(CallError::Unreached {
                request: unsent,
                source,
            })) => {
                // An instance that cannot be connected to is of no use to the next call either.
                tracing::debug!(function = %function.key(), %source, "an instance could not be reached");
                flight.discard();
                if again {
                    again = false;
                    request = *unsent;
                    continue;
                }
                CallError::Closed
            }
            Ok(Err(error)) => error,
            Err(_) => {
                let (limit, allowed) = if limits.first_byte < limits.timeout {
                    (Limit::FirstByte, limits.first_byte)
                } else {
                    (Limit::Timeout, limits.timeout)
                };
                flight.cancel();
                return Err(Failure::new(
                    Outcome::Limit(limit),
                    format!("the function did not answer within {allowed:?}"),
                ));
            }
        };
        return match error {
            CallError::Answered { response, error } => {
                let failure = describe(*error, watch.as_ref(), &target, flight).await;
                pool.tell(&target, context.id, &failure.message);
                flight.explain(&failure.message);
                Ok((*response, Some(failure.outcome)))
            }
            error => Err(describe(error, watch.as_ref(), &target, flight).await),
        };
    }
}

/// Whose turn it is.
fn next(function: &Function) -> Result<Arc<Pool>, Failure> {
    match function.live.load().as_ref() {
        Some(live) => Ok(live.next().clone()),
        None => Err(Failure::busy(
            Limit::Capacity,
            format!(
                "no revision of function {} takes calls: it is being deployed or removed, or its deploy failed",
                function.key()
            ),
        )),
    }
}

/// A slot, waited for within the bounds. The pool becomes another where the one asked was replaced.
async fn acquire(
    host: &Arc<Host>,
    function: &Arc<Function>,
    pool: &mut Arc<Pool>,
    by_name: bool,
    context: &CallContext,
) -> Result<Slot, Failure> {
    // Most get a slot at once, and need no clock for it.
    let mut asked = None;
    let lineage = Lineage {
        call: Some(context.id),
        depth: context.depth,
        trace: context.trace,
    };
    loop {
        if host.is_draining() {
            return Err(Failure::shutting_down());
        }
        let refusal = match pool.acquire(lineage) {
            Acquire::Granted(slot) => return Ok(slot),
            Acquire::Queued(granted) => {
                let limits = &pool.revision.spec.limits;
                let until = (context.received + limits.first_byte.min(limits.timeout))
                    .min(*asked.get_or_insert_with(Instant::now) + host.options.max_wait);
                match timeout_at(until, granted).await {
                    Ok(Ok(Ok(slot))) => return Ok(slot),
                    Ok(Ok(Err(refusal))) => refusal,
                    // The pool is gone with the server.
                    Ok(Err(_)) => Refusal::Retired,
                    Err(_) => {
                        return Err(Failure::busy(
                            Limit::Concurrency,
                            format!(
                                "no instance of {} was free within {:?}; {}",
                                function.key(),
                                until.saturating_duration_since(asked.unwrap_or(until)),
                                counts(pool)
                            ),
                        ));
                    }
                }
            }
            Acquire::Refused(refusal) => refusal,
        };
        match refusal {
            // Replaced while it was asked: whatever took its place is asked next.
            Refusal::Retired => {
                tokio::task::yield_now().await;
                *pool = if by_name {
                    again_by_name(host, function, &pool.revision.id).await?
                } else {
                    next(function)?
                };
            }
            Refusal::Full => {
                let why = if pool.revision.spec.scale.waiting == Some(0) {
                    "every instance has as many calls as it may have, and none may wait"
                } else {
                    "too many calls wait already"
                };
                return Err(Failure::busy(
                    Limit::Concurrency,
                    format!("{}: {why}; {}", function.key(), counts(pool)),
                ));
            }
            Refusal::Failing(error) => return Err(start_failure(function, &error)),
        }
    }
}

/// The pool of a revision that was named and has lost the pool it had.
async fn again_by_name(
    host: &Arc<Host>,
    function: &Function,
    id: &str,
) -> Result<Arc<Pool>, Failure> {
    let found = arrangement::named(host, function, id).await;
    found.map_err(|_| {
        Failure::busy(
            Limit::Capacity,
            format!("revision {id} of {} is being removed", function.key()),
        )
    })
}

fn counts(pool: &Pool) -> String {
    let counts = pool.counts();
    format!(
        "{} instances are busy, {} are starting, {} calls wait",
        counts.busy, counts.starting, counts.queued
    )
}

fn check_length(request: &Request<Body>, limit: u64) -> Result<(), Failure> {
    let declared = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse::<u64>().ok());
    match declared {
        Some(length) if length > limit => Err(body_failure(BodyFault::TooLarge { limit })),
        _ => Ok(()),
    }
}

fn start_failure(function: &Function, error: &StartError) -> Failure {
    let key = function.key();
    match error {
        StartError::Code { message } => Failure::new(
            Outcome::Function,
            format!("function {key} does not start: {message}"),
        ),
        StartError::NotReady { .. } => Failure::new(
            Outcome::Function,
            format!("function {key} does not start: {error}"),
        ),
        StartError::NoRoom { .. } | StartError::ShuttingDown => {
            Failure::busy(Limit::Capacity, error.to_string())
        }
        StartError::Runtime(_) | StartError::Sandbox { .. } => Failure::new(
            Outcome::Platform,
            format!("function {key} cannot be started: {error}"),
        ),
    }
}

/// What an end means for the call that it ended.
const fn outcome_of(reason: Reason) -> Outcome {
    match reason {
        Reason::Memory => Outcome::Limit(Limit::Memory),
        Reason::Processes => Outcome::Limit(Limit::Processes),
        Reason::Disk => Outcome::Limit(Limit::Disk),
        Reason::Time => Outcome::Limit(Limit::Timeout),
        Reason::Exited | Reason::Killed => Outcome::Function,
    }
}

/// Says why a call failed, waiting a moment for the instance's own end to be known.
async fn describe(
    error: CallError,
    watch: Option<&BodyWatch>,
    target: &tidegate_contract::Target,
    flight: &mut Flight,
) -> Failure {
    if let Some(fault) = watch.and_then(BodyWatch::fault) {
        flight.cancel();
        return body_failure(fault);
    }
    match error {
        CallError::Request(fault) => {
            flight.cancel();
            body_failure(fault)
        }
        CallError::Exit(exit) => {
            flight.release();
            Failure::new(
                outcome_of(exit.reason),
                format!("the function's process {exit}"),
            )
        }
        CallError::Exec(source) => {
            flight.discard();
            Failure::new(
                Outcome::Function,
                format!("the function's process could not be started: {source}"),
            )
        }
        CallError::Protocol(source) => {
            flight.spoil();
            Failure::new(
                Outcome::Function,
                format!("the function's response is not HTTP: {source}"),
            )
        }
        CallError::Late(_) => {
            flight.cancel();
            Failure::new(Outcome::Limit(Limit::Timeout), error.to_string())
        }
        // What is described is never such a pair but the error in it.
        CallError::Unreached { .. } | CallError::Closed | CallError::Answered { .. } => {
            let ended = tokio::time::timeout(EXIT_WAIT, target.instance().exited()).await;
            flight.spoil();
            match ended {
                Ok(exit) if exit.reason == Reason::Memory => Failure::new(
                    Outcome::Limit(Limit::Memory),
                    "the function used more memory than it may; raise its memory limit".to_owned(),
                ),
                Ok(exit) => Failure::new(
                    outcome_of(exit.reason),
                    format!("the function's instance {exit} before it answered"),
                ),
                Err(_) => Failure::new(
                    Outcome::Function,
                    "the function closed the connection before it answered".to_owned(),
                ),
            }
        }
    }
}

fn body_failure(fault: BodyFault) -> Failure {
    let outcome = match fault {
        BodyFault::TooLarge { .. } => Outcome::Limit(Limit::Body),
        BodyFault::Idle(_) => Outcome::Limit(Limit::Idle),
        BodyFault::Lost => Outcome::Platform,
        _ => Outcome::Cancelled,
    };
    Failure::new(outcome, fault.to_string())
}

/// Puts the head in order and decides how the body is carried. `outcome` is there where the answer is not the code's.
fn finish(
    mut response: Response<AnswerBody>,
    outcome: Option<Outcome>,
    mut flight: Flight,
    buffered: bool,
) -> Response<ReplyBody> {
    if let Some(outcome) = outcome {
        // The status alone does not tell it.
        response.extensions_mut().insert(outcome);
    }
    let outcome = match response.headers().get(OUTCOME).map(HeaderValue::as_bytes) {
        _ if outcome.is_some() => outcome.unwrap_or(Outcome::Function),
        Some(b"function") => Outcome::Function,
        _ if response.status().is_client_error() || response.status().is_server_error() => {
            Outcome::Application
        }
        _ => Outcome::Ok,
    };
    flight.answered(response.status());
    let headers = response.headers_mut();
    if let Some(label) = flight.label() {
        headers.insert(REVISION, label);
    }
    if let Ok(id) = HeaderValue::from_bytes(&flight.id().hex()) {
        headers.insert(REQUEST_ID, id);
    }
    let mut timing = String::with_capacity(64);
    // Writing to a string cannot fail.
    let _ = write!(
        timing,
        "{};dur={}, run;dur={}",
        if flight.was_cold() {
            "queue;desc=cold"
        } else {
            "queue"
        },
        Millis(flight.queued()),
        Millis(flight.elapsed().saturating_sub(flight.queued())),
    );
    if let Ok(timing) = HeaderValue::from_maybe_shared(bytes::Bytes::from(timing)) {
        headers.append(SERVER_TIMING, timing);
    }
    response.map(|answer| ReplyBody::new(answer, flight, outcome, buffered))
}

/// Milliseconds with three digits, without floating point.
struct Millis(Duration);

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let us = self.0.as_micros();
        write!(f, "{}.{:03}", us / 1000, us % 1000)
    }
}

// === impl Failure ===

impl Failure {
    /// A failure that trying again soon would not mend.
    #[must_use]
    pub const fn new(outcome: Outcome, message: String) -> Self {
        Self {
            outcome,
            message,
            retry_after: None,
        }
    }

    /// A failure of a moment.
    #[must_use]
    pub const fn busy(limit: Limit, message: String) -> Self {
        Self {
            outcome: Outcome::Limit(limit),
            message,
            retry_after: Some(Duration::from_secs(1)),
        }
    }

    /// Whole seconds after which trying again makes sense, as answers say it: never too soon, and at least one.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        let after = self.retry_after?;
        let begun = u64::from(after.subsec_nanos() > 0);
        Some((after.as_secs() + begun).max(1))
    }

    fn shutting_down() -> Self {
        Self::busy(Limit::Capacity, "the server is shutting down".to_owned())
    }
}
