"""Cancelling, draining, and the end of the server."""

import os
import select
import signal
import time
import unittest

from harness import PATIENCE, HostCase, send, tag

BUSY = """
    import time, sys
    from tidegate import Cancelled
    def spin():
        # A function of its own: CPython 3.13.0 leaves the back edge of a loop out of the
        # `try` around it, so that no signal's exception there is caught or cleaned up after.
        while True: pass
    def stubborn():
        while True:
            try: time.sleep(0.001)
            except Exception: pass
    def handler(event, context):
        if event.path == "/quick":
            return "quick"
        try:
            print("running", flush=True)
            if event.path == "/sleep": time.sleep(1000)
            if event.path == "/spin": spin()
            if event.path == "/stubborn": stubborn()
            if event.path == "/body": event.body
            if event.path == "/raise": raise Cancelled()
            return "unreached"
        finally:
            print("unwound")
"""


class Cancelling(HostCase):
    def begin(self, host, path, **kwargs):
        mine = tag()
        client = host.connect()
        client.send("POST", path, tag=mine, **kwargs)
        host.wait_for(lambda: "running" in host.lines(mine))
        return client, mine

    def check_cancelled(self, host, client, mine, signal_too=False):
        if signal_too:
            # Again and again, as the server does: a signal that comes between Python's
            # last look and the system call that blocks it is not noticed by either.
            while not select.select([host.control], [], [], 0.02)[0]:
                os.kill(host.pid, signal.SIGUSR1)
        host.wait_for(lambda: host.idle)
        self.assertEqual(host.idle.pop(), mine)
        self.assertTrue(client.at_end())
        self.assertIn("unwound", host.lines(mine))
        self.assertEqual(host.call(target="/quick").body, b"quick")

    def test_sync_by_channel_alone(self):
        host = self.host(BUSY)
        for path in ("/spin", "/stubborn"):
            client, mine = self.begin(host, path)
            started = time.monotonic()
            host.cancel(mine)
            self.check_cancelled(host, client, mine)
            self.assertLess(time.monotonic() - started, 1)

    def test_sync_with_the_servers_signal(self):
        host = self.host(BUSY)
        for path in ("/sleep", "/spin"):
            client, mine = self.begin(host, path)
            host.cancel(mine)
            os.kill(host.pid, signal.SIGUSR1)
            self.check_cancelled(host, client, mine, signal_too=True)

    def test_while_the_body_is_awaited(self):
        host = self.host(BUSY)
        client, mine = self.begin(host, "/body", headers=[("content-length", "5")])
        host.cancel(mine)
        self.check_cancelled(host, client, mine, signal_too=True)

    def test_while_the_answer_is_written(self):
        host = self.host("""
            def handler(event, context):
                if event.path == "/quick": return "quick"
                try:
                    print("running")
                    while True: yield b"x" * 65536
                finally:
                    print("unwound")
        """)
        client, mine = self.begin(host, "/stream")
        self.assertEqual(client.head()[0], 200)
        host.cancel(mine)
        host.wait_for(lambda: host.idle == [mine])
        while piece := client.chunk():
            self.assertEqual(len(piece), 65536)
        self.assertIsNone(piece)
        self.assertIn("unwound", host.lines(mine))

    def test_threads(self):
        host = self.host(BUSY, concurrency=3)
        one, first = self.begin(host, "/spin")
        two, second = self.begin(host, "/stubborn")
        self.assertEqual(host.call(target="/quick").body, b"quick")
        host.cancel(first)
        self.check_cancelled(host, one, first)
        host.cancel(second)
        self.check_cancelled(host, two, second)

    def test_async(self):
        host = self.host("""
            import asyncio
            async def handler(event, context):
                if event.path == "/quick": return "quick"
                try:
                    print("running")
                    await asyncio.sleep(1000)
                finally: print("unwound")
        """, concurrency=5)
        client, mine = self.begin(host, "/")
        host.cancel(mine)
        self.check_cancelled(host, client, mine)

    def test_of_a_request_that_has_ended(self):
        for concurrency in (1, 2):
            host = self.host(BUSY, concurrency=concurrency)
            client = host.connect()
            mine = tag()
            client.call(target="/quick", tag=mine)
            host.cancel(mine)
            host.wait_for(lambda: host.idle == [mine])
            self.assertEqual(client.call(target="/quick").body, b"quick")

    def test_before_its_request(self):
        for code in (BUSY, "async def handler(event): return 'quick'"):
            host = self.host(code)
            mine = tag()
            host.cancel(mine)
            host.wait_for(lambda: host.idle == [mine])
            client = host.connect()
            client.send(target="/quick", tag=mine)
            self.assertTrue(client.at_end())
            self.assertEqual(host.call(target="/quick").body, b"quick")

    def test_races(self):
        """Cancels at every moment of a short request: each is answered, none hits another."""
        for concurrency in (1, 2):
            host = self.host("""
                def handler(event, context):
                    for _ in range(int(event.path[1:])): pass
                    return "whole"
            """, concurrency=concurrency)
            whole = 0
            for turn in range(300):
                mine = tag()
                client = host.connect()
                client.send(target="/%d" % (turn * 40), tag=mine)
                host.cancel(mine)
                answer = client.answer()
                whole += answer is not None and answer.body == b"whole"
                host.wait_for(lambda: host.idle)
                self.assertEqual(host.idle, [mine])
                host.idle.clear()
                client.close()
                self.assertEqual(host.call(target="/1").body, b"whole")

    def test_raised_by_the_function_itself(self):
        for concurrency in (1, 2):
            host = self.host(BUSY, concurrency=concurrency)
            self.assertEqual(host.call(target="/raise").status, 500)
            self.assertEqual(host.idle, [])


