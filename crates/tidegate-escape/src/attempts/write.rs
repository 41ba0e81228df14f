//! Writing where nothing may be written; the kernel's knobs and its windows under `/proc`.

use super::Attempt as A;

const READ_ONLY: &[&str] = &["EROFS"];
const MASKED: &[&str] = &["ENOENT", "EACCES", "EPERM", "EMPTY"];
const NO_KNOB: &[&str] = &["EROFS", "EACCES", "EPERM", "ENOENT"];

pub(super) const ALL: &[A] = &[
    A::new("write/the root", "make('/x')", READ_ONLY).own_kernel(&["EACCES"]),
    A::new("write/the programs", "make('/usr/bin/x')", READ_ONLY).own_kernel(&["EACCES"]),
    A::new(
        "write/a program that is there",
        "write('/usr/bin/env')",
        &["EROFS", "EACCES"],
    ),
    A::new(
        "write/the function's own code",
        "write('/function/run')",
        &["EROFS", "EACCES"],
    ),
    A::new(
        "write/a file beside the code",
        "make('/function/x')",
        READ_ONLY,
    )
    .own_kernel(&["EACCES"]),
    A::new("write/settings", "make('/etc/x')", READ_ONLY).own_kernel(&["EACCES"]),
    A::new(
        "write/the list of users",
        "write('/etc/passwd')",
        &["EROFS", "EACCES"],
    ),
    A::new("write/devices", "make('/dev/x')", READ_ONLY).own_kernel(&["EACCES"]),
    A::new("write/secrets", "make('/run/secrets/x')", READ_ONLY).own_kernel(&["EACCES"]),
    A::new(
        "write/its own secret",
        "write('/run/secrets/own')",
        &["EROFS", "EACCES"],
    ),
    A::new("write/run", "make('/run/x')", READ_ONLY).own_kernel(&["EACCES"]),
    A::new("write/var", "make('/var/x')", READ_ONLY).own_kernel(&["EACCES"]),
    A::new("write/home", "make('/home/x')", READ_ONLY).own_kernel(&["EACCES"]),
    A::new("write/dependencies", "make('/layer/x')", READ_ONLY).own_kernel(&["EACCES"]),
    A::new("write/language hosts", "make('/runtime/x')", READ_ONLY).own_kernel(&["EACCES"]),
    A::new(
        "write/the mode of a program",
        "os.chmod('/usr/bin/env', 0o4755)",
        &["EROFS", "EPERM"],
    ),
    A::new(
        "write/the owner of a program",
        "os.chown('/usr/bin/env', 1000, 1000)",
        &["EROFS", "EPERM"],
    ),
    A::new(
        "write/a second name of a program",
        "os.link('/usr/bin/env', '/tmp/env')",
        &["EXDEV", "EPERM"],
    ),
    A::new(
        "write/a second name of its own code",
        "os.link('/function/run', '/tmp/run')",
        &["EXDEV", "EPERM"],
    ),
    A::new(
        "write/the times of a program",
        "os.utime('/usr/bin/env', (0, 0))",
        &["EROFS", "EPERM"],
    ),
    A::new(
        "write/a program removed",
        "os.unlink('/usr/bin/env')",
        &["EROFS", "EACCES"],
    ),
    A::new(
        "write/everything, looked for",
        r"
found = []
for top, folders, _ in os.walk('/'):
    if top == '/': folders[:] = [f for f in folders if f not in ('proc', 'tmp')]
    if top == '/dev': folders[:] = [f for f in folders if f != 'shm']
    if top.count('/') > 4: folders[:] = []
    p = os.path.join(top, 'tidegate-x')
    try: os.close(os.open(p, os.O_CREAT | os.O_WRONLY)); found.append(top)
    except OSError: pass
say(found or 'NONE')",
        &["NONE"],
    ),
    A::new(
        "write/the handler of crashes",
        "write('/proc/sys/kernel/core_pattern', b'|/tmp/x')",
        NO_KNOB,
    ),
    A::new(
        "write/the loader of modules",
        "write('/proc/sys/kernel/modprobe', b'/tmp/x')",
        NO_KNOB,
    ),
    A::new(
        "write/the host name's knob",
        "write('/proc/sys/kernel/hostname', b'x')",
        NO_KNOB,
    ),
    A::new(
        "write/caches dropped",
        "write('/proc/sys/vm/drop_caches', b'3')",
        NO_KNOB,
    ),
    A::new(
        "write/a knob of the network",
        "write('/proc/sys/net/ipv4/ip_forward', b'1')",
        NO_KNOB,
    ),
    A::new(
        "write/a knob of messages",
        "write('/proc/sys/fs/mqueue/queues_max', b'1')",
        NO_KNOB,
    ),
    A::new(
        "write/formats of programs",
        "write('/proc/sys/fs/binfmt_misc/register', b':x:M::x::/tmp/x:')",
        NO_KNOB,
    ),
    A::new(
        "write/all knobs, looked for",
        r"
found = []
for top, _, names in os.walk('/proc/sys'):
    for n in names:
        try: os.close(os.open(os.path.join(top, n), os.O_WRONLY)); found.append(n)
        except OSError: pass
say(found or 'NONE')",
        &["NONE"],
    ),
    A::new(
        "write/the emergency key",
        "write('/proc/sysrq-trigger', b'h')",
        NO_KNOB,
    ),
    A::new(
        "write/interrupts",
        "see('/proc/irq') if os.path.exists('/proc/irq') else 'EMPTY'",
        MASKED,
    ),
    A::new(
        "write/its own map of users",
        "write('/proc/self/uid_map', b'0 0 1')",
        NO_KNOB,
    ),
    A::new(
        "write/the map of process 1",
        "write('/proc/1/uid_map', b'0 0 1')",
        NO_KNOB,
    ),
    A::new(
        "write/less likely to be killed",
        "write('/proc/self/oom_score_adj', b'-1000')",
        &["EACCES", "EPERM", "ENOENT", "EROFS"],
    )
    .own_kernel(&["WROTE"]),
    A::new(
        "write/a control group of its own",
        "make('/sys/fs/cgroup/x')",
        &["ENOENT", "EROFS", "EACCES"],
    ),
    A::new(
        "write/the agent of control groups",
        "write('/sys/fs/cgroup/release_agent', b'/tmp/x')",
        &["ENOENT", "EROFS", "EACCES"],
    ),
    A::new("proc/the kernel's memory", "read('/proc/kcore')", MASKED),
    A::new("proc/the kernel's log", "read('/proc/kmsg')", MASKED),
    A::new("proc/the kernel's keys", "read('/proc/keys')", MASKED),
    A::new("proc/who has keys", "read('/proc/key-users')", MASKED),
    A::new(
        "proc/the kernel's timers",
        "read('/proc/timer_list')",
        MASKED,
    ),
    A::new(
        "proc/the scheduler's insides",
        "read('/proc/sched_debug')",
        MASKED,
    ),
    A::new("proc/latencies", "read('/proc/latency_stats')", MASKED),
    A::new(
        "proc/addresses of the kernel",
        r"
try: lines = open('/proc/kallsyms').read(1 << 16).splitlines()
except OSError: lines = []
say([l for l in lines if l.split()[0].strip('0')][:3] or 'NONE')",
        &["NONE"],
    ),
    A::new(
        "proc/addresses of modules",
        "read('/proc/modules') if os.path.exists('/proc/modules') else 'EMPTY'",
        MASKED,
    ),
    A::new(
        "proc/pages of the machine",
        "read('/proc/kpagecount')",
        MASKED,
    ),
    A::new(
        "proc/flags of the machine's pages",
        "read('/proc/kpageflags')",
        MASKED,
    ),
    A::new("proc/allocations", "read('/proc/slabinfo')", MASKED),
    A::new(
        "proc/allocations, each",
        "read('/proc/vmallocinfo')",
        MASKED,
    ),
    A::new("proc/the firmware", "see('/proc/acpi')", MASKED),
    A::new("proc/disks of the machine", "see('/proc/scsi')", MASKED),
    A::new(
        "proc/disks by what they did",
        "read('/proc/diskstats')",
        MASKED,
    ),
    A::new(
        "proc/the command line of the kernel",
        "read('/proc/cmdline')",
        MASKED,
    )
    .own_kernel(&["READ"]),
    A::new("proc/drivers", "see('/proc/driver')", MASKED),
    A::new("proc/buses", "see('/proc/bus')", MASKED),
    A::new("proc/file systems' insides", "see('/proc/fs')", MASKED),
    A::new(
        "proc/page frames of its own memory",
        r"
with open('/proc/self/pagemap', 'rb', buffering=0) as f:
    b = ctypes.create_string_buffer(1); f.seek(ctypes.addressof(b) // 4096 * 8)
    say('FRAME' if struct.unpack('Q', f.read(8))[0] & ((1 << 55) - 1) else 'ZERO')",
        &["ZERO", "EACCES"],
    )
    .own_kernel(&["ENOENT"]),
];
