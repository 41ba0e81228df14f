"""A handler behind the rules of Flask's templates, without Flask."""

import os
import sys
import traceback

from .answers import HTML, Reply, convert, json_reply, of_dict, page
from .request import Context, Event, MissingKey, path_of, take_body
from .template import methods, takes_text

_NOT_FOUND = (
    "The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again."
)
_NOT_ALLOWED = "The method is not allowed for the requested URL."
_BAD_REQUEST = "The browser (or proxy) sent a request that this server could not understand."
_FAILED = (
    "The server encountered an internal error and was unable to complete your request. "
    "Either the server is overloaded or there is an error in the application."
)

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def make(language, handler):
    """A WSGI application that calls `handler.handle` by the rules of the template `language`."""
    allowed = methods(language)
    allow = [("Allow", ", ".join(sorted({*allowed, "HEAD", "OPTIONS"})))]
    raw = os.environ.get("RAW_BODY", "").lower() in ("true", "1")
    debian = language.endswith("-debian")
    context = Context()

    def with_event(environ, body):
        result = handler.handle(Event(environ, body), context)
        if result is None:
            return convert("")
        return convert(of_dict(result, debian, json_reply) if isinstance(result, dict) else result)

    def with_text(_environ, body):
        return convert(handler.handle(body if raw else body.decode("utf-8", "replace")))

    call = with_text if takes_text(language) else with_event

    def answer(environ, body):
        method = environ["REQUEST_METHOD"]
        if method == "OPTIONS":
            return Reply("200 OK", [("Content-Type", HTML), ("Content-Length", "0"), *allow], b"")
        if method in ("GET", "HEAD"):
            # An app of Flask's has a folder for files of its own, which the templates leave empty.
            path = path_of(environ)
            if path.startswith("/static/") and path != "/static/":
                return page(404, _NOT_FOUND)
        elif method not in allowed:
            return page(405, _NOT_ALLOWED, allow)
        try:
            return call(environ, body)
        except MissingKey:
            return page(400, _BAD_REQUEST)
        except Exception as failure:
            _log(environ, failure)
            return page(500, _FAILED)

    def app(environ, start_response):
        reply = answer(environ, take_body(environ))
        if isinstance(reply.body, bytes):
            if reply.code not in (204, 304) and not any(name.lower() == "content-length" for name, _ in reply.fields):
                reply.fields.append(("Content-Length", str(len(reply.body))))
            start_response(reply.status, reply.fields)
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [reply.body]
        start_response(reply.status, reply.fields)
        if environ["REQUEST_METHOD"] == "HEAD":
            reply.body.close()
            return []
        return reply.body

    return app


def _log(environ, failure):
    frames = failure.__traceback__
    # From the handler on; what called it is no news.
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_HERE):
        frames = frames.tb_next
    lines = traceback.format_exception(type(failure), failure, frames)
    sys.stderr.write("Exception on %s [%s]\n%s" % (path_of(environ), environ["REQUEST_METHOD"], "".join(lines)))
