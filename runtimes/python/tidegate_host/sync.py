"""The server for synchronous functions at concurrency 1: one thread, one epoll.

Connections that wait cost nothing but a descriptor. A request is read, run and
answered in one go. While a handler runs nothing else does, so the control
channel interrupts it: it is set to raise SIGUSR1 whenever something arrives
(signal-driven I/O; the server's own SIGUSR1 does no harm beside it), and the
signal handler raises Cancelled if the running request is the one meant and the
end of its answer has not left.

A signal that comes between Python's last look for signals and the system call
that then blocks (`time.sleep`) is noticed when the next one interrupts that
call: so the server repeats it until the host answers or is ended.

Invariant: the signal handler acts only while `_running` is set. Otherwise the
loop reads the channel itself, so that neither can take a message from under
the other. `_running` is cleared before Cancelled is raised: once a request.
"""

import _signal
import contextvars
import fcntl
import os
import select
import socket
from collections import deque

from tidegate import Cancelled

from . import logs, wire
from .body import RECV
from .exchange import Exchange
from .http1 import HEAD_MAX, BadRequest, compose, parse_head

# A cancel may overtake its request. So many are remembered to be refused on
# arrival; with one request at a time even one would nearly always do.
EARLY_CANCELS = 64

# After the server has gone: what is in flight may take so long, in seconds.
ORPHAN_GRACE = 1.0

# Connections taken by one host at most. The server keeps one a worker thread
# and slot; this only bounds what a fault on its side could cost.
CONNECTIONS_MAX = 4096


class Connection:
    """A keep-alive connection between requests."""

    __slots__ = ("sock", "fd", "buf", "skip", "busy")

    def __init__(self, sock):
        self.sock = sock
        self.fd = sock.fileno()
        self.buf = b""
        # Bytes of an unread body still to be thrown away.
        self.skip = 0
        self.busy = False


