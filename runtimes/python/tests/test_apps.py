"""WSGI and ASGI apps, WebSocket and lifespan."""

import os

from harness import HostCase, tag

from websocket_client import Socket


class Wsgi(HostCase):
    def test_environ(self):
        host = self.host("""
            import json, sys
            def app(environ, start_response):
                environ["wsgi.errors"].write("a word\\n")
                start_response("200 Fine", [("X-A", "b")])
                shown = {k: v for k, v in environ.items() if isinstance(v, (str, bool, list, tuple))}
                shown["input"] = environ["wsgi.input"].readline().decode()
                return [json.dumps(shown).encode()]
        """)
        mine = tag()
        answer = host.call("POST", "/a%20b?x=1", b"one\ntwo", tag=mine, headers=[
            ("x-tidegate-path-prefix", "/fn/thumbnail"), ("content-type", "text/x"),
            ("x-two", "1"), ("x-two", "2"), ("x_two", "forged"),
            ("x-forwarded-proto", "https"), ("x-forwarded-for", "192.0.2.1, 192.0.2.2"),
        ])
        got = answer.json
        want = {
            "REQUEST_METHOD": "POST", "SCRIPT_NAME": "/fn/thumbnail", "PATH_INFO": "/a b",
            "QUERY_STRING": "x=1", "CONTENT_TYPE": "text/x", "CONTENT_LENGTH": "7",
            "SERVER_NAME": "example.test", "HTTP_X_TWO": "1, 2", "input": "one\n",
            "wsgi.url_scheme": "https", "REMOTE_ADDR": "192.0.2.1", "wsgi.multithread": False,
            "wsgi.version": [1, 0],
        }
        self.assertEqual({key: got.get(key) for key in want}, want)
        self.assertNotIn("HTTP_X_TIDEGATE_PATH_PREFIX", got)
        self.assertEqual((answer.get("x-a"), answer.get("content-length")), ("b", str(len(answer.body))))
        self.assertEqual(host.lines(mine, "e"), ["a word"])

    def test_ways_to_answer(self):
        host = self.host("""
            import sys
            class Body:
                def __iter__(self): return iter([b"", b"a", b"b"])
                def close(self): print("closed")
            def app(environ, start):
                path = environ["PATH_INFO"]
                if path == "/write":
                    write = start("200 OK", [])
                    write(b"w1 "); write(b"w2 ")
                    return [b"rest"]
                if path == "/late":
                    start("200 OK", [])
                    try: raise ValueError("x")
                    except ValueError: start("503 Busy", [], sys.exc_info())
                    return [b"replaced"]
                if path == "/length":
                    start("200 OK", [("Content-Length", "4")])
                    return iter([b"12", b"34"])
                if path == "/short":
                    start("200 OK", [("Content-Length", "4")])
                    return iter([b"12"])
                if path == "/none": return [b"no start"]
                if path == "/twice":
                    start("200 OK", []); start("200 OK", [])
                if path == "/text":
                    start("200 OK", [])
                    return ["text"]
                if path == "/empty":
                    start("204 No Content", [])
                    return []
                start("200 OK", [])
                return Body()
        """)
        mine = tag()
        self.assertEqual(host.call(tag=mine).body, b"ab")
        self.assertEqual(host.lines(mine), ["closed"])
        self.assertEqual(host.call(target="/write").body, b"w1 w2 rest")
        answer = host.call(target="/late")
        self.assertEqual((answer.status, answer.body), (503, b"replaced"))
        self.assertEqual(host.call(target="/length").body, b"1234")
        self.assertFalse(host.call(target="/short").complete)
        for path in ("/none", "/twice", "/text"):
            self.assertEqual(host.call(target=path).status, 500, path)
        self.assertEqual(host.call(target="/empty").status, 204)


APP = """
    import json
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            print((await receive())["type"])
            scope["state"]["made"] = "at start"
            await send({"type": "lifespan.startup.complete"})
            print((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["path"].endswith("/half"):
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            return
        if scope["path"].endswith("/nothing"): return
        if scope["path"].endswith("/raise"): raise ValueError("in the app")
        if scope["path"].endswith("/gone"):
            print("waiting")
            while (await receive())["type"] != "http.disconnect": pass
            print("noticed")
            return
        shown = {k: scope[k] for k in ("type", "method", "path", "root_path", "scheme", "server",
                                       "client", "state", "http_version")}
        shown["raw"] = scope["raw_path"].decode()
        shown["query"] = scope["query_string"].decode()
        shown["headers"] = [k.decode() for k, v in scope["headers"]]
        await send({"type": "http.response.start", "status": 201,
                    "headers": [(b"x-a", b"b"), (b"x-a", b"c")]})
        await send({"type": "http.response.body", "body": json.dumps(shown).encode()})
        if scope["path"].endswith("/after"): print("afterwards")
"""


