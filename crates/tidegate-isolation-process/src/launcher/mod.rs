//! The launcher: one process with one thread that makes sandboxes for the server.
//!
//! The server has threads and a heap, so it may neither fork (40 µs a MiB, and locks held by threads that do not exist in
//! the child) nor unshare. The launcher is the same program executed again: it stays small, knows no tenant's secret (the
//! payload of a sandbox is read by the sandbox's own init), and holds nothing that must survive. When the server is gone,
//! however it went, the launcher's socket says so, and it ends every sandbox, removes the control groups and exits.

mod base;
mod early;
mod enter;
mod ids;
mod init;
mod job;
mod layers;
mod masks;
mod netlink;
mod network;
mod outlet;
mod root;
mod sandbox;
mod spawn;
mod stock;
mod turns;
mod watch;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use crate::cgroup::{self, Group, GroupLimits};
use crate::protocol::{Ask, LastWords, Setup, Tell};
use crate::report::Report;
use crate::{sys, wire};

use enter::{Entered, Prepared};
use network::{Made, Networks};
use sandbox::Held;
use stock::{Ready, Seats, Stock, Wants};

/// The launcher's name in the process list, and how it knows itself.
pub(crate) const NAME: &str = "tidegate-launcher";

/// Says how far the launcher has come: it executes itself once more when it enters a user namespace.
pub(crate) const STAGE: &str = "TIDEGATE_LAUNCHER_STAGE";

/// How long the launcher waits for a group to become removable before it tries again, in milliseconds.
const RETRY_MS: i64 = 20;

/// Whether this process was started to be the launcher. Ask before anything else: before threads, before an allocator
/// has grown.
#[must_use]
pub fn is_launcher() -> bool {
    std::env::args_os().next().as_deref() == Some(OsStr::new(NAME))
        && std::env::var_os(STAGE).is_some()
}

/// The launcher's whole life. Never returns.
pub fn launcher_main() -> ! {
    let code = match live() {
        Ok(()) => 0,
        Err(error) => {
            // The one place where it speaks for itself: the channel to the server is what failed.
            let _ = writeln!(io::stderr(), "{NAME}: {error}");
            1
        }
    };
    std::process::exit(code)
}