class SyncServer:
    """Runs `app` (called with an Exchange) on connections from the control channel."""

    def __init__(self, control, app):
        self.control = control
        self._app = app
        self._epoll = select.epoll()
        self._conns = {}
        self._draining = self._orphaned = False
        self._running = None
        self._cancelled = None
        self._x = None
        self._early = deque(maxlen=EARLY_CANCELS)
        self._context = contextvars.copy_context()

    def run(self):
        """Serves until told to drain or the server is gone; answers the exit code."""
        self._prepare()
        control_fd = self.control.fd
        self._epoll.register(control_fd, select.EPOLLIN)
        self.control.ready()
        poll = self._epoll.poll
        conns = self._conns
        while True:
            # While draining: what has been received already is still served.
            events = poll(0) if self._draining else poll()
            if self._draining and not self._on_idle_drain(events):
                return 0
            if len(events) > 1:
                # Control first: it may cancel what is about to be read.
                events.sort(key=lambda event: event[0] != control_fd)
            for fd, _ in events:
                if fd == control_fd:
                    self._read_control()
                else:
                    conn = conns.get(fd)
                    if conn is not None:
                        self._on_readable(conn)

    def _on_idle_drain(self, events):
        """Whether a draining server has more to do."""
        return any(fd in self._conns for fd, _ in events)

    def _prepare(self):
        _signal.signal(_signal.SIGUSR1, self._on_signal)
        fd = self.control.fd
        fcntl.fcntl(fd, fcntl.F_SETSIG, _signal.SIGUSR1)
        fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)

    # === Control ===

    def _on_signal(self, _number, _frame):
        if self._running is None:
            return
        self._read_control()
        if self._cancelled is not None and not self._x.sealed:
            self._running = None
            raise Cancelled("the call was cancelled")

    def _read_control(self):
        """Takes every message that is there."""
        while True:
            message = self.control.receive()
            if message is None:
                return
            kind, payload, fds = message
            if kind == wire.CONNECTION and fds:
                self._accept(fds.pop(0))
            elif kind == wire.CANCEL:
                self._cancel(payload[:32])
            elif kind == wire.DRAIN:
                self._draining = True
            elif kind == b"":
                self._on_orphaned()
                return
            for fd in fds:
                os.close(fd)

    def _accept(self, fd):
        if len(self._conns) >= CONNECTIONS_MAX:
            os.close(fd)
            return
        sock = socket.socket(fileno=fd)
        # Explicitly, because the function may have set a default timeout.
        sock.settimeout(None)
        conn = Connection(sock)
        self._conns[fd] = conn
        self._watch(conn)

    def _watch(self, conn):
        self._epoll.register(conn.fd, select.EPOLLIN)

    def _cancel(self, tag):
        if tag == self._running:
            self._cancelled = tag
        else:
            self._early.append(tag)
            self.control.idle(tag)

    def _on_orphaned(self):
        if not self._orphaned and self._running is not None:
            # The kernel keeps this promise even if the handler never returns.
            _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)
            _signal.setitimer(_signal.ITIMER_REAL, ORPHAN_GRACE)
        self._draining = self._orphaned = True
        try:
            self._epoll.unregister(self.control.fd)
        except OSError:
            pass

    # === Connections ===

    def _close(self, conn):
        self._conns.pop(conn.fd, None)
        # Closing takes it out of the epoll as well, unless the function forked.
        try:
            self._epoll.unregister(conn.fd)
        except OSError:
            pass
        conn.sock.close()

    def _on_readable(self, conn):
        try:
            data = conn.sock.recv(RECV, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(conn)
            return
        if conn.skip:
            data, conn.skip = data[conn.skip :], max(0, conn.skip - len(data))
        conn.buf = conn.buf + data if conn.buf else data
        while conn.buf:
            head = self._next_head(conn)
            if head is None:
                return
            if not self._dispatch(conn, head):
                return

    def _next_head(self, conn):
        """The head at the start of the buffer, or None: incomplete, or refused."""
        end = conn.buf.find(b"\r\n\r\n")
        try:
            if end < 0 and len(conn.buf) <= HEAD_MAX:
                # An empty line before a request line is to be forgiven.
                if conn.buf[:2] == b"\r\n":
                    conn.buf = conn.buf[2:]
                return None
            if end < 0 or end > HEAD_MAX:
                raise BadRequest("the request head is over %d bytes" % HEAD_MAX, 431)
            head = parse_head(conn.buf[: end + 2].lstrip(b"\r\n"))
        except BadRequest as failure:
            try:
                conn.sock.send(refusal(failure), socket.MSG_DONTWAIT)
            except OSError:
                pass
            self._close(conn)
            return None
        conn.buf = conn.buf[end + 4 :]
        return head

    def _dispatch(self, conn, head):
        """Runs one request; whether the connection may go on."""
        tag = head.tag
        if tag in self._early:
            self._close(conn)
            return False
        scope = logs.Scope(tag)
        x = Exchange(conn, head, scope)
        self._cancelled = None
        self._x = x
        try:
            self._running = tag
            # A copy, so that what a handler sets in context variables ends with its request.
            self._context.copy().run(self._serve, x, scope)
            self._running = None
        except Cancelled:
            self._running = None
        if not x.sent:
            x.keep = False
            scope.flush()
        if x.keep:
            conn.skip = skip_rest(conn, x)
        else:
            self._close(conn)
        if self._cancelled is not None:
            self.control.idle(tag)
        return x.keep

    def _serve(self, x, scope, job=None):
        logs.current.set(scope)
        try:
            self._app(x)
        except Cancelled as failure:
            if self._is_meant(job):
                raise
            # The function raised it by itself: a failure like any other.
            x.fail(failure)
        finally:
            scope.flush()

    def _is_meant(self, _job):
        return self._cancelled is not None


def skip_rest(conn, x):
    """Drops what is left of the request's body; answers how many bytes are still to come."""
    body = x.body
    if body is None or body.done:
        return 0
    left = body.skippable or 0
    here = min(left, len(conn.buf))
    conn.buf = conn.buf[here:]
    return left - here


def refusal(failure):
    """The answer to a request that cannot be understood; the connection ends after it."""
    body = ('{"error":"%s"}' % str(failure).replace('"', "'")).encode()
    fields = [("content-type", "application/json")]
    head, _, _, _ = compose(_Refused, failure.status, fields, len(body), "platform")
    return head + body


class _Refused:
    method, minor, keep = "GET", 1, False
