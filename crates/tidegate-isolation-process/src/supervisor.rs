//! The server's side of the launcher: asks for sandboxes, hears of their ends, hands out slots.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::SocketFlags;
use rustix::process::Signal;
use tidegate_instance::StartError;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::cgroup::GroupLimits;
use crate::channel::Channel;
use crate::error::Error;
use crate::launcher::{NAME, STAGE};
use crate::options::Options;
use crate::protocol::{Ask, Early, JobPayload, LastWords, Payload, Setup, Tell};
use crate::report::Report;
use crate::wire;

/// How long the launcher may take until it greets: it copies some of `/etc`, on a machine that may be busy.
const GREETING: Duration = Duration::from_secs(20);

/// How long an end may take at shutdown: the kernel's time to end processes that were killed.
const FAREWELL: Duration = Duration::from_secs(5);

/// A launcher that has greeted, and what it said.
pub(crate) struct Greeted {
    pub(crate) socket: OwnedFd,
    pub(crate) child: Child,
    pub(crate) report: Report,
    /// Whether process limits are resource limits.
    pub(crate) nproc: bool,
}

/// Starts a launcher and waits for its greeting. Blocks.
pub(crate) fn greet(options: &Options) -> Result<Greeted, Error> {
    std::fs::create_dir_all(&options.state_dir).map_err(|source| Error::Folder {
        path: options.state_dir.clone(),
        source,
    })?;
    let state_dir = options
        .state_dir
        .canonicalize()
        .map_err(|source| Error::Folder {
            path: options.state_dir.clone(),
            source,
        })?;
    let failed = |source| Error::Launcher {
        program: options.launcher.clone(),
        source,
    };
    let (socket, theirs) = wire::pair(SocketFlags::empty()).map_err(failed)?;
    // As standard input the socket needs no code between fork and exec, so the server is not copied.
    let mut child = Command::new(&options.launcher)
        .arg0(NAME)
        .env_clear()
        .env(STAGE, "1")
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    let setup = Setup {
        state_dir,
        stock: options.stock,
        uid_base: options.uid_base,
        cgroups: options.cgroups.clone(),
        server_pid: std::process::id(),
    };
    let answer = serde_json::to_vec(&setup)
        .map_err(io::Error::from)
        .and_then(|setup| wire::send(&socket, &setup, &[]))
        .or_else(|error| match error.kind() {
            // It may have ended before it read; what it said first is still there.
            io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(error),
        })
        .and_then(|()| first_message(&socket));
    match answer {
        Ok(Tell::Hello { report, nproc }) => Ok(Greeted {
            socket,
            child,
            report,
            nproc,
        }),
        Ok(Tell::Unable {
            step,
            errno,
            report,
        }) => {
            let _ = child.wait();
            Err(Error::Refused {
                step,
                source: io::Error::from_raw_os_error(errno),
                report,
            })
        }
        other => {
            let _ = child.kill();
            let _ = child.wait();
            Err(failed(other.err().unwrap_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "it did not greet first")
            })))
        }
    }
}

fn first_message(socket: &OwnedFd) -> io::Result<Tell> {
    let until = Instant::now() + GREETING;
    let mut buffer = vec![0; wire::MAX_MESSAGE];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match rustix::event::poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => break,
        }
    }
    match wire::receive(socket, &mut buffer)? {
        (0, _) => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it ended before it greeted; the program has to call `launcher_main` when `is_launcher` says so",
        )),
        (len, _) => Ok(serde_json::from_slice(&buffer[..len])?),
    }
}

/// A sandbox with an init in it. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) channel: Channel,
    pub(crate) pidfd: OwnedFd,
    /// The user id it runs as, where that is not the server's own.
    pub(crate) id: Option<u32>,
    pub(crate) groups: Vec<PathBuf>,
    /// `cgroup.procs` of each group.
    pub(crate) doors: Vec<OwnedFd>,
    pub(crate) made_us: u64,
}

