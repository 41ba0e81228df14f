import pathlib
import sys
import threading
import unittest
import urllib.error
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import http.server

import hello


class Quiet(hello.Hello):
    def log_message(self, form, *values):
        pass


class HelloHttp(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()
        cls.url = f"http://127.0.0.1:{cls.server.server_port}"

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()
        cls.server.server_close()

    def call(self, target, method="GET"):
        request = urllib.request.Request(self.url + target, method=method)
        # Asked without a proxy, whatever the environment says: it is on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def test_the_sample_request(self):
        method, target = (HERE / "request/target.txt").read_text().split()
        self.assertEqual(self.call(target, method), (200, "hello, tide\n"))

    def test_greets_the_world_and_others(self):
        self.assertEqual(self.call("/"), (200, "hello, world\n"))
        self.assertEqual(self.call("/?name=" + urllib.parse.quote("schöner Tag")), (200, "hello, schöner Tag\n"))

    def test_head_has_no_body(self):
        self.assertEqual(self.call("/", "HEAD"), (200, ""))

    def test_long_names_and_other_methods_are_refused(self):
        self.assertEqual(self.call("/?name=" + "x" * 101)[0], 400)
        self.assertEqual(self.call("/", "DELETE")[0], 501)


if __name__ == "__main__":
    unittest.main()
