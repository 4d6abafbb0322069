"""Looking up preferences by name: their words, their ranges, their values as people read them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from pleb_agent.core.preference_table import TABLE, Info, Kind
from pleb_agent.core.preferences import Notifications, Preferences
from pleb_agent.core.sizes import format_bytes
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Range", "describe", "flat", "range_of", "shown"]


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
    return {info.name: info for info in TABLE}


def describe(name: str) -> Info:
    """Return what is known of a preference. `shares.words` is described by `shares`.

    Raises:
        InputError: there is none of that name.
    """
    known = _by_name()
    info = known.get(name) or known.get(name.partition(".")[0])
    if info is None:
        raise InputError(f"There is no preference {name!r}; `pleb-agent prefs list` shows all.")
    return info


@cache
def range_of(name: str) -> Range:
    """Return the bounds of a preference's value, as its type has them; of `shares`, a weight's.

    Raises:
        InputError: there is none of that name.
    """
    info = describe(name)
    field, _, part = info.name.partition(".")
    kind = _field_types(Preferences)[field]
    if part:
        kind = _field_types(Notifications)[part]
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
    for info in TABLE:
        field, _, part = info.name.partition(".")
        if info.kind is Kind.WEIGHTS:
            rows |= {f"{field}.{name}": share for name, share in values[field].items()}
        else:
            rows[info.name] = values[field][part] if part else values[field]
    return rows


def shown(name: str, value: Any) -> str:
    """Return a value as a person reads and writes it: `on`, `4 GB`, `60 %`, `steam, vlc`."""
    info = describe(name)
    if value is None:
        return "none"
    match info.kind:
        case Kind.FLAG:
            return "on" if value else "off"
        case Kind.BYTES:
            return format_bytes(value)
        case Kind.RATE:
            return f"{format_bytes(value)}/s"
        case Kind.NUMBER:
            return f"{value:g} {info.unit}".rstrip()
        case Kind.NAMES:
            return ", ".join(value)
        case _:
            return str(value)
