//! A running copy, seen from the server.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use rustix::process::Signal;
use tidegate_core::{InstanceId, InvocationId};
use tidegate_instance::{
    Exec, Exit, Instance, KillOnDrop, LogStream, Process, Program, Reason, StartTimes, Stream,
    Usage,
};
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio_util::task::TaskTracker;

use crate::cgroup::{self, Accounts};
use crate::channel::Channel;
use crate::node::Orders;
use crate::outlet::Served;
use crate::output::Output;
use crate::protocol::{LastWords, Order, Word};
use crate::supervisor::{Ended, Sandbox};
use crate::usage;
use crate::wire;

/// Number of the run that is an instance's server program.
pub(crate) const MAIN: u64 = 0;

/// Standard input, output and error.
const STREAMS: usize = 3;

/// Longest message of an init in bytes: why a program cannot be run, or a step's name and numbers.
const MAX_WORD: usize = 4096;

/// Numbers that the kernel has signals for.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

/// The handle that the engine holds. Dropping it ends the instance.
pub(crate) struct ProcessInstance {
    pub(crate) inner: Arc<Inner>,
}

/// How the code inside is reached.
pub(crate) enum Kind {
    /// `main`: its process, where that is not the init's own child.
    Host {
        channel: Channel,
        main: Option<OwnedFd>,
    },
    Node {
        channel: Channel,
        orders: Orders,
    },
    Server {
        port: u16,
    },
    PerCall,
}

pub(crate) struct Inner {
    pub(crate) id: InstanceId,
    pub(crate) bundle: PathBuf,
    /// What runs: a file of the bundle, or the first word of the function's own command.
    pub(crate) entry: String,
    /// It is looked up in `PATH`.
    looked_up: bool,
    /// Bytes.
    memory: u64,
    /// Processes and threads, the init included, where the kernel does not tell that there were as many.
    most_processes: Option<u64>,
    /// Asks the program to end.
    stop_signal: i32,
    pub(crate) sandbox: Sandbox,
    pub(crate) kind: std::sync::OnceLock<Kind>,
    pub(crate) output: Output,
    pub(crate) control: tokio::runtime::Handle,
    /// Tasks that read output.
    pub(crate) pumps: TaskTracker,
    pub(crate) times: Mutex<StartTimes>,
    /// Opened when they are first read; `None` inside where there are none.
    accounts: std::sync::OnceLock<Option<Accounts>>,
    /// Takes its connections to the outside until it is gone.
    outlet: Mutex<Option<Served>>,
    next: AtomicU64,
    state: Mutex<State>,
    killed: AtomicBool,
    draining: AtomicBool,
    gone: AtomicBool,
    /// Somebody is counting its pages.
    measuring: AtomicBool,
    life: watch::Sender<Option<Exit>>,
}

#[derive(Default)]
struct State {
    /// The init answers no more.
    closed: bool,
    dials: HashMap<u64, oneshot::Sender<io::Result<OwnedFd>>>,
    runs: HashMap<u64, Run>,
    cancels: Vec<(InvocationId, oneshot::Sender<()>)>,
    main: Option<Ended>,
    over_memory: bool,
    /// It had as many processes as it may, where the init tells.
    full: bool,
    /// Counts of the accounts at the last look, since they are kept for the life of the sandbox.
    oom_kills: u64,
    fork_refusals: u64,
}

/// The kernel's number, and what it means where the init has said so.
type Refusal = (i32, Option<String>);

struct Run {
    begun: Option<oneshot::Sender<Result<(), Refusal>>>,
    exit: Option<oneshot::Sender<Exit>>,
    killed: bool,
}

