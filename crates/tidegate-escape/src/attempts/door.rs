//! The way out: what the server must not dial for a function, what must not pass beside it, and how much of it there is.

use super::Attempt as A;

const RESET: &[&str] = &["RESET"];
const REACHED: &[&str] = &["REACHED"];
const NO_NAME: &[&str] = &["NO NAME"];
const NOT_THERE: &[&str] = &["ECONNREFUSED"];
const MAY_NOT: &[&str] = &["EPERM"];
const NO_FAMILY: &[&str] = &["EAFNOSUPPORT"];
const IN_USE: &[&str] = &["EADDRINUSE"];
const NO_WAY: &[&str] = &["ENETUNREACH"];

pub(super) const ALL: &[A] = &[
    A::new(
        "door/what may be reached, so that there is a way out at all",
        "reach('open.test', E['PORT_OPEN'])",
        REACHED,
    ),
    // This machine.
    A::new(
        "door/the machine's loopback",
        "reach('127.0.0.1', E['PORT_OUTSIDE'])",
        NOT_THERE,
    ),
    A::new(
        "door/the same by another of its names",
        "reach('127.77.0.1', E['PORT_OUTSIDE'])",
        NOT_THERE,
    ),
    A::new(
        "door/the same by version 6",
        "reach('::1', E['PORT_OUTSIDE'], socket.AF_INET6)",
        NOT_THERE,
    ),
    A::new(
        "door/the same, mapped",
        "reach('::ffff:127.0.0.1', E['PORT_OUTSIDE'], socket.AF_INET6)",
        NOT_THERE,
    ),
    A::new(
        "door/the same by nobody's address",
        "reach('0.0.0.0', E['PORT_OUTSIDE'])",
        NOT_THERE,
    ),
    A::new(
        "door/an address of the machine",
        "reach(E['ADDRESS'], E['PORT_OUTSIDE'])",
        RESET,
    ),
    A::new(
        "door/the same, mapped",
        "reach('::ffff:' + E['ADDRESS'], E['PORT_OUTSIDE'], socket.AF_INET6)",
        RESET,
    ),
    A::new(
        "door/the same from a loopback address",
        "reach(E['ADDRESS'], E['PORT_OUTSIDE'], source='127.0.0.1')",
        RESET,
    ),
    A::new(
        "door/the same from itself",
        "reach(E['ADDRESS'], E['PORT_OUTSIDE'], source=E['ADDRESS'])",
        RESET,
    ),
    A::new(
        "door/an allowed host at another of its ports",
        r"
socket.gethostbyname('open.test')
say(reach(E['ADDRESS'], E['PORT_OUTSIDE']))",
        RESET,
    ),
    // What clouds and private networks have.
    A::new(
        "door/the cloud's metadata",
        "reach('169.254.169.254', 80)",
        RESET,
    ),
    A::new(
        "door/the same, mapped",
        "reach('::ffff:169.254.169.254', 80, socket.AF_INET6)",
        RESET,
    ),
    A::new(
        "door/the cloud's metadata by version 6",
        "reach('fd00:ec2::254', 80, socket.AF_INET6)",
        NO_WAY,
    ),
    A::new(
        "door/a cloud's address that looks public",
        "reach('168.63.129.16', 80)",
        RESET,
    ),
    A::new(
        "door/a private network",
        "','.join(reach(a, 22) for a in ('10.0.0.1', '172.16.0.1', '192.168.0.1', '100.100.100.200'))",
        &["RESET,RESET,RESET,RESET"],
    ),
    A::new(
        "door/addresses that are nobody's",
        "','.join(reach(a, 80) for a in ('0.1.2.3', '192.0.0.192', '240.0.0.1'))",
        &["RESET,RESET,RESET"],
    ),
    A::new(
        "door/everybody's address",
        "','.join(tried(lambda: reach(a, 80)) for a in ('224.0.0.1', '255.255.255.255'))",
        &["ENETUNREACH,ENETUNREACH"],
    ),
    A::new(
        "door/the world by version 6",
        "reach('2606:4700::1111', 443, socket.AF_INET6)",
        NO_WAY,
    ),
    // Names that lead where no address may.
    A::new(
        "door/a name of the loopback",
        "reach('loopback.test', E['PORT_OUTSIDE'])",
        NO_NAME,
    ),
    A::new(
        "door/a name of the loopback by version 6",
        "reach('loopback6.test', E['PORT_OUTSIDE'])",
        NO_NAME,
    ),
    A::new(
        "door/a name of the loopback, mapped",
        "reach('mapped.test', E['PORT_OUTSIDE'])",
        NO_NAME,
    ),
    A::new(
        "door/a name of the machine's address",
        "reach('own.test', E['PORT_OUTSIDE'])",
        NO_NAME,
    ),
    A::new(
        "door/a name of the cloud's metadata",
        "reach('metadata.test', 80)",
        NO_NAME,
    ),
    A::new(
        "door/a name with a good address and a bad one",
        "asks(question('both.test'))",
        &["192.0.2.7"],
    ),
    A::new(
        "door/a name that changes its mind",
        "' then '.join(asks(question('turning.test')) for _ in range(2))",
        &["192.0.2.7 then CODE 3"],
    ),
    A::new(
        "door/addresses in odd spellings as names",
        "','.join(asks(question(n)) for n in ('2130706433', '0x7f.1', '127.1', '017700000001'))",
        &["CODE 3,CODE 3,CODE 3,CODE 3"],
    ),
    // Others, and the platform.
    A::new(
        "door/the victim's address",
        "','.join(reach('192.0.0.2', p) for p in (E['VICTIM_PORT'], 80, 1))",
        &["RESET,RESET,RESET"],
    ),
    A::new(
        "door/the victim's port at its own loopback",
        "reach('127.0.0.1', E['VICTIM_PORT'])",
        NOT_THERE,
    ),
    A::new(
        "door/other ports of the platform's address",
        "','.join(reach('192.0.0.1', p) for p in (22, 443, 8081))",
        &["RESET,RESET,RESET"],
    ),
    A::new(
        "door/the door itself",
        "reach('127.0.0.2', 1)",
        &["ENDED", "RESET"],
    ),
    A::new(
        "door/a listener in the door's place",
        r"
s = socket.socket(); s.setsockopt(1, socket.SO_REUSEADDR, 1); s.setsockopt(1, socket.SO_REUSEPORT, 1)
s.bind(('127.0.0.2', 1)); s.listen(); say('LISTENS')",
        IN_USE,
    ),
    A::new(
        "door/a listener in the name server's place",
        r"
s = socket.socket(2, 2); s.setsockopt(1, socket.SO_REUSEADDR, 1); s.setsockopt(1, socket.SO_REUSEPORT, 1)
s.bind(('192.0.0.1', 53)); say('LISTENS')",
        IN_USE,
    ),
    // What is no connection.
    A::new(
        "door/a datagram to the machine",
        "connect(socket.AF_INET, (E['ADDRESS'], int(E['PORT_OUTSIDE'])), socket.SOCK_DGRAM)",
        NOT_THERE,
    ),
    A::new(
        "door/a datagram to another name server",
        "connect(socket.AF_INET, ('192.0.2.53', 53), socket.SOCK_DGRAM)",
        NOT_THERE,
    ),
    A::new(
        "door/a datagram by version 6",
        "connect(socket.AF_INET6, ('2606:4700::1111', 53), socket.SOCK_DGRAM)",
        NO_WAY,
    ),
    A::new(
        "door/a datagram to everybody",
        r"
s = socket.socket(2, 2); s.setsockopt(1, socket.SO_BROADCAST, 1); s.settimeout(1)
def send(to): s.sendto(b'x', to); s.recv(9); return 'REACHED'
say(','.join(tried(lambda: send((a, 5353))) for a in ('255.255.255.255', '224.0.0.251')))",
        // They are sent, on the one device that there is.
        &["TimeoutError,TimeoutError"],
    ),
    A::new(
        "door/raw packets",
        "','.join(tried(lambda: socket.socket(2, 3, p).close()) for p in (1, 6, 255))",
        &["EPERM,EPERM,EPERM"],
    ),
    A::new(
        "door/frames",
        "socket.socket(17, socket.SOCK_RAW).close()",
        NO_FAMILY,
    ),
    A::new(
        "door/an echo request",
        "socket.socket(2, 2, 1).close()",
        &["EACCES", "EPERM"],
    ),
    // What the door is made of.
    A::new(
        "door/the packet filter's rules by its own messages",
        "socket.socket(16, socket.SOCK_RAW, 12).close()",
        NO_FAMILY,
    ),
    A::new(
        "door/the packet filter's rules by its old interface",
        "','.join(tried(lambda: socket.socket().setsockopt(0, o, bytes(96))) for o in (64, 65))",
        &["EPERM,EPERM"],
    ),
    A::new(
        "door/the door's socket by the kernel's list of sockets",
        "socket.socket(16, socket.SOCK_RAW, 4).close()",
        NO_FAMILY,
    ),
    A::new(
        "door/the route taken away, another made, a device made",
        r"
def change(kind, flags, body):
    s = socket.socket(16, socket.SOCK_RAW, 0)
    s.send(struct.pack('=IHHII', 16 + len(body), kind, 5 | flags, 1, 0) + body)
    return name(-struct.unpack_from('=i', s.recv(4096), 16)[0])
route = struct.pack('=BBBBBBBBI', 2, 0, 0, 0, 255, 4, 254, 2, 0)
device = struct.pack('=BBHiII', 0, 0, 0, 0, 0, 0) + struct.pack('=HH8s', 12, 3, b'tidy0') + struct.pack('=HHHH5s3x', 20, 18, 9, 1, b'dummy')
say(','.join([change(25, 0, route), change(24, 0x400, route), change(16, 0x400, device)]))",
        &["EPERM,EPERM,EPERM"],
    ),
    A::new(
        "door/a socket for addresses that are not its own",
        "socket.socket().setsockopt(0, 19, 1)",
        MAY_NOT,
    ),
    A::new(
        "door/marked packets",
        "socket.socket().setsockopt(1, 36, 1)",
        MAY_NOT,
    ),
    A::new(
        "door/rights over a network of its own",
        "call('unshare', 0x50000000)",
        MAY_NOT,
    ),
    A::new(
        "door/the network's settings",
        r"
def set(p):
    try: return write('/proc/sys/net/' + p)
    except OSError as e: return 'REFUSED'
say(','.join(set(p) for p in ('ipv4/ip_forward', 'ipv4/conf/all/accept_local', 'ipv4/ping_group_range')))",
        &["REFUSED,REFUSED,REFUSED"],
    ),
    // The name server.
    A::new(
        "door/a name server that is sent anything at all",
        r"
good, s = question('open.test'), socket.socket(2, 2)
s.connect(('192.0.0.1', 53))
loop = good[:12] + b'\xc0\x0c\0\1\0\1'
long = good[:12] + (b'\x3f' + b'a' * 63) * 9 + b'\0\0\1\0\1'
sent = [b'', b'\0', good[:12], good[:-1], loop, long, good[:2] + b'\xff' * 400, bytes(60000), os.urandom(1500)]
# All but the kind, which would make a question of it that others are asked.
sent += [good[:i] + bytes([b ^ 0xff]) + good[i + 1:] for i, b in enumerate(good[:-4])] + [os.urandom(n) for n in range(300)]
for message in sent: s.send(message)
# What did not fit into the socket is lost, and the question may have been.
say('LIVES' if any(asks(good, 3) == E['ADDRESS'] for _ in range(3)) else 'DEAD')",
        &["LIVES"],
    ),
    A::new(
        "door/a name server that is sent anything over connections",
        r"
good = question('open.test')
def size(n): return struct.pack('>H', n)
for data in (size(0), size(65535) + os.urandom(65535), size(12) + good[:12], os.urandom(5000)):
    s = socket.create_connection(('192.0.0.1', 53), 5)
    try: s.sendall(data)
    except OSError: pass
silent = []
for _ in range(100): silent.append(socket.create_connection(('192.0.0.1', 53), 5)); silent[-1].send(size(65535))
say('LIVES' if asks_by_stream(size(len(good)) + good) == E['ADDRESS'] else 'DEAD')",
        &["LIVES"],
    ),
    A::new(
        "door/zones and everything there is",
        "','.join(asks(question('open.test', k)) for k in (251, 252, 255, 41))",
        &["CODE 4,CODE 4,CODE 4,CODE 4"],
    ),
    A::new(
        "door/a name server of other classes, and changes",
        "','.join([asks(question('open.test')[:-1] + b'\\3'), asks(b'\\0\\1\\x28' + question('open.test')[3:])])",
        &["CODE 4,CODE 4"],
    ),
    A::new(
        "door/two hundred questions at once, each of which is answered",
        r"
asking = []
for _ in range(200):
    s = socket.socket(2, 2); s.settimeout(10); s.connect(('192.0.0.1', 53)); asking.append(s)
for s in asking: s.send(question('open.test'))
say(sum(answered(s.recv(999)) == E['ADDRESS'] for s in asking))",
        &["200"],
    ),
    A::new(
        "door/questions without end",
        r"
s = socket.socket(2, 2); s.connect(('192.0.0.1', 53))
for n in range(20000):
    try: s.send(question('n%d.loopback.test' % n))
    except OSError: pass
end = time.monotonic() + 20
while asks(question('open.test'), 1) != E['ADDRESS'] and time.monotonic() < end: pass
say('LIVES' if time.monotonic() < end else 'DEAD')",
        &["LIVES"],
    ),
    // How much there is of it.
    A::new(
        "door/two thousand connections",
        r"
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
to, held, served = (socket.gethostbyname('open.test'), int(E['PORT_OPEN'])), [], 0
for _ in range(2000):
    s = socket.socket(); s.settimeout(5); held.append(s)
    try: s.connect(to); s.send(b'x')
    except (ConnectionResetError, BrokenPipeError): pass
for s in held:
    try: served += s.recv(1) != b''
    except (ConnectionResetError, BrokenPipeError): pass
for s in held: s.close()
end = time.monotonic() + 10
while reach(*to) != 'REACHED' and time.monotonic() < end: time.sleep(0.05)
say('%s, %s' % ('BOUNDED' if 0 < served <= 1024 else served, reach(*to)))",
        &["BOUNDED, REACHED"],
    ),
];

