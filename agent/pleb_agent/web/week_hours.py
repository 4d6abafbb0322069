"""Hours of the week as one line a day, which is how the page edits them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from pleb_agent.core.schedule import DAY_MINUTES, DAYS, WEEK_MINUTES, parse_hours
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Day", "days_of", "hours_of"]


@dataclass(frozen=True)
class Day:
    """One day's line."""

    name: str
    text: str
    """Spans as `08:00-12:00, 20:00-08:00`; empty: none."""
    bars: tuple[tuple[int, int], ...]
    """(begin, length) in minutes of what is allowed on this day itself."""


def days_of(hours: str) -> tuple[Day, ...]:
    """Return the seven days of a preference; a night belongs to the day on which it begins."""
    spans = parse_hours(hours).spans
    texts: list[list[str]] = [[] for _ in DAYS]
    for begin, end in spans:
        for start, stop in _pieces(begin, end):
            day = start // DAY_MINUTES
            texts[day].append(f"{_clock(start, day)}-{_clock(stop, day)}")
    days: list[Day] = []
    for day, name in enumerate(DAYS):
        base = day * DAY_MINUTES
        cut = ((max(begin, base), min(end, base + DAY_MINUTES)) for begin, end in spans)
        bars = tuple((begin - base, end - begin) for begin, end in cut if begin < end)
        days.append(Day(name, ", ".join(texts[day]), bars))
    return tuple(days)


def hours_of(days: Mapping[str, str]) -> str:
    """Return the preference of seven lines; the whole week is the empty text.

    Raises:
        InputError: a line is not understood, or no minute is left.
    """
    lines = [",".join(_spans(days.get(name, ""))) for name in DAYS]
    if not any(lines):
        raise InputError("Leave at least one hour; to stop for a while, pause the agent.")
    parts: list[str] = []
    for spans, group in groupby(range(len(DAYS)), key=lambda day: lines[day]):
        same = list(group)
        if spans:
            first, last = DAYS[same[0]], DAYS[same[-1]]
            parts.append(f"{first if first == last else f'{first}-{last}'} {spans}")
    text = "; ".join(parts)
    try:
        whole = parse_hours(text).spans == ((0, WEEK_MINUTES),)
    except ValueError as error:
        raise InputError("Write hours as 20:00-08:00, with commas between.") from error
    return "" if whole else text


def _pieces(begin: int, end: int) -> list[tuple[int, int]]:
    """Cut a span at midnights, unless it is one night that ends before its beginning's time."""
    midnight = (begin // DAY_MINUTES + 1) * DAY_MINUTES
    if end <= midnight or (end - begin < DAY_MINUTES and end % DAY_MINUTES):
        return [(begin, end)]
    return [(begin, midnight), *_pieces(midnight, end)]


def _clock(minute: int, day: int) -> str:
    left = minute - day * DAY_MINUTES
    left -= DAY_MINUTES if left > DAY_MINUTES else 0
    return f"{left // 60:02}:{left % 60:02}"


def _spans(line: str) -> list[str]:
    """Return a line's spans; short forms as `20-8` are completed."""
    found = line.replace("\N{EN DASH}", "-").replace(";", ",").replace(" ", "")
    return ["-".join(map(_full, span.split("-"))) for span in found.split(",") if span]


def _full(clock: str) -> str:
    hour, colon, minute = clock.partition(":")
    return f"{hour}:{minute if colon else '00'}"
