//! Serving threads: each has a runtime, connections and a lane of its own.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::inside::Insider;
use crate::serve::{Protocol, serve_connection};
use crate::service::Service;

/// Connections handed to a thread that it has not taken yet.
const HANDED_OVER: usize = 256;

/// A connection on its way to a serving thread.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    /// A place among the connections at once; freed with the connection.
    pub(crate) permit: OwnedSemaphorePermit,
    /// Whose it is, if a function's.
    pub(crate) insider: Option<Arc<Insider>>,
}

pub(crate) struct Workers {
    lanes: Vec<Lane>,
}

struct Lane {
    queue: mpsc::Sender<Accepted>,
    connections: Arc<AtomicUsize>,
}

/// The threads themselves, to be joined at the end.
pub(crate) struct Threads(Vec<JoinHandle<()>>);

impl Workers {
    /// Starts the threads. When `stop` is cancelled they take no more connections, finish the requests they have, and end,
    /// at the latest after `grace`.
    pub(crate) fn start(
        threads: usize,
        service: &Arc<Service>,
        protocol: &Protocol,
        stop: &CancellationToken,
        grace: Duration,
    ) -> Result<(Self, Threads), Error> {
        let (mut lanes, mut handles) = (Vec::new(), Vec::new());
        for lane in 0..threads {
            let (queue, taken) = mpsc::channel(HANDED_OVER);
            let connections = Arc::new(AtomicUsize::new(0));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(Error::Thread)?;
            let worker = Worker {
                taken,
                connections: connections.clone(),
                service: service.clone(),
                protocol: protocol.clone(),
                stop: stop.clone(),
                grace,
            };
            let handle = std::thread::Builder::new()
                .name(format!("serve-{lane}"))
                .spawn(move || {
                    tidegate_contract::enter_lane(lane);
                    runtime.block_on(worker.run());
                })
                .map_err(Error::Thread)?;
            lanes.push(Lane { queue, connections });
            handles.push(handle);
        }
        Ok((Self { lanes }, Threads(handles)))
    }

    /// Gives the connection to the thread with the fewest.
    pub(crate) async fn hand_over(&self, accepted: Accepted) {
        let least = self
            .lanes
            .iter()
            .min_by_key(|lane| lane.connections.load(Ordering::Relaxed));
        if let Some(lane) = least {
            lane.connections.fetch_add(1, Ordering::Relaxed);
            // A thread that has stopped takes no more; the connection is closed.
            let _ = lane.queue.send(accepted).await;
        }
    }
}

impl Threads {
    /// Waits for all of them.
    pub(crate) fn join(self) {
        for thread in self.0 {
            if thread.join().is_err() {
                tracing::error!("a serving thread ended in a panic");
            }
        }
    }
}

struct Worker {
    taken: mpsc::Receiver<Accepted>,
    connections: Arc<AtomicUsize>,
    service: Arc<Service>,
    protocol: Protocol,
    stop: CancellationToken,
    grace: Duration,
}

impl Worker {
    async fn run(mut self) {
        let graceful = hyper_util::server::graceful::GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => break,
                accepted = self.taken.recv() => accepted,
            };
            let Some(accepted) = accepted else { break };
            let (service, protocol) = (self.service.clone(), self.protocol.clone());
            let (watcher, connections) = (graceful.watcher(), self.connections.clone());
            // Owned by the graceful shutdown, which waits for it; a panic in it ends this connection alone.
            tokio::spawn(async move {
                let _counted = Counted::new(connections, &service);
                let Accepted {
                    stream,
                    peer,
                    permit,
                    insider,
                } = accepted;
                serve_connection(stream, peer, insider, &protocol, service.clone(), watcher).await;
                drop(permit);
            });
        }
        self.taken.close();
        if tokio::time::timeout(self.grace, graceful.shutdown())
            .await
            .is_err()
        {
            tracing::warn!(grace = ?self.grace, "connections were still in use at the end of the grace period");
        }
    }
}

/// Counts a connection while it lives.
struct Counted {
    lane: Arc<AtomicUsize>,
    service: Arc<Service>,
}

impl Counted {
    fn new(lane: Arc<AtomicUsize>, service: &Arc<Service>) -> Self {
        service.connections.fetch_add(1, Ordering::Relaxed);
        Self {
            lane,
            service: service.clone(),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.lane.fetch_sub(1, Ordering::Relaxed);
        self.service.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
