"""The server for asynchronous functions: asyncio, one task a request.

A connection reads one request at a time; what follows waits in its buffer.
Reading pauses while a body is buffered beyond a bound, and writing waits while
the transport's buffer is full, so a slow side slows the other down instead of
filling memory.
"""

import _signal
import asyncio
import io
import os
import socket
import sys
from collections import deque

from tidegate import BodyTooLarge, Event

from . import logs, wire
from .answers import error, error_answer, is_callers_fault, log_failure, piece, shape, stream_fields
from .body import ChunkedDecoder, PeerGone
from .exchange import JOIN_MAX
from .handlers import make_context
from .http1 import (
    CHUNKED,
    CONTINUE,
    HEAD_MAX,
    LENGTH,
    NO_BODY,
    BadRequest,
    compose,
    parse_head,
)
from .sync import CONNECTIONS_MAX, EARLY_CANCELS, ORPHAN_GRACE, refusal

# A connection stops reading while it holds more than this of a body nobody has taken.
BODY_BUFFER = 256 * 1024


# At the end of a drain: how long the last answers may take to leave, in seconds.
FLUSH_GRACE = 5.0

# How often that is looked at; nothing else happens by then.
FLUSH_STEP = 0.002


class AsyncBody:
    """The body of one request as it arrives on its connection."""

    def __init__(self, conn, head, limit):
        self._conn = conn
        self._limit = limit
        self._decoder = ChunkedDecoder() if head.chunked else None
        self._left = head.length or 0
        self._expects = head.expects
        self._parts = deque()
        self._held = 0
        self._seen = 0
        self._waiter = None
        self._discarding = False
        self.failure = None
        self.complete = self._decoder is None and self._left == 0
        if self._left > limit:
            self.failure = self.too_large()

    def feed(self, data):
        """Takes received bytes; answers those beyond the end of the body."""
        rest = b""
        if self._decoder is None:
            data, rest = data[: self._left], data[self._left :]
            self._left -= len(data)
            self.complete = self._left == 0
        else:
            try:
                data = self._decoder.feed(data)
            except BadRequest as failure:
                return self.fail(failure)
            self.complete = self._decoder.done
            if self.complete:
                rest = self._decoder.rest()
        self._seen += len(data)
        if self._seen > self._limit:
            return self.fail(self.too_large())
        if data and not self._discarding:
            self._parts.append(data)
            self._held += len(data)
        self._wake()
        return rest

    def fail(self, failure):
        self.failure = failure
        self._wake()
        return b""

    def too_large(self):
        return BodyTooLarge("the body is over the limit of %d bytes" % self._limit)

    @property
    def full(self):
        return self._held > BODY_BUFFER

    @property
    def drained(self):
        """Whether nothing of the body can hinder the next request."""
        return self.complete and self.failure is None

    @property
    def discardable(self):
        """Whether what is still to come may be awaited and thrown away."""
        return self.failure is None and (
            self.complete or not self._expects and self._left <= BODY_BUFFER
        )

    @property
    def unasked(self):
        """Whether the sender still waits for leave to send, or will find none."""
        return self.failure is not None or bool(self._expects) and not self.complete

    def discard(self):
        """Throws away what is there and what comes; the limit still holds."""
        self._discarding = True
        self._parts.clear()
        self._held = 0

    @property
    def ended(self):
        """Whether everything has been taken."""
        return self.complete and self.failure is None and not self._parts

    def _wake(self):
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self):
        """The next piece; b"" at the end. Raises what made the body unreadable."""
        while not self._parts:
            if self.failure is not None:
                raise self.failure
            if self.complete:
                return b""
            if self._expects:
                self._expects = False
                self._conn.transport.write(CONTINUE)
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = self._parts.popleft()
        self._held -= len(data)
        self._conn.resume()
        return data

    async def read_all(self):
        parts = []
        while True:
            data = await self.read()
            if not data:
                return parts[0] if len(parts) == 1 else b"".join(parts)
            parts.append(data)


