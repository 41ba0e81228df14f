"""WSGI (PEP 3333) over an exchange."""

import sys
from urllib.parse import unquote_to_bytes

from tidegate import Cancelled

from .http1 import check_field, check_status

# Fields that CGI knows under names of their own.
_PLAIN = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}


def make_environ(head, source, multithread):
    """The environ of one request; `source` is the binary file of its body."""
    path, _, query = head.target.partition("?")
    environ = {
        "REQUEST_METHOD": head.method,
        "SCRIPT_NAME": head.prefix,
        "PATH_INFO": unquote_to_bytes(path.encode("latin-1")).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.%d" % head.minor,
        "SERVER_SOFTWARE": "tidegate",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": source,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in head.fields:
        # `x_user` would be the same key as `x-user`: a way to forge what a proxy sets.
        if "_" in name:
            continue
        key = _PLAIN.get(name) or "HTTP_" + name.upper().replace("-", "_")
        if key in environ and key.startswith("HTTP_"):
            value = environ[key] + ("; " if name == "cookie" else ", ") + value
        environ[key] = value
    host = environ.get("HTTP_HOST")
    if environ.get("HTTP_X_FORWARDED_PROTO", "").lower() == "https":
        environ["wsgi.url_scheme"] = "https"
        environ["SERVER_PORT"] = "443"
    if host:
        name, colon, port = host.rpartition(":")
        if colon and port.isdigit():
            environ["SERVER_NAME"], environ["SERVER_PORT"] = name, port
        else:
            environ["SERVER_NAME"] = host
    forwarded = environ.get("HTTP_X_FORWARDED_FOR")
    if forwarded:
        environ["REMOTE_ADDR"] = forwarded.partition(",")[0].strip()
    return environ


class WsgiApp:
    """Answers exchanges by a WSGI application."""

    def __init__(self, app, config):
        self._app = app
        self._limit = config["max_body"]
        self._multithread = config["concurrency"] > 1

    def __call__(self, x):
        try:
            _Call(self, x).run()
        except Cancelled:
            raise
        except BaseException as failure:
            x.fail(failure)

    def environ(self, x):
        return make_environ(x.head, x.open_body(self._limit).stream(), self._multithread)

    def call(self, environ, start_response):
        return self._app(environ, start_response)


class _Call:
    """The state of one WSGI call: what start_response set, and whether it is on the wire."""

    __slots__ = ("_app", "_x", "_set")

    def __init__(self, app, x):
        self._app = app
        self._x = x
        self._set = None

    def start_response(self, status, headers, exc_info=None):
        if exc_info is not None:
            try:
                if self._x.started:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._set is not None:
            raise AssertionError("start_response was called twice without exc_info")
        code, _, reason = status.partition(" ")
        if any(c in reason for c in "\r\n\0"):
            raise ValueError("the reason in status %r has a line break or NUL" % status)
        fields = [check_field(name, value) for name, value in headers]
        self._set = check_status(code), reason, fields
        return self.write

    def _start(self, length=None):
        if self._set is None:
            raise AssertionError("the body began before start_response was called")
        status, reason, fields = self._set
        return self._x.start(status, fields, length, reason)

    def write(self, data):
        if not isinstance(data, bytes):
            raise TypeError("a WSGI body gave %s, expected bytes" % type(data).__name__)
        if self._x.started:
            if data:
                self._x.write(data)
        else:
            self._x.write(data, self._start())

    def run(self):
        x = self._x
        result = self._app.call(self._app.environ(x), self.start_response)
        try:
            whole = self._send(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        # After `close`: what it does and prints belongs to the call.
        if not whole:
            x.finish()

    def _send(self, result):
        """Sends the body; whether that included its end."""
        x = self._x
        # A list of one is the usual body; then its length is known.
        if type(result) in (list, tuple) and len(result) == 1 and not x.started:
            only = result[0]
            if isinstance(only, bytes) and self._set is not None:
                status, reason, fields = self._set
                x.respond(status, fields, only, reason=reason)
                return True
        for data in result:
            # An empty piece means "not yet": the head must wait for a real one.
            if data or not isinstance(data, bytes):
                self.write(data)
        if not x.started:
            x.send_head(self._start(0))
        return False
