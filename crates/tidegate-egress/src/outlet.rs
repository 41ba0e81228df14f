//! The outer side of a function's way out: judges what its code connects to, and dials in its place.
//!
//! Code inside connects to addresses by ordinary means, and asks our name server for them, so nothing of it has to know of
//! a proxy. Each connection comes here with the address that was meant. What the operator lets functions reach is judged
//! by address; what the function's and its namespace's lists say, by the names that the address was given out for, or by
//! the address. The very address that was judged is dialled.
//!
//! A connection is there, for the code, before anybody has judged it: the kernel knows no way to ask first. So what is
//! refused is reset at once, and the function's log says what it was and by which rule. A name that leads nowhere the
//! function may go is not known at all, which is what code reports best.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidegate_core::egress::Rule;
use tidegate_core::{FunctionKey, InstanceId};
use tidegate_instance::{LogSink, LogStream, Outbound, Outlet, RESOLVER};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::dial::{Machine, Resolve};
use crate::dns::{self, Code, Question};
use crate::forward::Servers;
use crate::meter::{Budget, Metered};
use crate::names::Names;
use crate::policy::Policy;
use crate::shares::{Held, Seat, Shares};
use crate::target::Target;

/// Until the far side answers. Clients of their own give up after ten to thirty seconds.
const CONNECT: Duration = Duration::from_secs(15);

/// Without a byte in either direction. Pools keep connections for long; what address translation forgets is shorter.
const IDLE: Duration = Duration::from_secs(2 * 60 * 60);

/// Until a name is known. The machine's resolver has its own patience, which is mostly five seconds a server.
const RESOLVE: Duration = Duration::from_secs(10);

/// Bytes that a connection moves at once, each way.
const PIECE: usize = 16 * 1024;

/// Seconds for which code may keep an address: short, since a name may move, and asking again is asking next door.
const KEEP: u32 = 30;

/// Seconds for which it may keep one of a function, which may go.
const KEEP_INSIDE: u32 = 5;

/// Most things that an instance's log is told of, each once: it does not grow with what code tries.
const MAX_TOLD: usize = 200;

/// How long a connection to the name server may be silent.
const STREAM_IDLE: Duration = Duration::from_secs(10);

/// Port of name servers.
const DOMAIN: u16 = 53;

/// What is served inside, to functions.
pub trait Inside: Send + Sync {
    /// Whether a name is the platform's own for this function: another function's, or the gateway's.
    fn knows(&self, caller: &FunctionKey, name: &str) -> bool;

    /// Takes a connection that this instance made to [`RESOLVER`] at one of [`Inside::ports`]. The seat is to be held for
    /// as long as the connection is. Where it comes from the code has chosen, so its peer's address means nothing.
    fn accept(&self, caller: &FunctionKey, instance: InstanceId, connection: TcpStream, seat: Seat);

    /// Where it is served.
    fn ports(&self) -> &[u16];
}

/// Nothing is served inside.
pub struct Nothing;

/// The outlets of all functions of a server.
#[derive(Clone)]
pub struct Outlets(Arc<Shared>);

struct Shared {
    policy: Arc<Policy>,
    resolver: Arc<dyn Resolve>,
    servers: Servers,
    inside: Arc<dyn Inside>,
    shares: Shares,
}

/// Whose list one is, in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lists {
    /// Of the function.
    Function,
    /// Of its namespace.
    Namespace,
}

/// A list of what may be reached; nothing else may.
#[derive(Clone, Debug)]
pub struct Allowed {
    /// Whose.
    pub of: Lists,
    /// The entries.
    pub rules: Arc<[Rule]>,
}

struct Function {
    shared: Arc<Shared>,
    key: FunctionKey,
    lists: Arc<[Allowed]>,
}

/// One instance's.
struct Door {
    inner: Arc<Inner>,
    _end: DropGuard,
}

struct Inner {
    shared: Arc<Shared>,
    key: FunctionKey,
    lists: Arc<[Allowed]>,
    instance: InstanceId,
    logs: Arc<dyn LogSink>,
    names: Mutex<Names>,
    told: Mutex<HashSet<String>>,
    held: Held,
    budget: Arc<Budget>,
    end: CancellationToken,
}