impl Sandbox {
    /// Ends it and everything in its pid namespace.
    pub(crate) fn kill(&self) {
        // Fails only when it is gone already.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A sandbox that is nobody's yet, in which a program waits. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Unclaimed {
    slot: u32,
    pidfd: Option<OwnedFd>,
    id: Option<u32>,
    groups: Vec<PathBuf>,
    gone: Option<oneshot::Receiver<LastWords>>,
}

impl Unclaimed {
    /// The user id it runs as, where that is not the server's own.
    pub(crate) fn id(&self) -> Option<u32> {
        self.id
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.pidfd {
            let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
        }
    }
}

/// A process's exit code or signal; neither when nobody can tell.
pub(crate) type Ended = (Option<i32>, Option<i32>);

type StartedBy = oneshot::Sender<Result<(Tell, Vec<OwnedFd>), StartError>>;

/// What is waited for, by number.
#[derive(Default)]
struct Waiting {
    closed: bool,
    free: Vec<u32>,
    next: u32,
    started: HashMap<u32, StartedBy>,
    gone: HashMap<u32, oneshot::Sender<LastWords>>,
    next_settle: u64,
    settled: HashMap<u64, oneshot::Sender<Result<u64, StartError>>>,
    next_zygote: u64,
    zygotes: HashMap<u64, oneshot::Sender<Result<OwnedFd, String>>>,
    /// First processes that are not an init's children, by number.
    mains: HashMap<i32, oneshot::Sender<Ended>>,
}

pub(crate) struct Supervisor {
    channel: Channel,
    control: Handle,
    waiting: Mutex<Waiting>,
    child: Mutex<Option<Child>>,
    stop: CancellationToken,
    /// Cancelled when the launcher ended without being told to.
    lost: CancellationToken,
    pub(crate) nproc: bool,
}

impl Supervisor {
    pub(crate) fn new(greeted: Greeted, control: &Handle) -> io::Result<Arc<Self>> {
        let supervisor = Arc::new(Self {
            channel: Channel::new(greeted.socket, control)?,
            control: control.clone(),
            waiting: Mutex::default(),
            child: Mutex::new(Some(greeted.child)),
            stop: CancellationToken::new(),
            lost: CancellationToken::new(),
            nproc: greeted.nproc,
        });
        // Runs until the launcher is gone or `shutdown` says so. It owns the channel with us: dropping the isolation calls
        // `stop`, which closes the socket, which ends the launcher.
        let listening = supervisor.clone();
        control.spawn(async move {
            let ended = listening.stop.run_until_cancelled(listening.listen()).await;
            listening.close();
            if ended.is_some() {
                listening.lost.cancel();
            }
        });
        Ok(supervisor)
    }

    /// Resolves when the launcher has ended without being told to.
    pub(crate) fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.lost.clone().cancelled_owned()
    }

    pub(crate) fn control(&self) -> &Handle {
        &self.control
    }

    /// A sandbox whose init has been told to set itself up, and the receiver of its last words.
    pub(crate) async fn sandbox(
        &self,
        code: &[PathBuf],
        layers: &[PathBuf],
        limits: GroupLimits,
        host_network: bool,
        payload: &Payload,
    ) -> Result<(Sandbox, oneshot::Receiver<LastWords>), StartError> {
        let ask = |slot| Ask::Sandbox {
            slot,
            code: code.to_owned(),
            layers: layers.to_owned(),
            host_network,
            limits,
        };
        self.made(ask, serde_json::to_vec(payload)).await
    }

    /// The same for a tool that is run once.
    pub(crate) async fn job(
        &self,
        limits: GroupLimits,
        payload: &JobPayload,
    ) -> Result<(Sandbox, oneshot::Receiver<LastWords>), StartError> {
        let ask = |slot| Ask::Job { slot, limits };
        self.made(ask, serde_json::to_vec(payload)).await
    }

