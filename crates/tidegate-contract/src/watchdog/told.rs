//! An answer on its way, and what the watchdog does while it is: look at the time, and tell of it at the end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::Entered;
use super::log::{Said, Subject};
use crate::Target;
use crate::body::{AnswerBody, BodyFault};

/// A body that is told of when it has ended.
pub struct Told {
    inner: AnswerBody,
    /// Read already.
    first: Option<Frame<Bytes>>,
    account: Account,
    until: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What is told of a body. Dropping it tells it.
struct Account {
    target: Arc<Target>,
    subject: Subject,
    tells: Tells,
    bytes: u64,
    told: bool,
    _entered: Entered,
}

/// In which words.
#[derive(Clone, Copy)]
pub(super) enum Tells {
    Upstream(StatusCode, Option<u64>),
    Streamed(StatusCode),
    Forked(StatusCode),
    /// The older watchdog's.
    Wrote,
}

/// Everything that is known of an answer but its body.
pub(super) struct Watch {
    pub(super) target: Arc<Target>,
    pub(super) subject: Subject,
    pub(super) tells: Tells,
    pub(super) until: Option<Instant>,
    pub(super) entered: Entered,
}

impl Watch {
    /// Watches a body, of which `first` was read already. One that is whole is told of at once.
    pub(super) fn over(self, inner: AnswerBody, first: Option<Frame<Bytes>>) -> AnswerBody {
        let mut account = Account {
            target: self.target,
            subject: self.subject,
            tells: self.tells,
            bytes: 0,
            told: false,
            _entered: self.entered,
        };
        if matches!(inner, AnswerBody::Tunnel(_)) || (inner.is_whole() && first.is_none()) {
            account.bytes = inner.size_hint().exact().unwrap_or(0);
            account.tell();
            return inner;
        }
        AnswerBody::Told(Box::new(Told {
            inner,
            first,
            account,
            until: self.until,
            timer: None,
        }))
    }
}

/// The next piece of a body.
pub(super) async fn next(body: &mut AnswerBody) -> Option<Result<Frame<Bytes>, BodyFault>> {
    std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

// === impl Account ===

impl Account {
    fn tell(&mut self) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let (target, subject) = (&self.target, &self.subject);
        match self.tells {
            Tells::Upstream(status, length) => subject.log(target, Said::Upstream(status, length)),
            Tells::Streamed(status) => subject.log(target, Said::Streamed(status, self.bytes)),
            Tells::Forked(status) => subject.log(target, Said::Forked(status, self.bytes)),
            Tells::Wrote => {
                let seconds = subject.started.elapsed().as_secs_f64();
                let line = format!("Wrote {} Bytes - Duration: {seconds:.6}s", self.bytes);
                subject.log(target, Said::Plain(&line));
            }
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.tell();
    }
}

// === impl Told ===

impl Told {
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.until else {
            return Poll::Pending;
        };
        self.timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)))
            .as_mut()
            .poll(cx)
    }
}

impl http_body::Body for Told {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = self.get_mut();
        let polled = match this.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => Pin::new(&mut this.inner).poll_frame(cx),
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.account.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if this.is_end_stream() {
                    this.account.tell();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending if this.poll_late(cx).is_ready() => {
                this.account.tell();
                Poll::Ready(Some(Err(BodyFault::Deadline)))
            }
            Poll::Pending => Poll::Pending,
            ended => {
                this.account.tell();
                ended
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(Frame::data_ref);
        let read = first.map_or(0, |data| data.len() as u64);
        let rest = self.inner.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + read);
        }
        hint.set_lower(rest.lower() + read);
        hint
    }
}
