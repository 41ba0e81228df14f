//! The network: the machine's loopback, its addresses, what clouds answer at, sockets that are not the internet's.

use super::Attempt as A;

const NO_WAY: &[&str] = &["ENETUNREACH"];
const NO_FAMILY: &[&str] = &["EAFNOSUPPORT"];
const REFUSED: &[&str] = &["ECONNREFUSED"];

pub(super) const ALL: &[A] = &[
    A::new(
        "network/a server on the machine's loopback",
        "connect(socket.AF_INET, ('127.0.0.1', int(E['PORT_OUTSIDE'])))",
        REFUSED,
    ),
    A::new(
        "network/the same by another of its names",
        "connect(socket.AF_INET, ('127.77.0.1', int(E['PORT_OUTSIDE'])))",
        REFUSED,
    ),
    A::new(
        "network/the same by version 6",
        "connect(socket.AF_INET6, ('::1', int(E['PORT_OUTSIDE'])))",
        &["ECONNREFUSED", "EADDRNOTAVAIL"],
    ),
    A::new(
        "network/the same, mapped",
        "connect(socket.AF_INET6, ('::ffff:127.0.0.1', int(E['PORT_OUTSIDE'])))",
        REFUSED,
    ),
    A::new(
        "network/the same by nobody's address",
        "connect(socket.AF_INET, ('0.0.0.0', int(E['PORT_OUTSIDE'])))",
        REFUSED,
    ),
    A::new(
        "network/an address of the machine",
        "connect(socket.AF_INET, (E['ADDRESS'], int(E['PORT_OUTSIDE'])))",
        NO_WAY,
    )
    .own_kernel(&["EHOSTUNREACH"]),
    A::new(
        "network/the cloud's metadata",
        "connect(socket.AF_INET, ('169.254.169.254', 80))",
        NO_WAY,
    )
    .own_kernel(&["EHOSTUNREACH"]),
    A::new(
        "network/the cloud's metadata by version 6",
        "connect(socket.AF_INET6, ('fd00:ec2::254', 80))",
        &["ENETUNREACH", "EADDRNOTAVAIL"],
    )
    .own_kernel(&["EHOSTUNREACH"]),
    A::new(
        "network/a link-local address",
        "connect(socket.AF_INET6, ('fe80::1', 80, 0, 1))",
        &["ENETUNREACH", "EADDRNOTAVAIL", "EHOSTUNREACH"],
    )
    .own_kernel(&["ECONNREFUSED", "TimeoutError"]),
    A::new(
        "network/a private network",
        "connect(socket.AF_INET, ('10.0.0.1', 22))",
        NO_WAY,
    )
    .own_kernel(&["EHOSTUNREACH"]),
    A::new(
        "network/the world",
        "connect(socket.AF_INET, ('192.0.2.1', 80))",
        NO_WAY,
    )
    .own_kernel(&["EHOSTUNREACH"]),
    A::new(
        "network/a name server",
        "connect(socket.AF_INET, ('192.0.2.53', 53), socket.SOCK_DGRAM)",
        NO_WAY,
    )
    .own_kernel(&["EHOSTUNREACH"]),
    A::new(
        "network/the victim's port",
        "connect(socket.AF_INET, ('127.0.0.1', int(E['VICTIM_PORT'])))",
        REFUSED,
    ),
    A::new(
        "network/a socket of the machine without a path",
        "connect(socket.AF_UNIX, '\\0' + E['ABSTRACT'])",
        REFUSED,
    ),
    A::new(
        "network/a socket of the victim without a path",
        "connect(socket.AF_UNIX, '\\0victim')",
        REFUSED,
    ),
    A::new(
        "network/raw packets",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()",
        &["EPERM"],
    ),
    A::new(
        "network/raw packets of version 6",
        "socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58).close()",
        &["EPERM"],
    ),
    A::new(
        "network/frames",
        "socket.socket(17, socket.SOCK_RAW).close()",
        NO_FAMILY,
    )
    .own_kernel(&["EPERM"]),
    A::new(
        "network/the kernel's crypto",
        "socket.socket(38, socket.SOCK_SEQPACKET).close()",
        NO_FAMILY,
    ),
    A::new(
        "network/the hypervisor",
        "socket.socket(40, socket.SOCK_STREAM).close()",
        NO_FAMILY,
    ),
    A::new(
        "network/express data",
        "socket.socket(44, socket.SOCK_RAW).close()",
        NO_FAMILY,
    ),
    A::new(
        "network/every other family",
        r"
made = []
for family in range(64):
    if family in (0, 1, 2, 10, 16): continue
    for kind in (1, 2, 3, 5):
        try: socket.socket(family, kind).close(); made.append(family)
        except OSError: pass
say(made or 'NONE')",
        &["NONE"],
    ),
    A::new(
        "network/pairs of other families",
        r"
pair = (ctypes.c_int * 2)()
say([f for f in range(2, 64) if call('socketpair', f, 1, 0, pair) == 'DONE'] or 'NONE')",
        &["NONE"],
    ),
    A::new(
        "network/the audit's socket",
        "socket.socket(16, socket.SOCK_RAW, 9).close()",
        NO_FAMILY,
    )
    .own_kernel(&["EPROTONOSUPPORT"]),
    A::new(
        "network/the firewall's socket",
        "socket.socket(16, socket.SOCK_RAW, 12).close()",
        NO_FAMILY,
    )
    .own_kernel(&["EPROTONOSUPPORT"]),
    A::new(
        "network/the kernel's events",
        "socket.socket(16, socket.SOCK_DGRAM, 15).close()",
        NO_FAMILY,
    )
    .own_kernel(&["EPROTONOSUPPORT", "DONE"]),
    A::new(
        "network/an address added",
        r"
s = socket.socket(16, socket.SOCK_RAW, 0)
body = struct.pack('BBBBI', 2, 8, 0, 0, 1) + struct.pack('HH4s', 8, 2, b'\x0a\x09\x08\x07')
s.send(struct.pack('IHHII', 16 + len(body), 20, 0x405, 1, 0) + body)
say(name(-struct.unpack('i', s.recv(4096)[16:20])[0]))",
        &["EPERM"],
    )
    .own_kernel(&["EACCES"]),
    A::new(
        "network/a tunnel's device",
        "'OPENED' if os.open('/dev/net/tun', os.O_RDWR) else ''",
        &["ENOENT"],
    )
    .own_kernel(&["OPENED"]),
    A::new(
        "network/another network by a process",
        "tried(lambda: call('setns', os.open('/proc/1/ns/net', 0), 0))",
        &["ENOENT", "EACCES", "EPERM"],
    )
    .own_kernel(&["ENOSYS", "ENOTSUP"]),
    A::new(
        "network/devices beside the loopback",
        "','.join(n for _, n in socket.if_nameindex())",
        &["lo"],
    ),
];
