"""CSV in, a JSON array of objects out, one for every row, named by the first line."""

import csv
import io

# The longest field; beyond it a forgotten quote would swallow the rest of the file into one value.
csv.field_size_limit(1 << 20)

# Problems listed in an answer; a file with the wrong delimiter is wrong in every row, and saying so a few times will do.
MAX_PROBLEMS = 100
NAMED_DELIMITERS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
GUESSES = {"": None, "true": True, "false": False}


class Refused(Exception):
    """The request cannot be read as asked."""


def handler(event, context):
    try:
        delimiter = one_of(event.query.get("delimiter", ","))
        guess = choice(event.query, "types", {"text": False, "guess": True})
        skip = choice(event.query, "bad", {"refuse": False, "skip": True})
        rows, problems = convert(event.body, delimiter, guess)
    except Refused as refused:
        return {"error": str(refused)}, 400
    if problems and not skip:
        listed = problems[:MAX_PROBLEMS]
        return {"error": f"{len(problems)} of {len(problems) + len(rows)} rows are bad", "rows": listed}, 422
    headers = {"X-Rows": str(len(rows))}
    if problems:
        headers["X-Skipped-Lines"] = ",".join(str(problem["line"]) for problem in problems[:MAX_PROBLEMS])
    return rows, 200, headers


def one_of(text):
    """The delimiter that `?delimiter=` names."""
    delimiter = NAMED_DELIMITERS.get(text, text)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise Refused(f"delimiter is {text[:20]!r}; expected one character or one of " + ", ".join(NAMED_DELIMITERS))
    return delimiter


def choice(query, name, values):
    """The value of an option, the first of `values` where it is not given."""
    text = query.get(name, next(iter(values)))
    if text not in values:
        raise Refused(f"{name} is {text[:20]!r}; expected one of " + ", ".join(values))
    return values[text]


def convert(data, delimiter, guess):
    """The rows as objects, and the bad ones as `{"line": …, "error": …}`; `line` is where in the file a row begins."""
    try:
        # Spreadsheets put a byte order mark before UTF-8.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        line = data[: broken.start].count(b"\n") + 1
        raise Refused(f"line {line} is not UTF-8, at byte {broken.start} of the body") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names, rows, problems = None, [], []
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as broken:
            if names is None:
                raise Refused(f"line {line}, the header, cannot be read: {broken}") from None
            problems.append({"line": line, "error": str(broken)})
            continue
        if not row:
            continue
        if names is None:
            names = header(row, line)
        elif len(row) != len(names):
            problems.append({"line": line, "error": f"{len(row)} fields; the header has {len(names)}"})
        else:
            rows.append(dict(zip(names, map(value, row) if guess else row)))
    if names is None:
        raise Refused("the body is empty; expected CSV with names in the first line")
    return rows, problems


def header(row, line):
    """The names in the first line, which have to be there and differ."""
    seen = set()
    for name in row:
        if not name.strip():
            raise Refused(f"line {line}, the header, has a field without a name")
        if name in seen:
            raise Refused(f"line {line}, the header, names {name[:40]!r} twice")
        seen.add(name)
    return row


def value(text):
    """A field as the type it looks like: null, boolean, whole number, number, text.

    What would not come back the same stays text: leading zeros (post codes), a plus sign (telephone numbers), digits
    beyond what a double holds, and names such as `nan` that JSON has no number for.
    """
    word = text.strip().lower()
    if word in GUESSES:
        return GUESSES[word]
    digits = word.removeprefix("-")
    if not digits.isascii() or not digits[0:1].isdigit() or (len(digits) > 1 and digits[0] == "0" and digits[1] != "."):
        return text
    if digits.isdecimal():
        return int(word) if len(digits) <= 15 else text
    if len(digits) > 17 or "_" in digits:
        return text
    try:
        number = float(word)
    except ValueError:
        return text
    return number if abs(number) < 1e300 else text
