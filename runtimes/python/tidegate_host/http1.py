"""HTTP/1.1 heads: reading requests, composing responses.

Only the platform's server speaks to a host, yet what it passes on was written
by strangers. So everything ambiguous about where a message ends is refused:
a length beside a transfer coding, repeated lengths, folded lines, a space
before the colon, bare CR, LF or NUL.
"""

import re
from http import HTTPStatus

# The server holds its own clients to less; beyond it somebody is up to something.
HEAD_MAX = 64 * 1024

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile("(" + _TOKEN + r") ([\x21-\xff]+) HTTP/1\.([01])\r\n")
# Without optional white space around the value: the regex would try each way to
# share a run of blanks, which is quadratic. Values are stripped afterwards.
_FIELD = "(" + _TOKEN + r"):([^\r\n\0]*)\r\n"
_FIELDS = re.compile("(?:" + _FIELD.replace("(", "(?:") + ")*")
_FIND_FIELDS = re.compile(_FIELD).findall
_NAME_OK = re.compile(_TOKEN).fullmatch
_VALUE_BAD = re.compile(r"[\r\n\0]").search
_HEX32 = re.compile("[0-9a-f]{32}").fullmatch
_DIGITS = re.compile("[0-9]{1,19}").fullmatch

# How the end of a response body is marked.
NO_BODY, LENGTH, CHUNKED, UNTIL_CLOSE = range(4)

REASONS = {status.value: status.phrase for status in HTTPStatus}

# The server's own decisions; a function may not take them for it.
_OURS = frozenset(("connection", "keep-alive", "transfer-encoding", "proxy-connection"))

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BadRequest(Exception):
    """A head or body that cannot be served; `status` says with what to answer."""

    def __init__(self, message, status=400):
        super().__init__(message)
        self.status = status


class Head:
    """A request without its body."""

    __slots__ = (
        "method",
        "target",
        "minor",
        "fields",
        "length",
        "chunked",
        "keep",
        "expects",
        "upgrade",
        "request_id",
        "tag",
        "deadline_ms",
        "prefix",
    )


def parse_head(data):
    """Reads a head that ends with its last field's CRLF (the empty line left out)."""
    text = data.decode("latin-1")
    line = _REQUEST_LINE.match(text)
    if line is None:
        raise _bad_request_line(text)
    if _FIELDS.fullmatch(text, line.end()) is None:
        raise BadRequest("malformed header field, expected `name: value` on each line")
    head = Head()
    head.method, target, minor = line.groups()
    head.target = target if target[0] == "/" else _origin_form(head.method, target)
    head.minor = minor = 1 if minor == "1" else 0
    head.length = head.chunked = head.expects = head.upgrade = None
    head.request_id = head.deadline_ms = None
    head.prefix = ""
    head.keep = minor == 1
    head.fields = fields = []
    for name, value in _FIND_FIELDS(text, line.end()):
        name = name.lower()
        value = value.strip(" \t")
        special = _SPECIAL.get(name)
        if special is not None:
            special(head, value)
            fields.append((name, value))
        elif not name.startswith("x-tidegate-"):
            fields.append((name, value))
        elif name == "x-tidegate-deadline-ms":
            if _DIGITS(value):
                head.deadline_ms = int(value)
        elif name == "x-tidegate-path-prefix":
            head.prefix = value.rstrip("/")
    if head.chunked:
        if head.length is not None:
            raise BadRequest("both content-length and transfer-encoding are set, expected one")
        if minor == 0:
            raise BadRequest("transfer-encoding needs HTTP/1.1")
    request_id = head.request_id
    tag = request_id.replace("-", "").lower() if request_id else ""
    head.tag = tag.encode() if _HEX32(tag) else b"-" * 32
    return head


def _bad_request_line(text):
    line = text.partition("\r\n")[0]
    if re.search(r" HTTP/[0-9.]+$", line) and not re.search(r" HTTP/1\.[01]$", line):
        return BadRequest("unsupported protocol version, expected HTTP/1.1", 505)
    return BadRequest("malformed request line, expected `METHOD target HTTP/1.1`")


