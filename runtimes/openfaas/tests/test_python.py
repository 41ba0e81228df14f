"""The Python templates beside the real Flask and waitress: every case answered by both, and both alike."""

import importlib
import os
import shutil
import socket
import sys
import tempfile
import threading
import unittest
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
SHIM = os.path.join(os.path.dirname(HERE), "python")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(HERE)), "python", "tests"))

import harness  # noqa: E402
import peers  # noqa: E402

# Fields that are the servers' own.
SERVERS = {"date", "server", "connection", "transfer-encoding", "x-tidegate-outcome", "via"}

QUERY = "/a%20b//c%2Fd?a=1&a=x&b=&c&d=%C3%A9&e=%ff+%20&=f"

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]


def tree(case, language, handler, flask=False):
    """A source tree as the builder makes it: our entry, the handler's folder."""
    folder = tempfile.mkdtemp(prefix="tidegate-openfaas-")
    case.addClassCleanup(shutil.rmtree, folder)
    shutil.copytree(os.path.join(SHIM, "tidegate_openfaas"), os.path.join(folder, "tidegate_openfaas"),
                    ignore=shutil.ignore_patterns("__pycache__"))
    with open(os.path.join(SHIM, "index.py"), encoding="utf-8") as source:
        text = source.read().replace("@LANGUAGE@", language).replace("@FLASK@", str(flask))
    with open(os.path.join(folder, "index.py"), "w", encoding="utf-8") as entry:
        entry.write(text)
    function = os.path.join(folder, "function")
    os.mkdir(function)
    for name, source in [("handler.py", handler), ("cases.py", "cases.py"), ("__init__.py", os.devnull)]:
        shutil.copyfile(os.path.join(HERE, source), os.path.join(function, name))
    return folder


class Real:
    """The reference under waitress, on a port of its own."""

    def __init__(self, language, handle):
        import reference
        from waitress.server import create_server

        self.server = create_server(reference.app(language, handle), host="127.0.0.1", port=0, threads=4)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()

    def connect(self):
        sock = socket.create_connection(("127.0.0.1", self.server.effective_port))
        sock.settimeout(harness.PATIENCE)
        return harness.Client(sock)

    def call(self, *args, **kwargs):
        client = self.connect()
        try:
            return client.call(*args, **kwargs)
        finally:
            client.close()


def relevant(answer):
    """What of an answer has to be equal."""
    fields = {}
    for name, value in answer.fields:
        if name not in SERVERS:
            fields.setdefault(name, []).append(value)
    if "allow" in fields:
        fields["allow"] = sorted(fields["allow"][0].split(", "))
    return {"status": answer.status, "fields": fields, "body": answer.body, "complete": answer.complete}