class Asgi(HostCase):
    def test_scope_and_lifespan(self):
        host = self.host(APP)
        self.assertEqual(host.lines("-" * 32), ["lifespan.startup"])
        answer = host.call("GET", "/caf%C3%A9?q=1", headers=[("X-Tidegate-Path-Prefix", "/fn/t")])
        self.assertEqual(answer.status, 201)
        self.assertEqual([v for k, v in answer.fields if k == "x-a"], ["b", "c"])
        self.assertEqual(answer.json, {
            "type": "http", "method": "GET", "path": "/fn/t/café", "root_path": "/fn/t",
            "raw": "/fn/t/caf%C3%A9", "query": "q=1", "scheme": "http", "http_version": "1.1",
            "server": ["example.test", 80], "client": None, "state": {"made": "at start"},
            "headers": ["host", "x-request-id"],
        })
        self.assertEqual(host.drain(), 0)
        self.assertEqual(host.lines("-" * 32), ["lifespan.startup", "lifespan.shutdown"])

    def test_failures(self):
        host = self.host(APP)
        self.assertFalse(host.call(target="/half").complete)
        self.assertEqual(host.call(target="/nothing").status, 500)
        mine = tag()
        self.assertEqual(host.call(target="/raise", tag=mine).status, 500)
        self.assertIn("ValueError: in the app", host.lines(mine))
        client, mine = host.connect(), tag()
        client.send(target="/gone", tag=mine)
        host.wait_for(lambda: "waiting" in host.lines(mine))
        client.close()
        host.wait_for(lambda: "noticed" in host.lines(mine))
        mine = tag()
        self.assertEqual(host.call(target="/after", tag=mine).status, 201)
        host.wait_for(lambda: host.lines(mine) == ["afterwards"])

    def test_startup_that_fails(self):
        message = self.refusal("""
            async def app(scope, receive, send):
                await receive()
                await send({"type": "lifespan.startup.failed", "message": "no database"})
        """)
        self.assertEqual((message["step"], message["error"]), ("lifespan", "no database"))

    def test_callable_object(self):
        host = self.host("""
            class App:
                async def __call__(self, scope, receive, send):
                    assert scope["type"] == "http"
                    await send({"type": "http.response.start", "status": 200})
                    await send({"type": "http.response.body", "body": b"object"})
            app = App()
        """)
        self.assertEqual(host.call().body, b"object")


ECHO = """
    async def app(scope, receive, send):
        if scope["type"] != "websocket": raise ValueError(scope["type"])
        assert (await receive())["type"] == "websocket.connect"
        if scope["path"] == "/no":
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept", "subprotocol": (scope["subprotocols"] or [None])[0]})
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                print("closed", message["code"], message["reason"])
                return
            if message.get("text") == "fail": raise ValueError("asked to")
            if message.get("text") == "close":
                await send({"type": "websocket.close", "code": 3001, "reason": "bye"})
                continue
            await send({"type": "websocket.send", "text": message.get("text"),
                        "bytes": message.get("bytes")})
"""


class WebSocket(HostCase):
    def open(self, host, path="/", mine=None, **kwargs):
        return Socket.open(host.connect(), path, mine or tag(), **kwargs)

    def test_echo(self):
        host = self.host(ECHO)
        mine = tag()
        ws = self.open(host, mine=mine, protocols="a, b")
        self.assertEqual(ws.protocol, "a")
        ws.send(1, "grün".encode())
        self.assertEqual(ws.receive(), (1, "grün".encode()))
        for size in (0, 125, 126, 65535, 65536, 1000000):
            data = os.urandom(size)
            ws.send(2, data)
            self.assertEqual(ws.receive(), (2, data))
        ws.send(1, b"fr", final=False)
        ws.send(9, b"ping")
        ws.send(0, b"ag", final=True)
        self.assertEqual(ws.receive(), (10, b"ping"))
        self.assertEqual(ws.receive(), (1, b"frag"))
        ws.send(8, b"\x03\xe8over")
        self.assertEqual(ws.receive(), (8, b"\x03\xe8over"))
        self.assertTrue(ws.client.at_end())
        host.wait_for(lambda: host.lines(mine) == ["closed 1000 over"])

    def test_closed_by_the_app(self):
        host = self.host(ECHO)
        ws = self.open(host)
        ws.send(1, b"close")
        self.assertEqual(ws.receive(), (8, (3001).to_bytes(2, "big") + b"bye"))
        mine = tag()
        ws = self.open(host, mine=mine)
        ws.send(1, b"fail")
        self.assertEqual(ws.receive(), (8, (1011).to_bytes(2, "big")))
        host.wait_for(lambda: "ValueError: asked to" in host.lines(mine))
        self.assertEqual(self.open(host, "/no").status, 403)

    def test_lost_connection(self):
        host = self.host(ECHO)
        mine = tag()
        ws = self.open(host, mine=mine)
        ws.client.close()
        host.wait_for(lambda: host.lines(mine) == ["closed 1006 "])

    def test_faults(self):
        host = self.host(ECHO)
        for code, raw in (
            (1002, b"\x81\x01x"),  # Not masked.
            (1002, b"\xc1\x80aaaa"),  # A reserved bit.
            (1002, b"\x80\x80aaaa"),  # A continuation of nothing.
            (1002, b"\x09\x80aaaa"),  # A fragmented ping.
            (1002, b"\x89\xfe\x00\x80aaaa"),  # A long ping.
            (1007, b"\x81\x81\0\0\0\0\xff"),  # Not UTF-8.
            (1009, b"\x82\xff" + (1 << 40).to_bytes(8, "big")),  # A terabyte announced.
        ):
            ws = self.open(host)
            ws.client.sock.sendall(raw)
            opcode, payload = ws.receive()
            self.assertEqual((opcode, int.from_bytes(payload[:2], "big")), (8, code), raw)
            self.assertTrue(ws.client.at_end())

    def test_cancel(self):
        host = self.host(ECHO)
        mine = tag()
        ws = self.open(host, mine=mine)
        host.cancel(mine)
        host.wait_for(lambda: host.idle == [mine])
