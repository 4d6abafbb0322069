"""Every preference as a control of the page, saved as it is changed, with the presets on top."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.control.requests import AutostartRequest, PreferencesRequest, PresetRequest
from pleb_agent.core.languages import LANGUAGES
from pleb_agent.core.preference_table import (
    PREFERENCES,
    Kind,
    Preference,
    PreferenceError,
    all_values,
    find,
    show,
)
from pleb_agent.core.preferences import Group, default_preferences
from pleb_agent.core.presets import PRESETS
from pleb_agent.core.schedule import DAY_NAMES, DAYS
from pleb_agent.core.sizes import UNITS
from pleb_agent.web.page_rendering import line
from pleb_agent.web.page_rules import rules_values
from pleb_agent.web.page_visit import words_of
from pleb_agent.web.week_hours import Day, days_of, hours_of
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from pleb_agent.control.views import MachineView, PreferencesView
    from pleb_agent.translation.words import Words
    from pleb_agent.web.page_visit import Visit

__all__ = ["Control", "change_preference", "control_of", "preset_values", "value_of"]

_GROUPS: Final = tuple(group for group in Group if group is not Group.PROJECTS)
"""Shares of projects are set on the projects' page."""
_LONGEST: Final = 4000
_BY_DEVICE: Final = "device_shares"
"""A preference with a value for each device."""


async def show_preferences(visit: Visit) -> Response:
    """Show all of them."""
    values = _all_values(visit) | rules_values(visit)
    return visit.page("preferences.html", view="preferences", **values)


async def set_preference(visit: Visit) -> Response:
    """Set one preference; return its control as it is now, and the presets."""
    form = await visit.form()
    name = form.get("name", "")
    preference = _named(find(name), name)
    text = form.get("value", "")
    if preference.kind is Kind.HOURS:
        if not form.get("always") and not any(day in form for day in DAYS):
            raise InputError("The form is not understood; reload the page.")
        text = "" if form.get("always") else hours_of(form)
    view = change_preference(visit, preference.name, value_of(preference, text))
    if preference.name == "language":
        return visit.go_to("/preferences")
    return _saved(visit, preference, view)


async def reset(visit: Visit) -> Response:
    """Set one preference to its default; without a name all that this page shows."""
    name = (await visit.form()).get("name", "")
    view = visit.reader.preferences()
    if name:
        preference = _named(find(name), name)
        default = _defaults(view).get(preference.name)
        return _saved(visit, preference, change_preference(visit, preference.name, default))
    changes = {
        one: value
        for one, value in (_defaults(view) | _without_shares(view)).items()
        if one != "language" and all_values(view.values).get(one) != value
    }
    visit.controller.set_preferences(PreferencesRequest(changes=changes))
    return visit.page("preferences_all.html", view="preferences", **_all_values(visit))


def _saved(visit: Visit, preference: Preference, view: PreferencesView) -> Response:
    """Return the control of what was changed, and all else that follows from it."""
    followers = [
        control_of(one, view, visit.words)
        for one in PREFERENCES.values()
        if one.needs == preference.name and (view.machine.gpus or not one.needs_gpu)
    ]
    return visit.page(
        "preference_saved.html",
        field=control_of(preference, view, visit.words),
        followers=followers,
        day_names=DAY_NAMES,
        **preset_values(view),
    )


def _defaults(view: PreferencesView) -> dict[str, Any]:
    """Return what holds on this PC until the user says otherwise, by name."""
    return all_values(default_preferences(view.machine.cores, view.machine.fast_cores))


def _without_shares(view: PreferencesView) -> dict[str, Any]:
    """Return the devices' shares, none of which is set by default."""
    names = all_values(view.values)
    return {name: None for name in names if name.startswith(f"{_BY_DEVICE}.")}


async def take_preset(visit: Visit) -> Response:
    """Take a preset; return the presets, and on the preferences' page all controls."""
    form = await visit.form()
    view = visit.controller.apply_preset(PresetRequest(name=form.get("preset", "")[:64]))
    if form.get("page") == "preferences":
        return visit.page("preferences_all.html", view="preferences", **_all_values(visit))
    return visit.page("presets.html", **preset_values(view))


