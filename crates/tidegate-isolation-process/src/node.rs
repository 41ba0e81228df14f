//! Node: processes that wait, and hosts that they become.
//!
//! Node takes 40 ms and more to start, and there is no forking it: it has threads from its first moment. So a few
//! *generic* processes wait in sandboxes of their own, with our host loaded and nobody's code. A start takes one and makes
//! its sandbox the function's; the process hears over its channel whose it is, loads the code and says that it is ready. It
//! is never anybody else's again. Where none waits, one is made on the spot: the same way, only slower.
//!
//! Two sockets lead in. What the host says comes as datagrams, in the form that a zygote's hosts use too. What it is told
//! goes over the channel that Node itself opens when its parent has left one, since that is how plain JavaScript can be
//! handed a connected descriptor: a line of JSON, with the descriptor beside it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use tidegate_instance::StartError;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use crate::channel::Channel;
use crate::protocol::{Early, Rlimits};
use crate::supervisor::{Supervisor, Unclaimed, failed};
use crate::wire;

/// Processes that wait, of one size of heap: what two functions that are called for the first time at once need.
const DEPTH: usize = 2;

/// Processes that wait, of all sizes together. Each holds about 13 MiB that it shares with nobody.
const MOST: usize = 4;

/// How long they wait after the last start before they are let go.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// How often it is looked whether they should be.
const LOOK: Duration = Duration::from_secs(30);

/// How long one may take until it waits: 100 ms on a quiet machine, more with a cold disk and neighbours.
const READY: Duration = Duration::from_secs(30);

/// Memory that the machine has to have free for one more to wait, in KiB: several times what it takes.
const SPARE_KIB: u64 = 192 * 1024;

/// Memory of a function that does not say, in bytes: what the first processes are made for.
const USUAL_MEMORY: u64 = 256 << 20;

/// The host's program, as the sandbox sees it.
const HOST: &str = "/runtime/node/host.cjs";

/// Bytes of a message that are written at once.
const PIECE: usize = 64 * 1024;

const MIB: u64 = 1024 * 1024;

/// Where Node is, and what waits.
pub(crate) struct NodeStock {
    supervisor: Arc<Supervisor>,
    interpreter: String,
    /// Whether it has to be told to read TypeScript.
    strips_when_told: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Process>,
    /// The size that was asked for last, in MiB.
    heap: u64,
    used: Option<Instant>,
    /// Somebody is filling it.
    filling: bool,
    /// Somebody is looking after it.
    watched: bool,
}

/// A Node process that is nobody's yet, in a sandbox of its own.
pub(crate) struct Process {
    pub(crate) unclaimed: Unclaimed,
    /// What it says.
    pub(crate) control: Channel,
    /// What it is told.
    pub(crate) orders: Orders,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// Largest heap of JavaScript's, in MiB: set when the process starts and never again.
    heap: u64,
}

impl NodeStock {
    pub(crate) fn new(
        supervisor: Arc<Supervisor>,
        interpreter: String,
        version: &str,
    ) -> Arc<Self> {
        let mut numbers = version.split('.').filter_map(|n| n.parse::<u32>().ok());
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Arc::new(Self {
            supervisor,
            interpreter,
            strips_when_told: ((22, 6)..(22, 18)).contains(&version),
            state: Mutex::default(),
        })
    }

    /// Has processes waiting, unless there are. Returns when the first of them exists.
    pub(crate) async fn prepare(self: &Arc<Self>) -> Result<(), StartError> {
        let heap = {
            let mut state = self.state.lock();
            state.used = Some(Instant::now());
            if !state.ready.is_empty() || state.filling {
                return Ok(());
            }
            if state.heap == 0 {
                state.heap = heap(USUAL_MEMORY);
            }
            state.heap
        };
        let process = self.make(heap, false, None).await?;
        self.state.lock().ready.push_back(process);
        self.refill();
        Ok(())
    }

    /// A process for a function with so much memory in bytes: one that waits, or one made now.
    pub(crate) async fn take(
        self: &Arc<Self>,
        memory: u64,
        host_network: bool,
        rlimits: Rlimits,
    ) -> Result<Process, StartError> {
        let heap = heap(memory);
        {
            let mut state = self.state.lock();
            state.heap = heap;
            state.used = Some(Instant::now());
            if !host_network {
                state.ready.retain(|process| !process.orders.is_closed());
                let found = state.ready.iter().position(|process| process.heap == heap);
                if let Some(process) = found.and_then(|at| state.ready.remove(at)) {
                    return Ok(process);
                }
            }
        }
        self.make(heap, host_network, Some(rlimits)).await
    }

