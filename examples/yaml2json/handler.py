"""YAML in, JSON out: one document as it is, several as an array of them."""

import datetime
import math

import yaml

# The C parser where the package was built with it: some twenty times faster. Both are the safe kind, which makes plain
# values and nothing else, whatever tags the text has.
Safe = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Values in one text. A few lines of aliases to aliases can stand for more of them than there is memory for.
MAX_VALUES = 200_000
MAX_DOCUMENTS = 1_000
MAX_DEPTH = 100


class Refused(Exception):
    """The text has no JSON of it."""


def handler(event, context):
    if event.method != "POST":
        return {"error": "send the YAML by POST"}, 405, {"Allow": "POST"}
    try:
        documents = load(event.body)
    except Refused as refused:
        return {"error": str(refused)}, 422
    except yaml.MarkedYAMLError as wrong:
        problem = {"error": " ".join(part for part in (wrong.context, wrong.problem) if part)}
        if wrong.problem_mark:
            problem.update(line=wrong.problem_mark.line + 1, column=wrong.problem_mark.column + 1)
        return problem, 422
    except yaml.YAMLError as wrong:
        return {"error": str(wrong)}, 422
    return documents[0] if len(documents) == 1 else documents


def load(data):
    """All documents as what JSON knows."""
    documents = []
    budget = [MAX_VALUES]
    try:
        for document in yaml.load_all(data, Safe):
            if len(documents) == MAX_DOCUMENTS:
                raise Refused(f"more than {MAX_DOCUMENTS} documents")
            documents.append(plain(document, budget, 0))
    except (ValueError, OverflowError) as wrong:
        # A date such as the thirtieth of February, or bytes that are no text.
        raise Refused(str(wrong)) from None
    except RecursionError:
        raise Refused(f"nested deeper than {MAX_DEPTH}") from None
    return documents


def plain(value, budget, depth):
    """A value as JSON has it; aliases are written out, and each time counted."""
    budget[0] -= 1
    if budget[0] < 0:
        raise Refused(f"more than {MAX_VALUES} values, aliases written out")
    if depth > MAX_DEPTH:
        raise Refused(f"nested deeper than {MAX_DEPTH}, or an alias inside itself")
    if isinstance(value, dict):
        result = {}
        for key, inner in value.items():
            name = word(key)
            if name in result:
                raise Refused(f"two keys are written {name[:40]!r} in JSON")
            result[name] = plain(inner, budget, depth + 1)
        return result
    if isinstance(value, (list, set)):
        return [plain(inner, budget, depth + 1) for inner in value]
    if isinstance(value, tuple):
        # A pair of `!!pairs` or `!!omap`.
        return [plain(inner, budget, depth + 1) for inner in value]
    if isinstance(value, bytes):
        raise Refused("binary values have no form in JSON")
    if isinstance(value, float) and not math.isfinite(value):
        raise Refused("infinities and what is not a number have no form in JSON")
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    return value


def word(key):
    """A key of a mapping as text, written as JSON writes the value."""
    if key is None:
        return "null"
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, (str, int, float)):
        return str(key)
    if isinstance(key, (datetime.date, datetime.datetime)):
        return key.isoformat()
    raise Refused("a list or a mapping cannot be a key in JSON")
