"""A month's calendar as a WSGI application: `/2026/11` as text, `?first=sunday` for weeks that begin there."""

import calendar
import datetime
import urllib.parse

# The years that Python's calendar knows.
FIRST_YEAR, LAST_YEAR = 1, 9999
WEEK_BEGINS = {"monday": calendar.MONDAY, "sunday": calendar.SUNDAY, "saturday": calendar.SATURDAY}


def app(environ, start_response):
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return answer(start_response, "405 Method Not Allowed", "only GET and HEAD are answered\n", ("Allow", "GET, HEAD"))
    try:
        year, month = wanted(environ.get("PATH_INFO", ""))
        query = urllib.parse.parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        first = query.get("first", ["monday"])[-1]
        if first not in WEEK_BEGINS:
            raise ValueError(f"first is {first[:20]!r}; expected one of {', '.join(WEEK_BEGINS)}")
    except ValueError as wrong:
        return answer(start_response, "400 Bad Request", f"{wrong}\n")
    return answer(start_response, "200 OK", calendar.TextCalendar(WEEK_BEGINS[first]).formatmonth(year, month))


def wanted(path):
    """Year and month that the path names; today's where it names none."""
    parts = [part for part in path.split("/") if part]
    if not parts:
        today = datetime.date.today()
        return today.year, today.month
    if len(parts) != 2 or not all(part.isascii() and part.isdecimal() and len(part) <= 4 for part in parts):
        raise ValueError(f"path is {path[:40]!r}; expected /YEAR/MONTH, such as /2026/11")
    year, month = map(int, parts)
    if not (FIRST_YEAR <= year <= LAST_YEAR and 1 <= month <= 12):
        raise ValueError(f"no month {month} of the year {year}")
    return year, month


def answer(start_response, status, text, *headers):
    body = text.encode()
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), *headers])
    return [body]