pub(super) const LISTED: &[A] = &[
    A::new(
        "listed/an allowed host by its address, which it was never asked for by",
        "reach(E['ADDRESS'], E['PORT_OPEN'])",
        RESET,
    ),
    A::new(
        "listed/the same by its name",
        "reach('open.test', E['PORT_OPEN'])",
        REACHED,
    ),
    A::new(
        "listed/the same at another port",
        "reach('open.test', E['PORT_OUTSIDE'])",
        RESET,
    ),
    A::new(
        "listed/a host that no entry names",
        "reach('denied.test', E['PORT_OPEN'])",
        NO_NAME,
    ),
    A::new(
        "listed/the same by its address",
        "reach('192.0.2.8', 443)",
        RESET,
    ),
    A::new(
        "listed/a host below an allowed one",
        "reach('below.open.test', E['PORT_OPEN'])",
        NO_NAME,
    ),
    A::new(
        "listed/an allowed name that leads to another's address",
        "asks(question('moved.test'))",
        &["CODE 3"],
    ),
    A::new(
        "listed/words sent out as names",
        "','.join(asks(question('secret.denied.test', k)) for k in (1, 16, 28, 33, 65))",
        &["CODE 3,CODE 3,CODE 3,CODE 3,CODE 3"],
    ),
    A::new(
        "listed/a label with a dot that makes it look allowed",
        r"
head, tail = bytes.fromhex('abcd01000001000000000000'), b'\0\0\1\0\1'
say(asks(head + b'\x09open.test' + tail))",
        &["CODE 3"],
    ),
];
