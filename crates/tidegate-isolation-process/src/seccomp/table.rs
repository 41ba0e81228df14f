//! The table: which calls are good, which are bad, and why, by group.

use std::collections::BTreeMap;

use super::{Answer, How, Test, Then};

use libc::{self as sys, c_long};

const EPERM: i32 = libc::EPERM;
const NO_FAMILY: i32 = libc::EAFNOSUPPORT;

/// Namespaces. The same bits in `clone` and `unshare`.
const NAMESPACES: u32 = (sys::CLONE_NEWNS
    | sys::CLONE_NEWUTS
    | sys::CLONE_NEWIPC
    | sys::CLONE_NEWUSER
    | sys::CLONE_NEWPID
    | sys::CLONE_NEWNET
    | sys::CLONE_NEWCGROUP)
    .cast_unsigned();

/// The time namespace shares its bit with a part of `clone`'s signal number, so only `unshare` can be asked for it.
const NEWTIME: u32 = 0x80;

/// Puts a character into a terminal's input: the way out of a sandbox that shares a terminal.
const TIOCSTI: u32 = 0x5412;
/// Pastes into a virtual console, the same trick.
const TIOCLINUX: u32 = 0x541c;

/// All processes of a user, of which process 1 is one, where calls take several kinds of whom.
const WHOLE_USER: u32 = 2;
const DISK_WHOLE_USER: u32 = 3;

const PROCESS_1: u32 = 1;

/// A question, and no change.
const PERSONALITY_QUERY: u32 = u32::MAX;

const ALLOW: Answer = Answer::Allow;
const DENY: Answer = Answer::Errno(EPERM);
const NO_SUCH_FAMILY: Answer = Answer::Errno(NO_FAMILY);

/// The first argument is a process, and 0 is the caller.
const ITSELF: Answer = Answer::Check(&[equals(0, 0, Then::Allow)], &DENY);

/// Calls whose answer depends on an argument.
const CHECKED: &[(c_long, Answer)] = &[
    (
        sys::SYS_clone,
        Answer::Check(&[any(0, NAMESPACES, Then::Errno(EPERM))], &ALLOW),
    ),
    (
        sys::SYS_unshare,
        Answer::Check(&[any(0, NAMESPACES | NEWTIME, Then::Errno(EPERM))], &ALLOW),
    ),
    // Unix, IPv4 and IPv6; of netlink only the routing protocol, which `getaddrinfo` and `getifaddrs` ask. Raw packets,
    // the kernel's crypto, virtual machine sockets and the long tail of families have been a source of holes.
    (
        sys::SYS_socket,
        Answer::Check(
            &[
                equals(0, sys::AF_UNIX.cast_unsigned(), Then::Allow),
                equals(0, sys::AF_INET.cast_unsigned(), Then::Allow),
                equals(0, sys::AF_INET6.cast_unsigned(), Then::Allow),
                equals(0, sys::AF_NETLINK.cast_unsigned(), Then::Next),
                equals(2, sys::NETLINK_ROUTE.cast_unsigned(), Then::Allow),
            ],
            &NO_SUCH_FAMILY,
        ),
    ),
    (
        sys::SYS_ioctl,
        Answer::Check(
            &[
                equals(1, TIOCSTI, Then::Errno(EPERM)),
                equals(1, TIOCLINUX, Then::Errno(EPERM)),
            ],
            &ALLOW,
        ),
    ),
    // The same families make pairs, and only one of them can; another would have the kernel load its module to find out.
    (
        sys::SYS_socketpair,
        Answer::Check(
            &[equals(0, sys::AF_UNIX.cast_unsigned(), Then::Allow)],
            &NO_SUCH_FAMILY,
        ),
    ),
    // One's own limits and turns at the processor, and nobody else's: process 1 is the same user, and a program that took
    // its descriptors or its turns would have no end and no watchdog.
    (sys::SYS_prlimit64, ITSELF),
    (sys::SYS_sched_setscheduler, ITSELF),
    (sys::SYS_sched_setparam, ITSELF),
    (sys::SYS_sched_setattr, ITSELF),
    (
        sys::SYS_setpriority,
        Answer::Check(
            &[
                equals(0, WHOLE_USER, Then::Errno(EPERM)),
                equals(1, 0, Then::Allow),
            ],
            &DENY,
        ),
    ),
    (
        sys::SYS_ioprio_set,
        Answer::Check(
            &[
                equals(0, DISK_WHOLE_USER, Then::Errno(EPERM)),
                equals(1, 0, Then::Allow),
            ],
            &DENY,
        ),
    ),
    // Threads are placed by others of their process, by number.
    (
        sys::SYS_sched_setaffinity,
        Answer::Check(&[equals(0, PROCESS_1, Then::Errno(EPERM))], &ALLOW),
    ),
    // Odd personalities turn address randomisation off or map page zero.
    (
        sys::SYS_personality,
        Answer::Check(
            &[
                equals(0, 0, Then::Allow),
                equals(0, PERSONALITY_QUERY, Then::Allow),
            ],
            &DENY,
        ),
    ),
];

