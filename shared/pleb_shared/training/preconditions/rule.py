"""A rule, what rules have in common, and those that fit many operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch

from pleb_shared.protocol.limits import LIMITS

__all__ = [
    "COUNTS",
    "FLOATS",
    "LARGEST",
    "NOTHING",
    "Arguments",
    "Rule",
    "check_counts",
    "check_floats",
    "first_problem",
    "names_of",
    "shape_of",
    "whole_numbers",
    "wrong_shape",
]

Arguments = Mapping[str, Any]
"""Those of one call by their names in the operator's schema, defaults included."""
Rule = Callable[[Arguments], str]
"""Returns what is wrong, as the end of the sentence "Node 3 (aten.x) cannot run: ..."."""

LARGEST: Final = LIMITS.tensor_elements


def _nothing(_arguments: Arguments) -> str:
    return ""


NOTHING: Final[tuple[Rule, ...]] = (_nothing,)
"""The operator's own checks and its kernel agree: it goes through torch's iterator over elements,
whose shapes it computes itself, or makes a view, whose bounds torch checks for every tensor."""


def shape_of(tensor: torch.Tensor) -> list[int]:
    """Return its sizes as numbers."""
    return [int(size) for size in tensor.shape]


def wrong_shape(arguments: Arguments, name: str, wanted: list[int]) -> str:
    """Return what is wrong unless the argument `name` is None or has exactly this shape."""
    tensor = arguments[name]
    if tensor is None or shape_of(tensor) == wanted:
        return ""
    return f"{name} has the shape {shape_of(tensor)}, not {wanted}"


def first_problem(*problems: str) -> str:
    """Return the first that is one, or ""."""
    return next(filter(None, problems), "")


def check_floats(arguments: Arguments) -> str:
    """All tensors are floating point numbers of one type."""
    items = [i for a in arguments.values() for i in (a if isinstance(a, (list, tuple)) else [a])]
    types = {item.dtype for item in items if isinstance(item, torch.Tensor)}
    if len(types) > 1 or not all(dtype.is_floating_point for dtype in types):
        return f"its tensors must be floating point numbers of one type, not {names_of(types)}"
    return ""


def names_of(types: set[torch.dtype]) -> str:
    """Return them in words."""
    return ", ".join(sorted(map(str, types)))


FLOATS: Final[tuple[Rule, ...]] = (check_floats,)


def whole_numbers(arguments: Arguments, name: str) -> str:
    """Return what is wrong with an argument whose values are indices."""
    tensor = arguments[name]
    if tensor.dtype not in {torch.int64, torch.int32}:
        return f"{name} is {tensor.dtype}, not int64"
    return ""


def check_counts(arguments: Arguments) -> str:
    """Sizes, repeats and counts are not negative."""
    for name in ("size", "repeats", "steps", "n", "k", "output_size", "split_size", "chunks"):
        value = arguments.get(name)
        values = value if isinstance(value, (list, tuple)) else [value]
        if any(type(item) is int and item < 0 for item in values):
            return f"{name} is {value}: it must not be negative"
    return ""


COUNTS: Final[tuple[Rule, ...]] = (check_counts,)
