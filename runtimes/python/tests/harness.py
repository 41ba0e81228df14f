"""Drives a real zygote and its hosts over socket pairs, as the server does."""

import array
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import unittest
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Long enough for a loaded machine; a test that waits so long has failed.
PATIENCE = 20

MESSAGE_MAX = 256 * 1024


def receive(sock):
    """One datagram with its descriptors."""
    ready, _, _ = select.select([sock], [], [], PATIENCE)
    if not ready:
        raise AssertionError("no message within %d s" % PATIENCE)
    data, ancillary, _, _ = sock.recvmsg(MESSAGE_MAX, socket.CMSG_SPACE(64))
    fds = []
    for _, _, raw in ancillary:
        part = array.array("i")
        part.frombytes(raw)
        fds.extend(part)
    return data, fds


def send(sock, data, fds=()):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], rights)


class Zygote:
    def __init__(self):
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.process = start("zygote.py", theirs)
        theirs.close()
        self.ready = json.loads(receive(self.sock)[0])
        self.exits = {}

    def request(self, request, fds):
        send(self.sock, json.dumps(request).encode(), fds)
        return self.answer()

    def answer(self):
        """The next answer to a request; exits that come before it are kept."""
        while True:
            data, fds = receive(self.sock)
            message = json.loads(data)
            if message["op"] == "exited":
                self.exits[message["id"]] = message
                continue
            return message, fds

    def exit_of(self, name):
        while name not in self.exits:
            message = json.loads(receive(self.sock)[0])
            self.exits[message["id"]] = message
        return self.exits[name]

    def close(self):
        self.sock.close()
        code = self.process.wait(PATIENCE)
        assert code == 0, code


def start(script, sock):
    """Starts a script as a launcher does: isolated, empty environment, socket on 3."""
    fd = sock.fileno()

    def place():
        os.dup2(fd, 3) if fd != 3 else os.set_inheritable(3, True)

    # The descriptor must survive the close that precedes exec, hence both numbers.
    return subprocess.Popen(
        [sys.executable, "-I", "-B", os.path.join(ROOT, script)],
        env={},
        stdin=subprocess.DEVNULL,
        preexec_fn=place,
        pass_fds=[3] if fd == 3 else [3, fd],
    )


class Instance:
    """One host, started through a zygote or directly."""

    def __init__(self, control, pipes, name=None, zygote=None, process=None):
        self.control = control
        self.pipes = pipes
        self.name = name
        self.zygote = zygote
        self.process = process
        self.pid = process.pid if process else None
        self.logs = []
        self.idle = []
        self.clients = []
        self.first = None

    def next_message(self):
        data, _ = receive(self.control)
        if data[:1] == b"L":
            self.logs.append((data[1:2].decode(), data[2:34].decode(), data[34:].decode()))
        elif data[:1] == b"I":
            self.idle.append(data[1:].decode())
        return data

    def wait_ready(self):
        """Takes messages up to R or F."""
        while True:
            data = self.next_message()
            if data[:1] in (b"R", b"F") or not data:
                self.first = data
                return data

    def pump(self):
        """Takes what has arrived on the control channel by now."""
        while select.select([self.control], [], [], 0)[0]:
            if not self.next_message():
                return

    def wait_for(self, found):
        """Takes messages until `found()` answers something true."""
        while not found():
            if not self.next_message():
                raise AssertionError("the host ended")
        return found()

    def connect(self):
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        send(self.control, b"C", [theirs.fileno()])
        theirs.close()
        self.clients.append(ours)
        return Client(ours)

    def call(self, *args, **kwargs):
        """One request on a connection of its own."""
        client = self.connect()
        try:
            answer = client.call(*args, **kwargs)
        finally:
            client.close()
        self.pump()
        return answer

    def lines(self, tag=None, stream=None):
        self.pump()
        return [
            text for s, t, text in self.logs if tag in (None, t) and stream in (None, s)
        ]

    def cancel(self, tag):
        send(self.control, b"X" + tag.encode())

    def drain(self):
        send(self.control, b"D")
        return self.exit_code()

    def exit_code(self):
        if self.zygote is not None:
            message = self.zygote.exit_of(self.name)
            return message["code"] if message["code"] is not None else -message["signal"]
        return self.process.wait(PATIENCE)

    def close(self):
        for sock in self.clients:
            sock.close()
        self.control.close()
        for fd in self.pipes:
            os.close(fd)
        self.exit_code()


