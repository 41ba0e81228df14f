//! Process 1 of a sandbox: starts programs, reaps, dials, and ends when the server's end of its channel closes, which
//! ends everything in its pid namespace. It has no rights, lies behind the same filter as the function, and cannot be
//! signalled or traced by it.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::enter::c_path;
use super::spawn::{Walls, find, search_path, spawn};
use super::watch::{Bounds, Found, Watch, Watched};
use crate::explain::in_image;
use crate::fence::{Fence, Reach};
use crate::instance::MAIN;
use crate::protocol::{MAX_PAYLOAD, Order, Payload, Word};
use crate::{sys, wire};

/// How long a dial may take, in milliseconds: on the loopback device only a full backlog takes time at all, and the
/// server asks again.
const DIAL_MS: i64 = 50;

struct Init {
    channel: OwnedFd,
    argv: Vec<CString>,
    env: Vec<(String, String)>,
    /// Where programs begin.
    folder: CString,
    /// Whether what is seen is an image, into which nobody else can look.
    is_image: bool,
    fence: Option<Fence>,
    /// Most descriptors that a program may have at once.
    files: u64,
    watch: Watch,
    /// Runs by the process number of their first process.
    runs: HashMap<i32, u64>,
}

/// Serves until the channel closes.
///
/// `early`: the program that waited to become somebody's, which is the instance's main one from now on.
pub(super) fn run(
    channel: OwnedFd,
    payload: Payload,
    early: Option<i32>,
    watched: Watched,
    setup_us: u64,
) {
    // Whatever else was open belongs to the launcher.
    let Ok(()) = sys::dup_onto(channel.as_fd(), 3) else {
        return;
    };
    std::mem::forget(channel);
    if sys::close_range(4, i32::MAX).is_err() {
        return;
    }
    // SAFETY: it was put there just now, and the value that owned the old number was given up.
    let channel = unsafe { sys::adopt(3) };
    if rustix::io::fcntl_setfd(&channel, rustix::io::FdFlags::CLOEXEC).is_err() {
        return;
    }
    let Ok(signals) = sys::signal_descriptor(&[libc::SIGCHLD]) else {
        return;
    };
    let bounds = Bounds {
        memory: payload.memory,
        cpu_milli: payload.cpu_milli,
        processes: payload.rlimits.nproc,
    };
    let files = payload.rlimits.nofile;
    let reach = match &payload.root {
        Some(root) if !root.read_only => Reach::Everywhere,
        _ => Reach::Scratch,
    };
    let fence = match Fence::new(reach) {
        Ok(fence) => fence,
        Err(error) => {
            let word = Word::Broken {
                step: "landlock".to_owned(),
                errno: error.raw_os_error().unwrap_or(libc::EIO),
            };
            let bytes = serde_json::to_vec(&word).unwrap_or_default();
            let _ = wire::send(&channel, &bytes, &[]);
            return;
        }
    };
    let mut init = Init {
        channel,
        // A zero byte in one leaves none, and an `exec` is refused.
        argv: (payload.argv.into_iter().map(CString::new))
            .collect::<Result<_, _>>()
            .unwrap_or_default(),
        env: payload.env,
        folder: CString::new(payload.workdir).unwrap_or_default(),
        is_image: payload.root.is_some(),
        fence,
        files,
        watch: Watch::new(watched, bounds),
        runs: early.map(|pid| (pid, MAIN)).into_iter().collect(),
    };
    init.say(&Word::Ready { setup_us }, &[]);
    // It may have ended before anything was told of ends.
    init.reap();
    let mut buffer = vec![0; wire::MAX_MESSAGE];
    loop {
        let (asked, signalled) = {
            let mut fds = [
                PollFd::new(&init.channel, PollFlags::IN),
                PollFd::new(&signals, PollFlags::IN),
            ];
            match rustix::event::poll(&mut fds, init.watch.patience().as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return,
                Ok(_) => (!fds[0].revents().is_empty(), !fds[1].revents().is_empty()),
            }
        };
        if signalled {
            sys::drain_signals(&signals);
            init.reap();
        }
        if asked {
            match wire::receive(&init.channel, &mut buffer) {
                Ok((0, _)) | Err(_) => return,
                Ok((len, fds)) => match serde_json::from_slice(&buffer[..len]) {
                    Ok(order) => init.obey(&order, &fds),
                    Err(_) => return,
                },
            }
        }
        for found in init.watch.look() {
            init.say(&found.into(), &[]);
            if matches!(found, Found::Memory { .. }) {
                sys::kill_all();
            }
        }
    }
}

