"""One request and its answer over a blocking connection."""

from .answers import error, error_answer, is_callers_fault, log_failure
from .body import PeerGone, SyncBody
from .http1 import BadRequest, CHUNKED, LENGTH, NO_BODY, compose

# A body up to this size goes out in one call with its head; copying it is
# cheaper than a second system call.
JOIN_MAX = 64 * 1024


class Exchange:
    """Writes the answer to one request, and knows how far it has come."""

    __slots__ = ("head", "body", "scope", "started", "sealed", "sent", "keep", "_conn", "_mode", "_left")

    def __init__(self, conn, head, scope):
        self._conn = conn
        self.head = head
        self.body = None
        self.scope = scope
        self.started = False
        # Sealed: the end of the answer is about to leave, in one piece; a cancel
        # comes too late to change it. Sent: it has left.
        self.sealed = self.sent = False
        self.keep = False
        self._mode = NO_BODY
        self._left = None

    def open_body(self, limit):
        """Gives the request's body; raises BodyTooLarge if it says so itself."""
        self.body = SyncBody(self._conn, self.head, limit)
        return self.body

    def _send(self, data):
        try:
            self._conn.sock.sendall(data)
        except OSError as failure:
            self.keep = False
            raise PeerGone(str(failure)) from None

    def _closes(self, streaming=False):
        """Whether the rest of the request's body makes the connection useless."""
        body = self.body
        if streaming and body is not None and not body.unasked:
            # The function may read on while it answers; `finish` looks again.
            return False
        if body is None:
            return bool(self.head.length or self.head.chunked)
        return not body.done and body.skippable is None

    def respond(self, status, fields, body, outcome=None, reason=None):
        """A whole answer at once; the log goes first, so that it is there when the call returns."""
        head, mode, _, self.keep = compose(
            self.head, status, fields, len(body), outcome, reason, close=self._closes()
        )
        self.scope.flush()
        self.started = True
        if mode == NO_BODY or not body:
            self._send_last(head)
        elif len(body) <= JOIN_MAX:
            self._send_last(head + body)
        else:
            # Not sealed: a large body may wait long for a slow reader.
            self._send(head)
            self._send(body)
            self.sealed = self.sent = True

    def _send_last(self, data):
        self.sealed = True
        if data:
            self._send(data)
        self.sent = True

    def start(self, status, fields, length=None, reason=None):
        """The head alone; `write` and `finish` follow."""
        head, self._mode, self._left, self.keep = compose(
            self.head, status, fields, length, reason=reason, close=self._closes(streaming=True)
        )
        self.started = True
        return head

    def send_head(self, head):
        self._send(head)

    def write(self, data, head=b""):
        """A part of the body, with the head before it if it has not gone yet."""
        mode = self._mode
        if mode == CHUNKED and data:
            data = b"%s%x\r\n%s\r\n" % (head, len(data), data)
        elif mode == NO_BODY:
            data = head
        else:
            if mode == LENGTH:
                if len(data) > self._left:
                    self.keep = False
                    raise ValueError("the body is longer than its content-length")
                self._left -= len(data)
            data = head + data
        if data:
            self._send(data)

    def finish(self):
        """The end of a body sent with `write`."""
        self.scope.flush()
        if self._mode == LENGTH and self._left:
            self.keep = False
            raise ValueError("the body is %d bytes shorter than its content-length" % self._left)
        if self._closes():
            # The server cannot have reused a connection on which it is still sending.
            self.keep = False
        self._send_last(b"0\r\n\r\n" if self._mode == CHUNKED else b"")

    def fail(self, failure):
        """Answers an exception of the function, or breaks the answer off."""
        if isinstance(failure, PeerGone):
            self.keep = False
            return
        if isinstance(failure, BadRequest):
            # The fault is in the body as sent: neither the function's nor the caller's.
            self._answer(*error_answer(self.head, failure.status, str(failure), "platform"))
            return
        if self.started or not is_callers_fault(failure):
            log_failure(failure)
        if self.started:
            # No end mark: the caller must not take half an answer for a whole one.
            self.keep = False
            self.scope.flush()
            return
        self._answer(*error(self.head, failure))

    def _answer(self, status, fields, body, outcome):
        if self.started:
            self.keep = False
            return
        try:
            self.respond(status, fields, body, outcome)
        except PeerGone:
            self.keep = False
