"""The control channel between the server and one host.

A SOCK_SEQPACKET Unix socket: a message is a datagram, its first byte the
type. Log lines travel here too: a line and the request that wrote it are then
one atomic unit, however many threads write.
"""

import array
import json
import socket

# The descriptor on which a host finds its control channel.
CONTROL_FD = 3

# A datagram larger than this is never sent, so a receiver may allocate it whole.
MESSAGE_MAX = 64 * 1024

# Server to host.
CONNECTION = b"C"
CANCEL = b"X"
DRAIN = b"D"
CONFIG = b"G"

# Host to server.
READY = b"R"
FAILED = b"F"
IDLE = b"I"
LOG = b"L"

_INT = array.array("i").itemsize
# One descriptor a message is the rule; room for four lets a mistake be noticed and closed.
_ANCILLARY = socket.CMSG_SPACE(4 * _INT)


class Control:
    """The host's end of the control channel."""

    def __init__(self, sock):
        sock.settimeout(None)
        self.sock = sock
        self.fd = sock.fileno()
        # Bound once: a log line must not pay for attribute lookups.
        self._send = sock.send

    def send(self, message):
        """Sends one datagram, waiting while the server is behind.

        A server that has gone away is not an error here: the end of the
        channel is noticed by whoever reads it.
        """
        try:
            self._send(message)
        except OSError:
            pass

    def ready(self):
        self.send(READY)

    def idle(self, tag):
        """Says that the request `tag` (32 hex, bytes) runs no longer."""
        self.send(IDLE + tag)

    def failed(self, step, error, trace=""):
        """Says that the function could not be started, and why."""
        # A trace is cut at its head: the last lines name the fault. A character
        # may take six bytes in JSON, hence the small shares of the 64 KiB.
        text = {"step": step, "error": error[:1500], "trace": trace[-8000:]}
        self.send(FAILED + json.dumps(text).encode())

    def receive(self, wait=False):
        """One message as (type, payload, descriptors).

        None if nothing is there (only with `wait=False`); type b"" at the end.
        """
        flags = socket.MSG_CMSG_CLOEXEC | (0 if wait else socket.MSG_DONTWAIT)
        try:
            data, ancillary, _, _ = self.sock.recvmsg(MESSAGE_MAX, _ANCILLARY, flags)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return b"", b"", []
        return data[:1], data[1:], descriptors(ancillary)


def descriptors(ancillary):
    """The descriptors in a recvmsg answer, as a list of int."""
    found = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            part = array.array("i")
            part.frombytes(data[: len(data) - len(data) % _INT])
            found.extend(part)
    return found