class Answer:
    def __init__(self, status, fields, body, complete=True):
        self.status = status
        self.fields = fields
        self.body = body
        self.complete = complete

    def get(self, name):
        values = [value for key, value in self.fields if key == name]
        return values[0] if values else None

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """A plain HTTP/1.1 client that shows everything, broken answers included."""

    def __init__(self, sock):
        self.sock = sock
        self.buf = b""

    def close(self):
        self.sock.close()

    def send(self, method="GET", target="/", body=b"", tag=None, headers=(), length=True):
        lines = ["%s %s HTTP/1.1" % (method, target), "host: example.test"]
        lines += ["x-request-id: " + (tag or uuid.uuid4().hex)]
        lines += ["%s: %s" % pair for pair in headers]
        if body and length:
            lines.append("content-length: %d" % len(body))
        self.sock.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def call(self, *args, **kwargs):
        method = args[0] if args else kwargs.get("method", "GET")
        self.send(*args, **kwargs)
        return self.answer(method)

    def more(self):
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        self.buf += data
        return data

    def head(self):
        while b"\r\n\r\n" not in self.buf:
            if not self.more():
                return None
        head, _, self.buf = self.buf.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        fields = []
        for line in rest:
            name, _, value = line.partition(":")
            fields.append((name.lower(), value.strip()))
        return int(first.split(" ")[1]), fields

    def answer(self, method="GET"):
        """The next answer, or None if the connection ended before its head was complete."""
        found = self.head()
        if found is None:
            return None
        status, fields = found
        known = dict(fields)
        if method == "HEAD" or status in (101, 204, 304) or status == 100:
            return Answer(status, fields, b"")
        if known.get("transfer-encoding") == "chunked":
            body = b""
            while True:
                piece = self.chunk()
                if piece is None:
                    return Answer(status, fields, body, complete=False)
                if not piece:
                    return Answer(status, fields, body)
                body += piece
        if "content-length" in known:
            size = int(known["content-length"])
            while len(self.buf) < size:
                if not self.more():
                    return Answer(status, fields, self.buf, complete=False)
            body, self.buf = self.buf[:size], self.buf[size:]
            return Answer(status, fields, body)
        while self.more():
            pass
        return Answer(status, fields, self.buf)

    def chunk(self):
        """The next chunk; b"" at the proper end, None at an improper one."""
        while b"\r\n" not in self.buf:
            if not self.more():
                return None
        line, _, self.buf = self.buf.partition(b"\r\n")
        size = int(line, 16)
        while len(self.buf) < size + 2:
            if not self.more():
                return None
        piece, self.buf = self.buf[:size], self.buf[size + 2 :]
        return piece

    def at_end(self):
        """Whether the host closed the connection, waiting for it."""
        return not self.buf and not self.more()


_shared = []


def shared_zygote():
    """One zygote for the whole run: as in life, and starting one costs 100 ms."""
    if not _shared:
        zygote = Zygote()
        _shared.append(zygote)
        unittest.addModuleCleanup(lambda: (_shared.clear(), zygote.close()))
    return _shared[0]


class HostCase(unittest.TestCase):
    """Tests with functions written inline."""

    def zygote(self):
        return shared_zygote()

    def write(self, code, name="function.py"):
        folder = tempfile.mkdtemp(prefix="tidegate-test-")
        self.addCleanup(shutil.rmtree, folder)
        path = os.path.join(folder, name)
        with open(path, "w") as file:
            file.write(textwrap.dedent(code))
        return path

    def config(self, code, name="function.py", **changes):
        path = self.write(code, name)
        config = {
            "function": "thumbnail",
            "namespace": "default",
            "revision": "r1",
            "entry": path,
            "cwd": os.path.dirname(path),
            "handler": None,
            "concurrency": 1,
            "env": {"GREETING": "hello"},
            "memory": 128 * 1024 * 1024,
            "timeout_ms": 60000,
            "max_body": 32 * 1024 * 1024,
        }
        config.update(changes)
        return config

    def fork(self, code, request=None, zygote=None, **changes):
        """Forks a host; ready or not. `request` adds to the fork request."""
        zygote = zygote or self.zygote()
        config = self.config(code, **changes)
        name = uuid.uuid4().hex
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        null = os.open("/dev/null", os.O_RDONLY)
        fds = [null, theirs.fileno(), null, out_write, err_write]
        asked = {"op": "fork", "id": name, "config": config, "join": False, "umask": 18}
        asked.update(request or {})
        try:
            message, pidfds = zygote.request(asked, fds)
        finally:
            theirs.close()
            for fd in (null, out_write, err_write):
                os.close(fd)
        self.assertEqual(message["op"], "forked", message)
        for fd in pidfds:
            os.close(fd)
        instance = Instance(ours, [out_read, err_read], name, zygote)
        instance.pid = message["pid"]
        instance.wait_ready()
        self.addCleanup(instance.close)
        return instance

    def host(self, code, **changes):
        """A host that is ready."""
        instance = self.fork(code, **changes)
        self.assertEqual(instance.first, b"R")
        return instance

    def refusal(self, code, **changes):
        """The F message of a host that does not become ready."""
        instance = self.fork(code, **changes)
        self.assertEqual(instance.first[:1], b"F", instance.first)
        self.assertEqual(instance.exit_code(), 1)
        return json.loads(instance.first[1:])


def tag():
    return uuid.uuid4().hex
