"""The life of a host: prepare, load, serve, leave."""

import atexit
import gc
import json
import os
import socket
import sys
import time

from . import asgi, logs, wire
from .aio import AsyncHandlerApp, AsyncServer, new_loop
from .answers import trace
from .handlers import HandlerApp
from .load import ASGI, ASYNC_HANDLER, WSGI, LoadError, load
from .sync import SyncServer
from .threads import ThreadServer
from .wsgi import WsgiApp

# Exit codes: the function could not be loaded; the sandbox could not be entered.
EXIT_LOAD = 1
EXIT_CONFINE = 70

# Where the sandbox mounts a function.
FUNCTION_DIR = "/function"

# For a server that does not say: what fits into memory several times over.
BODY_MAX = 64 * 1024 * 1024


def open_control():
    """The control channel on its descriptor."""
    return wire.Control(socket.socket(fileno=wire.CONTROL_FD))


def live(control, config):
    """Runs one function until drained; answers the exit code."""
    if config is None:
        kind, payload, _ = control.receive(wait=True)
        if kind != wire.CONFIG:
            control.failed("config", "the first message was %r, expected G with the config" % kind)
            return EXIT_LOAD
        config = json.loads(payload)
    logs.install(control)
    step = "prepare"
    try:
        _prepare(config)
        step = "load"
        function = load(config)
        gc.freeze()
        step = "start"
        return _serve(control, function, config)
    except asgi.StartupFailed as failure:
        control.failed("lifespan", str(failure))
    except LoadError as failure:
        control.failed(step, str(failure))
    except BaseException as failure:
        # Even SystemExit: a module that exits at import has not become a function.
        text = str(failure)
        name = type(failure).__name__
        control.failed(step, "%s: %s" % (name, text) if text else name, trace(failure))
    return EXIT_LOAD


def _prepare(config):
    config.setdefault("concurrency", 1)
    if config.get("max_body") is None:
        config["max_body"] = BODY_MAX
    environ = os.environ
    # Key by key: `clear` and `update` go through abstract base classes, slow after a fork.
    for name in list(environ):
        del environ[name]
    for name, value in (config.get("env") or {}).items():
        environ[name] = value
    if "TZ" in os.environ:
        time.tzset()
    os.chdir(config.get("cwd") or FUNCTION_DIR)


def _serve(control, function, config):
    call, kind = function.call, function.kind
    if kind == ASGI:
        return asgi.serve(control, call, config, new_loop())
    if kind == ASYNC_HANDLER:
        return AsyncServer(control, AsyncHandlerApp(call, config), config).run(new_loop())
    app = WsgiApp(call, config) if kind == WSGI else HandlerApp(call, config)
    if config["concurrency"] > 1:
        return ThreadServer(control, app, config["concurrency"]).run()
    return SyncServer(control, app).run()


def leave(code):
    """Ends the process the way Python would, without returning through the zygote's frames."""
    try:
        atexit._run_exitfuncs()
    except BaseException as failure:
        sys.stderr.write(trace(failure))
    finally:
        logs.OUTSIDE.flush()
        os._exit(code)
