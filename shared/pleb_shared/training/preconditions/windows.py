"""Rules of what looks at windows of its input: convolutions, pooling, upsampling, folds."""

from __future__ import annotations

import math
from typing import Final

from pleb_shared.training.preconditions.rule import (
    LARGEST,
    Arguments,
    Rule,
    check_floats,
    first_problem,
    shape_of,
    wrong_shape,
)

__all__ = [
    "ADAPTIVE",
    "FOLD",
    "WINDOWS",
    "convolution",
    "grid_sampling",
    "pooling",
    "transposed_convolution",
    "upsampling",
]


def _spatial(arguments: Arguments, name: str, count: int, least: int) -> tuple[list[int], str]:
    """Return an argument with one number for each of `count` dimensions, and what is wrong."""
    value = arguments[name]
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if len(values) == 1:
        values *= count
    if len(values) != count or any(type(v) is not int or v < least for v in values):
        return values, f"{name} is {value}: it must have {count} numbers of at least {least}"
    return values, ""


def _convolved(arguments: Arguments, count: int, *, transposed: bool) -> str:
    """Check channels, groups and bias [out] for an input of C channels.

    The weight is [out, C / groups, *kernel], or [C, out / groups, *kernel] if transposed.
    """
    data, weight, groups = arguments["input"], arguments["weight"], arguments["groups"]
    if data.dim() not in {count + 1, count + 2} or weight.dim() != count + 2:
        return f"input and weight must have {count + 2} dimensions"
    if min(*shape_of(data), *shape_of(weight)) < 1 or groups < 1:
        return "nothing may be empty, and groups must be at least 1"
    first, second, channels = int(weight.shape[0]), int(weight.shape[1]), data.shape[-count - 1]
    if transposed:
        fits, outgoing = first == channels and first % groups == 0, second * groups
    else:
        fits, outgoing = second * groups == channels and first % groups == 0, first
    if not fits:
        return f"weight {shape_of(weight)} does not fit {channels} channels in {groups} groups"
    return wrong_shape(arguments, "bias", [outgoing])


def convolution(count: int) -> tuple[Rule, ...]:
    """Return the rules of a convolution over `count` dimensions.

    input [B, C, *sizes] or without B, weight [out, C / groups, *kernel], bias [out]; the kernel,
    spread by the dilation, must fit into the padded sizes.
    """

    def rule(arguments: Arguments) -> str:
        wrong = _convolved(arguments, count, transposed=False)
        wrong_stride = _spatial(arguments, "stride", count, 1)[1]
        dilation, wrong_dilation = _spatial(arguments, "dilation", count, 1)
        kernel = shape_of(arguments["weight"])[2:]
        padding, wrong_padding = [0] * count, ""
        if not isinstance(arguments["padding"], str):
            padding, wrong_padding = _spatial(arguments, "padding", count, 0)
        elif arguments["padding"] == "same":
            padding = [d * (k - 1) for d, k in zip(dilation, kernel, strict=False)]
        elif arguments["padding"] != "valid":
            wrong_padding = f"padding is {arguments['padding']!r}"
        wrong = first_problem(wrong, wrong_stride, wrong_dilation, wrong_padding)
        if wrong:
            return wrong
        sizes = shape_of(arguments["input"])[-count:]
        for size, k, d, p in zip(sizes, kernel, dilation, padding, strict=True):
            if size + 2 * p < d * (k - 1) + 1:
                return f"the kernel {kernel} is larger than the padded input {sizes}"
        return ""

    return (check_floats, rule)


