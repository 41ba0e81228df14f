//! The kernel calls that no safe wrapper has: process creation, closing ranges of descriptors, signal descriptors.
//!
//! Everything else goes through `rustix`. What is here is called by the launcher and the init alone, which have one
//! thread, so memory may be allocated after a fork.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Which side of a [`fork_into`] we are on.
pub(crate) enum Fork {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

/// Forks with these namespace flags. The pidfd is made by the same call, so it cannot mean another process.
pub(crate) fn fork_into(flags: libc::c_int) -> io::Result<Fork> {
    let mut pidfd: libc::c_int = -1;
    let flags = flags | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with a null stack this is a fork: the child goes on with a copy of our memory. The
    // third argument is the place for the pidfd on every architecture; the others are null, in whatever order.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::c_long::from(flags),
            0_usize,
            &raw mut pidfd,
            0_usize,
            0_usize,
        )
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent {
            pid: i32::try_from(pid).map_err(io::Error::other)?,
            // SAFETY: the kernel has just made this descriptor for us, and nothing else knows it.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// Tries something in a process of its own with these new namespaces, in which it stays without consequences.
pub(crate) fn attempt(
    flags: libc::c_int,
    try_it: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    match fork_into(flags)? {
        Fork::Child => {
            let errno = |error: io::Error| error.raw_os_error().unwrap_or(libc::EIO);
            exit_now(try_it().err().map_or(0, errno));
        }
        Fork::Parent { pidfd, .. } => {
            let status = rustix::process::waitid(
                rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)),
                rustix::process::WaitIdOptions::EXITED,
            )?;
            match status.and_then(|s| s.exit_status()) {
                Some(0) => Ok(()),
                Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                None => Err(io::ErrorKind::Other.into()),
            }
        }
    }
}

/// Closes all descriptors from `first` to `last`.
pub(crate) fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    // SAFETY: the callers have just become the only code of their process, and own none of these descriptors any more.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    check(done)
}

/// Makes `target` mean what `fd` means, and keeps it across exec.
pub(crate) fn dup_onto(fd: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == target {
        // SAFETY: clears a flag of a descriptor that we hold.
        return check(unsafe { libc::c_long::from(libc::fcntl(target, libc::F_SETFD, 0)) });
    }
    // SAFETY: whatever `target` was is given up by the caller.
    check(unsafe { libc::c_long::from(libc::dup2(fd.as_raw_fd(), target)) })
}

