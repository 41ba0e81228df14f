//! From a name to a connection: resolve, judge, dial what was judged.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, Request, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::policy::Policy;
use crate::proxy::HEAD;
use crate::target::Target;
use crate::upstream::Upstream;

/// Longest try of one address while there are others.
const ONE_TRY: Duration = Duration::from_secs(5);

/// Most addresses of one name that are tried.
const MAX_TRIES: usize = 8;

/// Names to addresses. The machine's own resolver, unless one is given.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// The addresses of this host, with the port, the best first.
    ///
    /// # Errors
    /// It has none, or nobody could tell.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The machine's own.
pub(crate) struct Machine;

#[async_trait]
impl Resolve for Machine {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWay {
    /// It is not allowed.
    #[error("{0}")]
    Refused(String),
    /// It is, and does not work.
    #[error("{0}")]
    Failed(String),
}

/// A connection for bytes of any kind.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Dials what a policy allows, and nothing else.
#[derive(Clone)]
pub struct Dialer {
    pub(crate) policy: Arc<Policy>,
    pub(crate) resolver: Arc<dyn Resolve>,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Dialer {
    /// With this policy, of which the limits are those on time only: who dials counts what it reads.
    #[must_use]
    pub fn new(policy: impl Into<Arc<Policy>>) -> Self {
        Self::with_resolver(policy, Arc::new(Machine))
    }

    /// The same with a resolver of its own.
    #[must_use]
    pub fn with_resolver(policy: impl Into<Arc<Policy>>, resolver: Arc<dyn Resolve>) -> Self {
        Self {
            policy: policy.into(),
            resolver,
        }
    }

    /// What can be said of a target before its name is resolved.
    ///
    /// # Errors
    /// [`NoWay::Refused`]: it will never be dialled.
    pub fn check(&self, target: &Target) -> Result<(), NoWay> {
        let judged = self.policy.judge_name(target).and_then(|()| {
            let address = target.address();
            let at = address.map(|address| SocketAddr::new(address, target.port()));
            at.map_or(Ok(()), |at| self.policy.judge_address(target, at))
        });
        judged.map_err(NoWay::Refused)
    }

    /// A connection to the target, by a tunnel where there is a proxy before it.
    ///
    /// # Errors
    /// See [`NoWay`].
    pub async fn connect(&self, target: &Target) -> Result<Box<dyn Wire>, NoWay> {
        let (stream, upstream) = self.dial(target, true).await?;
        self.through(stream, target, upstream).await
    }

    /// A connection to the target, or to the proxy that leads to it.
    pub(crate) async fn dial(
        &self,
        target: &Target,
        tunnel: bool,
    ) -> Result<(TcpStream, Option<&Upstream>), NoWay> {
        let policy = &*self.policy;
        policy.judge_name(target).map_err(NoWay::Refused)?;
        let limit = policy.limits.connect;
        let dialled = async {
            match policy.upstreams.of(target, tunnel) {
                Some(upstream) => {
                    self.judge_behind(target).await?;
                    let addresses = self.resolve(&upstream.at).await;
                    let addresses = addresses
                        .map_err(|e| format!("the proxy {} is not known: {e}", upstream.at))
                        .map_err(NoWay::Failed)?;
                    let stream = connect(&addresses).await;
                    let stream = stream
                        .map_err(|e| format!("the proxy {} cannot be reached: {e}", upstream.at))
                        .map_err(NoWay::Failed)?;
                    Ok((stream, Some(upstream)))
                }
                None => {
                    let addresses = self.resolve(target).await;
                    let addresses = addresses
                        .map_err(|e| NoWay::Failed(format!("its name leads nowhere: {e}")))?;
                    let addresses = allowed(policy, target, addresses)?;
                    let stream = connect(&addresses).await;
                    let stream = stream.map_err(|e| NoWay::Failed(e.to_string()))?;
                    Ok((stream, None))
                }
            }
        };
        match timeout(limit, dialled).await {
            Ok(done) => done,
            Err(_) => Err(NoWay::Failed(format!("no answer within {limit:?}"))),
        }
    }

    /// The far proxy dials, so only what this machine knows of the name can be judged: nothing, if it knows no address.
    async fn judge_behind(&self, target: &Target) -> Result<(), NoWay> {
        match self.resolve(target).await {
            Ok(addresses) => allowed(&self.policy, target, addresses).map(drop),
            Err(_) => Ok(()),
        }
    }

    async fn resolve(&self, target: &Target) -> io::Result<Vec<SocketAddr>> {
        let mut addresses = match target.address() {
            Some(address) => vec![SocketAddr::new(address, target.port())],
            None => self.resolver.resolve(target.host(), target.port()).await?,
        };
        addresses.truncate(MAX_TRIES);
        if addresses.is_empty() {
            return Err(io::Error::other("it has no address"));
        }
        Ok(addresses)
    }

    /// Bytes to the target, through the operator's proxy where there is one.
    pub(crate) async fn through(
        &self,
        stream: impl Wire + 'static,
        target: &Target,
        upstream: Option<&Upstream>,
    ) -> Result<Box<dyn Wire>, NoWay> {
        let Some(upstream) = upstream else {
            return Ok(Box::new(stream));
        };
        let asked = timeout(self.policy.limits.connect, ask(stream, target, upstream)).await;
        asked
            .unwrap_or_else(|_| Err("no answer in time".to_owned()))
            .map_err(|why| NoWay::Failed(format!("the proxy {}: {why}", upstream.at)))
    }
}

/// Those of the addresses that may be dialled; refused when there is none.
fn allowed(
    policy: &Policy,
    target: &Target,
    addresses: Vec<SocketAddr>,
) -> Result<Vec<SocketAddr>, NoWay> {
    let mut why = None;
    let mut good = addresses;
    good.retain(|&address| match policy.judge_address(target, address) {
        Ok(()) => true,
        Err(reason) => {
            why.get_or_insert(reason);
            false
        }
    });
    match why {
        Some(why) if good.is_empty() => Err(NoWay::Refused(why)),
        _ => Ok(good),
    }
}

/// The first that answers, and nothing but these.
async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (at, address) in addresses.iter().enumerate() {
        let dial = TcpStream::connect(address);
        let dialled = if at + 1 < addresses.len() {
            let late = |_| Err(io::ErrorKind::TimedOut.into());
            timeout(ONE_TRY, dial).await.unwrap_or_else(late)
        } else {
            dial.await
        };
        match dialled {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asks the operator's proxy for a tunnel.
async fn ask(
    stream: impl Wire + 'static,
    target: &Target,
    upstream: &Upstream,
) -> Result<Box<dyn Wire>, String> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD)
        .handshake::<_, Empty<bytes::Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    // Ends when the tunnel is taken out of it, or with its connection.
    tokio::spawn(connection.with_upgrades());
    let authority = target.to_string();
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(Uri::try_from(&authority).map_err(|e| e.to_string())?)
        .header(http::header::HOST, &authority);
    if let Some(authorization) = &upstream.authorization {
        request = request.header(http::header::PROXY_AUTHORIZATION, authorization);
    }
    let request = request.body(Empty::new()).map_err(|e| e.to_string())?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|e| e.to_string())?;
    if !answer.status().is_success() {
        return Err(format!("it answered {}", answer.status()));
    }
    let upgraded = hyper::upgrade::on(answer)
        .await
        .map_err(|e| e.to_string())?;
    Ok(Box::new(TokioIo::new(upgraded)))
}
