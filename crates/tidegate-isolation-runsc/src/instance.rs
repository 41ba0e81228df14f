//! A running container, seen from the server.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rustix::process::Signal;
use tidegate_core::{InstanceId, InvocationId};
use tidegate_instance::output::Output;
use tidegate_instance::{
    Exec, Exit, Instance, KillOnDrop, LogStream, Process, Reason, StartTimes, Stream, Usage,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::unix::pipe;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use crate::protocol::{Header, MAIN, MAX_LINE, Order, What, Word};
use crate::watch::Accounts;

/// How long a connection may take to say what it is, and a stream that was asked for to come.
const STREAM: Duration = Duration::from_secs(10);

/// Orders that may wait to be written: a relay that reads none is of no use.
const ORDERS: usize = 256;

/// How long to let things be when no connection can be accepted.
const REST: Duration = Duration::from_millis(20);

/// Connections that may wait for their headers. Only process 1 of the container can make any.
const UNKNOWN: usize = 256;

/// Exit code or signal.
pub(crate) type Ended = (Option<i32>, Option<i32>);

pub(crate) struct RunscInstance(pub(crate) Arc<Inner>);

pub(crate) enum Kind {
    Server { port: u16 },
    PerCall,
}

pub(crate) struct Inner {
    pub(crate) id: InstanceId,
    pub(crate) kind: Kind,
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) output: Output,
    pub(crate) control: Handle,
    pub(crate) times: Mutex<StartTimes>,
    orders: mpsc::Sender<Order>,
    process: OwnedFd,
    pub(crate) accounts: Accounts,
    next: AtomicU64,
    state: Mutex<State>,
    over_memory: AtomicBool,
    killed: AtomicBool,
    gone: AtomicBool,
    life: watch::Sender<Option<Exit>>,
    used: AtomicU64,
    peak: AtomicU64,
}

#[derive(Default)]
struct State {
    closed: bool,
    begun: HashMap<u64, oneshot::Sender<Option<i32>>>,
    ended: HashMap<u64, oneshot::Sender<Ended>>,
    streams: HashMap<Header, oneshot::Sender<io::Result<UnixStream>>>,
    main: Option<Ended>,
    draining: bool,
}

impl Inner {
    pub(crate) fn new(
        id: InstanceId,
        kind: Kind,
        (argv, env): (Vec<String>, Vec<(String, String)>),
        output: Output,
        control: Handle,
        process: OwnedFd,
        accounts: Accounts,
    ) -> (Arc<Self>, mpsc::Receiver<Order>) {
        let (orders, to_write) = mpsc::channel(ORDERS);
        let inner = Arc::new(Self {
            id,
            kind,
            argv,
            env,
            output,
            control,
            times: Mutex::default(),
            orders,
            process,
            accounts,
            next: AtomicU64::new(MAIN + 1),
            state: Mutex::default(),
            over_memory: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            life: watch::Sender::new(None),
            used: AtomicU64::new(0),
            peak: AtomicU64::new(0),
        });
        (inner, to_write)
    }

