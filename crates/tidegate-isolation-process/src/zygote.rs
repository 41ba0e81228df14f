//! The server's side of a language's zygote: asks it for forks, restarts it when it dies.
//!
//! A zygote is a process that has loaded an interpreter and our host, and nothing of any tenant's. It is started with the
//! first function that needs it. When it dies its children live on, since they belong to their sandboxes; the launcher
//! reaps them then.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use base64::Engine;
use parking_lot::Mutex;
use rustix::net::SocketFlags;
use tidegate_core::Backoff;
use tidegate_instance::StartError;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::channel::Channel;
use crate::fence::{self, Reach, Rules};
use crate::protocol::Rlimits;
use crate::supervisor::{Ended, Supervisor, failed};
use crate::{seccomp, wire};

/// How long an interpreter may take until it is ready: 50 ms on a quiet machine, more with a cold disk and neighbours.
const READY: Duration = Duration::from_secs(15);

/// Between attempts, so that an interpreter which cannot start does not eat a core; at most 5 s, since a repaired one
/// should be noticed soon.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// One language's zygote, running or not.
pub(crate) struct Zygotes {
    supervisor: Arc<Supervisor>,
    argv: Vec<String>,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Zygote>>,
    failures: u32,
    not_before: Option<Instant>,
}

pub(crate) struct Zygote {
    channel: Channel,
    /// Kept so that its number cannot come to mean another process while we know it.
    _pidfd: OwnedFd,
    supervisor: Arc<Supervisor>,
    dead: AtomicBool,
    next: AtomicU64,
    waiting: Mutex<HashMap<String, oneshot::Sender<Result<Forked, StartError>>>>,
}

/// A child of the zygote's, in its sandbox.
pub(crate) struct Forked {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) ended: oneshot::Receiver<Ended>,
}

#[derive(serde::Serialize)]
struct Fork<'a> {
    op: &'static str,
    id: &'a str,
    config: &'a serde_json::Value,
    limits: Rlimits,
    uid: u32,
    gid: u32,
    seccomp: [String; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    fence: Option<Landlock>,
    join: bool,
    /// Whether the sandbox has a network namespace of its own; one cannot enter the machine's from where one is in it.
    netns: bool,
    umask: u32,
}

