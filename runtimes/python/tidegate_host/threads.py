"""The server for synchronous functions above concurrency 1: a pool of threads.

The main thread owns the epoll, the control channel and the connections, and
reads heads; a worker runs one request and hands the connection back. Python
delivers signals to the main thread only, so a worker is cancelled by an
asynchronous exception, which lands when its code runs next: not inside a
blocking call.

Such an exception may land anywhere, even after the request. The rule that
keeps it from the next one: only the main thread sends it, at most once a job,
and withdraws what has not landed before the worker is given another job. Each
step of the worker outside a request may be repeated without harm.
"""

import _signal
import collections
import ctypes
import os
import queue
import select
import threading
import time

from tidegate import Cancelled

from . import logs
from .answers import log_failure
from .exchange import Exchange
from .sync import ORPHAN_GRACE, SyncServer, skip_rest

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = [ctypes.c_ulong, ctypes.py_object]
# The same entry again, because withdrawing needs a null pointer where an object goes.
_withdraw = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)

# Far more threads than a Python process can feed; the server's slots stay below.
WORKERS_MAX = 256


class _Job:
    __slots__ = ("conn", "x", "worker", "cancelled", "begun", "reported")

    def __init__(self, conn, x):
        self.conn = conn
        self.x = x
        self.worker = None
        self.cancelled = self.begun = self.reported = False


class _Worker(threading.Thread):
    """Runs the jobs that the main thread writes into `job`, one after another.

    Only the main thread writes `job`; how far a job has come stands in the job.
    So wherever an exception lands, the loop can be entered again.
    """

    def __init__(self, serve, report):
        super().__init__(name="tidegate-worker", daemon=True)
        self.job = None
        self.wake = queue.SimpleQueue()
        self._serve = serve
        self._report = report

    def run(self):
        while True:
            try:
                self._work()
            except Cancelled:
                pass

    def _work(self):
        while True:
            job = self.job
            if job is None or job.reported:
                self.wake.get()
                continue
            if not job.begun:
                job.begun = True
                try:
                    self._serve(job)
                except Cancelled:
                    pass
                except BaseException as failure:
                    # The exchange answers for the function: this is the host's own fault.
                    job.x.keep = False
                    log_failure(failure)
            self._report(job)
            job.reported = True


class ThreadServer(SyncServer):
    """Runs `app` on up to `concurrency` connections at once."""

    def __init__(self, control, app, concurrency):
        super().__init__(control, app)
        self._limit = min(concurrency, WORKERS_MAX)
        self._workers = 0
        self._free = []
        self._active = {}
        # Heads read while every worker was busy, in order of arrival.
        self._waiting = collections.deque()
        self._finished = collections.deque()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._gone_at = None

    def _prepare(self):
        # The server may send the signal all the same; there is nothing to interrupt here.
        _signal.signal(_signal.SIGUSR1, lambda _number, _frame: None)
        self._epoll.register(self._wake_read, select.EPOLLIN)

    def run(self):
        self._prepare()
        control_fd = self.control.fd
        self._epoll.register(control_fd, select.EPOLLIN)
        self.control.ready()
        while True:
            events = self._epoll.poll(self._patience())
            if self._draining and not events and self._may_leave():
                return 0
            events.sort(key=lambda event: event[0] != control_fd)
            for fd, _ in events:
                if fd == control_fd:
                    self._read_control()
                elif fd == self._wake_read:
                    self._take_finished()
                elif fd in self._conns:
                    self._on_readable(self._conns[fd])

    def _patience(self):
        """How long to wait for an event, in seconds; None for ever."""
        if not self._draining:
            return None
        if not self._active and not self._waiting:
            return 0
        if self._gone_at is None:
            return None
        return max(0.0, self._gone_at + ORPHAN_GRACE - time.monotonic())

    def _may_leave(self):
        if not self._active and not self._waiting:
            return True
        return self._gone_at is not None and time.monotonic() >= self._gone_at + ORPHAN_GRACE

    def _on_orphaned(self):
        super()._on_orphaned()
        self._gone_at = time.monotonic()

    def _dispatch(self, conn, head):
        if head.tag in self._early:
            self._close(conn)
            return False
        job = _Job(conn, Exchange(conn, head, logs.Scope(head.tag)))
        # Its next request is read when this one is answered.
        self._epoll.unregister(conn.fd)
        conn.busy = True
        if self._free:
            self._start(self._free.pop(), job)
        elif self._workers < self._limit:
            worker = _Worker(self._work, self._report)
            worker.start()
            self._workers += 1
            self._start(worker, job)
        else:
            self._waiting.append(job)
        return False

    def _start(self, worker, job):
        job.worker = worker
        self._active[job] = None
        worker.job = job
        worker.wake.put(None)

    def _work(self, job):
        self._context.copy().run(self._serve, job.x, job.x.scope, job)

    def _is_meant(self, job):
        return job.cancelled

    def _report(self, job):
        """Runs in the worker, perhaps twice."""
        self._finished.append(job)
        try:
            os.write(self._wake_write, b"!")
        except BlockingIOError:
            pass

    def _take_finished(self):
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass
        while self._finished:
            job = self._finished.popleft()
            # A report that was interrupted comes a second time.
            if job not in self._active:
                continue
            del self._active[job]
            if job.cancelled:
                _withdraw(job.worker.ident, None)
            self._settle(job)
            if self._waiting:
                self._start(job.worker, self._waiting.popleft())
            else:
                self._free.append(job.worker)

    def _settle(self, job):
        conn, x = job.conn, job.x
        if not x.sent:
            x.keep = False
            x.scope.flush()
        if not x.keep:
            conn.sock.close()
            self._conns.pop(conn.fd, None)
        else:
            conn.skip = skip_rest(conn, x)
            conn.busy = False
            self._watch(conn)
        if job.cancelled:
            self.control.idle(x.head.tag)
        if x.keep and conn.buf:
            head = self._next_head(conn)
            if head is not None:
                self._dispatch(conn, head)

    def _cancel(self, tag):
        for job in self._active:
            if job.x.head.tag == tag:
                if not job.cancelled:
                    job.cancelled = True
                    if not job.x.sealed:
                        _set_async_exc(job.worker.ident, Cancelled)
                return
        for job in self._waiting:
            if job.x.head.tag == tag:
                self._waiting.remove(job)
                self._close(job.conn)
                break
        super()._cancel(tag)