    /// Takes the relay's connections until the instance is gone. `ready` is told of the first word.
    pub(crate) async fn accept(
        self: Arc<Self>,
        listener: UnixListener,
        mut to_write: Option<mpsc::Receiver<Order>>,
        ready: oneshot::Sender<()>,
    ) {
        let mut ready = Some(ready);
        let unknown = Arc::new(tokio::sync::Semaphore::new(UNKNOWN));
        let (found, mut first) = mpsc::channel::<UnixStream>(1);
        let mut gone = self.life.subscribe();
        loop {
            let accepted = tokio::select! {
                _ = gone.wait_for(Option::is_some) => return,
                Some(stream) = first.recv() => {
                    if let (Some(orders), Some(ready)) = (to_write.take(), ready.take()) {
                        self.control.spawn(self.clone().talk(stream, orders, ready));
                    }
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            let Ok((mut stream, _)) = accepted else {
                // Descriptors are what it fails for, and others give theirs back in time.
                tokio::time::sleep(REST).await;
                continue;
            };
            let Ok(permit) = unknown.clone().acquire_owned().await else {
                return;
            };
            let (inner, found) = (self.clone(), found.clone());
            self.control.spawn(async move {
                let _permit = permit;
                let mut bytes = [0; Header::LEN];
                let read = tokio::time::timeout(STREAM, stream.read_exact(&mut bytes)).await;
                let (Ok(Ok(_)), Ok(header)) = (read, Header::from_bytes(bytes)) else {
                    return;
                };
                if header.what == What::Orders {
                    let _ = found.try_send(stream);
                } else if let Some(waiting) = inner.state.lock().streams.remove(&header) {
                    let _ = waiting.send(Ok(stream));
                }
            });
        }
    }

    /// The first connection: orders out, words in.
    async fn talk(
        self: Arc<Self>,
        stream: UnixStream,
        mut orders: mpsc::Receiver<Order>,
        ready: oneshot::Sender<()>,
    ) {
        let (read, mut write) = stream.into_split();
        let writing = async {
            while let Some(order) = orders.recv().await {
                let mut line = serde_json::to_vec(&order).unwrap_or_default();
                line.push(b'\n');
                if write.write_all(&line).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = writing => {}
            () = self.listen(read, ready) => {}
        }
        self.gone.store(true, Ordering::Release);
        self.close();
        self.end();
    }

    async fn listen(&self, read: OwnedReadHalf, ready: oneshot::Sender<()>) {
        let mut ready = Some(ready);
        let mut lines = BufReader::new(read);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut lines)
                .take(MAX_LINE)
                .read_until(b'\n', &mut line)
                .await;
            let (Ok(1..), Ok(word)) = (read, serde_json::from_slice(&line)) else {
                return;
            };
            match word {
                Word::Ready => {
                    if let Some(ready) = ready.take() {
                        let _ = ready.send(());
                    }
                }
                Word::Begun { n, errno } => {
                    let waiting = self.state.lock().begun.remove(&n);
                    if let Some(waiting) = waiting {
                        let _ = waiting.send(errno);
                    }
                }
                Word::Ended { n, code, signal } => self.ended(n, (code, signal)),
                Word::Refused { n, errno } => {
                    let header = Header {
                        what: What::Dialled,
                        n,
                    };
                    let waiting = self.state.lock().streams.remove(&header);
                    if let Some(waiting) = waiting {
                        let _ = waiting.send(Err(io::Error::from_raw_os_error(errno)));
                    }
                }
            }
        }
    }

    fn ended(&self, n: u64, ended: Ended) {
        let (waiting, over) = {
            let mut state = self.state.lock();
            if n == MAIN {
                state.main = Some(ended);
            }
            let over = state.draining && state.ended.len() <= 1;
            if over {
                state.main.get_or_insert((Some(0), None));
            }
            (state.ended.remove(&n), n == MAIN || over)
        };
        if let Some(waiting) = waiting {
            let _ = waiting.send(ended);
        }
        if over {
            self.gone.store(true, Ordering::Release);
            self.end();
        }
    }

    fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.begun.clear();
        state.ended.clear();
        state.streams.clear();
    }