class SideBySide(harness.HostCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        folder = peers.flask_folder()
        if folder not in sys.path:
            sys.path.insert(0, folder)
        # Flask tells of each failure it makes a page of.
        import logging

        logging.getLogger("index").setLevel(logging.CRITICAL + 1)
        sys.path.insert(0, HERE)
        # Of a coroutine that a handler returned: who gets it has no use for it.
        warnings.filterwarnings("ignore", "coroutine .* was never awaited")
        # The handlers import their neighbour as they do in `function`.
        package = type(sys)("function_under_test")
        package.__path__ = [HERE]
        sys.modules["function_under_test"] = package

    def handle(self, module):
        return importlib.import_module("function_under_test." + module).handle

    def pair(self, language, module, flask=False, env=None):
        """The real one and ours."""
        ours = self.start(tree(type(self), language, module + ".py", flask), flask, env)
        return Real(language, self.handle(module)), ours

    def start(self, folder, flask=False, env=None):
        path = [peers.flask_folder()] if flask else []
        return self.host("", entry=os.path.join(folder, "index.py"), cwd=folder, handler="app", concurrency=4,
                         env=env or {}, path=path)

    def same(self, pair, *args, **kwargs):
        real, ours = (relevant(one.call(*args, **kwargs)) for one in pair)
        self.assertEqual(ours, real)
        return ours

    def events(self, language, flask):
        import cases

        pair = self.pair(language, "http_handler", flask)
        for name in [*cases.HTTP, *cases.FLASK]:
            with self.subTest(language=language, flask=flask, case=name):
                headers = [("x-case", name), ("X-One", "1"), ("x-number", "7"), ("x_low", "no"), ("Cookie", "a=b; c=d")]
                self.same(pair, "GET", QUERY, headers=headers)
                self.same(pair, "POST", QUERY, b"\x00\xffbody", headers=[*headers, ("content-type", "Text/Plain; x=y")])
        for method in METHODS:
            for path in ("/", "/static/x", "/static/", "/static", "//a//", "/%ff%zz"):
                with self.subTest(language=language, flask=flask, method=method, path=path):
                    self.same(pair, method, path, headers=[("x-case", "shown"), ("x-one", "1")])
        return pair

    def test_events_without_flask(self):
        self.events("python3-http", False)

    def test_events_with_flask(self):
        self.events("python3-http", True)

    def test_events_on_debian(self):
        self.events("python3-http-debian", False)
        self.events("python3-http-debian", True)

    def test_text(self):
        import cases

        for language in ("python3-flask", "python3-flask-debian"):
            for flask, env in [(False, {}), (True, {}), (False, {"RAW_BODY": "True"}), (True, {"RAW_BODY": "1"})]:
                os.environ.update(env)
                try:
                    pair = self.pair(language, "text_handler", flask, env)
                    for name in [*cases.TEXT, *cases.FLASK]:
                        with self.subTest(language=language, flask=flask, env=env, case=name):
                            self.same(pair, "POST", "/x", name.encode() + b"\n\xc3\xa9\xff")
                    for method in METHODS:
                        with self.subTest(language=language, flask=flask, method=method):
                            self.same(pair, method, "/x", b"body\n")
                finally:
                    for name in env:
                        del os.environ[name]

    def test_chunked_bodies_have_a_length(self):
        pair = self.pair("python3-http", "http_handler")
        answer = self.same(pair, "POST", "/", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", length=False,
                           headers=[("x-case", "shown"), ("x-one", "1"), ("transfer-encoding", "chunked")])
        self.assertIn(b'"body":"abcde"', answer["body"])
        self.assertIn(b'["Content-Length","5"]', answer["body"])

    def test_a_trace_goes_to_the_log(self):
        ours = self.start(tree(type(self), "python3-http", "http_handler.py"))
        tag = harness.tag()
        answer = ours.call("GET", "/x", headers=[("x-case", "exception")], tag=tag)
        self.assertEqual((answer.status, answer.get("content-type")), (500, "text/html; charset=utf-8"))
        lines = ours.lines(tag, "e")
        self.assertEqual(lines[0], "Exception on /x [GET]")
        self.assertTrue(lines[-1].endswith("Fails: a reason <&>"), lines)
        self.assertFalse([line for line in lines if "tidegate_openfaas" in line], lines)

    def test_a_body_over_the_limit_is_no_failure_of_the_handler(self):
        for flask in (False, True):
            folder = tree(type(self), "python3-http", "http_handler.py", flask)
            path = [peers.flask_folder()] if flask else []
            ours = self.host("", entry=os.path.join(folder, "index.py"), cwd=folder, handler="app", concurrency=4, path=path,
                             max_body=10)
            self.assertEqual(ours.call("POST", "/", b"x" * 11, headers=[("x-case", "none")]).status, 413)

    def test_flask_is_found_where_a_package_brings_it(self):
        folder = tree(type(self), "python3-http", "http_handler.py")
        with open(os.path.join(folder, "function", "handler.py"), "w") as handler:
            handler.write("import flask\ndef handle(event, context):\n    return flask.jsonify(flask.request.args)\n")
        ours = self.host("", entry=os.path.join(folder, "index.py"), cwd=folder, handler="app", concurrency=4,
                         path=[peers.flask_folder()])
        answer = ours.call("GET", "/?b=1&a=2&a=3")
        self.assertEqual((answer.status, answer.body), (200, b'{"a":"2","b":"1"}\n'))

    def test_what_flask_answers_by_itself(self):
        """Responses, aborts, redirects, and the request's own members."""
        source = (
            "from flask import Response, abort, make_response, redirect, request\n"
            "def handle(req):\n"
            "    if request.path == '/abort': abort(409, 'a conflict')\n"
            "    if request.path == '/redirect': return redirect('/x')\n"
            "    if request.path == '/cookie':\n"
            "        answer = make_response('x'); answer.set_cookie('a', 'b'); return answer\n"
            "    if request.path == '/stream': return Response(iter(['a', 'b']), mimetype='text/plain')\n"
            "    return request.get_json()\n"
        )
        space = {}
        exec(source, space)
        folder = tree(type(self), "python3-flask", "text_handler.py", True)
        with open(os.path.join(folder, "function", "handler.py"), "w") as handler:
            handler.write(source)
        pair = Real("python3-flask", space["handle"]), self.start(folder, True)
        for path in ("/abort", "/redirect", "/cookie", "/stream"):
            with self.subTest(path=path):
                self.same(pair, "GET", path)
        for body in (b'{"b": 1, "a": [2]}', b"{", b""):
            with self.subTest(body=body):
                self.same(pair, "POST", "/", body, headers=[("content-type", "application/json")])

    def test_what_cannot_be_loaded(self):
        folder = tree(type(self), "python3-http", "http_handler.py")
        with open(os.path.join(folder, "function", "handler.py"), "w") as handler:
            handler.write("def handler(event, context): pass\n")
        failure = self.refusal("", entry=os.path.join(folder, "index.py"), cwd=folder, handler="app", concurrency=4)
        self.assertIn("function/handler.py defines no `handle`, expected `def handle(event, context)`", failure["error"])


class ByItself(unittest.TestCase):
    """`python index.py`, where a deployment names it."""

    def test_a_server_of_its_own(self):
        folder = tree(type(self), "python3-http", "http_handler.py")
        sys.path.insert(0, SHIM)
        self.addCleanup(sys.path.remove, SHIM)
        sys.path.insert(0, folder)
        self.addCleanup(sys.path.remove, folder)
        from tidegate_openfaas import serve, template

        server = serve.make(template.app("python3-http", False), ("127.0.0.1", 0))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            sock = socket.create_connection(server.server_address)
            sock.settimeout(harness.PATIENCE)
            client = harness.Client(sock)
            # One connection for all: each answer has to end where it says.
            for method, body, headers, status, text in [
                ("GET", b"", [("x-case", "str")], 200, "text é".encode()),
                ("HEAD", b"", [("x-case", "str")], 200, b""),
                ("GET", b"", [("x-case", "stream")], 200, b"a \xc3\xa9\xff"),
                ("POST", b"", [("x-case", "dict 204")], 204, b""),
                ("POST", b"abc", [("x-case", "bytes")], 200, b"\xff\x00"),
                ("PROPFIND", b"", [("x-case", "bytes")], 405, None),
                ("PUT", b"3\r\nabc\r\n0\r\n\r\n", [("x-case", "shown"), ("x-one", "1"), ("transfer-encoding", "chunked")], 200, None),
            ]:
                answer = client.call(method, "/", body, headers=headers, length=b"\r\n" not in body)
                self.assertEqual((answer.status, answer.complete), (status, True), (method, headers))
                if text is not None:
                    self.assertEqual(answer.body, text)
            self.assertEqual(answer.json["body"], "abc")
            client.close()
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class Classic(unittest.TestCase):
    """A process a call."""

    def run_it(self, handler, text):
        import subprocess

        folder = tempfile.mkdtemp(prefix="tidegate-openfaas-")
        self.addCleanup(shutil.rmtree, folder)
        os.mkdir(os.path.join(folder, "function"))
        for name, content in [("handler.py", handler), ("__init__.py", "")]:
            with open(os.path.join(folder, "function", name), "w") as file:
                file.write(content)
        shutil.copyfile(os.path.join(SHIM, "classic.py"), os.path.join(folder, "index.py"))
        return subprocess.run([sys.executable, "index.py"], cwd=folder, input=text, capture_output=True, timeout=harness.PATIENCE)

    def test_answers(self):
        for handler, text, printed in [
            ("def handle(req): return req.upper()", "aé\r\nb".encode(), "AÉ\r\nB\n".encode()),
            ("def handle(req): return None", b"", b""),
            ("def handle(req): return ''", b"", b"\n"),
            ("def handle(req): return {'a': 1}", b"", b"{'a': 1}\n"),
            ("def handle(req): print('before'); return 0", b"", b"before\n0\n"),
        ]:
            done = self.run_it(handler, text)
            self.assertEqual((done.returncode, done.stdout), (0, printed), done.stderr)

    def test_a_failure_is_the_process_s(self):
        done = self.run_it("def handle(req): raise ValueError('no')", b"")
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stderr.decode().rstrip().endswith("ValueError: no"))


if __name__ == "__main__":
    unittest.main()
