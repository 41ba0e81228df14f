"""Measures fork latency, requests a second on one connection, and memory of the zygote.

`python3 bench/bench.py`: prints one line a figure. The client is Python as
well; its own time is shown beside the host's CPU, which is the steadier figure.
"""

import os
import statistics
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tests"))

from harness import HostCase, shared_zygote  # noqa: E402

FORKS = 300
REQUESTS = 40000

HELLO = "def handler(event, context): return 'hello'"
APPS = {
    "handler": (HELLO, 1),
    "handler, 4 threads": (HELLO, 4),
    "handler that prints": ("def handler(event, context):\n print('a line')\n return 'hello'", 1),
    "wsgi": ("def app(e, start):\n start('200 OK', [('content-type', 'text/plain')])\n"
             " return [b'hello']", 1),
    "async handler": ("async def handler(event, context): return 'hello'", 1),
    "asgi": ("async def app(scope, receive, send):\n assert scope['type'] == 'http'\n"
             " await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
             " await send({'type': 'http.response.body', 'body': b'hello'})", 1),
}


def cpu_of(pid):
    with open("/proc/%d/stat" % pid) as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid):
    with open("/proc/%d/smaps_rollup" % pid) as file:
        found = {}
        for line in file.read().splitlines()[1:]:
            name, value = line.split()[:2]
            found[name.rstrip(":")] = int(value) / 1024
    return found


class Bench(HostCase):
    def test_fork_to_first_line(self):
        """From the fork request to the first line of user code, which stamps the clock."""
        code = "import time\nat = time.monotonic_ns()\ndef handler(): return str(at)"
        first, ready = [], []
        for _ in range(FORKS):
            begun = time.monotonic_ns()
            host = self.fork(code)
            ready.append((time.monotonic_ns() - begun) / 1e6)
            first.append((int(host.call().body) - begun) / 1e6)
            host.drain()
        for name, values in (("first line", first), ("ready", ready)):
            cuts = statistics.quantiles(values, n=100)
            print("fork to %s: p50 %.2f ms, p99 %.2f ms" % (name, cuts[49], cuts[98]))

    def test_requests(self):
        request = (b"GET / HTTP/1.1\r\nhost: localhost\r\nuser-agent: bench\r\naccept: */*\r\n"
                   b"x-request-id: 0123456789abcdef0123456789abcdef\r\n"
                   b"x-tidegate-deadline-ms: 60000\r\nx-tidegate-path-prefix: /fn/hello\r\n\r\n")
        for name, (code, concurrency) in APPS.items():
            host = self.host(code, concurrency=concurrency)
            sock = host.connect().sock
            sock.settimeout(None)
            cpu, begun = cpu_of(host.pid), time.monotonic()
            for turn in range(REQUESTS):
                sock.sendall(request)
                sock.recv(4096)
                if turn % 64 == 0:
                    host.pump()
                    host.logs.clear()
            took, cpu = time.monotonic() - begun, cpu_of(host.pid) - cpu
            print("%s: %d req/s, host CPU %.1f us a request (%d req/s a core)" % (
                name, REQUESTS / took, cpu / REQUESTS * 1e6, REQUESTS / cpu))

    def test_memory(self):
        zygote = shared_zygote()
        host = self.host(HELLO)
        host.call()
        for name, pid in (("zygote", zygote.process.pid), ("idle instance", host.pid)):
            seen = memory_of(pid)
            print("memory of %s: RSS %.1f MiB, PSS %.1f MiB, private %.1f MiB" % (
                name, seen["Rss"], seen["Pss"], seen["Private_Dirty"] + seen["Private_Clean"]))


if __name__ == "__main__":
    unittest.main(verbosity=0)