    /// Ends the container: `runsc` takes all of it along.
    fn end(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.process, Signal::KILL);
    }

    pub(crate) fn kill(&self) {
        if !self.gone.swap(true, Ordering::AcqRel) {
            self.killed.store(true, Ordering::Release);
        }
        self.end();
    }

    /// So much memory is in use.
    pub(crate) fn measured(&self, used: u64, limit: u64) {
        self.used.store(used, Ordering::Relaxed);
        self.peak.fetch_max(used, Ordering::Relaxed);
        if used > limit && !self.over_memory.swap(true, Ordering::AcqRel) {
            self.output.system(&format!(
                "{} MiB of memory were in use, over the limit; the instance was ended",
                used >> 20
            ));
            self.gone.store(true, Ordering::Release);
            self.end();
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.life.borrow().is_some()
    }

    /// `runsc` has ended, and nothing of the container is left.
    pub(crate) fn buried(&self, out_of_memory: bool) {
        self.gone.store(true, Ordering::Release);
        let main = self.state.lock().main;
        self.close();
        let over = self.over_memory.load(Ordering::Acquire) || out_of_memory;
        let exit = match (self.killed.load(Ordering::Acquire), over, main) {
            (true, ..) | (false, false, None) => Exit::KILLED,
            (false, true, _) => Exit {
                reason: Reason::Memory,
                ..Exit::KILLED
            },
            (false, false, Some(ended)) => told(ended),
        };
        self.output.finish();
        self.life.send_replace(Some(exit));
    }

    pub(crate) async fn order(&self, order: Order) -> io::Result<()> {
        self.orders.send(order).await.map_err(|_| gone())
    }

    fn expect(&self, what: What, n: u64) -> io::Result<oneshot::Receiver<io::Result<UnixStream>>> {
        let (tell, told) = oneshot::channel();
        let mut state = self.state.lock();
        if state.closed {
            return Err(gone());
        }
        state.streams.insert(Header { what, n }, tell);
        Ok(told)
    }

    fn forget(&self, n: u64) {
        let mut state = self.state.lock();
        state.streams.retain(|header, _| header.n != n);
        state.begun.remove(&n);
        state.ended.remove(&n);
    }

    pub(crate) async fn dial(&self, port: u16) -> io::Result<UnixStream> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let told = self.expect(What::Dialled, n)?;
        self.order(Order::Dial { n, port }).await?;
        came(told).await.inspect_err(|_| self.forget(n))
    }

    /// Starts the program. Gives back its input and output, and what tells of its end.
    pub(crate) async fn begin(
        &self,
        n: u64,
        added: Vec<(String, String)>,
        merged: bool,
        invocation: Option<InvocationId>,
    ) -> io::Result<Begun> {
        let stdin = self.expect(What::Stdin, n)?;
        let stdout = self.expect(What::Stdout, n)?;
        let stderr = if merged {
            None
        } else {
            Some(self.expect(What::Stderr, n)?)
        };
        let ((tell_begun, begun), (tell_ended, ended)) = (oneshot::channel(), oneshot::channel());
        {
            let mut state = self.state.lock();
            state.begun.insert(n, tell_begun);
            state.ended.insert(n, tell_ended);
        }
        let mut env = self.env.clone();
        env.retain(|(name, _)| !added.iter().any(|(a, _)| a == name));
        env.extend(added);
        let order = Order::Exec {
            n,
            argv: self.argv.clone(),
            env,
            merged,
        };
        let run = async {
            self.order(order).await?;
            if let Some(errno) = begun.await.map_err(|_| gone())? {
                return Err(io::Error::from_raw_os_error(errno));
            }
            let (stdin, stdout) = (came(stdin).await?, came(stdout).await?);
            if let Some(stderr) = stderr {
                let stderr = came(stderr).await?;
                let output = self.output.clone();
                self.control
                    .spawn(output.pump(stderr, LogStream::Stderr, invocation));
            }
            Ok((stdin, stdout, ended))
        };
        run.await.inspect_err(|_| {
            // It may run, though its streams did not come.
            self.kill_run(n);
            self.forget(n);
        })
    }
}

/// Input, output, end.
pub(crate) type Begun = (UnixStream, UnixStream, oneshot::Receiver<Ended>);

async fn came(told: oneshot::Receiver<io::Result<UnixStream>>) -> io::Result<UnixStream> {
    tokio::time::timeout(STREAM, told)
        .await?
        .map_err(|_| gone())?
}

#[async_trait]
impl Instance for RunscInstance {
    fn id(&self) -> InstanceId {
        self.0.id
    }

