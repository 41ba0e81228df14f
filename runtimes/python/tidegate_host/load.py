"""Loading a function: its module, and which kind of callable it offers."""

import functools
import importlib
import importlib.util
import inspect
import os
import sys

HANDLER, ASYNC_HANDLER, ASGI, WSGI = "handler", "async handler", "asgi", "wsgi"


class LoadError(Exception):
    """The file is fine Python, but offers nothing that can be called."""


class Function:
    """A loaded function: `kind` is one of HANDLER, ASYNC_HANDLER, ASGI, WSGI."""

    __slots__ = ("kind", "call")

    def __init__(self, kind, call):
        self.kind = kind
        self.call = call


def load(config):
    """Imports the entry of `config` and answers its Function.

    Raises LoadError, or whatever the user's module raised.
    """
    entry = config["entry"]
    folder = os.path.dirname(os.path.abspath(entry))
    sys.argv = [entry]
    sys.path.insert(0, folder)
    for at, extra in enumerate(config.get("path") or ()):
        sys.path.insert(1 + at, extra)
    named = config.get("handler")
    if named and ":" in named:
        module_name, _, name = named.partition(":")
        module = importlib.import_module(module_name)
    else:
        module, name = _import_file(entry), named
    return _find(module, name, entry)


def _import_file(entry):
    name = os.path.splitext(os.path.basename(entry))[0]
    # A file called like a module that is loaded already (json.py) must not take
    # its place, or the standard library breaks at its next import.
    if name in sys.modules:
        name = "function_" + name
    spec = importlib.util.spec_from_file_location(name, entry)
    if spec is None:
        raise LoadError("entry %s is not a Python file, expected a name that ends in .py" % entry)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _find(module, name, entry):
    if name:
        found = module
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is None:
            raise LoadError("%s has no `%s`%s" % (entry, name, _suggest(module)))
        if not callable(found):
            raise LoadError("`%s` in %s is a %s, expected a function or an app"
                            % (name, entry, type(found).__name__))
        is_app = name in ("app", "application") or _looks_like_app(found)
        return _app(found) if is_app else _handler(found)
    handler = getattr(module, "handler", None)
    if callable(handler):
        return _handler(handler)
    app = getattr(module, "app", None)
    if callable(app):
        return _app(app)
    raise LoadError(
        "%s defines neither `handler` nor `app`, expected `def handler(event, context)`, "
        "or an ASGI or WSGI `app`%s" % (entry, _suggest(module))
    )


def _suggest(module):
    own = [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
    ]
    return "; it has the functions %s" % ", ".join(own[:8]) if own else ""


def _is_async(call):
    """Whether calling answers an awaitable or an async iterator, seen through partials."""
    while isinstance(call, functools.partial):
        call = call.func
    for each in (call, getattr(call, "__call__", None)):
        if inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each):
            return True
    return False


def _parameters(call):
    """The positional parameters of `call`, or None if it does not tell."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return [
        p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]


def _required(parameters):
    return [p for p in parameters if p.default is p.empty]


def _looks_like_app(call):
    """For a callable under a name that tells nothing."""
    parameters = _parameters(call)
    if parameters is None:
        return False
    names = [p.name for p in parameters]
    if len(_required(parameters)) == 3 and _is_async(call):
        return True
    return "start_response" in names[1:2] or names[:3] == ["scope", "receive", "send"]


def _app(call):
    parameters = _parameters(call)
    needed = len(_required(parameters)) if parameters is not None else None
    if _is_async(call) or needed == 3:
        return Function(ASGI, call)
    if needed is not None and len(parameters) < 2:
        raise LoadError(
            "`app` takes %d parameters, expected ASGI (scope, receive, send) "
            "or WSGI (environ, start_response)" % len(parameters)
        )
    return Function(WSGI, call)


def _handler(call):
    kind = ASYNC_HANDLER if _is_async(call) else HANDLER
    parameters = _parameters(call)
    if parameters is None or (len(parameters) >= 2 and len(_required(parameters)) <= 2):
        return Function(kind, call)
    if len(parameters) == 1:
        return Function(kind, lambda event, _context: call(event))
    if not parameters:
        return Function(kind, lambda _event, _context: call())
    raise LoadError(
        "`handler` takes %d parameters, expected (event, context), (event) or none"
        % len(parameters)
    )
