//! Other processes: seeing them, reading their memory and environment, signalling them.

use super::Attempt as A;

const SHUT: &[&str] = &["ENOENT", "EACCES", "EPERM"];
const NOBODY: &[&str] = &["ESRCH"];

pub(super) const ALL: &[A] = &[
    A::new(
        "others/processes that are not its own",
        r"
say(sorted(set(processes()) - {os.getpid()}) or 'NONE')",
        &["NONE", "[1]"],
    ),
    A::new(
        "others/the mark in an environment or a command line",
        r"
mark, found = E['KRAM'][::-1].encode(), []
for pid in processes():
    for what in ('environ', 'cmdline'):
        try:
            if mark in open('/proc/%d/%s' % (pid, what), 'rb').read(): found.append((pid, what))
        except OSError: pass
say(found or 'NONE')",
        &["NONE"],
    ),
    A::new(
        "others/what another process left in memory",
        "'ZERO' if mmap.mmap(-1, 32 << 20).read() == bytes(32 << 20) else 'LEFT'",
        &["ZERO"],
    ),
    A::new(
        "others/the environment of process 1",
        "read('/proc/1/environ')",
        SHUT,
    )
    .own_kernel(&["READ"]),
    A::new(
        "others/the memory of process 1",
        "read('/proc/1/mem')",
        SHUT,
    ),
    A::new(
        "others/the memory map of process 1",
        "read('/proc/1/maps')",
        SHUT,
    )
    .own_kernel(&["EMPTY", "READ"]),
    A::new(
        "others/a signal to another function's process",
        "os.kill(int(E['VICTIM_PID']), 9)",
        NOBODY,
    ),
    A::new(
        "others/a signal to the server",
        "os.kill(int(E['SERVER_PID']), 15)",
        NOBODY,
    ),
    A::new(
        "others/a handle of another function's process",
        "call('pidfd_open', int(E['VICTIM_PID']), 0)",
        NOBODY,
    )
    .own_kernel(&["ENOSYS"]),
    A::new(
        "others/a handle of the server",
        "call('pidfd_open', int(E['SERVER_PID']), 0)",
        NOBODY,
    )
    .own_kernel(&["ENOSYS"]),
    A::new(
        "others/a signal to all",
        r"
pid = os.fork()
if pid == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tried(lambda: os.kill(-1, signal.SIGTERM))
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.waitpid(pid, 0)
say('ALIVE')",
        &["ALIVE", ""],
    ),
    A::new(
        "others/process 1 killed",
        r"
for s in (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGBUS): tried(lambda: os.kill(1, s))
say('ALIVE' if 1 in processes() or os.getppid() == 1 or tried(lambda: os.kill(1, 0)) in ('DONE', 'EPERM') else 'DEAD')",
        &["ALIVE"],
    ),
    A::new(
        "others/process 1 traced",
        "call('ptrace', 16, 1, 0, 0)",
        &["EPERM"],
    )
    .own_kernel(&["ESRCH"]),
    A::new(
        "others/a child traced",
        r"
pid = os.fork()
if pid == 0: time.sleep(5); os._exit(0)
say(call('ptrace', 16, pid, 0, 0)); os.kill(pid, 9)",
        &["EPERM"],
    )
    .own_kernel(&["DONE"]),
    A::new(
        "others/memory of process 1 by a call",
        r"
b = ctypes.create_string_buffer(64)
io = (ctypes.c_ulong * 2)(ctypes.addressof(b), 64)
say(call('vm_readv', 1, io, 1, io, 1, 0))",
        &["EPERM"],
    )
    .own_kernel(&["ENOSYS", "ESRCH"]),
    A::new(
        "others/memory of process 1 written by a call",
        r"
b = ctypes.create_string_buffer(64)
io = (ctypes.c_ulong * 2)(ctypes.addressof(b), 64)
say(call('vm_writev', 1, io, 1, io, 1, 0))",
        &["EPERM"],
    )
    .own_kernel(&["ENOSYS", "ESRCH"]),
    A::new(
        "others/a descriptor out of process 1",
        "call('pidfd_getfd', 0, 0, 0)",
        &["EPERM"],
    )
    .own_kernel(&["ENOSYS"]),
    A::new(
        "others/advice about another's memory",
        "call('process_madvise', 0, 0, 0, 4, 0)",
        &["EPERM"],
    )
    .own_kernel(&["ENOSYS"]),
    A::new(
        "others/a comparison with process 1",
        "call('kcmp', os.getpid(), 1, 0, 0, 0)",
        &["EPERM"],
    )
    .own_kernel(&["ENOSYS"]),
    A::new(
        "others/memory taken from a dying process",
        "call('process_mrelease', 0, 0)",
        &["ENOSYS"],
    ),
    A::new(
        "others/limits of process 1",
        "call('prlimit', 1, 7, ctypes.create_string_buffer(bytes(16), 16), 0)",
        &["EPERM", "ESRCH"],
    ),
    A::new(
        "others/limits of the server",
        "call('prlimit', int(E['SERVER_PID']), 7, 0, ctypes.create_string_buffer(16))",
        &["ESRCH", "EPERM"],
    ),
    A::new(
        "others/priority of process 1",
        "call('setpriority', 0, 1, 19)",
        &["EPERM", "EACCES", "ESRCH"],
    )
    .own_kernel(&["DONE"]),
    A::new(
        "others/priority of all of this user's, process 1 among them",
        "call('setpriority', 2, 0, 5)",
        &["EPERM"],
    )
    .own_kernel(&["DONE"]),
    A::new(
        "others/processors of process 1",
        "os.sched_setaffinity(1, {0})",
        &["EPERM"],
    )
    .own_kernel(&["DONE"]),
    A::new(
        "others/disk priority of process 1",
        "call('ioprio_set', 1, 1, 3 << 13)",
        &["EPERM"],
    )
    .own_kernel(&["DONE", "ENOSYS"]),
    A::new(
        "others/disk priority of all of this user's",
        "call('ioprio_set', 3, 0, 3 << 13)",
        &["EPERM"],
    )
    .own_kernel(&["DONE", "ENOSYS"]),
    A::new(
        "others/affinity of the server",
        "os.sched_setaffinity(int(E['SERVER_PID']), {0})",
        NOBODY,
    ),
    A::new(
        "others/shared memory of another function",
        "call('shmget', 4242, 64, 0)",
        &["ENOENT", "ENOSYS"],
    ),
    A::new(
        "others/shared memory listed",
        r"
lines = open('/proc/sysvipc/shm').read().splitlines() if os.path.exists('/proc/sysvipc/shm') else []
say(lines[1:] or 'NONE')",
        &["NONE"],
    ),
    A::new(
        "others/a message queue of another function",
        "call('mq_open', b'victim', 0, 0, 0)",
        &["ENOENT", "ENOSYS"],
    ),
    A::new(
        "others/files in memory of another function",
        "read('/dev/shm/victim')",
        &["ENOENT"],
    ),
    A::new(
        "others/scratch files of another function",
        "read('/tmp/victim')",
        &["ENOENT"],
    ),
    A::new(
        "others/pages of process 1 moved",
        "call('move_pages', 1, 0, 0, 0, 0, 0)",
        &["EPERM"],
    )
    .own_kernel(&["ENOSYS"]),
    A::new(
        "others/pages of the machine migrated",
        "call('migrate_pages', 1, 0, 0, 0)",
        &["EPERM"],
    )
    .own_kernel(&["ENOSYS"]),
];
