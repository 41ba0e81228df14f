//! Connections whose other side does not do its part.
//!
//! The HTTP library bounds the time of a request's head, but only once it knows which version is spoken, and it waits for
//! ever for a caller to take the bytes of an answer. So a caller that connects and says nothing, or asks and does not
//! read, would hold a connection, and with it perhaps a place on an instance, for as long as it likes. Both waits are
//! bounded here, below the library, with timers that exist only while there is a wait.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Longest that a caller may take none of the bytes that wait for it. Not short: a person may have suspended a laptop.
const STALLED: Duration = Duration::from_secs(60);

/// What an HTTP/2 connection begins with (RFC 9113, section 3.4); anything else is HTTP/1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that is closed when its caller has not shown within a time which version it speaks.
pub(crate) struct Greeting<S> {
    stream: S,
    /// The time, and bytes of the preface so far; `None` once the version is known.
    waiting: Option<(Pin<Box<Sleep>>, usize)>,
}

/// A stream that is closed when its caller takes no byte of what waits for it.
pub(crate) struct Unstalled<S> {
    stream: S,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Greeting<S> {
    pub(crate) fn new(stream: S, within: Duration) -> Self {
        let waiting = Some((Box::pin(tokio::time::sleep(within)), 0));
        Self { stream, waiting }
    }
}

impl<S> Unstalled<S> {
    pub(crate) fn new(stream: S) -> Self {
        let stalled = None;
        Self { stream, stalled }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(STALLED)));
        std::task::ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(late("the caller takes no bytes")))
    }
}

fn late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeting<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        let Some((time, seen)) = &mut this.waiting else {
            return read;
        };
        if read.is_pending() {
            std::task::ready!(time.as_mut().poll(cx));
            return Poll::Ready(Err(late("the caller says nothing")));
        }
        let new = &buf.filled()[before..];
        *seen += new.len();
        // The end of the stream, a byte that is not the preface's, or all of it.
        let known = new.is_empty() || *seen >= PREFACE.len() || !PREFACE[..*seen].ends_with(new);
        if known {
            this.waiting = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeting<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unstalled<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unstalled<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.watch(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bytes);
        this.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const WITHIN: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_say_what_it_speaks_is_hung_up_on() {
        for (said, silent) in [
            (&b""[..], true),
            (b"P", true),
            (b"PRI * HTTP/2.0\r\n", true),
            (PREFACE, false),
            (b"G", false),
            (b"POST", false),
            (b"PRIX", false),
        ] {
            let (mut caller, listener) = tokio::io::duplex(64);
            let mut greeting = Greeting::new(listener, WITHIN);
            let mut read = vec![0; said.len()];
            // A byte at a time, as it may come.
            for (at, byte) in said.iter().enumerate() {
                caller.write_all(&[*byte]).await.unwrap();
                greeting.read_exact(&mut read[at..=at]).await.unwrap();
            }
            assert_eq!(read, said);
            let more = tokio::time::timeout(WITHIN * 3, greeting.read_u8()).await;
            match more {
                Ok(Err(error)) if silent => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
                Err(_) if !silent => {}
                other => panic!("{said:?}: {other:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_no_bytes_is_hung_up_on_and_whoever_takes_few_is_not() {
        let (mut caller, listener) = tokio::io::duplex(4);
        let mut answer = Unstalled::new(listener);
        let began = tokio::time::Instant::now();
        let reading = tokio::spawn(async move {
            for _ in 0..6 {
                tokio::time::sleep(STALLED / 2).await;
                caller.read_u8().await.unwrap();
            }
            // Reads no more, and stays.
            std::future::pending::<()>().await;
            drop(caller);
        });
        let written = answer.write_all(&[0; 64]).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), STALLED / 2 * 6 + STALLED);
        reading.abort();
    }
}
