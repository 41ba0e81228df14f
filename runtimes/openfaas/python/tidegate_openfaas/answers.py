"""What a handler returned, read as Flask reads the value of a view."""

import json
from collections.abc import Iterator
from http import HTTPStatus
from urllib.parse import quote, urlsplit, urlunsplit

HTML = "text/html; charset=utf-8"

# Fields that say something of a body which an answer 304 has not.
_OF_THE_BODY = frozenset((
    "allow", "content-encoding", "content-language", "content-length", "content-md5", "content-range",
    "content-type", "last-modified",
))


class Reply:
    """An answer: `status` as a line, `fields` as pairs, `body` as bytes or an iterator of bytes."""

    __slots__ = ("status", "fields", "body")

    def __init__(self, status, fields, body):
        self.status = status
        self.fields = fields
        self.body = body

    @property
    def code(self):
        return int(self.status[:3])


def page(code, text, fields=()):
    """One of the error pages."""
    name = "Bad Request" if code == 400 else HTTPStatus(code).phrase
    body = "<!doctype html>\n<html lang=en>\n<title>%d %s</title>\n<h1>%s</h1>\n<p>%s</p>\n" % (code, name, name, text)
    return Reply("%d %s" % (code, name.upper()), [("Content-Type", HTML), *fields], body.encode())


def of_dict(result, debian, as_json):
    """What a `python3-http` handler's dict means (`statusCode`, `headers`, `body`), as (body, status, headers).

    `debian`: as `python3-http-debian` has it, where a body may be sent as it is; `as_json`: makes JSON of a dict.
    """
    headers = result.get("headers", {})
    body = result.get("body", "")
    # That template asks a dict for one spelling of one name; what is no dict fails there.
    as_it_is = debian and headers.get("Content-type") == "application/octet-stream"
    if isinstance(body, dict):
        body = as_json(body)
    elif not as_it_is:
        body = str(body)
    if isinstance(headers, dict):
        headers = list(headers.items())
    return body, result.get("statusCode", 200), headers


def convert(value):
    """The Reply that a value means.

    Raises TypeError or ValueError for one that means none.
    """
    status = headers = None
    if isinstance(value, tuple):
        if len(value) == 3:
            value, status, headers = value
        elif len(value) == 2 and isinstance(value[1], (dict, tuple, list)):
            value, headers = value
        elif len(value) == 2:
            value, status = value
        else:
            raise TypeError(
                "the handler returned a tuple of %d, expected (body, status), (body, headers) or (body, status, headers)"
                % len(value)
            )
    if isinstance(value, (str, bytes, bytearray)):
        reply = _fresh(value.encode() if isinstance(value, str) else bytes(value), headers)
        headers = None
    elif isinstance(value, Iterator):
        reply = _fresh(_pieces(value), headers)
        headers = None
    elif isinstance(value, (dict, list)):
        reply = json_reply(value)
    elif isinstance(value, Reply):
        reply = value
    else:
        _close(value)
        raise TypeError(
            "the handler returned %s, expected str, bytes, a dict, a list, an iterator or a tuple that begins with one"
            % ("None" if value is None else "a value of type " + type(value).__name__)
        )
    if status is not None:
        reply.status = _status_line(status)
    if headers:
        _replace(reply.fields, headers)
    return _settled(reply)


def _fresh(body, headers):
    fields = []
    for name, value in _pairs(headers):
        fields.append((name, _text(value)))
    if not any(name.lower() == "content-type" for name, _ in fields):
        fields.append(("Content-Type", HTML))
    return Reply("200 OK", fields, body)


def _settled(reply):
    """What is done last: answers without a body, addresses, the length."""
    code = reply.code
    if not 200 <= code <= 599:
        raise ValueError("status %s is not from 200 to 599" % reply.status)
    for at, (name, value) in enumerate(reply.fields):
        if name.lower() in ("location", "content-location"):
            reply.fields[at] = (name, _address(value))
    if code == 304:
        reply.fields = [(name, value) for name, value in reply.fields if name.lower() not in _OF_THE_BODY]
    if code in (204, 304):
        reply.fields = [(name, value) for name, value in reply.fields if name.lower() != "content-length"]
        _close(reply.body)
        reply.body = b""
    elif isinstance(reply.body, bytes) and not any(name.lower() == "content-length" for name, _ in reply.fields):
        reply.fields.append(("Content-Length", str(len(reply.body))))
    return reply


