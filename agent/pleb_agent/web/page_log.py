"""The log's last lines; the log and the report for a bug, to be saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from pleb_agent.translation.words import marked

if TYPE_CHECKING:
    from pleb_agent.web.page_visit import Visit

_LEVELS: Final[dict[str, str]] = {
    "debug": marked("Everything"),
    "info": marked("What happened"),
    "warning": marked("Warnings"),
    "error": marked("Errors"),
}
_MOST_LINES: Final = 500
_KNOWN: Final = ("time", "level", "event")
_RANKS: Final = {"debug": 0, "info": 1, "warning": 2, "error": 3, "critical": 3}


async def show_log(visit: Visit) -> Response:
    """Show the log's last lines of at least one level."""
    level = visit.query("level") if visit.query("level") in _LEVELS else "info"
    rows = [
        {
            "at": line["time"] if isinstance(line.get("time"), int | float) else None,
            "level": str(line.get("level", "")),
            "event": str(line.get("event", "")),
            "rest": "  ".join(f"{key}={value}" for key, value in line.items() if key not in _KNOWN),
        }
        for line in reversed(visit.reader.log(_MOST_LINES).lines)
        if _RANKS.get(str(line.get("level")), _RANKS["info"]) >= _RANKS[level]
    ]
    return visit.page("log.html", view="log", rows=rows, level=level, levels=_LEVELS)


async def save_log(visit: Visit) -> Response:
    """Return the end of the log as a file, without secrets."""
    return _file(visit.controller.reports.log(), "application/x-ndjson", "pleb-agent-log.jsonl")


async def save_report(visit: Visit) -> Response:
    """Return the report for a bug as a file."""
    return _file(
        await visit.controller.reports.report(), "application/zip", "pleb-agent-report.zip"
    )


def _file(content: str | bytes, kind: str, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=kind, headers=headers)
