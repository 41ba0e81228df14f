//! A connection that has to begin to speak in time.
//!
//! Which version of HTTP a connection speaks shows in its first bytes, and until then no version's own time limit runs: a
//! connection that says nothing, or only the beginning of the HTTP/2 preface, would stay for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What an HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose reads fail after a time limit, until it is known which version of HTTP it speaks.
pub(crate) struct Prompt<S> {
    stream: S,
    undecided: Option<Undecided>,
}

struct Undecided {
    limit: Pin<Box<Sleep>>,
    /// Bytes of the preface that have come.
    seen: usize,
}

impl<S> Prompt<S> {
    pub(crate) fn new(stream: S, within: Duration) -> Self {
        let limit = Box::pin(tokio::time::sleep(within));
        Self {
            stream,
            undecided: Some(Undecided { limit, seen: 0 }),
        }
    }
}

impl Undecided {
    /// Whether the version shows after these bytes.
    fn is_decided_by(&mut self, bytes: &[u8]) -> bool {
        let left = &PREFACE[self.seen..];
        self.seen += bytes.len().min(left.len());
        bytes.len() >= left.len() || !left.starts_with(bytes)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prompt<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Some(undecided) = &mut this.undecided {
            if read.is_pending() {
                return undecided
                    .limit
                    .as_mut()
                    .poll(cx)
                    .map(|()| Err(io::ErrorKind::TimedOut.into()));
            }
            if undecided.is_decided_by(&buf.filled()[before..]) {
                this.undecided = None;
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prompt<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
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
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const LIMIT: Duration = Duration::from_secs(5);

    /// What a read gives after these pieces have come and nothing more does.
    async fn after(pieces: &[&[u8]]) -> Option<io::ErrorKind> {
        let (mut theirs, ours) = tokio::io::duplex(64);
        let mut ours = Prompt::new(ours, LIMIT);
        let mut buf = [0; 64];
        for piece in pieces {
            theirs.write_all(piece).await.unwrap();
            ours.read_exact(&mut buf[..piece.len()]).await.unwrap();
        }
        match tokio::time::timeout(LIMIT * 2, ours.read(&mut buf)).await {
            Ok(read) => Some(read.unwrap_err().kind()),
            Err(_) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_connection_that_has_not_shown_its_version_is_held_to_the_limit() {
        let late = Some(io::ErrorKind::TimedOut);
        assert_eq!(after(&[]).await, late);
        assert_eq!(after(&[b"PRI * HTTP/2.0"]).await, late);
        assert_eq!(after(&[b"PRI *", b" HTTP/2.0\r\n\r\nSM"]).await, late);
        assert_eq!(after(&[b"P"]).await, late);
        assert_eq!(after(&[b"G"]).await, None);
        assert_eq!(after(&[b"PUT / HTTP/1.1"]).await, None);
        assert_eq!(after(&[PREFACE]).await, None);
        assert_eq!(
            after(&[b"PRI * HTTP/2.0\r\n\r\n", b"SM\r\n\r\nmore"]).await,
            None
        );
    }
}