impl Inner {
    pub(crate) fn new(
        spec: &tidegate_instance::InstanceSpec,
        entry: &str,
        most_processes: Option<u64>,
        sandbox: Sandbox,
        output: Output,
        control: tokio::runtime::Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: spec.id,
            bundle: spec.bundle.clone(),
            entry: entry.to_owned(),
            looked_up: match &spec.program {
                Program::PerCall { command, .. } | Program::Server { command, .. } => {
                    command.first().is_some_and(|word| !word.contains('/'))
                }
                Program::Host { .. } => false,
            },
            memory: spec.limits.memory,
            most_processes,
            stop_signal: spec
                .root
                .as_ref()
                .map(|root| root.stop_signal)
                .filter(|signal| SIGNALS.contains(signal))
                .unwrap_or(libc::SIGTERM),
            sandbox,
            kind: std::sync::OnceLock::new(),
            output,
            control,
            pumps: TaskTracker::new(),
            times: Mutex::default(),
            accounts: std::sync::OnceLock::new(),
            outlet: Mutex::default(),
            next: AtomicU64::new(MAIN + 1),
            state: Mutex::default(),
            killed: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            measuring: AtomicBool::new(false),
            life: watch::Sender::new(None),
        })
    }

    pub(crate) fn serve_outlet(&self, served: Served) {
        *self.outlet.lock() = Some(served);
    }

    /// Ends it by our will.
    pub(crate) fn kill(&self) {
        if !self.gone.swap(true, Ordering::AcqRel) {
            self.killed.store(true, Ordering::Release);
        }
        self.sandbox.kill();
    }

    /// The main process has ended; the rest follows it.
    pub(crate) fn main_ended(&self, ended: Ended) {
        let was_full = ended.0 != Some(0) && self.was_full();
        {
            let mut state = self.state.lock();
            state.main.get_or_insert(ended);
            state.full |= was_full;
        }
        self.gone.store(true, Ordering::Release);
        self.sandbox.kill();
    }

    /// Whether there were as many processes as there may be when the main one ended, which the init does not know where that
    /// is not its own child.
    fn was_full(&self) -> bool {
        let (Some(most), Some(_)) = (self.most_processes, self.main()) else {
            return false;
        };
        let others = usage::processes(self.sandbox.pidfd.as_fd(), None).len();
        // Beside those, the init and the one that ended.
        others as u64 + 2 >= most
    }

    /// The sandbox is gone: how it ended can be told now.
    pub(crate) fn buried(&self, last: LastWords) {
        drop(self.outlet.lock().take());
        let exit = {
            let mut state = self.state.lock();
            state.closed = true;
            state.dials.clear();
            state.runs.clear();
            state.cancels.clear();
            let ended = state.main.unwrap_or_default();
            let by_signal = ended.0.is_none();
            let reason = if state.over_memory || (last.oom_kills > 0 && by_signal) {
                Reason::Memory
            } else if state.main.is_none() {
                Reason::Killed
            } else if is_over_size(ended) {
                Reason::Disk
            } else if (last.fork_refusals > 0 || state.full) && ended.0 != Some(0) {
                Reason::Processes
            } else {
                Reason::Exited
            };
            match state.main {
                Some((code, signal)) => Exit {
                    code,
                    signal,
                    reason,
                },
                None => Exit {
                    reason,
                    ..Exit::KILLED
                },
            }
        };
        let exit = if self.killed.load(Ordering::Acquire) {
            Exit::KILLED
        } else {
            exit
        };
        self.gone.store(true, Ordering::Release);
        self.life.send_replace(Some(exit));
    }

    pub(crate) async fn exited(&self) -> Exit {
        let mut life = self.life.subscribe();
        match life.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::KILLED),
            Err(_) => Exit::KILLED,
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    async fn order(&self, order: &Order, fds: &[OwnedFd]) -> io::Result<()> {
        let bytes = serde_json::to_vec(order)?;
        self.sandbox
            .channel
            .send(&bytes, &crate::zygote::borrow(fds))
            .await
    }

    /// Sends an order from where nothing may wait. An init whose channel is full has stopped reading: nothing but the end
    /// of the sandbox is left then.
    fn order_now(&self, order: &Order) {
        let sent = serde_json::to_vec(order)
            .map_err(io::Error::from)
            .and_then(|bytes| self.sandbox.channel.try_send(&bytes, &[]));
        if sent.is_err() && !self.is_gone() {
            self.kill();
        }
    }

    /// Starts the program with these streams and what it finds after them; resolves when it runs.
    pub(crate) async fn begin(
        &self,
        n: u64,
        mut fds: Vec<OwnedFd>,
        env: &[(String, String)],
        exit: Option<oneshot::Sender<Exit>>,
    ) -> io::Result<()> {
        if !env.is_empty() {
            let file = wire::memory_file("environment", &serde_json::to_vec(env)?)?;
            fds.insert(STREAMS, file);
        }
        let order = Order::Exec {
            n,
            env: !env.is_empty(),
        };
        let (begun, has_begun) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if state.closed {
                return Err(gone());
            }
            state.runs.insert(
                n,
                Run {
                    begun: Some(begun),
                    exit,
                    killed: false,
                },
            );
        }
        if let Err(error) = self.order(&order, &fds).await {
            self.state.lock().runs.remove(&n);
            return Err(error);
        }
        drop(fds);
        match has_begun.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err((errno, Some(why)))) => Err(io::Error::new(
                io::Error::from_raw_os_error(errno).kind(),
                why,
            )),
            Ok(Err((errno, None))) => Err(crate::explain::exec_error(
                &self.bundle,
                &self.entry,
                self.looked_up,
                errno,
            )),
            Err(_) => Err(gone()),
        }
    }

    /// A connection to a port inside.
    pub(crate) async fn dial(&self, port: u16) -> io::Result<OwnedFd> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if state.closed {
                return Err(gone());
            }
            state.dials.insert(n, tell);
        }
        if let Err(error) = self.order(&Order::Dial { n, port }, &[]).await {
            self.state.lock().dials.remove(&n);
            return Err(error);
        }
        told.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Hears what the init says, until it is gone.
    pub(crate) async fn listen(
        self: Arc<Self>,
        ready: oneshot::Sender<Result<u64, (String, i32)>>,
    ) {
        let mut ready = Some(ready);
        let mut buffer = vec![0; MAX_WORD];
        loop {
            let (len, mut fds) = match self.sandbox.channel.receive(&mut buffer).await {
                Ok((0, _)) | Err(_) => break,
                Ok(received) => received,
            };
            let Ok(word) = serde_json::from_slice(&buffer[..len]) else {
                tracing::error!(instance = %self.id, "an init said something unknown");
                break;
            };
            match word {
                Word::Ready { setup_us } => {
                    if let Some(ready) = ready.take() {
                        let _ = ready.send(Ok(setup_us));
                    }
                }
                Word::Broken { step, errno } => {
                    if let Some(ready) = ready.take() {
                        let _ = ready.send(Err((step, errno)));
                    }
                }
                Word::Begun { n, errno, why } => {
                    let mut state = self.state.lock();
                    let begun = state.runs.get_mut(&n).and_then(|run| run.begun.take());
                    if errno.is_some() {
                        state.runs.remove(&n);
                    }
                    drop(state);
                    if let Some(begun) = begun {
                        let _ = begun.send(errno.map_or(Ok(()), |errno| Err((errno, why))));
                    }
                }
                Word::Ended { n, code, signal } => self.run_ended(n, (code, signal)),
                Word::Dialled { n, errno } => {
                    let waiting = self.state.lock().dials.remove(&n);
                    let answer = match (errno, fds.pop()) {
                        (None, Some(fd)) => Ok(fd),
                        (errno, _) => Err(io::Error::from_raw_os_error(
                            errno.unwrap_or(libc::ECONNREFUSED),
                        )),
                    };
                    if let Some(waiting) = waiting {
                        let _ = waiting.send(answer);
                    }
                }
                Word::Memory { used } => self.over_memory(used),
                Word::Full => self.state.lock().full = true,
                Word::Crowded { files } => {
                    if !self.measuring.swap(true, Ordering::AcqRel) {
                        let inner = self.clone();
                        self.control.spawn_blocking(move || inner.measure(files));
                    }
                }
            }
        }
        self.gone.store(true, Ordering::Release);
        // Should the init have closed its channel and live on, it is of no use any more.
        self.sandbox.kill();
        let mut state = self.state.lock();
        state.closed = true;
        state.dials.clear();
        state.runs.clear();
        drop(state);
    }

    fn over_memory(&self, used: u64) {
        self.state.lock().over_memory = true;
        self.output.system(&format!(
            "{} MiB of memory were in use, over the limit; all its processes were ended",
            used / (1024 * 1024)
        ));
    }

    /// Counts the pages of all processes, since the init could not tell.
    fn measure(&self, files: u64) {
        let used = usage::proportional(self.sandbox.pidfd.as_fd(), self.main()) + files;
        if used > self.memory {
            self.over_memory(used);
            self.order_now(&Order::Sweep);
        }
        self.measuring.store(false, Ordering::Release);
    }

    fn accounts(&self) -> Option<&Accounts> {
        let open = || Accounts::open(&self.sandbox.groups);
        self.accounts.get_or_init(open).as_ref()
    }

    /// The main process where that is no child of the init's.
    fn main(&self) -> Option<BorrowedFd<'_>> {
        match self.kind.get() {
            Some(Kind::Host { main, .. }) => main.as_ref().map(AsFd::as_fd),
            _ => None,
        }
    }

    fn run_ended(&self, n: u64, ended: Ended) {
        let (run, over_memory, full) = {
            let mut state = self.state.lock();
            let (over, full) = if n == MAIN {
                (state.over_memory, state.full)
            } else {
                let state = &mut *state;
                let over = std::mem::take(&mut state.over_memory);
                (over, std::mem::take(&mut state.full))
            };
            (state.runs.remove(&n), over, full)
        };
        if n == MAIN {
            self.main_ended(ended);
            return;
        }
        let Some(run) = run else { return };
        let reason = if run.killed {
            Reason::Killed
        } else if over_memory {
            Reason::Memory
        } else if ended.0 == Some(0) {
            Reason::Exited
        } else if is_over_size(ended) {
            Reason::Disk
        } else {
            self.reason_of_failure(full)
        };
        let end = Exit {
            code: ended.0,
            signal: ended.1,
            reason,
        };
        // What the watchdog ended it has told of itself.
        if !over_memory && !matches!(reason, Reason::Exited | Reason::Killed) {
            self.output.system(&format!("the process {end}"));
        }
        if let Some(exit) = run.exit {
            let _ = exit.send(end);
        }
        let idle = self.state.lock().runs.is_empty();
        if idle && self.draining.load(Ordering::Acquire) {
            self.main_ended((Some(0), None));
        }
    }

    /// Asks the accounts why a run failed: what has been counted since the last look is put down to this one.
    fn reason_of_failure(&self, full: bool) -> Reason {
        let reading = cgroup::read(&self.sandbox.groups);
        let mut state = self.state.lock();
        let oom = std::mem::replace(&mut state.oom_kills, reading.oom_kills) < reading.oom_kills;
        let forks = std::mem::replace(&mut state.fork_refusals, reading.fork_refusals)
            < reading.fork_refusals;
        match (oom, forks || full) {
            (true, _) => Reason::Memory,
            (false, true) => Reason::Processes,
            (false, false) => Reason::Exited,
        }
    }

    /// A call is idle again after it was cancelled.
    pub(crate) fn is_idle(&self, invocation: InvocationId) {
        let mut state = self.state.lock();
        let (done, rest) = std::mem::take(&mut state.cancels)
            .into_iter()
            .partition::<Vec<_>, _>(|(id, _)| *id == invocation);
        state.cancels = rest;
        drop(state);
        for (_, tell) in done {
            let _ = tell.send(());
        }
    }

    fn kill_run(&self, n: u64) {
        let known = match self.state.lock().runs.get_mut(&n) {
            Some(run) => {
                run.killed = true;
                true
            }
            None => false,
        };
        if known {
            self.order_now(&Order::Kill { n });
        }
    }

    /// A pipe whose far end belongs to the code inside, also by name: `/dev/stderr` is opened with the code's own id.
    pub(crate) fn output_pipe(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        self.give(&write)?;
        Ok((read, write))
    }

    fn give(&self, fd: &OwnedFd) -> io::Result<()> {
        if let Some(id) = self.sandbox.id {
            rustix::fs::fchown(
                fd,
                Some(rustix::process::Uid::from_raw(id)),
                Some(rustix::process::Gid::from_raw(id)),
            )?;
        }
        Ok(())
    }

    /// Reads this pipe on the control runtime until its end.
    pub(crate) fn pump(
        &self,
        read: OwnedFd,
        stream: LogStream,
        invocation: Option<InvocationId>,
    ) -> io::Result<()> {
        let _inside = self.control.enter();
        let pipe = pipe::Receiver::from_owned_fd(read)?;
        self.pumps.spawn_on(
            self.output.clone().pump(pipe, stream, invocation),
            &self.control,
        );
        Ok(())
    }
}