def _origin_form(method, target):
    if target == "*" and method == "OPTIONS":
        return target
    found = re.match(r"https?://[^/?#]*(.*)", target, re.IGNORECASE)
    if found is None:
        raise BadRequest("malformed request target, expected a path that begins with `/`")
    rest = found.group(1)
    return rest if rest.startswith("/") else "/" + rest


def _content_length(head, value):
    if head.length is not None:
        raise BadRequest("content-length is set twice")
    if not _DIGITS(value):
        raise BadRequest("malformed content-length, expected decimal digits")
    head.length = int(value)


def _transfer_encoding(head, value):
    if head.chunked:
        raise BadRequest("transfer-encoding is set twice")
    if value.lower() != "chunked":
        raise BadRequest("unsupported transfer-encoding, expected `chunked`", 501)
    head.chunked = True


def _connection(head, value):
    for option in value.lower().split(","):
        option = option.strip()
        if option == "close":
            head.keep = False
        elif option == "keep-alive" and head.minor == 0:
            head.keep = True


def _expect(head, value):
    if value.lower() != "100-continue":
        raise BadRequest("unsupported expectation, expected `100-continue`", 417)
    head.expects = head.minor == 1


def _upgrade(head, value):
    head.upgrade = value.lower()


def _request_id(head, value):
    head.request_id = value


_SPECIAL = {
    "content-length": _content_length,
    "transfer-encoding": _transfer_encoding,
    "connection": _connection,
    "expect": _expect,
    "upgrade": _upgrade,
    "x-request-id": _request_id,
}


def check_field(name, value):
    """A response field as a line of text; raises ValueError where it could forge another."""
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    elif not isinstance(value, str):
        value = str(value)
    if not isinstance(name, str) or _NAME_OK(name) is None:
        raise ValueError("header name %r is not a token of letters, digits and dashes" % (name,))
    if _VALUE_BAD(value) is not None:
        raise ValueError("header %s has a line break or NUL in its value %r" % (name, value))
    return name, value


def check_status(status):
    """`status` as an int from 200 to 599; raises ValueError otherwise."""
    try:
        number = int(status)
    except (TypeError, ValueError):
        number = 0
    if not 200 <= number <= 599:
        raise ValueError("status %r is not a number from 200 to 599" % (status,))
    return number


def compose(head, status, fields, length, outcome=None, reason=None, close=False):
    """A response head as bytes, with the way its body ends and that body's length.

    `fields`: pairs; `length`: bytes of the body, or None if not known. Answers
    (head bytes, one of NO_BODY, LENGTH, CHUNKED, UNTIL_CLOSE, length, keep the
    connection).
    """
    lines = ["HTTP/1.1 %d %s\r\n" % (status, reason or REASONS.get(status, "Status"))]
    keep = head.keep and not close
    for name, value in fields:
        name, value = check_field(name, value)
        low = name.lower()
        if low == "content-length":
            # The true length is better knowledge, except where no body shows it.
            if length is None or (head.method == "HEAD" and length == 0):
                if not _DIGITS(value):
                    raise ValueError("content-length %r is not a number" % value)
                length = int(value)
            continue
        if low in _OURS or low.startswith("x-tidegate-"):
            continue
        lines.append("%s: %s\r\n" % (name, value))
    if status in (204, 304):
        mode = NO_BODY
    elif length is not None:
        mode = LENGTH
        lines.append("content-length: %d\r\n" % length)
    elif head.minor == 1:
        mode = CHUNKED
        lines.append("transfer-encoding: chunked\r\n")
    else:
        mode = UNTIL_CLOSE
        keep = False
    if head.method == "HEAD":
        mode = NO_BODY
    if outcome is not None:
        lines.append("x-tidegate-outcome: %s\r\n" % outcome)
    if not keep:
        lines.append("connection: close\r\n")
    elif head.minor == 0:
        lines.append("connection: keep-alive\r\n")
    lines.append("\r\n")
    try:
        return "".join(lines).encode("latin-1"), mode, length, keep
    except UnicodeEncodeError:
        raise ValueError("a header value has characters outside latin-1") from None
