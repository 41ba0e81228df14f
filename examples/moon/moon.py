"""The moon's age and what it does to the tides, for a day: called by a schedule, or by anybody."""

import json
from datetime import datetime, timedelta, timezone

# A new moon, and the mean time from one to the next, in days. Good to within half a day for centuries around now.
NEW_MOON = datetime(2000, 1, 6, 18, 14, tzinfo=timezone.utc)
MONTH = 29.530588853

PHASES = (
    "new moon",
    "waxing crescent",
    "first quarter",
    "waxing gibbous",
    "full moon",
    "waning gibbous",
    "last quarter",
    "waning crescent",
)


def moon(day):
    """What there is to say of a day, at its noon in UTC."""
    noon = day + timedelta(hours=12)
    age = (noon - NEW_MOON) / timedelta(days=1) % MONTH
    eighth = round(age / MONTH * 8) % 8
    tides = {0: "spring", 4: "spring", 2: "neap", 6: "neap"}.get(eighth, "between")
    return {
        "date": day.date().isoformat(),
        "age": round(age, 1),
        "phase": PHASES[eighth],
        "tides": tides,
    }


def handler(event, context):
    try:
        asked = json.loads(event.body or b"{}")
        date = asked.get("date")
        day = datetime.fromisoformat(date) if date else datetime.now(timezone.utc)
    except (ValueError, AttributeError, TypeError):
        error = "send nothing, or JSON such as {\"date\": \"2026-11-24\"}"
        return {"error": error}, 400
    day = day.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=timezone.utc)
    told = moon(day)
    # What a schedule calls for has nobody who reads the answer; the line stands in the record.
    print(f"{told['date']}: {told['phase']}, {told['tides']} tides")
    return told
