"""The application as a program of its own, for deployments that name a process."""

import io
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote_to_bytes

# Where the watchdog looks for it.
ADDRESS = ("127.0.0.1", 5000)

# A line with the size of a chunk, and all trailers, which are skipped. In bytes.
LINE_MAX = 1024
TRAILERS_MAX = 16 * 1024

# As much as waitress takes. Whoever calls holds a caller to its own limit, which is lower. In bytes.
BODY_MAX = 1 << 30


def forever(app, address=ADDRESS):
    """Serves `app` until the process is ended."""
    server = make(app, address)
    server.serve_forever()


def make(app, address):
    """The server, listening."""

    class Handler(_Handler):
        pass

    Handler.app = staticmethod(app)
    server = ThreadingHTTPServer(address, Handler)
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    app = None

    def __getattr__(self, name):
        # Every method reaches the application, which refuses what it does not know.
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self):
        try:
            body = self._body()
        except ValueError as failure:
            self.close_connection = True
            self.send_error(400, explain=str(failure))
            return
        head = []
        pieces = self.app(self._environ(body), lambda status, fields, _info=None: head.extend((status, fields)))
        try:
            self._send(head, pieces)
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()

    def _send(self, head, pieces):
        # The first piece is asked for before the head is known: an application may be a generator.
        pieces = iter(pieces)
        first = next(pieces, b"")
        status, fields = head
        code, _, reason = status.partition(" ")
        self.send_response_only(int(code), reason)
        for name, value in fields:
            self.send_header(name, value)
        empty = self.command == "HEAD" or code in ("204", "304")
        chunked = not empty and not any(name.lower() == "content-length" for name, _ in fields)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if empty:
            return
        self._write(first, chunked)
        for piece in pieces:
            self._write(piece, chunked)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _write(self, piece, chunked):
        if piece:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)

    def _body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._chunks()
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > BODY_MAX:
            raise ValueError("content-length %s is not a number up to %d" % (length, BODY_MAX))
        return self.rfile.read(int(length))

    def _chunks(self):
        pieces, left = [], BODY_MAX
        for piece in iter(self._chunk, b""):
            pieces.append(piece)
            left -= len(piece)
            if left < 0:
                raise ValueError("the body is over %d bytes" % BODY_MAX)
        return b"".join(pieces)

    def _chunk(self):
        size = int(self.rfile.readline(LINE_MAX).split(b";")[0], 16)
        if not 0 <= size <= BODY_MAX:
            raise ValueError("a chunk of %d bytes is over %d" % (size, BODY_MAX))
        if size == 0:
            left = TRAILERS_MAX
            while (line := self.rfile.readline(left)) not in (b"\r\n", b"\n", b""):
                left -= len(line)
            return b""
        piece = self.rfile.read(size)
        self.rfile.readline(LINE_MAX)
        return piece

    def _environ(self, body):
        path, _, query = self.path.partition("?")
        environ = {
            "REQUEST_METHOD": self.command, "SCRIPT_NAME": "", "QUERY_STRING": query,
            "PATH_INFO": unquote_to_bytes(path.encode("latin-1")).decode("latin-1"),
            "SERVER_PROTOCOL": self.request_version, "SERVER_NAME": ADDRESS[0], "SERVER_PORT": str(ADDRESS[1]),
            "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(body),
            "wsgi.input_terminated": True, "wsgi.errors": sys.stderr,
            "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
        }
        for name, value in self.headers.items():
            if "_" not in name:
                key = name.upper().replace("-", "_")
                key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key
                environ[key] = environ[key] + ", " + value if key in environ else value
        return environ

    def log_message(self, *_words):
        """Whoever calls keeps a log of calls already."""
