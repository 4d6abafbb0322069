"""All agents of the user's household on one page, asked by this PC's own agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pleb_agent.core.presets import PRESETS
from pleb_agent.lan.household import HouseholdAct
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from starlette.responses import Response

    from pleb_agent.control.household_control import HouseholdControl
    from pleb_agent.control.views import HouseholdView
    from pleb_agent.web.page_visit import Visit


async def show_household(visit: Visit) -> Response:
    """Show the page."""
    view = await _control(visit).view()
    return visit.page("household.html", view="household", **_values(view))


async def show_members(visit: Visit) -> Response:
    """Show the part that changes: the page asks for it again and again while it is open."""
    return visit.page("household_members.html", **_values(await _control(visit).view()))


async def act_on_all(visit: Visit) -> Response:
    """Pause or resume all members, or apply a preset to all."""
    form = await visit.form()
    act, preset = form.get("act", ""), form.get("preset", "")
    if act not in set(HouseholdAct):
        raise InputError("The form is not understood; reload the page.")
    view = await _control(visit).view(HouseholdAct(act), preset)
    return visit.page("household_part.html", **_values(view))


async def show_code(visit: Visit) -> Response:
    """Show a code by which one more PC joins."""
    return visit.page("household_part.html", **_values(await _control(visit).show_code()))


async def join(visit: Visit) -> Response:
    """Join by a code that another PC shows."""
    view = await _control(visit).join((await visit.form()).get("code", ""))
    return visit.page("household_part.html", **_values(view))


async def leave(visit: Visit) -> Response:
    """Leave the household."""
    return visit.page("household_part.html", **_values(await _control(visit).leave()))


def _values(view: HouseholdView) -> dict[str, Any]:
    return {"household": view, "presets": list(PRESETS.values())}


def _control(visit: Visit) -> HouseholdControl:
    found = visit.context.household
    if found is None:
        raise InputError("This agent has no household; restart it.")
    return found
