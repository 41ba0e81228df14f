//! Sites, a door with a proxy behind it, and what the proxy reported.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidegate_egress::{EgressProxy, Event, Policy, Resolve};
use tidegate_instance::Egress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longest that a case waits for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// A listener that hands each connection to this function. Lives as long as the test's runtime.
pub(crate) async fn site<F>(at: &str, serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(at).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve(connection));
        }
    });
    address
}

/// Answers every request with this text, and keeps the heads that came.
pub(crate) async fn page(at: &str, text: &'static str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = heads.clone();
    let address = site(at, move |mut connection| {
        let kept = kept.clone();
        async move {
            let head = read_head(&mut connection).await;
            kept.lock().push(head);
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nKeep-Alive: timeout=5\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nX-Kept: 1\r\n\r\n{text}",
                text.len()
            );
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    })
    .await;
    (address, heads)
}

/// Sends everything back.
pub(crate) async fn echo(at: &str) -> SocketAddr {
    site(at, |mut connection| async move {
        let (mut read, mut write) = connection.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await
}

/// Up to the empty line, and as text.
pub(crate) async fn read_head(connection: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match connection.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// A proxy with a listener before it, as a sandbox has one.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) proxy: Arc<Mutex<Option<Arc<EgressProxy>>>>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Door {
    pub(crate) async fn new(policy: Policy) -> Self {
        Self::made(policy, None).await
    }

    pub(crate) async fn with(policy: Policy, resolver: impl Resolve + 'static) -> Self {
        Self::made(policy, Some(Arc::new(resolver))).await
    }

    async fn made(policy: Policy, resolver: Option<Arc<dyn Resolve>>) -> Self {
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let kept = events.clone();
        let report = move |event| kept.lock().push(event);
        let proxy = match resolver {
            Some(resolver) => EgressProxy::with_resolver(policy, report, resolver),
            None => EgressProxy::new(policy, report),
        };
        let proxy = Arc::new(Mutex::new(Some(proxy)));
        let at = proxy.clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                if let Some(proxy) = &*at.lock() {
                    proxy.accept(connection);
                }
            }
        });
        Self {
            address,
            proxy,
            events,
        }
    }

    pub(crate) fn events(&self) -> Vec<String> {
        let events = self.events.lock();
        events.iter().map(ToString::to_string).collect()
    }

    pub(crate) async fn open(&self) -> TcpStream {
        TcpStream::connect(self.address)
            .await
            .expect("the door is open")
    }

    /// Sends these bytes and reads everything until the end.
    pub(crate) async fn say(&self, text: &str) -> String {
        let mut connection = self.open().await;
        connection.write_all(text.as_bytes()).await.expect("sent");
        rest(&mut connection).await
    }

    /// A plain request.
    pub(crate) async fn get(&self, url: &str) -> String {
        self.say(&format!(
            "GET {url} HTTP/1.1\r\nHost: something.else\r\nConnection: close\r\n\r\n"
        ))
        .await
    }

    /// Asks for a tunnel; the answer's head, and the tunnel.
    pub(crate) async fn connect(&self, target: &str) -> (String, TcpStream) {
        let mut connection = self.open().await;
        let ask = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        connection.write_all(ask.as_bytes()).await.expect("sent");
        let head = tokio::time::timeout(PATIENCE, read_head(&mut connection)).await;
        (head.expect("an answer in time"), connection)
    }
}

/// Everything until the end; an end by force is an end.
pub(crate) async fn rest(connection: &mut TcpStream) -> String {
    let mut all = Vec::new();
    tokio::time::timeout(PATIENCE, connection.read_to_end(&mut all))
        .await
        .expect("an end in time")
        .ok();
    String::from_utf8_lossy(&all).into_owned()
}

/// Waits until there is something.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "no {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A policy that names these.
pub(crate) fn naming(targets: &[SocketAddr]) -> Policy {
    Policy {
        named: targets
            .iter()
            .map(|t| t.to_string().parse().expect("a target"))
            .collect(),
        ..Policy::default()
    }
}
