"""A handler inside an app of the real Flask, for handlers that use it."""

import os

from flask import Flask, request

from .answers import of_dict
from .request import Context, take_body
from .template import methods, takes_text


class Event:
    """One request: `body` (bytes), `headers`, `method`, `query`, `path`."""

    def __init__(self):
        self.body = request.get_data()
        self.headers = request.headers
        self.method = request.method
        self.query = request.args
        self.path = request.path


def make(language, handler):
    """A WSGI application that calls `handler.handle` by the rules of the template `language`."""
    # Named after the entry, beside which Flask looks for its `templates` and `static`.
    app = Flask("index")
    raw = os.environ.get("RAW_BODY", "").lower() in ("true", "1")
    debian = language.endswith("-debian")
    context = Context()

    def view(path):
        if takes_text(language):
            return handler.handle(request.get_data(as_text=not raw))
        result = handler.handle(Event(), context)
        if result is None:
            return ""
        return of_dict(result, debian, app.json.response) if isinstance(result, dict) else result

    allowed = list(methods(language))
    app.add_url_rule("/", "view", view, defaults={"path": ""}, methods=allowed)
    app.add_url_rule("/<path:path>", "view", view, methods=allowed)
    inner = app.wsgi_app

    def buffered(environ, start_response):
        # Read here: a body over the limit is not the handler's failure, which Flask would take it for.
        take_body(environ)
        return _Pieces(inner(environ, start_response))

    app.wsgi_app = buffered
    return app


class _Pieces:
    """The body of an answer: waitress takes a bytearray for bytes, a host does not."""

    def __init__(self, source):
        self._pieces = iter(source)
        self._close = getattr(source, "close", None)

    def __iter__(self):
        return self

    def __next__(self):
        piece = next(self._pieces)
        return bytes(piece) if isinstance(piece, bytearray) else piece

    def close(self):
        if self._close is not None:
            self._close()