// === impl Outlets ===

impl Outlets {
    /// Outlets with the operator's policy, of which addresses, [`Policy::named`], [`Policy::networks`] and
    /// [`Policy::private`] count.
    #[must_use]
    pub fn new(policy: impl Into<Arc<Policy>>, inside: Arc<dyn Inside>) -> Self {
        Self::with_resolver(policy, inside, Arc::new(Machine))
    }

    /// The same with a resolver of its own.
    #[must_use]
    pub fn with_resolver(
        policy: impl Into<Arc<Policy>>,
        inside: Arc<dyn Inside>,
        resolver: Arc<dyn Resolve>,
    ) -> Self {
        Self(Arc::new(Shared {
            policy: policy.into(),
            resolver,
            servers: Servers::of_the_machine(),
            inside,
            shares: Shares::new(descriptors()),
        }))
    }

    /// What instances of this function reach: what every list and the operator let through.
    #[must_use]
    pub fn of(&self, key: FunctionKey, lists: impl Into<Arc<[Allowed]>>) -> Arc<dyn Outbound> {
        Arc::new(Function {
            shared: self.0.clone(),
            key,
            lists: lists.into(),
        })
    }
}

impl Outbound for Function {
    fn open(&self, instance: InstanceId, logs: Arc<dyn LogSink>) -> Arc<dyn Outlet> {
        let end = CancellationToken::new();
        Arc::new(Door {
            _end: end.clone().drop_guard(),
            inner: Arc::new(Inner {
                shared: self.shared.clone(),
                key: self.key.clone(),
                lists: self.lists.clone(),
                instance,
                logs,
                names: Mutex::default(),
                told: Mutex::default(),
                held: self.shared.shares.instance(&self.key.namespace),
                budget: Budget::new(u64::MAX, || {}),
                end,
            }),
        })
    }
}

impl Inside for Nothing {
    fn knows(&self, _: &FunctionKey, _: &str) -> bool {
        false
    }

    fn accept(&self, _: &FunctionKey, _: InstanceId, _: TcpStream, _: Seat) {}

    fn ports(&self) -> &[u16] {
        &[]
    }
}

// === impl Door ===

#[async_trait]
impl Outlet for Door {
    fn accept(&self, connection: TcpStream, to: SocketAddr) {
        let inner = self.inner.clone();
        let seat = match inner.held.seat() {
            Ok(seat) => seat,
            Err(why) => {
                inner.tell(&format!("refused {to}: {why}"));
                return reset(&connection);
            }
        };
        let end = inner.end.clone();
        tokio::spawn(async move {
            end.run_until_cancelled(inner.take(connection, to, seat))
                .await;
        });
    }

    async fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        self.inner.answer(question, false).await
    }
}

/// What there is instead of a connection.
struct Refused(String);

