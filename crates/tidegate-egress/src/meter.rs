//! A connection to the outside that counts its bytes and notices when none come any more.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Bytes that are left to a job, and what to do when there are none.
pub(crate) struct Budget {
    left: AtomicU64,
    told: AtomicBool,
    exhausted: Box<dyn Fn() + Send + Sync>,
}

impl Budget {
    pub(crate) fn new(bytes: u64, exhausted: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicU64::new(bytes),
            told: AtomicBool::new(false),
            exhausted: Box::new(exhausted),
        })
    }

    fn spend(&self, bytes: usize) -> io::Result<()> {
        let bytes = bytes as u64;
        let take = |left: u64| Some(left.saturating_sub(bytes));
        let before = self
            .left
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
            .unwrap_or_default();
        if before >= bytes {
            return Ok(());
        }
        if !self.told.swap(true, Ordering::AcqRel) {
            (self.exhausted)();
        }
        Err(io::Error::other(
            "the job has moved as many bytes as it may",
        ))
    }
}

/// The connection. Idle time is time in which somebody waits for it, to read or to write, and no byte goes in either
/// direction.
pub(crate) struct Metered {
    stream: TcpStream,
    budget: Arc<Budget>,
    idle: Duration,
    last: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl Metered {
    pub(crate) fn new(stream: TcpStream, budget: Arc<Budget>, idle: Duration) -> Self {
        Self {
            stream,
            budget,
            idle,
            last: Instant::now(),
            alarm: Box::pin(tokio::time::sleep(idle)),
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn moved(&mut self, bytes: usize) -> io::Result<()> {
        self.last = Instant::now();
        self.budget.spend(bytes)
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while self.alarm.as_mut().poll(cx).is_ready() {
            let until = self.last + self.idle;
            if until <= Instant::now() {
                let error = io::Error::new(io::ErrorKind::TimedOut, "nothing came for too long");
                return Poll::Ready(error);
            }
            self.alarm.as_mut().reset(until);
        }
        Poll::Pending
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => Poll::Ready(self.moved(buf.filled().len() - before)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_idle(cx).map(Err),
        }
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, buf) {
            Poll::Ready(Ok(len)) => Poll::Ready(self.moved(len).map(|()| len)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_idle(cx).map(Err),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, bufs) {
            Poll::Ready(Ok(len)) => Poll::Ready(self.moved(len).map(|()| len)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_idle(cx).map(Err),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
