#!/usr/bin/env python3
"""Greets whoever is named: an HTTP server on $PORT."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Greeter(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        query = parse_qs(urlsplit(self.path).query)
        self.answer(200, {"hello": query.get("name", ["world"])[-1]})

    def do_POST(self):
        try:
            asked = json.loads(self.body())
        except ValueError:
            return self.answer(400, {"error": "the body is not JSON"})
        name = asked.get("name") if isinstance(asked, dict) else None
        self.answer(200, {"hello": name or "world"})

    def body(self):
        """The body: by its length or, where that was not known beforehand, in chunks. The platform limits its size."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        whole = b""
        while length := int(self.rfile.readline(64).split(b";")[0], 16):
            whole += self.rfile.read(length)
            self.rfile.readline(64)
        self.rfile.readline(64)
        return whole

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Greeter).serve_forever()