class AsyncExchange:
    """Writes the answer to one request, waiting while the transport is full."""

    def __init__(self, conn, head, body, scope):
        self.conn = conn
        self.head = head
        self.body = body
        self.scope = scope
        self.started = False
        self.keep = False
        self.finished = False
        # Set when the connection has become something else (WebSocket).
        self.taken_over = None
        self._mode = NO_BODY
        self._left = None
        self._over = None

    def end(self):
        """The answer is complete: the connection is free, whatever the function still does."""
        self.finished = True
        self.notice()
        self.conn.done(self)

    def notice(self):
        """Wakes whoever waits in `over`."""
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    async def over(self):
        """Waits until the answer is complete or its connection lost."""
        if self.finished or self.conn.lost:
            return
        if self._over is None:
            self._over = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._over)

    def send(self, data):
        if self.conn.lost:
            raise PeerGone("the connection is closed")
        self.conn.transport.write(data)

    async def respond(self, status, fields, body, outcome=None):
        head, mode, _, self.keep = compose(
            self.head, status, fields, len(body), outcome, close=not self.body.discardable
        )
        self.scope.flush()
        self.started = True
        if mode == NO_BODY or not body:
            self.send(head)
        elif len(body) <= JOIN_MAX:
            self.send(head + body)
        else:
            self.send(head)
            self.send(body)
        self.end()
        await self.conn.drain()

    def start(self, status, fields, length=None):
        head, self._mode, self._left, self.keep = compose(
            self.head, status, fields, length, close=self.body.unasked
        )
        self.started = True
        return head

    async def write(self, data, head=b""):
        mode = self._mode
        if mode == CHUNKED and data:
            data = b"%s%x\r\n%s\r\n" % (head, len(data), data)
        elif mode == NO_BODY:
            data = head
        else:
            if mode == LENGTH:
                if len(data) > self._left:
                    raise ValueError("the body is longer than its content-length")
                self._left -= len(data)
            data = head + data
        if data:
            self.send(data)
            await self.conn.drain()

    async def finish(self):
        self.scope.flush()
        if self._mode == CHUNKED:
            self.send(b"0\r\n\r\n")
        elif self._mode == LENGTH and self._left:
            raise ValueError("the body is %d bytes shorter than its content-length" % self._left)
        self.end()
        await self.conn.drain()

    async def fail(self, failure):
        """Answers an exception of the function, or breaks the answer off."""
        if isinstance(failure, PeerGone):
            return
        if isinstance(failure, BadRequest):
            # The fault is in the body as sent: neither the function's nor ours.
            if not self.started:
                answer = error_answer(self.head, failure.status, str(failure), "platform")
                await self._last(*answer)
            return
        if self.finished or self.started or not is_callers_fault(failure):
            log_failure(failure)
        if not self.started and self.taken_over is None:
            await self._last(*error(self.head, failure))

    async def _last(self, status, fields, body, outcome):
        try:
            await self.respond(status, fields, body, outcome)
        except PeerGone:
            pass


class AsyncHandlerApp:
    """Answers exchanges by an `async def handler`.

    The body is read before the call, because `event.body` cannot await.
    """

    def __init__(self, call, config):
        self._call = call
        self._config = config

    async def __call__(self, x):
        head = x.head
        source = _Whole(await x.body.read_all())
        event = Event(head.method, head.target, head.fields, source)
        result = self._call(event, make_context(self._config, head))
        if hasattr(result, "__await__"):
            result = await result
        status, fields, body = shape(result)
        if type(body) is bytes:
            await x.respond(status, fields, body)
            return
        try:
            first = True
            async for chunk in _each(body):
                if first:
                    await x.write(piece(chunk), x.start(status, stream_fields(fields, chunk)))
                    first = False
                else:
                    await x.write(piece(chunk))
            if first:
                x.send(x.start(status, fields))
            await x.finish()
        finally:
            if hasattr(body, "aclose"):
                await body.aclose()
            elif hasattr(body, "close"):
                body.close()


