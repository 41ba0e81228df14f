"""Calling a plain `handler(event, context)`."""

import time

from tidegate import Cancelled, Context, Event

from .answers import piece, shape, stream_fields


def make_context(config, head):
    """The Context of one request; the server's deadline wins over the configured timeout."""
    ms = head.deadline_ms
    if ms is None:
        ms = config.get("timeout_ms")
    return Context(
        head.request_id,
        config.get("function"),
        config.get("namespace"),
        config.get("revision"),
        config.get("memory"),
        None if ms is None else time.time() + ms / 1000,
    )


class HandlerApp:
    """Answers exchanges by a synchronous handler."""

    def __init__(self, call, config):
        self._call = call
        self._config = config
        self._limit = config["max_body"]

    def __call__(self, x):
        head = x.head
        try:
            event = Event(head.method, head.target, head.fields, x.open_body(self._limit))
            status, fields, body = shape(self._call(event, make_context(self._config, head)))
            if type(body) is bytes:
                x.respond(status, fields, body)
            else:
                self._stream(x, status, fields, body)
        except Cancelled:
            raise
        except BaseException as failure:
            x.fail(failure)

    def _stream(self, x, status, fields, body):
        if not hasattr(body, "__next__"):
            raise TypeError(
                "handler returned an async iterator, expected it to be an `async def` itself"
            )
        try:
            # The head waits for the first piece: a failure until then is a clean 500.
            first = next(body, b"")
            head = x.start(status, stream_fields(fields, first))
            x.write(piece(first), head)
            for chunk in body:
                chunk = piece(chunk)
                if chunk:
                    x.write(chunk)
            x.finish()
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()


