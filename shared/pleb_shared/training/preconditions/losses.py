"""Rules of losses."""

from __future__ import annotations

from typing import Final

import torch

from pleb_shared.training.preconditions.rule import (
    Arguments,
    Rule,
    check_floats,
    shape_of,
    wrong_shape,
)

__all__ = ["CLASSES", "LABEL_MARGIN", "LOSS", "MARGIN"]


def _loss(arguments: Arguments) -> str:
    """Both of one shape or to be broadcast; a known reduction."""
    if arguments["reduction"] not in {0, 1, 2}:
        return f"reduction is {arguments['reduction']}"
    names = ("self", "target", "weight", "pos_weight")
    shapes = [shape_of(t) for name in names if (t := arguments.get(name)) is not None]
    try:
        torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    except RuntimeError:
        return f"the shapes {shapes} do not fit together"
    return ""


LOSS: Final[tuple[Rule, ...]] = (check_floats, _loss)


def _classes(arguments: Arguments) -> str:
    """Scores [C] or [B, C, ..]; classes [] or [B, ..] in int64, or probabilities like the scores.

    The weight is [C]. Classes outside of 0 .. C - 1 are refused by the kernel when it runs.
    """
    scores, target = arguments["self"], arguments["target"]
    if arguments["reduction"] not in {0, 1, 2} or not scores.dtype.is_floating_point:
        return "its scores must be floating point numbers, with a known reduction"
    shape = shape_of(scores)
    if not shape or min(shape) < 1:
        return f"its scores have the shape {shape}"
    place = 1 if len(shape) > 1 else 0
    if target.dtype.is_floating_point:
        if "label_smoothing" not in arguments or target.dtype != scores.dtype:
            return f"target is {target.dtype}, not int64"
        wrong = wrong_shape(arguments, "target", shape)
    elif target.dtype != torch.int64:
        return f"target is {target.dtype}, not int64"
    else:
        wrong = wrong_shape(arguments, "target", shape[:place] + shape[place + 1 :])
    if not 0 <= arguments.get("label_smoothing", 0) <= 1:
        wrong = wrong or f"label_smoothing is {arguments['label_smoothing']}"
    weight = arguments["weight"]
    if weight is not None and weight.dtype != scores.dtype:
        wrong = wrong or f"weight is {weight.dtype}"
    return wrong or wrong_shape(arguments, "weight", [shape[place]])


CLASSES: Final[tuple[Rule, ...]] = (_classes,)


def _margin(arguments: Arguments) -> str:
    """Scores [B, C] or [C], classes [B] or [] in int64, weight [C]; p is 1 or 2."""
    scores, target = arguments["self"], arguments["target"]
    if arguments["reduction"] not in {0, 1, 2} or arguments["p"] not in {1, 2}:
        return f"reduction is {arguments['reduction']}, p {arguments['p']}"
    if scores.dim() not in {1, 2} or min(shape_of(scores)) < 1 or target.dtype != torch.int64:
        return f"scores {shape_of(scores)} and int64 classes are needed"
    wrong = wrong_shape(arguments, "target", shape_of(scores)[:-1])
    weight = arguments["weight"]
    if weight is not None and weight.dtype != scores.dtype:
        return f"weight is {weight.dtype}"
    return wrong or wrong_shape(arguments, "weight", shape_of(scores)[-1:])


MARGIN: Final[tuple[Rule, ...]] = (_margin,)


def _label_margin(arguments: Arguments) -> str:
    """Scores [B, C], and classes of the same shape in int64."""
    scores, target = arguments["self"], arguments["target"]
    if arguments["reduction"] not in {0, 1, 2} or not scores.dtype.is_floating_point:
        return f"reduction is {arguments['reduction']}"
    if scores.dim() != 2 or min(shape_of(scores)) < 1 or target.dtype != torch.int64:
        return f"scores {shape_of(scores)} and int64 classes are needed"
    return wrong_shape(arguments, "target", shape_of(scores))


LABEL_MARGIN: Final[tuple[Rule, ...]] = (_label_margin,)