def _status_line(status):
    if isinstance(status, int):
        return _named(int(status))
    if not isinstance(status, str):
        raise TypeError("status %r is a %s, expected a number or text" % (status, type(status).__name__))
    line = status.strip()
    code, space, _ = line.partition(" ")
    if len(code) != 3 or not code.isdigit():
        raise ValueError("status %r does not begin with a number of three digits" % status)
    return line if space else _named(int(code))


def _named(code):
    try:
        return "%d %s" % (code, HTTPStatus(code).phrase.upper())
    except ValueError:
        return "%03d UNKNOWN" % code


def _pairs(headers):
    """Name and value of each field; a list as a mapping's value repeats it."""
    if not headers:
        return
    if hasattr(headers, "items"):
        for name, value in headers.items():
            if isinstance(value, (list, tuple, set)):
                for each in value:
                    yield name, each
            else:
                yield name, value
    else:
        yield from headers


def _replace(fields, headers):
    """Puts fields in the place of those that have their names."""
    mapping = hasattr(headers, "items")
    replaced = set()
    for name, value in _pairs(headers):
        low = name.lower()
        # Of pairs the last counts; of a mapping's list, all.
        if not mapping or low not in replaced:
            fields[:] = [pair for pair in fields if pair[0].lower() != low]
            replaced.add(low)
        fields.append((name, _text(value)))


def _text(value):
    text = value if isinstance(value, str) else str(value)
    if any(mark in text for mark in "\r\n\0"):
        raise ValueError("header value %r has a line break or NUL" % text)
    text.encode("latin-1")
    return text


def _address(address):
    """An address with what an address may not hold percent-encoded."""
    parts = urlsplit(address)
    path = quote(parts.path, safe="%!$&'()*+,/:;=@")
    query = quote(parts.query, safe="%!$&'()*+,/:;=?@")
    fragment = quote(parts.fragment, safe="%!#$&'()*+,/:;=?@")
    # A host's name is the same in lower case, and in ASCII; who logs in before it is left alone.
    user, at, host = parts.netloc.rpartition("@")
    host = host.lower()
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    netloc = quote(user, safe="%!$&'()*+,;=:") + at + host
    return urlunsplit((parts.scheme, netloc, path, query, fragment))


# === JSON ===


def json_reply(value):
    """A value as JSON, in the way of Flask: keys in order, ASCII alone, a line break at the end."""
    text = json.dumps(value, default=_default, sort_keys=True, separators=(",", ":"))
    return Reply("200 OK", [("Content-Type", "application/json")], text.encode() + b"\n")


def _default(value):
    # Here, since few answers need them and an instance starts sooner without.
    import dataclasses
    import datetime
    import decimal
    import uuid

    if isinstance(value, datetime.date):
        return _http_date(value)
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "__html__"):
        return str(value.__html__())
    raise TypeError("an object of type %s cannot be written as JSON" % type(value).__name__)


def _http_date(value):
    import datetime
    from email.utils import format_datetime

    utc = datetime.timezone.utc
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime.combine(value, datetime.time(), tzinfo=utc)
    # A time without a zone is taken for one at Greenwich.
    value = value.replace(tzinfo=utc) if value.tzinfo is None else value.astimezone(utc)
    return format_datetime(value, usegmt=True)


# === Streams ===


def _pieces(source):
    try:
        for piece in source:
            yield piece.encode() if isinstance(piece, str) else piece
    finally:
        _close(source)


def _close(value):
    """Ends a generator or coroutine that nobody will run."""
    close = getattr(value, "close", None)
    if callable(close):
        close()
