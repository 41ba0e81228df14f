"""ASGI 3 over an asynchronous exchange: http, websocket and lifespan."""

import asyncio
from urllib.parse import unquote

from .aio import AsyncServer, PeerGone
from .answers import log_failure
from .websocket import Socket, wants_websocket

_VERSIONS = {"version": "3.0", "spec_version": "2.3"}


class StartupFailed(Exception):
    """The app answered `lifespan.startup.failed`."""


class Lifespan:
    """The lifespan protocol: started before the first request, ended after the last."""

    def __init__(self, app):
        self._app = app
        self.state = {}
        self._task = None
        self._sent = None
        self._answers = None
        self._started = False

    async def startup(self):
        """Raises StartupFailed if the app says that it cannot start."""
        self._sent = asyncio.Queue()
        self._answers = asyncio.Queue()
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._sent.put({"type": "lifespan.startup"})
        answer = await self._answers.get()
        if answer["type"] == "lifespan.startup.failed":
            raise StartupFailed(answer.get("message") or "the app did not say why")
        self._started = answer["type"] == "lifespan.startup.complete"

    async def _run(self):
        scope = {"type": "lifespan", "asgi": _VERSIONS, "state": self.state}
        try:
            await self._app(scope, self._sent.get, self._answers.put)
        except Exception as failure:
            # An app without lifespan raises at the unknown scope: that is how it says so.
            if self._started:
                log_failure(failure)
        finally:
            # Whoever waits for an answer must not wait for an app that has returned.
            await self._answers.put({"type": "ended"})

    async def shutdown(self):
        """Tells the app to end, and waits until it says that it has."""
        if not self._started or self._task.done():
            return
        await self._sent.put({"type": "lifespan.shutdown"})
        await self._answers.get()


class AsgiApp:
    """Answers exchanges by an ASGI application."""

    def __init__(self, app, state):
        self._app = app
        self._state = state

    async def __call__(self, x):
        if wants_websocket(x.head):
            await Socket(x).run(self._app, self._scope(x.head, "websocket"))
            return
        call = _Call(x)
        await self._app(self._scope(x.head, "http"), call.receive, call.send)
        if not x.started:
            raise RuntimeError("the app returned without sending a response")
        if not x.finished:
            raise RuntimeError("the app returned before its response was complete")

    def _scope(self, head, kind):
        return make_scope(head, kind, self._state)


def make_scope(head, kind, state):
    path, _, query = head.target.partition("?")
    # The path includes the mount point, as the specification has it since 2.4.
    raw = (head.prefix + path).encode("latin-1")
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head.fields]
    known = dict(head.fields)
    secure = known.get("x-forwarded-proto", "").lower() == "https"
    scope = {
        "type": kind,
        "asgi": _VERSIONS,
        "http_version": "1.%d" % head.minor,
        "scheme": ("https" if secure else "http"),
        "path": unquote(raw.decode("latin-1")),
        "raw_path": raw,
        "query_string": query.encode("latin-1"),
        "root_path": head.prefix,
        "headers": fields,
        "server": _server(known.get("host"), secure),
        "client": None,
        "state": state.copy(),
    }
    if kind == "http":
        scope["method"] = head.method
    else:
        scope["scheme"] = "wss" if secure else "ws"
        offered = known.get("sec-websocket-protocol", "")
        scope["subprotocols"] = [p.strip() for p in offered.split(",") if p.strip()]
    forwarded = known.get("x-forwarded-for")
    if forwarded:
        scope["client"] = (forwarded.partition(",")[0].strip(), 0)
    return scope


def _server(host, secure):
    if not host:
        return None
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit():
        return name, int(port)
    return host, 443 if secure else 80


class _Call:
    """`receive` and `send` of one http scope."""

    def __init__(self, x):
        self._x = x
        self._start = None
        self._body_given = False

    async def receive(self):
        x = self._x
        if not self._body_given:
            try:
                data = await x.body.read()
            except PeerGone:
                return {"type": "http.disconnect"}
            self._body_given = x.body.ended
            return {"type": "http.request", "body": data, "more_body": not self._body_given}
        # Apps wait here, beside their own work, for the end of the exchange.
        await x.over()
        return {"type": "http.disconnect"}

    async def send(self, message):
        x = self._x
        kind = message["type"]
        if kind == "http.response.start":
            if self._start is not None:
                raise RuntimeError("http.response.start was sent twice")
            self._start = message["status"], list(message.get("headers") or ())
        elif kind == "http.response.body":
            if self._start is None:
                raise RuntimeError("http.response.body was sent before http.response.start")
            if x.finished:
                raise RuntimeError("http.response.body was sent after the end of the response")
            await self._body(message.get("body", b""), message.get("more_body", False))
        else:
            raise ValueError(
                "message type %r is unknown, expected http.response.start or .body" % kind
            )

    async def _body(self, data, more):
        x = self._x
        status, fields = self._start
        try:
            if not x.started:
                if not more and not any(name.lower() == b"content-length" for name, _ in fields):
                    await x.respond(status, fields, data)
                    return
                await x.write(data, x.start(status, fields))
            else:
                await x.write(data)
            if not more:
                await x.finish()
        except PeerGone:
            # By the specification sending to a closed connection does nothing.
            x.keep = False
            if not more:
                x.end()


def serve(control, call, config, loop):
    """Runs an ASGI app; raises StartupFailed if its lifespan does not start."""
    lifespan = Lifespan(call)
    app = AsgiApp(call, lifespan.state)
    return AsyncServer(control, app, config, lifespan).run(loop)
