"""What this PC has contributed, day by day, and how the projects improved meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_agent.translation.words import marked
from pleb_agent.web.page_terms import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from pleb_agent.control.views import CurveView
    from pleb_agent.translation.formats import Formats
    from pleb_agent.web.page_visit import Visit

__all__ = ["show_curve", "show_given"]

_SPANS: Final = (30, 90, 365)
_KINDS: Final[dict[str, tuple[str, str, Callable[[Formats, float], str]]]] = {
    "units": (marked("Units"), "accepted", lambda f, value: f.amount(value)),
    "samples": (marked("Samples"), "samples", lambda f, value: f.amount(value)),
    "credit": (marked("Credit"), "credit_flops", lambda f, value: f.credit(value)),
    "energy": (marked("Energy"), "energy_kwh", lambda f, value: f.energy(value)),
}
"""Label, field of a day, and how its values are written."""


async def show_given(visit: Visit) -> Response:
    """Show totals and days; curves are loaded by `show_curve`, which asks the coordinators."""
    kind = visit.query("show") if visit.query("show") in _KINDS else "units"
    span = next((days for days in _SPANS if visit.query("days") == str(days)), _SPANS[0])
    given = visit.reader.contribution(span)
    label, field, write = _KINDS[kind]
    rows = [(day.day, getattr(day, field)) for day in given.days]
    formats = visit.words.formats
    chart = {
        "kind": "bars",
        "label": visit.words.text(label),
        "dayLabel": visit.words.text("Day"),
        "days": [day for day, _ in rows],
        "values": [value for _, value in rows],
        "written": [write(formats, value) for _, value in rows],
        "dates": [_short_day(visit, day) for day, _ in rows],
        "top": write(formats, max((value for _, value in rows), default=0)),
    }
    return visit.page(
        "given.html",
        view="given",
        total=given.total,
        span=span,
        spans=_SPANS,
        kind=kind,
        kinds={name: entry[0] for name, entry in _KINDS.items()},
        chart=_json(chart),
        days=[
            (chart["dates"][number], day, write(formats, getattr(day, field)))
            for number, day in enumerate(given.days)
            if day.units or day.accepted or day.compute_seconds
        ],
    )


async def show_curve(visit: Visit) -> Response:
    """Show how one project improved, with the versions marked that contain this PC's work."""
    curve = await visit.reader.curve(visit.query("project"))
    metric = visit.words.text(METRICS.get(curve.metric, curve.metric.replace("_", " ")))
    since = [at >= curve.attached_at for at in curve.made_at]
    return visit.page(
        "curve.html",
        curve=curve,
        metric=metric,
        chart=_json(_curve_chart(visit, curve, metric)),
        first=_measured(curve, since, newest=False),
        last=_measured(curve, since, newest=True),
    )


def _curve_chart(visit: Visit, curve: CurveView, metric: str) -> dict[str, Any]:
    ours = frozenset(curve.ours)
    joined = next(
        (
            version
            for version, at in zip(curve.versions, curve.made_at, strict=True)
            if at >= curve.attached_at
        ),
        None,
    )
    pairs = zip(curve.versions, curve.values, strict=True)
    return {
        "kind": "curve",
        "label": metric,
        "oursLabel": visit.words.text("with your work"),
        "versionLabel": visit.words.text("version"),
        "versions": curve.versions,
        "values": curve.values,
        "ours": [value if version in ours else None for version, value in pairs],
        "joined": joined,
        "joinedLabel": visit.words.text("you joined"),
    }


def _measured(curve: CurveView, since: list[bool], *, newest: bool) -> float | None:
    """Return the first or the last value since this PC joined."""
    pairs = zip(curve.values, since, strict=True)
    values = [value for value, meanwhile in pairs if meanwhile and value is not None]
    return (values[-1] if newest else values[0]) if values else None


def _short_day(visit: Visit, day: str) -> str:
    year, month, number = (int(part) for part in day.split("-"))
    return visit.words.formats.calendar_day(year, month, number)


def _json(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