class _Whole:
    """A body that is in memory already."""

    def __init__(self, data):
        self._data = data
        self._file = None

    def read_all(self):
        return self._data

    def stream(self):
        if self._file is None:
            self._file = io.BytesIO(self._data)
        return self._file


async def _each(body):
    if hasattr(body, "__anext__"):
        async for chunk in body:
            yield chunk
    else:
        for chunk in body:
            yield chunk


class AsyncConnection(asyncio.Protocol):
    """One keep-alive connection: requests one after another."""

    def __init__(self, server):
        self._server = server
        self.transport = None
        self.lost = False
        self._buf = b""
        self._x = None
        self._paused = False
        self._writable = None
        self._reader = None

    # === Called by asyncio ===

    def connection_made(self, transport):
        self.transport = transport
        self._server.connections.add(self)

    def connection_lost(self, _failure):
        self.lost = True
        self._server.connections.discard(self)
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        x = self._x
        if x is not None:
            if not x.body.complete:
                x.body.fail(PeerGone("the request ended before its body was complete"))
            x.notice()
        if self._reader is not None:
            self._reader(None)

    def pause_writing(self):
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self):
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def data_received(self, data):
        if self._reader is not None:
            self._reader(data)
            return
        x = self._x
        if x is not None and not x.body.complete and x.body.failure is None:
            data = x.body.feed(data)
            if x.body.full:
                self.pause()
            if x.finished and (x.body.complete or x.body.failure is not None):
                self._buf = data
                self.done(x)
                return
        if data:
            self._buf = self._buf + data if self._buf else data
            if x is None:
                self._next()
            elif len(self._buf) > HEAD_MAX:
                self.pause()

    # === Used by exchanges ===

    async def drain(self):
        """Waits until the transport takes more; returns at once if the peer has gone."""
        if self._writable is not None and not self.lost:
            await asyncio.shield(self._writable)

    def pause(self):
        if not self._paused and not self.lost:
            self._paused = True
            self.transport.pause_reading()

    def resume(self):
        if self._paused and not self.lost and not (self._x and self._x.body.full):
            self._paused = False
            self.transport.resume_reading()

    def take_over(self, reader):
        """From now on received bytes go to `reader(data)`, None at the end."""
        self._reader = reader
        rest, self._buf = self._buf, b""
        if rest:
            reader(rest)

    @property
    def idle(self):
        return self._x is None

    # === Requests ===

    def _next(self):
        end = self._buf.find(b"\r\n\r\n")
        try:
            if end < 0 and len(self._buf) <= HEAD_MAX:
                if self._buf[:2] == b"\r\n":
                    self._buf = self._buf[2:]
                return
            if end < 0 or end > HEAD_MAX:
                raise BadRequest("the request head is over %d bytes" % HEAD_MAX, 431)
            head = parse_head(self._buf[: end + 2].lstrip(b"\r\n"))
        except BadRequest as failure:
            self._buf = b""
            self.transport.write(refusal(failure))
            self.transport.close()
            return
        rest, self._buf = self._buf[end + 4 :], b""
        body = AsyncBody(self, head, self._server.body_limit)
        x = self._x = AsyncExchange(self, head, body, logs.Scope(head.tag))
        if rest and not body.complete:
            rest = body.feed(rest)
        self._buf = rest
        self._server.begin(x)

    def done(self, x, broken=False):
        """The exchange is over: read on, or close. A second call changes nothing."""
        if self._x is not x:
            return
        whole = x.keep and x.finished and not broken
        if whole and not self.lost and not x.body.complete and x.body.discardable:
            # `data_received` calls again when the rest of the body has come.
            x.body.discard()
            self.resume()
            return
        self._x = None
        if self.lost:
            return
        if broken or x.started and not x.finished:
            # No end mark, and nothing of what is buffered: an answer broken off.
            self.transport.abort()
        elif not (x.keep and x.finished and x.body.drained):
            self.transport.close()
        else:
            self.resume()
            if self._buf:
                self._next()


