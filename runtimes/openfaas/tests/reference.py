"""The real Flask behind the rules of the templates, to compare with.

`app(language, handle)` answers a WSGI application. Nothing of it is ever deployed.
"""

import os

from flask import Flask, jsonify, request

EVERY_METHOD = ["GET", "PUT", "POST", "PATCH", "DELETE"]


class Event:
    def __init__(self):
        self.body = request.get_data()
        self.headers = request.headers
        self.method = request.method
        self.query = request.args
        self.path = request.path


class Context:
    hostname = os.environ.get("HOSTNAME", "localhost")


def app(language, handle):
    made = Flask("index")
    if language.startswith("python3-flask"):
        methods, view = ["GET", "POST"], lambda: flask_view(handle)
    else:
        methods, view = EVERY_METHOD, lambda: http_view(language, handle)
    made.add_url_rule("/", "view", lambda **_: view(), defaults={"path": ""}, methods=methods)
    made.add_url_rule("/<path:path>", "view", methods=methods)
    return made


def flask_view(handle):
    raw = os.environ.get("RAW_BODY", "").lower() in ("true", "1")
    return handle(request.get_data(as_text=not raw))


def http_view(language, handle):
    result = handle(Event(), Context())
    if result is None:
        return "", 200
    if type(result) is not dict:
        return result
    debian = language.endswith("-debian")
    status = result.get("statusCode", 200)
    headers = result.get("headers", {})
    body = result.get("body", "")
    if debian:
        binary = headers.get("Content-type") == "application/octet-stream"
    else:
        binary = False
    if isinstance(body, dict):
        body = jsonify(body)
    elif not binary:
        body = str(body)
    pairs = list(headers.items()) if isinstance(headers, dict) else headers
    return body, status, pairs
