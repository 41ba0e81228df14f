"""WebSocket (RFC 6455) under an ASGI websocket scope."""

import asyncio
import base64
import binascii
import hashlib
from collections import deque

from .body import PeerGone
from .http1 import check_field

# One message, all fragments together; a larger one ends the connection with 1009.
MESSAGE_MAX = 16 * 1024 * 1024

# Reading pauses while so many messages wait for the app.
WAITING_MAX = 16

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10

_NORMAL, _PROTOCOL_ERROR, _NO_CODE, _ABNORMAL = 1000, 1002, 1005, 1006
_NOT_UTF8, _TOO_BIG, _INTERNAL_ERROR = 1007, 1009, 1011

_CONNECTING, _OPEN, _CLOSING, _CLOSED = range(4)


class _Fault(Exception):
    """What the peer sent breaks the protocol; `code` goes into the close frame."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def wants_websocket(head):
    """Whether a request asks for a WebSocket that can be given."""
    if head.upgrade != "websocket" or head.method != "GET":
        return False
    known = dict(head.fields)
    options = [o.strip() for o in known.get("connection", "").lower().split(",")]
    try:
        key = base64.b64decode(known.get("sec-websocket-key", ""), validate=True)
    except binascii.Error:
        return False
    return (
        "upgrade" in options and known.get("sec-websocket-version") == "13" and len(key) == 16
    )


def frame(opcode, payload):
    """One unmasked final frame, as a server sends it."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, size))
    elif size < 65536:
        head = bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big")
    return head + payload


def unmask(data, mask):
    """`data` XOR the repeated mask: as one large number, which is fast in plain Python."""
    size = len(data)
    pad = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")


class FrameReader:
    """Turns received bytes into messages (opcode, payload), without I/O."""

    def __init__(self):
        self._raw = bytearray()
        self._opcode = None
        self._parts = []
        self._size = 0

    def feed(self, data):
        """Answers the messages and control frames that are complete by now."""
        self._raw += data
        found = []
        while True:
            message = self._frame()
            if message is None:
                return found
            if message[0] is not None:
                found.append(message)

    def _frame(self):
        raw = self._raw
        if len(raw) < 2:
            return None
        first, second = raw[0], raw[1]
        opcode, final = first & 0x0F, first & 0x80
        if first & 0x70:
            raise _Fault(_PROTOCOL_ERROR, "a reserved bit is set")
        if not second & 0x80:
            raise _Fault(_PROTOCOL_ERROR, "a frame of the client is not masked")
        size, at = second & 0x7F, 2
        if size > 125:
            if opcode >= _CLOSE:
                raise _Fault(_PROTOCOL_ERROR, "a control frame is over 125 bytes")
            at = 4 if size == 126 else 10
            if len(raw) < at:
                return None
            size = int.from_bytes(raw[2:at], "big")
        # Before the payload is awaited, so that nobody is made to hold it.
        if size + self._size > MESSAGE_MAX:
            raise _Fault(_TOO_BIG, "a message is over %d bytes" % MESSAGE_MAX)
        if len(raw) < at + 4 + size:
            return None
        payload = unmask(bytes(raw[at + 4 : at + 4 + size]), bytes(raw[at : at + 4]))
        del raw[: at + 4 + size]
        if opcode >= _CLOSE:
            if not final or opcode > _PONG:
                raise _Fault(_PROTOCOL_ERROR, "a control frame is fragmented or unknown")
            return opcode, payload
        return self._data(opcode, payload, final)

    def _data(self, opcode, payload, final):
        if opcode > _BINARY or (opcode == _CONTINUATION) != (self._opcode is not None):
            raise _Fault(_PROTOCOL_ERROR, "a data frame is unknown or out of order")
        if opcode != _CONTINUATION:
            self._opcode = opcode
        self._parts.append(payload)
        self._size += len(payload)
        if not final:
            return None, b""
        whole, kind = b"".join(self._parts), self._opcode
        self._opcode, self._parts, self._size = None, [], 0
        if kind == _TEXT:
            try:
                return kind, whole.decode()
            except UnicodeDecodeError:
                raise _Fault(_NOT_UTF8, "a text message is not UTF-8") from None
        return kind, whole


