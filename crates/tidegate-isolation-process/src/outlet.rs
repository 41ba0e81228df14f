//! The server's side of a sandbox's way out: takes what comes to its door and its name server, for as long as it lives.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tidegate_instance::Outlet;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

/// Longest question for names in bytes: one name and its options. What is longer is cut, and no question then.
const MAX_QUESTION: usize = 1232;

/// Questions of one instance that are being answered; more wait in the socket, since who asks does so once.
const QUESTIONS: usize = 64;

/// Rest after an error that is not one connection's: descriptors have run out.
const REST: Duration = Duration::from_millis(50);

/// The sockets in a sandbox's namespace.
#[derive(Debug)]
pub(crate) struct Sockets {
    door: OwnedFd,
    names: OwnedFd,
}

/// The tasks that serve them. Dropping it ends them.
pub(crate) struct Served {
    _door: AbortOnDropHandle<()>,
    _names: AbortOnDropHandle<()>,
}

impl Sockets {
    /// Out of a message's descriptors, where it says that they are there.
    pub(crate) fn take(there: bool, fds: &mut impl Iterator<Item = OwnedFd>) -> Option<Self> {
        if !there {
            return None;
        }
        let (door, names) = fds.next().zip(fds.next())?;
        Some(Self { door, names })
    }
}

/// Gives what comes to the outlet.
pub(crate) fn serve(
    sockets: Sockets,
    outlet: Arc<dyn Outlet>,
    control: &Handle,
) -> io::Result<Served> {
    let _inside = control.enter();
    let door = tokio::net::TcpListener::from_std(TcpListener::from(sockets.door))?;
    let names = tokio::net::UdpSocket::from_std(UdpSocket::from(sockets.names))?;
    Ok(Served {
        _door: AbortOnDropHandle::new(control.spawn(take(door, outlet.clone()))),
        _names: AbortOnDropHandle::new(control.spawn(hear(names.into(), outlet))),
    })
}

async fn take(door: tokio::net::TcpListener, outlet: Arc<dyn Outlet>) {
    loop {
        let taken = door.accept().await;
        // The address that a connection was taken at is the one that the code meant.
        match taken.and_then(|(connection, _)| Ok((connection.local_addr()?, connection))) {
            Ok((SocketAddr::V4(to), connection)) if !to.ip().is_loopback() => {
                outlet.accept(connection, to.into());
            }
            // Somebody inside found the door itself.
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "a sandbox's door");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

async fn hear(names: Arc<tokio::net::UdpSocket>, outlet: Arc<dyn Outlet>) {
    let seats = Arc::new(Semaphore::new(QUESTIONS));
    let mut buffer = vec![0; MAX_QUESTION];
    loop {
        // Never closed.
        let Ok(seat) = seats.clone().acquire_owned().await else {
            return;
        };
        let (len, from) = match names.recv_from(&mut buffer).await {
            Ok(heard) => heard,
            Err(error) => {
                tracing::debug!(%error, "a sandbox's name server");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let (question, outlet) = (buffer[..len].to_vec(), outlet.clone());
        let names = Arc::downgrade(&names);
        tokio::spawn(async move {
            let answer = outlet.answer(&question).await;
            drop(seat);
            if let (Some(answer), Some(names)) = (answer, names.upgrade()) {
                // Who asked may be gone.
                let _ = names.send_to(&answer, from).await;
            }
        });
    }
}
