"""Looking up preferences by name: their words, their ranges, their values as people read them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_agent.core.descriptions import PREFERENCES, Info, Kind
from pleb_agent.core.preferences import Notifications, Preferences
from pleb_agent.core.sizes import format_bytes
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "USUAL_SHARE",
    "PreferenceError",
    "Range",
    "describe",
    "flat",
    "range_of",
    "show_value",
    "shown",
    "unknown",
]


USUAL_SHARE: Final = 100
"""Of a project that `shares` does not name."""


class PreferenceError(InputError):
    """A preference is not known, or cannot be that. `name`: as it was given."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class Range:
    """The least and the most, in the value's own unit; None: no bound of this kind."""

    least: float | None
    most: float | None
    whole: bool
    """Only whole numbers."""
    optional: bool
    """Whether nothing (null, `none`) may be set."""


@cache
def _by_name() -> Mapping[str, Info]:
    return {info.name: info for info in PREFERENCES}


def describe(name: str) -> Info:
    """Return what is known of a preference. `shares.words` is described by `shares`.

    Raises:
        PreferenceError: there is none of that name.
    """
    known = _by_name()
    info = known.get(name) or known.get(name.partition(".")[0])
    if info is None or (info.name != name and info.kind is not Kind.WEIGHTS):
        raise unknown(name)
    return info


def unknown(name: str) -> PreferenceError:
    """Return the refusal of a name, with the nearest one that there is."""
    near = difflib.get_close_matches(name, _by_name(), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "`pleb-agent prefs list` shows all."
    return PreferenceError(f"There is no preference {name!r}; {hint}", name)


@cache
def range_of(name: str) -> Range:
    """Return the bounds of a preference's value, as its type has them; of `shares`, a weight's.

    Raises:
        PreferenceError: there is none of that name.
    """
    info = describe(name)
    field, _, part = info.name.partition(".")
    kind = _field_types(Notifications)[part] if part else _field_types(Preferences)[field]
    if isinstance(kind, msgspec.inspect.DictType):
        kind = kind.value_type
    parts = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
    least = most = None
    for one in parts:
        if isinstance(one, msgspec.inspect.IntType | msgspec.inspect.FloatType):
            least, most = one.ge, one.le
    whole = any(isinstance(one, msgspec.inspect.IntType) for one in parts)
    optional = any(isinstance(one, msgspec.inspect.NoneType) for one in parts)
    return Range(least, most, whole, optional)


def _field_types(kind: type[msgspec.Struct]) -> dict[str, msgspec.inspect.Type]:
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)  # noqa: S101 - for the type checker
    return {field.name: field.type for field in info.fields}


def flat(preferences: Preferences) -> dict[str, Any]:
    """Return every value by its name in the table's order; each project's share by its own."""
    values = msgspec.to_builtins(preferences)
    rows: dict[str, Any] = {}
    for info in PREFERENCES:
        field, _, part = info.name.partition(".")
        if info.kind is Kind.WEIGHTS:
            rows |= {f"{field}.{name}": share for name, share in values[field].items()}
        else:
            rows[info.name] = values[field][part] if part else values[field]
    return rows


def show_value(preferences: Preferences, name: str) -> str:
    """Return a preference's value as a person reads and writes it, also of a part (`shares.x`).

    Raises:
        PreferenceError: there is none of that name.
    """
    info = describe(name)
    field, _, part = name.partition(".")
    value = msgspec.to_builtins(preferences)[field]
    if not part:
        return shown(name, value)
    return shown(name, value.get(part, USUAL_SHARE) if info.kind is Kind.WEIGHTS else value[part])


def shown(name: str, value: Any) -> str:
    """Return a value as text: `on`, `4 GB`, `60 %`, `steam, vlc`, `always`, `words=200`."""
    info = describe(name)
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{part}={one}" for part, one in value.items()) or "none"
    return _TEXTS[info.kind](info, value)


_TEXTS: Final[dict[Kind, Callable[[Info, Any], str]]] = {
    Kind.FLAG: lambda _, value: "on" if value else "off",
    Kind.NUMBER: lambda info, value: f"{value:g} {info.unit}".rstrip(),
    Kind.WEIGHTS: lambda _, value: str(value),
    Kind.BYTES: lambda _, value: format_bytes(value),
    Kind.RATE: lambda _, value: f"{format_bytes(value)}/s",
    Kind.HOURS: lambda _, value: value or "always",
    Kind.NAMES: lambda _, value: ", ".join(value) or "none",
    Kind.TEXT: lambda _, value: value,
}
