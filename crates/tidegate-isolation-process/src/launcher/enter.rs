//! How the launcher gets to where it can make sandboxes: as root at once, as an ordinary user through a user namespace
//! in which it is root. From then on both run the same code, and what is not permitted is written into the report.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::Signal;
use rustix::thread::CapabilitySet;

use super::watch::Watched;
use super::{NAME, STAGE, StepError, base::Base, step};
use crate::cgroup::{Controller, Found, Tree};
use crate::fence::{self, Reach};
use crate::options::{Cgroups, Options};
use crate::protocol::Setup;
use crate::report::{Report, State};
use crate::sys;

/// Oldest kernel with all the calls that are used: `mount_setattr` came last, after `close_range`, `CLONE_PIDFD` and
/// `setns` by pidfd.
const OLDEST_KERNEL: (u32, u32) = (5, 12);

/// From here on a process limit counts per user namespace, so it can stand in for a missing control group.
const NPROC_PER_NAMESPACE: (u32, u32) = (5, 14);

/// Carries what the first stage found to the second.
const PREPARED: &str = "TIDEGATE_LAUNCHER_PREPARED";

/// Where the launcher came in.
pub(super) struct Entered {
    pub(super) report: Report,
    /// Whether other user ids than our own may be taken.
    many_ids: bool,
}

impl Entered {
    /// The user and group id of a sandbox, as the launcher's own namespace numbers them.
    pub(super) fn sandbox_id(&self, base: u32, slot: u32) -> u32 {
        self.foreign_id(base, slot)
            .unwrap_or_else(|| rustix::process::geteuid().as_raw())
    }

    /// That id where it is not our own.
    pub(super) fn foreign_id(&self, base: u32, slot: u32) -> Option<u32> {
        self.many_ids.then(|| base + slot)
    }
}

/// The socket to the server, which arrives as standard input, since that needs no code between fork and exec.
pub(super) fn take_socket() -> io::Result<OwnedFd> {
    // A session of our own, so that a terminal's Ctrl-C reaches the server alone, which then drains.
    let _ = rustix::process::setsid();
    sys::close_range(3, i32::MAX)?;
    // SAFETY: the launcher was started with it and has not touched it yet.
    let stdin = unsafe { sys::adopt(0) };
    let socket = rustix::io::fcntl_dupfd_cloexec(&stdin, 10)?;
    let null = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    // It was opened as the lowest free descriptor, above 2: standard input is still the socket here.
    sys::dup_onto(null.as_fd(), 0)?;
    sys::dup_onto(null.as_fd(), 1)?;
    // Standard input stays, as the null device.
    std::mem::forget(stdin);
    Ok(socket)
}

/// The limits' part, which has to happen where process numbers are the machine's own.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Prepared {
    pub(super) setup: Option<Setup>,
    pub(super) tree: Tree,
    refused: Vec<(Controller, String)>,
}

impl Prepared {
    /// Finds the control groups and makes the server's own.
    pub(super) fn new(setup: Setup) -> Self {
        let root = std::path::Path::new("/");
        let all = |why: String| {
            let refused = Controller::ALL.map(|c| (c, why.clone())).into();
            (Tree::default(), refused)
        };
        let (tree, refused) = match setup.cgroups {
            Cgroups::Off => all("switched off by configuration".to_owned()),
            Cgroups::Machine => match Found::discover(root) {
                Ok(found) => Tree::make(
                    &found,
                    root,
                    setup.server_pid,
                    &[setup.server_pid, std::process::id()],
                ),
                Err(error) => all(error.to_string()),
            },
        };
        Self {
            setup: Some(setup),
            tree,
            refused,
        }
    }
}

/// Whether this is the second stage: root inside a user namespace.
pub(super) fn is_second_stage() -> bool {
    std::env::var_os(STAGE).is_some_and(|s| s == "2")
}

