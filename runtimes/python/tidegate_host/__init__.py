"""The Python language host: runs one function inside one instance.

A function is a handler, an ASGI app or a WSGI app. The host loads it, takes
connected descriptors over the control channel (`wire`), serves HTTP/1.1 on
them, and tags each line of output with the request that wrote it (`logs`).

Three servers share one parser (`http1`, `body`) and one reading of results
(`answers`), because what makes each fast and cancellable differs:

- `sync`: one thread, one epoll. The hot path of plain handlers and WSGI at
  concurrency 1. Cancelled by a signal that raises inside the handler.
- `threads`: the same, with a pool of as many threads as requests at once.
- `aio`: asyncio, for async handlers and ASGI (`asgi`, `websocket`).

Everything is imported before the sandbox is entered: inside, the host's own
folder does not exist.
"""