impl Inner {
    async fn take(self: Arc<Self>, connection: TcpStream, to: SocketAddr, seat: Seat) {
        // Bytes go on as they come; whoever wrote them has put them together already.
        let _ = connection.set_nodelay(true);
        if to.ip() == IpAddr::V4(RESOLVER) {
            return match to.port() {
                DOMAIN => self.answer_stream(connection).await,
                port if self.shared.inside.ports().contains(&port) => {
                    self.shared
                        .inside
                        .accept(&self.key, self.instance, connection, seat);
                }
                port => {
                    self.tell(&format!(
                        "refused port {port} of the platform: functions are called over plain HTTP at port 80"
                    ));
                    reset(&connection);
                }
            };
        }
        match self.dial(to).await {
            Ok(far) => {
                // Both are watched: whichever does not take what it is sent is the only one that is asked.
                let mut near = Metered::new(connection, self.budget.clone(), IDLE);
                let mut far = Metered::new(far, self.budget.clone(), IDLE);
                let moved =
                    tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, PIECE, PIECE)
                        .await;
                if moved.is_err() {
                    // One side broke off, so the other is not told that it has ended well.
                    reset(near.stream());
                }
            }
            Err(Refused(why)) => {
                self.tell(&why);
                reset(&connection);
            }
        }
    }

    /// A connection to that address, if it may be.
    async fn dial(&self, to: SocketAddr) -> Result<TcpStream, Refused> {
        let IpAddr::V4(address) = to.ip() else {
            return Err(Refused(format!("refused {to}: it is no IPv4 address")));
        };
        let names = self.names.lock().of(address);
        let shown = match names.first() {
            Some(name) => format!("{name}:{} ({address})", to.port()),
            None => to.to_string(),
        };
        // One and the same name has to pass all; else two, each of which passes some, would open what neither does.
        let hosts = names.iter().map(|name| Some(&**name)).chain([None]);
        let mut refused = None;
        for host in hosts {
            match self.judge_connection(host, to) {
                Ok(()) => {
                    refused = None;
                    break;
                }
                // What it was asked for by last is what the code means, most likely.
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        if let Some(why) = refused {
            return Err(Refused(format!("refused {shown}: {why}")));
        }
        let failed = |why: String| Refused(format!("not connected {shown}: {why}"));
        match timeout(CONNECT, TcpStream::connect(to)).await {
            Ok(Ok(far)) => {
                let _ = far.set_nodelay(true);
                Ok(far)
            }
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("no answer within {CONNECT:?}"))),
        }
    }

    /// Whether a connection there may be, by this name or by its address alone.
    fn judge_connection(&self, name: Option<&str>, to: SocketAddr) -> Result<(), String> {
        for list in &*self.lists {
            let permits = |rule: &Rule| rule.permits(name.as_slice(), to.ip(), to.port());
            if !list.rules.iter().any(permits) {
                return Err(list.words().to_owned());
            }
        }
        let host = name.map_or_else(|| to.ip().to_string(), str::to_owned);
        let target = Target::new(&host, to.port()).ok_or("it cannot be read")?;
        self.shared.policy.judge_address(&target, to)
    }

    /// Questions that come over a connection, one after another.
    async fn answer_stream(&self, mut connection: TcpStream) {
        let mut next = async || {
            let len = connection.read_u16().await?;
            let mut question = vec![0; usize::from(len)];
            connection.read_exact(&mut question).await?;
            let Some(answer) = self.answer(&question, true).await else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            let len = u16::try_from(answer.len()).map_err(io::Error::other)?;
            connection.write_all(&len.to_be_bytes()).await?;
            connection.write_all(&answer).await
        };
        while let Ok(Ok(())) = timeout(STREAM_IDLE + RESOLVE, next()).await {}
    }

    async fn answer(&self, message: &[u8], stream: bool) -> Option<Vec<u8>> {
        let question = match Question::read(message) {
            Ok(question) => question,
            Err(wrong) => return dns::refuse(wrong),
        };
        if question.is_of_no_record() {
            return Some(question.empty(Code::Unknown));
        }
        let name = question.name.as_str();
        let is_address = matches!(question.kind, dns::A | dns::AAAA);
        let own = match name {
            "localhost" => Some((Ipv4Addr::LOCALHOST, KEEP)),
            _ if self.shared.inside.knows(&self.key, name) => Some((RESOLVER, KEEP_INSIDE)),
            _ => None,
        };
        if let Some((address, keep)) = own {
            return Some(match question.kind {
                dns::A => question.addresses(&[address], keep),
                _ => question.empty(Code::Fine),
            });
        }
        for list in &*self.lists {
            // Where addresses are listed, it is the answer that counts.
            let asked = |rule: &Rule| rule.names(name) || (is_address && rule.is_network());
            if !list.rules.iter().any(asked) {
                self.tell(&format!("refused the name {name}: {}", list.words()));
                return Some(question.empty(Code::NoSuchName));
            }
        }
        Some(match question.kind {
            dns::A => match self.addresses(name).await {
                Ok(addresses) => question.addresses(&addresses, KEEP),
                Err(code) => question.empty(code),
            },
            // There is no way out over IPv6.
            dns::AAAA => question.empty(Code::Fine),
            _ => {
                let asked = async {
                    let _counted = self.held.lookup().await;
                    self.shared.servers.ask(&question, stream).await
                };
                match timeout(RESOLVE, asked).await {
                    Ok(Some(answer)) => answer,
                    Ok(None) | Err(_) => question.empty(Code::Failed),
                }
            }
        })
    }

    /// The addresses of a name that may be dialled, which are remembered as its.
    async fn addresses(&self, name: &str) -> Result<Vec<Ipv4Addr>, Code> {
        // Any port will do: only the name is of interest.
        let Some(target) = Target::new(name, 1) else {
            return Err(Code::NoSuchName);
        };
        let mut why = None;
        let mut good = Vec::new();
        for found in self.look_up(target).await? {
            let IpAddr::V4(address) = found.ip().to_canonical() else {
                continue;
            };
            match self.judge(name, address) {
                Ok(()) if !good.contains(&address) => good.push(address),
                Ok(()) => {}
                Err(text) => why = Some(text),
            }
        }
        good.truncate(dns::MAX_ADDRESSES);
        match why {
            Some(why) if good.is_empty() => {
                self.tell(&format!("refused {name}: {why}"));
                Err(Code::NoSuchName)
            }
            _ => {
                self.names.lock().given(name, &good);
                Ok(good)
            }
        }
    }

    /// All addresses of a name.
    async fn look_up(&self, target: Target) -> Result<Vec<SocketAddr>, Code> {
        let resolver = self.shared.resolver.clone();
        let looked = async {
            let lookup = self.held.lookup().await;
            // By a task of its own: the machine's resolver goes on in its thread when nobody waits any more, and so it is
            // counted until it ends.
            let task = tokio::spawn(async move {
                let found = resolver.resolve(target.host(), target.port()).await;
                drop(lookup);
                found
            });
            task.await
        };
        match timeout(RESOLVE, looked).await {
            Ok(Ok(Ok(found))) => Ok(found),
            Ok(Ok(Err(error))) => Err(code_of(&error)),
            Ok(Err(_)) | Err(_) => Err(Code::Failed),
        }
    }

    /// Whether there is a port at which this address could be reached by this name.
    fn judge(&self, name: &str, address: Ipv4Addr) -> Result<(), String> {
        for list in &*self.lists {
            let could = |rule: &Rule| rule.names(name) || rule.contains(address.into());
            if !list.rules.iter().any(could) {
                return Err(format!("{address}: {}", list.words()));
            }
        }
        let policy = &self.shared.policy;
        if policy.named.iter().any(|target| target.host() == name) {
            return Ok(());
        }
        let at = SocketAddr::from((address, 1));
        let target = Target::new(&address.to_string(), 1).ok_or("it cannot be read")?;
        policy.judge_address(&target, at)
    }

    /// A line in the function's log; each once.
    fn tell(&self, text: &str) {
        {
            let mut told = self.told.lock();
            if told.len() >= MAX_TOLD || !told.insert(text.to_owned()) {
                return;
            }
        }
        let line = format!("network: {text}");
        self.logs
            .line(self.instance, LogStream::System, None, line.as_bytes());
    }
}

impl Allowed {
    fn words(&self) -> &'static str {
        match self.of {
            Lists::Function => "no entry of the function's 'egress' allows it",
            Lists::Namespace => "no entry of the egress list of its namespace allows it",
        }
    }
}

/// Those that the server may have.
fn descriptors() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}

/// The library tells the reason as text alone.
fn code_of(error: &io::Error) -> Code {
    let text = error.to_string();
    match text.contains("Temporary failure") || text.contains("System error") {
        true => Code::Failed,
        false => Code::NoSuchName,
    }
}

/// Ends a connection without a word, at once.
fn reset(connection: &TcpStream) {
    // Dropped with this set, it is reset rather than ended.
    let _ = connection.set_zero_linger();
}

#[cfg(test)]
mod tests;
