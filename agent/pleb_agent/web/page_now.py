"""What the PC does now, why, and what comes next; and the buttons that change it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_agent.control.requests import (
    BoostRequest,
    FinishRequest,
    PauseRequest,
    ResumeRequest,
    RuntimeRequest,
    StopRequest,
)
from pleb_agent.translation.words import marked
from pleb_agent.web.page_history import metric_name
from pleb_agent.web.page_projects import slug_of
from pleb_agent.web.page_rendering import sparkline
from pleb_shared.errors import InputError, PlebError

if TYPE_CHECKING:
    from starlette.responses import Response

    from pleb_agent.control.status_reader import StatusReader
    from pleb_agent.control.views import StatusView
    from pleb_agent.loop.status import CurrentUnit
    from pleb_agent.web.page_visit import Visit

__all__ = ["KINDS", "STATES", "Pace", "now_values", "pace_of"]

KINDS: Final[dict[str, str]] = {
    "train": marked("Training a unit"),
    "evaluate": marked("Measuring the model"),
    "calibrate": marked("Getting to know this PC"),
}
STATES: Final[dict[str, str]] = {
    "received": marked("waits for its turn"),
    "computed": marked("is computed and will be reported"),
    "reported": marked("was reported"),
    "uploading": marked("is being sent"),
}
SNOOZES: Final[tuple[tuple[str, str], ...]] = (
    ("1800", marked("30 min")),
    ("3600", marked("1 h")),
    ("10800", marked("3 h")),
    ("tomorrow", marked("until tomorrow")),
)
_CHANGES: Final = frozenset({"run", "pause", "stop", "start"})
"""Events with which the agent began to do what it does now."""
_RECENT: Final = 20


def now_values(reader: StatusReader, status: StatusView) -> dict[str, Any]:
    """Return what the parts of the page show."""
    unit = status.unit
    recent = reader.history(before=None, count=_RECENT).events
    return {
        "status": status,
        "since": next((event.at for event in recent if event.kind in _CHANGES), None),
        "today": reader.contribution(1).days[-1:],
        "titles": {project.project: project.title for project in status.projects},
        "waiting": [row for row in status.open if not unit or row.assignment != unit.assignment],
        "troubled": [
            one for one in status.projects if one.problem and one.problem not in status.sentence
        ],
        "accepted": any(project.counters.get("verdicts_valid") for project in status.projects),
        "losses": sparkline(unit.losses) if unit else None,
        "pace": pace_of(unit, status.use.share_percent if status.use else 100) if unit else None,
        "slug": slug_of(unit.project) if unit else "",
        "kinds": KINDS,
        "states": STATES,
        "snoozes": SNOOZES,
    }


@dataclass(frozen=True)
class Pace:
    """How a unit goes on, if nothing changes. `left_seconds`: of its computing."""

    left_seconds: float
    units_per_hour: float


def pace_of(unit: CurrentUnit, share_percent: int) -> Pace | None:
    """Return a unit's pace; None: its steps have not shown it yet.

    `share_percent`: of the time that it may compute; the rest of the time passes too.
    """
    done, total = unit.steps_done, unit.steps_total
    if not done or not total or not unit.compute_seconds or not share_percent:
        return None
    step_seconds = unit.compute_seconds / done * 100 / share_percent
    return Pace((total - done) * step_seconds, 3600 / (total * step_seconds))


async def show_quality(visit: Visit) -> Response:
    """Show how good a project's model is; asks its coordinator at most once a minute."""
    try:
        curve = await visit.reader.curve(visit.query("project"))
    except PlebError:
        return visit.page("now_quality.html", name="", value=None, version=0)
    measured = [
        (version, value)
        for version, value in zip(curve.versions, curve.values, strict=True)
        if value is not None
    ]
    version, value = measured[-1] if measured else (0, None)
    return visit.page(
        "now_quality.html", name=metric_name(visit, curve.metric), value=value, version=version
    )


async def show_now(visit: Visit) -> Response:
    """Show the page; a new user sees the welcome first."""
    status = visit.reader.status()
    if status.first_run and not status.projects:
        return visit.go_to("/welcome")
    return visit.page("now.html", view="now", **now_values(visit.reader, status))


async def pause(visit: Visit) -> Response:
    """Pause: `for` is a number of seconds, `tomorrow`, or empty."""
    span = (await visit.form()).get("for", "")
    values = {"until_tomorrow": True} if span == "tomorrow" else {"seconds": span or None}
    try:
        request = msgspec.convert(values, PauseRequest, strict=False)
    except msgspec.ValidationError as error:
        raise InputError("Choose how long to pause.") from error
    return _controls(visit, visit.controller.pause(request))


async def boost(visit: Visit) -> Response:
    """Run now, even while the PC is in use."""
    return _controls(visit, visit.controller.boost(BoostRequest()))


async def resume(visit: Visit) -> Response:
    """End a pause or a boost."""
    return _controls(visit, visit.controller.resume(ResumeRequest()))


async def pause_device(visit: Visit) -> Response:
    """Pause one device, or end its pause: `device` is its name, `resume` is set or not."""
    form = await visit.form()
    names = [form.get("device", "")[:16]]
    if form.get("resume"):
        status = visit.controller.resume(ResumeRequest(devices=names))
    else:
        status = visit.controller.pause(PauseRequest(devices=names))
    return visit.page("now_devices.html", status=status)


async def finish(visit: Visit) -> Response:
    """Take no new work; pause when what is in hand is done."""
    return _controls(visit, visit.controller.finish(FinishRequest()))


async def try_now(visit: Visit) -> Response:
    """Ask the coordinators again now."""
    status = visit.controller.try_now()
    return visit.page("now_state.html", **now_values(visit.reader, status))


async def stop(visit: Visit) -> Response:
    """Finish the current unit, then stop the agent."""
    return _controls(visit, visit.controller.stop(StopRequest(finish=True)))


async def fetch_runtime(visit: Visit) -> Response:
    """Begin to download a torch runtime; the stream shows the progress."""
    kind = (await visit.form()).get("kind", "cpu")
    status = visit.controller.fetch_runtime(RuntimeRequest(kind=kind[:32]))
    return visit.page("now_offers.html", status=status)


async def install_update(visit: Visit) -> Response:
    """Install the newer release."""
    return visit.page("now_offers.html", status=await visit.controller.install_update())


def _controls(visit: Visit, status: StatusView) -> Response:
    return visit.page("now_controls.html", status=status, snoozes=SNOOZES)
