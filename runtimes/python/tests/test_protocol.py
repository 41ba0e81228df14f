"""HTTP on the wire: keep-alive, pipelining, malformed requests; and the log channel."""

import sys
import os

from harness import HostCase, tag

SYNC = "def handler(event, context): return event.method + ' ' + event.text"
ASYNC = "async def handler(event, context): return event.method + ' ' + event.text"
KINDS = ((SYNC, 1), (SYNC, 3), (ASYNC, 3))


class Wire(HostCase):
    def hosts(self):
        for code, concurrency in KINDS:
            yield self.host(code, concurrency=concurrency)

    def test_keep_alive_and_pipelining(self):
        for host in self.hosts():
            client = host.connect()
            for turn in range(20):
                self.assertEqual(client.call("PUT", body=b"%d" % turn).body, b"PUT %d" % turn)
            for turn in range(20):
                client.send("PUT", body=b"%d" % turn)
            for turn in range(20):
                self.assertEqual(client.answer().body, b"PUT %d" % turn)

    def test_many_idle_connections(self):
        for host in self.hosts():
            clients = [host.connect() for _ in range(100)]
            for client in clients + clients[::-1]:
                self.assertEqual(client.call().body, b"GET ")

    def test_byte_by_byte(self):
        for host in self.hosts():
            client = host.connect()
            raw = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
            for at in range(len(raw)):
                client.sock.sendall(raw[at : at + 1])
            self.assertEqual(client.answer().body, b"POST ab")

    def test_expect_continue(self):
        for host in self.hosts():
            client = host.connect()
            client.send("POST", headers=[("expect", "100-continue"), ("content-length", "2")])
            self.assertEqual(client.head()[0], 100)
            client.sock.sendall(b"ok")
            self.assertEqual(client.answer().body, b"POST ok")

    def test_close_and_old_protocol(self):
        for host in self.hosts():
            client = host.connect()
            answer = client.call(headers=[("connection", "close")])
            self.assertEqual(answer.get("connection"), "close")
            self.assertTrue(client.at_end())
            client = host.connect()
            client.sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            self.assertEqual(client.answer().body, b"GET ")
            self.assertTrue(client.at_end())

    def test_stream_to_old_protocol(self):
        for code in ("def handler(e):\n yield 'a'\n yield 'b'",
                     "async def handler(e):\n yield 'a'\n yield 'b'"):
            client = self.host(code).connect()
            client.sock.sendall(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
            answer = client.answer()
            self.assertEqual((answer.body, answer.get("transfer-encoding")), (b"ab", None))

    def test_unread_body(self):
        for code in ("def handler(e): return 'x'", "async def app(s, r, send):\n"
                     " assert s['type'] == 'http'\n"
                     " await send({'type': 'http.response.start', 'status': 200})\n"
                     " await send({'type': 'http.response.body', 'body': b'x'})"):
            host = self.host(code)
            client = host.connect()
            self.assertEqual(client.call("POST", body=b"small").body, b"x")
            client.send("POST", headers=[("content-length", "100000")])
            self.assertEqual(client.answer().body, b"x")
            client.sock.sendall(b"y" * 100000)
            self.assertEqual(client.call().body, b"x")
            client.send("POST", headers=[("expect", "100-continue"), ("content-length", "5")])
            self.assertEqual(client.answer().get("connection"), "close")
            self.assertTrue(client.at_end())

    def test_malformed(self):
        head = b"POST / HTTP/1.1\r\nhost: x\r\n"
        cases = (
            (400, b"nonsense\r\n\r\n"),
            (400, b"GET  / HTTP/1.1\r\n\r\n"),
            (400, b"GET /a b HTTP/1.1\r\n\r\n"),
            (505, b"GET / HTTP/2.0\r\n\r\n"),
            (400, b"GET x HTTP/1.1\r\n\r\n"),
            (400, head + b"a : b\r\n\r\n"),
            (400, head + b"a: b\r\n folded\r\n\r\n"),
            (400, head + b"a: b\0\r\n\r\n"),
            (400, head + b"a: b\nc: d\r\n\r\n"),
            (400, head + b": b\r\n\r\n"),
            (400, head + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"),
            (400, head + b"content-length: 1\r\ncontent-length: 1\r\n\r\n"),
            (400, head + b"content-length: +1\r\n\r\n"),
            (501, head + b"transfer-encoding: gzip, chunked\r\n\r\n"),
            (417, head + b"expect: miracles\r\n\r\n"),
            (431, head + b"a: " + b"x" * 70000),
        )
        for host in self.hosts():
            for status, raw in cases:
                client = host.connect()
                try:
                    client.sock.sendall(raw)
                except BrokenPipeError:
                    pass
                self.assertEqual(client.answer().status, status, raw[:80])
            self.assertEqual(host.call().body, b"GET ")

    def test_malformed_chunks(self):
        for host in self.hosts():
            for raw in (b"x\r\n", b"-1\r\n", b"1\r\nabc", b"1" * 2000, b"0\r\n" + b"a" * 20000):
                client = host.connect()
                client.send("POST", headers=[("transfer-encoding", "chunked")])
                client.sock.sendall(raw)
                answer = client.answer()
                self.assertEqual((answer.status, answer.get("x-tidegate-outcome")), (400, "platform"))
            self.assertEqual(host.call().body, b"GET ")


class Logs(HostCase):
    def test_lines_are_there_when_the_call_returns(self):
        for code in ("def handler(e, c): print('one\\ntwo', end=''); return 'x'",
                     "async def handler(e, c): print('one\\ntwo', end=''); return 'x'"):
            host = self.host(code)
            client = host.connect()
            for _ in range(50):
                mine = tag()
                client.call(tag=mine)
                self.assertEqual(host.lines(mine, "o"), ["one", "two"])

    def test_threads_are_told_apart(self):
        host = self.host("""
            import threading, sys, logging
            both = threading.Barrier(2)
            def handler(event, context):
                for turn in range(50):
                    print(event.path, end=" "); both.wait(); print(turn)
                logging.warning("end of %s", event.path)
                return "x"
        """, concurrency=2)
        self.check_apart(host)

    def test_tasks_are_told_apart(self):
        host = self.host("""
            import asyncio, logging, sys
            waiting = 0
            async def handler(event, context):
                for turn in range(50):
                    print(event.path, end=" "); await asyncio.sleep(0); print(turn)
                await asyncio.to_thread(logging.warning, "end of %s", event.path)
                return "x"
        """ if sys.version_info >= (3, 9) else "", concurrency=2)
        self.check_apart(host)

    def check_apart(self, host):
        one, two, a, b = host.connect(), host.connect(), tag(), tag()
        one.send(target="/a", tag=a)
        two.send(target="/b", tag=b)
        one.answer(), two.answer()
        for mine, path in ((a, "/a"), (b, "/b")):
            self.assertEqual(host.lines(mine, "o"), ["%s %d" % (path, n) for n in range(50)])
            self.assertEqual(host.lines(mine, "e"), ["WARNING:root:end of " + path])

    def test_long_lines_and_odd_characters(self):
        host = self.host("""
            import sys
            print("at import")
            def handler(event, context):
                print("ü" * 20000)
                print("\\udcff", file=sys.stderr)
                sys.stdout.buffer.write(b"by\\xfftes\\n")
                sys.stdout.write("x" * 100000)
                assert (sys.stdout.fileno(), sys.stderr.fileno()) == (1, 2)
                assert not sys.stdout.isatty()
        """)
        mine = tag()
        self.assertEqual(host.call(tag=mine).status, 200)
        lines = host.lines(mine, "o")
        self.assertEqual("".join(lines[:3]), "ü" * 20000)
        self.assertEqual(lines[3], "by\\xfftes")
        self.assertEqual("".join(lines[4:]), "x" * 100000)
        self.assertTrue(all(len(line.encode()) <= 16384 for line in lines))
        self.assertEqual(host.lines(mine, "e"), ["\\udcff"])
        self.assertEqual(host.lines("-" * 32), ["at import"])

    def test_what_bypasses_python_goes_to_the_pipes(self):
        host = self.host("""
            import os, subprocess
            def handler(event, context):
                os.write(1, b"raw\\n")
                return str(subprocess.run(["/bin/sh", "-c", "echo sub >&2"]).returncode)
        """)
        self.assertEqual(host.call().body, b"0")
        self.assertEqual(os.read(host.pipes[0], 100), b"raw\n")
        self.assertEqual(os.read(host.pipes[1], 100), b"sub\n")
        self.assertEqual(host.lines(), [])