/// [`Rules`] as the zygote takes them.
#[derive(serde::Serialize)]
struct Landlock {
    /// Base64.
    attributes: String,
    beneath: Vec<(&'static str, u64)>,
    flags: u32,
}

impl From<Rules> for Landlock {
    fn from(rules: Rules) -> Self {
        Self {
            attributes: base64::engine::general_purpose::STANDARD.encode(rules.attributes),
            beneath: rules.beneath,
            flags: rules.flags,
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Says {
    Ready {
        #[serde(default)]
        python: String,
    },
    Forked {
        id: String,
        pid: i32,
    },
    Failed {
        id: Option<String>,
        step: String,
        error: String,
    },
    Exited {
        pid: i32,
        code: Option<i32>,
        signal: Option<i32>,
    },
}

impl Zygotes {
    pub(crate) fn new(supervisor: Arc<Supervisor>, argv: Vec<String>) -> Arc<Self> {
        Arc::new(Self {
            supervisor,
            argv,
            state: tokio::sync::Mutex::default(),
        })
    }

    /// The running zygote; starts one when there is none, after the pause that earlier failures ask for.
    pub(crate) async fn get(self: &Arc<Self>) -> Result<Arc<Zygote>, StartError> {
        let mut state = self.state.lock().await;
        if let Some(current) = &state.current {
            if !current.dead.load(Ordering::Acquire) {
                return Ok(current.clone());
            }
            state.current = None;
            state.failed();
        }
        if let Some(at) = state.not_before {
            tokio::time::sleep_until(at).await;
        }
        match timeout(READY, self.start()).await {
            Ok(Ok(zygote)) => {
                state.current = Some(zygote.clone());
                Ok(zygote)
            }
            Ok(Err(error)) => {
                state.failed();
                Err(error)
            }
            Err(_) => {
                state.failed();
                Err(failed("start the zygote", io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// A fork worked: what failed before is forgotten.
    async fn worked(&self) {
        let mut state = self.state.lock().await;
        state.failures = 0;
        state.not_before = None;
    }

    /// Forks into a sandbox. One more attempt when the zygote died under the first.
    pub(crate) async fn fork(
        self: &Arc<Self>,
        config: &serde_json::Value,
        limits: Rlimits,
        netns: bool,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Forked, StartError> {
        let zygote = self.get().await?;
        let first = zygote.fork(config, limits, netns, fds).await;
        let forked = match first {
            Err(error) if zygote.dead.load(Ordering::Acquire) => {
                tracing::warn!(%error, "the zygote died; starting another");
                self.get().await?.fork(config, limits, netns, fds).await?
            }
            other => other?,
        };
        self.worked().await;
        Ok(forked)
    }

    async fn start(self: &Arc<Self>) -> Result<Arc<Zygote>, StartError> {
        let (ours, theirs) =
            wire::pair(SocketFlags::empty()).map_err(|e| failed("socket pair", e))?;
        let (complaints, stderr) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| failed("pipe", e.into()))?;
        let control = self.supervisor.control().clone();
        {
            let _inside = control.enter();
            let complaints = tokio::net::unix::pipe::Receiver::from_owned_fd(complaints)
                .map_err(|e| failed("pipe", e))?;
            control.spawn(pass_on(complaints));
        }
        let pidfd = self
            .supervisor
            .zygote(self.argv.clone(), theirs, stderr)
            .await
            .map_err(|error| failed("start the zygote", io::Error::other(error)))?;
        let channel = Channel::new(ours, &control).map_err(|e| failed("register channel", e))?;
        let mut buffer = vec![0; wire::MAX_MESSAGE];
        let (len, _) = channel
            .receive(&mut buffer)
            .await
            .map_err(|e| failed("the zygote's greeting", e))?;
        let Ok(Says::Ready { python }) = serde_json::from_slice(&buffer[..len]) else {
            return Err(StartError::Runtime(format!(
                "the interpreter {} ended before it was ready; its own words are in the server's log",
                self.argv.first().map_or("", String::as_str)
            )));
        };
        tracing::debug!(python, "the zygote is ready");
        let zygote = Arc::new(Zygote {
            channel,
            _pidfd: pidfd,
            supervisor: self.supervisor.clone(),
            dead: AtomicBool::new(false),
            next: AtomicU64::new(0),
            waiting: Mutex::default(),
        });
        let listening = zygote.clone();
        let again = Self::again(Arc::downgrade(self));
        control.spawn(async move {
            listening.listen(buffer).await;
            again.await;
        });
        Ok(zygote)
    }

    /// Another is started before anyone asks, so that the next cold start does not pay for it. Boxed, since a start ends in
    /// a task that starts.
    fn again(owner: Weak<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            if let Some(owner) = owner.upgrade()
                && !owner.supervisor.is_closed()
            {
                let _ = owner.get().await;
            }
        })
    }
}

impl State {
    fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(Instant::now() + BACKOFF.delay(self.failures));
    }
}

impl Zygote {
    async fn fork(
        &self,
        config: &serde_json::Value,
        limits: Rlimits,
        netns: bool,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Forked, StartError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let request = serde_json::to_vec(&Fork {
            op: "fork",
            id: &id,
            config,
            limits,
            uid: 1000,
            gid: 1000,
            seccomp: [seccomp::encoded(self.supervisor.is_watched())],
            fence: fence::rules(Reach::Scratch).map(Landlock::from),
            join: true,
            netns,
            umask: 0o022,
        })
        .map_err(|e| failed("fork request", e.into()))?;
        let (tell, told) = oneshot::channel();
        self.waiting.lock().insert(id.clone(), tell);
        let sent = if self.dead.load(Ordering::Acquire) {
            Err(io::ErrorKind::NotConnected.into())
        } else {
            self.channel.send(&request, fds).await
        };
        if let Err(error) = sent {
            self.waiting.lock().remove(&id);
            return Err(failed("ask the zygote", error));
        }
        told.await.unwrap_or_else(|_| {
            Err(failed(
                "fork",
                io::Error::new(io::ErrorKind::BrokenPipe, "the zygote died"),
            ))
        })
    }

    async fn listen(&self, mut buffer: Vec<u8>) {
        loop {
            let (len, mut fds) = match self.channel.receive(&mut buffer).await {
                Ok((0, _)) | Err(_) => break,
                Ok(received) => received,
            };
            match serde_json::from_slice(&buffer[..len]) {
                Ok(Says::Forked { id, pid }) => {
                    let Some(pidfd) = fds.pop() else { continue };
                    // Registered before the next message is read, which may tell of its end already.
                    let ended = self.supervisor.await_main(pid);
                    let forked = Forked { pid, pidfd, ended };
                    if let Some(tell) = self.waiting.lock().remove(&id)
                        && let Err(Ok(unwanted)) = tell.send(Ok(forked))
                    {
                        self.supervisor.forget_main(unwanted.pid);
                    }
                }
                Ok(Says::Failed { id, step, error }) => {
                    if let Some(tell) = id.and_then(|id| self.waiting.lock().remove(&id)) {
                        let _ = tell.send(Err(failed(
                            format!("zygote: {step}"),
                            io::Error::other(error),
                        )));
                    }
                }
                Ok(Says::Exited { pid, code, signal }) => {
                    self.supervisor.main_ended(pid, (code, signal));
                }
                Ok(Says::Ready { .. }) => {}
                Err(error) => {
                    tracing::error!(%error, "the zygote said something unknown");
                }
            }
        }
        self.dead.store(true, Ordering::Release);
        self.waiting.lock().clear();
    }
}

/// What a zygote complains about goes to the server's own log: no tenant's code writes there.
async fn pass_on(pipe: tokio::net::unix::pipe::Receiver) {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

    /// Longest complaint passed on, in bytes.
    const LONGEST: u64 = 4096;
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader)
            .take(LONGEST)
            .read_until(b'\n', &mut line)
            .await
        {
            Ok(0) | Err(_) => return,
            Ok(_) => tracing::warn!("zygote: {}", String::from_utf8_lossy(&line).trim_end()),
        }
    }
}

/// A pair of descriptors as a borrowed list, for messages.
pub(crate) fn borrow(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}
