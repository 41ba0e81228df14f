"""Which application stands for a template."""

import sys


def app(language, uses_flask):
    """A WSGI application around `function/handler.py` for the template `language`.

    `uses_flask`: the handler's files name Flask; where a package that they
    import brings it, that is noticed here. Raises what the module raised, or
    ImportError if it has no `handle`.
    """
    from function import handler

    if not callable(getattr(handler, "handle", None)):
        raise ImportError(
            "function/handler.py defines no `handle`, expected `def handle(%s)`"
            % ("req" if takes_text(language) else "event, context")
        )
    if uses_flask or "flask" in sys.modules:
        from .flask_app import make
    else:
        from .plain import make
    return make(language, handler)


def takes_text(language):
    """Whether handlers of this template take the body alone: `handle(req)`."""
    return language.startswith("python3-flask")


def methods(language):
    """The methods that reach the handler, but for HEAD, which comes with GET."""
    if takes_text(language):
        return ("GET", "POST")
    return ("GET", "PUT", "POST", "PATCH", "DELETE")