    async fn make(
        &self,
        heap: u64,
        host_network: bool,
        rlimits: Option<Rlimits>,
    ) -> Result<Process, StartError> {
        let runtime = self.supervisor.control();
        let (told, orders) = Orders::pair(runtime).map_err(|e| failed("socket pair", e))?;
        let (ours, control) =
            wire::pair(SocketFlags::empty()).map_err(|e| failed("socket pair", e))?;
        let pipe = || {
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
                .map_err(|e| failed("output pipes", e.into()))
        };
        let ((stdout, out), (stderr, err)) = (pipe()?, pipe()?);
        let fds = [out.as_fd(), err.as_fd(), control.as_fd(), orders.as_fd()];
        let program = Early {
            argv: self.argv(heap),
            env: [
                ("PATH", "/usr/local/bin:/usr/bin:/bin"),
                ("HOME", "/tmp"),
                ("LANG", "C.UTF-8"),
                ("NODE_CHANNEL_FD", "4"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            rlimits: rlimits.unwrap_or(GENERIC),
        };
        let unclaimed = self.supervisor.early(host_network, program, fds).await?;
        // Standard error is opened by its name too, with the code's own id.
        if let Some(id) = unclaimed.id() {
            for pipe in [&out, &err] {
                let uid = rustix::process::Uid::from_raw(id);
                let gid = rustix::process::Gid::from_raw(id);
                rustix::fs::fchown(pipe, Some(uid), Some(gid))
                    .map_err(|e| failed("output pipes", e.into()))?;
            }
        }
        let control = Channel::new(ours, runtime).map_err(|e| failed("register channel", e))?;
        Ok(Process {
            unclaimed,
            control,
            orders: told,
            stdout,
            stderr,
            heap,
        })
    }

    fn argv(&self, heap: u64) -> Vec<String> {
        let mut argv = vec![
            self.interpreter.clone(),
            format!("--max-old-space-size={heap}"),
            // One function has a core or two: more threads of the engine's than that only cost their start.
            "--v8-pool-size=2".to_owned(),
        ];
        if self.strips_when_told {
            argv.extend(
                [
                    "--experimental-strip-types",
                    "--disable-warning=ExperimentalWarning",
                ]
                .map(str::to_owned),
            );
        }
        argv.push(HOST.to_owned());
        argv
    }

    /// Has what was taken replaced, off the path of whoever took it.
    pub(crate) fn refill(self: &Arc<Self>) {
        let (fill, watch) = {
            let mut state = self.state.lock();
            let fill = !std::mem::replace(&mut state.filling, true);
            (fill, !std::mem::replace(&mut state.watched, true))
        };
        if fill {
            self.supervisor
                .control()
                .spawn(fill_up(Arc::downgrade(self)));
        }
        if watch {
            self.supervisor
                .control()
                .spawn(look_after(Arc::downgrade(self)));
        }
    }

    /// What the stock lacks: the size of the heap of the next, or `None` when it is full.
    fn lacks(&self) -> Option<u64> {
        let mut state = self.state.lock();
        state.ready.retain(|process| !process.orders.is_closed());
        let heap = state.heap;
        let fit = state.ready.iter().filter(|p| p.heap == heap).count();
        if fit >= DEPTH || self.supervisor.is_closed() || available_kib() < SPARE_KIB {
            state.filling = false;
            return None;
        }
        if state.ready.len() >= MOST {
            // The one of another size that has waited longest makes room.
            let other = state.ready.iter().position(|p| p.heap != heap);
            other.and_then(|at| state.ready.remove(at));
        }
        Some(heap)
    }
}

/// One after another, so that the function that has just started is not crowded out by its successors.
async fn fill_up(stock: Weak<NodeStock>) {
    while let Some(stock) = stock.upgrade() {
        let Some(heap) = stock.lacks() else { return };
        match stock.make(heap, false, None).await {
            Ok(process) => {
                if let Ok(true) = timeout(READY, process.waits()).await {
                    stock.state.lock().ready.push_back(process);
                    continue;
                }
                tracing::warn!(
                    "a Node process that should wait did not come to it; functions start without, and slower"
                );
            }
            Err(error) => tracing::debug!(%error, "no Node process waits"),
        }
        stock.state.lock().filling = false;
        return;
    }
}

/// Lets those that wait go when nobody has wanted one for long, or the machine wants its memory.
async fn look_after(stock: Weak<NodeStock>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(stock) = stock.upgrade() else { return };
        let mut state = stock.state.lock();
        let idle = state.used.is_none_or(|used| used.elapsed() > IDLE);
        if idle || available_kib() < SPARE_KIB / 2 {
            state.ready.clear();
        }
        if idle || stock.supervisor.is_closed() {
            state.watched = false;
            return;
        }
    }
}

impl Process {
    /// Waits until the host has loaded what every function needs; false when it ended instead.
    async fn waits(&self) -> bool {
        /// A type, and nothing else.
        const LONGEST: usize = 64;
        let mut buffer = [0; LONGEST];
        matches!(self.control.receive(&mut buffer).await, Ok((len, _)) if len > 0)
    }
}

/// Before a function's own apply: those that are the same for every function, and no files to speak of.
const GENERIC: Rlimits = Rlimits {
    nofile: crate::start::OPEN_FILES,
    fsize: u64::MAX,
    core: 0,
    nproc: None,
};

/// The heap for a function with so much memory: in MiB, as Node takes it. What is left is for buffers, code and stacks.
fn heap(memory: u64) -> u64 {
    (memory / MIB * 3 / 4).max(16)
}

/// What the kernel says could be had without swapping, in KiB.
fn available_kib() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else {
        return u64::MAX;
    };
    text.lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok())
        .unwrap_or(u64::MAX)
}

