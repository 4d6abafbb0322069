"""Rules of random draws."""

from __future__ import annotations

import math
from typing import Final

import torch

from pleb_shared.training.preconditions.rule import (
    LARGEST,
    Arguments,
    Rule,
    check_counts,
    first_problem,
)

__all__ = ["MULTINOMIAL", "RANDOM", "RATE"]


def _random(arguments: Arguments) -> str:
    """Numbers of a known type, not too many, and in a range that is not empty."""
    like, low, high = arguments.get("x"), arguments.get("low", 0), arguments.get("high", 1)
    dtype = arguments.get("dtype") or (like.dtype if like is not None else None)
    if "high" not in arguments and "n" not in arguments:
        if dtype is not None and not dtype.is_floating_point:
            return f"it draws floating point numbers, not {dtype}"
    elif dtype is torch.bool or high <= low:
        return f"it draws whole numbers from {low} below {high}, in {dtype}"
    count = math.prod(arguments.get("size", [arguments.get("n", 1)]))
    return first_problem(
        check_counts(arguments), f"{count} numbers are too many" if count > LARGEST else ""
    )


RANDOM: Final[tuple[Rule, ...]] = (_random,)


def _rate(arguments: Arguments) -> str:
    rate = arguments["lambd"]
    return "" if 0 < rate < math.inf else f"the rate is {rate}, not above 0"


RATE: Final[tuple[Rule, ...]] = (_random, _rate)


def _multinomial(arguments: Arguments) -> str:
    """Weights [C] or [rows, C], and from 1 to C samples, or any number with replacement."""
    weights, count = arguments["x"], arguments["num_samples"]
    if not weights.dtype.is_floating_point or weights.dim() not in {1, 2}:
        return f"its weights must be floating point numbers [C] or [rows, C], not {weights.dtype}"
    categories = weights.shape[-1]
    if categories == 0 or count < 1 or (count > categories and not arguments["replacement"]):
        return f"it cannot take {count} of {categories} categories"
    rows = weights.numel() // categories
    return f"{rows * count} samples are too many" if rows * count > LARGEST else ""


MULTINOMIAL: Final[tuple[Rule, ...]] = (_multinomial,)
