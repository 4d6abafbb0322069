"""The reference of all keys, in Markdown, from the declarations that the reader checks by."""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from msgspec import inspect

from pleb_project.definition.keys import NO_DEFAULT, Key, bounds, keys_of, type_words
from pleb_project.definition.sections import OPTIMIZERS, SECTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["reference"]

_TYPES: Final[dict[type, str]] = {
    inspect.StrType: "text",
    inspect.LiteralType: "text",
    inspect.UnionType: "text",
    inspect.IntType: "whole number",
    inspect.FloatType: "number",
    inspect.BoolType: "true / false",
    inspect.DictType: "table",
    inspect.VarTupleType: "text or list",
    inspect.ListType: "text or list",
}


def reference() -> str:
    """Return a table for every section; `docs/project-file.md` contains them word for word."""
    lines: list[str] = []
    for name, struct in SECTIONS.items():
        purpose = (struct.__doc__ or "").partition("\n")[0]
        lines += [f"### [{name}]", "", purpose, ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        lines += [_row(key, key.text, _default(key)) for key in keys_of(struct).values()]
        lines += [*(_option_rows() if name == "training" else []), ""]
    return "\n".join(lines)


def _option_rows() -> list[str]:
    """Return the options of all optimizers, each once, with those that have it."""
    owners: dict[str, dict[str, Key]] = defaultdict(dict)
    for optimizer, struct in OPTIMIZERS.items():
        for key in keys_of(struct).values():
            owners[key.name][optimizer] = key
    rows = []
    for keys in owners.values():
        key = next(iter(keys.values()))
        defaults = {optimizer: _default(own) for optimizer, own in keys.items()}
        default = _default(key)
        if len(set(defaults.values())) > 1:
            default = ", ".join(f"{optimizer} {text}" for optimizer, text in defaults.items())
        rows.append(_row(key, f"{', '.join(f'`{o}`' for o in keys)}: {key.text}", default))
    return rows


def _row(key: Key, text: str, default: str) -> str:
    values: Iterable[Any] = OPTIMIZERS if isinstance(key.kind, inspect.UnionType) else ()
    if isinstance(key.kind, inspect.LiteralType):
        values = key.kind.values
    choices = ", ".join(f"`{value}`" for value in values)
    meaning = "; ".join(
        part for part in (text, choices and f"one of {choices}", bounds(key.kind)) if part
    )
    words = _TYPES[type(key.kind)]
    if type_words(key.kind) == "a list of whole numbers":
        words = "list of whole numbers"
    if isinstance(key.kind, inspect.LiteralType) and isinstance(key.kind.values[0], int):
        words = "whole number"
    return f"| `{key.name}` | {words} | {default} | {meaning} |"


def _default(key: Key) -> str:
    if key.default_text:
        return key.default_text
    return "**required**" if key.default is NO_DEFAULT else f"`{_toml(key.default)}`"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, dict):
        return "{}"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"


if __name__ == "__main__":  # for docs/project-file.md, below "Sections"
    sys.stdout.write(reference())
