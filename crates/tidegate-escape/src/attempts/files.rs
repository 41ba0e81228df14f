//! Files of the machine, of Tidegate and of other functions; links in a function's own bundle.

use super::Attempt as A;

const GONE: &[&str] = &["ENOENT"];
const SHUT: &[&str] = &["ENOENT", "EACCES", "EPERM"];

pub(super) const ALL: &[A] = &[
    A::new("files/another function's bundle by its path on the machine", "see(E['OTHER_BUNDLE'])", GONE),
    A::new("files/a file that everyone on the machine may read", "read(E['OUTSIDE_FILE'])", GONE),
    A::new("files/the folder that Tidegate keeps its data in", "see(E['STATE'])", GONE),
    A::new("files/another function's secret", "read('/run/secrets/other')", GONE),
    A::new("files/the machine's passwords", "read('/etc/shadow')", GONE),
    A::new("files/the homes of the machine's users", "read('/root/.bashrc')", GONE),
    A::new("files/the root of process 1", "see('/proc/1/root')", SHUT),
    A::new("files/the folder of process 1", "see('/proc/1/cwd')", SHUT),
    A::new("files/out of the root by dots", "see('/' + '../' * 64 + E['STATE'])", GONE),
    A::new("files/out of the folder by dots", "see('../' * 64 + E['STATE'].lstrip('/'))", GONE),
    A::new("files/out of the root by its own link", "see('/proc/self/root/..' + E['STATE'])", GONE),
    A::new("files/an absolute link in the bundle", "read('/function/absolute')", GONE),
    A::new("files/a link in the bundle that climbs", "read('/function/climbing')", GONE),
    A::new("files/a link in the bundle to another root", "see('/function/rooted')", SHUT),
    A::new("files/a link in the bundle to another's secrets", "read('/function/secret')", GONE),
    A::new(
        "files/a file by its handle",
        "call('open_by_handle', -100, ctypes.create_string_buffer(struct.pack('IiQ', 8, 1, 2), 64), 0)",
        &["EPERM"],
    )
    .own_kernel(&["ENOSYS", "ENOTSUP"]),
    A::new(
        "files/the handle of a file",
        "call('name_to_handle', -100, b'/function', ctypes.create_string_buffer(128), ctypes.byref(ctypes.c_int()), 0)",
        &["EPERM"],
    )
    .own_kernel(&["ENOSYS", "ENOTSUP"]),
    A::new(
        "files/a folder that was left open",
        r"
found = []
for fd in range(3, 4096):
    try:
        os.fchdir(fd); found.append(os.getcwd())
    except OSError: pass
say(found or 'NONE')",
        &["NONE"],
    ),
    A::new(
        "files/descriptors that are nobody's",
        r"
def is_open(fd):
    try: os.fstat(fd); return True
    except OSError: return False
say([fd for fd in range(3, 4096) if is_open(fd)] or 'NONE')",
        &["NONE"],
    ),
    A::new(
        "files/the descriptors of process 1",
        "'OPENED' if [fd for fd in os.listdir('/proc/1/fd') if tried(lambda: os.open('/proc/1/fd/' + fd, 0)) not in ('EACCES', 'ENOENT', 'EPERM', 'ENXIO')] else 'NONE'",
        &["NONE", "ENOENT", "EACCES", "EPERM"],
    ).own_kernel(&["OPENED"]),
    A::new(
        "files/the mark, anywhere in the tree",
        r"
mark, found = E['KRAM'][::-1].encode(), []
for top, folders, names in os.walk('/'):
    if top == '/': folders[:] = [f for f in folders if f not in ('proc', 'usr')]
    for n in names:
        p = os.path.join(top, n)
        if mark.decode() in n: found.append(p)
        if not os.path.isfile(p): continue
        try:
            with open(p, 'rb') as f:
                if mark in f.read(1 << 20): found.append(p)
        except OSError: pass
say(found or 'NONE')",
        &["NONE"],
    ),
    A::new(
        "files/what lies at the top",
        r"
known = set('bin dev etc function home layer lib lib32 lib64 libx32 node_modules proc run runtime sbin sys tmp usr var'.split())
say(sorted(set(os.listdir('/')) - known) or 'NONE')",
        &["NONE"],
    ),
    A::new("files/the machine's disks and control groups", "see('/sys')", &["EMPTY"]).own_kernel(&["SEEN"]),
    A::new("files/the machine's sockets", "see('/run/systemd')", GONE),
    A::new("files/the engine of containers", "connect(socket.AF_UNIX, '/var/run/docker.sock')", GONE),
    A::new("files/Tidegate's own socket", "connect(socket.AF_UNIX, E['SOCKET'])", GONE),
    A::new(
        "files/the interpreter through the running process",
        "write('/proc/self/exe')",
        &["EROFS", "EACCES", "ETXTBSY", "EPERM"],
    ),
    A::new(
        "files/the program of process 1",
        "write('/proc/1/exe')",
        &["ENOENT", "EACCES", "EPERM", "EROFS", "ETXTBSY"],
    ),
];
