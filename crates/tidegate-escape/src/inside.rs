//! What every attempt begins with, inside.

/// The program of the attacker's instance: it runs what it reads.
pub(crate) const PROGRAM: &str = "#!/usr/bin/python3 -I
import sys
exec(compile(sys.stdin.read(), 'attempt', 'exec'))
";

/// The words that attempts are written in.
///
/// `call` makes a system call by name and answers `DONE` or the error's name; `tried` does the same for anything that
/// raises; `read`, `write` and `see` are what an attempt wants of a path; `reach` says what came of a connection with a
/// byte in it, `asks` and `asks_by_stream` what the name server said; `N` has the call numbers of both architectures.
pub(crate) const PRELUDE: &str = r"
import ctypes, errno, mmap, os, signal, socket, struct, subprocess, sys, time
E = os.environ
L = ctypes.CDLL(None, use_errno=True)
L.syscall.restype = ctypes.c_long
def name(e): return errno.errorcode.get(e, str(e))
def long(x): return ctypes.c_long(x) if isinstance(x, int) else x
def call(n, *a):
    n = N[n] if isinstance(n, str) else n
    if n is None: return 'ENOSYS'
    ctypes.set_errno(0)
    return 'DONE' if L.syscall(long(n), *[long(x) for x in a]) >= 0 else name(ctypes.get_errno())
def tried(f):
    try: r = f()
    except OSError as e: return name(e.errno) if e.errno else type(e).__name__
    return 'DONE' if r is None else r
said = False
def say(x):
    global said
    said = True
    print(x, flush=True)
def read(p):
    with open(p, 'rb', buffering=0) as f: return 'READ' if f.read(64) else 'EMPTY'
def write(p, d=b'1'):
    fd = os.open(p, os.O_WRONLY)
    os.write(fd, d)
    return 'WROTE'
def make(p):
    os.close(os.open(p, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    return 'MADE'
def see(p): return 'SEEN' if os.listdir(p) else 'EMPTY'
def connect(family, address, kind=socket.SOCK_STREAM):
    s = socket.socket(family, kind); s.settimeout(3); s.connect(address)
    if kind == socket.SOCK_DGRAM: s.send(b'x'); s.recv(1)
    return 'REACHED'
def reach(host, port, family=socket.AF_INET, source=None):
    s = socket.socket(family); s.settimeout(5)
    try:
        if source: s.bind((source, 0))
        s.connect((host, int(port))); s.send(b'x')
        return 'REACHED' if s.recv(9) else 'ENDED'
    except (ConnectionResetError, BrokenPipeError): return 'RESET'
    except socket.gaierror as e: return 'NO NAME' if e.errno in (-2, -5) else 'gaierror %d' % e.errno
def question(host, kind=1):
    labels = b''.join(bytes([len(l)]) + l.encode() for l in host.split('.'))
    return bytes.fromhex('abcd01000001000000000000') + labels + struct.pack('>BHH', 0, kind, 1)
def answered(a):
    if a[3] & 15: return 'CODE %d' % (a[3] & 15)
    return ','.join(socket.inet_ntoa(a[i + 12:i + 16]) for i in range(len(a) - 16 * a[7], len(a), 16)) or 'EMPTY'
def asks(q, wait=5):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(wait); s.connect(('192.0.0.1', 53)); s.send(q)
    try: return answered(s.recv(9999))
    except TimeoutError: return 'NO ANSWER'
def asks_by_stream(data):
    s = socket.create_connection(('192.0.0.1', 53), 5); s.sendall(data)
    f = s.makefile('rb'); n = f.read(2)
    return answered(f.read(struct.unpack('>H', n)[0])) if n else 'ENDED'
def processes(): return [int(p) for p in os.listdir('/proc') if p.isdigit()]
def x86(n): return n if os.uname().machine == 'x86_64' else None
def both(x, a): return x if os.uname().machine == 'x86_64' else a
N = dict(
    mount=both(165, 40), umount2=both(166, 39), pivot_root=both(155, 41), chroot=both(161, 51), setns=both(308, 268),
    unshare=both(272, 97), clone=both(56, 220), ptrace=both(101, 117), vm_readv=both(310, 270), vm_writev=both(311, 271),
    kcmp=both(312, 272), bpf=both(321, 280), init_module=both(175, 105), finit_module=both(313, 273),
    delete_module=both(176, 106), kexec_load=both(246, 104), kexec_file_load=both(320, 294), add_key=both(248, 217),
    request_key=both(249, 218), keyctl=both(250, 219), perf=both(298, 241), io_uring=425, io_uring_enter=426,
    userfaultfd=both(323, 282), fanotify_init=both(300, 262), lookup_dcookie=both(212, 18), reboot=both(169, 142),
    swapon=both(167, 224), swapoff=both(168, 225), acct=both(163, 89), quotactl=both(179, 60), quotactl_fd=443,
    syslog=both(103, 116), vhangup=both(153, 58), sethostname=both(170, 161), setdomainname=both(171, 162),
    settimeofday=both(164, 170), clock_settime=both(227, 112), clock_adjtime=both(305, 266), adjtimex=both(159, 171),
    migrate_pages=both(256, 238), move_pages=both(279, 239), open_by_handle=both(304, 265), name_to_handle=both(303, 264),
    open_tree=428, move_mount=429, fsopen=430, fsconfig=431, fsmount=432, fspick=433, mount_setattr=442, clone3=435,
    pidfd_open=434, pidfd_getfd=438, process_madvise=440, memfd_secret=447, process_mrelease=448, iopl=x86(172),
    ioperm=x86(173), modify_ldt=x86(154), personality=both(135, 92), capset=both(126, 91), prctl=both(157, 167),
    setuid=both(105, 146), setresuid=both(117, 147), setgroups=both(116, 159), sched_setscheduler=both(144, 119),
    setpriority=both(141, 140), ioprio_set=both(251, 30), prlimit=both(302, 261), sync=both(162, 81), syncfs=both(306, 267),
    tgkill=both(234, 131), shmget=both(29, 194), mq_open=both(240, 180), seccomp=both(317, 277), ioctl=both(16, 29),
    socketpair=both(53, 199), statmount=457, listmount=458, lsm_list=461, nfsservctl=both(180, 42), uselib=x86(134),
    unknown=9999)
";

/// What every attempt ends with: `SOURCE` is run, and says something in any case.
pub(crate) const EPILOGUE: &str = r"
try:
    if SOURCE.startswith('\n'): exec(SOURCE, globals())
    else: say(tried(lambda: eval(SOURCE, globals())))
except OSError as e: say(name(e.errno))
except Exception as e: say('%s: %s' % (type(e).__name__, e))
";
