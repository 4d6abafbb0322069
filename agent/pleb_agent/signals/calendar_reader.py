"""A process of its own that reads a calendar file and prints when its events are.

    python -m pleb_agent.signals.calendar_reader FILE BEGIN END [WORD]

prints the spans as JSON, seconds since 1970. Repeated events are worked out by
`recurring_ical_events`; a file from the internet may make that take for ever, or much memory, which
a process of its own costs agentd neither.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any, Final

__all__ = ["main", "spans_in"]

_MOST_BYTES: Final = 16 * 2**20
_MOST_MEMORY: Final = 512 * 2**20


def spans_in(data: bytes, begin: float, end: float, word: str) -> list[tuple[float, float]]:
    """Return the events that overlap a time, merged and in order.

    With a word those whose title has it, whatever they show as; else those that show as busy.
    Whole days begin at this PC's midnight.

    Raises:
        ValueError: it is no calendar.
    """
    import icalendar
    import recurring_ical_events

    calendar = icalendar.Calendar.from_ical(data)
    first, last = (dt.datetime.fromtimestamp(at, dt.UTC) for at in (begin, end))
    found = [
        (_seconds(event["DTSTART"].dt), _seconds(event["DTEND"].dt))
        for event in recurring_ical_events.of(calendar).between(first, last)
        if _counts(event, word)
    ]
    merged: list[tuple[float, float]] = []
    for start, stop in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        elif stop > start:
            merged.append((start, stop))
    return merged


def _counts(event: Any, word: str) -> bool:
    if str(event.get("STATUS", "")).upper() == "CANCELLED":
        return False
    if word:
        return word.casefold() in str(event.get("SUMMARY", "")).casefold()
    return str(event.get("TRANSP", "OPAQUE")).upper() != "TRANSPARENT"


def _seconds(moment: dt.date | dt.datetime) -> float:
    if not isinstance(moment, dt.datetime):
        moment = dt.datetime.combine(moment, dt.time())
    return moment.timestamp()  # without a zone it is this PC's


def main(argv: list[str]) -> int:
    """Print the spans."""
    name, begin, end, *word = argv
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    with Path(name).open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        return _refuse("the file is larger than 16 MB")
    try:
        spans = spans_in(data, float(begin), float(end), " ".join(word))
    except Exception as error:  # noqa: BLE001 - a stranger's file may break the library anywhere
        return _refuse(f"it is no calendar ({type(error).__name__})")
    sys.stdout.write(json.dumps(spans))
    return 0


def _refuse(why: str) -> int:
    sys.stderr.write(why + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
