#!/usr/bin/python3
"""Any program that serves HTTP on $PORT is a function. This one greets, with Python's standard library alone."""

import http.server
import os
import signal
import sys
import urllib.parse

LONGEST_NAME = 100


class Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave in two writes; without this the second waits for an acknowledgement of the first.
    disable_nagle_algorithm = True

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        name = query.get("name", ["world"])[-1]
        if len(name) > LONGEST_NAME:
            return self.answer(400, f"name has {len(name)} characters; at most {LONGEST_NAME} are taken\n")
        return self.answer(200, f"hello, {name}\n")

    do_HEAD = do_GET

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, form, *values):
        print(form % values, file=sys.stderr, flush=True)


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Hello)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server.serve_forever()


if __name__ == "__main__":
    main()