/// Known to be bad: each reaches beyond the sandbox, or is a large surface that a function has no use for.
const BAD: &[c_long] = &[
    // The file system tree belongs to the launcher.
    sys::SYS_mount,
    sys::SYS_umount2,
    sys::SYS_pivot_root,
    sys::SYS_chroot,
    sys::SYS_open_tree,
    sys::SYS_move_mount,
    sys::SYS_fsopen,
    sys::SYS_fsconfig,
    sys::SYS_fsmount,
    sys::SYS_fspick,
    sys::SYS_mount_setattr,
    // Handles name files outside of what is mounted.
    sys::SYS_open_by_handle_at,
    sys::SYS_name_to_handle_at,
    // Other namespaces, other processes' memory and descriptors.
    sys::SYS_setns,
    sys::SYS_ptrace,
    sys::SYS_process_vm_readv,
    sys::SYS_process_vm_writev,
    sys::SYS_process_madvise,
    sys::SYS_pidfd_getfd,
    sys::SYS_kcmp,
    // Kernel code and keys.
    sys::SYS_bpf,
    sys::SYS_init_module,
    sys::SYS_finit_module,
    sys::SYS_delete_module,
    sys::SYS_kexec_load,
    sys::SYS_add_key,
    sys::SYS_request_key,
    sys::SYS_keyctl,
    // Wide surfaces with a history: each has been the first step of more than one way out.
    sys::SYS_perf_event_open,
    sys::SYS_io_uring_setup,
    sys::SYS_io_uring_enter,
    sys::SYS_io_uring_register,
    sys::SYS_userfaultfd,
    sys::SYS_fanotify_init,
    sys::SYS_fanotify_mark,
    sys::SYS_lookup_dcookie,
    // The machine as a whole: clock, names, swap, accounting, power, the kernel's log.
    sys::SYS_reboot,
    sys::SYS_swapon,
    sys::SYS_swapoff,
    sys::SYS_acct,
    sys::SYS_quotactl,
    sys::SYS_syslog,
    sys::SYS_vhangup,
    sys::SYS_sethostname,
    sys::SYS_setdomainname,
    sys::SYS_settimeofday,
    sys::SYS_clock_settime,
    sys::SYS_clock_adjtime,
    sys::SYS_adjtimex,
    // All that the machine has not written yet, forced to its disks: every neighbour waits for it. One file's own can be.
    sys::SYS_sync,
    sys::SYS_syncfs,
    // Placing other processes' pages.
    sys::SYS_migrate_pages,
    sys::SYS_move_pages,
];

/// The same, for calls that only this architecture has.
#[cfg(target_arch = "x86_64")]
const BAD_HERE: &[c_long] = &[
    sys::SYS_kexec_file_load,
    sys::SYS_iopl,
    sys::SYS_ioperm,
    sys::SYS_modify_ldt,
    sys::SYS_uselib,
    sys::SYS_ustat,
    sys::SYS_sysfs,
];
#[cfg(target_arch = "aarch64")]
const BAD_HERE: &[c_long] = &[];

