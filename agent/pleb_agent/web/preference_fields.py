"""The preferences' table (`core.descriptions`) as controls of a page, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.core.descriptions import PREFERENCES, Group, Info, Kind
from pleb_agent.core.preference_info import Range, describe, flat, range_of
from pleb_agent.web.page_rendering import line
from pleb_agent.web.translation import LANGUAGES, marked
from pleb_agent.web.week_hours import Day, days_of
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.web.translation import Words
    from pleb_agent.web.views import MachineView, PreferencesView

__all__ = ["GROUPS", "Field", "field_id", "field_of", "fields_of", "value_of"]

GROUPS: Final[dict[Group, str]] = {
    Group.WHEN: marked("When it works"),
    Group.HOW_MUCH: marked("How much it takes"),
    Group.NETWORK: marked("Network"),
    Group.NOTIFICATIONS: marked("Notifications and language"),
}
"""Shares of projects are set on the projects' page."""

_SCALES: Final[dict[Kind, tuple[str, int]]] = {
    Kind.BYTES: ("GB", 2**30),
    Kind.RATE: ("KB/s", 2**10),
}
_SMALL: Final = frozenset({"download_bytes_per_day", "upload_bytes_per_day"})
_OF_GPUS: Final = frozenset(
    {"use_gpu", "gpu_others_percent", "gpu_percent_in_use", "gpu_percent_idle"}
)
"""Shown where there is one."""
_LONGEST: Final = 4000


@dataclass(frozen=True)
class Field:
    """One control. `value`: what its input holds; `fact`: what the machine says beside it."""

    name: str
    id: str
    info: Info
    control: str
    """switch, slider, number, text, names, hours or language."""
    value: str
    unit: str
    least: str
    most: str
    optional: bool
    fact: str
    days: tuple[Day, ...] = ()
    languages: tuple[tuple[str, str], ...] = ()


def field_id(name: str) -> str:
    """Return a preference's name as an element's id."""
    return "pref-" + name.replace(".", "-").replace("_", "-")


def fields_of(view: PreferencesView, words: Words) -> dict[Group, list[Field]]:
    """Return all controls, by group."""
    return {
        group: [
            field_of(info.name, view, words)
            for info in PREFERENCES
            if info.group is group and (view.machine.gpus or info.name not in _OF_GPUS)
        ]
        for group in GROUPS
    }


def field_of(name: str, view: PreferencesView, words: Words) -> Field:
    """Return one control.

    Raises:
        PreferenceError: there is none of that name.
    """
    info, bounds = describe(name), range_of(name)
    value = flat(view.values)[name]
    unit, size = _scale(info)
    most = _most(info, bounds.most, view.machine)
    fact = _FACTS.get(name)
    return Field(
        name=name,
        id=field_id(name),
        info=info,
        control=_control(info, optional=bounds.optional),
        value=_written(info, value, size),
        unit=unit,
        least="" if bounds.least is None else _plain(bounds.least / size),
        most="" if most is None else _plain(most / size),
        optional=bounds.optional,
        fact=fact(view.machine, words) if fact else "",
        days=days_of(str(value)) if info.kind is Kind.HOURS else (),
        languages=tuple(LANGUAGES.items()) if name == "language" else (),
    )


def value_of(name: str, text: str, words: Words) -> Any:
    """Return the value that a control's text means, in the preference's own unit.

    Raises:
        InputError: it is no such value; the sentence says which are.
    """
    info, bounds = describe(name), range_of(name)
    text = text.strip()[:_LONGEST]
    if info.kind is Kind.FLAG:
        return text == "on"
    if info.kind is Kind.NAMES:
        lines = text.replace("\n", ",").split(",")
        return list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if info.kind in {Kind.TEXT, Kind.HOURS}:
        return text
    if not text and bounds.optional:
        return None
    return _measure(info, bounds, text, words)


def _measure(info: Info, bounds: Range, text: str, words: Words) -> float:
    """Return a number in the preference's own unit, if it is within its bounds."""
    unit, size = _scale(info)
    least, most = bounds.least or 0.0, bounds.most or math.inf
    number = _number(text)
    split = bounds.whole and size == 1 and not number.is_integer()
    if split or not (math.isfinite(number) and least <= number * size <= most):
        first, last = (words.formats.number(end / size) for end in (least, most))
        raise InputError(
            words.text(
                "Please enter a number from {least} to {most} {unit}.",
                least=first,
                most=last,
                unit=unit,
            )
        )
    return round(number * size) if bounds.whole else number * size


def _number(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan


def _scale(info: Info) -> tuple[str, int]:
    if info.name in _SMALL:
        return "MB", 2**20
    return _SCALES.get(info.kind, (info.unit, 1))


def _control(info: Info, *, optional: bool) -> str:
    if info.name == "language":
        return "language"
    if info.kind is Kind.NUMBER and not optional and (info.unit == "%" or info.name == "threads"):
        return "slider"
    return {Kind.FLAG: "switch", Kind.HOURS: "hours", Kind.NAMES: "names", Kind.TEXT: "text"}.get(
        info.kind, "number"
    )


def _most(info: Info, most: float | None, machine: MachineView) -> float | None:
    """A slider of cores ends where the machine's cores do."""
    return machine.cores if info.name == "threads" else most


def _written(info: Info, value: Any, size: int) -> str:
    if value is None:
        return ""
    if info.kind is Kind.NAMES:
        return "\n".join(value)
    if info.kind is Kind.FLAG:
        return "on" if value else ""
    return _plain(value / size) if isinstance(value, int | float) else str(value)


def _plain(value: float) -> str:
    """As a number input wants it, in three decimals at most."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


# -- what the machine says beside a control ---------------------------------------------------


def _percent_now(pick: Callable[[MachineView], float | None]) -> Callable[..., str]:
    def fact(machine: MachineView, words: Words) -> str:
        value = pick(machine)
        return "" if value is None else words.text("now {percent} %", percent=round(value))

    return fact


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
        return words.text("this PC does not tell its temperature")
    return words.text("now {degrees} °C", degrees=round(machine.hottest_celsius))


def _memory(machine: MachineView, words: Words) -> str:
    return words.text("this PC has {size}", size=words.formats.size(machine.memory_bytes))


def _disk(machine: MachineView, words: Words) -> str:
    return words.text("{size} are free", size=words.formats.size(machine.free_disk_bytes))


def _cores(machine: MachineView, words: Words) -> str:
    return words.several("of {count} core", "of {count} cores", machine.cores)


def _gpus(machine: MachineView, _: Words) -> str:
    return line(", ".join(machine.gpus))


def _metered(machine: MachineView, words: Words) -> str:
    if machine.metered is None:
        return ""
    return words.text("now metered") if machine.metered else words.text("now not metered")


_FACTS: Final[dict[str, Callable[[MachineView, Words], str]]] = {
    "idle_minutes": _idle,
    "battery_percent": _battery,
    "cpu_others_percent": _percent_now(lambda machine: machine.cpu_others_percent),
    "hottest_celsius": _heat,
    "threads": _cores,
    "use_gpu": _gpus,
    "memory_bytes_in_use": _memory,
    "memory_bytes_idle": _memory,
    "cache_bytes": _disk,
    "keep_free_bytes": _disk,
    "on_metered": _metered,
}
