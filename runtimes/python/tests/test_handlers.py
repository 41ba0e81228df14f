"""Every shape of handler, what it is given and what it may return."""

import base64
import json
import time

from harness import HostCase, tag


class Given(HostCase):
    def test_event(self):
        host = self.host("""
            def handler(event, context):
                return {
                    "method": event.method, "path": event.path, "raw": event.raw_path,
                    "query": event.query, "many": event.query_list("a"),
                    "upper": event.headers["X-COLOUR"], "all": event.headers.get_all("x-colour"),
                    "names": sorted(event.headers), "body": event.body.decode(),
                    "text": event.text, "type": event.content_type, "stream": event.json(),
                }
        """)
        got = host.call(
            "POST", "/caf%C3%A9/x?a=1&a=2&b=", b'{"k": 1}', tag="0" * 32,
            headers=[
                ("x-colour", "red"), ("X-Colour", "blue"), ("Content-Type", "Application/JSON; q=1"),
                ("x-tidegate-deadline-ms", "5000"), ("x-tidegate-path-prefix", "/fn/thumbnail"),
            ],
        ).json
        self.assertEqual(got, {
            "method": "POST", "path": "/café/x", "raw": "/caf%C3%A9/x",
            "query": {"a": "2", "b": ""}, "many": ["1", "2"],
            "upper": "red, blue", "all": ["red", "blue"],
            "names": ["content-length", "content-type", "host", "x-colour", "x-request-id"],
            "body": '{"k": 1}', "text": '{"k": 1}', "type": "application/json",
            "stream": {"k": 1},
        })

    def test_context_and_environment(self):
        host = self.host("""
            import os, sys
            def handler(event, context):
                context.log.info("from the logger")
                return [context.request_id, context.function_name, context.namespace,
                        context.revision, context.memory_limit_bytes, context.deadline,
                        context.remaining_ms(), dict(os.environ), sys.argv == [__file__], __name__,
                        os.getcwd() == sys.path[0] == os.path.dirname(__file__)]
        """)
        mine = tag()
        got = host.call(tag=mine, headers=[("X-Tidegate-Deadline-Ms", "5000")]).json
        self.assertEqual(got[:5], [mine, "thumbnail", "default", "r1", 128 * 1024 * 1024])
        self.assertTrue(time.time() < got[5] < time.time() + 5)
        self.assertTrue(0 < got[6] <= 5000)
        self.assertEqual(got[7], {"GREETING": "hello"})
        self.assertEqual(got[8:], [True, "function", True])
        self.assertEqual(host.lines(mine, "e"), ["INFO from the logger"])

    def test_fewer_parameters_and_other_names(self):
        self.assertEqual(self.host("def handler(event): return event.path").call().body, b"/")
        self.assertEqual(self.host("def handler(): return 'x'").call().body, b"x")
        self.assertEqual(
            self.host("def run(event, context): return 'run'", handler="run").call().body, b"run")
        host = self.host("def f(e, c): return 'm'", name="other.py", handler="other:f")
        self.assertEqual(host.call().body, b"m")

    def test_file_called_like_a_loaded_module(self):
        host = self.host("import json\ndef handler(e, c): return json.dumps([1])", name="json.py")
        self.assertEqual(host.call().body, b"[1]")

    def test_stream_reads_while_the_body_arrives(self):
        host = self.host("""
            def handler(event, context):
                for line in event.stream:
                    yield line.upper()
        """)
        client = host.connect()
        client.send("POST", headers=[("transfer-encoding", "chunked")])
        client.sock.sendall(b"4\r\none\n\r\n")
        self.assertEqual(client.head()[0], 200)
        self.assertEqual(client.chunk(), b"ONE\n")
        client.sock.sendall(b"4;x=y\r\ntwo\n\r\n")
        self.assertEqual(client.chunk(), b"TWO\n")
        client.sock.sendall(b"0\r\ntrailer: x\r\n\r\n")
        self.assertEqual(client.chunk(), b"")


