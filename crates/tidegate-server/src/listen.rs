//! Binding and accepting.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::settings::{Auth, Settings};
use crate::worker::{Accepted, Workers};

/// Pause after an accept that failed for want of descriptors or memory: trying at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds the main listener.
pub(crate) async fn bind(settings: &Settings) -> Result<TcpListener, Error> {
    let address = settings.listen;
    if settings.auth == Auth::None
        && !address.ip().is_loopback()
        && !settings.allow_unauthenticated_network
    {
        return Err(Error::Open { address });
    }
    TcpListener::bind(address).await.map_err(|source| {
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse => {
                "; is another server running? '--listen 127.0.0.1:0' picks a free port"
            }
            io::ErrorKind::PermissionDenied => {
                "; ports below 1024 need root or CAP_NET_BIND_SERVICE"
            }
            io::ErrorKind::AddrNotAvailable => "; the address is not one of this machine's",
            _ => "",
        };
        Error::Listen {
            address,
            source,
            hint,
        }
    })
}

/// Accepts connections and hands them to the serving threads, at most so many at once, until told to stop.
pub(crate) async fn accept(
    listener: TcpListener,
    workers: Arc<Workers>,
    max_connections: usize,
    stop: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(max_connections));
    loop {
        // Taken before accepting, so that what is over the bound waits in the kernel's queue.
        let permit = tokio::select! {
            () = stop.cancelled() => return,
            permit = room.clone().acquire_owned() => permit,
        };
        let Ok(permit) = permit else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
            Ok((stream, peer)) => {
                let accepted = Accepted {
                    stream,
                    peer,
                    permit,
                    insider: None,
                };
                workers.hand_over(accepted).await;
            }
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "connections cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether the error is of one connection that ended before it was accepted.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// The URL under which the listener is reached from this machine.
pub(crate) fn url(address: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
            format!("{scheme}://127.0.0.1:{}", v4.port())
        }
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => format!("{scheme}://[::1]:{}", v6.port()),
        other => format!("{scheme}://{other}"),
    }
}