/// A descriptor of our process by number, for one that was inherited.
///
/// # Safety
/// The descriptor is open and nothing else owns it.
pub(crate) unsafe fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller's promise.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Blocks these signals and makes a descriptor that becomes readable when one is pending.
pub(crate) fn signal_descriptor(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by `sigemptyset` before it is used, and the calls take only its address.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Takes the pending signals off the descriptor and says which they were.
pub(crate) fn drain_signals(fd: &OwnedFd) -> Vec<u32> {
    const SIZE: usize = size_of::<libc::signalfd_siginfo>();
    let mut seen = Vec::new();
    let mut info = [0_u8; SIZE];
    while let Ok(SIZE) = rustix::io::read(fd, &mut info) {
        // The number is the first field.
        seen.push(u32::from_ne_bytes([info[0], info[1], info[2], info[3]]));
    }
    seen
}

/// Unblocks every signal and gives those that a parent may have ignored their default meaning back.
pub(crate) fn reset_signals() {
    // SAFETY: sets dispositions of our own single thread, to the default.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::signal(libc::SIGINT, libc::SIG_DFL);
        libc::signal(libc::SIGHUP, libc::SIG_DFL);
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Kills every process that we may signal but ourselves and, inside a pid namespace, all of it: the kernel does it in
/// one sweep under its own lock, so a fork bomb cannot outrun it.
pub(crate) fn kill_all() {
    signal_all(libc::SIGKILL);
}

/// The same with another signal. One that stops takes all of them too: a fork begins anew when a signal waits.
pub(crate) fn signal_all(signal: libc::c_int) {
    // SAFETY: called only as process 1 of a namespace, so -1 means the namespace.
    unsafe { libc::kill(-1, signal) };
}

/// Processor time that a process has used by itself, as the scheduler counts it.
pub(crate) fn cpu_of(pid: i32) -> Option<Duration> {
    /// The kind of clock, in the lowest bits of its number.
    const SCHEDULED: libc::clockid_t = 2;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` outlives the call.
    let result = unsafe { libc::clock_gettime(!pid << 3 | SCHEDULED, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanos = u32::try_from(time.tv_nsec).ok()?;
    (result == 0).then(|| Duration::new(seconds, nanos))
}

/// Asks for the processor in short slices, so that it is had soon: for who has little to do and must not come late. What
/// is forked asks for nothing. Kernels before 6.12 know only the usual slices, and take no notice.
pub(crate) fn short_slices() {
    /// The shortest that the kernel gives, in nanoseconds.
    const SLICE: u64 = 100_000;
    const RESET_ON_FORK: u64 = 1;
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attributes = Attributes {
        size: 48,
        policy: libc::SCHED_OTHER.cast_unsigned(),
        flags: RESET_ON_FORK,
        nice: 0,
        priority: 0,
        runtime: SLICE,
        deadline: 0,
        period: 0,
    };
    // SAFETY: the structure is of the size that it names, and the kernel only reads it. A refusal changes nothing.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

/// Processor time of all children that we have waited for, and of those that they waited for.
pub(crate) fn reaped_cpu() -> Duration {
    // SAFETY: plain numbers, which the call fills in.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let time = |t: libc::timeval| {
        Duration::from_secs(u64::try_from(t.tv_sec).unwrap_or_default())
            + Duration::from_micros(u64::try_from(t.tv_usec).unwrap_or_default())
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Sends a signal to a process, or with a negative number to a process group.
pub(crate) fn kill(pid: i32, signal: libc::c_int) {
    debug_assert!(pid != -1 && pid != 0, "everything is never meant");
    // SAFETY: no memory is involved; the callers hold the number of a child that they have not reaped.
    unsafe { libc::kill(pid, signal) };
}

/// One child that ended, if any: its number, exit code or signal.
pub(crate) fn reap() -> Reaped {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    match pid {
        0 => Reaped::NoneYet,
        pid if pid > 0 => Reaped::Child {
            pid,
            code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
            signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
        },
        _ => Reaped::NoChildren,
    }
}

/// What [`reap`] found.
pub(crate) enum Reaped {
    Child {
        pid: i32,
        code: Option<i32>,
        signal: Option<i32>,
    },
    NoneYet,
    NoChildren,
}

/// Leaves the shared namespaces in `flags` for new ones.
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the flags are namespaces only, never the descriptor table, so no descriptor changes its meaning.
    check(unsafe { libc::c_long::from(libc::unshare(flags)) })
}

/// Enters a namespace.
pub(crate) fn setns(fd: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: as for `unshare`.
    check(unsafe { libc::c_long::from(libc::setns(fd.as_raw_fd(), kind)) })
}

/// Sets mount attributes on a mount, or a tree of them. Unlike a remount it leaves the others as they are, which is what
/// an ordinary user needs: flags that the machine set may not be cleared.
pub(crate) fn mount_set(path: &CStr, recursive: bool, attributes: u64) -> io::Result<()> {
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    mount_setattr(libc::AT_FDCWD, path, flags, attributes, None)
}

/// The same for a mount that hangs nowhere yet.
pub(crate) fn detached_mount_set(mount: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    mount_setattr(
        mount.as_raw_fd(),
        c"",
        libc::AT_EMPTY_PATH,
        attributes,
        None,
    )
}

/// Shows the files of a mount that hangs nowhere yet under other ids: what this user namespace maps inside to outside is
/// what the mount maps from the disk's ids to those seen. `InvalidInput` where the file system cannot.
pub(crate) fn detached_mount_map(mount: BorrowedFd<'_>, ids: BorrowedFd<'_>) -> io::Result<()> {
    mount_setattr(
        mount.as_raw_fd(),
        c"",
        libc::AT_EMPTY_PATH,
        libc::MOUNT_ATTR_IDMAP,
        Some(ids),
    )
}

fn mount_setattr(
    folder: RawFd,
    path: &CStr,
    flags: libc::c_int,
    set: u64,
    ids: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attr = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: ids.map_or(0, |fd| u64::from(fd.as_raw_fd().cast_unsigned())),
    };
    // SAFETY: path and attribute outlive the call, and the size given is the attribute's.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            folder,
            path.as_ptr(),
            flags,
            &raw mut attr,
            size_of::<libc::mount_attr>(),
        )
    };
    check(done)
}

/// Installs a seccomp program on this thread, for good. Needs `no_new_privs`.
pub(crate) fn seccomp(program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog {
        len,
        // The kernel copies the program and does not write to it.
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the program outlives the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0_usize,
            &raw const program,
        )
    };
    check(done)
}

/// Brings the loopback device of the current network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: an all-zero `ifreq` is valid; the name fits; the calls read and write it during the call only.
    unsafe {
        let mut request = std::mem::zeroed::<libc::ifreq>();
        request.ifr_name[0] = libc::c_char::from_ne_bytes([b'l']);
        request.ifr_name[1] = libc::c_char::from_ne_bytes([b'o']);
        request.ifr_ifru.ifru_flags =
            libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(libc::c_short::MAX);
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Lets a socket stand at addresses that are not the namespace's own, and take what the packet filter hands it.
pub(crate) fn transparent(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value outlives the call, and the size given is its own.
    check(libc::c_long::from(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_TRANSPARENT,
            (&raw const on).cast(),
            libc::socklen_t::try_from(size_of_val(&on)).unwrap_or(4),
        )
    }))
}

/// Drops everything from the bounding set. What the kernel does not know yet ends the loop.
pub(crate) fn drop_bounding_set() {
    for capability in 0..64_usize {
        // SAFETY: no memory is involved.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            break;
        }
    }
}

/// Sets a resource limit, soft and hard alike, or lower where the hard limit is lower already.
pub(crate) fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let mut now = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structures outlive the calls.
    unsafe {
        if libc::getrlimit(resource.number(), &raw mut now) != 0 {
            return Err(io::Error::last_os_error());
        }
        now.rlim_max = now.rlim_max.min(value);
        now.rlim_cur = now.rlim_max;
        check(libc::c_long::from(libc::setrlimit(
            resource.number(),
            &raw const now,
        )))
    }
}

/// Lowers a resource limit of another process of the same user.
pub(crate) fn limit_of(pid: i32, resource: Resource, value: u64) -> io::Result<()> {
    let new = libc::rlimit {
        rlim_cur: value,
        rlim_max: value,
    };
    // SAFETY: the structure outlives the call; where to put the old limit is null, and nothing is put there.
    check(libc::c_long::from(unsafe {
        libc::prlimit(pid, resource.number(), &raw const new, std::ptr::null_mut())
    }))
}

/// The limits we set.
#[derive(Clone, Copy)]
pub(crate) enum Resource {
    Files,
    Core,
    FileSize,
    Processes,
}

// The C libraries disagree about the type.
#[cfg(target_env = "musl")]
type ResourceNumber = libc::c_int;
#[cfg(not(target_env = "musl"))]
type ResourceNumber = libc::__rlimit_resource_t;

impl Resource {
    fn number(self) -> ResourceNumber {
        match self {
            Self::Files => libc::RLIMIT_NOFILE,
            Self::Core => libc::RLIMIT_CORE,
            Self::FileSize => libc::RLIMIT_FSIZE,
            Self::Processes => libc::RLIMIT_NPROC,
        }
    }
}

/// The kernel's version of Landlock; 0 where it has none.
pub(crate) fn landlock_version() -> i32 {
    /// Asks for the version and makes nothing.
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag no memory is read.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0_usize, 0_usize, VERSION) };
    i32::try_from(version).unwrap_or(0).max(0)
}

/// A set of Landlock rules without a rule; everything that `attributes` names is refused by it.
pub(crate) fn landlock_rules(attributes: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads as many bytes as it is told; the descriptor that it makes is ours alone.
    unsafe {
        let fd = libc::syscall(
            libc::SYS_landlock_create_ruleset,
            attributes.as_ptr(),
            attributes.len(),
            0_u32,
        );
        check(fd)?;
        Ok(OwnedFd::from_raw_fd(
            RawFd::try_from(fd).map_err(io::Error::other)?,
        ))
    }
}

/// Allows these rights beneath a folder.
pub(crate) fn landlock_allow(
    rules: BorrowedFd<'_>,
    rights: u64,
    folder: BorrowedFd<'_>,
) -> io::Result<()> {
    /// A rule about what is beneath a path.
    const PATH_BENEATH: libc::c_uint = 1;
    // The kernel's structure is packed: eight bytes and four.
    let mut rule = [0_u8; 12];
    rule[..8].copy_from_slice(&rights.to_ne_bytes());
    rule[8..].copy_from_slice(&folder.as_raw_fd().to_ne_bytes());
    // SAFETY: the rule outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            rules.as_raw_fd(),
            PATH_BENEATH,
            rule.as_ptr(),
            0_u32,
        )
    })
}

/// Puts the calling thread behind these rules, for good. Allocates nothing.
pub(crate) fn landlock_enter(rules: RawFd, flags: u32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules, flags) })
}

/// Bytes of a page.
pub(crate) fn page_size() -> u64 {
    // SAFETY: no memory is involved.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Ends the process without running anything of ours.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: never returns, touches no memory.
    unsafe { libc::_exit(code) }
}

pub(crate) fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