async def set_autostart(visit: Visit) -> Response:
    """Start with the session, or not."""
    on = (await visit.form()).get("on") == "on"
    autostart = visit.controller.set_autostart(AutostartRequest(on=on))
    return visit.page("autostart.html", autostart=autostart)


def change_preference(visit: Visit, name: str, value: Any) -> PreferencesView:
    """Change one preference.

    Raises:
        InputError: a number is refused; its bounds are given in the reader's language.
        PreferenceError: another value is refused.
    """
    try:
        return visit.controller.set_preferences(PreferencesRequest(changes={name: value}))
    except PreferenceError as error:
        preference, words = find(name), visit.words
        if preference.least is None or preference.most is None:
            raise
        size = _unit_size(preference)
        least, most = (
            words.formats.number(bound / size) for bound in (preference.least, preference.most)
        )
        sentence = words.text(
            "Please enter a number from {least} to {most} {unit}."
            if preference.unit
            else "Please enter a number from {least} to {most}.",
            least=least,
            most=most,
            unit=preference.unit,
        )
        raise InputError(sentence) from error


def preset_values(view: PreferencesView) -> dict[str, Any]:
    """Return what `presets.html` shows: each preset with the values it would set here."""
    return {
        "presets": [(preset, view.presets[name]) for name, preset in PRESETS.items()],
        "chosen": view.preset,
        "cores": view.machine.cores,
    }


def _all_values(visit: Visit) -> dict[str, Any]:
    view = visit.reader.preferences()
    words = words_of(visit.request, visit.context)  # a language that was just chosen
    shown = [one for one in PREFERENCES.values() if view.machine.gpus or not one.needs_gpu]
    return preset_values(view) | {
        "groups": [
            (
                group,
                [
                    control_of(each, view, words)
                    for one in shown
                    if one.group is group
                    for each in _each_of(one, view)
                ],
            )
            for group in _GROUPS
        ],
        "autostart": visit.controller.autostart.view(),
        "day_names": DAY_NAMES,
    }


def _each_of(preference: Preference, view: PreferencesView) -> list[Preference]:
    """Return the preference; one of devices for each of this PC's."""
    if preference.name != _BY_DEVICE:
        return [preference]
    return [_named(preference, f"{_BY_DEVICE}.{name}") for name in view.machine.devices]


def _named(preference: Preference, name: str) -> Preference:
    """Return the preference by the name of a part of it, such as one device's."""
    return replace(preference, name=name) if name.startswith(f"{_BY_DEVICE}.") else preference


@dataclass(frozen=True)
class Control:
    """One control. `value`: what its input holds; `fact`: what the machine reports about it."""

    preference: Preference
    id: str
    kind: str
    """switch, slider, number, text, names, hours or language."""
    value: str
    least: str
    most: str
    fact: str
    days: tuple[Day, ...] = ()
    languages: tuple[tuple[str, str], ...] = ()
    default: str | None = None
    """What a reset sets, of numbers as text, else empty; None: it is that already."""
    needs: str = ""
    """The title of the switch that is off, without which it has no effect."""


def control_of(preference: Preference, view: PreferencesView, words: Words) -> Control:
    """Return a preference's control; numbers are in the preference's unit (`GB`, `%`)."""
    name, kind = preference.name, preference.kind
    value, size = all_values(view.values).get(name), _unit_size(preference)
    device = name.removeprefix(f"{_BY_DEVICE}.")
    if device != name and value is None:
        value = preference.most  # all that the other shares give
    default = _defaults(view).get(name)
    is_changed = all_values(view.values).get(name) != default
    is_number = kind in {Kind.NUMBER, Kind.BYTES, Kind.RATE} and default is not None
    switch = preference.needs
    # A slider of cores ends at the machine's cores.
    most = view.machine.cores if name == "threads" else preference.most
    fact = _FACTS.get(name)
    return Control(
        preference=preference,
        id="pref-" + name.replace(".", "-").replace("_", "-"),
        kind=_control_kind(preference),
        value=_entry(value, size),
        least="" if preference.least is None else _plain(preference.least / size),
        most="" if most is None else _plain(most / size),
        fact=fact(view.machine, words) if fact else line(view.machine.devices.get(device, "")),
        days=days_of(str(value)) if kind is Kind.HOURS else (),
        languages=tuple(LANGUAGES.items()) if kind is Kind.LANGUAGE else (),
        default=(show(name, default) if is_number else "") if is_changed else None,
        needs=find(switch).title if switch and not all_values(view.values)[switch] else "",
    )


