"""The attached projects: who they are, their shares, accounts, other PCs, leaving."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.control.requests import AccountLinkRequest, DetachRequest, PreferencesRequest
from pleb_agent.core.shares import USUAL_SHARE
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from starlette.responses import Response

    from pleb_agent.control.status_reader import StatusReader
    from pleb_agent.control.views import StatusView
    from pleb_agent.web.page_visit import Visit

__all__ = ["project_values"]

_LONGEST_NAME: Final = 200
_MOST_SHARE: Final = 1000


def project_values(reader: StatusReader, status: StatusView) -> dict[str, Any]:
    """Return what `project_cards.html` shows."""
    total = sum(project.share for project in status.projects) or USUAL_SHARE
    return {
        "status": status,
        "cards": [
            (_slug(project.project), project, reader.facts(project.project), project.share / total)
            for project in status.projects
        ],
    }


async def show_projects(visit: Visit) -> Response:
    """Show all of them."""
    values = project_values(visit.reader, visit.reader.status())
    return visit.page("projects.html", view="projects", link="", sentence="", **values)


async def set_share(visit: Visit) -> Response:
    """Set a project's weight against the others'."""
    form = await visit.form()
    name, share = form.get("project", "")[:_LONGEST_NAME], form.get("share", "")
    if not share.isdecimal() or len(share) > 4 or not 0 < int(share) <= _MOST_SHARE:
        raise InputError("Choose a share from 1 to 1000.")
    visit.reader.facts(name)  # raises for a project that is not attached
    visit.controller.set_preferences(PreferencesRequest(changes={f"shares.{name}": int(share)}))
    return _cards(visit)


async def link(visit: Visit) -> Response:
    """Show the text that adds another PC to the account."""
    name = (await visit.form()).get("project", "")[:_LONGEST_NAME]
    view = visit.controller.account_link(AccountLinkRequest(project=name))
    return visit.page("project_link.html", link_view=view, slug=_slug(name))


async def detach(visit: Visit) -> Response:
    """Leave a project."""
    name = (await visit.form()).get("project", "")[:_LONGEST_NAME]
    await visit.controller.detach(DetachRequest(project=name))
    return _cards(visit)


def _cards(visit: Visit) -> Response:
    values = project_values(visit.reader, visit.reader.status())
    return visit.page("project_cards.html", **values)


def _slug(name: str) -> str:
    """Return the project's name as a part of element ids, whatever characters it has."""
    return sha256(name.encode()).hexdigest()[:10]
