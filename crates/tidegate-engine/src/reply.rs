//! The body of a response, and what ends with it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Body as _, Frame, SizeHint};
use tidegate_contract::{AnswerBody, BodyFault};
use tidegate_core::{InvocationId, Limit, Outcome};
use tokio::time::{Instant, Sleep};

use crate::functions::Function;
use crate::pool::Pool;
use crate::slot::Slot;
use crate::spool;

/// Bodies of a known length up to this are read by the serving connection directly where its own write buffer holds that
/// much: a slow caller does not keep the instance from its next call.
const DIRECT: u64 = 256 * 1024;

/// A call under way: what must happen exactly once however it ends. Dropping it is the caller's hang-up.
pub(crate) struct Flight {
    function: Arc<Function>,
    id: InvocationId,
    received: Instant,
    /// The revision that was to answer, which is held to account for it.
    pool: Option<Arc<Pool>>,
    slot: Option<Slot>,
    deadline: Instant,
    idle: Duration,
    /// The code answered with an error of the kind that is a server's.
    failed: bool,
    ended: bool,
}

/// A response body. Its end frees the slot; dropping it before is the caller's hang-up and cancels the call.
pub struct ReplyBody(Inner);

enum Inner {
    /// Nothing of the instance is held any more.
    Whole(AnswerBody),
    /// Read from the instance as the connection takes it.
    Direct {
        answer: AnswerBody,
        flight: Option<Flight>,
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
    pub(crate) fn new(function: Arc<Function>, id: InvocationId, received: Instant) -> Self {
        function.metrics().in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            function,
            id,
            received,
            pool: None,
            slot: None,
            deadline: received,
            idle: Duration::MAX,
            failed: false,
            ended: false,
        }
    }

    pub(crate) fn meant_for(&mut self, pool: &Arc<Pool>) {
        if !self.pool.as_ref().is_some_and(|own| Arc::ptr_eq(own, pool)) {
            self.pool = Some(pool.clone());
        }
    }

    /// The code answered that it failed.
    pub(crate) const fn failed(&mut self) {
        self.failed = true;
    }

    /// The revision, as an answer carries it.
    pub(crate) fn label(&self) -> Option<HeaderValue> {
        self.pool.as_ref().map(|pool| pool.label.clone())
    }

    pub(crate) fn begin(&mut self, slot: Slot, deadline: Instant, idle: Duration) {
        (self.slot, self.deadline, self.idle) = (Some(slot), deadline, idle);
    }

    pub(crate) const fn id(&self) -> InvocationId {
        self.id
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.received.elapsed()
    }

    /// The instance is idle again as far as this call goes.
    pub(crate) fn release(&mut self) {
        self.slot = None;
    }

    /// The code may still be running.
    pub(crate) fn cancel(&mut self) {
        if let Some(slot) = self.slot.take() {
            slot.cancel(self.id);
        }
    }

    /// The instance takes no calls any more.
    pub(crate) fn discard(&mut self) {
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
        let outcome = match fault {
            BodyFault::InstanceGone => {
                self.spoil();
                Outcome::Function
            }
            BodyFault::Deadline => Outcome::Limit(Limit::Timeout),
            BodyFault::Idle(_) => Outcome::Limit(Limit::Idle),
            BodyFault::TooLarge { .. } => Outcome::Limit(Limit::Body),
            BodyFault::CallerGone => Outcome::Cancelled,
        };
        self.cancel();
        self.account(outcome);
    }

    fn account(&mut self, outcome: Outcome) {
        self.ended = true;
        let metrics = self.function.metrics();
        metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
        metrics.ended(outcome, self.received.elapsed());
        if let Some(pool) = &self.pool {
            pool.ended(self.failed || is_own_fault(outcome));
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
    /// `buffered` says that whoever reads takes up to [`DIRECT`] bytes however slow its own reader is.
    pub(crate) fn new(
        mut answer: AnswerBody,
        flight: Flight,
        outcome: Outcome,
        buffered: bool,
    ) -> Self {
        if let Some(tunnel) = answer.take_tunnel() {
            // The upgraded connection holds the slot until both sides are done; the task ends with its own time limit.
            tokio::spawn(async move {
                let _ = tunnel.await;
                flight.end(outcome);
            });
            return Self(Inner::Whole(answer));
        }
        if answer.is_whole() {
            flight.end(outcome);
            return Self(Inner::Whole(answer));
        }
        let small = answer.size_hint().exact().is_some_and(|n| n <= DIRECT);
        if !(small && buffered) {
            return Self(Inner::Spooled(spool::spool(answer, flight, outcome)));
        }
        Self(Inner::Direct {
            answer,
            flight: Some(flight),
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
