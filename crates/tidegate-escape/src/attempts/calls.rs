//! System calls that reach beyond a process.

use super::Attempt as A;

const NO: &[&str] = &["EPERM"];
/// In a kernel of its own a call may also be unknown, or refused for its arguments, or for want of a right.
const OWN: &[&str] = &["ENOSYS", "EINVAL", "EPERM"];

pub(super) const ALL: &[A] = &[
    A::new(
        "calls/mount",
        "call('mount', b'x', b'/tmp', b'tmpfs', 0, 0)",
        NO,
    ),
    A::new(
        "calls/mount again, writable",
        "call('mount', 0, b'/usr', 0, 32, 0)",
        NO,
    ),
    A::new(
        "calls/mount one folder on another",
        "call('mount', b'/tmp', b'/function', 0, 4096, 0)",
        NO,
    ),
    A::new(
        "calls/unmount what hides",
        "call('umount2', b'/proc', 2)",
        NO,
    ),
    A::new(
        "calls/pivot_root",
        "call('pivot_root', b'/tmp', b'/tmp')",
        NO,
    )
    .own_kernel(OWN),
    A::new("calls/chroot", "call('chroot', b'/tmp')", NO),
    A::new("calls/open_tree", "call('open_tree', -100, b'/', 1)", NO).own_kernel(OWN),
    A::new(
        "calls/move_mount",
        "call('move_mount', -100, b'/tmp', -100, b'/function', 0)",
        NO,
    )
    .own_kernel(OWN),
    A::new("calls/fsopen", "call('fsopen', b'tmpfs', 0)", NO).own_kernel(OWN),
    A::new("calls/fsconfig", "call('fsconfig', 0, 0, 0, 0, 0)", NO).own_kernel(OWN),
    A::new("calls/fsmount", "call('fsmount', 0, 0, 0)", NO).own_kernel(OWN),
    A::new("calls/fspick", "call('fspick', -100, b'/', 0)", NO).own_kernel(OWN),
    A::new(
        "calls/mount_setattr",
        "call('mount_setattr', -100, b'/usr', 0, ctypes.create_string_buffer(32), 32)",
        NO,
    )
    .own_kernel(OWN),
    A::new(
        "calls/mounts listed by a call",
        "call('listmount', ctypes.create_string_buffer(64), ctypes.create_string_buffer(64), 8, 0)",
        &["ENOSYS"],
    ),
    A::new(
        "calls/a mount described by a call",
        "call('statmount', ctypes.create_string_buffer(64), ctypes.create_string_buffer(512), 512, 0)",
        &["ENOSYS"],
    ),
    A::new("calls/a user namespace", "call('unshare', 0x10000000)", NO).own_kernel(&["DONE"]),
    A::new("calls/a mount namespace", "call('unshare', 0x20000)", NO)
        .own_kernel(&["ENOSYS", "EINVAL", "EPERM", "DONE"]),
    A::new("calls/a pid namespace", "call('unshare', 0x20000000)", NO).own_kernel(OWN),
    A::new(
        "calls/a network namespace",
        "call('unshare', 0x40000000)",
        NO,
    )
    .own_kernel(OWN),
    A::new("calls/an ipc namespace", "call('unshare', 0x8000000)", NO).own_kernel(OWN),
    A::new("calls/a uts namespace", "call('unshare', 0x4000000)", NO).own_kernel(OWN),
    A::new(
        "calls/a control group namespace",
        "call('unshare', 0x2000000)",
        NO,
    )
    .own_kernel(&["ENOSYS", "EINVAL", "EPERM", "DONE"]),
    A::new("calls/a time namespace", "call('unshare', 0x80)", NO)
        .own_kernel(&["ENOSYS", "EINVAL", "EPERM", "DONE"]),
    A::new(
        "calls/clone with each namespace",
        r"
done = []
for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000):
    ctypes.set_errno(0)
    pid = L.syscall(ctypes.c_long(N['clone']), ctypes.c_long(flag | 17), 0, 0, 0, 0)
    if pid == 0: os._exit(0)
    if pid > 0: os.waitpid(pid, 0); done.append(hex(flag))
    elif ctypes.get_errno() != errno.EPERM: done.append(name(ctypes.get_errno()))
say(done or 'NONE')",
        &["NONE"],
    )
    .own_kernel(&[
        "['0x10000000']",
        "['EINVAL']",
        "['0x10000000', 'EINVAL']",
        "['0x10000000', '0x20000', '0x2000000']",
    ]),
    A::new(
        "calls/clone3 without flags",
        "call('clone3', ctypes.create_string_buffer(64), 88)",
        &["ENOSYS"],
    )
    .own_kernel(&["EINVAL"]),
    A::new(
        "calls/clone3 into a user namespace",
        r"
args = ctypes.create_string_buffer(struct.pack('11Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88)
r = L.syscall(ctypes.c_long(435), args, ctypes.c_long(88))
if r == 0: os._exit(0)
say('DONE' if r > 0 else name(ctypes.get_errno()))",
        &["ENOSYS"],
    ),
    A::new(
        "calls/clone3 into another control group",
        r"
args = ctypes.create_string_buffer(struct.pack('11Q', 0x200000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88)
r = L.syscall(ctypes.c_long(435), args, ctypes.c_long(88))
if r == 0: os._exit(0)
say('DONE' if r > 0 else name(ctypes.get_errno()))",
        &["ENOSYS"],
    ),
    A::new("calls/setns", "call('setns', 0, 0)", NO)
        .own_kernel(&["ENOSYS", "EINVAL", "EPERM", "ENOTSUP"]),
    A::new(
        "calls/bpf",
        "call('bpf', 0, ctypes.create_string_buffer(128), 128)",
        NO,
    )
    .own_kernel(OWN),
    A::new(
        "calls/perf_event_open",
        "call('perf', ctypes.create_string_buffer(128), 0, -1, -1, 0)",
        NO,
    )
    .own_kernel(&["ENOSYS", "ENODEV"]),
    A::new(
        "calls/io_uring_setup",
        "call('io_uring', 8, ctypes.create_string_buffer(120))",
        NO,
    )
    .own_kernel(&["ENOSYS", "EINVAL", "EPERM", "DONE"]),
    A::new(
        "calls/io_uring_enter",
        "call('io_uring_enter', 0, 0, 0, 0, 0, 0)",
        NO,
    )
    .own_kernel(OWN),
    A::new("calls/userfaultfd", "call('userfaultfd', 0)", NO).own_kernel(OWN),
    A::new("calls/keyctl", "call('keyctl', 0, -3, 0)", NO).own_kernel(&["ENOSYS", "EACCES"]),
    A::new(
        "calls/add_key",
        "call('add_key', b'user', b'k', b'v', 1, -3)",
        NO,
    )
    .own_kernel(&["ENOSYS", "EACCES"]),
    A::new(
        "calls/request_key",
        "call('request_key', b'user', b'k', 0, 0)",
        NO,
    )
    .own_kernel(&["ENOSYS", "EACCES"]),
    A::new("calls/kexec_load", "call('kexec_load', 0, 0, 0, 0)", NO).own_kernel(OWN),
    A::new(
        "calls/kexec_file_load",
        "call('kexec_file_load', -1, -1, 0, 0, 0)",
        NO,
    )
    .own_kernel(OWN),
    A::new("calls/init_module", "call('init_module', 0, 0, b'')", NO).own_kernel(OWN),
    A::new("calls/finit_module", "call('finit_module', 0, b'', 0)", NO).own_kernel(OWN),
    A::new(
        "calls/delete_module",
        "call('delete_module', b'loop', 0)",
        NO,
    )
    .own_kernel(OWN),
    A::new("calls/fanotify_init", "call('fanotify_init', 0, 0)", NO).own_kernel(OWN),
    A::new(
        "calls/lookup_dcookie",
        "call('lookup_dcookie', 0, 0, 0)",
        NO,
    )
    .own_kernel(OWN),
    A::new(
        "calls/reboot",
        "call('reboot', 0xfee1dead, 672274793, 0, 0)",
        NO,
    ),
    A::new("calls/swapon", "call('swapon', b'/tmp/x', 0)", NO).own_kernel(OWN),
    A::new("calls/swapoff", "call('swapoff', b'/tmp/x')", NO).own_kernel(OWN),
    A::new("calls/acct", "call('acct', b'/tmp/x')", NO).own_kernel(OWN),
    A::new("calls/quotactl", "call('quotactl', 0, 0, 0, 0)", NO).own_kernel(OWN),
    A::new(
        "calls/quotactl_fd",
        "call('quotactl_fd', 0, 0, 0, 0)",
        &["ENOSYS"],
    ),
    A::new(
        "calls/the kernel's log",
        "call('syslog', 3, ctypes.create_string_buffer(64), 64)",
        NO,
    )
    .own_kernel(&["DONE", "ENOSYS"]),
    A::new("calls/vhangup", "call('vhangup')", NO).own_kernel(OWN),
    A::new("calls/sethostname", "call('sethostname', b'x', 1)", NO),
    A::new("calls/setdomainname", "call('setdomainname', b'x', 1)", NO),
    A::new(
        "calls/settimeofday",
        "call('settimeofday', ctypes.create_string_buffer(16), 0)",
        NO,
    )
    .own_kernel(OWN),
    A::new(
        "calls/clock_settime",
        "call('clock_settime', 0, ctypes.create_string_buffer(16))",
        NO,
    )
    .own_kernel(OWN),
    A::new(
        "calls/adjtimex",
        "call('adjtimex', ctypes.create_string_buffer(256))",
        NO,
    )
    .own_kernel(OWN),
    A::new(
        "calls/clock_adjtime",
        "call('clock_adjtime', 0, ctypes.create_string_buffer(256))",
        NO,
    )
    .own_kernel(OWN),
    A::new("calls/iopl", "call('iopl', 3)", &["EPERM", "ENOSYS"]),
    A::new(
        "calls/ioperm",
        "call('ioperm', 0x80, 1, 1)",
        &["EPERM", "ENOSYS"],
    ),
    A::new(
        "calls/modify_ldt",
        "call('modify_ldt', 0, 0, 0)",
        &["EPERM", "ENOSYS"],
    ),
    A::new(
        "calls/addresses that are not random",
        "call('personality', 0x0040000)",
        NO,
    )
    .own_kernel(&["EINVAL"]),
    A::new(
        "calls/memory that nobody else sees",
        "call('memfd_secret', 0)",
        &["ENOSYS"],
    ),
    A::new(
        "calls/an old library loader",
        "call('uselib', b'/tmp/x')",
        &["EPERM", "ENOSYS"],
    ),
    A::new("calls/the machine's disks flushed", "call('sync')", NO).own_kernel(&["DONE"]),
    A::new(
        "calls/the disk under /usr flushed",
        "call('syncfs', os.open('/usr', 0))",
        &["EPERM", "ENOSYS"],
    )
    .own_kernel(&["DONE"]),
    A::new(
        "calls/the list of the kernel's guards",
        "call('lsm_list', 0, 0, 0)",
        &["ENOSYS"],
    ),
    A::new(
        "calls/one that nobody knows",
        "call('unknown')",
        &["ENOSYS"],
    ),
    A::new(
        "calls/the numbers of x32",
        "call(0x40000000 | 39) if os.uname().machine == 'x86_64' else 'ENOSYS'",
        &["ENOSYS"],
    ),
    A::new(
        "calls/the gate of 32-bit programs",
        r"
if os.uname().machine != 'x86_64': say('REFUSED'); sys.exit()
pid = os.fork()
if pid == 0:
    # mov eax, 39 (mkdir); mov ebx, path; mov ecx, 0o777; int 0x80; ret: with a path in the low 4 GiB.
    low = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40, 7)
    at = ctypes.addressof(ctypes.c_char.from_buffer(low))
    low[256:272] = b'/tmp/by-the-gate'; low[272:273] = b'\0'
    code = b'\x53\xb8\x27\0\0\0\xbb' + struct.pack('I', (at + 256) & 0xffffffff) + b'\xb9\xff\x01\0\0\xcd\x80\x5b\xc3'
    low[:len(code)] = code
    r = ctypes.CFUNCTYPE(ctypes.c_int)(at)()
    os._exit(0 if os.path.exists('/tmp/by-the-gate') else 9)
_, status = os.waitpid(pid, 0)
say('MADE' if status == 0 else 'REFUSED')",
        &["REFUSED"],
    ),
    A::new(
        "calls/the filter taken off",
        r"
a = call('prctl', 22, 0, 0, 0, 0)
b = call('seccomp', 0, 0, 0)
say(call('mount', b'x', b'/tmp', b'tmpfs', 0, 0))",
        NO,
    ),
    A::new(
        "calls/the vow of no new rights taken back",
        "call('prctl', 38, 0, 0, 0, 0)",
        &["EINVAL"],
    ),
    A::new(
        "calls/a character put into a terminal",
        "call('ioctl', 1, 0x5412, b'x')",
        NO,
    )
    .own_kernel(&["ENOTTY"]),
    A::new(
        "calls/the same with high bits",
        "call('ioctl', 1, 0x100005412, b'x')",
        NO,
    )
    .own_kernel(&["ENOTTY"]),
    A::new(
        "calls/text pasted into a console",
        "call('ioctl', 1, 0x541c, b'x')",
        NO,
    )
    .own_kernel(&["ENOTTY"]),
];
