import pathlib
import sys
import types
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import handler as yaml2json


def call(body, method="POST"):
    if isinstance(body, str):
        body = body.encode()
    return yaml2json.handler(types.SimpleNamespace(method=method, body=body), None)


class Yaml2Json(unittest.TestCase):
    def refused(self, text, *words):
        body, status = call(text)
        self.assertEqual(status, 422)
        for part in words:
            self.assertIn(part, body["error"])
        return body

    def test_the_sample(self):
        gauge = call((HERE / "request/gauge.yaml").read_bytes())
        self.assertEqual(gauge["station"], "Saint-Malo")
        self.assertEqual(gauge["since"], "1850-06-01")
        self.assertEqual(gauge["alarm"], {"high": 13.0, "low": 0.5, "unit": "m"})
        self.assertEqual(gauge["reports"]["north"], {"to": ["harbour"], "every": "10m", "quiet": False})
        self.assertEqual(gauge["reports"]["south"], {"to": ["harbour"], "every": "1h", "quiet": False})
        self.assertEqual(gauge["note"], "Readings are relative\nto chart datum.\n")

    def test_several_documents_are_an_array(self):
        self.assertEqual(call("a: 1\n---\n- 2\n---\n"), [{"a": 1}, [2], None])
        self.assertEqual(call(""), [])
        self.assertEqual(call("null"), None)

    def test_keys_become_text(self):
        self.assertEqual(call("1: a\nno: b\n~: c\n2026-01-02: d\n"), {"1": "a", "false": "b", "null": "c", "2026-01-02": "d"})
        self.refused("1: a\n'1': b\n", "'1'")
        self.refused("? [1, 2]\n: a\n", "key")

    def test_mistakes_have_their_place(self):
        body = self.refused("a: 1\nb: [1, 2\nc: 3\n")
        self.assertEqual(body["line"], 3)

    def test_what_json_has_no_form_for_is_refused(self):
        self.refused("a: .inf", "infinities")
        self.refused("a: !!binary aGk=", "binary")
        self.refused("a: 2026-02-30")

    def test_nothing_is_made_of_tags(self):
        self.refused("!!python/object/apply:os.system ['true']", "could not determine a constructor")

    def test_a_few_lines_cannot_become_everything(self):
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
        self.refused("\n".join(lines), "more than 200000 values")
        self.refused("a: &a [*a]", "deeper than 100")
        self.refused("[" * 300 + "]" * 300, "deeper than 100")

    def test_other_methods_are_refused(self):
        self.assertEqual(call("", "GET")[1:], (405, {"Allow": "POST"}))


if __name__ == "__main__":
    unittest.main()
