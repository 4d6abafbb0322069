"""The first run: a link, who is behind it, how much may be taken, and the first unit.

Each step has its address, so that reloading and going back work; agentd knows what was done.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pleb_agent.control.requests import AttachRequest, BoostRequest
from pleb_agent.web.page_now import KINDS
from pleb_agent.web.page_preferences import preset_values
from pleb_agent.web.page_rendering import line, sparkline
from pleb_shared.errors import InputError, PlebError

if TYPE_CHECKING:
    from starlette.responses import Response

    from pleb_agent.control.status_reader import StatusReader
    from pleb_agent.control.views import StatusView
    from pleb_agent.web.page_visit import Visit

__all__ = ["Stage", "first_unit_values", "stage_of"]

_LONGEST_LINK = 4000
_LONGEST_NAME = 64


class Stage(StrEnum):
    """How far the first unit is."""

    NO_PROJECT = "no_project"
    RUNTIME = "runtime"
    """PyTorch has to be downloaded first."""
    READY = "ready"
    ASKED = "asked"
    """The user said "now"; no unit has come yet."""
    FETCHING = "fetching"
    MEASURING = "measuring"
    """The calibration unit, by which the coordinator knows the PC."""
    TRAINING = "training"
    SENDING = "sending"
    WAITING = "waiting"
    """For a second PC to confirm."""
    ACCEPTED = "accepted"


_SENDING = frozenset({"computed", "reported", "uploading"})


def stage_of(status: StatusView) -> Stage:
    """Return how far the first unit of any project is; the most advanced one counts."""
    if any(project.counters.get("verdicts_valid", 0) > 0 for project in status.projects):
        return Stage.ACCEPTED
    if not status.projects:
        return Stage.NO_PROJECT
    runtime = status.runtime
    if runtime is not None and runtime.kind == "cpu" and runtime.state != "installed":
        return Stage.RUNTIME  # that of a GPU is optional
    if status.unit is not None:
        return Stage.MEASURING if status.unit.kind == "calibrate" else Stage.TRAINING
    if any(project.waits_for_confirmation for project in status.projects):
        return Stage.WAITING
    if status.open:
        sending = any(row.state in _SENDING for row in status.open)
        return Stage.SENDING if sending else Stage.FETCHING
    return Stage.ASKED if status.override.kind == "boost" else Stage.READY


async def show_welcome(visit: Visit) -> Response:
    """Show what this is, and ask for a link; with one in the address, show its project at once."""
    link = visit.query("link")[:_LONGEST_LINK]
    if link and not visit.query("change") and not _is_secret(link):
        return visit.go_to(f"/welcome/project?link={quote(link, safe='')}")
    return visit.page("welcome.html", view="welcome", link=link, sentence="")


async def look(visit: Visit) -> Response:
    """Show a link's project. One that joins an account is a secret: it is put in no address."""
    link = (await visit.form()).get("link", "").strip()[:_LONGEST_LINK]
    if _is_secret(link):
        return await _facts(visit, link, wrong="welcome_link.html")
    return visit.go_to(f"/welcome/project?link={quote(link, safe='')}" if link else "/welcome")


async def show_project(visit: Visit) -> Response:
    """Show the page that loads `show_facts`: asking the coordinator may take a while."""
    link = visit.query("link").strip()[:_LONGEST_LINK]
    if not link:
        return visit.go_to("/welcome")
    return visit.page("welcome_project.html", view="welcome", link=link)


async def show_facts(visit: Visit) -> Response:
    """Show whose project a link is; or why that is not known, with the link to correct."""
    return await _facts(visit, visit.query("link").strip()[:_LONGEST_LINK])


async def _facts(visit: Visit, link: str, wrong: str = "welcome_wrong.html") -> Response:
    try:
        facts = await visit.reader.preview(link)
    except PlebError as error:
        sentence = line(visit.words.text(str(error)))
        return visit.page(wrong, link=link, sentence=sentence)
    machine = visit.reader.preferences().machine
    shown = "" if _is_secret(link) else link
    return visit.page("welcome_facts.html", facts=facts, link=link, shown=shown, machine=machine)


def _is_secret(link: str) -> bool:
    return "account=" in link


async def attach(visit: Visit) -> Response:
    """Attach the project, then show the limits."""
    form = await visit.form()
    name = form.get("name", "").strip()
    if len(name) > _LONGEST_NAME:
        raise InputError("The name is too long: 64 letters at most.")
    request = AttachRequest(
        link=form.get("link", "").strip()[:_LONGEST_LINK],
        invite=form.get("invite", "").strip()[:_LONGEST_LINK] or None,
        name=name,
    )
    await visit.controller.attach(request)
    first = visit.reader.status().first_run
    return visit.go_to("/welcome/limits" if first else "/projects")


async def show_limits(visit: Visit) -> Response:
    """Show the presets and the start with the session."""
    autostart = visit.controller.autostart.view()
    values = preset_values(visit.reader.preferences())
    return visit.page("welcome_limits.html", view="welcome", autostart=autostart, **values)


async def show_first_unit(visit: Visit) -> Response:
    """Show how far the first unit is; the stream keeps it up to date."""
    status = visit.reader.status()
    if not status.projects:
        return visit.go_to("/welcome")
    values = first_unit_values(visit.reader, status)
    return visit.page("welcome_unit.html", view="first-unit", **values)


async def train_now(visit: Visit) -> Response:
    """Run now: the first unit arrives with the coordinator's next answer."""
    status = visit.controller.boost(BoostRequest())
    return visit.page("first_unit.html", **first_unit_values(visit.reader, status))


async def finish(visit: Visit) -> Response:
    """End the welcome."""
    visit.controller.close_welcome()
    return visit.go_to("/")


def first_unit_values(reader: StatusReader, status: StatusView) -> dict[str, Any]:
    """Return what `first_unit.html` shows; of several projects, the newest at that stage."""
    stage = stage_of(status)
    chosen = status.projects
    if stage is Stage.ACCEPTED:
        chosen = [found for found in chosen if found.counters.get("verdicts_valid", 0) > 0]
    project = max(chosen, key=lambda found: found.attached_at, default=None)
    facts = reader.facts(project.project) if project is not None else None
    return {
        "status": status,
        "stage": stage.value,
        "project": project,
        "minutes": facts.expectation.unit_minutes if facts is not None else None,
        "losses": sparkline(status.unit.losses) if status.unit is not None else None,
        "kinds": KINDS,
    }