/// Whether namespaces may be made as we are.
pub(super) fn is_capable() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|c| c.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// An ordinary user's way: a user namespace in which we are root, and a pid namespace that belongs to it, since a zygote
/// may only come back to a pid namespace over which it has rights. The second stage is the first process in it, and a new
/// image, since only then may zygotes look at the inits it forks. We wait for it and end as it ended, so this comes back only with what was refused.
pub(super) fn enter_as_user(
    socket: OwnedFd,
    prepared: &Prepared,
) -> io::Result<(Report, OwnedFd, StepError)> {
    if let Err(error) = become_root_inside() {
        let mut report = Report::default();
        report.note(
            "user namespaces",
            State::Missing,
            format!(
                "an ordinary user may not make one ({}: {}); set kernel.unprivileged_userns_clone=1 and \
                 user.max_user_namespaces above 0, or start the server as root",
                error.step,
                io::Error::from_raw_os_error(error.errno)
            ),
        );
        return Ok((report, socket, error));
    }
    let mut child = Command::new("/proc/self/exe")
        .arg0(NAME)
        .env_clear()
        .env(STAGE, "2")
        .env(PREPARED, serde_json::to_string(prepared)?)
        .stdin(socket)
        .spawn()?;
    // The socket went with the command: when the server's end closes, nobody else holds ours.
    let status = child.wait()?;
    std::process::exit(status.code().unwrap_or(1))
}

/// What the first stage found out.
pub(super) fn handed_on() -> io::Result<Prepared> {
    let text = std::env::var(PREPARED).map_err(io::Error::other)?;
    Ok(serde_json::from_str(&text)?)
}

/// Enters the mount namespace and looks at the machine. The error means that it does not let us.
pub(super) fn enter() -> Result<Entered, (Report, StepError)> {
    let second = is_second_stage();
    let mut report = Report::default();
    let kernel = kernel_version();
    if kernel < OLDEST_KERNEL {
        let found = format!(
            "{}.{}; at least {}.{} is needed, for pidfds and read-only mounts",
            kernel.0, kernel.1, OLDEST_KERNEL.0, OLDEST_KERNEL.1
        );
        report.note("kernel", State::Missing, found);
        return Err((
            report,
            StepError {
                step: "kernel version".to_owned(),
                errno: libc::ENOSYS,
            },
        ));
    }
    report.note(
        "kernel",
        State::Ok,
        format!("{}.{}, has pidfds", kernel.0, kernel.1),
    );
    let many_ids = !second && maps_all_ids();
    report.note(
        "user namespaces",
        if many_ids { State::Ok } else { State::Degraded },
        if many_ids {
            "each sandbox runs as a user id of its own"
        } else {
            "sandboxes run as the server's own user, apart by their namespaces; root gives each an id of its own"
        },
    );
    // In the second stage the parent only waits for us: when it is killed, so are we, and all that we started.
    let when_alone = if second { Signal::KILL } else { Signal::TERM };
    let entered = step(
        "adopt orphans",
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())),
    )
    .and_then(|()| {
        step(
            "death signal",
            rustix::process::set_parent_process_death_signal(Some(when_alone)),
        )
    })
    .and_then(|()| step("mount namespace", sys::unshare(libc::CLONE_NEWNS)))
    .and_then(|()| {
        step(
            "private mounts",
            mount_change(
                "/",
                MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
            ),
        )
    });
    if let Err(error) = entered {
        report.note(
            "namespaces",
            State::Missing,
            format!(
                "{}: {}",
                error.step,
                io::Error::from_raw_os_error(error.errno)
            ),
        );
        return Err((report, error));
    }
    report.note("namespaces", State::Ok, "mount, pid, ipc, uts and network");
    if !has_seccomp() {
        report.note("seccomp", State::Missing, "this kernel has no filters");
        let errno = libc::ENOSYS;
        let step = "seccomp".to_owned();
        return Err((report, StepError { step, errno }));
    }
    report.note(
        "seccomp",
        State::Ok,
        "unknown calls answer ENOSYS, bad ones EPERM",
    );
    report.note("landlock", State::Ok, landlock(fence::version()));
    Ok(Entered { report, many_ids })
}

/// Not what a function depends on: the mount namespace shows it nothing that it may not read.
fn landlock(version: i32) -> String {
    if fence::rules(Reach::Everywhere).is_none() {
        return "absent, and the first fence stands without it: the mount namespace".to_owned();
    }
    format!("version {version}, a second fence around files, devices and signals")
}