/// The server's end of Node's own channel.
pub(crate) struct Orders {
    stream: UnixStream,
    /// A message is written whole before the next begins.
    turn: tokio::sync::Mutex<()>,
}

impl Orders {
    /// Both ends: ours, and what a Node process finds as the descriptor that `NODE_CHANNEL_FD` names.
    pub(crate) fn pair(control: &Handle) -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let _inside = control.enter();
        Ok((Self::new(ours)?, theirs))
    }

    fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self {
            stream: UnixStream::from_std(socket)?,
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Whose it is.
    pub(crate) async fn config(&self, config: &serde_json::Value) -> io::Result<()> {
        self.say(&serde_json::json!({ "config": config })).await
    }

    /// That this call is not wanted any more.
    pub(crate) async fn cancel(&self, tag: &str) -> io::Result<()> {
        self.say(&serde_json::json!({ "cancel": tag })).await
    }

    /// That it should finish what it does and end.
    pub(crate) async fn drain(&self) -> io::Result<()> {
        self.say(&serde_json::json!({ "drain": true })).await
    }

    async fn say(&self, message: &serde_json::Value) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let _turn = self.turn.lock().await;
        for piece in line.chunks(PIECE) {
            let mut rest = piece;
            while !rest.is_empty() {
                match self.stream.try_write(rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.stream.writable().await?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Hands a connection over.
    pub(crate) async fn connection(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        /// The form in which Node expects a socket beside a message.
        const MESSAGE: &[u8] =
            b"{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":{\"connection\":true}}\n";
        let _turn = self.turn.lock().await;
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let fds = [fd];
            if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
                return Err(io::Error::other("no room for the descriptor"));
            }
            // So few bytes go whole or not at all.
            let sent = rustix::net::sendmsg(
                &self.stream,
                &[IoSlice::new(MESSAGE)],
                &mut control,
                SendFlags::NOSIGNAL,
            )?;
            if sent == MESSAGE.len() {
                Ok(())
            } else {
                Err(io::ErrorKind::WriteZero.into())
            }
        };
        // Mostly there is room, and no need to ask the reactor.
        match send() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
        self.stream.async_io(Interest::WRITABLE, send).await
    }

    /// Whether the process has ended. What it says here is thrown away: that it took a connection.
    pub(crate) fn is_closed(&self) -> bool {
        let mut buffer = [0; 256];
        loop {
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }

    /// Throws away what comes until the other side is gone.
    pub(crate) async fn until_closed(&self) {
        while !self.is_closed() {
            if self.stream.readable().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_leaves_room_for_what_is_no_heap() {
        assert_eq!(heap(128 << 20), 96);
        assert_eq!(heap(8 << 20), 16);
    }

    #[test]
    fn every_source_of_the_host_is_embedded() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtimes/nodejs");
        let mut there = vec!["host.cjs".to_owned()];
        for entry in std::fs::read_dir(root.join("lib")).unwrap().flatten() {
            there.push(format!("lib/{}", entry.file_name().to_string_lossy()));
        }
        there.sort();
        let node = crate::language::ALL.iter().find(|l| l.name == "node");
        let mut embedded: Vec<_> = node.unwrap().sources.iter().map(|(n, _)| *n).collect();
        embedded.sort_unstable();
        assert_eq!(embedded, there);
    }

    #[test]
    fn this_machine_says_how_much_memory_there_is() {
        let kib = available_kib();
        assert!(kib > 0 && kib < u64::MAX, "{kib}");
    }
}