fn live() -> io::Result<()> {
    let socket = enter::take_socket()?;
    let mut buffer = vec![0; wire::MAX_MESSAGE];
    let prepared = if enter::is_second_stage() {
        enter::handed_on()?
    } else {
        let (len, _) = wire::receive(&socket, &mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        Prepared::new(serde_json::from_slice(&buffer[..len])?)
    };
    let (report, socket, error) = if !enter::is_second_stage() && !enter::is_capable() {
        enter::enter_as_user(socket, &prepared)?
    } else {
        match enter::enter() {
            Ok(entered) => match Launcher::new(socket, entered, prepared) {
                Ok(mut launcher) => {
                    let result = launcher.run(&mut buffer);
                    launcher.clean_up();
                    return match result {
                        // The server ended while it was being answered, which is how it ends as well as any other.
                        Err(error)
                            if matches!(
                                error.kind(),
                                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                            ) =>
                        {
                            Ok(())
                        }
                        result => result,
                    };
                }
                Err(refused) => refused,
            },
            Err((report, error)) => (report, socket, error),
        }
    };
    let StepError { step, errno } = error;
    tell(
        &socket,
        &Tell::Unable {
            step,
            errno,
            report,
        },
        &[],
    )
}

fn tell(socket: &OwnedFd, tell: &Tell, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    wire::send(socket, &serde_json::to_vec(tell)?, fds)
}

/// A step that failed, and the kernel's number for it.
#[derive(Debug)]
struct StepError {
    step: String,
    errno: i32,
}

/// Names a step.
fn step<T>(
    name: impl Into<String>,
    result: Result<T, impl Into<io::Error>>,
) -> Result<T, StepError> {
    result.map_err(|error| StepError {
        step: name.into(),
        errno: error.into().raw_os_error().unwrap_or(libc::EIO),
    })
}

struct Launcher {
    socket: OwnedFd,
    signals: OwnedFd,
    setup: Setup,
    entered: Entered,
    base: base::Base,
    networks: Networks,
    tree: cgroup::Tree,
    watched: watch::Watched,
    stock: Stock,
    seats: Seats,
    maps: layers::Maps,
    /// By process number, held and settled alike.
    inits: HashMap<i32, Init>,
    /// By slot: those in which a program waits to become somebody's.
    early: HashMap<u32, Held>,
    zygotes: HashMap<i32, u64>,
    /// Groups that the kernel did not let go yet.
    stale: Vec<Group>,
}

/// A sandbox as the launcher keeps it.
struct Init {
    /// The server's number for it, once it is somebody's.
    slot: Option<u32>,
    group: Group,
    seat: u32,
}

impl Launcher {
    fn new(
        socket: OwnedFd,
        entered: Entered,
        prepared: Prepared,
    ) -> Result<Self, (Report, OwnedFd, StepError)> {
        let mut report = entered.report.clone();
        let made = (|| {
            let setup = prepared
                .setup
                .clone()
                .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL));
            let setup = step("read the set-up", setup)?;
            let signals = step(
                "signal descriptor",
                sys::signal_descriptor(&[libc::SIGCHLD, libc::SIGTERM]),
            )?;
            let base = base::build(&setup.state_dir.join("root"), &mut report)?;
            job::note(
                &setup.state_dir,
                entered.foreign_id(setup.uid_base, 0),
                &mut report,
            );
            let maps = layers::Maps::new(
                &base,
                &setup.state_dir,
                entered.foreign_id(setup.uid_base, 0),
                &mut report,
            );
            let networks = Networks::new(&mut report)?;
            Ok((setup, signals, base, maps, networks))
        })();
        let (setup, signals, base, maps, networks) = match made {
            Ok(made) => made,
            Err(error) => return Err((report, socket, error)),
        };
        let watched = enter::limits(&prepared, &base, &mut report);
        let launcher = Self {
            socket,
            signals,
            stock: Stock::new(setup.stock),
            setup,
            entered,
            base,
            networks,
            tree: prepared.tree,
            watched,
            seats: Seats::default(),
            maps,
            inits: HashMap::new(),
            early: HashMap::new(),
            zygotes: HashMap::new(),
            stale: Vec::new(),
        };
        let hello = Tell::Hello {
            report,
            nproc: watched.processes,
            watched: watched.memory,
        };
        match step("greet the server", tell(&launcher.socket, &hello, &[])) {
            Ok(()) => Ok(launcher),
            Err(error) => Err((Report::default(), launcher.socket, error)),
        }
    }

    /// Serves until the server is gone.
    fn run(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let wants_refill = self.stock.wants_refill();
            let timeout = match (wants_refill, self.stale.is_empty()) {
                (true, _) => Some(0),
                (false, false) => Some(RETRY_MS),
                (false, true) => None,
            };
            let (asked, signalled) = {
                let mut fds = [
                    PollFd::new(&self.socket, PollFlags::IN),
                    PollFd::new(&self.signals, PollFlags::IN),
                ];
                let timeout = timeout.map(|ms| rustix::event::Timespec {
                    tv_sec: 0,
                    tv_nsec: ms * 1_000_000,
                });
                match rustix::event::poll(&mut fds, timeout.as_ref()) {
                    Err(rustix::io::Errno::INTR) => continue,
                    other => other?,
                };
                (!fds[0].revents().is_empty(), !fds[1].revents().is_empty())
            };
            if signalled {
                let seen = sys::drain_signals(&self.signals);
                // The thread that started us ended, or the server did: only the latter counts.
                let terminated = seen.contains(&libc::SIGTERM.cast_unsigned());
                if terminated && !enter::parent_is(self.setup.server_pid) {
                    return Ok(());
                }
                self.reap()?;
            }
            if asked {
                let (len, fds) = wire::receive(&self.socket, buffer)?;
                if len == 0 {
                    return Ok(());
                }
                self.serve(&buffer[..len], fds)?;
            } else if !signalled {
                // Nobody waits: the time to make what the next one will want.
                self.refill();
                self.stale.retain_mut(|group| !group.remove());
            }
        }
    }

    fn serve(&mut self, message: &[u8], fds: Vec<OwnedFd>) -> io::Result<()> {
        match serde_json::from_slice(message)? {
            Ask::Sandbox {
                slot,
                code,
                layers,
                host_network,
                limits,
            } => match self.sandbox(slot, (&code, &layers), host_network, limits, &fds) {
                Ok(()) => Ok(()),
                Err(error) => tell(
                    &self.socket,
                    &Tell::Failed {
                        slot,
                        step: error.step,
                        errno: error.errno,
                    },
                    &[],
                ),
            },
            Ask::Job { slot, limits } => match self.job(slot, limits, &fds) {
                Ok(()) => Ok(()),
                Err(StepError { step, errno }) => {
                    tell(&self.socket, &Tell::Failed { slot, step, errno }, &[])
                }
            },
            Ask::Early {
                slot,
                host_network,
                program,
            } => match self.early(slot, host_network, &program, &fds) {
                Ok(()) => Ok(()),
                Err(StepError { step, errno }) => {
                    tell(&self.socket, &Tell::Failed { slot, step, errno }, &[])
                }
            },
            Ask::Settle {
                n,
                slot,
                code,
                limits,
            } => self.settle(n, slot, &code, limits, &fds),
            Ask::Zygote { number, argv } => {
                let answer = match self.zygote(number, &argv, fds) {
                    Ok(pidfd) => {
                        return tell(
                            &self.socket,
                            &Tell::ZygoteStarted { number },
                            &[pidfd.as_fd()],
                        );
                    }
                    Err(error) => error.to_string(),
                };
                tell(
                    &self.socket,
                    &Tell::ZygoteEnded {
                        number,
                        error: answer,
                    },
                    &[],
                )
            }
        }
    }

    fn sandbox(
        &mut self,
        slot: u32,
        (code, layers): (&[PathBuf], &[PathBuf]),
        host_network: bool,
        limits: GroupLimits,
        fds: &[OwnedFd],
    ) -> Result<(), StepError> {
        let began = Instant::now();
        let [payload, channel] = fds else {
            let wrong = io::Error::from_raw_os_error(libc::EINVAL);
            return step("descriptors", Err(wrong));
        };
        let code = sandbox::code(code)?;
        let Ready {
            held,
            doors,
            outlet,
        } = self.take(host_network)?;
        let seat = self.inits.get(&held.pid).map(|init| init.seat);
        let layers = match seat {
            Some(seat) => self.layers(seat, layers),
            None => Ok(Vec::new()),
        };
        let Some(init) = self.inits.get_mut(&held.pid) else {
            return step("hold", Err(io::Error::from_raw_os_error(libc::ESRCH)));
        };
        let settled = layers.and_then(|layers| {
            step("limits", init.group.limit(limits))?;
            step("give the layers", held.layers(&layers))?;
            let mut fds = vec![payload.as_fd(), channel.as_fd()];
            fds.extend(code.iter().map(AsFd::as_fd));
            step("settle", held.settle(&fds))
        });
        if let Err(error) = settled {
            // Its end is noticed like any other's, and as nobody's told to no one.
            sys::kill(held.pid, libc::SIGKILL);
            return Err(error);
        }
        init.slot = Some(slot);
        let mut out = vec![held.pidfd.as_fd()];
        out.extend(
            outlet
                .iter()
                .flat_map(|o| [o.door.as_fd(), o.names.as_fd()]),
        );
        out.extend(doors.iter().map(AsFd::as_fd));
        let started = Tell::Started {
            slot,
            id: self.entered.foreign_id(self.setup.uid_base, init.seat),
            groups: init.group.dirs(),
            outlet: outlet.is_some(),
            made_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        step("answer", tell(&self.socket, &started, &out))
    }

    /// A held sandbox from the stock, or one made now.
    fn take(&mut self, host_network: bool) -> Result<Ready, StepError> {
        self.stock.is_wanted();
        if !host_network {
            while let Some(ready) = self.stock.take() {
                // It may have been killed meanwhile, by whatever was in want of memory.
                if self.inits.contains_key(&ready.held.pid) {
                    return Ok(ready);
                }
            }
        }
        let network = if host_network {
            None
        } else {
            Some(match self.stock.take_network() {
                Some(network) => network,
                None => step("network namespace", self.networks.make())?,
            })
        };
        let group = match self.stock.take_group() {
            Some(group) => group,
            None => step("control group", self.tree.group())?,
        };
        self.hold(network, group)
    }

    fn hold(&mut self, made: Option<Made>, mut group: Group) -> Result<Ready, StepError> {
        let seat = self.seats.take();
        let (network, outlet) = match made {
            Some(Made { network, outlet }) => (Some(network), outlet),
            None => (None, None),
        };
        let made = step("control group", group.doors()).and_then(|doors| {
            let plan = sandbox::Plan {
                network,
                doors: &doors,
                base: &self.base,
                outer_id: self.entered.sandbox_id(self.setup.uid_base, seat),
                watched: self.watched,
            };
            let held = sandbox::hold(&plan)?;
            Ok(Ready {
                held,
                doors,
                outlet,
            })
        });
        match &made {
            Ok(Ready { held, .. }) => {
                let slot = None;
                self.inits.insert(held.pid, Init { slot, group, seat });
            }
            Err(_) => {
                self.seats.give_back(seat);
                if !group.remove() {
                    self.stale.push(group);
                }
            }
        }
        made
    }

    /// Makes one thing of what the next sandbox will want: a piece at a time, so that who asks meanwhile waits for a piece.
    fn refill(&mut self) {
        let made = match self.stock.wants() {
            Wants::Nothing => return,
            Wants::Network => self
                .networks
                .make()
                .map(|n| self.stock.put_network(n))
                .is_ok(),
            Wants::Group => self.tree.group().map(|g| self.stock.put_group(g)).is_ok(),
            Wants::Held(network, group) => match self.hold(Some(network), group) {
                Ok(ready) => {
                    self.stock.put(ready);
                    true
                }
                Err(_) => false,
            },
        };
        if !made {
            self.stock.failed();
        }
    }

    /// Starts a zygote: our own code without any tenant's, in the launcher's own namespaces.
    fn zygote(&mut self, number: u64, argv: &[String], fds: Vec<OwnedFd>) -> io::Result<OwnedFd> {
        let mut fds = fds.into_iter();
        let (Some(socket), Some(stderr), [program, arguments @ ..]) =
            (fds.next(), fds.next(), argv)
        else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        // SAFETY: runs in the forked child of a process with one thread and only makes system calls.
        unsafe {
            command.pre_exec(move || {
                sys::reset_signals();
                sys::dup_onto(socket.as_fd(), 3)
            });
        }
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        self.zygotes.insert(pid, number);
        let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
        Ok(rustix::process::pidfd_open(
            pid,
            rustix::process::PidfdFlags::empty(),
        )?)
    }

    fn reap(&mut self) -> io::Result<()> {
        while let sys::Reaped::Child { pid, code, signal } = sys::reap() {
            if let Some(Init {
                slot,
                mut group,
                seat,
            }) = self.inits.remove(&pid)
            {
                let reading = cgroup::read(&group.dirs());
                if !group.remove() {
                    self.stale.push(group);
                }
                self.seats.give_back(seat);
                let Some(slot) = slot else {
                    // One that waited and was killed: its place in the stock is found empty when it is wanted.
                    continue;
                };
                self.early.remove(&slot);
                let last = LastWords {
                    oom_kills: reading.oom_kills,
                    fork_refusals: reading.fork_refusals,
                    cpu_us: reading.cpu_us.unwrap_or_default(),
                    memory_peak: reading.memory_peak.unwrap_or_default(),
                };
                tell(&self.socket, &Tell::Gone { slot, last }, &[])?;
            } else if let Some(number) = self.zygotes.remove(&pid) {
                let error = match (code, signal) {
                    (Some(code), _) => format!("exited with code {code}"),
                    (_, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
                };
                tell(&self.socket, &Tell::ZygoteEnded { number, error }, &[])?;
            } else {
                tell(&self.socket, &Tell::Orphan { pid, code, signal }, &[])?;
            }
        }
        Ok(())
    }

    /// Ends everything. Waits for the kernel: it has nothing else to do, and nobody else would remove the groups.
    fn clean_up(&mut self) {
        for &pid in self.inits.keys().chain(self.zygotes.keys()) {
            sys::kill(pid, libc::SIGKILL);
        }
        while !self.inits.is_empty() || !self.zygotes.is_empty() {
            match sys::reap() {
                sys::Reaped::Child { pid, .. } => {
                    self.zygotes.remove(&pid);
                    if let Some(init) = self.inits.remove(&pid) {
                        self.stale.push(init.group);
                    }
                }
                sys::Reaped::NoneYet => {
                    let mut fds = [PollFd::new(&self.signals, PollFlags::IN)];
                    let _ = rustix::event::poll(&mut fds, None);
                    sys::drain_signals(&self.signals);
                }
                sys::Reaped::NoChildren => break,
            }
        }
        self.stale.extend(self.stock.take_group());
        // A group can be busy for a moment after its last process was reaped.
        for _ in 0..50 {
            self.stale.retain_mut(|group| !group.remove());
            if self.stale.is_empty() {
                break;
            }
            let _ = rustix::event::poll(
                &mut [],
                Some(&rustix::event::Timespec {
                    tv_sec: 0,
                    tv_nsec: RETRY_MS * 1_000_000,
                }),
            );
        }
        self.tree.remove();
    }
}

/// Whether this path is a folder that we may see.
fn is_dir(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.is_dir())
}