/// Memory that no process of the sandbox need show: files without names, and what outlives who made it, segments,
/// semaphores and messages. Unknown where nothing but a watchdog counts what is in use, so that programs fall back to
/// `/dev/shm`, which it sees.
pub(super) const UNSEEN: &[c_long] = &[
    sys::SYS_memfd_create,
    sys::SYS_shmget,
    sys::SYS_semget,
    sys::SYS_msgget,
];

/// Known to be good.
const GOOD: &[c_long] = &[
    // Files and folders.
    sys::SYS_read,
    sys::SYS_write,
    sys::SYS_close,
    sys::SYS_fstat,
    sys::SYS_lseek,
    sys::SYS_pread64,
    sys::SYS_pwrite64,
    sys::SYS_readv,
    sys::SYS_writev,
    sys::SYS_preadv,
    sys::SYS_pwritev,
    sys::SYS_preadv2,
    sys::SYS_pwritev2,
    sys::SYS_openat,
    sys::SYS_openat2,
    sys::SYS_close_range,
    sys::SYS_newfstatat,
    sys::SYS_statx,
    sys::SYS_statfs,
    sys::SYS_fstatfs,
    sys::SYS_faccessat,
    sys::SYS_faccessat2,
    sys::SYS_readlinkat,
    sys::SYS_getdents64,
    sys::SYS_getcwd,
    sys::SYS_chdir,
    sys::SYS_fchdir,
    sys::SYS_mkdirat,
    sys::SYS_mknodat,
    sys::SYS_unlinkat,
    sys::SYS_symlinkat,
    sys::SYS_linkat,
    sys::SYS_renameat,
    sys::SYS_renameat2,
    sys::SYS_fchmod,
    sys::SYS_fchmodat,
    sys::SYS_fchmodat2,
    sys::SYS_fchown,
    sys::SYS_fchownat,
    sys::SYS_utimensat,
    sys::SYS_umask,
    sys::SYS_truncate,
    sys::SYS_ftruncate,
    sys::SYS_fallocate,
    sys::SYS_fadvise64,
    sys::SYS_readahead,
    sys::SYS_fsync,
    sys::SYS_fdatasync,
    sys::SYS_sync_file_range,
    sys::SYS_flock,
    sys::SYS_fcntl,
    sys::SYS_dup,
    sys::SYS_dup3,
    sys::SYS_pipe2,
    sys::SYS_splice,
    sys::SYS_tee,
    sys::SYS_vmsplice,
    sys::SYS_sendfile,
    sys::SYS_copy_file_range,
    sys::SYS_setxattr,
    sys::SYS_lsetxattr,
    sys::SYS_fsetxattr,
    sys::SYS_getxattr,
    sys::SYS_lgetxattr,
    sys::SYS_fgetxattr,
    sys::SYS_listxattr,
    sys::SYS_llistxattr,
    sys::SYS_flistxattr,
    sys::SYS_removexattr,
    sys::SYS_lremovexattr,
    sys::SYS_fremovexattr,
    sys::SYS_memfd_create,
    sys::SYS_inotify_init1,
    sys::SYS_inotify_add_watch,
    sys::SYS_inotify_rm_watch,
    // Waiting, timers, asynchronous input and output of the old kind.
    sys::SYS_ppoll,
    sys::SYS_pselect6,
    sys::SYS_epoll_create1,
    sys::SYS_epoll_ctl,
    sys::SYS_epoll_pwait,
    sys::SYS_epoll_pwait2,
    sys::SYS_eventfd2,
    sys::SYS_signalfd4,
    sys::SYS_timerfd_create,
    sys::SYS_timerfd_settime,
    sys::SYS_timerfd_gettime,
    sys::SYS_io_setup,
    sys::SYS_io_destroy,
    sys::SYS_io_submit,
    sys::SYS_io_cancel,
    sys::SYS_io_getevents,
    sys::SYS_nanosleep,
    sys::SYS_clock_nanosleep,
    sys::SYS_clock_gettime,
    sys::SYS_clock_getres,
    sys::SYS_gettimeofday,
    sys::SYS_getitimer,
    sys::SYS_setitimer,
    sys::SYS_timer_create,
    sys::SYS_timer_settime,
    sys::SYS_timer_gettime,
    sys::SYS_timer_getoverrun,
    sys::SYS_timer_delete,
    sys::SYS_times,
    // Memory.
    sys::SYS_mmap,
    sys::SYS_munmap,
    sys::SYS_mprotect,
    sys::SYS_mremap,
    sys::SYS_msync,
    sys::SYS_mincore,
    sys::SYS_madvise,
    sys::SYS_brk,
    sys::SYS_mlock,
    sys::SYS_mlock2,
    sys::SYS_munlock,
    sys::SYS_mlockall,
    sys::SYS_munlockall,
    sys::SYS_remap_file_pages,
    sys::SYS_mbind,
    sys::SYS_get_mempolicy,
    sys::SYS_set_mempolicy,
    sys::SYS_pkey_mprotect,
    sys::SYS_pkey_alloc,
    sys::SYS_pkey_free,
    sys::SYS_membarrier,
    // Processes, threads, signals.
    sys::SYS_execve,
    sys::SYS_execveat,
    sys::SYS_exit,
    sys::SYS_exit_group,
    sys::SYS_wait4,
    sys::SYS_waitid,
    sys::SYS_kill,
    sys::SYS_tkill,
    sys::SYS_tgkill,
    sys::SYS_rt_sigaction,
    sys::SYS_rt_sigprocmask,
    sys::SYS_rt_sigreturn,
    sys::SYS_rt_sigpending,
    sys::SYS_rt_sigtimedwait,
    sys::SYS_rt_sigqueueinfo,
    sys::SYS_rt_tgsigqueueinfo,
    sys::SYS_rt_sigsuspend,
    sys::SYS_sigaltstack,
    sys::SYS_restart_syscall,
    sys::SYS_pidfd_open,
    sys::SYS_pidfd_send_signal,
    sys::SYS_futex,
    sys::SYS_futex_waitv,
    sys::SYS_set_tid_address,
    sys::SYS_set_robust_list,
    sys::SYS_get_robust_list,
    sys::SYS_rseq,
    sys::SYS_getpid,
    sys::SYS_gettid,
    sys::SYS_getppid,
    sys::SYS_getpgid,
    sys::SYS_setpgid,
    sys::SYS_getsid,
    sys::SYS_setsid,
    sys::SYS_sched_yield,
    sys::SYS_sched_getaffinity,
    sys::SYS_sched_getparam,
    sys::SYS_sched_getscheduler,
    sys::SYS_sched_get_priority_max,
    sys::SYS_sched_get_priority_min,
    sys::SYS_sched_rr_get_interval,
    sys::SYS_sched_getattr,
    sys::SYS_getpriority,
    sys::SYS_ioprio_get,
    sys::SYS_prctl,
    sys::SYS_seccomp,
    sys::SYS_getcpu,
    sys::SYS_getrandom,
    sys::SYS_getrlimit,
    sys::SYS_setrlimit,
    sys::SYS_getrusage,
    sys::SYS_sysinfo,
    sys::SYS_uname,
    // Landlock only ever takes rights away, from the caller.
    sys::SYS_landlock_create_ruleset,
    sys::SYS_landlock_add_rule,
    sys::SYS_landlock_restrict_self,
    // Who am I. Changing is harmless: one user exists, and no capability.
    sys::SYS_getuid,
    sys::SYS_geteuid,
    sys::SYS_getgid,
    sys::SYS_getegid,
    sys::SYS_getgroups,
    sys::SYS_setgroups,
    sys::SYS_getresuid,
    sys::SYS_getresgid,
    sys::SYS_setuid,
    sys::SYS_setgid,
    sys::SYS_setreuid,
    sys::SYS_setregid,
    sys::SYS_setresuid,
    sys::SYS_setresgid,
    sys::SYS_setfsuid,
    sys::SYS_setfsgid,
    sys::SYS_capget,
    sys::SYS_capset,
    // Sockets; which families is checked where one is made.
    sys::SYS_bind,
    sys::SYS_listen,
    sys::SYS_accept,
    sys::SYS_accept4,
    sys::SYS_connect,
    sys::SYS_getsockname,
    sys::SYS_getpeername,
    sys::SYS_sendto,
    sys::SYS_recvfrom,
    sys::SYS_setsockopt,
    sys::SYS_getsockopt,
    sys::SYS_shutdown,
    sys::SYS_sendmsg,
    sys::SYS_recvmsg,
    sys::SYS_sendmmsg,
    sys::SYS_recvmmsg,
    // System V and POSIX messages, shared memory, semaphores: in an IPC namespace of their own.
    sys::SYS_shmget,
    sys::SYS_shmctl,
    sys::SYS_shmat,
    sys::SYS_shmdt,
    sys::SYS_semget,
    sys::SYS_semop,
    sys::SYS_semctl,
    sys::SYS_semtimedop,
    sys::SYS_msgget,
    sys::SYS_msgsnd,
    sys::SYS_msgrcv,
    sys::SYS_msgctl,
    sys::SYS_mq_open,
    sys::SYS_mq_unlink,
    sys::SYS_mq_timedsend,
    sys::SYS_mq_timedreceive,
    sys::SYS_mq_notify,
    sys::SYS_mq_getsetattr,
];