class Returned(HostCase):
    def check(self, expression, status, body, content_type):
        answer = self.shapes.call(target="/?" + base64.urlsafe_b64encode(expression.encode()).decode())
        self.assertEqual(
            (answer.status, answer.body, answer.get("content-type")), (status, body, content_type),
            expression)
        return answer

    def setUp(self):
        self.shapes = self.host("""
            import base64, os, io
            from tidegate import Response
            def handler(event, context):
                return eval(base64.urlsafe_b64decode(event.query_string))
        """)

    def test_shapes(self):
        text, binary, js = "text/plain; charset=utf-8", "application/octet-stream", "application/json"
        self.check("None", 200, b"", None)
        self.check("b'\\x00'", 200, b"\0", binary)
        self.check("bytearray(b'x')", 200, b"x", binary)
        self.check("'gr\\u00fcn'", 200, "grün".encode(), text)
        self.check("{'a': [1, 2.5, None, '\\u00fc']}", 200, '{"a":[1,2.5,null,"ü"]}'.encode(), js)
        self.check("[]", 200, b"[]", js)
        self.check("5", 200, b"5", js)
        self.check("True", 200, b"true", js)
        self.check("('made', 201)", 201, b"made", text)
        self.check("({'a': 1}, 202, {'content-type': 'x/y'})", 202, b'{"a":1}', "x/y")
        self.check("Response('t', 418, [('content-type', 'a/b')])", 418, b"t", "a/b")
        self.check("Response(status=204)", 204, b"", None)
        self.check("{'statusCode': 203, 'body': 'eA==', 'isBase64Encoded': True}", 203, b"x", binary)
        self.check("{'statusCode': '200', 'body': {'a': 1}}", 200, b'{"a":1}', js)
        self.check("(c for c in ['a', b'b'])", 200, b"ab", text)
        self.check("iter([b'a', b''])", 200, b"a", binary)
        self.check("iter([])", 200, b"", binary)

    def test_repeated_fields(self):
        answer = self.check("('', 200, {'Set-Cookie': ['a=1', 'b=2']})", 200, b"",
                            "text/plain; charset=utf-8")
        self.assertEqual([v for k, v in answer.fields if k == "set-cookie"], ["a=1", "b=2"])

    def test_what_cannot_be_sent(self):
        for expression in (
            "object()", "{1, 2}", "float('nan')", "('x', 99)", "('x', 'ok')", "('x',) * 4",
            "('', 200, {'a': 'b\\r\\nc: d'})", "('', 200, {'a b': 'c'})", "('', 200, {'a': '\\u20ac'})",
            "{'a': object()}", "{'statusCode': 200, 'body': '%', 'isBase64Encoded': True}",
        ):
            mine = tag()
            target = "/?" + base64.urlsafe_b64encode(expression.encode()).decode()
            answer = self.shapes.call(target=target, tag=mine)
            self.assertEqual(answer.status, 500, expression)
            self.assertEqual(answer.get("x-tidegate-outcome"), "function")
            self.assertEqual(answer.json, {"error": "function failed", "requestId": mine})
            self.assertIn("Error", self.shapes.lines(mine, "e")[-1])

    def test_outcome_cannot_be_forged(self):
        answer = self.check("('', 200, {'X-Tidegate-Outcome': 'platform'})", 200, b"",
                            "text/plain; charset=utf-8")
        self.assertIsNone(answer.get("x-tidegate-outcome"))

    def test_head(self):
        client = self.shapes.connect()
        target = "/?" + base64.urlsafe_b64encode(b"'12345'").decode()
        answer = client.call("HEAD", target)
        self.assertEqual((answer.get("content-length"), client.buf), ("5", b""))
        self.assertEqual(client.call("GET", target).body, b"12345")


