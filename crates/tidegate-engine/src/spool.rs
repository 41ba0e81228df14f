//! A bounded spool between an instance and a slow caller.
//!
//! A slot is free for the next call when the last byte has left the *instance*. So a body that is large, or of unknown
//! length, is read ahead of the caller by a task of its own, up to [`SPOOL`] bytes; beyond that the caller's pace is the
//! instance's pace, with the idle limit on both sides. The task sees to the limits even when nobody asks for a byte,
//! which a connection whose caller has stopped reading does not.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use parking_lot::Mutex;
use tidegate_contract::{AnswerBody, BodyFault};
use tidegate_core::Outcome;

use crate::reply::{Flight, Wait};

/// Bytes read ahead of the caller, bookkeeping included.
const SPOOL: usize = 256 * 1024;

/// Bookkeeping a frame: code that writes a byte at a time must not make the bound a multiple of itself.
const FRAME_BYTES: usize = size_of::<Frame<Bytes>>();

/// The caller's end. Dropping it cancels the call if its body was not whole.
pub(crate) struct Reader {
    shared: Arc<Mutex<Shared>>,
    /// Bytes still to come, where their number was declared.
    left: Option<u64>,
}

#[derive(Default)]
struct Shared {
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
    end: Option<Result<(), BodyFault>>,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Reads the body ahead; the task owns the call until its last byte has left the instance.
pub(crate) fn spool(answer: AnswerBody, flight: Flight, outcome: Outcome) -> Reader {
    let left = answer.size_hint().exact();
    let shared = Arc::new(Mutex::new(Shared::default()));
    // On the serving thread, like the connection it reads from. It ends with the body, at a limit, or with the reader.
    tokio::spawn(pump(answer, flight, outcome, shared.clone()));
    Reader { shared, left }
}

async fn pump(
    mut answer: AnswerBody,
    mut flight: Flight,
    outcome: Outcome,
    shared: Arc<Mutex<Shared>>,
) {
    let mut wait = Wait::default();
    let result = std::future::poll_fn(|cx| {
        loop {
            {
                let mut shared = shared.lock();
                if shared.reader_gone {
                    return Poll::Ready(Err(BodyFault::CallerGone));
                }
                if flight.is_late() {
                    return Poll::Ready(Err(BodyFault::Deadline));
                }
                if shared.bytes >= SPOOL {
                    shared.writer = Some(cx.waker().clone());
                    drop(shared);
                    return flight.poll_limits(&mut wait, cx).map(Err);
                }
                // Woken when the reader goes away, too.
                shared.writer = Some(cx.waker().clone());
            }
            match Pin::new(&mut answer).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    wait.progressed();
                    flight.sent(&frame);
                    shared.lock().push(frame);
                }
                Poll::Ready(Some(Err(fault))) => return Poll::Ready(Err(fault)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return flight.poll_limits(&mut wait, cx).map(Err),
            }
        }
    })
    .await;
    drop(answer);
    match result {
        Ok(()) => flight.end(outcome),
        Err(fault) => flight.break_off(fault),
    }
    shared.lock().close(result);
}

// === impl Shared ===

impl Shared {
    fn push(&mut self, frame: Frame<Bytes>) {
        self.bytes += FRAME_BYTES + frame.data_ref().map_or(0, Bytes::len);
        self.frames.push_back(frame);
        self.wake_reader();
    }

    fn close(&mut self, end: Result<(), BodyFault>) {
        self.end = Some(end);
        self.wake_reader();
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }
}

// === impl Reader ===

impl Reader {
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let mut shared = self.shared.lock();
        if let Some(frame) = shared.frames.pop_front() {
            let was_full = shared.bytes >= SPOOL;
            let len = frame.data_ref().map_or(0, Bytes::len);
            shared.bytes -= FRAME_BYTES + len;
            self.left = self.left.map(|left| left.saturating_sub(len as u64));
            if was_full
                && shared.bytes < SPOOL
                && let Some(writer) = shared.writer.take()
            {
                writer.wake();
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        match shared.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(fault)) => Poll::Ready(Some(Err(fault))),
            None => {
                shared.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut shared = self.shared.lock();
        shared.reader_gone = true;
        if let Some(writer) = shared.writer.take() {
            writer.wake();
        }
    }
}