/// A user namespace in which we are root and nobody else exists, and a pid namespace for our children.
fn become_root_inside() -> Result<(), StepError> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    step("user namespace", sys::unshare(libc::CLONE_NEWUSER))?;
    step("setgroups", fs::write("/proc/self/setgroups", "deny"))?;
    step(
        "uid map",
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")),
    )?;
    step(
        "gid map",
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")),
    )?;
    step("pid namespace", sys::unshare(libc::CLONE_NEWPID))
}

/// Says who holds which limit. Gives back what inits watch.
pub(super) fn limits(prepared: &Prepared, base: &Base, report: &mut Report) -> Watched {
    let Prepared { tree, refused, .. } = prepared;
    let why = |controller| {
        refused
            .iter()
            .find(|(c, _)| *c == controller)
            .map_or("", |(_, why)| why.as_str())
    };
    let watchdog = !tree.has(Controller::Memory);
    match (watchdog, base.has_proc) {
        (false, _) => report.note("memory limit", State::Ok, "held by a control group"),
        (true, true) => report.note(
            "memory limit",
            State::Degraded,
            format!("a watchdog looks every 50 ms ({})", why(Controller::Memory)),
        ),
        (true, false) => report.note(
            "memory limit",
            State::Missing,
            format!(
                "no control group and no /proc ({})",
                why(Controller::Memory)
            ),
        ),
    }
    let cpu = !tree.has(Controller::Cpu);
    match (cpu, base.has_proc) {
        (false, _) => report.note("cpu limit", State::Ok, "held by a control group"),
        (true, true) => report.note(
            "cpu limit",
            State::Degraded,
            format!(
                "a watchdog stops who takes more, many times a second ({})",
                why(Controller::Cpu)
            ),
        ),
        (true, false) => report.note(
            "cpu limit",
            State::Missing,
            format!("no control group and no /proc ({})", why(Controller::Cpu)),
        ),
    }
    let nproc = !tree.has(Controller::Pids);
    if !nproc {
        report.note("process limit", State::Ok, "held by a control group");
    } else if kernel_version() >= NPROC_PER_NAMESPACE {
        report.note(
            "process limit",
            State::Ok,
            format!(
                "RLIMIT_NPROC in the sandbox's user namespace ({})",
                why(Controller::Pids)
            ),
        );
    } else {
        report.note(
            "process limit",
            State::Missing,
            format!("kernel before 5.14 ({})", why(Controller::Pids)),
        );
    }
    if tree.accounts_cpu() {
        report.note(
            "accounting",
            State::Ok,
            "processor time and peak memory by control group",
        );
    } else {
        report.note(
            "accounting",
            State::Degraded,
            format!("of the main process only ({})", why(Controller::CpuAccount)),
        );
    }
    Watched {
        memory: watchdog && base.has_proc,
        cpu: cpu && base.has_proc,
        processes: nproc && kernel_version() >= NPROC_PER_NAMESPACE,
    }
}

/// Whether the server is still our parent.
pub(super) fn parent_is(pid: u32) -> bool {
    rustix::process::getppid().is_some_and(|p| p.as_raw_nonzero().get().cast_unsigned() == pid)
}

/// Whether the ids that sandboxes take exist here: not so for root inside somebody's container.
fn maps_all_ids() -> bool {
    let needed = u64::from(Options::UID_BASE) + u64::from(Options::MAX_SANDBOXES);
    let covers = |file: &str| {
        fs::read_to_string(file).is_ok_and(|map| {
            map.lines().any(|line| {
                let mut numbers = line
                    .split_whitespace()
                    .filter_map(|n| n.parse::<u64>().ok());
                matches!(
                    (numbers.next(), numbers.next(), numbers.next()),
                    (Some(0), Some(_), Some(count)) if count >= needed
                )
            })
        })
    };
    covers("/proc/self/uid_map") && covers("/proc/self/gid_map")
}

pub(super) fn kernel_version() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn has_seccomp() -> bool {
    fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").is_ok_and(|a| a.contains("errno"))
}

/// A path for the kernel.
pub(super) fn c_path(path: &std::path::Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}