class Failing(HostCase):
    def test_exceptions(self):
        host = self.host("""
            import sys
            def fails(): raise KeyError("secret detail")
            def handler(event, context):
                if event.path == "/exit": sys.exit(3)
                if event.path == "/memory": raise MemoryError()
                if event.path == "/fails": fails()
                if event.path == "/deep": return handler(event, context)
                return "fine"
        """)
        for path in ("/exit", "/memory", "/fails", "/deep"):
            mine = tag()
            answer = host.call(target=path, tag=mine)
            self.assertEqual(answer.status, 500)
            self.assertEqual(answer.json, {"error": "function failed", "requestId": mine})
            self.assertNotIn(b"secret", answer.body)
            self.assertTrue(host.lines(mine, "e"))
        self.assertEqual(host.call().body, b"fine")
        trace = "\n".join(host.lines(stream="e"))
        self.assertIn("KeyError: 'secret detail'", trace)
        self.assertNotIn("tidegate_host", trace)

    def test_bad_json_is_the_callers_fault(self):
        for code in ("def handler(event, context): return event.json()",
                     "async def handler(event, context): return event.json()"):
            host = self.host(code)
            mine = tag()
            answer = host.call("POST", body=b'{"a": }', tag=mine)
            self.assertEqual((answer.status, answer.get("x-tidegate-outcome")), (400, "application"))
            self.assertEqual(answer.json["error"],
                             "the body is not valid JSON: expecting value at line 1 column 7")
            self.assertEqual(host.lines(mine), [])
            self.assertIn("it is empty", host.call("POST").json["error"])
            self.assertIn("not UTF-8", host.call("POST", body=b'"\xff"').json["error"])

    def test_too_large(self):
        for code in ("def handler(event, context): return str(len(event.body))",
                     "async def handler(event, context): return str(len(event.body))"):
            host = self.host(code, max_body=10)
            self.assertEqual(host.call("POST", body=b"x" * 10).body, b"10")
            self.assertEqual(host.call("POST", body=b"x" * 11).status, 413)
            chunked = b"6\r\nxxxxxx\r\n6\r\nxxxxxx\r\n0\r\n\r\n"
            answer = host.call("POST", body=chunked, length=False,
                               headers=[("transfer-encoding", "chunked")])
            self.assertEqual(answer.status, 413)

    def test_broken_off_stream_has_no_end(self):
        for code in ("def handler(event, context):\n yield 'a'\n raise ValueError('late')",
                     "async def handler(event, context):\n yield 'a'\n raise ValueError('late')"):
            host = self.host(code)
            mine = tag()
            answer = host.call(tag=mine)
            self.assertEqual((answer.status, answer.complete), (200, False))
            host.wait_for(lambda: "ValueError: late" in host.lines(mine, "e"))
        host = self.host("def handler(event, context):\n raise ValueError('early')\n yield 'a'")
        self.assertEqual(host.call().status, 500)

    def test_load_errors(self):
        self.assertIn("No module named 'nowhere'", self.refusal("import nowhere")["error"])
        message = self.refusal("def handle(): pass")
        self.assertIn("defines neither `handler` nor `app`", message["error"])
        self.assertIn("it has the functions handle", message["error"])
        message = self.refusal("x = 1\nraise ValueError('at import')")
        self.assertEqual((message["step"], message["error"]), ("load", "ValueError: at import"))
        self.assertIn("line 2", message["trace"])
        self.assertNotIn("tidegate_host", message["trace"].splitlines()[-2])
        self.assertIn("SystemExit: 4", self.refusal("import sys; sys.exit(4)")["error"])
        self.assertIn("SyntaxError", self.refusal("def (")["error"])
        self.assertIn("takes 3 parameters", self.refusal("def handler(a, b, c): pass")["error"])
        self.assertIn("has no `x`", self.refusal("def handler(): pass", handler="x")["error"])


class Bodies(HostCase):
    def test_ten_mebibytes_both_ways(self):
        big = bytes(range(256)) * (40 * 1024)
        import threading
        for code in ("def handler(event, context): return event.body",
                     "async def handler(event, context): return event.body",
                     "def app(env, start):\n start('200 OK', [])\n return [env['wsgi.input'].read()]",
                     "async def app(scope, receive, send):\n"
                     "    if scope['type'] != 'http': raise ValueError\n"
                     "    await send({'type': 'http.response.start', 'status': 200})\n"
                     "    more = True\n"
                     "    while more:\n"
                     "        m = await receive(); more = m['more_body']\n"
                     "        await send({'type': 'http.response.body', 'body': m['body'],\n"
                     "                    'more_body': more})\n"):
            for concurrency in (1, 4):
                host = self.host(code, concurrency=concurrency)
                client = host.connect()
                sender = threading.Thread(target=client.send, args=("POST", "/", big))
                sender.start()
                answer = client.answer()
                sender.join()
                self.assertTrue(answer.body == big, code)
                self.assertEqual(client.call("POST", body=b"again").body, b"again")


class Asynchronous(HostCase):
    def test_requests_interleave(self):
        host = self.host("""
            import asyncio
            gate = None
            async def handler(event, context):
                global gate
                if event.path == "/wait":
                    gate = asyncio.Event()
                    await gate.wait()
                    return "opened"
                gate.set()
                return "opener"
        """, concurrency=10)
        waiting = host.connect()
        waiting.send(target="/wait")
        while host.call().status == 500:
            pass
        self.assertEqual(waiting.answer().body, b"opened")

    def test_shapes(self):
        host = self.host("async def handler(event): return {'n': len(event.stream.read())}")
        self.assertEqual(json.loads(host.call("POST", body=b"abc").body), {"n": 3})
        host = self.host("async def handler(event):\n for c in 'abc': yield c")
        answer = host.call()
        self.assertEqual((answer.body, answer.get("content-type")), (b"abc", "text/plain; charset=utf-8"))
        host = self.host("""
            async def gen():
                yield b"x"
            async def handler(event, context):
                return gen(), 203, {"a": "b"}
        """)
        self.assertEqual((host.call().status, host.call().body), (203, b"x"))