def value_of(preference: Preference, text: str) -> Any:
    """Return what a control's text means, as `preference_table.changed` takes it."""
    text = text.strip()[:_LONGEST]
    match preference.kind:
        case Kind.FLAG:
            return text == "on"
        case Kind.NAMES:
            lines = text.replace("\n", ",").split(",")
            return list(dict.fromkeys(name.strip() for name in lines if name.strip()))
        case Kind.LANGUAGE | Kind.PROXY | Kind.SIGNAL | Kind.HOURS:
            return text
        case Kind.NUMBER | Kind.BYTES | Kind.RATE | Kind.WEIGHTS:
            typed = f"{text.replace(',', '.')} {preference.unit}".strip()
            return typed if text or not preference.none else None


def _control_kind(preference: Preference) -> str:
    match preference.kind:
        case Kind.FLAG:
            return "switch"
        case Kind.HOURS | Kind.NAMES | Kind.LANGUAGE:
            return preference.kind.value
        case Kind.PROXY | Kind.SIGNAL:
            return "text"
        case Kind.NUMBER | Kind.BYTES | Kind.RATE | Kind.WEIGHTS:
            of_a_whole = preference.unit == "%" or preference.name == "threads"
            return "slider" if of_a_whole and not preference.none else "number"


def _unit_size(preference: Preference) -> int:
    return UNITS.get(preference.unit.removesuffix("/s"), 1)


def _entry(value: Any, size: int) -> str:
    """Return a value as its input holds it."""
    if isinstance(value, bool):
        return "on" if value else ""
    if isinstance(value, int | float):
        return _plain(value / size)
    return "\n".join(value) if isinstance(value, list) else value or ""


def _plain(value: float) -> str:
    """As a number input takes it, with at most three decimals."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _percent_now(machine: MachineView, words: Words) -> str:
    percent = machine.cpu_others_percent
    return "" if percent is None else words.text("now {percent} %", percent=round(percent))


def _battery(machine: MachineView, words: Words) -> str:
    if machine.battery_percent is None:
        return words.text("this PC has no battery")
    percent = round(machine.battery_percent)
    if machine.on_battery:
        return words.text("now on battery, {percent} %", percent=percent)
    return words.text("now plugged in, {percent} %", percent=percent)


def _idle(machine: MachineView, words: Words) -> str:
    if machine.idle_seconds is None:
        return line(words.text(machine.presence))
    return words.text("last input {span} ago", span=words.formats.span(machine.idle_seconds))


def _heat(machine: MachineView, words: Words) -> str:
    if machine.hottest_celsius is None:
        return words.text("this PC does not report its temperature")
    return words.text("now {degrees} °C", degrees=round(machine.hottest_celsius))


def _memory(machine: MachineView, words: Words) -> str:
    return words.text("this PC has {size}", size=words.formats.size(machine.memory_bytes))


def _disk(machine: MachineView, words: Words) -> str:
    return words.text("{size} are free", size=words.formats.size(machine.free_disk_bytes))


def _metered(machine: MachineView, words: Words) -> str:
    if machine.metered is None:
        return ""
    return words.text("now metered") if machine.metered else words.text("now not metered")


_FACTS: Final[dict[str, Callable[[MachineView, Words], str]]] = {
    "idle_minutes": _idle,
    "battery_percent": _battery,
    "cpu_others_percent": _percent_now,
    "hottest_celsius": _heat,
    "threads": lambda machine, words: words.plural(
        "of {count} core", "of {count} cores", machine.cores
    ),
    "use_gpu": lambda machine, _: line(", ".join(machine.gpus)),
    "memory_bytes_in_use": _memory,
    "memory_bytes_idle": _memory,
    "cache_bytes": _disk,
    "keep_free_bytes": _disk,
    "on_metered": _metered,
}
"""What the machine reports about a preference, shown next to its control."""
