"""A handler of text: a case for each call, named by the first line."""

from .cases import FLASK, TEXT


def handle(req):
    case = req.split(b"\n" if isinstance(req, bytes) else "\n")[0]
    return {**FLASK, **TEXT}[case if isinstance(case, str) else case.decode()](req)
