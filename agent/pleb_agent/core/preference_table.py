"""The preferences as a table that is read from their declarations; values as people write them.

A value is one of the preference's own type, or a text as a person types it: `4GB`, `on`, `none`,
`500KB/s`. Parts are named with a dot: `notifications.problem`, `shares.words` (`none` there: the
default share). Bounds are checked in one place, by msgspec, as the declaration gives them.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import inspect

from pleb_agent.core.preferences import (
    HOURS,
    LANGUAGE,
    PROXY,
    SIGNAL,
    Group,
    Preferences,
    check_language,
    check_proxy,
    check_signal,
)
from pleb_agent.core.schedule import parse_hours
from pleb_agent.core.sentence import say
from pleb_agent.core.shares import USUAL_SHARE
from pleb_agent.core.sizes import UNITS, format_bytes, parse_bytes
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pleb_agent.core.sentence import Sentence

__all__ = [
    "PREFERENCES",
    "Kind",
    "Preference",
    "PreferenceError",
    "all_values",
    "changed",
    "changes_between",
    "example_of",
    "find",
    "show",
    "show_value",
]

_FLAGS: Final = dict.fromkeys(("on", "yes", "true", "1"), True) | dict.fromkeys(
    ("off", "no", "false", "0"), False
)
_TYPED_UNITS: Final = {
    "min": ("min", "m"),
    "%": ("%",),
    "°C": ("°c", "c"),
    "W": ("w",),
    "g": ("g",),
}
"""How people type the units of numbers."""
_NONE: Final = ("none", "null")
_USUAL: Final = {"shares": USUAL_SHARE, "device_shares": 100}
"""Preferences that are numbers by name: of projects, of devices; and what holds for the others."""
_PARTS: Final = {"shares": "words", "device_shares": "cuda-0"}
"""A name, for the examples."""
_NOTIFICATIONS: Final = "notifications"
_TOLD: Final = 4
"""Changes that one sentence tells; a preset makes more."""


class PreferenceError(InputError):
    """There is no such preference, or its value is refused. `name`: as it was given."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class Kind(StrEnum):
    """How a value is written, and which control edits it."""

    FLAG = "flag"
    NUMBER = "number"
    BYTES = "bytes"
    RATE = "rate"
    HOURS = "hours"
    NAMES = "names"
    WEIGHTS = "weights"
    LANGUAGE = "language"
    PROXY = "proxy"
    SIGNAL = "signal"


@dataclass(frozen=True)
class Preference:
    """One preference: its words, and the bounds of its value (of `shares`: of one weight)."""

    name: str
    kind: Kind
    group: Group
    title: str
    description: str
    unit: str
    none: str
    """What it means to set nothing (null, `none`); empty: that is not allowed."""
    example: str
    needs_gpu: bool
    needs: str
    """The switch without which it has no effect; empty: none."""
    least: float | None
    most: float | None
    whole: bool
    """Only whole numbers."""


def _read_struct(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[Preference]:
    """Yield the preferences that a struct declares, also those of structs inside it."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)  # noqa: S101 - for the type checker
    for field in info.fields:
        if isinstance(field.type, inspect.StructType):
            yield from _read_struct(field.type.cls, f"{field.name}.")
        elif isinstance(field.type, inspect.Metadata):
            yield _read_field(prefix + field.name, field.type, field.default)


def _read_field(name: str, declared: inspect.Metadata, default: Any) -> Preference:
    words, extra = declared.extra_json_schema or {}, declared.extra or {}
    value = declared.type.value_type if isinstance(declared.type, inspect.DictType) else None
    one_of = value or declared.type
    types = one_of.types if isinstance(one_of, inspect.UnionType) else (one_of,)
    numbers = [one for one in types if isinstance(one, inspect.IntType | inspect.FloatType)]
    kind = Kind.WEIGHTS if value else _kind_of(declared.type, extra["unit"])
    return Preference(
        name=name,
        kind=kind,
        group=extra["group"],
        title=words["title"],
        description=words["description"],
        unit=extra["unit"],
        none=extra["none"],
        example=extra["example"] or _written(kind, extra["unit"], default),
        needs_gpu=extra["gpu"],
        needs=extra["needs"],
        least=numbers[0].ge if numbers else None,
        most=numbers[0].le if numbers else None,
        whole=any(isinstance(one, inspect.IntType) for one in numbers),
    )


_TEXTS: Final = {HOURS: Kind.HOURS, LANGUAGE: Kind.LANGUAGE, PROXY: Kind.PROXY, SIGNAL: Kind.SIGNAL}
"""The kinds of texts by their unit; each has a check of its own."""


def _kind_of(declared: inspect.Type, unit: str) -> Kind:
    match declared:
        case inspect.BoolType():
            return Kind.FLAG
        case inspect.ListType():
            return Kind.NAMES
        case inspect.StrType():
            return _TEXTS[unit]
        case _ if unit in UNITS:
            return Kind.BYTES
        case _:
            return Kind.RATE if unit.endswith("/s") else Kind.NUMBER


def _written(kind: Kind, unit: str, value: Any) -> str:
    """Return a value as text: `on`, `4 GB`, `60 %`, `steam, vlc`, `always`, `words=200`."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{part}={one}" for part, one in value.items()) or "none"
    return _WRITERS[kind](value, unit)