#[async_trait]
impl Instance for ProcessInstance {
    fn id(&self) -> InstanceId {
        self.inner.id
    }

    async fn connect(&self) -> io::Result<Stream> {
        let inner = &*self.inner;
        if inner.is_gone() {
            return Err(gone());
        }
        match inner.kind.get() {
            Some(Kind::Host { channel, .. }) => {
                let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
                ours.set_nonblocking(true)?;
                channel.send(b"C", &[theirs.as_fd()]).await?;
                Ok(Stream::Unix(UnixStream::from_std(ours)?))
            }
            Some(Kind::Node { orders, .. }) => {
                let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
                ours.set_nonblocking(true)?;
                orders.connection(theirs.as_fd()).await?;
                Ok(Stream::Unix(UnixStream::from_std(ours)?))
            }
            Some(Kind::Server { port }) => {
                let socket = std::net::TcpStream::from(inner.dial(*port).await?);
                socket.set_nonblocking(true)?;
                let stream = TcpStream::from_std(socket)?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Some(Kind::PerCall) | None => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the program is run once a call and takes no connections",
            )),
        }
    }

    async fn exec(&self, exec: Exec) -> io::Result<Process> {
        let inner = &self.inner;
        if inner.is_gone() {
            return Err(gone());
        }
        if !matches!(inner.kind.get(), Some(Kind::PerCall)) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the program serves connections and is not run once a call",
            ));
        }
        let flags = rustix::pipe::PipeFlags::CLOEXEC;
        let (stdin, our_stdin) = rustix::pipe::pipe_with(flags)?;
        inner.give(&stdin)?;
        let (our_stdout, stdout) = inner.output_pipe()?;
        let stderr = if exec.merged {
            stdout.try_clone()?
        } else {
            let (our_stderr, stderr) = inner.output_pipe()?;
            inner.pump(our_stderr, LogStream::Stderr, exec.invocation)?;
            stderr
        };
        let n = inner.next.fetch_add(1, Ordering::Relaxed);
        let (tell, exit) = oneshot::channel();
        // Armed before the order is sent: a caller that gives up while the program starts leaves nothing running.
        let weak = Arc::downgrade(inner);
        let guard = KillOnDrop(Some(Box::new(move || {
            if let Some(inner) = weak.upgrade() {
                inner.kill_run(n);
            }
        })));
        inner
            .begin(n, vec![stdin, stdout, stderr], &exec.env, Some(tell))
            .await?;
        Ok(Process {
            stdin: pipe::Sender::from_owned_fd(our_stdin)?,
            stdout: pipe::Receiver::from_owned_fd(our_stdout)?,
            exit,
            guard,
        })
    }

    async fn cancel(&self, invocation: InvocationId) -> bool {
        let inner = &*self.inner;
        let kind = inner.kind.get();
        if !matches!(kind, Some(Kind::Host { .. } | Kind::Node { .. })) {
            return false;
        }
        let (tell, told) = oneshot::channel();
        {
            let mut state = inner.state.lock();
            if state.closed {
                return false;
            }
            // Those whose callers gave up waiting.
            state.cancels.retain(|(_, tell)| !tell.is_closed());
            state.cancels.push((invocation, tell));
        }
        let asked = match kind {
            Some(Kind::Host { channel, main }) => {
                let mut message = vec![b'X'];
                message.extend_from_slice(&invocation.hex());
                // Busy code does not read its control channel; the signal makes the host do so.
                let asked = channel.send(&message, &[]).await.is_ok();
                asked
                    && match main {
                        Some(main) => {
                            rustix::process::pidfd_send_signal(main, Signal::USR1).is_ok()
                        }
                        None => {
                            let order = Order::Signal {
                                n: MAIN,
                                signal: libc::SIGUSR1,
                                alone: true,
                            };
                            inner.order(&order, &[]).await.is_ok()
                        }
                    }
            }
            // Busy code is not interrupted here: it does not answer in time, and is ended.
            Some(Kind::Node { orders, .. }) => {
                let tag = invocation.hex();
                orders.cancel(&String::from_utf8_lossy(&tag)).await.is_ok()
            }
            _ => false,
        };
        if !asked {
            return false;
        }
        told.await.is_ok()
    }

    fn drain(&self) {
        let inner = &*self.inner;
        if inner.draining.swap(true, Ordering::AcqRel) {
            return;
        }
        match inner.kind.get() {
            Some(Kind::Host { channel, .. }) => {
                if channel.try_send(b"D", &[]).is_err() {
                    inner.kill();
                }
            }
            Some(Kind::Node { .. }) => {
                let inner = self.inner.clone();
                self.inner.control.spawn(async move {
                    let Some(Kind::Node { orders, .. }) = inner.kind.get() else {
                        return;
                    };
                    if orders.drain().await.is_err() {
                        inner.kill();
                    }
                });
            }
            Some(Kind::Server { .. }) => inner.order_now(&Order::Signal {
                n: MAIN,
                signal: inner.stop_signal,
                alone: false,
            }),
            Some(Kind::PerCall) | None => {
                let idle = inner.state.lock().runs.is_empty();
                if idle {
                    inner.main_ended((Some(0), None));
                }
            }
        }
    }

    fn kill(&self) {
        self.inner.kill();
    }

    async fn exited(&self) -> Exit {
        self.inner.exited().await
    }

    fn is_gone(&self) -> bool {
        self.inner.is_gone()
    }

    fn usage(&self) -> Option<Usage> {
        let sandbox = &self.inner.sandbox;
        usage::read(&sandbox.groups, sandbox.pidfd.as_fd(), self.inner.main())
    }

    fn cpu_us(&self) -> Option<u64> {
        self.inner.accounts()?.cpu_us()
    }

    fn memory_peak(&self) -> Option<u64> {
        self.inner.accounts()?.memory_peak()
    }

    fn start_times(&self) -> StartTimes {
        *self.inner.times.lock()
    }
}

impl Drop for ProcessInstance {
    fn drop(&mut self) {
        self.inner.kill();
    }
}

/// Whether it was ended for a file larger than it may write. One that ignores the signal meets an error, and goes on.
fn is_over_size(ended: Ended) -> bool {
    ended.1 == Some(libc::SIGXFSZ)
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the instance is gone")
}
