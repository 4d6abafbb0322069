"""What this PC has contributed and how the projects improved; what the agent did."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_agent.control.requests import ForgetHabitsRequest
from pleb_agent.core.history import OUTCOMES
from pleb_agent.journal.history_list import HistoryFilter
from pleb_agent.translation.words import marked
from pleb_agent.web.page_rendering import line
from pleb_shared.protocol.shown import shown_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from pleb_agent.control.views import EventView
    from pleb_agent.translation.formats import Formats
    from pleb_agent.translation.words import Words
    from pleb_agent.web.page_visit import Visit

__all__ = ["EVENTS", "folded_text", "metric_name"]

_SPANS: Final = (30, 90, 365)
_KINDS: Final[dict[str, tuple[str, str, Callable[[Formats, float], str]]]] = {
    "units": (marked("Units"), "accepted", lambda f, value: f.amount(value)),
    "samples": (marked("Samples"), "samples", lambda f, value: f.amount(value)),
    "credit": (marked("Credit"), "credit_flops", lambda f, value: f.credit(value)),
    "energy": (marked("Energy"), "energy_kwh", lambda f, value: f.energy(value)),
}
"""Label, field of a day, and how its values are written."""
_METRICS: Final[dict[str, str]] = {"accuracy": marked("accuracy"), "loss": marked("loss")}
"""Projects may have others, which are shown with spaces for underscores."""
EVENTS: Final[dict[str, str]] = {
    "run": marked("Working"),
    "pause": marked("Paused"),
    "stop": marked("Stopped"),
    "unit": marked("Unit"),
    "first_accepted": marked("First unit"),
    "attach": marked("Joined"),
    "detach": marked("Left"),
    "problem": marked("Problem"),
    "offline": marked("Offline"),
    "preferences": marked("Preferences"),
    "update": marked("Update"),
    "start": marked("Started"),
    "end": marked("Ended"),
}
_WORK: Final = "work"
_SHOWN: Final[dict[str, tuple[str, tuple[str, ...], frozenset[str]]]] = {
    "": (marked("Everything"), (), frozenset()),
    "units": (marked("Units"), ("unit", "first_accepted"), frozenset()),
    "refused": (marked("Refused"), ("unit",), frozenset({"refused"})),
    _WORK: (marked("Work and pauses"), ("run", "pause", "stop", "start", "end"), frozenset()),
    "problems": (marked("Problems"), ("problem", "offline"), frozenset()),
    "changes": (
        marked("Changes"),
        ("attach", "detach", "preferences", "update"),
        frozenset(),
    ),
}
"""What the history can be limited to: label, kinds of events, outcomes of units."""
_HISTORY_DAYS: Final = (1, 7, 30)
_FOLDED: Final[dict[str, Callable[[Words, int, str], str]]] = {
    "accepted": lambda words, count, project: words.plural(
        "{count} unit of {project} was accepted.",
        "{count} units of {project} were accepted.",
        count,
        project=project,
    ),
    "refused": lambda words, count, project: words.plural(
        "{count} unit of {project} was refused.",
        "{count} units of {project} were refused.",
        count,
        project=project,
    ),
    "late": lambda words, count, project: words.plural(
        "{count} unit of {project} was late.",
        "{count} units of {project} were late.",
        count,
        project=project,
    ),
    "given_back": lambda words, count, project: words.plural(
        "{count} unit of {project} was given back.",
        "{count} units of {project} were given back.",
        count,
        project=project,
    ),
    "uncounted": lambda words, count, project: words.plural(
        "{count} unit of {project} did not count.",
        "{count} units of {project} did not count.",
        count,
        project=project,
    ),
}
"""What several units of a day that ended alike are called."""
_PAGE: Final = 100


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
        "dates": [formats.short_day(date.fromisoformat(day).timetuple()) for day, _ in rows],
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
            (shown, day, written)
            for shown, day, written in zip(
                chart["dates"], given.days, chart["written"], strict=True
            )
            if day.units or day.accepted or day.compute_seconds
        ],
    )


async def show_curve(visit: Visit) -> Response:
    """Show how one project improved, with the versions marked that contain this PC's work."""
    curve = await visit.reader.curve(visit.query("project"))
    metric = metric_name(visit, curve.metric)
    points = list(zip(curve.versions, curve.made_at, curve.values, strict=True))
    since_joined = [point for point in points if point[1] >= curve.attached_at]
    measured = [value for _, _, value in since_joined if value is not None]
    ours = frozenset(curve.ours)
    chart = {
        "kind": "curve",
        "label": metric,
        "oursLabel": visit.words.text("with your work"),
        "versionLabel": visit.words.text("version"),
        "versions": curve.versions,
        "values": curve.values,
        "ours": [value if version in ours else None for version, _, value in points],
        "joined": since_joined[0][0] if since_joined else None,
        "joinedLabel": visit.words.text("you joined"),
    }
    return visit.page(
        "curve.html",
        curve=curve,
        metric=metric,
        chart=_json(chart),
        first=measured[0] if measured else None,
        last=measured[-1] if measured else None,
    )


def metric_name(visit: Visit, metric: str) -> str:
    """Return what a metric is called in the reader's language."""
    named = _METRICS.get(metric, shown_line(metric.replace("_", " ")))
    return visit.words.text(named)


def _json(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()


async def forget_habits(visit: Visit) -> Response:
    """Learn habits only from what happens from now on."""
    habits = visit.controller.forget_habits(ForgetHabitsRequest())
    return visit.page("habits.html", habits=habits)


async def show_history(visit: Visit) -> Response:
    """Show one page of it; `before` is the id of the last page's last event."""
    before = visit.query("before")
    known = before.isdecimal() and len(before) <= 15
    chosen = visit.query("show") if visit.query("show") in _SHOWN else ""
    days = next((span for span in _HISTORY_DAYS if visit.query("days") == str(span)), 0)
    names = [one.project for one in visit.reader.status().projects]
    project = visit.query("project") if visit.query("project") in names else ""
    _, kinds, outcomes = _SHOWN[chosen]
    wanted = HistoryFilter(
        kinds=kinds,
        templates=[template for template, outcome in OUTCOMES.items() if outcome in outcomes],
        project=project,
        since=visit.context.clock() - 86_400 * days if days else 0.0,
    )
    page = visit.reader.folded_history(wanted, before=int(before) if known else None, count=_PAGE)
    return visit.page(
        "history.html",
        view="history",
        events=page.events,
        older=page.older,
        newest=not known,
        kinds=EVENTS,
        shown={name: entry[0] for name, entry in _SHOWN.items()},
        chosen=chosen,
        spans=_HISTORY_DAYS,
        days=days,
        projects=visit.reader.status().projects,
        project=project,
        folded=lambda event: folded_text(visit.words, event),
        habits=visit.reader.habits() if chosen == _WORK else None,
    )


def folded_text(words: Words, event: EventView) -> str:
    """Return what an event says that stands for several units of a day; empty: for itself."""
    if event.count < 2 or event.outcome not in _FOLDED:
        return ""
    return _FOLDED[event.outcome](words, event.count, line(event.project))
