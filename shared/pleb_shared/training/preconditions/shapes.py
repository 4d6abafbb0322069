"""Rules of what changes a shape."""

from __future__ import annotations

from typing import Final

from pleb_shared.training.preconditions.rule import LARGEST, Arguments, Rule, shape_of

__all__ = ["PADDING", "SLICE", "UNFOLD"]


def _padding(arguments: Arguments) -> str:
    """Pairs (before, after) pad the last dimensions; reflection takes less than there is."""
    data, pad, mode = arguments["self"], arguments["pad"], arguments.get("mode", "constant")
    count = len(pad) // 2
    if len(pad) % 2 or count > data.dim():
        return f"pad {list(pad)} does not fit {shape_of(data)}"
    pairs = [(pad[2 * i], pad[2 * i + 1], int(data.shape[-1 - i])) for i in range(count)]
    if any(
        before + size + after < 0 or min(before, after) < -size for before, after, size in pairs
    ):
        return f"pad {list(pad)} takes away more than {shape_of(data)} has"
    if mode == "constant":
        return ""
    if mode not in {"reflect", "replicate", "circular"} or data.dim() not in {count + 1, count + 2}:
        return f"{mode!r} cannot pad {shape_of(data)} by {list(pad)}"
    least = {"reflect": 1, "replicate": -LARGEST, "circular": 0}[mode]
    for before, after, size in pairs:
        if size < 1 or before + size + after < 1 or max(before, after) > size - least:
            return f"{mode!r} cannot pad {shape_of(data)} by {list(pad)}"
    return ""


PADDING: Final[tuple[Rule, ...]] = (_padding,)


def _slice(arguments: Arguments) -> str:
    return "" if arguments["step"] > 0 else f"step is {arguments['step']}"


SLICE: Final[tuple[Rule, ...]] = (_slice,)


def _unfold(arguments: Arguments) -> str:
    data, dim = arguments["self"], arguments["dimension"]
    if not -data.dim() <= dim < data.dim() or arguments["step"] < 1:
        return f"dimension {dim} with step {arguments['step']} does not fit {shape_of(data)}"
    if not 1 <= arguments["size"] <= data.shape[dim]:
        return f"windows of {arguments['size']} do not fit {shape_of(data)}"
    return ""


UNFOLD: Final[tuple[Rule, ...]] = (_unfold,)