/// The old spellings, which newer architectures never had.
#[cfg(target_arch = "x86_64")]
const GOOD_HERE: &[c_long] = &[
    sys::SYS_open,
    sys::SYS_creat,
    sys::SYS_stat,
    sys::SYS_lstat,
    sys::SYS_access,
    sys::SYS_readlink,
    sys::SYS_getdents,
    sys::SYS_mkdir,
    sys::SYS_rmdir,
    sys::SYS_mknod,
    sys::SYS_unlink,
    sys::SYS_symlink,
    sys::SYS_link,
    sys::SYS_rename,
    sys::SYS_chmod,
    sys::SYS_chown,
    sys::SYS_lchown,
    sys::SYS_utime,
    sys::SYS_utimes,
    sys::SYS_futimesat,
    sys::SYS_dup2,
    sys::SYS_pipe,
    sys::SYS_poll,
    sys::SYS_select,
    sys::SYS_epoll_create,
    sys::SYS_epoll_wait,
    sys::SYS_eventfd,
    sys::SYS_signalfd,
    sys::SYS_inotify_init,
    sys::SYS_fork,
    sys::SYS_vfork,
    sys::SYS_arch_prctl,
    sys::SYS_set_thread_area,
    sys::SYS_get_thread_area,
    sys::SYS_time,
    sys::SYS_alarm,
    sys::SYS_pause,
    sys::SYS_getpgrp,
];
#[cfg(target_arch = "aarch64")]
const GOOD_HERE: &[c_long] = &[];

/// All of it by call number. `watched`: nothing but a watchdog counts memory.
pub(super) fn rules(watched: bool) -> BTreeMap<u32, Answer> {
    let number = |call: c_long| u32::try_from(call).expect("call numbers are small");
    let mut rules = BTreeMap::new();
    for &call in GOOD.iter().chain(GOOD_HERE) {
        rules.insert(number(call), ALLOW);
    }
    for &call in BAD.iter().chain(BAD_HERE) {
        rules.insert(number(call), DENY);
    }
    for &(call, answer) in CHECKED {
        rules.insert(number(call), answer);
    }
    if watched {
        for &call in UNSEEN {
            rules.remove(&number(call));
        }
    }
    rules
}

const fn any(argument: u32, value: u32, then: Then) -> Test {
    Test {
        argument,
        how: How::HasAnyOf,
        value,
        then,
    }
}

const fn equals(argument: u32, value: u32, then: Then) -> Test {
    Test {
        argument,
        how: How::Equals,
        value,
        then,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_in_two_groups() {
        let all = || GOOD.iter().chain(GOOD_HERE).chain(BAD).chain(BAD_HERE);
        assert_eq!(rules(false).len(), all().count() + CHECKED.len());
    }
}
