"""The zygote: forking, confining, reporting; and the host without one."""

import base64
import ctypes
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import unittest

from harness import (
    PATIENCE, HostCase, Instance, Zygote, receive, send, shared_zygote, start, tag,
)

# prctl's architecture tokens and the number of `uname` there.
ARCH = {"x86_64": (0xC000003E, 63), "aarch64": (0xC00000B7, 160)}


def filter_refusing(number, errno):
    """A seccomp program: `number` answers `errno`, everything else is allowed."""
    load, equal, answer = 0x20, 0x15, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | errno
    program = [(load, 0, 0, 0), (equal, 0, 1, number), (answer, 0, 0, refuse), (answer, 0, 0, allow)]
    return b"".join(struct.pack("=HBBI", *each) for each in program)


class Forking(HostCase):
    def test_ready(self):
        zygote = shared_zygote()
        self.assertEqual(zygote.ready, {
            "op": "ready", "pid": zygote.process.pid,
            "python": ".".join(map(str, sys.version_info[:3])),
        })
        self.assertEqual(len(os.listdir("/proc/%d/task" % zygote.process.pid)), 1)

    def test_no_descriptor_leaks(self):
        zygote = Zygote()
        self.addCleanup(zygote.close)
        names = {}
        code = """
            import os
            def handler(event):
                return {fd: os.readlink("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd")
                        if os.path.lexists("/proc/self/fd/" + fd)}
        """
        before = os.listdir("/proc/%d/fd" % zygote.process.pid)
        hosts = [self.fork(code, zygote=zygote) for _ in range(3)]
        for host in hosts:
            names = host.call().json
            kinds = {fd: name.partition(":")[0] for fd, name in names.items()}
            # Three streams, the control channel, the epoll, this request's connection.
            self.assertEqual(kinds, {
                "0": "/dev/null", "1": "pipe", "2": "pipe", "3": "socket", "4": "anon_inode",
                "5": "socket",
            })
        self.assertEqual(os.listdir("/proc/%d/fd" % zygote.process.pid), before)

    def test_exits_are_reported(self):
        zygote = shared_zygote()
        host = self.host("import os\ndef handler(event): os._exit(7)")
        self.assertIsNone(host.call())
        self.assertEqual(zygote.exit_of(host.name), {
            "op": "exited", "id": host.name, "pid": host.pid, "code": 7, "signal": None})
        host = self.host("def handler(event): pass")
        os.kill(host.pid, signal.SIGKILL)
        self.assertEqual(zygote.exit_of(host.name)["signal"], 9)

    def test_random_state_differs(self):
        code = """
            import random, tempfile, ssl
            seen = [random.random(), next(tempfile._get_candidate_names()), ssl.RAND_bytes(8).hex()]
            def handler(event): return seen
        """
        one, two = self.host(code).call().json, self.host(code).call().json
        for a, b in zip(one, two):
            self.assertNotEqual(a, b)

    def test_limits_and_confinement(self):
        host = self.fork("""
            import os, resource, signal
            def handler(event):
                status = dict(l.split(":\\t", 1) for l in open("/proc/self/status").read().splitlines()
                              if ":\\t" in l)
                mask = os.umask(0)
                return {
                    "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
                    "fsize": resource.getrlimit(resource.RLIMIT_FSIZE),
                    "core": resource.getrlimit(resource.RLIMIT_CORE),
                    "privs": status["NoNewPrivs"], "mask": mask,
                    "caps": [status[k] for k in ("CapInh", "CapPrm", "CapEff", "CapAmb")],
                    "mem": os.stat("/proc/self/mem").st_uid,
                    "threads": status["Threads"],
                }
        """, {"limits": {"nofile": 100, "nproc": 50, "fsize": 1 << 20, "core": 0}, "umask": 0o027})
        got = host.call().json
        self.assertEqual(got["nofile"], [100, 100])
        self.assertEqual(got["fsize"], [1 << 20, 1 << 20])
        self.assertEqual(got["core"], [0, 0])
        self.assertEqual((got["privs"], got["mask"], got["threads"]), ("1", 0o027, "1"))
        self.assertEqual(got["caps"], ["0" * 16] * 4)

    @unittest.skipUnless(os.uname().machine in ARCH, "no system call numbers for this machine")
    def test_seccomp_is_applied(self):
        _, uname = ARCH[os.uname().machine]
        programs = [base64.b64encode(filter_refusing(uname, e)).decode() for e in (38, 1)]
        code = """
            import os
            def handler(event):
                try: return os.uname().sysname
                except OSError as error: return str(error.errno)
        """
        self.assertEqual(self.fork(code).call().body, b"Linux")
        self.assertEqual(self.fork(code, {"seccomp": programs[:1]}).call().body, b"38")
        # Two filters: the kernel takes the first of equally strong answers it finds, the newest.
        self.assertIn(self.fork(code, {"seccomp": programs}).call().body, (b"1", b"38"))

    def check_failed_step(self, request, step, error):
        host = self.fork("def handler(): pass", request)
        self.assertEqual(host.first[:1], b"F")
        message = json.loads(host.first[1:])
        self.assertEqual(message["step"], step)
        self.assertIn(error, message["error"])
        self.assertEqual(host.exit_code(), 70)

    def test_failed_steps(self):
        self.check_failed_step({"seccomp": ["AAAA"]}, "seccomp", "multiple of 8")
        self.check_failed_step({"limits": {"nofile": -5}}, "limits", "")
        self.check_failed_step({"limits": {"colour": 5}}, "limits", "colour")

    def test_refused_requests(self):
        zygote = shared_zygote()
        for raw, fds, step in (
            (b"{", (), "request"), (b"[]", (), "request"), (b'{"op":"dance"}', (), "request"),
            (b'{"op":"fork","id":"x"}', (0, 1), "request"),
            (b'{"op":"fork","id":"x","join":true}', (0,) * 5, "setns pid"),
        ):
            send(zygote.sock, raw, fds)
            message, _ = zygote.answer()
            self.assertEqual((message["op"], message["step"]), ("failed", step), message)
        self.assertEqual(self.host("def handler(): return 'on'").call().body, b"on")

    def test_config_over_the_channel(self):
        """Without `config` in the request the host waits for it, as without a zygote."""
        config = self.config("def handler(): return 'late'")
        zygote = shared_zygote()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        send(ours, b"G" + json.dumps(config).encode())
        null = os.open("/dev/null", os.O_RDWR)
        asked = {"op": "fork", "id": "late", "join": False}
        message, fds = zygote.request(asked, [null, theirs.fileno(), null, null, null])
        for fd in fds + [null]:
            os.close(fd)
        theirs.close()
        host = Instance(ours, [], "late", zygote)
        self.addCleanup(host.close)
        self.assertEqual(host.wait_ready(), b"R", host.first)
        self.assertEqual(host.call().body, b"late")

    def test_without_a_zygote(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        process = start("host_main.py", theirs)
        theirs.close()
        send(ours, b"G" + json.dumps(self.config("def handler(): return 'direct'")).encode())
        host = Instance(ours, [], process=process)
        self.addCleanup(host.close)
        self.assertEqual(host.wait_ready(), b"R", host.first)
        self.assertEqual(host.call().body, b"direct")
        self.assertEqual(host.drain(), 0)

    def test_ends_with_the_server(self):
        Zygote().close()


def others_can_read(path):
    """Whether user 1000 of a sandbox reaches the standard library, wherever it is installed."""
    while path != "/":
        if not os.stat(path).st_mode & 0o005 == 0o005:
            return False
        path = os.path.dirname(path)
    return True


@unittest.skipUnless(os.geteuid() == 0, "needs root")
@unittest.skipUnless(others_can_read(os.path.dirname(os.__file__)), "a private Python")
class Sandbox(HostCase):
    def setUp(self):
        """An init as pid 1 of namespaces of its own, as a launcher makes them."""
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sandbox_init.py")
        self.init = subprocess.Popen(
            [sys.executable, "-I", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(self.end_init)
        self.assertEqual(self.init.stdout.readline(), b"unshared\n")
        for name in ("uid_map", "gid_map"):
            with open("/proc/%d/%s" % (self.init.pid, name), "w") as file:
                file.write("0 0 65000")
        self.init.stdin.write(b"\n")
        self.init.stdin.flush()
        lines = sorted([self.init.stdout.readline(), self.init.stdout.readline()])
        self.assertEqual(lines[1], b"made\n")
        self.inside = int(lines[0])
        self.pidfd = os.pidfd_open(self.inside)
        self.addCleanup(os.close, self.pidfd)

    def end_init(self):
        self.init.stdin.close()
        self.init.stdout.close()
        self.init.wait(PATIENCE)

    def join(self, code):
        config = self.config(code)
        os.chmod(os.path.dirname(config["entry"]), 0o755)
        zygote = shared_zygote()
        name = tag()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        null = os.open("/dev/null", os.O_RDWR)
        asked = {"op": "fork", "id": name, "config": config, "join": True, "uid": 1000, "gid": 1000,
                 "limits": {"nofile": 256, "nproc": 64, "fsize": 1 << 20, "core": 0}, "umask": 18}
        message, fds = zygote.request(asked, [self.pidfd, theirs.fileno(), null, null, null])
        os.close(null)
        theirs.close()
        self.assertEqual(message["op"], "forked", message)
        host = Instance(ours, fds, name, zygote)
        host.pid = message["pid"]
        self.addCleanup(host.close)
        self.assertEqual(host.wait_ready(), b"R", host.first)
        return host

    def test_joined(self):
        host = self.join("""
            import os, socket
            def handler(event):
                status = dict(l.split(":\\t", 1) for l in open("/proc/self/status").read().splitlines()
                              if ":\\t" in l)
                kinds = ("user", "mnt", "pid", "net", "ipc", "uts")
                try:
                    os.kill(1, 9)
                    killed = True
                except PermissionError:
                    killed = False
                return {
                    "ids": [os.getresuid(), os.getresgid(), os.getgroups()], "pid": os.getpid(),
                    "host": socket.gethostname(), "links": os.listdir("/sys/class/net") and
                    [name for _, name in socket.if_nameindex()],
                    "ns": [os.readlink("/proc/self/ns/" + kind) for kind in kinds],
                    "caps": [status[k] for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
                    "pids": [p for p in os.listdir("/proc") if p.isdigit()], "killed": killed,
                }
        """)
        got = host.call().json
        self.assertEqual(got["ids"], [[1000] * 3, [1000] * 3, []])
        self.assertEqual((got["host"], got["links"], got["killed"]), ("inside", ["lo"], False))
        self.assertEqual(sorted(got["pids"]), sorted(["1", str(got["pid"])]))
        self.assertEqual(got["caps"], ["0" * 16] * 5)
        for link in got["ns"]:
            kind = link.partition(":")[0]
            self.assertEqual(link, os.readlink("/proc/%d/ns/%s" % (self.inside, kind)))
            self.assertNotEqual(link, os.readlink("/proc/self/ns/" + kind))
        # The handle is of the child, and tells of its end.
        os.kill(host.pid, signal.SIGKILL)
        self.assertTrue(select.select(host.pipes, [], [], PATIENCE)[0])
        self.assertEqual(host.exit_code(), -9)

    def test_zygote_returns_to_its_own_pid_namespace(self):
        self.join("def handler(): pass")
        own = os.readlink("/proc/self/ns/pid")
        pid = shared_zygote().process.pid
        self.assertEqual(os.readlink("/proc/%d/ns/pid_for_children" % pid), own)
        host = self.host("import os\ndef handler(): return os.readlink('/proc/self/ns/pid')")
        self.assertEqual(host.call().body.decode(), own)

    def test_sandbox_whose_init_has_gone(self):
        os.kill(self.inside, signal.SIGKILL)
        self.init.wait()
        zygote = shared_zygote()
        null = os.open("/dev/null", os.O_RDWR)
        asked = {"op": "fork", "id": "x", "config": {}, "join": True, "uid": 1000, "gid": 1000}
        message, fds = zygote.request(asked, [self.pidfd, null, null, null, null])
        os.close(null)
        self.assertEqual((message["op"], fds), ("failed", []))
        self.assertIn(message["step"], ("setns pid", "fork"))
        self.assertEqual(self.host("def handler(): return 'on'").call().body, b"on")


@unittest.skipUnless(os.geteuid() == 0, "needs root")
class Cgroup(HostCase):
    def test_writes_itself_into_each_file(self):
        zygote = shared_zygote()
        read, write = os.pipe()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        null = os.open("/dev/null", os.O_RDWR)
        asked = {"op": "fork", "id": tag(), "config": self.config("def handler(): pass"), "join": False}
        message, fds = zygote.request(
            asked, [null, theirs.fileno(), null, null, null, write, write])
        for fd in fds + [null, write]:
            os.close(fd)
        theirs.close()
        host = Instance(ours, [read], asked["id"], zygote)
        self.addCleanup(host.close)
        self.assertEqual(host.wait_ready(), b"R", host.first)
        self.assertEqual(os.read(read, 10), b"00")