impl Init {
    /// The channel blocks when the server does not read: so does the sandbox's init then, and nothing piles up.
    fn say(&self, word: &Word, fds: &[std::os::fd::BorrowedFd<'_>]) {
        if let Ok(bytes) = serde_json::to_vec(word) {
            let _ = wire::send(&self.channel, &bytes, fds);
        }
    }

    fn obey(&mut self, order: &Order, fds: &[OwnedFd]) {
        match *order {
            Order::Exec { n, env } => {
                let errno = match self.exec(env, fds) {
                    Ok(pid) => {
                        self.runs.insert(pid, n);
                        None
                    }
                    Err(error) => Some(error.raw_os_error().unwrap_or(libc::EINVAL)),
                };
                let why = errno
                    .filter(|_| self.is_image)
                    .and_then(|errno| self.explain(errno));
                self.say(&Word::Begun { n, errno, why }, &[]);
            }
            Order::Kill { n } => {
                if self.runs.len() == 1 && self.runs.values().any(|&r| r == n) {
                    sys::kill_all();
                } else {
                    self.signal(n, libc::SIGKILL);
                }
            }
            Order::Sweep => sys::kill_all(),
            Order::Signal { n, signal, alone } => {
                if let Some(pid) = self.first(n).filter(|_| alone) {
                    sys::kill(pid, signal);
                } else {
                    self.signal(n, signal);
                }
            }
            Order::Dial { n, port } => match dial(port) {
                Ok(socket) => self.say(&Word::Dialled { n, errno: None }, &[socket.as_fd()]),
                Err(error) => self.say(
                    &Word::Dialled {
                        n,
                        errno: Some(error.raw_os_error().unwrap_or(libc::ECONNREFUSED)),
                    },
                    &[],
                ),
            },
        }
    }

    /// The first process of a run.
    fn first(&self, n: u64) -> Option<i32> {
        let found = self.runs.iter().find(|&(_, &run)| run == n);
        found.map(|(&pid, _)| pid)
    }

    fn signal(&self, n: u64, signal: libc::c_int) {
        if let Some(pid) = self.first(n) {
            sys::kill(-pid, signal);
        }
    }

    fn explain(&self, errno: i32) -> Option<String> {
        let program = self.argv.first()?.to_str().ok()?;
        let folder = Path::new(self.folder.to_str().ok()?);
        Some(in_image(program, search_path(&self.env), folder, errno))
    }

    fn exec(&self, env: bool, fds: &[OwnedFd]) -> io::Result<i32> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let (program, arguments) = self.argv.split_first().ok_or_else(invalid)?;
        let [stdin, stdout, stderr, more @ ..] = fds else {
            return Err(invalid());
        };
        let (added, more): (Vec<(String, String)>, _) = match more {
            [file, more @ ..] if env => {
                let bytes = wire::read_memory_file(file, MAX_PAYLOAD)?;
                (serde_json::from_slice(&bytes).map_err(|_| invalid())?, more)
            }
            more => (Vec::new(), more),
        };
        let mut env: Vec<CString> = Vec::with_capacity(self.env.len() + added.len());
        let replaced = |name: &str| added.iter().any(|(n, _)| n == name);
        let kept = self.env.iter().filter(|(name, _)| !replaced(name));
        for (name, value) in kept.chain(&added) {
            env.push(CString::new(format!("{name}={value}")).map_err(|_| invalid())?);
        }
        // As the instance was told: a call's own variables come from who knows where.
        let name = program.to_str().map_err(|_| invalid())?;
        let file = c_path(&find(name, &self.env)?)?;
        let argv: Vec<_> = std::iter::once(&file)
            .chain(arguments)
            .map(CString::as_c_str)
            .collect();
        let streams: Vec<_> = [stdin, stdout, stderr]
            .into_iter()
            .chain(more)
            .map(AsFd::as_fd)
            .collect();
        let walls = Walls {
            fence: self.fence.as_ref(),
            files: self.files,
        };
        spawn(&argv, &self.folder, &env, &streams, walls)
    }

    /// Collects what ended. When the last run is over, what it left behind is killed and collected too, before the server
    /// is told: a slot that is given back is empty. With several runs at once only its process group goes at first, since
    /// nobody can tell whose a stray process is, and the rest when the last of them ends.
    fn reap(&mut self) {
        while let sys::Reaped::Child { pid, code, signal } = sys::reap() {
            let Some(n) = self.runs.remove(&pid) else {
                continue;
            };
            if code != Some(0) && self.watch.was_full() {
                self.say(&Word::Full, &[]);
            }
            if self.runs.is_empty() {
                sys::kill_all();
                collect_all();
            } else {
                sys::kill(-pid, libc::SIGKILL);
            }
            self.say(&Word::Ended { n, code, signal }, &[]);
        }
    }
}

/// Waits until no child is left. All have been killed, so this takes what the kernel takes.
fn collect_all() {
    // SAFETY: no memory is involved.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::__WALL) } > 0 {}
}

/// A connection to a port of the loopback device, IPv4 first: most programs that listen on one family choose that.
fn dial(port: u16) -> io::Result<OwnedFd> {
    match connect(
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        AddressFamily::INET,
    ) {
        Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => connect(
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
            AddressFamily::INET6,
        ),
        other => other,
    }
}

fn connect(address: SocketAddr, family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => return Ok(socket),
        Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: DIAL_MS * 1_000_000,
    };
    let ready = rustix::event::poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&timeout))?;
    if ready == 0 {
        return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
    }
    rustix::net::sockopt::socket_error(&socket)??;
    Ok(socket)
}
