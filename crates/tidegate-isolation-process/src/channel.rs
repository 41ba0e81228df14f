//! The server's end of a datagram socket, for use from any runtime.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use crate::wire;

/// Registered with the control runtime; a wait on it may be polled from another.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: AsyncFd<OwnedFd>,
}

impl Channel {
    /// Makes the socket non-blocking, on this side only, and registers it.
    pub(crate) fn new(socket: OwnedFd, control: &Handle) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&socket)?;
        rustix::fs::fcntl_setfl(&socket, flags | OFlags::NONBLOCK)?;
        let _inside = control.enter();
        // SAFETY: the descriptor belongs to the value returned, which keeps it open and the same until it has taken it off
        // the reactor.
        let socket = unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)?;
        Ok(Self { socket })
    }

    /// Sends at once, or fails with `WouldBlock`.
    pub(crate) fn try_send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        wire::send(self.socket.get_ref(), bytes, fds)
    }

    /// Sends, waiting for room.
    pub(crate) async fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        // Mostly there is room, and no need to ask the reactor.
        match self.try_send(bytes, fds) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
        self.socket
            .async_io(Interest::WRITABLE, |socket| wire::send(socket, bytes, fds))
            .await
    }

    /// Tells the other side that we are gone, whoever still holds this.
    pub(crate) fn hang_up(&self) {
        let _ = rustix::net::shutdown(self.socket.get_ref(), rustix::net::Shutdown::Both);
    }

    /// The next datagram: its length in `buffer`, and its descriptors. Zero when the other side is gone.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        self.socket
            .async_io(Interest::READABLE, |socket| wire::receive(socket, buffer))
            .await
    }
}
