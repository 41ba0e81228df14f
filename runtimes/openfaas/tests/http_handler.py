"""A handler of events: a case for each call."""

from .cases import FLASK, HTTP


def handle(event, context):
    assert isinstance(context.hostname, str) and context.hostname
    return {**FLASK, **HTTP}[event.headers["x-case"]](event, context)
