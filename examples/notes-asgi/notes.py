"""Notes as an ASGI application without a framework: add one, list them, follow them as Server-Sent Events.

Notes live in the memory of one instance and go when it goes; deploy it with `--max 1`, and keep in a store what has to last.
"""

import asyncio
import collections
import json

# The oldest note goes when this many are kept.
KEPT = 1000
LONGEST_BODY = 64 * 1024
# A quiet stream sends a comment this often, which keeps proxies from taking it for dead.
HEARTBEAT_SECONDS = 15.0

notes = collections.deque(maxlen=KEPT)
changed = asyncio.Condition()
last_id = 0


class Refused(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    if scope["type"] != "http":
        raise NotImplementedError(f"only http is served, not {scope['type']}")
    path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
    try:
        match (scope["method"], path):
            case ("GET", "/"):
                await answer(send, 200, list(notes))
            case ("POST", "/"):
                await answer(send, 201, await add(await read(receive)))
            case ("GET", "/stream"):
                await stream(scope, receive, send)
            case _:
                raise Refused(404, f"no {scope['method']} {path}; there are GET /, POST / and GET /stream")
    except Refused as refused:
        await answer(send, refused.status, {"error": str(refused)})


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def add(body):
    """Keeps a note and wakes whoever follows."""
    global last_id
    try:
        note = json.loads(body)
    except ValueError as broken:
        raise Refused(400, f"the body is not JSON: {broken}") from None
    if not isinstance(note, dict) or not isinstance(note.get("text"), str):
        raise Refused(400, 'expected an object such as {"text": "high water at six"}')
    async with changed:
        last_id += 1
        notes.append({"id": last_id, "text": note["text"]})
        changed.notify_all()
        return notes[-1]


async def stream(scope, receive, send):
    """Sends the notes there are, then new ones as they come; `?count=N` ends after N."""
    left = count(scope["query_string"])
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]})
    gone = asyncio.ensure_future(hang_up(receive))
    seen = 0
    try:
        while left != 0 and not gone.done():
            fresh = [note for note in notes if note["id"] > seen][:left]
            for note in fresh:
                seen = note["id"]
                event = f"id: {seen}\nevent: note\ndata: {json.dumps(note)}\n\n"
                await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
            left = left if left is None else left - len(fresh)
            if not fresh and not await news(gone):
                await send({"type": "http.response.body", "body": b": still here\n\n", "more_body": True})
    finally:
        gone.cancel()
    await send({"type": "http.response.body", "body": b"event: end\ndata: {}\n\n"})


def count(query_string):
    """How many notes `?count=` asks for; None follows for ever."""
    for pair in query_string.decode("latin-1").split("&"):
        name, _, text = pair.partition("=")
        if name == "count":
            if not (text.isascii() and text.isdecimal() and len(text) <= 6):
                raise Refused(400, f"count is {text[:20]!r}; expected a whole number")
            return int(text)
    return None


async def news(gone):
    """Waits for a note, for the caller to leave or for the next heartbeat; false at the heartbeat."""

    async def note():
        async with changed:
            await changed.wait()

    waiting = asyncio.ensure_future(note())
    done, _ = await asyncio.wait({waiting, gone}, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        await asyncio.wait({waiting})
    return bool(done)


async def hang_up(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def read(receive):
    """The request's body, refused while it is read when it grows too long."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the body ended early")
        body += message.get("body", b"")
        if len(body) > LONGEST_BODY:
            raise Refused(413, f"the body is longer than {LONGEST_BODY} bytes")
        if not message.get("more_body", False):
            return bytes(body)


async def answer(send, status, value):
    body = json.dumps(value).encode() + b"\n"
    await send({"type": "http.response.start", "status": status, "headers": [
        (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})
