import json
import pathlib
import sys
import types
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import csv2json


def call(body, **query):
    if isinstance(body, str):
        body = body.encode()
    answer = csv2json.handler(types.SimpleNamespace(body=body, query=query), None)
    return answer if len(answer) == 3 else (*answer, {})


class Csv2Json(unittest.TestCase):
    def test_rows_become_objects(self):
        rows, status, headers = call((HERE / "request/stations.csv").read_bytes())
        self.assertEqual((status, headers["X-Rows"]), (200, "5"))
        self.assertEqual(rows[1]["station"], "Oosterschelde, north")
        self.assertEqual(rows[3]["station"], 'Saint-Malo "La Rance"')
        self.assertEqual(rows[0]["depth_m"], "12")

    def test_types_are_guessed_when_asked(self):
        rows, status, _ = call((HERE / "request/stations.csv").read_bytes(), types="guess")
        self.assertEqual(status, 200)
        self.assertEqual(rows[4], {"station": "Sihwa", "latitude": 37.3131, "longitude": 126.6122, "depth_m": None,
                                   "tidal": True, "opened": 2011})

    def test_what_would_not_come_back_stays_text(self):
        for text in ("007", "+31612345678", "nan", "inf", "1_000", "1e999", "-", "12345678901234567890", "٣", "-x", "0x10"):
            with self.subTest(text=text):
                self.assertEqual(csv2json.value(text), text)
        for text, expected in (("0", 0), ("-4", -4), ("0.5", 0.5), ("1e3", 1000.0), (" 7 ", 7), ("TRUE", True), ("", None)):
            with self.subTest(text=text):
                self.assertEqual(csv2json.value(text), expected)
                json.dumps(csv2json.value(text), allow_nan=False)

    def test_delimiters(self):
        for name in (";", "semicolon"):
            rows, status, _ = call("a;b\n1;2\n", delimiter=name)
            self.assertEqual((rows, status), ([{"a": "1", "b": "2"}], 200))
        self.assertEqual(call("a\tb\n1\t2\n", delimiter="tab")[0], [{"a": "1", "b": "2"}])
        for name in ("", "ab", '"', "\n"):
            with self.subTest(name=name):
                self.assertEqual(call("a;b\n", delimiter=name)[1], 400)

    def test_bad_rows_are_reported_with_their_lines(self):
        answer, status, _ = call((HERE / "request/broken.csv").read_bytes(), delimiter=";")
        self.assertEqual(status, 422)
        self.assertEqual(answer["error"], "2 of 4 rows are bad")
        self.assertEqual(answer["rows"], [{"line": 3, "error": "1 fields; the header has 2"},
                                          {"line": 4, "error": "3 fields; the header has 2"}])

    def test_a_line_is_counted_where_its_row_begins(self):
        answer, status, _ = call('a,b\n"one\ntwo",2\nshort\n')
        self.assertEqual((status, answer["rows"][0]["line"]), (422, 4))

    def test_an_open_quote_is_reported_at_its_first_line(self):
        answer, status, _ = call('a,b\n1,2\n"open,2\n3,4\n')
        self.assertEqual((status, answer["rows"][0]["line"]), (422, 3))

    def test_bad_rows_can_be_skipped(self):
        rows, status, headers = call((HERE / "request/broken.csv").read_bytes(), delimiter=";", bad="skip")
        self.assertEqual((status, headers["X-Skipped-Lines"]), (200, "3,4"))
        self.assertEqual([row["name"] for row in rows], ["herring", "sole"])

    def test_a_byte_order_mark_is_no_part_of_the_first_name(self):
        self.assertEqual(call(b"\xef\xbb\xbfa,b\n1,2\n")[0], [{"a": "1", "b": "2"}])

    def test_unreadable_bodies_are_named(self):
        for body, words in ((b"", "empty"), (b"a,b\n1,\xff\n", "line 2"), (b"a,a\n", "twice"), (b"a,\n", "without a name"),
                            (b'"a\n', "header")):
            with self.subTest(body=body):
                answer, status, _ = call(body)
                self.assertEqual(status, 400)
                self.assertIn(words, answer["error"])
        self.assertIn("text, guess", call(b"a\n", types="all")[0]["error"])


if __name__ == "__main__":
    unittest.main()
