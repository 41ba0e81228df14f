//! The network beyond an instance.
//!
//! An instance has no way out of its own. What its code connects to is told to an [`Outlet`], which judges and dials in
//! its place; what names it asks for, too. So an isolation has no opinion about what may be reached, and whoever has one
//! sees every connection with the address that the code meant.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use tidegate_core::InstanceId;
use tokio::net::TcpStream;

use crate::LogSink;

/// Where code finds its name server, and the platform: of a range that protocols have to themselves, so that it is nobody's
/// anywhere.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);

/// What an instance's connections come from unless its code says otherwise, which it may: of the same range.
pub const INSTANCE: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);

/// What instances of a function reach.
pub trait Outbound: Send + Sync {
    /// The outlet of one of them, whose log hears of what is refused.
    fn open(&self, instance: InstanceId, logs: Arc<dyn LogSink>) -> Arc<dyn Outlet>;
}

/// One instance's way out. Dropping it ends its connections.
#[async_trait]
pub trait Outlet: Send + Sync {
    /// Takes a connection that the code made to this address. Must not block; called in the runtime that is to carry it.
    fn accept(&self, connection: TcpStream, to: SocketAddr);

    /// Answers a question for names; both are messages of the name system. `None` where there is nothing to answer to.
    /// Takes a few seconds at most.
    async fn answer(&self, question: &[u8]) -> Option<Vec<u8>>;
}
