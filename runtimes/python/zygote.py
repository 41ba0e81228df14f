"""The zygote: a Python that has imported everything once, and forks instances.

Started as `python3 -I -B zygote.py` with a SOCK_SEQPACKET socket to the server
on descriptor 3. It holds no tenant's code and no threads. A request names a
sandbox by the pidfd of its init: the zygote enters that pid namespace for its
children, forks, and returns; the child enters everything else (`confine`) and
becomes a host (`life`).

Invariant: between requests the zygote is in its own pid namespace. If the way
back fails it ends, since every later child would be born in a stranger's.
"""

import array
import gc
import json
import os
import select
import signal
import socket
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, _HERE)

# What functions commonly import costs memory and start time once, here, instead
# of in each instance. asyncio with ssl is the dearest: about 2.5 MiB, shared.
import asyncio  # noqa: E402, F401
import base64  # noqa: E402, F401
import collections.abc  # noqa: E402, F401
import contextvars  # noqa: E402, F401
import dataclasses  # noqa: E402, F401
import datetime  # noqa: E402, F401
import functools  # noqa: E402, F401
import hashlib  # noqa: E402, F401
import hmac  # noqa: E402, F401
import io  # noqa: E402, F401
import logging  # noqa: E402, F401
import random  # noqa: E402, F401
import re  # noqa: E402, F401
import traceback  # noqa: E402, F401
import typing  # noqa: E402, F401
import urllib.parse  # noqa: E402, F401

import encodings.idna  # noqa: E402, F401

from tidegate_host import confine, life, wire  # noqa: E402

# The server's socket, as the launcher leaves it.
SERVER_FD = 3

# A request with its configuration and filters; larger ones are refused. A kernel's
# default send buffer would not take much more in one datagram either.
REQUEST_MAX = 256 * 1024

# init, control, three standard streams, up to four cgroups.
FDS_MIN, FDS_MAX = 5, 9

EXIT_LOST = 71


class Refused(Exception):
    """A request that cannot be done; `step` says where it ended."""

    def __init__(self, step, error):
        super().__init__(error)
        self.step = step


class Zygote:
    def __init__(self):
        # Plain descriptors throughout: an object that closed its own in a child's
        # garbage collection would close one of the function's.
        self._server = socket.socket(fileno=SERVER_FD)
        self._server.settimeout(None)
        self._children = {}
        self._pidns = _own_pid_namespace()
        self._wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def run(self):
        """Serves until the server closes its end."""
        gc.collect()
        gc.freeze()
        version = ".".join(str(part) for part in sys.version_info[:3])
        self._send({"op": "ready", "pid": os.getpid(), "python": version})
        poll = select.poll()
        poll.register(SERVER_FD, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._wake:
                    self._reap()
                elif not self._serve():
                    return

    def _send(self, message, fds=()):
        ancillary = []
        if fds:
            ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds)))
        try:
            self._server.sendmsg([json.dumps(message).encode()], ancillary)
        except OSError:
            # The end of the server is noticed at the next read.
            pass

    def _serve(self):
        """Takes one request; whether there may be more."""
        room = socket.CMSG_SPACE(4 * FDS_MAX)
        try:
            data, ancillary, flags, _ = self._server.recvmsg(
                REQUEST_MAX, room, socket.MSG_CMSG_CLOEXEC
            )
        except OSError:
            return False
        fds = wire.descriptors(ancillary)
        if not data:
            return False
        request = None
        try:
            request = self._read(data, flags, fds)
            self._fork(request, fds)
        except Refused as failure:
            self._send({
                "op": "failed",
                "id": request.get("id") if request else None,
                "step": failure.step,
                "error": str(failure),
            })
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _read(self, data, flags, fds):
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise Refused("request", "a request is over %d bytes or %d descriptors"
                          % (REQUEST_MAX, FDS_MAX))
        try:
            request = json.loads(data)
            operation = request["op"]
        except (ValueError, KeyError, TypeError) as error:
            raise Refused("request", "malformed request, expected JSON with `op`: %s" % error)
        if operation != "fork":
            raise Refused("request", "unknown operation %r, expected `fork`" % operation)
        if not FDS_MIN <= len(fds) <= FDS_MAX:
            raise Refused("request", "%d descriptors, expected %d to %d"
                          % (len(fds), FDS_MIN, FDS_MAX))
        return request

    def _fork(self, request, fds):
        join = request.get("join", True)
        if join:
            if self._pidns is None:
                raise Refused("setns pid", "the zygote's own pid namespace cannot be opened")
            try:
                confine.setns(fds[0], confine.CLONE_NEWPID)
            except OSError as error:
                raise Refused("setns pid", str(error))
        refused = pid = None
        try:
            pid = os.fork()
        except OSError as error:
            refused = Refused("fork", str(error))
        if pid == 0:
            self._become(request, fds)
        if join:
            try:
                confine.setns(self._pidns, confine.CLONE_NEWPID)
            except OSError:
                os._exit(EXIT_LOST)
        if refused is not None:
            raise refused
        self._children[pid] = request.get("id")
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            # Without a handle the server could not end it safely.
            os.kill(pid, signal.SIGKILL)
            raise Refused("pidfd", str(error))
        self._send({"op": "forked", "id": request.get("id"), "pid": pid}, [pidfd])
        os.close(pidfd)

    def _become(self, request, fds):
        """The child: never returns."""
        code = life.EXIT_CONFINE
        try:
            # Not closed, only forgotten: confine puts another in its place.
            self._server.detach()
            self._children.clear()
            try:
                confine.confine(request, fds)
            except confine.Failed as failure:
                _report(fds[1], failure)
                os._exit(code)
            sys.path.remove(_HERE)
            code = life.live(life.open_control(), request.get("config"))
        except BaseException:
            # The zygote's loop must not be reached by a child, whatever happened.
            traceback.print_exc(file=sys.__stderr__)
            os._exit(code)
        life.leave(code)

    def _reap(self):
        try:
            os.read(self._wake, 4096)
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            killed = os.WIFSIGNALED(status)
            self._send({
                "op": "exited",
                "id": self._children.pop(pid, None),
                "pid": pid,
                "code": None if killed else os.WEXITSTATUS(status),
                "signal": os.WTERMSIG(status) if killed else None,
            })


def _report(control_fd, failure):
    """Says why the sandbox was not entered, before descriptors were put in order or after."""
    for fd in (control_fd, wire.CONTROL_FD):
        try:
            sock = socket.socket(fileno=fd)
            if sock.type == socket.SOCK_SEQPACKET:
                wire.Control(sock).failed(failure.step, failure.error)
                return
            sock.detach()
        except OSError:
            continue


def _own_pid_namespace():
    try:
        return os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _fill_standard_streams():
    """A received descriptor must never be 0, 1 or 2: those are overwritten in the child."""
    fd = os.open("/dev/null", os.O_RDWR)
    while fd <= 2:
        fd = os.open("/dev/null", os.O_RDWR)
    os.close(fd)


if __name__ == "__main__":
    _fill_standard_streams()
    Zygote().run()
