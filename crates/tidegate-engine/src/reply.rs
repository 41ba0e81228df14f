//! The body of a response, and what ends with it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use tidegate_contract::{AnswerBody, Body, BodyFault, BodyWatch, Carried};
use tidegate_core::record::{Cause, ColdStart, MAX_MESSAGE, Record, Times, TraceContext};
use tidegate_core::{InstanceId, InvocationId, Limit, Outcome};
use tokio::time::{Instant, Sleep};

use crate::call::{CallContext, Failure};
use crate::functions::Function;
use crate::ledger::Ended;
use crate::meter::Measured;
use crate::pool::Pool;
use crate::slot::Slot;
use crate::spool;

/// Bodies of a known length up to this are read by the serving connection directly where its own write buffer holds that
/// much: a slow caller does not keep the instance from its next call.
const DIRECT: u64 = 256 * 1024;

/// What is kept of a call whose caller did not wait for its end.
const LEFT: &str = "the caller left before the answer was whole";

/// A call under way: what must happen exactly once however it ends. Dropping it is the caller's hang-up.
pub(crate) struct Flight {
    function: Arc<Function>,
    id: InvocationId,
    received: Instant,
    cause: Cause,
    trace: Option<TraceContext>,
    admitted: bool,
    /// The revision that was to answer, which is held to account for it.
    pool: Option<Arc<Pool>>,
    slot: Option<Slot>,
    deadline: Instant,
    idle: Duration,
    status: Option<StatusCode>,
    /// What it was given to do, and how that went.
    run: Option<Run>,
    request: Request,
    bytes_out: u64,
    message: Option<Box<str>>,
    ended: bool,
}

/// A call on an instance.
struct Run {
    instance: InstanceId,
    cold: Option<ColdStart>,
    /// When it had its slot.
    began: Instant,
    /// How long until the instance was done with it, and what that took; absent until it was.
    over: Option<(Duration, Measured)>,
}

/// What is known of a request's body.
enum Request {
    /// That many bytes, all of them there.
    Whole(u64),
    Streamed(BodyWatch),
}

/// A response body. Its end frees the slot; dropping it before is the caller's hang-up and cancels the call.
pub struct ReplyBody(Inner);

enum Inner {
    /// Nothing of the instance is held any more.
    Whole(AnswerBody),
    /// Read from the instance as the connection takes it.
    Direct {
        answer: AnswerBody,
        /// Boxed: a body is moved through every layer on its way out.
        flight: Option<Box<Flight>>,
        outcome: Outcome,
        wait: Wait,
    },
    /// Read from the instance ahead of the caller.
    Spooled(spool::Reader),
}

/// The limits on waiting for the next byte; a timer is made only when there is a wait.
#[derive(Default)]
pub(crate) struct Wait(Option<Pin<Box<Sleep>>>);

// === impl Flight ===

