"""Changing preferences by name: from the command line's texts and from the page's JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_agent.core.descriptions import Info, Kind
from pleb_agent.core.preference_info import (
    PreferenceError,
    describe,
    range_of,
    show_value,
    shown,
)
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.schedule import parse_hours
from pleb_agent.core.sizes import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["PreferenceError", "changed", "show_value"]

_FLAGS: Final = dict.fromkeys(("on", "yes", "true", "1"), True) | dict.fromkeys(
    ("off", "no", "false", "0"), False
)
_UNITS: Final = {"min": ("min", "m"), "%": ("%",), "°C": ("°c", "c"), "W": ("w",)}
_NOTIFICATIONS: Final = "notifications"
_NONE: Final = ("none", "null")


def changed(preferences: Preferences, changes: Mapping[str, Any]) -> Preferences:
    """Return the preferences with all changes, or raise and change none.

    A value is one of the preference's own type, or a text as a person types it: `4GB`, `on`,
    `none`, `500KB/s`. Parts are named with a dot: `notifications.problem`, `shares.words` (`none`
    there: the usual share). A list is given as a whole or by signs: `+steam`, `-steam, +vlc`.

    Raises:
        PreferenceError: an unknown name, or a value that cannot be; names what is allowed.
    """
    for name, value in changes.items():
        preferences = _changed(preferences, name, value)
    return preferences


def _changed(preferences: Preferences, name: str, value: Any) -> Preferences:
    values = msgspec.to_builtins(preferences)
    field, _, part = name.partition(".")
    info = describe(_first_part(name))
    try:
        if part:
            values[field] = _with_part(values[field], part, _meant(info, value, None))
        elif isinstance(values[field], dict):
            values[field] = _merged(field, values[field], value)
        else:
            values[field] = _meant(info, value, values[field])
        return msgspec.convert(values, Preferences)
    except (ValueError, TypeError, msgspec.ValidationError) as error:
        raise _refused(name, value, error) from error


def _first_part(name: str) -> str:
    """All notifications may be given at once too, by the group's name."""
    return "notifications.problem" if name == _NOTIFICATIONS else name


def _merged(field: str, old: dict[str, Any], new: Any) -> dict[str, Any]:
    """Shares are given all together; notifications that are not given stay."""
    if field != _NOTIFICATIONS and isinstance(new, str) and new.strip().lower() in _NONE:
        return {}
    if not isinstance(new, dict):
        raise TypeError(f"its parts are changed one by one, as {field}.NAME")
    return old | new if field == _NOTIFICATIONS else new


def _with_part(old: dict[str, Any], part: str, value: Any) -> dict[str, Any]:
    kept = {key: one for key, one in old.items() if key != part}
    return kept if value is None else {**old, part: value}


# -- texts that people type -----------------------------------------------------------------


def _meant(info: Info, value: Any, old: Any) -> Any:
    """Return the value that a text means; anything else is one already."""
    if isinstance(value, float):
        return _tidy(value)
    if not isinstance(value, str):
        return value
    if info.kind is Kind.NAMES:
        return _names(value, old)
    text = value.strip()
    if text.lower() in _NONE and (range_of(info.name).optional or info.kind is Kind.WEIGHTS):
        return None
    return _PARSERS[info.kind](info, text)


def _flag(_: Info, text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ValueError("that is neither on nor off")
    return _FLAGS[text.lower()]


def _number(info: Info, text: str) -> float:
    """Return a number that may carry its unit; a whole one is an int."""
    bare = text.lower()
    for unit in _UNITS.get(info.unit, ()):
        if bare.endswith(unit):
            bare = bare.removesuffix(unit).strip()
            break
    return _tidy(float(bare))


def _tidy(number: float) -> float:
    """Return a whole number as an int: a slider does not tell 2 from 2.0."""
    if not math.isfinite(number):
        raise ValueError("that is no number")
    return int(number) if number.is_integer() else number


def _bytes(_: Info, text: str) -> int:
    return parse_bytes(text)


def _rate(_: Info, text: str) -> int:
    return parse_bytes(text.lower().removesuffix("/s"))


def _hours(_: Info, text: str) -> str:
    hours = "" if text.lower() in {*_NONE, "always"} else text
    parse_hours(hours)
    return hours


def _text(_: Info, text: str) -> str:
    return text


def _names(text: str, old: list[str]) -> list[str]:
    """Return the names of a text: a new list, or the old one with signed changes."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if len(names) == 1 and names[0].lower() in _NONE:
        return []
    signs = {name[0] for name in names if name[0] in "+-"}
    kept = [] if names and not signs else [*old] if names else []
    for name in names:
        bare = name[1:].strip() if name[0] in "+-" else name
        if name[0] == "-":
            kept = [one for one in kept if one != bare]
        elif bare not in kept:
            kept.append(bare)
    return kept


_PARSERS: Final[dict[Kind, Callable[[Info, str], Any]]] = {
    Kind.FLAG: _flag,
    Kind.NUMBER: _number,
    Kind.WEIGHTS: _number,
    Kind.BYTES: _bytes,
    Kind.RATE: _rate,
    Kind.HOURS: _hours,
    Kind.TEXT: _text,
}


# -- refusals -------------------------------------------------------------------------------


def _refused(name: str, value: Any, error: Exception) -> PreferenceError:
    info = describe(_first_part(name))
    if info.kind is Kind.HOURS and isinstance(value, str):
        return PreferenceError(f"{name} cannot be that: {error}.", name)
    shorter = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}…"
    return PreferenceError(
        f"{name} cannot be {shorter}: it takes {_allowed(info)}; "
        f"an example is {_example(info, name)}.",
        name,
    )


def _example(info: Info, name: str) -> str:
    if "." in name or info.kind is not Kind.WEIGHTS:
        return f"{name if '.' in name else info.name}={info.example}"
    return f"{name}.words={info.example}"


def _allowed(info: Info) -> str:
    bounds = range_of(info.name)
    match info.kind:
        case Kind.FLAG:
            words = "on or off"
        case Kind.NAMES:
            words = "names of programs with commas between, or +NAME and -NAME"
        case Kind.TEXT:
            words = "a short text"
        case Kind.HOURS:
            words = "hours of the week"
        case _:
            least, most = (shown(info.name, bound) for bound in (bounds.least, bounds.most))
            whole = bounds.whole and info.kind in {Kind.NUMBER, Kind.WEIGHTS}
            words = f"{'whole numbers from ' if whole else ''}{least} to {most}"
    return f"{words}, or none ({info.none})" if bounds.optional else words
