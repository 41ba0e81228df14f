"""JSON rows in, a table as text out; ?format= is one of those that tabulate knows."""

import json

from tabulate import tabulate

FORMATS = ("github", "grid", "html", "latex", "outline", "plain", "tsv")


def handle(event, context):
    style = event.query.get("format", "github")
    if style not in FORMATS:
        return refused(f"format is {style!r}; expected one of {', '.join(FORMATS)}")
    try:
        rows = json.loads(event.body)
    except ValueError as error:
        return refused(f"the body is no JSON: {error}")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return refused("expected an array of objects")
    # A name once, in the order in which the rows bring it up.
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[shown(row.get(name)) for name in names] for row in rows]
    kind = "text/html" if style == "html" else "text/plain"
    return {
        "body": tabulate(cells, names, tablefmt=style) + "\n",
        "headers": {"Content-Type": f"{kind}; charset=utf-8"},
    }


def shown(value):
    """A cell's text: what is nested stays JSON, what is absent is empty."""
    if value is None:
        return ""
    if isinstance(value, (bool, dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return value


def refused(why):
    return {"statusCode": 400, "body": {"error": why}}
