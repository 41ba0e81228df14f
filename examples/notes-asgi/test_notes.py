import asyncio
import importlib
import json
import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import notes

SAMPLE = (HERE / "request/note.json").read_bytes()


class Caller:
    """One request to the application: what it is given, and what it sends."""

    def __init__(self, method, path, body=b"", query=b"", root_path=""):
        self.scope = {"type": "http", "method": method, "path": path, "query_string": query, "root_path": root_path}
        self.incoming = asyncio.Queue()
        self.incoming.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self.sent = asyncio.Queue()
        self.status, self.body, self.more = None, b"", True

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        self.body += message["body"]
        self.more = message.get("more_body", False)
        self.sent.put_nowait(message["body"])

    async def run(self):
        await asyncio.wait_for(notes.app(self.scope, self.incoming.get, self.send), 10)
        return self.status, self.body


class Notes(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        importlib.reload(notes)

    async def test_added_notes_are_listed(self):
        status, body = await Caller("POST", "/", SAMPLE).run()
        self.assertEqual((status, json.loads(body)), (201, {"id": 1, "text": "high water at six"}))
        status, body = await Caller("GET", "/fn/notes/", root_path="/fn/notes").run()
        self.assertEqual((status, json.loads(body)), (200, [{"id": 1, "text": "high water at six"}]))

    async def test_a_stream_sends_what_is_there_and_what_comes(self):
        await Caller("POST", "/", SAMPLE).run()
        follower = Caller("GET", "/stream", query=b"count=2")
        running = asyncio.ensure_future(follower.run())
        first = await asyncio.wait_for(follower.sent.get(), 10)
        self.assertIn(b"id: 1\nevent: note\n", first)
        self.assertFalse(running.done())
        await Caller("POST", "/", b'{"text": "low water at noon"}').run()
        status, body = await running
        self.assertEqual(status, 200)
        self.assertIn(b'"low water at noon"', body)
        self.assertTrue(body.endswith(b"event: end\ndata: {}\n\n"))
        self.assertFalse(follower.more)

    async def test_a_follower_who_leaves_ends_the_stream(self):
        follower = Caller("GET", "/stream")
        running = asyncio.ensure_future(follower.run())
        follower.incoming.put_nowait({"type": "http.disconnect"})
        await running
        self.assertFalse(follower.more)

    async def test_a_quiet_stream_is_kept_alive(self):
        notes.HEARTBEAT_SECONDS = 0.01
        follower = Caller("GET", "/stream")
        running = asyncio.ensure_future(follower.run())
        self.assertEqual(await asyncio.wait_for(follower.sent.get(), 10), b": still here\n\n")
        follower.incoming.put_nowait({"type": "http.disconnect"})
        await running

    async def test_only_so_many_are_kept(self):
        for _ in range(notes.KEPT + 5):
            await notes.add(SAMPLE)
        self.assertEqual((len(notes.notes), notes.notes[0]["id"]), (notes.KEPT, 6))

    async def test_bad_requests_are_named(self):
        for method, path, body, query, status in (
            ("POST", "/", b"{", b"", 400),
            ("POST", "/", b'{"text": 1}', b"", 400),
            ("POST", "/", b" " * 70_000, b"", 413),
            ("GET", "/stream", b"", b"count=all", 400),
            ("DELETE", "/", b"", b"", 404),
            ("GET", "/nothing", b"", b"", 404),
        ):
            with self.subTest(method=method, path=path):
                answer = await Caller(method, path, body, query).run()
                self.assertEqual(answer[0], status)
                self.assertIn("error", json.loads(answer[1]))

    async def test_lifespan_is_answered(self):
        incoming, sent = asyncio.Queue(), []
        for name in ("startup", "shutdown"):
            incoming.put_nowait({"type": "lifespan." + name})

        async def send(message):
            sent.append(message["type"])

        await asyncio.wait_for(notes.app({"type": "lifespan"}, incoming.get, send), 10)
        self.assertEqual(sent, ["lifespan.startup.complete", "lifespan.shutdown.complete"])


if __name__ == "__main__":
    unittest.main()
