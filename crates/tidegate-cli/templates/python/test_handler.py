import json
import logging
import types
import unittest

from handler import handler


class Event:
    def __init__(self, method="GET", query=None, body=""):
        self.method, self.query, self.body = method, query or {}, body

    def json(self):
        return json.loads(self.body)


CONTEXT = types.SimpleNamespace(log=logging.getLogger("test"))


class HandlerTest(unittest.TestCase):
    def test_greets_by_name(self):
        self.assertEqual(handler(Event("POST", body='{"name": "tide"}'), CONTEXT), {"hello": "tide"})
        self.assertEqual(handler(Event(query={"name": "gate"}), CONTEXT), {"hello": "gate"})
        self.assertEqual(handler(Event(), CONTEXT), {"hello": "world"})

    def test_refuses_what_is_not_json(self):
        self.assertEqual(handler(Event("POST", body="{"), CONTEXT)[1], 400)


if __name__ == "__main__":
    unittest.main()
