"""The reference of all fields, in Markdown, from the same rules that the reader checks by."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, Final

from pleb_project.definition.load import sections
from pleb_project.definition.rules import REQUIRED, rule_of

__all__ = ["reference"]

_TYPES: Final = {"str": "text", "int": "whole number", "float": "number", "bool": "true / false"}


def reference() -> str:
    """Return a table for every section; `docs/project-file.md` contains them word by word."""
    return "\n".join(_table(name, kind) for name, kind in sections().items())


def _table(name: str, kind: type) -> str:
    hints = typing.get_type_hints(kind)
    rows = [
        f"| `{f.name}` | {_type(hints[f.name])} | {_default(f)} | {_text(f)} |"
        for f in dataclasses.fields(kind)
    ]
    purpose = (kind.__doc__ or "").strip()
    head = ["| key | type | default | meaning |", "|---|---|---|---|"]
    return "\n".join([f"### [{name}]", "", purpose, "", *head, *rows, ""])


def _type(hint: Any) -> str:
    text = str(hint) if not isinstance(hint, type) else hint.__name__
    if text.startswith("tuple"):
        return "text or list"
    if text.startswith("dict"):
        return "table"
    return _TYPES[text.split(" | ")[0]]


def _default(field: dataclasses.Field[Any]) -> str:
    rule = rule_of(field)
    if rule.default_text:
        return rule.default_text
    if field.default_factory is not REQUIRED:
        return "`{}`"
    if field.default is REQUIRED:
        return "**required**"
    return f"`{_toml(field.default)}`"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"


def _text(field: dataclasses.Field[Any]) -> str:
    rule = rule_of(field)
    bounds = [
        f"{word} {number:.10g}"
        for word, number in (("over", rule.above), ("from", rule.least), ("to", rule.most))
        if number is not None
    ]
    choices = [f"one of {', '.join(f'`{c}`' for c in rule.choices)}"] if rule.choices else []
    return "; ".join([rule.text, *choices, *([" ".join(bounds)] if bounds else [])])
