"""Handlers that answer in every way there is: the header `x-case` picks one."""

import dataclasses
import datetime
import decimal
import uuid


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Html:
    def __html__(self):
        return "<b>"


def shown(event, _context):
    return {"body": {
        "body": event.body.decode("latin-1"), "method": event.method, "path": event.path,
        "query": list(event.query.items(multi=True)), "lists": event.query.to_dict(flat=False),
        "flat": event.query.to_dict(), "keys": list(event.query), "values": list(event.query.values()),
        "a": [event.query.get("a"), event.query.get("a", "d", type=int), event.query.getlist("a"),
              event.query.getlist("a", type=int)],
        "has": ["a" in event.query, len(event.query), isinstance(event.query, dict), bool(event.query)],
        "headers": sorted(pair for pair in event.headers if pair[0] not in ("X-Request-Id", "Connection")),
        "x": [event.headers["x-one"], event.headers.get("X-ONE"), event.headers.get("nope"), "X-One" in event.headers,
              event.headers.get("x-number", type=int), event.headers.getlist("x-one"), event.headers.get("nope", "d")],
        "lower": sorted(name for name in event.headers.keys(lower=True) if name not in ("x-request-id", "connection")),
        "type": event.headers.get("content-type"),
    }}


class Fails(Exception):
    pass


def fails(*_):
    raise Fails("a reason <&>")


def pieces():
    yield "a é"
    yield b"\xff"


async def coroutine():
    return "never"


# `python3-http`: what a handler of (event, context) may return.
HTTP = {
    "shown": shown,
    "none": lambda e, c: None,
    "dict": lambda e, c: {"statusCode": 201, "body": "text é", "headers": {"X-A": "b"}},
    "dict empty": lambda e, c: {},
    "dict other": lambda e, c: {"a": 1},
    "dict body none": lambda e, c: {"body": None},
    "dict body dict": lambda e, c: {"statusCode": 202, "body": {"b": [1, "é", None], "a": 1.5}, "headers": {"X-A": "b"}},
    "dict body dict type": lambda e, c: {"body": {"a": 1}, "headers": {"content-type": "application/problem+json"}},
    "dict body list": lambda e, c: {"body": [1, "two"]},
    "dict body bytes": lambda e, c: {"body": b"\xffbytes"},
    "dict body number": lambda e, c: {"body": 7.5},
    "dict body bytes typed": lambda e, c: {"body": b"\xffbytes", "headers": {"Content-type": "application/octet-stream"}},
    "dict body bytes other spelling": lambda e, c: {"body": b"\xff", "headers": {"Content-Type": "application/octet-stream"}},
    "dict body str typed": lambda e, c: {"body": "é", "headers": {"Content-type": "application/octet-stream"}},
    "dict type": lambda e, c: {"body": "<a/>", "headers": {"content-type": "text/xml"}},
    "dict headers list": lambda e, c: {"body": "x", "headers": [("X-A", "1"), ("X-A", "2"), ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")]},
    "dict headers list value": lambda e, c: {"body": "x", "headers": {"X-A": ["1", "2"]}},
    "dict headers number": lambda e, c: {"body": "x", "headers": {"X-A": 1, "X-B": None, "X-C": b"c", "X-D": True}},
    "dict headers break": lambda e, c: {"body": "x", "headers": {"X-A": "1\r\nX-B: 2"}},
    "dict headers none": lambda e, c: {"body": "x", "headers": None},
    "dict headers json list": lambda e, c: {"body": {"a": 1}, "headers": [("X-A", "1"), ("X-A", "2")]},
    "dict status text": lambda e, c: {"statusCode": "404", "body": "x"},
    "dict status reason": lambda e, c: {"statusCode": "404 Gone Fishing", "body": "x"},
    "dict status none": lambda e, c: {"statusCode": None, "body": "x"},
    "dict status float": lambda e, c: {"statusCode": 404.0, "body": "x"},
    "dict status unknown": lambda e, c: {"statusCode": 299, "body": "x"},
    "dict status word": lambda e, c: {"statusCode": "", "body": "x"},
    "dict 204": lambda e, c: {"statusCode": 204, "body": "gone", "headers": {"X-A": "1"}},
    "dict 304": lambda e, c: {"statusCode": 304, "body": "gone", "headers": {"ETag": '"x"', "Last-Modified": "never"}},
    "dict redirect": lambda e, c: {"statusCode": 302, "headers": {"Location": "/a b/é?q=ü&r=%20#fr ag"}},
    "dict redirect far": lambda e, c: {"statusCode": 301, "headers": {"Location": "https://Example.test:8080/x"}},
    "dict in tuple": lambda e, c: ({"statusCode": 201}, 202),
    "missing query": lambda e, c: e.query["nope"],
    "missing header": lambda e, c: e.headers["nope"],
}

# What both kinds of template leave to Flask.
FLASK = {
    "str": lambda *_: "text é",
    "bytes": lambda *_: b"\xff\x00",
    "bytearray": lambda *_: bytearray(b"\xff"),
    "empty": lambda *_: "",
    "list": lambda *_: [3, "é", None, {"b": 1, "a": 2}],
    "list empty": lambda *_: [],
    "json types": lambda *_: [
        decimal.Decimal("1.50"), uuid.UUID(int=7), Point(1, 2), Html(), datetime.date(2026, 1, 2),
        datetime.datetime(2026, 1, 2, 3, 4, 5), datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
        float("nan"), (1, 2), {1: "one"}],
    "json impossible": lambda *_: [object()],
    "json mixed keys": lambda *_: [{1: "a", "b": 2}],
    "int": lambda *_: 7,
    "bool": lambda *_: True,
    "float": lambda *_: 7.5,
    "object": lambda *_: object(),
    "set": lambda *_: {1},
    "coroutine": lambda *_: coroutine(),
    "tuple status": lambda *_: ("x", 201),
    "tuple status text": lambda *_: ("x", "201 Made"),
    "tuple headers dict": lambda *_: ("x", {"X-A": ["1", "2"], "content-type": "a/b"}),
    "tuple headers list": lambda *_: ("x", [("X-A", "1"), ("X-A", "2")]),
    "tuple three": lambda *_: ("x", 418, {"X-A": "b"}),
    "tuple three none": lambda *_: ("x", None, None),
    "tuple json": lambda *_: ([1], 203, {"X-A": ["1", "2"], "Content-Type": "a/b"}),
    "tuple json pairs": lambda *_: ([1], 203, [("Content-Type", "a/b"), ("Content-Type", "c/d"), ("X-A", "1"), ("X-A", "2")]),
    "tuple four": lambda *_: ("x", 200, {}, 1),
    "tuple one": lambda *_: ("x",),
    "tuple none": lambda *_: (None, 200),
    "tuple bytes": lambda *_: (b"\xff", 200, {"Content-Type": "image/png"}),
    "tuple 204": lambda *_: ("", 204),
    "tuple status bytes": lambda *_: ("x", b"201 Made"),
    "stream": lambda *_: pieces(),
    "stream tuple": lambda *_: (pieces(), 201, {"X-A": "b"}),
    "exception": fails,
    "length": lambda *_: ("abc", 200, {"Content-Length": "3"}),
}

# `python3-flask`: a handler of the request's text alone.
TEXT = {
    "body": lambda req: "%s %s" % (type(req).__name__, req if isinstance(req, str) else req.decode("latin-1")),
    "none": lambda req: None,
    "dict": lambda req: {"statusCode": 201, "é": req},
}
