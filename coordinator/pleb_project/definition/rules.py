"""What a field of `project.toml` may hold: one rule beside each field, used three times.

The reader checks values by it, the sentence of an error is made from it, and so is the table
in `docs/project-file.md`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

__all__ = ["REQUIRED", "Rule", "rule_of", "setting"]

REQUIRED: Any = dataclasses.MISSING
"""Stands for the default of a field that must be given."""


@dataclass(frozen=True)
class Rule:
    """`text` describes the field in half a sentence; the rest bounds its value."""

    text: str
    least: float | None = None
    most: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    default_text: str = ""
    """What the documentation shows instead of the default, where that is worked out."""

    def complaint(self, value: object) -> str:
        """Return what is wrong with `value` ("must be ..."), or the empty string."""
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(map(repr, self.choices))}"
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return ""
        if not math.isfinite(value):
            return "must be a finite number"
        if self.above is not None and not value > self.above:
            return f"must be greater than {self.above:.10g}"
        if self.least is not None and not value >= self.least:
            return f"must be at least {self.least:.10g}"
        if self.most is not None and not value <= self.most:
            return f"must be at most {self.most:.10g}"
        return ""


def setting(
    default: Any,
    text: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
    default_text: str = "",
) -> Any:
    """Return a dataclass field with its rule; `REQUIRED` as default makes it obligatory."""
    rule = Rule(text, least, most, above, choices, default_text)
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata={"rule": rule})
    return dataclasses.field(default=default, metadata={"rule": rule})


def rule_of(field: dataclasses.Field[Any]) -> Rule:
    """Return the rule of a field made by `setting`."""
    rule = field.metadata["rule"]
    if not isinstance(rule, Rule):
        message = f"The field {field.name!r} was not made by `setting`."
        raise TypeError(message)
    return rule