    /// A sandbox in which a program waits to become somebody's: its standard output and error, and what it finds as
    /// descriptors 3 and 4.
    pub(crate) async fn early(
        &self,
        host_network: bool,
        program: Early,
        fds: [BorrowedFd<'_>; 4],
    ) -> Result<Unclaimed, StartError> {
        let (started, is_started) = oneshot::channel();
        let (gone, is_gone) = oneshot::channel();
        let slot = self.take_slot(started, gone)?;
        let ask = Ask::Early {
            slot,
            host_network,
            program,
        };
        let asked = match serde_json::to_vec(&ask) {
            Ok(bytes) => self.channel.send(&bytes, &fds).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = asked {
            self.give_back(slot);
            return Err(failed("ask the launcher", error));
        }
        let (tell, fds) = is_started.await.map_err(|_| StartError::ShuttingDown)??;
        match (tell, fds.into_iter().next()) {
            (Tell::Started { id, groups, .. }, Some(pidfd)) => Ok(Unclaimed {
                slot,
                pidfd: Some(pidfd),
                id,
                groups,
                gone: Some(is_gone),
            }),
            _ => Err(failed(
                "launcher's answer",
                io::ErrorKind::InvalidData.into(),
            )),
        }
    }

    /// Makes such a sandbox somebody's; otherwise as [`Supervisor::sandbox`].
    pub(crate) async fn settle(
        &self,
        mut waiting: Unclaimed,
        code: &[PathBuf],
        limits: GroupLimits,
        payload: &Payload,
    ) -> Result<(Sandbox, oneshot::Receiver<LastWords>), StartError> {
        let payload = serde_json::to_vec(payload)
            .map_err(io::Error::from)
            .and_then(|bytes| wire::memory_file("tidegate", &bytes))
            .map_err(|e| failed("payload", e))?;
        let (ours, theirs) =
            wire::pair(SocketFlags::empty()).map_err(|e| failed("socket pair", e))?;
        let channel =
            Channel::new(ours, &self.control).map_err(|e| failed("register channel", e))?;
        let (tell, told) = oneshot::channel();
        let n = {
            let mut all = self.waiting.lock();
            if all.closed {
                return Err(StartError::ShuttingDown);
            }
            all.next_settle += 1;
            let n = all.next_settle;
            all.settled.insert(n, tell);
            n
        };
        let ask = Ask::Settle {
            n,
            slot: waiting.slot,
            code: code.to_owned(),
            limits,
        };
        let asked = match serde_json::to_vec(&ask) {
            Ok(bytes) => {
                self.channel
                    .send(&bytes, &[payload.as_fd(), theirs.as_fd()])
                    .await
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = asked {
            self.waiting.lock().settled.remove(&n);
            return Err(failed("ask the launcher", error));
        }
        drop((payload, theirs));
        let made_us = told.await.map_err(|_| StartError::ShuttingDown)??;
        let (Some(pidfd), Some(gone)) = (waiting.pidfd.take(), waiting.gone.take()) else {
            return Err(StartError::ShuttingDown);
        };
        let sandbox = Sandbox {
            channel,
            pidfd,
            id: waiting.id,
            groups: std::mem::take(&mut waiting.groups),
            doors: Vec::new(),
            made_us,
        };
        Ok((sandbox, gone))
    }

    async fn made(
        &self,
        ask: impl FnOnce(u32) -> Ask,
        payload: serde_json::Result<Vec<u8>>,
    ) -> Result<(Sandbox, oneshot::Receiver<LastWords>), StartError> {
        let payload = payload
            .map_err(io::Error::from)
            .and_then(|bytes| wire::memory_file("tidegate", &bytes))
            .map_err(|e| failed("payload", e))?;
        let (ours, theirs) =
            wire::pair(SocketFlags::empty()).map_err(|e| failed("socket pair", e))?;
        let channel =
            Channel::new(ours, &self.control).map_err(|e| failed("register channel", e))?;
        let (started, is_started) = oneshot::channel();
        let (gone, is_gone) = oneshot::channel();
        let slot = self.take_slot(started, gone)?;
        let ask = ask(slot);
        let asked = match serde_json::to_vec(&ask) {
            Ok(bytes) => {
                self.channel
                    .send(&bytes, &[payload.as_fd(), theirs.as_fd()])
                    .await
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = asked {
            self.give_back(slot);
            return Err(failed("ask the launcher", error));
        }
        drop((payload, theirs));
        let (tell, fds) = is_started.await.map_err(|_| StartError::ShuttingDown)??;
        let mut fds = fds.into_iter();
        match (tell, fds.next()) {
            (
                Tell::Started {
                    id,
                    groups,
                    made_us,
                    ..
                },
                Some(pidfd),
            ) => Ok((
                Sandbox {
                    channel,
                    pidfd,
                    id,
                    groups,
                    doors: fds.collect(),
                    made_us,
                },
                is_gone,
            )),
            _ => Err(failed(
                "launcher's answer",
                io::ErrorKind::InvalidData.into(),
            )),
        }
    }

    /// Starts a zygote of ours with this socket as descriptor 3; gives back its pidfd.
    pub(crate) async fn zygote(
        &self,
        argv: Vec<String>,
        socket: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<OwnedFd, String> {
        let (tell, told) = oneshot::channel();
        let number = {
            let mut waiting = self.waiting.lock();
            if waiting.closed {
                return Err("the launcher is gone".to_owned());
            }
            waiting.next_zygote += 1;
            let number = waiting.next_zygote;
            waiting.zygotes.insert(number, tell);
            number
        };
        let ask = serde_json::to_vec(&Ask::Zygote { number, argv }).map_err(|e| e.to_string())?;
        if let Err(error) = self
            .channel
            .send(&ask, &[socket.as_fd(), stderr.as_fd()])
            .await
        {
            self.waiting.lock().zygotes.remove(&number);
            return Err(error.to_string());
        }
        told.await
            .unwrap_or_else(|_| Err("the launcher is gone".to_owned()))
    }

    /// Hears of the end of a process that somebody else than an init reaps.
    pub(crate) fn await_main(&self, pid: i32) -> oneshot::Receiver<Ended> {
        let (tell, told) = oneshot::channel();
        self.waiting.lock().mains.insert(pid, tell);
        told
    }

    pub(crate) fn main_ended(&self, pid: i32, ended: Ended) {
        if let Some(tell) = self.waiting.lock().mains.remove(&pid) {
            let _ = tell.send(ended);
        }
    }

    /// No longer waited for.
    pub(crate) fn forget_main(&self, pid: i32) {
        self.waiting.lock().mains.remove(&pid);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }

    /// Lets go of the launcher, which ends everything, and waits for it.
    pub(crate) async fn shutdown(&self) {
        self.stop();
        let Some(mut child) = self.child.lock().take() else {
            return;
        };
        let ended = tokio::task::spawn_blocking(move || {
            let until = Instant::now() + FAREWELL;
            if let Some(pid) = i32::try_from(child.id())
                .ok()
                .and_then(rustix::process::Pid::from_raw)
                && let Ok(pidfd) =
                    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
            {
                let left = until.saturating_duration_since(Instant::now());
                let timeout = Timespec {
                    tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: i64::from(left.subsec_nanos()),
                };
                let _ =
                    rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout));
            }
            if !matches!(child.try_wait(), Ok(Some(_))) {
                // Its sandboxes die with it; only empty groups stay, which the next start removes.
                let _ = child.kill();
                let _ = child.wait();
            }
        });
        let _ = ended.await;
    }

    /// Ends the launcher without waiting.
    pub(crate) fn stop(&self) {
        self.close();
        // First, so that the end of the channel is not taken for the launcher's own.
        self.stop.cancel();
        self.channel.hang_up();
    }

    fn take_slot(
        &self,
        started: StartedBy,
        gone: oneshot::Sender<LastWords>,
    ) -> Result<u32, StartError> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(StartError::ShuttingDown);
        }
        let slot = match waiting.free.pop() {
            Some(slot) => slot,
            None if waiting.next < Options::MAX_SANDBOXES => {
                waiting.next += 1;
                waiting.next - 1
            }
            None => {
                return Err(failed(
                    "take a slot",
                    io::Error::other(format!(
                        "{} sandboxes exist already",
                        Options::MAX_SANDBOXES
                    )),
                ));
            }
        };
        waiting.started.insert(slot, started);
        waiting.gone.insert(slot, gone);
        Ok(slot)
    }

    fn give_back(&self, slot: u32) {
        let mut waiting = self.waiting.lock();
        waiting.started.remove(&slot);
        waiting.gone.remove(&slot);
        waiting.free.push(slot);
    }

    async fn listen(&self) {
        let mut buffer = vec![0; wire::MAX_MESSAGE];
        loop {
            let (len, fds) = match self.channel.receive(&mut buffer).await {
                Ok((0, _)) => break,
                Ok(received) => received,
                Err(error) => {
                    tracing::error!(%error, "the launcher's channel failed");
                    break;
                }
            };
            match serde_json::from_slice(&buffer[..len]) {
                Ok(tell) => self.hear(tell, fds),
                Err(error) => tracing::error!(%error, "the launcher said something unknown"),
            }
        }
        if !self.stop.is_cancelled() {
            tracing::error!("the launcher is gone; its sandboxes ended with it");
        }
    }

    fn hear(&self, tell: Tell, mut fds: Vec<OwnedFd>) {
        match tell {
            Tell::Started { slot, .. } => {
                let waiting = self.waiting.lock().started.remove(&slot);
                // Nobody waits when the start was given up: its channel is closed then, which ends the init.
                if let Some(waiting) = waiting
                    && let Err(Ok((_, fds))) = waiting.send(Ok((tell, fds)))
                    && let Some(pidfd) = fds.first()
                {
                    let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
                }
            }
            Tell::Failed { slot, step, errno } => {
                let waiting = self.waiting.lock().started.remove(&slot);
                self.give_back(slot);
                if let Some(waiting) = waiting {
                    let error = failed(step, io::Error::from_raw_os_error(errno));
                    let _ = waiting.send(Err(error));
                }
            }
            Tell::Settled {
                n,
                failed: error,
                made_us,
            } => {
                if let Some(tell) = self.waiting.lock().settled.remove(&n) {
                    let _ = tell.send(match error {
                        None => Ok(made_us),
                        Some((step, errno)) => {
                            Err(failed(step, io::Error::from_raw_os_error(errno)))
                        }
                    });
                }
            }
            Tell::Gone { slot, last } => {
                let gone = self.waiting.lock().gone.remove(&slot);
                self.give_back(slot);
                if let Some(gone) = gone {
                    let _ = gone.send(last);
                }
            }
            Tell::ZygoteStarted { number } => {
                if let Some(tell) = self.waiting.lock().zygotes.remove(&number)
                    && let Some(pidfd) = fds.pop()
                {
                    let _ = tell.send(Ok(pidfd));
                }
            }
            Tell::ZygoteEnded { number, error } => {
                if let Some(tell) = self.waiting.lock().zygotes.remove(&number) {
                    let _ = tell.send(Err(error));
                } else {
                    tracing::debug!(number, error, "a zygote ended");
                }
            }
            Tell::Orphan { pid, code, signal } => self.main_ended(pid, (code, signal)),
            Tell::Hello { .. } | Tell::Unable { .. } => {
                tracing::error!("the launcher greeted twice");
            }
        }
    }

    /// Nothing will be answered any more: whoever waits is told by the loss of its sender.
    fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        waiting.started.clear();
        waiting.gone.clear();
        waiting.settled.clear();
        waiting.zygotes.clear();
        waiting.mains.clear();
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.lock().take() {
            // The socket closes with us and the launcher ends by itself; a thread collects it, since it may take a moment.
            std::thread::spawn(move || child.wait());
        }
    }
}

pub(crate) fn failed(step: impl Into<String>, source: io::Error) -> StartError {
    StartError::Sandbox {
        step: step.into(),
        source,
    }
}
