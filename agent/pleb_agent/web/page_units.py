"""This PC's units: in hand, waiting for a verdict, accepted, refused, and what did not count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pleb_agent.control.requests import UnitRequest
from pleb_agent.core.unit_parts import UnitAct, UnitPart
from pleb_agent.translation.words import marked
from pleb_agent.web.page_now import KINDS, STATES
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from starlette.responses import Response

    from pleb_agent.control.views import StatusView
    from pleb_agent.web.page_visit import Visit

__all__ = ["units_values"]

_PARTS: Final[dict[str, str]] = {
    UnitPart.IN_HAND: marked("In hand"),
    UnitPart.WAITING: marked("Waiting"),
    UnitPart.ACCEPTED: marked("Accepted"),
    UnitPart.REFUSED: marked("Refused"),
    UnitPart.UNCOUNTED: marked("Not counted"),
}
_ABOUT: Final[dict[str, str]] = {
    UnitPart.IN_HAND: marked("Units that this PC is to compute or to deliver."),
    UnitPart.WAITING: marked(
        "Delivered. Another PC may compute them too; then it is known whether they count."
    ),
    UnitPart.ACCEPTED: marked("They are part of the model."),
    UnitPart.REFUSED: marked("Proven wrong, or not taken: see why."),
    UnitPart.UNCOUNTED: marked(
        "Late, handed back, set aside, or to get to know this PC: they count neither for nor "
        "against it."
    ),
}
_SOON_SECONDS: Final = 600.0


def units_values(visit: Visit, status: StatusView) -> dict[str, Any]:
    """Return what `units_list.html` shows of the part that the address names."""
    part = visit.query("part")
    part = part if part in _PARTS else UnitPart.IN_HAND.value
    before = visit.query("before")
    known = before.isdecimal() and len(before) <= 15
    page = visit.reader.units(part, int(before) if known else None)
    running = {one.unit.id for one in status.devices if one.unit is not None}
    if status.unit is not None:
        running.add(status.unit.id)
    return {
        "status": status,
        "page": page,
        "parts": _PARTS,
        "about": _ABOUT[part],
        "newest": not known,
        "running": running,
        "contacts": {one.project: one.contact for one in status.projects},
        "kinds": KINDS,
        "states": STATES,
        "soon": visit.context.clock() + _SOON_SECONDS,
    }


async def show_units(visit: Visit) -> Response:
    """Show one part of them."""
    values = units_values(visit, visit.reader.status())
    return visit.page("units.html", view="units", **values)


async def act_on_unit(visit: Visit) -> Response:
    """Pause a unit that is in hand, resume it, or hand it back."""
    form = await visit.form()
    number, act = form.get("id", ""), form.get("act", "")
    if not number.isdecimal() or len(number) > 15 or act not in set(UnitAct):
        raise InputError("The form is not understood; reload the page.")
    request = UnitRequest(id=int(number), act=UnitAct(act))
    status = await visit.controller.act_on_unit(request)
    return visit.page("units_list.html", **units_values(visit, status))
