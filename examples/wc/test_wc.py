import json
import pathlib
import subprocess
import unittest

HERE = pathlib.Path(__file__).resolve().parent


def run(body, query=""):
    # The environment is all the function gets, so nothing else is passed here either.
    return subprocess.run([HERE / "wc.sh"], input=body, env={"PATH": "/usr/bin:/bin", "QUERY_STRING": query},
                          capture_output=True, timeout=10, check=False)


class WordCount(unittest.TestCase):
    def check(self, body, query, expected):
        done = run(body, query)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(json.loads(done.stdout), expected)

    def test_all_three(self):
        text = (HERE / "request/tide.txt").read_bytes()
        self.check(text, "", {"lines": 4, "words": 28, "bytes": len(text)})

    def test_those_asked_for(self):
        self.check(b"one two\n", "words", {"words": 2})
        self.check(b"one two\n", "bytes&lines", {"bytes": 8, "lines": 1})

    def test_no_body_and_bytes_that_are_no_text(self):
        self.check(b"", "", {"lines": 0, "words": 0, "bytes": 0})
        self.check(b"\x00\xff\n\x00", "lines&bytes", {"lines": 1, "bytes": 4})

    def test_unknown_counts_fail(self):
        for query in ("chars", "*", "lines&$(id)"):
            with self.subTest(query=query):
                done = run(b"x", query)
                self.assertEqual(done.returncode, 2)
                self.assertIn(b"expected lines, words or bytes", done.stderr)


if __name__ == "__main__":
    unittest.main()
