"""What a function may import from the platform.

A handler needs none of it: plain values in and out are enough. It is one
module without dependencies, so that an editor or a unit test outside the
platform can use the very same file.
"""

import base64
import json
import logging
import time
from urllib.parse import parse_qsl, unquote

__all__ = [
    "BodyTooLarge",
    "Cancelled",
    "Context",
    "Event",
    "Headers",
    "InvalidJson",
    "Response",
]


class Cancelled(BaseException):
    """Raised inside a handler whose caller has gone or whose time is up.

    A BaseException, so that `except Exception` in a handler does not keep a
    call alive that nobody waits for.
    """


class InvalidJson(ValueError):
    """The body of the request is not JSON; left to propagate, it answers 400."""


class BodyTooLarge(ValueError):
    """The body is over the function's limit; left to propagate, it answers 413."""


class Headers:
    """Read-only header fields, looked up without regard to case.

    A name that came several times answers its values joined by a comma;
    `get_all` answers them one by one.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields):
        """`fields`: a list of (lower-case name, value) in order of arrival."""
        self._fields = fields

    def __getitem__(self, name):
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        # Cookies are the one list that a comma would damage.
        return ("; " if name.lower() == "cookie" else ", ").join(values)

    def get(self, name, default=None):
        try:
            return self[name]
        except KeyError:
            return default

    def get_all(self, name):
        """Every value of `name`, in order; an empty list if there is none."""
        wanted = name.lower()
        return [value for key, value in self._fields if key == wanted]

    def keys(self):
        return list(dict.fromkeys(key for key, _ in self._fields))

    def values(self):
        return [self[key] for key in self.keys()]

    def items(self):
        return [(key, self[key]) for key in self.keys()]

    def raw(self):
        """A copy of the list of (lower-case name, value)."""
        return list(self._fields)

    def __contains__(self, name):
        wanted = name.lower()
        return any(key == wanted for key, _ in self._fields)

    def __iter__(self):
        return iter(self.keys())

    def __len__(self):
        return len(self.keys())

    def __repr__(self):
        return "Headers(%r)" % (self._fields,)


class Event:
    """One request, as a handler sees it."""

    __slots__ = ("method", "_target", "_fields", "_source", "_body", "_query", "_headers")

    def __init__(self, method, target, fields, source):
        """`target`: path and query as sent; `source`: has `read_all()` and `stream()`."""
        self.method = method
        self._target = target
        self._fields = fields
        self._source = source
        self._body = None
        self._query = None
        self._headers = None

    @property
    def raw_path(self):
        """The path as sent, percent escapes kept, without the query."""
        return self._target.partition("?")[0] or "/"

    @property
    def path(self):
        """The path after the function's prefix, escapes decoded; begins with "/"."""
        raw = self.raw_path
        return unquote(raw) if "%" in raw else raw

    @property
    def query_string(self):
        """What follows the first "?", as sent."""
        return self._target.partition("?")[2]

    def _pairs(self):
        if self._query is None:
            text = self.query_string
            self._query = parse_qsl(text, keep_blank_values=True) if text else []
        return self._query

    @property
    def query(self):
        """The query as a dict of str to str; of repeated names the last wins."""
        return dict(self._pairs())

    def query_list(self, name):
        """Every value of the query parameter `name`, in order."""
        return [value for key, value in self._pairs() if key == name]

    @property
    def headers(self):
        if self._headers is None:
            self._headers = Headers(self._fields)
        return self._headers

    @property
    def content_type(self):
        """The media type without parameters, lower case; "" if none was sent."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def body(self):
        """The whole body as bytes, read at first use.

        Raises BodyTooLarge over the function's limit.
        """
        if self._body is None:
            self._body = self._source.read_all()
        return self._body

    @property
    def stream(self):
        """The body as a binary file, read as it arrives. Use it instead of `body`."""
        return self._source.stream()

    @property
    def text(self):
        """The body decoded by the charset of its content type, UTF-8 by default."""
        charset = "utf-8"
        for part in self.headers.get("content-type", "").split(";")[1:]:
            key, _, value = part.partition("=")
            if key.strip().lower() == "charset":
                charset = value.strip().strip("\"'") or charset
        try:
            return self.body.decode(charset, "replace")
        except LookupError:
            return self.body.decode("utf-8", "replace")

    def json(self):
        """The body read as JSON; raises InvalidJson saying what is wrong and where."""
        body = self.body
        try:
            return json.loads(body)
        except json.JSONDecodeError as error:
            where = "line %d column %d" % (error.lineno, error.colno)
            reason = "%s at %s" % (error.msg[:1].lower() + error.msg[1:], where)
            if not body:
                reason = "it is empty"
            raise InvalidJson("the body is not valid JSON: " + reason) from None
        except UnicodeDecodeError as error:
            raise InvalidJson(
                "the body is not valid JSON: it is not UTF-8 at byte %d" % error.start
            ) from None
        except RecursionError:
            raise InvalidJson("the body is not valid JSON: it is nested too deep") from None

    def __repr__(self):
        return "<Event %s %s>" % (self.method, self._target)


class Context:
    """The circumstances of one call."""

    __slots__ = (
        "request_id",
        "function_name",
        "namespace",
        "revision",
        "memory_limit_bytes",
        "deadline",
    )

    def __init__(self, request_id, function_name, namespace, revision, memory, deadline):
        """`memory` in bytes or None; `deadline` in seconds since the epoch or None."""
        self.request_id = request_id
        self.function_name = function_name
        self.namespace = namespace
        self.revision = revision
        self.memory_limit_bytes = memory
        self.deadline = deadline

    def remaining_ms(self):
        """Milliseconds until the deadline, never below 0; None without one."""
        if self.deadline is None:
            return None
        return max(0, int((self.deadline - time.time()) * 1000))

    @property
    def log(self):
        """A logger named after the function; level INFO, to standard error."""
        logger = logging.getLogger(self.function_name or "function")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
            # Where the function configured logging itself, that stays the only output.
            if not logger.hasHandlers():
                handler = logging.StreamHandler()
                handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
                logger.addHandler(handler)
        return logger

    def __repr__(self):
        return "<Context %s of %s>" % (self.request_id, self.function_name)


class Response:
    """An answer with a status and header fields of its own.

    `body`: whatever a handler may return alone; `headers`: a mapping (a list
    as value repeats the field) or a list of pairs.
    """

    __slots__ = ("body", "status", "headers")

    def __init__(self, body=None, status=200, headers=None):
        self.body = body
        self.status = status
        self.headers = headers

    @classmethod
    def from_proxy(cls, result):
        """Reads `{"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"}`."""
        body = result.get("body")
        if result.get("isBase64Encoded") and body is not None:
            body = base64.b64decode(body, validate=True)
        pairs = list(_pairs(result.get("headers")))
        pairs += _pairs(result.get("multiValueHeaders"))
        pairs += [("set-cookie", cookie) for cookie in result.get("cookies") or ()]
        return cls(body, result["statusCode"], pairs)

    def pairs(self):
        """The header fields as (name, value) pairs."""
        return list(_pairs(self.headers))


def _pairs(headers):
    if not headers:
        return
    for name, value in headers.items() if hasattr(headers, "items") else headers:
        if isinstance(value, (list, tuple)):
            for each in value:
                yield name, each
        else:
            yield name, value
