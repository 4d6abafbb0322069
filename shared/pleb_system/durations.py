"""Times as people write and read them: "90s", "1h"; "20 min", "2 days"; "2026-12-28"."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

__all__ = ["end_of_day", "parse_duration", "shown_day", "shown_duration"]

_WRITTEN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?")
_SECONDS: Final = {"s": 1, "m": 60, "min": 60, None: 60, "h": 3600, "d": 86_400}
_MOST_DAYS: Final = 31


def parse_duration(text: str) -> float:
    """Return the seconds of `90s`, `20m`, `1h`, `2d`; a bare number is minutes.

    Raises:
        ValueError: it is something else, zero, or longer than 31 days.
    """
    match = _WRITTEN.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"{text!r} is not a duration; use 90s, 20m, 1h or 2d")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > _MOST_DAYS * _SECONDS["d"]:
        raise ValueError(f"{text!r} is too long: {_MOST_DAYS}d at most")
    return seconds


def end_of_day(text: str) -> float:
    """Return when the day `2026-12-28` is over (UTC), in seconds since 1970.

    Raises:
        ValueError: it is no such day.
    """
    try:
        day = date.fromisoformat(text.strip())
        after = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text[:20]!r} is not a day; write it as 2026-12-28") from error
    return after.timestamp()


def shown_day(at: float) -> str:
    """Return the day (UTC) of a time in seconds since 1970."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def shown_duration(seconds: float) -> str:
    """Return a length of time in the largest unit of which it has two: "119 s", "2 min"."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
