"""What the agent did and why, newest first; and its log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pleb_agent.web.page_terms import EVENTS, LEVELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.responses import Response

    from pleb_agent.control.views import EventView
    from pleb_agent.web.page_visit import Visit

__all__ = ["folded", "show_history", "show_log"]

_PAGE: Final = 100
_MOST_LINES: Final = 500
_UNIT: Final = "unit"
_KNOWN: Final = ("time", "level", "event")
_RANKS: Final = {"debug": 0, "info": 1, "warning": 2, "error": 3, "critical": 3}


async def show_history(visit: Visit) -> Response:
    """Show one page of it; `before` is the id of the last page's last event."""
    before = visit.query("before")
    known = before.isdecimal() and len(before) <= 15
    events = visit.reader.history(before=int(before) if known else None, count=_PAGE + 1).events
    return visit.page(
        "history.html",
        view="history",
        events=folded(events[:_PAGE]),
        older=events[_PAGE - 1].id if len(events) > _PAGE else None,
        newest=not known,
        kinds=EVENTS,
    )


async def show_log(visit: Visit) -> Response:
    """Show the log's last lines of at least one level."""
    level = visit.query("level") if visit.query("level") in LEVELS else "info"
    lines = visit.reader.log(_MOST_LINES).lines
    rows = [
        _row(line)
        for line in lines
        if _RANKS.get(str(line.get("level")), _RANKS["info"]) >= _RANKS[level]
    ]
    return visit.page("log.html", view="log", rows=rows[::-1], level=level, levels=LEVELS)


def folded(events: Sequence[EventView]) -> list[tuple[EventView, int]]:
    """Return events, each with how many like it of the project's other units came before."""
    folded: list[tuple[EventView, int]] = []
    for event in events:
        newer, count = folded[-1] if folded else (None, 0)
        if newer is not None and event.kind == _UNIT and _likeness(event) == _likeness(newer):
            folded[-1] = (newer, count + 1)
        else:
            folded.append((event, 0))
    return folded


def _likeness(event: EventView) -> tuple[str, str, str]:
    return event.kind, event.project, event.message.template


def _row(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line's time (None: it has none), level, event, and the rest as text."""
    at = line.get("time")
    return {
        "at": at if isinstance(at, int | float) else None,
        "level": str(line.get("level", "")),
        "event": str(line.get("event", "")),
        "rest": "  ".join(f"{key}={value}" for key, value in line.items() if key not in _KNOWN),
    }
