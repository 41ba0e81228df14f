"""What a handler returned, read as an HTTP answer; what it raised, as an error."""

import inspect
import json
import os
import sys
import traceback

from tidegate import BodyTooLarge, InvalidJson, Response

from .http1 import check_status

_TEXT = "text/plain; charset=utf-8"
_BINARY = "application/octet-stream"
_JSON = "application/json"

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def shape(result):
    """Reads a handler's result as (status, fields, body).

    `body`: bytes, or an iterator or async iterator of bytes or str. Raises
    TypeError or ValueError, naming what is accepted.
    """
    kind = type(result)
    if kind is str:
        return 200, [("content-type", _TEXT)], result.encode()
    if kind is bytes:
        return 200, [("content-type", _BINARY)], result
    if isinstance(result, dict) and "statusCode" in result:
        result = Response.from_proxy(result)
    elif kind is tuple:
        if not 2 <= len(result) <= 3:
            raise TypeError(
                "handler returned a tuple of %d, expected (body, status) or (body, status, headers)"
                % len(result)
            )
        result = Response(*result)
    if not isinstance(result, Response):
        body, content_type = _body(result)
        return 200, [("content-type", content_type)] if content_type else [], body
    fields = result.pairs()
    body, content_type = _body(result.body)
    if content_type and not any(str(name).lower() == "content-type" for name, _ in fields):
        fields.append(("content-type", content_type))
    return check_status(result.status), fields, body


def _body(value):
    """(bytes or iterator, content type or None) of one returned value."""
    if value is None:
        return b"", None
    if isinstance(value, str):
        return value.encode(), _TEXT
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value), _BINARY
    if isinstance(value, (dict, list, tuple, int, float)):
        return _encode(value).encode(), _JSON
    if hasattr(value, "__next__") or hasattr(value, "__anext__"):
        return value, _BINARY
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError("handler returned a coroutine, expected it to be an `async def` itself")
    raise TypeError(
        "handler returned %s, expected None, bytes, str, something JSON can hold, an iterator, "
        "(body, status, headers) or tidegate.Response" % type(value).__name__
    )


def piece(chunk):
    """One item of a streamed body as bytes."""
    if isinstance(chunk, str):
        return chunk.encode()
    if isinstance(chunk, (bytes, bytearray, memoryview)):
        return bytes(chunk)
    raise TypeError("a streamed body gave %s, expected bytes or str" % type(chunk).__name__)


def stream_fields(fields, first):
    """Text is called text when a stream turns out to consist of it."""
    if isinstance(first, str):
        return [(n, _TEXT if v is _BINARY else v) for n, v in fields]
    return fields


def error(head, failure):
    """The answer to an exception that a function let propagate: (status, fields, body, outcome)."""
    if isinstance(failure, InvalidJson):
        return error_answer(head, 400, str(failure), "application")
    if isinstance(failure, BodyTooLarge):
        return error_answer(head, 413, str(failure), "application")
    return error_answer(head, 500, "function failed", "function")


def error_answer(head, status, message, outcome):
    """An error as JSON with the request's id: (status, fields, body, outcome)."""
    body = _encode({"error": message, "requestId": head.request_id}).encode()
    return status, [("content-type", _JSON)], body, outcome


def is_callers_fault(failure):
    """Whether an exception answers the caller without a word in the log."""
    return isinstance(failure, (InvalidJson, BodyTooLarge))


def trace(failure):
    """The traceback as text, without the host's own frames before the function's."""
    frames = failure.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_HERE):
        frames = frames.tb_next
    try:
        lines = traceback.format_exception(type(failure), failure, frames)
    except BaseException as second:  # A __str__ of the function may raise as well.
        lines = ["%s (its text could not be made: %r)\n" % (type(failure).__name__, type(second))]
    return "".join(lines)


def log_failure(failure):
    """Writes the traceback to the log of the running request."""
    try:
        sys.stderr.write(trace(failure))
    except Exception:
        # The function may have put anything in the place of sys.stderr.
        sys.__stderr__.write(trace(failure))