_WRITERS: Final[dict[Kind, Callable[[Any, str], str]]] = {
    Kind.FLAG: lambda value, _: "on" if value else "off",
    Kind.NUMBER: lambda value, unit: f"{value:g} {unit}".rstrip(),
    Kind.WEIGHTS: lambda value, _: str(value),
    Kind.BYTES: lambda value, _: format_bytes(value),
    Kind.RATE: lambda value, _: f"{format_bytes(value)}/s",
    Kind.HOURS: lambda value, _: value or "always",
    Kind.NAMES: lambda value, _: ", ".join(value) or "none",
    Kind.LANGUAGE: lambda value, _: value,
    Kind.PROXY: lambda value, _: value,
    Kind.SIGNAL: lambda value, _: value,
}

PREFERENCES: Final[Mapping[str, Preference]] = {one.name: one for one in _read_struct(Preferences)}
"""Every preference but the version, by its name, in the order in which people see them."""


def find(name: str) -> Preference:
    """Return a preference. `shares.words` is found as `shares`.

    Raises:
        PreferenceError: there is none of that name; the nearest one is suggested.
    """
    found = PREFERENCES.get(name)
    field, dot, _ = name.partition(".")
    if found is None and dot and field in _USUAL:
        found = PREFERENCES[field]
    if found is None:
        near = difflib.get_close_matches(name, PREFERENCES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "`pleb-agent prefs list` shows all."
        raise PreferenceError(f"There is no preference {name!r}; {hint}", name)
    return found


def all_values(preferences: Preferences) -> dict[str, Any]:
    """Return every value by its name in the table's order; each named share by its own."""
    values = msgspec.to_builtins(preferences)
    rows: dict[str, Any] = {}
    for name in PREFERENCES:
        field, _, part = name.partition(".")
        if field in _USUAL:
            rows |= {f"{field}.{part}": share for part, share in values[field].items()}
        else:
            rows[name] = values[field][part] if part else values[field]
    return rows


def show_value(preferences: Preferences, name: str) -> str:
    """Return a preference's value as a person reads and writes it, also of a part (`shares.x`).

    Raises:
        PreferenceError: there is none of that name.
    """
    preference = find(name)
    field, _, part = name.partition(".")
    value = msgspec.to_builtins(preferences)[field]
    if part:
        value = value.get(part, _USUAL.get(field))
    return _written(preference.kind, preference.unit, value)


def show(name: str, value: Any) -> str:
    """Return a value of a preference as text.

    Raises:
        PreferenceError: there is none of that name.
    """
    preference = find(name)
    return _written(preference.kind, preference.unit, value)


def changes_between(before: Preferences, after: Preferences) -> Sentence | None:
    """Return what differs, as "you changed TITLE: OLD -> NEW"; None: nothing does."""
    old, new = all_values(before), all_values(after)
    parts = [
        say(
            "{title}: {old} → {new}",
            title=_titled(name),
            old=_shown(name, old),
            new=_shown(name, new),
        )
        for name in new | old
        if old.get(name) != new.get(name)
    ]
    if not parts:
        return None
    what = parts[0]
    for part in parts[1:_TOLD]:
        what = say("{first}; {second}", first=what, second=part)
    if len(parts) > _TOLD:
        return say("You changed {what}; and {count} more.", what=what, count=len(parts) - _TOLD)
    return say("You changed {what}.", what=what)


def _titled(name: str) -> Sentence:
    """Return a preference's title; of a part of one with the part's name."""
    title = say(find(name).title)
    field, _, part = name.partition(".")
    return say("{title} ({part})", title=title, part=part) if field in _USUAL else title


def _shown(name: str, values: Mapping[str, Any]) -> str:
    """Return a value as text; a share that is not set is the usual one."""
    value = values.get(name, _USUAL.get(name.partition(".")[0]))
    return show(name, value) or "-"


def changed(preferences: Preferences, changes: Mapping[str, Any]) -> Preferences:
    """Return the preferences with all changes, or raise and change none.

    A list is given as a whole or by signs: `+steam`, `-steam, +vlc`.

    Raises:
        PreferenceError: an unknown name, or a value that is refused; says what is allowed.
    """
    for name, value in changes.items():
        preferences = _with_change(preferences, name, value)
    return preferences


def _with_change(preferences: Preferences, name: str, value: Any) -> Preferences:
    values = msgspec.to_builtins(preferences)
    field, _, part = name.partition(".")
    # All notifications may also be given at once, as `notifications`.
    preference = find("notifications.problem" if name == _NOTIFICATIONS else name)
    old = values[field]
    try:
        if part:
            new = _value_of(preference, value, None)
            kept = {key: one for key, one in old.items() if key != part}
            values[field] = kept if new is None else {**old, part: new}
        elif isinstance(old, dict):
            values[field] = _merged(field, old, value)
        else:
            values[field] = _value_of(preference, value, old)
        return msgspec.convert(values, Preferences)
    except (ValueError, TypeError, msgspec.ValidationError) as error:
        raise _refused(preference, name, value, error) from error


def _merged(field: str, old: dict[str, Any], new: Any) -> dict[str, Any]:
    """Shares are given all together; notifications that are not given stay."""
    if field in _USUAL and isinstance(new, str) and new.strip().lower() in _NONE:
        return {}
    if not isinstance(new, dict):
        raise TypeError(f"its parts are changed one by one, as {field}.NAME")
    return old | new if field == _NOTIFICATIONS else new


def _value_of(preference: Preference, value: Any, old: Any) -> Any:
    """Return what a text means for a preference; anything else is a value already.

    Raises:
        ValueError: the text means nothing; bounds are not checked here.
    """
    if isinstance(value, float):
        return _tidy(value)
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.lower() in _NONE and (preference.none or preference.kind is Kind.WEIGHTS):
        return None
    if preference.kind is Kind.NAMES:
        return _names(value, old)
    return _READERS[preference.kind](text, preference.unit)


def _number(text: str, unit: str) -> float:
    typed = next((one for one in _TYPED_UNITS.get(unit, ()) if text.lower().endswith(one)), "")
    return _tidy(float(text[: len(text) - len(typed)]))


def _hours(text: str, _: str) -> str:
    hours = "" if text.lower() in {*_NONE, "always"} else text
    parse_hours(hours)  # msgspec would add words of its own to the error's sentence
    return hours


def _checked(check: Callable[[str], None]) -> Callable[[str, str], str]:
    """Return a reader that takes the text as it is, if it passes."""

    def read(text: str, _: str) -> str:
        check(text)
        return text

    return read


_READERS: Final[dict[Kind, Callable[[str, str], Any]]] = {
    Kind.FLAG: lambda text, _: _FLAGS.get(text.lower(), text),
    Kind.NUMBER: _number,
    Kind.WEIGHTS: _number,
    Kind.BYTES: lambda text, _: parse_bytes(text),
    Kind.RATE: lambda text, _: parse_bytes(text.lower().removesuffix("/s")),
    Kind.HOURS: _hours,
    Kind.LANGUAGE: _checked(check_language),
    Kind.PROXY: _checked(check_proxy),
    Kind.SIGNAL: _checked(check_signal),
}


def _tidy(number: float) -> float:
    """Return a whole number as an int: a slider sends 2.0 for 2."""
    if not math.isfinite(number):
        raise ValueError("that is no number")
    return int(number) if number.is_integer() else number


def _names(text: str, old: list[str]) -> list[str]:
    """Return the names of a text: a new list, or the old one with signed changes."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if len(names) == 1 and names[0].lower() in _NONE:
        return []
    signs = {name[0] for name in names if name[0] in "+-"}
    kept = [*old] if signs else []
    for name in names:
        bare = name[1:].strip() if name[0] in "+-" else name
        if name[0] == "-":
            kept = [one for one in kept if one != bare]
        elif bare not in kept:
            kept.append(bare)
    return kept


def example_of(preference: Preference) -> str:
    """Return `name=value` as a person may write it, with the name of a part if it has parts."""
    part = f".{_PARTS[preference.name]}" if preference.kind is Kind.WEIGHTS else ""
    return f"{preference.name}{part}={preference.example}"


def _refused(preference: Preference, name: str, value: Any, error: Exception) -> PreferenceError:
    if preference.kind in _TEXTS.values() and isinstance(value, str):
        return PreferenceError(f"{name} cannot be that: {error}.", name)
    shorter = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}…"
    example = f"{name}={preference.example}" if "." in name else example_of(preference)
    takes = _TAKES.get(preference.kind)
    if takes is None:
        bounds = (preference.least, preference.most)
        least, most = (_written(preference.kind, preference.unit, one) for one in bounds)
        counts = preference.whole and preference.kind in {Kind.NUMBER, Kind.WEIGHTS}
        takes = f"{'whole numbers from ' if counts else ''}{least} to {most}"
    if preference.none:
        takes += f", or none ({preference.none})"
    return PreferenceError(
        f"{name} cannot be {shorter}: it takes {takes}; an example is {example}.",
        name,
    )


_TAKES: Final[dict[Kind, str]] = {
    Kind.FLAG: "on or off",
    Kind.NAMES: "names of programs with commas between, or +NAME and -NAME",
    Kind.LANGUAGE: "a language's tag",
    Kind.PROXY: "an address",
    Kind.SIGNAL: "the name of a signal",
    Kind.HOURS: "hours of the week",
}