impl Flight {
    /// Takes the cause out of the context.
    pub(crate) fn new(function: Arc<Function>, context: &mut CallContext) -> Self {
        function.metrics().in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            function,
            id: context.id,
            received: context.received,
            cause: std::mem::take(&mut context.cause),
            trace: context.trace,
            admitted: false,
            pool: None,
            slot: None,
            deadline: context.received,
            idle: Duration::MAX,
            status: None,
            run: None,
            request: Request::Whole(0),
            bytes_out: 0,
            message: None,
            ended: false,
        }
    }

    /// Asks whether the call may go on.
    pub(crate) fn admit(&mut self) -> Result<(), Failure> {
        self.function.account().admit()?;
        self.admitted = true;
        Ok(())
    }

    pub(crate) fn meant_for(&mut self, pool: &Arc<Pool>) {
        if !self.pool.as_ref().is_some_and(|own| Arc::ptr_eq(own, pool)) {
            self.pool = Some(pool.clone());
        }
    }

    /// The head of the answer is there.
    pub(crate) const fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// Why the call does not end well, for people.
    pub(crate) fn explain(&mut self, message: &str) {
        let end = message.floor_char_boundary(MAX_MESSAGE);
        self.message = Some(message[..end].into());
    }

    /// What the instance is to read.
    pub(crate) fn reads(&mut self, body: &Body, watch: Option<&BodyWatch>) {
        self.request = match watch {
            Some(watch) => Request::Streamed(watch.clone()),
            None => Request::Whole(body.in_memory()),
        };
    }

    /// The answer left the instance before its head was looked at.
    pub(crate) const fn sent_whole(&mut self, bytes: u64) {
        self.bytes_out = bytes;
    }

    /// Bytes of the answer have left the instance.
    pub(crate) fn sent(&mut self, frame: &Frame<Bytes>) {
        self.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64);
    }

    /// The connection was upgraded and is over.
    pub(crate) fn carried(&mut self, carried: Carried) {
        self.request = Request::Whole(self.request.bytes() + carried.to_instance);
        self.bytes_out += carried.to_caller;
    }

    /// The revision, as an answer carries it.
    pub(crate) fn label(&self) -> Option<HeaderValue> {
        self.pool.as_ref().map(|pool| pool.label.clone())
    }

    pub(crate) fn begin(&mut self, slot: Slot, began: Instant, deadline: Instant, idle: Duration) {
        let unowned = slot.meter().begin(began);
        slot.pool().spent(Duration::ZERO, unowned);
        let cold = slot.cold();
        if cold.is_some() {
            self.function.metrics().cold.fetch_add(1, Ordering::Relaxed);
        }
        self.run = Some(Run {
            instance: slot.target().instance().id(),
            cold,
            began,
            over: None,
        });
        (self.slot, self.deadline, self.idle) = (Some(slot), deadline, idle);
    }

    pub(crate) const fn id(&self) -> InvocationId {
        self.id
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.received.elapsed()
    }

    /// From its arrival until it had its slot.
    pub(crate) fn queued(&self) -> Duration {
        let run = self.run.as_ref();
        run.map_or_else(
            || self.elapsed(),
            |run| run.began.saturating_duration_since(self.received),
        )
    }

    pub(crate) fn was_cold(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.cold.is_some())
    }

    /// Looks at what the call took, once: when the instance is done with it, or it is given up.
    fn measure(&mut self, now: Instant) {
        if let (Some(slot), Some(run)) = (&self.slot, &mut self.run)
            && run.over.is_none()
        {
            let took = now.saturating_duration_since(run.began);
            run.over = Some((took, slot.meter().end(now)));
        }
    }

    /// The instance is idle again as far as this call goes.
    pub(crate) fn release(&mut self) {
        self.measure(Instant::now());
        self.slot = None;
    }

    /// The code may still be running.
    pub(crate) fn cancel(&mut self) {
        self.measure(Instant::now());
        if let Some(slot) = self.slot.take() {
            slot.cancel(self.id);
        }
    }

    /// The instance takes no calls any more.
    pub(crate) fn discard(&mut self) {
        self.measure(Instant::now());
        if let Some(slot) = self.slot.take() {
            slot.discard();
        }
    }

    /// The instance broke this call off. Where it takes one at a time nobody knows what state it is in; where it takes
    /// many, the calls beside this one are not to suffer for it.
    pub(crate) fn spoil(&mut self) {
        let alone = |slot: &Slot| slot.pool().concurrency() == 1;
        if self.slot.as_ref().is_some_and(alone) {
            self.discard();
        } else {
            self.cancel();
        }
    }

    /// Accounts for the call and frees what it still holds.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.account(outcome);
    }

    /// Ends the call after its body broke off.
    pub(crate) fn break_off(mut self, fault: BodyFault) {
        self.explain(&fault.to_string());
        let outcome = match fault {
            BodyFault::InstanceGone => {
                self.spoil();
                Outcome::Function
            }
            BodyFault::Deadline => Outcome::Limit(Limit::Timeout),
            BodyFault::Idle(_) => Outcome::Limit(Limit::Idle),
            BodyFault::TooLarge { .. } => Outcome::Limit(Limit::Body),
            BodyFault::CallerGone => Outcome::Cancelled,
            BodyFault::Lost => Outcome::Platform,
        };
        self.cancel();
        self.account(outcome);
    }

    fn account(&mut self, outcome: Outcome) {
        self.ended = true;
        let now = Instant::now();
        self.measure(now);
        let took = now.saturating_duration_since(self.received);
        let metrics = self.function.metrics();
        metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
        metrics.ended(outcome, took);
        if let Some(pool) = &self.pool {
            let failed = self.status.is_some_and(|status| status.is_server_error());
            pool.ended(failed || is_own_fault(outcome));
        }
        let ended = self.ended(outcome, took);
        self.function.account().ended(ended);
    }

    /// What the account is told.
    fn ended(&mut self, outcome: Outcome, took: Duration) -> Ended {
        let us = |duration: Duration| duration.as_micros() as u64;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let (run, measured) = match &self.run {
            Some(run) => run.over.unwrap_or_default(),
            None => <_>::default(),
        };
        let (revision, memory_limit) = match &self.pool {
            Some(pool) => (pool.revision.id.clone(), pool.revision.spec.limits.memory),
            None => (self.function.books().no_revision(), 0),
        };
        Ended {
            record: Record {
                id: self.id,
                cause: std::mem::take(&mut self.cause),
                trace: self.trace,
                function: self.function.books().key().clone(),
                revision,
                received_us: us(now.unwrap_or_default().saturating_sub(took)),
                times: Times {
                    queue_us: us(self.run.as_ref().map_or(took, |_| self.queued())),
                    cold: self.run.as_ref().and_then(|run| run.cold),
                    run_us: us(run),
                },
                outcome,
                message: self.message.take(),
                status: self.status.map(|status| status.as_u16()),
                bytes_in: self.request.bytes(),
                bytes_out: self.bytes_out,
                used: measured.used,
                memory_limit,
                instance: self.run.as_ref().map(|run| run.instance),
            },
            admitted: self.admitted,
            cpu_us: measured.cpu_us,
        }
    }

    /// Whether the time of the call is over: a caller that always finds a byte to take never waits for one.
    pub(crate) fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Ready when the wait for the next byte has been too long.
    pub(crate) fn poll_limits(&self, wait: &mut Wait, cx: &mut Context<'_>) -> Poll<BodyFault> {
        let now = Instant::now();
        let by_idle = now.checked_add(self.idle).unwrap_or(self.deadline);
        let until = self.deadline.min(by_idle);
        let sleep = wait
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        match sleep.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) if self.is_late() => Poll::Ready(BodyFault::Deadline),
            Poll::Ready(()) => Poll::Ready(BodyFault::Idle(self.idle)),
        }
    }
}