class Socket:
    """One WebSocket: `receive` and `send` of its scope."""

    def __init__(self, x):
        self._x = x
        self._state = _CONNECTING
        self._frames = FrameReader()
        self._messages = deque([{"type": "websocket.connect"}])
        self._waiter = None
        self._ended = False

    async def run(self, app, scope):
        x = self._x
        try:
            await app(scope, self.receive, self.send)
        except BaseException as failure:
            if self._state == _CONNECTING:
                raise
            self._close(_INTERNAL_ERROR, "")
            await x.fail(failure)
            if isinstance(failure, asyncio.CancelledError):
                raise
        else:
            if self._state == _CONNECTING:
                raise RuntimeError("the app returned without websocket.accept or .close")
            self._close(_NORMAL, "")
        finally:
            if x.taken_over is not None:
                x.finished = True

    # === From the app ===

    async def receive(self):
        while not self._messages:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        message = self._messages.popleft()
        if len(self._messages) <= WAITING_MAX:
            self._x.conn.resume()
        return message

    async def send(self, message):
        kind = message["type"]
        if kind == "websocket.accept" and self._state == _CONNECTING:
            self._accept(message)
        elif kind == "websocket.close" and self._state == _CONNECTING:
            self._state = _CLOSED
            await self._x.respond(403, [], b"")
        elif kind == "websocket.close" and self._state != _CONNECTING:
            self._close(message.get("code") or _NORMAL, message.get("reason") or "")
        elif kind == "websocket.send" and self._state != _CONNECTING:
            text = message.get("text")
            if self._state == _OPEN:
                if text is not None:
                    self._write(frame(_TEXT, text.encode()))
                else:
                    self._write(frame(_BINARY, bytes(message.get("bytes") or b"")))
                await self._x.conn.drain()
        else:
            raise RuntimeError("message %r is not expected in this state" % kind)

    def _accept(self, message):
        x = self._x
        key = dict(x.head.fields)["sec-websocket-key"].encode("latin-1")
        proof = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            "upgrade: websocket",
            "connection: Upgrade",
            "sec-websocket-accept: " + proof,
        ]
        if message.get("subprotocol"):
            lines.append("sec-websocket-protocol: %s" % check_field("p", message["subprotocol"])[1])
        for name, value in message.get("headers") or ():
            name, value = check_field(name, value)
            if not name.lower().startswith("x-tidegate-"):
                lines.append("%s: %s" % (name, value))
        self._state = _OPEN
        x.started = True
        x.taken_over = self
        self._write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        x.conn.take_over(self._on_data)

    def _write(self, data):
        try:
            self._x.send(data)
        except PeerGone:
            self._end(_ABNORMAL, "")

    def _close(self, code, reason):
        """Sends a close frame, once; the peer's own ends the connection."""
        if self._state == _OPEN:
            self._state = _CLOSING
            self._write(frame(_CLOSE, code.to_bytes(2, "big") + reason.encode()[:123]))

    # === From the peer ===

    def _on_data(self, data):
        if data is None:
            self._end(_ABNORMAL, "")
            return
        if self._ended:
            return
        try:
            for opcode, payload in self._frames.feed(data):
                self._on_message(opcode, payload)
        except _Fault as fault:
            self._close(fault.code, str(fault))
            self._end(fault.code, str(fault))
            self._x.conn.transport.close()
        if len(self._messages) > WAITING_MAX:
            self._x.conn.pause()

    def _on_message(self, opcode, payload):
        if self._ended:
            return
        if opcode == _TEXT:
            self._push({"type": "websocket.receive", "text": payload})
        elif opcode == _BINARY:
            self._push({"type": "websocket.receive", "bytes": payload})
        elif opcode == _PING:
            self._write(frame(_PONG, payload))
        elif opcode == _CLOSE:
            self._on_close(payload)

    def _on_close(self, payload):
        code, reason = _NO_CODE, ""
        if len(payload) == 1:
            raise _Fault(_PROTOCOL_ERROR, "a close frame has half a code")
        if payload:
            code = int.from_bytes(payload[:2], "big")
            if not (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) and not (
                3000 <= code <= 4999
            ):
                raise _Fault(_PROTOCOL_ERROR, "close code %d may not be sent" % code)
            try:
                reason = payload[2:].decode()
            except UnicodeDecodeError:
                raise _Fault(_NOT_UTF8, "a close reason is not UTF-8") from None
        if self._state == _OPEN:
            self._state = _CLOSING
            self._write(frame(_CLOSE, payload))
        self._end(code, reason)
        self._x.conn.transport.close()

    def _end(self, code, reason):
        if not self._ended:
            self._ended = True
            self._state = _CLOSED
            self._push({"type": "websocket.disconnect", "code": code, "reason": reason})

    def _push(self, message):
        self._messages.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