class Ending(HostCase):
    SLOW = {
        "sync": "import time\ndef handler(e):\n print('in')\n time.sleep(.2)\n return 'late'",
        "async": "import asyncio\nasync def handler(e):\n print('in')\n await asyncio.sleep(.2)\n"
                 " return 'late'",
    }

    def test_drain_finishes_what_is_in_flight(self):
        for kind, concurrency in (("sync", 1), ("sync", 3), ("async", 3)):
            host = self.host("import atexit\natexit.register(print, 'left')\n" + self.SLOW[kind],
                             concurrency=concurrency)
            client, mine = host.connect(), tag()
            client.send(tag=mine)
            host.wait_for(lambda: "in" in host.lines(mine))
            send(host.control, b"D")
            self.assertEqual(client.answer().body, b"late")
            self.assertEqual(host.exit_code(), 0)
            self.assertEqual(host.lines("-" * 32), ["left"])

    def test_drain_sends_all_of_a_large_answer(self):
        host = self.host("async def handler(e): return b'x' * 3000000")
        client = host.connect()
        client.send()
        self.assertEqual(client.head()[0], 200)
        send(host.control, b"D")
        got = client.buf
        while len(got) < 3000000:
            client.buf = b""
            self.assertTrue(client.more())
            got += client.buf
        self.assertEqual(host.exit_code(), 0)

    def test_idle_drain(self):
        for code in ("def handler(): pass", "async def handler(): pass"):
            self.assertEqual(self.host(code).drain(), 0)

    def test_server_gone(self):
        code = """
            import time, asyncio
            def handler(event):
                print("in")
                while True: pass
            async def slow(event):
                print("in")
                await asyncio.sleep(1000)
        """
        for handler, concurrency in (("handler", 1), ("handler", 2), ("slow", 2)):
            host = self.host(code, handler=handler, concurrency=concurrency)
            client, mine = host.connect(), tag()
            client.send(tag=mine)
            host.wait_for(lambda: "in" in host.lines(mine))
            started = time.monotonic()
            host.control.close()
            self.assertIn(host.exit_code(), (0, -signal.SIGALRM))
            self.assertLess(time.monotonic() - started, PATIENCE / 2)
        host = self.host(code, handler="handler")
        host.control.close()
        self.assertEqual(host.exit_code(), 0)


if __name__ == "__main__":
    unittest.main()
