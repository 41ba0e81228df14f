import email.message
import os
import pathlib
import sys
import types
import unittest
import unittest.mock

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "request")]

import sign
import webhook

SECRET = b"low tide at noon"
PUSH = (HERE / "request/push.json").read_bytes()


def call(body, signature=None, secret=SECRET.decode()):
    headers = email.message.Message()
    if signature is not None:
        headers["x-hub-signature-256"] = signature
    event = types.SimpleNamespace(headers=headers, body=body)
    with unittest.mock.patch.dict(os.environ, {"WEBHOOK_SECRET": secret}), unittest.mock.patch("builtins.print"):
        answer = webhook.handler(event, None)
    return answer if isinstance(answer, tuple) else (answer, 200)


class Webhook(unittest.TestCase):
    def test_the_published_vector(self):
        # RFC 4231, test case 2.
        self.assertEqual(sign.signature(b"Jefe", b"what do ya want for nothing?"),
                         "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")

    def test_a_signed_delivery_is_accepted(self):
        answer, status = call(PUSH, sign.signature(SECRET, PUSH))
        self.assertEqual((status, answer["event"], answer["bytes"]), (200, "push", len(PUSH)))

    def test_anything_else_is_refused_with_its_reason(self):
        good = sign.signature(SECRET, PUSH)
        for body, signature, words in (
            (PUSH, None, "no X-Hub-Signature-256"),
            (PUSH, good.removeprefix("sha256="), "begin with"),
            (PUSH, "sha1=" + good[7:], "begin with"),
            (PUSH, "sha256=", "does not fit"),
            (PUSH, "sha256=é", "does not fit"),
            (PUSH, good[:-1] + ("0" if good[-1] != "0" else "1"), "does not fit"),
            (PUSH + b" ", good, "does not fit"),
            (PUSH, sign.signature(b"another", PUSH), "does not fit"),
        ):
            with self.subTest(signature=signature):
                answer, status = call(body, signature)
                self.assertEqual(status, 401)
                self.assertIn(words, answer["error"])

    def test_signed_but_not_an_object(self):
        for body in (b"{", b"[]", b"\xff"):
            with self.subTest(body=body):
                self.assertEqual(call(body, sign.signature(SECRET, body))[1], 400)

    def test_nothing_is_accepted_without_a_secret(self):
        with self.assertRaisesRegex(RuntimeError, "WEBHOOK_SECRET"):
            call(PUSH, sign.signature(b"", PUSH), secret="")


if __name__ == "__main__":
    unittest.main()
