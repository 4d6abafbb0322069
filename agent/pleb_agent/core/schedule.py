"""Hours of the week in which something is allowed, and their one-line notation.

`mon-fri 20:00-08:00; sat,sun 00:00-24:00`: days, then spans of minutes; a span that ends before
it begins continues into the next day. Spans without days hold on every day. An empty text allows
every minute.

Minutes are local time, which readings carry. So `20:00-08:00` begins and ends at these times on
every day; in the nights when daylight saving time begins or ends it is an hour shorter or longer,
and `minutes_to_change` is an hour wrong until that hour has passed: a caller that waits for it must
look at the clock again in between.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

__all__ = [
    "ALWAYS",
    "DAYS",
    "DAY_MINUTES",
    "DAY_NAMES",
    "MONDAY_MIDNIGHT",
    "WEEK_MINUTES",
    "Hours",
    "LocalTime",
    "parse_hours",
    "seconds_to",
]

DAY_NAMES: Final = {
    "mon": "Monday",
    "tue": "Tuesday",
    "wed": "Wednesday",
    "thu": "Thursday",
    "fri": "Friday",
    "sat": "Saturday",
    "sun": "Sunday",
}
DAYS: Final = tuple(DAY_NAMES)
DAY_MINUTES: Final = 24 * 60
WEEK_MINUTES: Final = 7 * DAY_MINUTES

_EVERY_DAY: Final = f"{DAYS[0]}-{DAYS[-1]}"
_SPAN: Final = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")


@dataclass(frozen=True)
class LocalTime:
    """The wall clock that the user sees. `weekday`: Monday is 0. `minute`: since midnight."""

    weekday: int
    minute: int


MONDAY_MIDNIGHT: Final = LocalTime(0, 0)


@dataclass(frozen=True)
class Hours:
    """Allowed spans as [start, end) in minutes since Monday 00:00, sorted and not touching.

    A span over the end of the week is stored as two.
    """

    spans: tuple[tuple[int, int], ...]

    def allow(self, time: LocalTime) -> bool:
        """Whether this minute is in a span."""
        minute = time.weekday * DAY_MINUTES + time.minute
        return any(start <= minute < end for start, end in self.spans)

    def minutes_to_change(self, time: LocalTime) -> int | None:
        """Return the minutes until `allow` changes its answer; None if it never does."""
        now = time.weekday * DAY_MINUTES + time.minute
        allowed = self.allow(time)
        edges = sorted({edge % WEEK_MINUTES for span in self.spans for edge in span})
        for ahead in sorted((edge - now) % WEEK_MINUTES or WEEK_MINUTES for edge in edges):
            minute = (now + ahead) % WEEK_MINUTES
            if any(start <= minute < end for start, end in self.spans) is not allowed:
                return ahead
        return None


ALWAYS: Final = Hours(((0, WEEK_MINUTES),))


@lru_cache(maxsize=32)
def parse_hours(text: str) -> Hours:
    """Return the hours of a text.

    Raises:
        ValueError: it is not understood; the message quotes the part and gives an example.
    """
    if not text.strip():
        return ALWAYS
    minutes: list[tuple[int, int]] = []
    for part in text.split(";"):
        days, _, spans = part.strip().lower().partition(" ")
        if days[:1].isdecimal():
            days, spans = _EVERY_DAY, f"{days} {spans}"
        for day in _days(days, part):
            for span in spans.split(","):
                minutes += _span(day, span.strip(), part)
    return Hours(_merged(minutes))


def seconds_to(minutes: int, now: float) -> float:
    """Return the seconds from `now` (since 1970) until that many minutes of the clock are full.

    Every time zone is whole minutes away from UTC, so seconds are the same everywhere.
    """
    return minutes * 60.0 - now % 60.0


def _days(text: str, part: str) -> list[int]:
    days: list[int] = []
    for item in text.split(","):
        first, _, last = item.partition("-")
        if first not in DAYS or (last and last not in DAYS):
            raise _unclear(part)
        start, end = DAYS.index(first), DAYS.index(last or first)
        days += [(start + step) % 7 for step in range((end - start) % 7 + 1)]
    return days


def _span(day: int, text: str, part: str) -> list[tuple[int, int]]:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise _unclear(part)
    hour, minute, end_hour, end_minute = map(int, match.groups())
    start, end = hour * 60 + minute, end_hour * 60 + end_minute
    if minute > 59 or end_minute > 59 or start >= DAY_MINUTES or end > DAY_MINUTES or start == end:
        raise _unclear(part)
    base = day * DAY_MINUTES
    if start < end:
        return [(base + start, base + end)]
    whole = base + DAY_MINUTES + end
    if whole <= WEEK_MINUTES:
        return [(base + start, whole)]
    return [(base + start, WEEK_MINUTES), (0, whole - WEEK_MINUTES)]


def _merged(spans: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def _unclear(part: str) -> ValueError:
    return ValueError(
        f"the hours {part.strip()!r} are not understood; "
        "an example is 'mon-fri 20:00-08:00; sat,sun 00:00-24:00'"
    )