class AsyncServer:
    """Runs `app` (an async callable taking an AsyncExchange) until told to drain."""

    def __init__(self, control, app, config, lifespan=None):
        self.control = control
        self.connections = set()
        self.body_limit = config["max_body"]
        self._app = app
        self._lifespan = lifespan
        self._tasks = {}
        self._cancelled = set()
        self._early = deque(maxlen=EARLY_CANCELS)
        self._loop = None
        self._leave = None
        self._drainer = None

    def run(self, loop):
        """Serves; answers the exit code. Raises what the start of the lifespan raised."""
        self._loop = loop
        # Cancels come over the channel; the signal beside them must not end the process.
        _signal.signal(_signal.SIGUSR1, lambda _number, _frame: None)
        try:
            return loop.run_until_complete(self._main())
        finally:
            self._stop_generators()

    def _stop_generators(self):
        try:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        except Exception as failure:
            log_failure(failure)

    async def _main(self):
        self._leave = asyncio.Event()
        if self._lifespan is not None:
            await self._lifespan.startup()
        self._loop.add_reader(self.control.fd, self._read_control)
        self.control.ready()
        await self._leave.wait()
        if self._lifespan is not None:
            await self._lifespan.shutdown()
        return 0

    # === Control ===

    def _read_control(self):
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
                self._drainer = self._loop.create_task(self._drain(None))
            elif kind == b"":
                self._loop.remove_reader(self.control.fd)
                self._drainer = self._loop.create_task(self._drain(ORPHAN_GRACE))
                return
            for fd in fds:
                os.close(fd)

    def _accept(self, fd):
        if len(self.connections) >= CONNECTIONS_MAX:
            os.close(fd)
            return
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        self._keep(self._loop.create_task(
            self._loop.connect_accepted_socket(lambda: AsyncConnection(self), sock)
        ))

    def _keep(self, task):
        """Holds a task of the server's own, which the loop alone would not."""
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def _cancel(self, tag):
        for task, x in self._tasks.items():
            if x is not None and x.head.tag == tag:
                self._cancelled.add(tag)
                task.cancel()
                return
        self._early.append(tag)
        self.control.idle(tag)

    async def _drain(self, grace):
        # One turn for what has arrived with the message, then what is in flight.
        await asyncio.sleep(0)
        while True:
            running = [task for task in self._tasks]
            if not running:
                break
            _, late = await asyncio.wait(running, timeout=grace)
            if late and grace is not None:
                break
        await self._flush(FLUSH_GRACE if grace is None else grace)
        self._leave.set()

    async def _flush(self, grace):
        """Closes every connection once what was written to it has left."""
        end = self._loop.time() + grace
        for conn in list(self.connections):
            conn.transport.close()
        while self.connections and self._loop.time() < end:
            await asyncio.sleep(FLUSH_STEP)

    # === Requests ===

    def begin(self, x):
        if x.head.tag in self._early:
            x.conn.transport.close()
            return
        task = self._loop.create_task(self._serve(x))
        self._tasks[task] = x
        task.add_done_callback(self._ended)

    async def _serve(self, x):
        logs.current.set(x.scope)
        try:
            await self._app(x)
        except asyncio.CancelledError as failure:
            x.keep = False
            if x.head.tag not in self._cancelled:
                # The function raised it by itself: a failure like any other.
                await x.fail(failure)
        except GeneratorExit:
            raise
        except BaseException as failure:
            # What would end the loop (SystemExit) is a failure of one request here.
            await x.fail(failure)
        finally:
            x.scope.flush()

    def _ended(self, task):
        x = self._tasks.pop(task)
        if not task.cancelled() and task.exception() is not None:
            x.keep = False
            sys.stderr.write("a request ended with %r\n" % task.exception())
        tag = x.head.tag
        was_cancelled = tag in self._cancelled
        x.conn.done(x, broken=was_cancelled)
        if was_cancelled:
            self._cancelled.discard(tag)
            self.control.idle(tag)


def new_loop():
    """The event loop of an asynchronous function."""
    if sys.version_info < (3, 10):
        # There, a lock made by module code is bound to this one already.
        return asyncio.get_event_loop()
    return asyncio.new_event_loop()
