import types
import unittest

from handler import handle


def ask(body, **query):
    return handle(types.SimpleNamespace(body=body, query=query), None)


class Tables(unittest.TestCase):
    def test_rows_become_a_table(self):
        answer = ask(b'[{"port":"Brest","m":6.9},{"port":"Calais","open":true}]')
        lines = answer["body"].splitlines()
        self.assertEqual([cell.strip() for cell in lines[0].split("|")[1:-1]], ["port", "m", "open"])
        self.assertEqual(len(lines), 4)
        self.assertIn("true", lines[3])

    def test_html_is_escaped(self):
        answer = ask(b'[{"a":"<b>"}]', format="html")
        self.assertIn("&lt;b&gt;", answer["body"])
        self.assertEqual(answer["headers"]["Content-Type"], "text/html; charset=utf-8")

    def test_no_rows_are_no_table(self):
        self.assertEqual(ask(b"[]")["body"], "\n")

    def test_what_is_wrong_is_named(self):
        for body, query, word in [
            (b"{", {}, "no JSON"),
            (b"\xff", {}, "no JSON"),
            (b'{"a":1}', {}, "array of objects"),
            (b"[1]", {}, "array of objects"),
            (b"[]", {"format": "word"}, "github"),
        ]:
            with self.subTest(body=body, query=query):
                answer = ask(body, **query)
                self.assertEqual(answer["statusCode"], 400)
                self.assertIn(word, answer["body"]["error"])


if __name__ == "__main__":
    unittest.main()