impl Request {
    /// Bytes that the instance has read.
    fn bytes(&self) -> u64 {
        match self {
            Self::Whole(bytes) => *bytes,
            Self::Streamed(watch) => watch.read(),
        }
    }
}

/// Whether it is the code that failed, so that another revision might not have.
const fn is_own_fault(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Function
            | Outcome::Limit(
                Limit::Timeout | Limit::FirstByte | Limit::Memory | Limit::Processes | Limit::Disk
            )
    )
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.ended {
            self.cancel();
            if self.message.is_none() {
                self.explain(LEFT);
            }
            self.account(Outcome::Cancelled);
        }
    }
}

impl Wait {
    pub(crate) fn progressed(&mut self) {
        self.0 = None;
    }
}

// === impl ReplyBody ===

impl ReplyBody {
    /// A body that is whole, of a call that has ended.
    #[must_use]
    pub fn full(bytes: Bytes) -> Self {
        Self(Inner::Whole(AnswerBody::full(bytes)))
    }

    /// `buffered` says that whoever reads takes up to [`DIRECT`] bytes however slow its own reader is.
    pub(crate) fn new(
        mut answer: AnswerBody,
        mut flight: Flight,
        outcome: Outcome,
        buffered: bool,
    ) -> Self {
        if let Some(tunnel) = answer.take_tunnel() {
            // The upgraded connection holds the slot until both sides are done; the task ends with its own time limit.
            tokio::spawn(async move {
                flight.carried(tunnel.await.unwrap_or_default());
                flight.end(outcome);
            });
            return Self(Inner::Whole(answer));
        }
        if answer.is_whole() {
            flight.sent_whole(answer.size_hint().exact().unwrap_or(0));
            flight.end(outcome);
            return Self(Inner::Whole(answer));
        }
        let small = answer.size_hint().exact().is_some_and(|n| n <= DIRECT);
        if !(small && buffered) {
            return Self(Inner::Spooled(spool::spool(answer, flight, outcome)));
        }
        Self(Inner::Direct {
            answer,
            flight: Some(Box::new(flight)),
            outcome,
            wait: Wait::default(),
        })
    }
}

impl http_body::Body for ReplyBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let (answer, flight, outcome, wait) = match &mut self.get_mut().0 {
            Inner::Whole(answer) => return Pin::new(answer).poll_frame(cx),
            Inner::Spooled(reader) => return reader.poll_frame(cx),
            Inner::Direct {
                answer,
                flight,
                outcome,
                wait,
            } => (answer, flight, *outcome, wait),
        };
        if let Some(flight) = flight.take_if(|flight| flight.is_late()) {
            flight.break_off(BodyFault::Deadline);
            return Poll::Ready(Some(Err(BodyFault::Deadline)));
        }
        match Pin::new(&mut *answer).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                wait.progressed();
                if let Some(flight) = flight {
                    flight.sent(&frame);
                }
                // Whoever reads may not come back for the end once it has the declared length.
                if answer.is_end_stream()
                    && let Some(flight) = flight.take()
                {
                    flight.end(outcome);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                if let Some(flight) = flight.take() {
                    flight.end(outcome);
                }
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(fault))) => {
                if let Some(flight) = flight.take() {
                    flight.break_off(fault);
                }
                Poll::Ready(Some(Err(fault)))
            }
            Poll::Pending => {
                let Some(under_way) = flight else {
                    return Poll::Pending;
                };
                let fault = std::task::ready!(under_way.poll_limits(wait, cx));
                if let Some(flight) = flight.take() {
                    flight.break_off(fault);
                }
                Poll::Ready(Some(Err(fault)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(answer) => answer.is_end_stream(),
            Inner::Direct { answer, flight, .. } => flight.is_none() && answer.is_end_stream(),
            Inner::Spooled(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(answer) | Inner::Direct { answer, .. } => answer.size_hint(),
            Inner::Spooled(reader) => reader.size_hint(),
        }
    }
}

impl std::fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Inner::Whole(_) => "ReplyBody::Whole",
            Inner::Direct { .. } => "ReplyBody::Direct",
            Inner::Spooled(_) => "ReplyBody::Spooled",
        })
    }
}
