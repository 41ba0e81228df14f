"""From the zygote's child to a confined process.

The steps, in the only order that works: cgroups while their descriptors are
open; namespaces while the privileges to enter them are held; identity and
capabilities once nothing needs them; descriptors; system-call filters last.
Each step has a name, and what fails is reported under it.

Everything the child calls is bound here, at import, in the zygote: the way
from fork to user code imports nothing.
"""

# The C module: `signal` wraps each call in enum look-ups, which after a fork touch a
# hundred pages, half a millisecond of copying.
import _signal
import base64
import ctypes
import os
import random
import resource
import sys

_libc = ctypes.CDLL(None, use_errno=True)

_setns = _libc.setns
_setns.argtypes = [ctypes.c_int, ctypes.c_int]
_prctl = _libc.prctl
_prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
_capset = _libc.capset
_capset.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2
# The same number on every architecture, as all calls since 5.1.
_SYS_CLOSE_RANGE = 436
_SYS_LANDLOCK_CREATE = 444
_SYS_LANDLOCK_ADD = 445
_SYS_LANDLOCK_ENTER = 446
_PATH_BENEATH = 1

# Capability numbers are below 64 by the size of the kernel's sets.
_CAPABILITIES = 64

_EPERM, _EINVAL = 1, 22

# struct __user_cap_header_struct, version 3, for the calling process; two empty sets.
_CAP_HEADER = (ctypes.c_uint32 * 2)(0x20080522, 0)
_CAP_EMPTY = (ctypes.c_uint32 * 6)()

_LIMITS = {
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "fsize": resource.RLIMIT_FSIZE,
    "core": resource.RLIMIT_CORE,
}

# A filter has at most 4096 instructions of 8 bytes.
_FILTER_MAX = 4096 * 8


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


class Failed(Exception):
    """A step that did not work; `step` is its name."""

    def __init__(self, step, error):
        super().__init__("%s: %s" % (step, error))
        self.step = step
        self.error = str(error)


def _check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _checked(result):
    _check(result)
    return result


def setns(fd, kinds):
    """Enters namespaces of the process behind the pidfd `fd` (or one namespace file)."""
    _check(_setns(fd, kinds))


def confine(request, fds):
    """Takes the calling process, freshly forked, into its sandbox.

    `request`: as the server sent it; `fds`: pidfd of the sandbox's init,
    control, stdin, stdout, stderr, cgroup.procs files. Afterwards descriptors
    0 to 2 are the function's, `control_fd` is 3, and no other is open. Raises
    Failed.
    """
    init, control, stdin, stdout, stderr = fds[:5]
    join = request.get("join", True)
    step = "signals"
    try:
        _reset_signals()
        step = "cgroup"
        for fd in fds[5:]:
            os.write(fd, b"0")
        if join:
            step = "setns"
            kinds = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS
            # A sandbox in the machine's own network has none to join.
            if request.get("netns", True):
                kinds |= CLONE_NEWNET
            setns(init, kinds)
            # Its own step and last: the calls before it need the rights held outside.
            step = "setns user"
            if request.get("userns", True):
                setns(init, CLONE_NEWUSER)
        step = "chdir"
        os.chdir("/")
        step = "limits"
        _set_limits(request.get("limits") or {})
        step = "no_new_privs"
        _check(_prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        step = "capabilities"
        _drop_bounding_set(strict=join)
        if join:
            step = "uid"
            _take_identity(request["uid"], request["gid"])
        step = "capabilities"
        _check(_prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
        _check(_capset(_CAP_HEADER, _CAP_EMPTY))
        # Neither a core file nor another process of the same user may read the memory.
        step = "dumpable"
        _check(_prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))
        step = "umask"
        os.umask(request.get("umask", 0o022))
        step = "descriptors"
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        if control != 3:
            os.dup2(control, 3, inheritable=False)
        _close_from(4)
        step = "random"
        _reseed()
        step = "landlock"
        if request.get("fence"):
            _fence(request["fence"])
        step = "seccomp"
        for program in request.get("seccomp") or ():
            _filter(base64.b64decode(program))
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise Failed(step, error) from None


def _reset_signals():
    _signal.set_wakeup_fd(-1)
    for number in (_signal.SIGCHLD, _signal.SIGINT, _signal.SIGTERM):
        _signal.signal(number, _signal.SIG_DFL)


def _set_limits(limits):
    for name, value in limits.items():
        if value is None:
            continue
        which = _LIMITS[name]
        hard = resource.getrlimit(which)[1]
        # Without privilege a limit can only fall: a lower one that holds already is kept.
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(which, (value, value))


def _drop_bounding_set(strict):
    for number in range(_CAPABILITIES):
        if _prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) < 0:
            error = ctypes.get_errno()
            if error == _EINVAL:
                # Past the last capability this kernel knows.
                return
            if error == _EPERM and not strict:
                return
            raise OSError(error, os.strerror(error))


def _take_identity(uid, gid):
    try:
        os.setgroups([])
    except PermissionError:
        # A user namespace made without privilege forbids it, and has no foreign groups to lose.
        pass
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _close_from(first):
    if _syscall(_SYS_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(0xFFFFFFFF), 0) < 0:
        # A kernel before 5.9.
        os.closerange(first, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def _reseed():
    """What a fork copies must not be equal in two instances."""
    random.seed()
    # Process numbers repeat in pid namespaces, so nothing that compares them notices the fork.
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile._name_sequence = None
    # OpenSSL is not on this list: the zygote never draws from its generator, so each
    # child seeds one of its own at first use. Seeding it here would cost 1.5 ms.


def _fence(fence):
    """Landlock's rules, as the server made them for this kernel."""
    attributes = base64.b64decode(fence["attributes"])
    rules = _checked(
        _syscall(_SYS_LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    )
    for path, rights in fence["beneath"]:
        try:
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        # The kernel's structure is packed: eight bytes and four.
        rule = rights.to_bytes(8, sys.byteorder) + folder.to_bytes(4, sys.byteorder)
        _checked(_syscall(_SYS_LANDLOCK_ADD, rules, _PATH_BENEATH, rule, 0))
        os.close(folder)
    _checked(_syscall(_SYS_LANDLOCK_ENTER, rules, ctypes.c_uint(fence["flags"])))
    os.close(rules)


def _filter(code):
    if not code or len(code) % 8 or len(code) > _FILTER_MAX:
        raise ValueError("a filter of %d bytes, expected a multiple of 8 up to 32768" % len(code))
    program = _Program(len(code) // 8, code)
    address = ctypes.addressof(program)
    _check(_prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, address, 0, 0))
