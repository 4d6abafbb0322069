"""The keys of a section, read from the fields of its struct.

`msgspec.Meta` on a field has its bounds and description. `extra` may add `key` (the key's name,
where it is not the field's), `default` (what the file need not say although the struct must) and
`default_text` (what the documentation shows where a default is worked out).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import inspect

__all__ = ["NO_DEFAULT", "Key", "bounds", "keys_of", "type_words"]

NO_DEFAULT: Final = msgspec.NODEFAULT
_UNBOUNDED: Final = 2**53
"""The largest whole number that JSON carries safely: no bound that a person would meet."""


@dataclass(frozen=True)
class Key:
    """A key of a section, and the struct's field that takes its value."""

    name: str
    field: str
    type: Any
    """What `msgspec.convert` takes: the annotated type."""
    kind: inspect.Type
    """The same, taken apart."""
    text: str
    """Its description, half a sentence."""
    default: Any
    """`NO_DEFAULT`: the file must give it, unless there is a `default_text`."""
    default_text: str

    @property
    def required(self) -> bool:
        """Whether the file must give it."""
        return self.default is NO_DEFAULT and not self.default_text


def keys_of(struct: type[msgspec.Struct]) -> dict[str, Key]:
    """Return the keys that the fields of `struct` declare, by name, in their order."""
    info = inspect.type_info(struct)
    if not isinstance(info, inspect.StructType):
        message = f"{struct.__name__} is not a struct."
        raise TypeError(message)
    keys = {}
    for field, declared in zip(info.fields, msgspec.structs.fields(struct), strict=True):
        kind, text, extra = field.type, "", {}
        if isinstance(kind, inspect.Metadata):
            text = (kind.extra_json_schema or {}).get("description", "")
            extra = kind.extra or {}
            kind = kind.type
        default = declared.default
        if declared.default_factory is not NO_DEFAULT:
            default = declared.default_factory()
        name = extra.get("key", declared.name)
        keys[name] = Key(
            name=name,
            field=declared.name,
            type=declared.type,
            kind=kind,
            text=text,
            default=extra.get("default", default),
            default_text=extra.get("default_text", ""),
        )
    return keys


def type_words(kind: inspect.Type) -> str:
    """Return what a value must be, such as "a whole number from 1 to 10"."""
    match kind:
        case inspect.LiteralType(values=values):
            return f"one of {', '.join(map(repr, values))}"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number {bounds(kind)}".rstrip()
        case inspect.FloatType():
            return f"a finite number {bounds(kind)}".rstrip()
        case inspect.DictType():
            return "a table, such as { width = 16 }"
        case inspect.VarTupleType(item_type=item) if _is_number(item):
            return "a list of whole numbers"
        case inspect.VarTupleType() | inspect.ListType():
            return "a text in quotes, or a list of such texts"
        case _:
            return "a text in quotes"


def _is_number(kind: inspect.Type) -> bool:
    return isinstance(kind.type if isinstance(kind, inspect.Metadata) else kind, inspect.IntType)


def bounds(kind: inspect.Type) -> str:
    """Return the bounds of a number, such as "from 1 to 10" or "over 0", or the empty string."""
    if not isinstance(kind, inspect.IntType | inspect.FloatType):
        return ""
    most = None if kind.le is not None and kind.le >= _UNBOUNDED else kind.le
    pairs = (("over", kind.gt), ("from", kind.ge), ("to", most))
    return " ".join(f"{word} {number:.10g}" for word, number in pairs if number is not None)
