"""Request bodies: the chunked coding, and reading from a blocking socket."""

import io
import re

from tidegate import BodyTooLarge

from .http1 import CONTINUE, BadRequest

# A size line with its extensions, which nobody uses; generous, but bounded.
SIZE_LINE_MAX = 1024

# Trailers are skipped, so they only need to end.
TRAILERS_MAX = 16 * 1024

# What one recv asks for: a page cluster, cheap to allocate for each request.
RECV = 16 * 1024

# Read size for large bodies: beyond it fewer calls no longer show.
RECV_LARGE = 256 * 1024

class PeerGone(ConnectionError):
    """The server closed the connection before the exchange was complete."""


_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n\0]*)?").fullmatch

_AT_SIZE, _IN_DATA, _AFTER_DATA, _IN_TRAILERS = range(4)


class ChunkedDecoder:
    """Turns the chunked coding into plain bytes, piece by piece, without I/O."""

    __slots__ = ("done", "_raw", "_state", "_left", "_trailers")

    def __init__(self):
        self.done = False
        self._raw = bytearray()
        self._state = _AT_SIZE
        self._left = 0
        self._trailers = 0

    def feed(self, data):
        """Takes coded bytes, answers what is decoded by now (perhaps b"")."""
        raw = self._raw
        raw += data
        out = []
        at = 0
        while not self.done:
            if self._state == _IN_DATA:
                part = bytes(raw[at : at + self._left])
                if not part:
                    break
                out.append(part)
                at += len(part)
                self._left -= len(part)
                if self._left:
                    break
                self._state = _AFTER_DATA
                continue
            if self._state == _AFTER_DATA:
                if len(raw) - at < 2:
                    break
                if raw[at : at + 2] != b"\r\n":
                    raise BadRequest("malformed chunk, expected CRLF after its data")
                at += 2
                self._state = _AT_SIZE
                continue
            end = raw.find(b"\r\n", at)
            room = SIZE_LINE_MAX if self._state == _AT_SIZE else TRAILERS_MAX - self._trailers
            if (len(raw) if end < 0 else end) - at > room:
                raise BadRequest("chunk size line or trailers are too long")
            if end < 0:
                break
            line = bytes(raw[at:end])
            at = end + 2
            if self._state == _AT_SIZE:
                size = _SIZE(line)
                if size is None:
                    raise BadRequest("malformed chunk size, expected hexadecimal digits")
                self._left = int(size.group(1), 16)
                self._state = _IN_DATA if self._left else _IN_TRAILERS
            elif line:
                self._trailers += len(line) + 2
            else:
                self.done = True
        del raw[:at]
        return out[0] if len(out) == 1 else b"".join(out)

    def rest(self):
        """What was fed beyond the end of the body; taken out."""
        rest = bytes(self._raw)
        self._raw.clear()
        return rest


class SyncBody:
    """The body of one request, read on demand from its blocking connection."""

    __slots__ = ("_conn", "_limit", "_left", "_decoder", "_expects", "_seen", "_file")

    def __init__(self, conn, head, limit):
        """`conn` has `sock` and `buf` (bytes already received); `limit` in bytes."""
        self._conn = conn
        self._limit = limit
        self._decoder = ChunkedDecoder() if head.chunked else None
        self._left = head.length or 0
        self._expects = head.expects
        self._seen = 0
        self._file = None
        if self._left > limit:
            raise _too_large(limit)

    @property
    def done(self):
        return self._decoder.done if self._decoder is not None else self._left == 0

    @property
    def skippable(self):
        """Bytes still to come, if their number is known and small; else None."""
        if self._decoder is not None or self._expects:
            return None
        return self._left if self._left <= RECV_LARGE else None

    @property
    def unasked(self):
        """Whether the sender still waits for leave to send."""
        return bool(self._expects) and not self.done

    def _go_on(self):
        # The sender may wait for leave to send; given at the first read only.
        if self._expects:
            self._expects = False
            self._conn.sock.sendall(CONTINUE)

    def _receive(self, size):
        data = self._conn.sock.recv(size)
        if not data:
            raise PeerGone("the request ended before its body was complete")
        return data

    def read_some(self, size=RECV_LARGE):
        """At least one byte and at most about `size`; b"" at the end."""
        if self.done:
            return b""
        self._go_on()
        conn = self._conn
        decoder = self._decoder
        if decoder is None:
            size = min(size, self._left)
            data = conn.buf
            if data:
                data, conn.buf = data[:size], data[size:]
            else:
                data = self._receive(size)
            self._left -= len(data)
            return data
        while True:
            data, conn.buf = conn.buf or self._receive(size), b""
            data = decoder.feed(data)
            self._seen += len(data)
            if self._seen > self._limit:
                raise _too_large(self._limit)
            if decoder.done:
                conn.buf = decoder.rest()
            if data or decoder.done:
                return data

    def read_all(self):
        """Everything not read yet."""
        if self._file is not None:
            return self._file.read()
        if self._decoder is not None:
            return b"".join(iter(self.read_some, b""))
        left = self._left
        if left <= len(self._conn.buf):
            return self.read_some(left) if left else b""
        self._go_on()
        # The limit was checked; pages never filled are never touched.
        whole = bytearray(left)
        view = memoryview(whole)
        have = len(self._conn.buf)
        view[:have] = self._conn.buf
        self._conn.buf = b""
        while have < left:
            count = self._conn.sock.recv_into(view[have:])
            if count == 0:
                raise PeerGone("the request ended before its body was complete")
            have += count
            self._left = left - have
        self._left = 0
        return bytes(whole)

    def stream(self):
        """The body as a buffered binary file."""
        if self._file is None:
            self._file = io.BufferedReader(_Raw(self), RECV)
        return self._file


class _Raw(io.RawIOBase):
    """A SyncBody under Python's own buffered reader, which adds lines and iteration."""

    def __init__(self, body):
        super().__init__()
        self._body = body
        self._kept = b""

    def readable(self):
        return True

    def readinto(self, target):
        data = self._kept or self._body.read_some(max(len(target), RECV))
        count = min(len(data), len(target))
        target[:count] = data[:count]
        self._kept = data[count:]
        return count


def _too_large(limit):
    return BodyTooLarge("the body is over the limit of %d bytes" % limit)