def transposed_convolution(count: int) -> tuple[Rule, ...]:
    """Return the rules of a transposed convolution over `count` dimensions.

    input [B, C, *sizes] or without B, weight [C, out / groups, *kernel], bias [out].
    """

    def rule(arguments: Arguments) -> str:
        wrong = _convolved(arguments, count, transposed=True)
        stride, wrong_stride = _spatial(arguments, "stride", count, 1)
        dilation, wrong_dilation = _spatial(arguments, "dilation", count, 1)
        padding, wrong_padding = _spatial(arguments, "padding", count, 0)
        extra, wrong_extra = _spatial(arguments, "output_padding", count, 0)
        wrong = first_problem(wrong, wrong_stride, wrong_dilation, wrong_padding, wrong_extra)
        if wrong:
            return wrong
        kernel, sizes = shape_of(arguments["weight"])[2:], shape_of(arguments["input"])[-count:]
        for i in range(count):
            if extra[i] >= max(stride[i], dilation[i]):
                return "output_padding must be smaller than stride or dilation"
            full = (sizes[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 + extra[i]
            if full - 2 * padding[i] < 1:
                return f"padding {padding} leaves nothing of the output"
        return ""

    return (check_floats, rule)


def pooling(count: int) -> tuple[Rule, ...]:
    """Return the rules of pooling over `count` dimensions of input [B, C, *sizes], or without B."""

    def rule(arguments: Arguments) -> str:
        data = arguments["self"]
        if data.dim() not in {count + 1, count + 2} or min(shape_of(data)) < 1:
            return f"its input must have {count + 2} dimensions and not be empty"
        kernel, wrong = _spatial(arguments, "kernel_size", count, 1)
        wrong_stride = ""
        if arguments["stride"]:
            wrong_stride = _spatial(arguments, "stride", count, 1)[1]
        padding, wrong_padding = _spatial(arguments, "padding", count, 0)
        dilation, wrong_dilation = [1] * count, ""
        if "dilation" in arguments:
            dilation, wrong_dilation = _spatial(arguments, "dilation", count, 1)
        wrong = first_problem(wrong, wrong_stride, wrong_padding, wrong_dilation)
        if wrong:
            return wrong
        if arguments.get("divisor_override", 1) == 0:
            return "divisor_override is 0"
        sizes = shape_of(data)[-count:]
        for size, k, p, d in zip(sizes, kernel, padding, dilation, strict=True):
            if 2 * p > k or size + 2 * p < d * (k - 1) + 1:
                return f"the window {kernel} with padding {padding} does not fit {sizes}"
        return ""

    return (check_floats, rule)


def _adaptive(arguments: Arguments) -> str:
    data, wanted = arguments["self"], arguments["output_size"]
    if data.dim() not in {len(wanted) + 1, len(wanted) + 2} or min([*shape_of(data), *wanted]) < 1:
        return f"input {shape_of(data)} cannot be averaged to {list(wanted)}"
    return ""


ADAPTIVE: Final[tuple[Rule, ...]] = (check_floats, _adaptive)


def upsampling(count: int) -> tuple[Rule, ...]:
    """Return the rules of resizing the last `count` dimensions of input [B, C, *sizes].

    One of sizes and factors is given; positions are computed from factors without checks.
    """

    def rule(arguments: Arguments) -> str:
        data, sizes, factors = (arguments[n] for n in ("input", "output_size", "scale_factors"))
        if (
            data.dim() != count + 2
            or min(shape_of(data)) < 1
            or (sizes is None) == (factors is None)
        ):
            return f"its input must be [batch, channels] and {count} sizes, with sizes or factors"
        if factors is not None:
            if len(factors) != count or not all(0 < factor <= LARGEST for factor in factors):
                return f"scale_factors are {factors}: {count} positive numbers are needed"
            sizes = [int(size * f) for size, f in zip(shape_of(data)[2:], factors, strict=True)]
        if len(sizes) != count or min(sizes) < 1:
            return f"the output would have the sizes {list(sizes)}"
        return ""

    return (check_floats, rule)


def grid_sampling(count: int) -> tuple[Rule, ...]:
    """Return the rules of sampling input [B, C, *sizes] at grid [B, *places, count].

    Modes are 0 to 2 (bilinear, nearest, bicubic), those of padding as well.
    """

    def rule(arguments: Arguments) -> str:
        data, grid = arguments["input"], arguments["grid"]
        if data.dim() != count + 2 or grid.dim() != count + 2 or grid.shape[-1] != count:
            return f"input and grid must have {count + 2} dimensions, the grid's last of {count}"
        if min(*shape_of(data), *shape_of(grid)) < 1 or data.shape[0] != grid.shape[0]:
            return f"grid {shape_of(grid)} does not fit {shape_of(data)}"
        most = 2 if count == 2 else 1
        mode, padding = arguments["interpolation_mode"], arguments["padding_mode"]
        if not 0 <= mode <= most or not 0 <= padding <= 2:
            return f"the modes are {mode} and {padding}"
        return ""

    return (check_floats, rule)


def _sliding(arguments: Arguments, sizes: list[int]) -> tuple[list[int], list[int], str]:
    """Return the window and how many fit into `sizes` [2] by dimension, and what is wrong."""
    kernel, wrong = _spatial(arguments, "kernel_size", 2, 1)
    stride, wrong_stride = _spatial(arguments, "stride", 2, 1)
    dilation, wrong_dilation = _spatial(arguments, "dilation", 2, 1)
    padding, wrong_padding = _spatial(arguments, "padding", 2, 0)
    wrong = first_problem(wrong, wrong_stride, wrong_dilation, wrong_padding)
    if wrong:
        return kernel, [], wrong
    spans = [
        size + 2 * p - d * (k - 1) - 1
        for size, k, d, p in zip(sizes, kernel, dilation, padding, strict=True)
    ]
    if min(spans) < 0:
        return kernel, [], f"the window {kernel} does not fit {sizes}"
    return kernel, [span // step + 1 for span, step in zip(spans, stride, strict=True)], ""


def _windows(arguments: Arguments) -> str:
    """Input [B, C, H, W] or without B, not empty, at least as large as the window."""
    data = arguments["self"]
    if data.dim() not in {3, 4} or min(shape_of(data)) < 1:
        return f"its input must be [batch, channels, height, width], not {shape_of(data)}"
    return _sliding(arguments, shape_of(data)[-2:])[2]


WINDOWS: Final[tuple[Rule, ...]] = (check_floats, _windows)


def _fold(arguments: Arguments) -> str:
    """Input [B, C * window, places] or without B, with a place for each window of the output."""
    data = arguments["self"]
    sizes, wrong = _spatial(arguments, "output_size", 2, 1)
    if wrong or data.dim() not in {2, 3} or min(shape_of(data)) < 1:
        return wrong or f"its input must be [batch, windows, places], not {shape_of(data)}"
    kernel, places, wrong = _sliding(arguments, sizes)
    if wrong:
        return wrong
    if data.shape[-2] % math.prod(kernel) or data.shape[-1] != math.prod(places):
        return f"input {shape_of(data)} does not have {math.prod(places)} windows {kernel}"
    return ""


FOLD: Final[tuple[Rule, ...]] = (check_floats, _fold)
