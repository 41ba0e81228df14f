"""Standard output and error of user code, line by line, by request.

`sys.stdout` and `sys.stderr` become streams that send each finished line as
one control message with the id of the request that wrote it, taken from a
context variable: exact under threads and asyncio alike. What bypasses them (C
code, subprocesses) reaches the instance's pipes and belongs to no request.
"""

import contextvars
import io
import os
import sys
import threading

# Longer lines are split, so that one line cannot grow without bound in memory
# and a message stays far under the channel's 64 KiB.
LINE_MAX = 16 * 1024


class Scope:
    """The log side of one request: its tag and its unfinished lines."""

    __slots__ = ("tag", "held")

    def __init__(self, tag):
        """`tag`: 32 hex digits as bytes, or 32 dashes for no request."""
        self.tag = tag
        self.held = {}

    def flush(self):
        """Sends unfinished lines as they are; called when the request ends."""
        if self.held:
            for stream in list(self.held):
                stream.end_line(self)


# Module code, background threads: lines of the instance, of no request.
OUTSIDE = Scope(b"-" * 32)

current = contextvars.ContextVar("tidegate_request", default=OUTSIDE)


class LogStream(io.TextIOBase):
    """A text stream whose lines become log messages."""

    encoding = "utf-8"
    errors = "backslashreplace"
    newlines = None
    line_buffering = True

    def __init__(self, control, letter, fd):
        """`letter`: b"o" or b"e"; `fd`: the raw pipe behind it."""
        super().__init__()
        self._control = control
        self._letter = letter
        self._fd = fd
        self.name = "<stdout>" if letter == b"o" else "<stderr>"
        self.mode = "w"
        self.buffer = _Bytes(self)
        # Reentrant, because a signal handler of the function may print as well.
        self._lock = threading.RLock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self):
        self._lock = threading.RLock()

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError("write() argument must be str, not " + type(text).__name__)
        scope = current.get()
        with self._lock:
            held = scope.held.pop(self, "") + text
            if "\n" in text:
                *lines, held = held.split("\n")
                for line in lines:
                    self._emit(scope, line)
            if len(held) > LINE_MAX:
                held = self._emit_part(scope, held)
            if held:
                scope.held[self] = held
        return len(text)

    def _emit(self, scope, line):
        data = self._emit_pieces(scope, line)
        self._control.send(b"L" + self._letter + scope.tag + data)

    def _emit_part(self, scope, line):
        """Sends the full pieces of an unfinished line; answers the rest, which is not empty."""
        return self._emit_pieces(scope, line).decode()

    def _emit_pieces(self, scope, line):
        data = line.encode("utf-8", "backslashreplace")
        head = b"L" + self._letter + scope.tag
        while len(data) > LINE_MAX:
            cut = LINE_MAX
            # Not inside a character: continuation bytes begin with the bits 10.
            while data[cut] & 0xC0 == 0x80:
                cut -= 1
            self._control.send(head + data[:cut])
            data = data[cut:]
        return data

    def end_line(self, scope):
        """Sends what `scope` holds of this stream, if anything."""
        with self._lock:
            held = scope.held.pop(self, "")
            if held:
                self._emit(scope, held)

    def flush(self):
        """Nothing to do: finished lines are gone already, unfinished ones wait for their end."""

    def close(self):
        """Closing standard output would only hide the log of later requests; ignored."""

    def fileno(self):
        return self._fd

    def isatty(self):
        return False

    def writable(self):
        return True

    def reconfigure(self, **_options):
        """Accepted for the scripts that ask for UTF-8 or line buffering, which is what they get."""


class _Bytes(io.BufferedIOBase):
    """The `.buffer` of a log stream: bytes in, text lines out."""

    def __init__(self, text):
        super().__init__()
        self.raw = self
        self._text = text

    def write(self, data):
        data = bytes(data)
        self._text.write(data.decode("utf-8", "backslashreplace"))
        return len(data)

    def writable(self):
        return True

    def fileno(self):
        return self._text.fileno()

    def close(self):
        """Ignored, as for the text stream."""


def install(control):
    """Replaces `sys.stdout` and `sys.stderr`."""
    sys.stdout = LogStream(control, b"o", 1)
    sys.stderr = LogStream(control, b"e", 2)
