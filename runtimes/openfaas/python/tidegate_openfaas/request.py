"""What a handler sees of a request: the values that Flask would give it."""

import codecs
import io
import os
import socket
from urllib.parse import parse_qsl, quote


def _keep_escaped(failure):
    """What is no UTF-8 in a query stays percent-encoded."""
    return quote(failure.object[failure.start : failure.end], safe=""), failure.end


codecs.register_error("tidegate.keep_escaped", _keep_escaped)


class MissingKey(KeyError):
    """A query parameter that was not sent; left to propagate, it answers 400."""


class Event:
    """One request: `body` (bytes), `headers`, `method`, `query`, `path`."""

    def __init__(self, environ, body):
        self.body = body
        self.headers = Headers(environ)
        self.method = environ["REQUEST_METHOD"]
        self.query = Query(environ.get("QUERY_STRING", ""))
        self.path = path_of(environ)


class Context:
    """The circumstances of a call: `hostname`."""

    def __init__(self):
        self.hostname = os.environ.get("HOSTNAME") or socket.gethostname()


def path_of(environ):
    """The path, decoded; begins with exactly one slash."""
    path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
    return "/" + path.lstrip("/")


def take_body(environ):
    """Reads the whole body and leaves an environ in which its length is known.

    What reads it again finds it in memory. Raises what the host says of a body
    that is too large or was cut off: not the handler's failure.
    """
    source = environ["wsgi.input"]
    if environ.get("wsgi.input_terminated"):
        body = source.read()
    else:
        body = source.read(int(environ.get("CONTENT_LENGTH") or 0))
    if environ.pop("HTTP_TRANSFER_ENCODING", None) is not None:
        environ["CONTENT_LENGTH"] = str(len(body))
    environ["wsgi.input"] = io.BytesIO(body)
    # The caller's prefix is the platform's affair; the templates know none.
    environ["SCRIPT_NAME"] = ""
    return body


class Headers:
    """Read-only header fields, looked up without regard to case; iterates over pairs."""

    def __init__(self, environ):
        self._environ = environ

    def _key(self, name):
        if not isinstance(name, str):
            raise KeyError(name)
        key = name.upper().replace("-", "_")
        return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key

    def __getitem__(self, name):
        return self._environ[self._key(name)]

    def get(self, name, default=None, type=None):
        """The value, through `type` if given; `default` where it is absent or `type` refuses it."""
        try:
            value = self[name]
            return value if type is None else type(value)
        except (KeyError, ValueError, TypeError):
            return default

    def getlist(self, name, type=None):
        value = self.get(name, type=type)
        return [] if value is None else [value]

    get_all = getlist

    def __iter__(self):
        for key, value in self._environ.items():
            if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                if value:
                    yield key.replace("_", "-").title(), value
            elif key.startswith("HTTP_"):
                yield key[5:].replace("_", "-").title(), value

    def items(self, lower=False):
        for key, value in self:
            yield key.lower() if lower else key, value

    def keys(self, lower=False):
        for key, _ in self.items(lower):
            yield key

    def values(self):
        for _, value in self:
            yield value

    def to_wsgi_list(self):
        return list(self)

    def __contains__(self, name):
        try:
            self[name]
        except KeyError:
            return False
        return True

    has_key = __contains__

    def __len__(self):
        return sum(1 for _ in self)

    def __str__(self):
        return "".join("%s: %s\r\n" % pair for pair in self) + "\r\n"

    def __repr__(self):
        return "Headers(%r)" % (list(self),)


class Query(dict):
    """A read-only query: a dict of lists that shows the first value of each name."""

    def __init__(self, text):
        super().__init__()
        pairs = parse_qsl(
            text.encode("latin-1").decode(), keep_blank_values=True, errors="tidegate.keep_escaped"
        )
        for name, value in pairs:
            dict.setdefault(self, name, []).append(value)

    def __getitem__(self, name):
        if name in self:
            return dict.__getitem__(self, name)[0]
        raise MissingKey(name)

    def get(self, name, default=None, type=None):
        """The first value, through `type` if given; `default` where it is absent or `type` refuses it."""
        try:
            value = self[name]
            return value if type is None else type(value)
        except (KeyError, ValueError, TypeError):
            return default

    def getlist(self, name, type=None):
        """Every value of `name`, without those that `type` refuses."""
        found = []
        for value in dict.get(self, name, ()):
            try:
                found.append(value if type is None else type(value))
            except (ValueError, TypeError):
                pass
        return found

    def items(self, multi=False):
        for name, values in dict.items(self):
            for value in values if multi else values[:1]:
                yield name, value

    def values(self):
        for values in dict.values(self):
            yield values[0]

    def lists(self):
        for name, values in dict.items(self):
            yield name, list(values)

    def listvalues(self):
        return dict.values(self)

    def to_dict(self, flat=True):
        return dict(self.items()) if flat else dict(self.lists())

    def __repr__(self):
        return "Query(%r)" % (list(self.items(multi=True)),)

    def _refuse(self, *_args, **_kwargs):
        raise TypeError("the query is read-only")

    __setitem__ = __delitem__ = __ior__ = _refuse
    add = clear = pop = popitem = setdefault = setlist = update = _refuse

    def copy(self):
        return self.to_dict()
