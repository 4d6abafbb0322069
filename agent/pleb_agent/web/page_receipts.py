"""Receipts: what accepted units took, day by day; a year of them as a picture to share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from pleb_agent.control.journal_reader import message_of
from pleb_agent.control.receipt_reader import MOST_DAYS, receipts_csv
from pleb_agent.core.milestones import milestones
from pleb_agent.translation.words import marked
from pleb_agent.web.page_rendering import line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_agent.control.views import ReceiptDayView, ReceiptsView
    from pleb_agent.web.page_visit import Visit

__all__ = ["day_squares", "how_measured"]

_SPANS: Final = (7, 30, 365)
_ALL: Final = 0.999
"""From this share on energy counts as measured; sums of floats are not exact."""
_SQUARE: Final = 14
"""Distance of the picture's squares, one for each day."""
_LEVELS: Final = ("#e4e7ec", "#b9d7f7", "#7fb4ee", "#3f86d6", "#1d5aa6")
"""Colours of a day: no unit, then by quarters of the busiest day."""


@dataclass(frozen=True)
class Square:
    """A day in the picture."""

    x: int
    y: int
    colour: str


async def show_receipts(visit: Visit) -> Response:
    """Show days and sums."""
    span = next((days for days in _SPANS if visit.query("days") == str(days)), _SPANS[1])
    view = visit.reader.receipts(span)
    return visit.page(
        "receipts.html",
        view="given",
        receipts=view,
        span=span,
        spans=_SPANS,
        how=how_measured,
        year=_this_year(visit),
    )


async def save_receipts(visit: Visit) -> Response:
    """Return every receipt as a table for other programs."""
    view = visit.reader.receipts(MOST_DAYS, each=True)
    return Response(
        receipts_csv(view.receipts),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="pleb-receipts.csv"'},
    )


async def draw_year(visit: Visit) -> Response:
    """Return a year as a picture: the sums, and a square for each day."""
    year = _year_of(visit)
    view = visit.reader.receipts(MOST_DAYS, each=True)
    units: dict[str, int] = {}
    for one in view.days:
        if one.day.startswith(f"{year}-"):
            units[one.day] = units.get(one.day, 0) + one.units
    mine = [one for one in view.receipts if one.day.startswith(f"{year}-")]
    proven = {(one.project, one.epoch, one.version) for one in mine if one.proof == "in"}
    html = visit.html(
        "year.svg",
        year=year,
        squares=day_squares(year, units),
        units=len(mine),
        seconds=sum(one.compute_seconds for one in mine),
        energy=sum(one.kwh for one in mine),
        projects=[line(name) for name in sorted({one.project for one in mine})],
        reached=[message_of(one) for one in milestones(len(mine), len(units), len(proven))],
    )
    name = f"pleb-cluster-{year}.svg"
    kept = {"Content-Disposition": f'attachment; filename="{name}"'} if visit.query("save") else {}
    return Response(html, media_type="image/svg+xml", headers=kept)


def how_measured(view: ReceiptsView | ReceiptDayView) -> str:
    """Return whether energy was measured: of receipts, or of one of their days."""
    if view.measured_kwh >= _ALL * view.kwh and view.kwh:
        return marked("measured")
    return marked("partly measured") if view.measured_kwh else marked("estimated")


def day_squares(year: int, units: Mapping[str, int]) -> list[Square]:
    """Return a square for each day of a year, a column for each week from Monday on.

    `units`: accepted ones by day (YYYY-MM-DD).
    """
    first, most = date(year, 1, 1), max(units.values(), default=0)
    days = (date(year + 1, 1, 1) - first).days
    found = []
    for number in range(days):
        day = first + timedelta(days=number)
        count = units.get(day.isoformat(), 0)
        level = -(-4 * count // most) if count else 0
        column = (number + first.weekday()) // 7
        found.append(Square(column * _SQUARE, day.weekday() * _SQUARE, _LEVELS[level]))
    return found


def _this_year(visit: Visit) -> int:
    return visit.context.local_time(visit.context.clock()).tm_year


def _year_of(visit: Visit) -> int:
    text, newest = visit.query("year"), _this_year(visit)
    known = text.isascii() and text.isdecimal() and len(text) == 4
    return min(max(int(text), 2000), newest) if known else newest