    async fn connect(&self) -> io::Result<Stream> {
        let Kind::Server { port } = self.0.kind else {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the program is run once a call and takes no connections",
            ));
        };
        // Accepted on the control runtime; it belongs to the caller's from here on.
        let stream = self.0.dial(port).await?.into_std()?;
        Ok(Stream::Unix(UnixStream::from_std(stream)?))
    }

    async fn exec(&self, exec: Exec) -> io::Result<Process> {
        let inner = &self.0;
        if inner.gone.load(Ordering::Acquire) {
            return Err(gone());
        }
        if !matches!(inner.kind, Kind::PerCall) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the program serves connections and is not run once a call",
            ));
        }
        let n = inner.next.fetch_add(1, Ordering::Relaxed);
        let weak = Arc::downgrade(inner);
        let guard = KillOnDrop(Some(Box::new(move || {
            if let Some(inner) = weak.upgrade() {
                inner.kill_run(n);
            }
        })));
        let begun = inner.begin(n, exec.env, exec.merged, exec.invocation).await;
        let (input, output, ended) = begun?;
        let (stdin, our_stdin) = pipes()?;
        let (our_stdout, stdout) = pipes()?;
        {
            let _inside = inner.control.enter();
            let from = pipe::Receiver::from_owned_fd(stdin)?;
            let to = pipe::Sender::from_owned_fd(stdout)?;
            inner.control.spawn(carry(from, input));
            inner.control.spawn(carry(output, to));
        }
        let (tell, exit) = oneshot::channel();
        let dying = inner.clone();
        inner.control.spawn(async move {
            if let Ok((code, signal)) = ended.await {
                let _ = tell.send(told((code, signal)));
            } else if dying.over_memory.load(Ordering::Acquire) {
                let _ = tell.send(Exit {
                    reason: Reason::Memory,
                    ..Exit::KILLED
                });
            }
        });
        Ok(Process {
            stdin: pipe::Sender::from_owned_fd(our_stdin)?,
            stdout: pipe::Receiver::from_owned_fd(our_stdout)?,
            exit,
            guard,
        })
    }

    async fn cancel(&self, _: InvocationId) -> bool {
        false
    }

    fn drain(&self) {
        let inner = &self.0;
        let idle = {
            let mut state = inner.state.lock();
            state.draining = true;
            state.ended.is_empty()
        };
        match inner.kind {
            Kind::Server { .. } => {
                let order = Order::Signal {
                    n: MAIN,
                    signal: Signal::TERM.as_raw(),
                };
                if inner.orders.try_send(order).is_err() {
                    inner.kill();
                }
            }
            Kind::PerCall if idle => {
                inner.state.lock().main = Some((Some(0), None));
                inner.gone.store(true, Ordering::Release);
                inner.end();
            }
            Kind::PerCall => {}
        }
    }

    fn kill(&self) {
        self.0.kill();
    }

    async fn exited(&self) -> Exit {
        let mut life = self.0.life.subscribe();
        match life.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::KILLED),
            Err(_) => Exit::KILLED,
        }
    }

    fn is_gone(&self) -> bool {
        self.0.gone.load(Ordering::Acquire)
    }

    fn usage(&self) -> Option<Usage> {
        let memory = self.0.used.load(Ordering::Relaxed);
        (memory > 0).then(|| Usage {
            cpu_us: self.0.accounts.cpu_us().unwrap_or_default(),
            memory,
            memory_peak: self.0.peak.load(Ordering::Relaxed),
        })
    }

    fn start_times(&self) -> StartTimes {
        *self.0.times.lock()
    }
}

impl Inner {
    fn kill_run(&self, n: u64) {
        let (known, alone) = {
            let state = self.state.lock();
            (state.ended.contains_key(&n), state.ended.len() == 1)
        };
        if !known {
            return;
        }
        let order = if alone {
            Order::Sweep
        } else {
            Order::Signal {
                n,
                signal: Signal::KILL.as_raw(),
            }
        };
        if self.orders.try_send(order).is_err() {
            self.kill();
        }
    }
}

impl Drop for RunscInstance {
    fn drop(&mut self) {
        self.0.kill();
    }
}

fn told((code, signal): Ended) -> Exit {
    let is_over_size = signal == Some(Signal::XFSZ.as_raw());
    Exit {
        code,
        signal,
        reason: if is_over_size {
            Reason::Disk
        } else {
            Reason::Exited
        },
    }
}

fn pipes() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

async fn carry(
    mut from: impl tokio::io::AsyncRead + Unpin + Send,
    mut to: impl tokio::io::AsyncWrite + Unpin + Send,
) {
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the instance is gone")
}
