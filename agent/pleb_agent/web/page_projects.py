"""The attached projects: who they are, their shares, accounts, other PCs, leaving."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.control.requests import NewWorkRequest, OwnDataRequest, ProjectRequest
from pleb_agent.core.shares import USUAL_SHARE
from pleb_agent.web.page_preferences import change_preference
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from starlette.responses import Response

    from pleb_agent.control.status_reader import StatusReader
    from pleb_agent.control.views import StatusView
    from pleb_agent.web.page_visit import Visit

__all__ = ["project_values", "slug_of"]

_LONGEST_NAME: Final = 200
_LONGEST_PATH: Final = 4000


def project_values(reader: StatusReader, status: StatusView) -> dict[str, Any]:
    """Return what `project_cards.html` shows."""
    total = sum(project.share for project in status.projects) or USUAL_SHARE
    return {
        "status": status,
        "cards": [
            (
                slug_of(project.project),
                project,
                reader.facts(project.project),
                project.share / total,
            )
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
    name = form.get("project", "")[:_LONGEST_NAME]
    visit.reader.facts(name)  # raises for a project that is not attached
    # A number, never `none`, which would reset the share.
    share = form.get("share", "")[:_LONGEST_NAME]
    change_preference(visit, f"shares.{name}", share if share.isdecimal() else 0)
    return _cards(visit)


async def set_new_work(visit: Visit) -> Response:
    """Take no further units of a project, or of all, or take them again."""
    form = await visit.form()
    name = form.get("project", "")[:_LONGEST_NAME]
    request = NewWorkRequest(project=name, allow=form.get("allow") == "yes")
    visit.controller.set_new_work(request)
    return _cards(visit)


async def set_data(visit: Visit) -> Response:
    """Choose the folder with the user's own data for a project, or forget it."""
    form = await visit.form()
    name = form.get("project", "")[:_LONGEST_NAME]
    folder = form.get("folder", "").strip()[:_LONGEST_PATH]
    forget = form.get("forget") == "yes"
    if not forget and not folder:
        raise InputError("Give the whole path of the folder with your data.")
    await visit.controller.choose_data(
        OwnDataRequest(project=name, folder="" if forget else folder, forget=forget)
    )
    return _cards(visit)


async def link(visit: Visit) -> Response:
    """Show the text that adds another PC to the account."""
    name = (await visit.form()).get("project", "")[:_LONGEST_NAME]
    view = visit.controller.account_link(ProjectRequest(project=name))
    return visit.page("project_link.html", link_view=view, slug=slug_of(name))


async def detach(visit: Visit) -> Response:
    """Leave a project."""
    name = (await visit.form()).get("project", "")[:_LONGEST_NAME]
    await visit.controller.detach(ProjectRequest(project=name))
    return _cards(visit)


def _cards(visit: Visit) -> Response:
    values = project_values(visit.reader, visit.reader.status())
    return visit.page("project_cards.html", **values)


def slug_of(name: str) -> str:
    """Return the project's name as a part of element ids, whatever characters it has."""
    return sha256(name.encode()).hexdigest()[:10]
