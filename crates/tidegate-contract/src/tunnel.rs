//! An upgraded connection: bytes both ways, and how many.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest an upgraded connection may live. It holds a slot for all of that time.
const LONGEST: Duration = Duration::from_secs(3600);
/// Both sides have said by then that they change over: it takes them one exchange.
const CHANGE: Duration = Duration::from_secs(30);

/// How much an upgraded connection carried, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// To the instance.
    pub to_instance: u64,
    /// To the caller.
    pub to_caller: u64,
}

/// The instance's side, with what has gone through it. Counted here and not by whoever copies, which tells of nothing
/// where a side breaks off or time runs out.
struct Counted<T> {
    inner: T,
    carried: Carried,
}

/// Carries bytes both ways until both sides have ended or the time limit is reached.
pub(crate) async fn carry(caller: OnUpgrade, instance: OnUpgrade) -> Carried {
    let upgraded = tokio::time::timeout(CHANGE, async { tokio::try_join!(caller, instance) });
    match upgraded.await {
        Ok(Ok((caller, instance))) => {
            between(TokioIo::new(caller), TokioIo::new(instance), LONGEST).await
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "a connection was not upgraded");
            Carried::default()
        }
        Err(_) => Carried::default(),
    }
}

async fn between(
    mut caller: impl AsyncRead + AsyncWrite + Unpin,
    instance: impl AsyncRead + AsyncWrite + Unpin,
    longest: Duration,
) -> Carried {
    let mut instance = Counted {
        inner: instance,
        carried: Carried::default(),
    };
    let copied = tokio::io::copy_bidirectional(&mut caller, &mut instance);
    match tokio::time::timeout(longest, copied).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an upgraded connection ended"),
        Err(_) => tracing::debug!("an upgraded connection was closed at its time limit"),
    }
    instance.carried
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.carried.to_caller += (buffer.filled().len() - before) as u64;
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.carried.to_instance += count as u64;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_goes_through_is_counted_each_way_and_however_it_ends() {
        for by_time in [false, true] {
            let (mut caller, near) = duplex(64);
            let (far, mut instance) = duplex(64);
            let carried = tokio::spawn(between(near, far, LONGEST));
            caller.write_all(b"ebb").await.unwrap();
            let mut three = [0; 3];
            instance.read_exact(&mut three).await.unwrap();
            instance.write_all(b"and flow").await.unwrap();
            let mut eight = [0; 8];
            caller.read_exact(&mut eight).await.unwrap();
            if !by_time {
                drop((caller, instance));
            }
            let want = Carried {
                to_instance: 3,
                to_caller: 8,
            };
            assert_eq!(carried.await.unwrap(), want);
        }
    }
}
