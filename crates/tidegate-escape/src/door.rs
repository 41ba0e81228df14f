//! A way out as a server gives it, with one host that may be reached, and names that lie.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tidegate_core::FunctionKey;
use tidegate_egress::{Allowed, Lists, Network, Nothing, Outlets, Policy, Resolve, Target};
use tidegate_instance::Outbound;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// The host that may be reached.
const OPEN: &str = "open.test";

/// Names that lead where no function may go. Two of its addresses are of a range for documents, where nobody is.
const LIES: [(&str, &[&str]); 8] = [
    ("loopback.test", &["127.0.0.1"]),
    ("loopback6.test", &["::1"]),
    ("mapped.test", &["::ffff:127.0.0.1"]),
    ("metadata.test", &["169.254.169.254"]),
    ("both.test", &["127.0.0.1", "192.0.2.7", "10.0.0.1"]),
    ("denied.test", &["192.0.2.8"]),
    ("below.open.test", &["192.0.2.8"]),
    ("moved.test", &["169.254.169.254"]),
];

/// The way out, and the host that may be reached.
pub(crate) struct Door {
    outlets: Outlets,
    lists: Vec<Allowed>,
    pub(crate) port: u16,
    _open: AbortOnDropHandle<()>,
}

/// Names and their addresses.
struct Book {
    known: HashMap<String, Vec<IpAddr>>,
    turned: AtomicBool,
}

impl Door {
    /// Of this machine, whose address this is; held to a list where `listed`.
    ///
    /// # Errors
    /// Nobody can listen at the address: there is no host then that could be reached.
    pub(crate) async fn new(address: Ipv4Addr, listed: bool) -> io::Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let port = listener.local_addr()?.port();
        let mut policy = Policy::default();
        let mut lists = Vec::new();
        if listed {
            // The operator lets it be, so that it is the list that refuses.
            policy
                .networks
                .extend(address.to_string().parse::<Network>());
            let entries = [format!("{OPEN}:{port}"), "moved.test".to_owned()];
            let rules = entries.iter().map(|entry| entry.parse());
            lists.push(Allowed {
                of: Lists::Function,
                rules: rules.collect::<Result<_, _>>().map_err(io::Error::other)?,
            });
        } else {
            policy.named.extend(Target::new(OPEN, port));
        }
        let book = Arc::new(Book::new(address));
        Ok(Self {
            outlets: Outlets::with_resolver(policy, Arc::new(Nothing), book),
            lists,
            port,
            _open: AbortOnDropHandle::new(tokio::spawn(greet(listener))),
        })
    }

    pub(crate) fn outbound(&self, function: &FunctionKey) -> Arc<dyn Outbound> {
        self.outlets.of(function.clone(), self.lists.clone())
    }
}

/// Answers whoever says something, and waits until he goes.
async fn greet(listener: TcpListener) {
    async fn one(mut connection: TcpStream) -> io::Result<()> {
        connection.read_exact(&mut [0]).await?;
        connection.write_all(b"from afar").await?;
        connection.read_exact(&mut [0]).await.map(drop)
    }
    loop {
        if let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(one(connection));
        }
    }
}

impl Book {
    fn new(own: Ipv4Addr) -> Self {
        let lies = LIES.map(|(name, addresses)| {
            let addresses = addresses.iter().filter_map(|text| text.parse().ok());
            (name.to_owned(), addresses.collect())
        });
        let own = [OPEN, "own.test"].map(|name| (name.to_owned(), vec![own.into()]));
        Self {
            known: lies.into_iter().chain(own).collect(),
            turned: AtomicBool::new(false),
        }
    }

    fn find(&self, host: &str) -> Option<Vec<IpAddr>> {
        if host == "turning.test" {
            let turned = self.turned.swap(true, Ordering::Relaxed);
            let at = if turned {
                [127, 0, 0, 1]
            } else {
                [192, 0, 2, 7]
            };
            return Some(vec![at.into()]);
        }
        // As many names as anybody could think of.
        let host = match host.ends_with(".loopback.test") {
            true => "loopback.test",
            false => host,
        };
        self.known.get(host).cloned()
    }
}

#[async_trait]
impl Resolve for Book {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let is_number = |b: u8| b.is_ascii_hexdigit() || b == b'x' || b == b'.';
        if host.bytes().all(is_number) {
            // What the machine itself reads as an address, without asking anybody.
            return Ok(tokio::net::lookup_host((host, port)).await?.collect());
        }
        let found = self.find(host).ok_or(io::ErrorKind::NotFound)?;
        Ok(found
            .into_iter()
            .map(|at| SocketAddr::new(at, port))
            .collect())
    }
}
