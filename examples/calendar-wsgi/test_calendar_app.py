import datetime
import pathlib
import sys
import unittest
import wsgiref.util
import wsgiref.validate

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import calendar_app


def call(path, query="", method="GET"):
    environ = {"SCRIPT_NAME": "/fn/calendar", "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": method}
    wsgiref.util.setup_testing_defaults(environ)
    seen = []

    def start_response(status, headers, exc_info=None):
        seen[:] = [status, dict(headers)]

    # The validator of the standard library fails the test where the application breaks a rule of WSGI.
    parts = wsgiref.validate.validator(calendar_app.app)(environ, start_response)
    try:
        body = b"".join(parts)
    finally:
        parts.close()
    return seen[0], seen[1], body.decode()


class CalendarWsgi(unittest.TestCase):
    def test_the_sample_request(self):
        method, target = (HERE / "request/target.txt").read_text().split()
        path, _, query = target.partition("?")
        status, headers, body = call(path, query, method)
        self.assertEqual(status, "200 OK")
        self.assertEqual(int(headers["Content-Length"]), len(body))
        self.assertEqual(body.splitlines()[:3], ["   November 2026", "Mo Tu We Th Fr Sa Su", "                   1"])

    def test_weeks_can_begin_on_sunday(self):
        self.assertEqual(call("/2026/11", "first=sunday")[2].splitlines()[1:3],
                         ["Su Mo Tu We Th Fr Sa", " 1  2  3  4  5  6  7"])

    def test_no_path_is_this_month(self):
        before = datetime.date.today()
        body = call("/")[2]
        after = datetime.date.today()
        self.assertTrue(any(str(day.year) in body for day in (before, after)))

    def test_bad_requests_are_named(self):
        for path, query, words in (("/2026", "", "/YEAR/MONTH"), ("/2026/13", "", "no month 13"), ("/0/1", "", "year 0"),
                                   ("/x/y", "", "/YEAR/MONTH"), ("/2026/11/5", "", "/YEAR/MONTH"),
                                   ("/2026/11", "first=friday", "monday, sunday"), ("/2026/11", "first=", "monday")):
            with self.subTest(path=path, query=query):
                status, _, body = call(path, query)
                self.assertEqual(status, "400 Bad Request")
                self.assertIn(words, body)

    def test_other_methods_are_refused(self):
        status, headers, _ = call("/2026/11", method="POST")
        self.assertEqual((status, headers["Allow"]), ("405 Method Not Allowed", "GET, HEAD"))


if __name__ == "__main__":
    unittest.main()
