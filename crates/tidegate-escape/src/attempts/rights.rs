//! Becoming somebody else: users, capabilities, set-user-id programs, devices.

use super::Attempt as A;

const NO: &[&str] = &["EPERM"];
/// The kernel's own rule, or the fence before it.
const NO_DEVICE: &[&str] = &["EPERM", "EACCES"];

pub(super) const ALL: &[A] = &[
    A::new("rights/root", "call('setuid', 0)", &["EPERM", "EINVAL"]),
    A::new("rights/another user", "call('setuid', 1001)", &["EPERM", "EINVAL"]),
    A::new("rights/all three users at once", "call('setresuid', 0, 0, 0)", &["EPERM", "EINVAL"]),
    A::new("rights/another group", "call('setgroups', 1, (ctypes.c_int * 1)(0))", NO),
    A::new("rights/a file given to root", r"
make('/tmp/given'); say(tried(lambda: os.chown('/tmp/given', 0, 0)))", &["EPERM", "EINVAL"]),
    A::new("rights/capabilities taken", "call('capset', (ctypes.c_uint * 2)(0x20080522, 0), (ctypes.c_uint * 6)(*[0xffffffff] * 6))", NO),
    A::new("rights/a capability kept over an execution", "call('prctl', 47, 2, 21, 0, 0)", NO).own_kernel(&["EINVAL"]),
    A::new("rights/capabilities it has", r"
say(','.join(sorted({l.split()[1].strip('0') or '0' for l in open('/proc/self/status') if l.startswith('Cap')})))", &["0"]).own_kernel(&["0,e"]),
    A::new("rights/a program with a capability", r"
open('/tmp/cap', 'w').close()
say(tried(lambda: os.setxattr('/tmp/cap', 'security.capability', b'\1\0\0\2' + b'\xff' * 16)))", &["EPERM", "ENOTSUP"]),
    A::new("rights/a program of the machine that becomes root", r"
for p in ('/usr/bin/su', '/usr/bin/passwd', '/usr/bin/mount', '/usr/bin/newgrp', '/usr/bin/chsh'):
    if os.path.exists(p) and os.stat(p).st_mode & 0o4000:
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open('/dev/null', os.O_RDWR), 1); os.dup2(1, 2)
            os.execv('/bin/sh', ['sh', '-c', '(sleep 0.2; grep ^Uid /proc/self/status >&2) & exec ' + p + ' -h'])
        os.waitpid(pid, 0)
flags = os.statvfs('/usr').f_flag
say('REFUSED' if flags & 2 and 'NoNewPrivs:\t1' in open('/proc/self/status').read() else 'POSSIBLE')", &["REFUSED"])
        .own_kernel(&["POSSIBLE"]),
    A::new("rights/a program of its own that becomes root", r"
import shutil
shutil.copy('/usr/bin/id', '/tmp/id'); tried(lambda: os.chmod('/tmp/id', 0o6755))
say(subprocess.run(['/tmp/id', '-u'], capture_output=True, text=True).stdout.strip())", &["1000"]),
    A::new("rights/a set-user-id shell run", r"
say('ROOT' if subprocess.run(['/bin/sh', '-c', 'su -c id root </dev/null'], capture_output=True, text=True).stdout.startswith('uid=0') else 'REFUSED')", &["REFUSED"]),
    A::new("rights/a disk", "os.mknod('/tmp/disk', 0o60666, os.makedev(254, 0))", NO_DEVICE).own_kernel(&["DONE"]),
    A::new("rights/the machine's memory as a device", "os.mknod('/tmp/mem', 0o20666, os.makedev(1, 1))", NO_DEVICE).own_kernel(&["DONE"]),
    A::new("rights/a device that exists, made again", "os.mknod('/tmp/null', 0o20666, os.makedev(1, 3))", NO_DEVICE).own_kernel(&["DONE"]),
    A::new("rights/devices that are there", r"
known = set('null zero full random urandom fd stdin stdout stderr shm'.split())
say(sorted(set(os.listdir('/dev')) - known) or 'NONE')", &["NONE"]).own_kernel(&["['ptmx', 'pts', 'tty']", "['net', 'ptmx', 'pts', 'tty']", "['fuse', 'net', 'ptmx', 'pts', 'tty']"]),
    A::new("rights/memory devices", "[p for p in ('/dev/mem', '/dev/kmem', '/dev/port', '/dev/kmsg') if os.path.exists(p)] or 'NONE'", &["NONE"]),
    A::new("rights/disk devices", "[p for p in ('/dev/vda', '/dev/sda', '/dev/nvme0', '/dev/loop-control', '/dev/mapper/control') if os.path.exists(p)] or 'NONE'", &["NONE"]),
    A::new("rights/virtual machines and file systems", "[p for p in ('/dev/kvm', '/dev/fuse', '/dev/vhost-net', '/dev/userfaultfd') if os.path.exists(p)] or 'NONE'", &["NONE"]).own_kernel(&["['/dev/fuse']"]),
    A::new("rights/the terminal", "os.open('/dev/tty', os.O_RDWR)", &["ENOENT", "ENXIO"]).own_kernel(&["EIO"]),
    A::new("rights/randomness made worse", "call('ioctl', os.open('/dev/random', os.O_RDWR), 0x5206, 0)", NO).own_kernel(&["ENOTTY"]),
    A::new("rights/ahead of all others", "call('setpriority', 0, 0, -20)", &["EACCES", "EPERM"]).own_kernel(&["DONE"]),
    A::new("rights/real time", "call('sched_setscheduler', 0, 1, (ctypes.c_int * 1)(50))", NO).own_kernel(&["EINVAL"]),
    A::new("rights/real time on the disk", "call('ioprio_set', 1, 0, 1 << 13)", NO).own_kernel(&["ENOSYS"]),
    A::new("rights/more descriptors", r"
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
try: resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1)); say('RAISED')
except (ValueError, OSError): say('REFUSED')", &["REFUSED"]),
    A::new("rights/a core file", r"
import resource
try: resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20)); say('RAISED')
except (ValueError, OSError): say('REFUSED')", &["REFUSED"]),
    A::new("rights/a file as large as it likes", r"
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
fd = os.open('/tmp/sparse', os.O_CREAT | os.O_RDWR)
say(tried(lambda: os.ftruncate(fd, 1 << 40)))", &["EFBIG"]),
    A::new("rights/more locked memory than it has", r"
m = mmap.mmap(-1, 512 << 20)
say('LOCKED' if L.mlock(ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(m))), ctypes.c_size_t(512 << 20)) == 0 else name(ctypes.get_errno()))",
        &["EPERM", "ENOMEM", "EAGAIN", ""]),
    A::new("rights/page zero", r"
L.mmap.restype = ctypes.c_void_p
say('MAPPED' if L.mmap(ctypes.c_void_p(0), ctypes.c_size_t(4096), 3, 0x32, -1, ctypes.c_long(0)) in (0, None) else name(ctypes.get_errno()))", &["EPERM", "EACCES"]).own_kernel(&["ENOMEM"]),
];
