"""Every preference, saved as it is changed, with the presets on top."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pleb_agent.core.descriptions import Kind
from pleb_agent.core.preference_info import describe
from pleb_agent.core.presets import PRESETS
from pleb_agent.core.schedule import DAYS
from pleb_agent.web.control import AutostartWish, PreferencesWish, PresetWish
from pleb_agent.web.page_terms import DAY_NAMES
from pleb_agent.web.page_visit import words_of
from pleb_agent.web.preference_fields import GROUPS, field_of, fields_of, value_of
from pleb_agent.web.week_hours import hours_of
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from starlette.responses import Response

    from pleb_agent.web.page_visit import Visit
    from pleb_agent.web.views import PreferencesView

__all__ = ["PresetChoice", "preset_values"]


@dataclass(frozen=True)
class PresetChoice:
    """A preset with what it would set here."""

    name: str
    label: str
    help: str
    threads: int
    idle_minutes: float
    while_in_use: bool
    on_battery: bool


def preset_values(view: PreferencesView) -> dict[str, Any]:
    """Return what `presets.html` shows."""
    return {
        "presets": [_choice(name, view) for name in PRESETS],
        "chosen": view.preset,
        "cores": view.machine.cores,
    }


async def show_preferences(visit: Visit) -> Response:
    """Show all of them."""
    return visit.page("preferences.html", view="preferences", **_all_values(visit))


async def set_preference(visit: Visit) -> Response:
    """Set one preference; return its control as it is now, and the presets."""
    form = await visit.form()
    name = form.get("name", "")
    info = describe(name)
    text = _hours_text(form) if info.kind is Kind.HOURS else form.get("value", "")
    value = value_of(name, text, visit.words)
    view = await visit.control.set_preferences(PreferencesWish(changes={name: value}))
    if name == "language":
        return visit.go_to("/preferences")
    field = field_of(name, view, visit.words)
    values = preset_values(view) | {"day_names": DAY_NAMES}
    return visit.page("preference_saved.html", field=field, **values)


async def take_preset(visit: Visit) -> Response:
    """Take a preset; return the presets, and on the preferences' page all controls."""
    form = await visit.form()
    view = await visit.control.take_preset(PresetWish(name=form.get("preset", "")[:64]))
    if form.get("page") == "preferences":
        return visit.page("preferences_all.html", view="preferences", **_all_values(visit))
    return visit.page("presets.html", **preset_values(view))


async def set_autostart(visit: Visit) -> Response:
    """Start with the session, or not."""
    on = (await visit.form()).get("on") == "on"
    autostart = await visit.control.set_autostart(AutostartWish(on=on))
    return visit.page("autostart.html", autostart=autostart)


def _all_values(visit: Visit) -> dict[str, Any]:
    view = visit.control.preferences()
    return preset_values(view) | {
        "groups": [
            (GROUPS[group], fields)
            for group, fields in fields_of(view, words_of(visit.request, visit.parts)).items()
        ],
        "autostart": visit.control.autostart(),
        "day_names": DAY_NAMES,
    }


def _hours_text(form: dict[str, str]) -> str:
    if form.get("always"):
        return ""
    if not any(day in form for day in DAYS):
        raise InputError("The form is not understood; reload the page.")
    return hours_of(form)


def _choice(name: str, view: PreferencesView) -> PresetChoice:
    preset, values = PRESETS[name], view.presets[name]
    return PresetChoice(
        name=name,
        label=preset.label,
        help=preset.help,
        threads=values.threads,
        idle_minutes=values.idle_minutes,
        while_in_use=values.while_in_use,
        on_battery=values.on_battery,
    )
