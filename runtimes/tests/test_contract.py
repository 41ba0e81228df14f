"""One contract for all languages: the same calls of the same function, written in each."""

import json
import os
import threading
import time
import unittest

from hosts import HERE, LANGUAGES, Host


class Contract:
    """The cases; a subclass names the language."""

    language = None
    host = None

    @classmethod
    def setUpClass(cls):
        cls.host = cls.start()

    @classmethod
    def tearDownClass(cls):
        cls.host.close()

    @classmethod
    def start(cls, **options):
        with open(os.path.join(HERE, cls.language.source), encoding="utf-8") as file:
            files = {os.path.basename(cls.language.source): file.read()}
        return Host(cls.language, files, cls.language.entry, **options)

    def call(self, *arguments, **options):
        return self.host.call(*arguments, **options)

    def test_the_event_has_all_of_the_request(self):
        headers = [("X-Thing", "1"), ("X-Thing", "2"), ("Content-Type", "Text/Plain; charset=latin1"),
                   ("X-Tidegate-Deadline-Ms", "5")]
        answer = self.call("/%65vent?a=1&a=%32+x&b=&c", b"gr\xfcn", headers=headers)
        self.assertEqual((answer.status, answer.type), (200, "application/json"), answer.body)
        self.assertEqual(json.loads(answer.body), {
            "method": "POST", "rawPath": "/%65vent", "queryString": "a=1&a=%32+x&b=&c",
            "query": {"a": "2 x", "b": "", "c": ""}, "list": ["1", "2 x"], "contentType": "text/plain",
            "text": "grün", "header": "1, 2", "all": ["1", "2"], "hidden": False,
        })

    def test_headers_are_text_whatever_their_bytes(self):
        # The client sends Latin-1; the second is the UTF-8 of the same letter.
        for sent in ("\xfc", "\xc3\xbc"):
            event = json.loads(self.call("/event", headers=[("X-Thing", sent)]).body)
            self.assertEqual(event["header"], "ü")

    def test_the_context_has_the_circumstances(self):
        answer = self.call("/context", headers=[("X-Request-Id", "abc"), ("X-Tidegate-Deadline-Ms", "1500")])
        context = json.loads(answer.body)
        self.assertEqual((context["id"], context["function"], context["memory"]), ("abc", "tested", 256 << 20))
        self.assertTrue(0 < context["left"] <= 1500, context)

    def test_values_become_answers(self):
        for path, status, kind, body in [
            ("/none", 200, None, b""),
            ("/text", 200, "text/plain; charset=utf-8", "grün".encode()),
            ("/bytes", 200, "application/octet-stream", b"\xff\x00"),
            ("/number", 200, "application/json", b"1.5"),
            ("/list", 200, "application/json", b'[1,"a",null,true]'),
            ("/response", 404, "text/x", b'{"a":1}'),
        ]:
            answer = self.call(path)
            self.assertEqual((answer.status, answer.type, answer.body), (status, kind, body), path)
            self.assertEqual(answer.all("x-tidegate-outcome"), [], path)

    def test_a_proxy_result_sets_everything(self):
        answer = self.call("/proxy")
        self.assertEqual((answer.status, answer.body), (201, b"hello"))
        self.assertEqual(answer.all("x-one"), ["1"])
        self.assertEqual(answer.all("x-two"), ["a", "b"])
        self.assertEqual(answer.all("set-cookie"), ["c=1"])

    def test_a_stream_is_sent_in_pieces(self):
        with self.host.connect() as connection:
            answer = connection.call("/stream")
            self.assertEqual((answer.status, answer.body, answer.complete), (200, b"onetwo", True))
            self.assertEqual(answer.get("transfer-encoding"), "chunked")
            self.assertEqual(answer.type, "text/plain; charset=utf-8")
            self.assertEqual(connection.call("/text").status, 200)

    def test_a_failure_is_told_to_the_log_alone(self):
        for path, text in [("/nothing", "no such path"), ("/status", "status 99"), ("/inject", "line break"),
                           ("/object", "handler returned"), ("/not-a-number", "")]:
            answer = self.call(path, headers=[("X-Request-Id", "r-1")])
            self.assertEqual((answer.status, answer.get("x-tidegate-outcome")), (500, "function"), path)
            self.assertEqual(json.loads(answer.body), {"error": "function failed", "requestId": "r-1"}, path)
            self.host.await_log(text)
        self.assertEqual(self.call("/text").status, 200)

    def test_the_trace_names_the_functions_line_and_not_the_hosts(self):
        self.call("/nothing")
        self.host.await_log(os.path.basename(self.language.source) + ":")
        for ours in ("host.rb", "host.php", "answers.", "dev.tidegate.host"):
            self.assertNotIn(ours, self.host.log())

    def test_an_answer_that_began_is_broken_off(self):
        with self.host.connect() as connection:
            answer = connection.call("/late")
            self.assertEqual((answer.status, answer.body, answer.complete), (200, b"one", False))
        self.host.await_log("late")

    def test_bad_json_is_the_callers_fault(self):
        answer = self.call("/json", b"{no")
        self.assertEqual((answer.status, answer.get("x-tidegate-outcome")), (400, "application"))
        self.assertIn("not valid JSON", json.loads(answer.body)["error"])
        self.assertIn("it is empty", json.loads(self.call("/json").body)["error"])
        value = {"a": [1, 2.5, "ü\n", None, True, {"b": {"c": 1}}]}
        answer = self.call("/json", json.dumps(value).encode())
        self.assertEqual(json.loads(answer.body), value)

    def test_a_body_over_the_limit_is_refused(self):
        answer = self.call("/size", b"x" * 100_001)
        self.assertEqual((answer.status, answer.get("x-tidegate-outcome")), (413, "application"))
        self.assertEqual(self.call("/size", b"x" * 100_000).body, b"100000")

    def test_chunked_bodies_are_read(self):
        with self.host.connect() as connection:
            for _ in range(2):
                connection.send(b"POST /size HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                                b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nTrailer: 1\r\n\r\n")
                self.assertEqual(connection.answer().body, b"4")
            connection.send(b"POST /size HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(3):
                connection.send(b"9c40\r\n" + b"x" * 40_000 + b"\r\n")
            self.assertEqual(connection.answer().status, 413)

    def test_a_body_that_nobody_reads_does_not_hinder_the_next_request(self):
        with self.host.connect() as connection:
            self.assertEqual(connection.call("/ignore", b"x" * 50_000).body, b"ignored")
            self.assertEqual(connection.call("/text").status, 200)

    def test_leave_to_send_is_given_when_the_body_is_wanted(self):
        with self.host.connect() as connection:
            connection.send(b"POST /size HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            self.assertEqual(connection.file.readline(), b"HTTP/1.1 100 Continue\r\n")
            connection.file.readline()
            connection.send(b"abc")
            self.assertEqual(connection.answer().body, b"3")

    def test_requests_in_one_piece_are_answered_in_order(self):
        with self.host.connect() as connection:
            connection.send(b"GET /text HTTP/1.1\r\n\r\nGET /number HTTP/1.1\r\n\r\nGET /none HTTP/1.1\r\n\r\n")
            bodies = [connection.answer().body for _ in range(3)]
            self.assertEqual(bodies, ["grün".encode(), b"1.5", b""])

    def test_a_head_request_has_no_body(self):
        with self.host.connect() as connection:
            answer = connection.call("/text", method="HEAD")
            self.assertEqual((answer.status, answer.get("content-length")), (200, "5"))
            self.assertEqual(connection.call("/number").body, b"1.5")

    def test_what_is_ambiguous_is_refused(self):
        for status, request in [
            (400, b"GET /text HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
            (400, b"GET /text HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (400, b"GET /text HTTP/1.1\r\nContent-Length: +1\r\n\r\n"),
            (400, b"GET /text HTTP/1.1\r\nX-A : b\r\n\r\n"),
            (400, b"GET /text HTTP/1.1\r\nX-A: b\r\n c\r\n\r\n"),
            (400, b"GET  /text HTTP/1.1\r\n\r\n"),
            (400, b"GET text HTTP/1.1\r\n\r\n"),
            (400, b"nonsense\r\n\r\n"),
            (501, b"GET /text HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n"),
            (505, b"GET /text HTTP/2.0\r\n\r\n"),
            (417, b"GET /text HTTP/1.1\r\nExpect: wonders\r\n\r\n"),
            (431, b"GET /text HTTP/1.1\r\nX-A: " + b"a" * 70_000 + b"\r\n\r\n"),
            (400, b"POST /size HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            (400, b"POST /size HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n"),
        ]:
            with self.host.connect() as connection:
                try:
                    connection.send(request)
                    answer = connection.answer()
                    self.assertEqual(answer.status, status, request[:80])
                    self.assertEqual(answer.get("x-tidegate-outcome"), "platform", request[:80])
                    self.assertEqual(connection.file.read(), b"", request[:80])
                except ConnectionResetError:
                    # What it had not read yet makes the kernel forget its answer.
                    self.assertEqual(status, 431)
        self.assertEqual(self.call("/text").status, 200)

    def test_output_is_the_log(self):
        self.assertEqual(self.call("/log").status, 200)
        self.host.await_log("to err")
        self.host.await_log("to log")
        self.assertIn("to out\n", self.host.out())

    def test_many_connections_wait_without_hindering_one_another(self):
        idle = [self.host.connect() for _ in range(60)]
        try:
            for connection in idle:
                self.assertEqual(connection.call("/number").body, b"1.5")
            for connection in reversed(idle):
                self.assertEqual(connection.call("/number").body, b"1.5")
        finally:
            for connection in idle:
                connection.__exit__()

    def test_the_end_waits_for_what_is_in_flight(self):
        with self.start() as host, host.connect() as idle, host.connect() as busy:
            idle.call("/text")
            busy.send(b"GET /slow HTTP/1.1\r\n\r\n")
            answers = []
            waiter = threading.Thread(target=lambda: answers.append(busy.answer()))
            waiter.start()
            # Waits for the call to have begun, which shows nowhere else; were it too short, the call would be refused.
            time.sleep(0.15)
            code = host.end()
            waiter.join()
            self.assertEqual(code, 0)
            self.assertEqual(answers[0] and answers[0].body, b"slow")

    def test_calls_run_side_by_side_at_a_concurrency_above_one(self):
        with self.start(concurrency=4) as host:
            host.call("/text")
            began = time.monotonic()
            answers = []
            callers = [threading.Thread(target=lambda: answers.append(host.call("/slow").body)) for _ in range(4)]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
            self.assertEqual(answers, [b"slow"] * 4)
            # One after another they would take 1.6 s.
            self.assertLess(time.monotonic() - began, 1.4)
            self.assertEqual(host.end(), 0)


for each in LANGUAGES:
    name = each.name.capitalize() + "Contract"
    globals()[name] = type(name, (Contract, unittest.TestCase), {"language": each})
