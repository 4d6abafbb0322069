"""What a kernel takes for granted about its arguments, as rules that are checked before it runs.

torch checks much by itself, but not alike: the shapes that FakeTensors compute come from other
code than the kernels, which read past tensors that the other code would have broadcast. A rule
gets the arguments of one call by name and returns what is wrong with them, or "". All rules see
shapes and types only, so they hold for every run of a graph that passed its dry run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch

from pleb_shared.protocol.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ADAPTIVE",
    "ATTENTION",
    "BATCH_NORM",
    "CDIST",
    "CLASSES",
    "COUNTS",
    "DROPOUT",
    "EINSUM",
    "EMBEDDING",
    "FLOATS",
    "FOLD",
    "GATHER",
    "GROUP_NORM",
    "HOUSEHOLDER",
    "INDEX",
    "INDEX_ADD",
    "INDEX_PUT",
    "INDEX_SELECT",
    "LABEL_MARGIN",
    "LOSS",
    "MARGIN",
    "MULTINOMIAL",
    "NOTHING",
    "ONE_HOT",
    "PADDING",
    "PDIST",
    "PRELU",
    "PRODUCT",
    "RANDOM",
    "RATE",
    "SCATTER",
    "SHAPED_NORM",
    "SLICE",
    "SOLVE",
    "SORTED",
    "SQUARE",
    "TAKE",
    "UNFOLD",
    "WINDOWS",
    "Parameter",
    "Rule",
    "check_call",
    "convolution",
    "grid_sampling",
    "pooling",
    "recurrent",
    "transposed_convolution",
    "upsampling",
]

Arguments = Mapping[str, Any]
"""Those of one call by their names in the operator's schema, defaults included."""
Rule = Callable[[Arguments], str]
"""Returns what is wrong, as the end of the sentence "Node 3 (aten.x) cannot run: ..."."""

_DTYPES: Final = frozenset({
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
})  # fmt: skip
_LARGEST: Final = LIMITS.tensor_elements
_UNBOUNDED: Final = frozenset({"start", "end"})
"""Whole numbers that torch clamps itself; an export writes 2^63 - 1 for "to the end"."""


class Parameter(NamedTuple):
    """One argument that an operator takes."""

    name: str
    default: Any
    kind: str
    """Its type as torch's schemas write it, such as `Optional[Tensor]`."""


_NUMBER: Final = (int, float, bool)
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "Tensor": (torch.Tensor, *_NUMBER),  # a number stands for a tensor of one element
    "List[Tensor]": (torch.Tensor,),
    "List[Optional[Tensor]]": (torch.Tensor, type(None)),
    "int": (int,),
    "List[int]": (int,),
    "float": (int, float),
    "List[float]": (int, float),
    "number": _NUMBER,
    "bool": (bool,),
    "str": (str,),
    "ScalarType": (torch.dtype,),
    "MemoryFormat": (torch.memory_format,),
    "Device": (torch.device,),
}
"""What an argument of each kind may be. torch takes whole numbers for types and formats, too, and
looks them up in tables whose ends it does not check."""


def check_call(
    parameters: Sequence[Parameter], rules: Sequence[Rule], args: Sequence[Any], kwargs: Arguments
) -> str:
    """Return what is wrong with a call of an operator that has these parameters and rules."""
    if len(args) > len(parameters) or not kwargs.keys() <= {p.name for p in parameters}:
        return "it does not take these arguments"
    given = {p.name: value for p, value in zip(parameters, args, strict=False)} | {**kwargs}
    arguments = {p.name: p.default for p in parameters} | given
    for parameter in parameters:
        value = arguments[parameter.name]
        if parameter.name in given or parameter.default is None:
            wrong = _general(parameter, value)
            if wrong:
                return f"{parameter.name} is {wrong}"
    try:
        return _first(*(rule(arguments) for rule in rules))
    except (TypeError, AttributeError, LookupError, ValueError, RuntimeError) as error:
        return f"an argument is not what it takes ({str(error)[:100]})"


def _general(parameter: Parameter, value: Any) -> str:
    """Return what is wrong for any operator: another type, a strange tensor, a huge whole number.

    Kernels compute positions in 32 or 64 bits; neither overflows if no tensor has more elements
    and no size is larger than `LIMITS.tensor_elements`. Operands, of the kind `number`, may be as
    large as 64 bits are.
    """
    kind = parameter.kind
    if kind.startswith("Optional["):
        if value is None:
            return ""
        kind = kind.removeprefix("Optional[").removesuffix("]")
    many = isinstance(value, (list, tuple))
    if (many and not kind.startswith("List[")) or (not many and "Tensor]" in kind):
        return f"not a {kind}"
    most = 2**63 - 1 if kind == "number" or parameter.name in _UNBOUNDED else _LARGEST
    return _first(*(_item(item, kind, most) for item in (value if many else [value])))


def _item(item: Any, kind: str, most: int) -> str:
    """Return what is wrong with an argument, or one of a list; `most` bounds a whole number."""
    allowed = _KINDS.get(kind, ())
    if isinstance(item, torch.Tensor):  # [any shape]
        if torch.Tensor not in allowed:
            return f"a tensor, not a {kind}"
        if item.dtype not in _DTYPES or item.layout is not torch.strided:
            return f"{item.dtype}, {item.layout}"
        if item.dim() > LIMITS.tensor_dimensions or item.numel() > _LARGEST:
            return f"of the shape {list(item.shape)}, which is too large"
        return ""
    if type(item) not in allowed:
        return f"{str(item)[:40]}, not a {kind}"
    return f"{item}, which is too large" if type(item) is int and abs(item) > most else ""


def _nothing(_arguments: Arguments) -> str:
    return ""


NOTHING: Final[tuple[Rule, ...]] = (_nothing,)
"""The operator's own checks and its kernel agree: it goes through torch's iterator over elements,
whose shapes it computes itself, or makes a view, whose bounds torch checks for every tensor."""


def _shape(tensor: torch.Tensor) -> list[int]:
    return [int(size) for size in tensor.shape]


def _wrong_shape(arguments: Arguments, name: str, wanted: list[int]) -> str:
    """Return what is wrong unless the argument `name` is None or has exactly this shape."""
    tensor = arguments[name]
    if tensor is None or _shape(tensor) == wanted:
        return ""
    return f"{name} has the shape {_shape(tensor)}, not {wanted}"


def _first(*problems: str) -> str:
    return next(filter(None, problems), "")


def _floats(arguments: Arguments) -> str:
    """All tensors are floating point numbers of one type."""
    items = [i for a in arguments.values() for i in (a if isinstance(a, (list, tuple)) else [a])]
    types = {item.dtype for item in items if isinstance(item, torch.Tensor)}
    if len(types) > 1 or not all(dtype.is_floating_point for dtype in types):
        return f"its tensors must be floating point numbers of one type, not {_names(types)}"
    return ""


def _names(types: set[torch.dtype]) -> str:
    return ", ".join(sorted(map(str, types)))


FLOATS: Final[tuple[Rule, ...]] = (_floats,)


def _whole(arguments: Arguments, name: str) -> str:
    tensor = arguments[name]
    if tensor.dtype not in {torch.int64, torch.int32}:
        return f"{name} is {tensor.dtype}, not int64"
    return ""


def _counts(arguments: Arguments) -> str:
    """Sizes, repeats and counts are not negative."""
    for name in ("size", "repeats", "steps", "n", "k", "output_size", "split_size", "chunks"):
        value = arguments.get(name)
        values = value if isinstance(value, (list, tuple)) else [value]
        if any(type(item) is int and item < 0 for item in values):
            return f"{name} is {value}: it must not be negative"
    return ""


COUNTS: Final[tuple[Rule, ...]] = (_counts,)


# -- layers ---------------------------------------------------------------------------------


def recurrent(gates: int) -> tuple[Rule, ...]:
    """Return the rules of `lstm.input` (4 gates) and `gru.input` (3).

    The kernels read every parameter as if it had the shape that input and state imply: for each
    layer and direction [gates * H, E], [gates * H, H], and twice [gates * H] with biases, where E
    is the width of the layer's input; states are [layers * directions, B, H].
    """

    def rule(arguments: Arguments) -> str:
        states = arguments["hx"] if gates == 4 else [arguments["hx"]]
        data = arguments["input"]
        if data.dim() != 3 or min(_shape(data)) < 1 or len(states) != (2 if gates == 4 else 1):
            return "input must be [steps, batch, width], not empty, with one state for each kind"
        if any(state.dim() != 3 or state.shape[2] < 1 for state in states):
            return "each state must be [layers, batch, hidden]"
        batch = data.shape[0 if arguments["batch_first"] else 1]
        layers, directions = arguments["num_layers"], 2 if arguments["bidirectional"] else 1
        hidden = int(states[0].shape[2])
        for state in states:
            if not layers > 0 or _shape(state) != [layers * directions, batch, hidden]:
                return (
                    f"a state has the shape {_shape(state)}, "
                    f"not {[layers * directions, batch, hidden]}"
                )
        width, wanted = int(data.shape[2]), []
        for _ in range(layers):
            one = [[gates * hidden, width], [gates * hidden, hidden]]
            one += [[gates * hidden]] * (2 if arguments["has_biases"] else 0)
            wanted += one * directions
            width = hidden * directions
        found = [_shape(parameter) for parameter in arguments["params"]]
        if found != wanted:
            return f"params have the shapes {found[:8]}, not {wanted[:8]}"
        return ""

    return (_floats, rule)


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
    if min(*_shape(data), *_shape(weight)) < 1 or groups < 1:
        return "nothing may be empty, and groups must be at least 1"
    first, second, channels = int(weight.shape[0]), int(weight.shape[1]), data.shape[-count - 1]
    if transposed:
        fits, outgoing = first == channels and first % groups == 0, second * groups
    else:
        fits, outgoing = second * groups == channels and first % groups == 0, first
    if not fits:
        return f"weight {_shape(weight)} does not fit {channels} channels in {groups} groups"
    return _wrong_shape(arguments, "bias", [outgoing])


def convolution(count: int) -> tuple[Rule, ...]:
    """Return the rules of a convolution over `count` dimensions.

    input [B, C, *sizes] or without B, weight [out, C / groups, *kernel], bias [out]; the kernel,
    spread by the dilation, must fit into the padded sizes.
    """

    def rule(arguments: Arguments) -> str:
        wrong = _convolved(arguments, count, transposed=False)
        wrong_stride = _spatial(arguments, "stride", count, 1)[1]
        dilation, wrong_dilation = _spatial(arguments, "dilation", count, 1)
        kernel = _shape(arguments["weight"])[2:]
        padding, wrong_padding = [0] * count, ""
        if not isinstance(arguments["padding"], str):
            padding, wrong_padding = _spatial(arguments, "padding", count, 0)
        elif arguments["padding"] == "same":
            padding = [d * (k - 1) for d, k in zip(dilation, kernel, strict=False)]
        elif arguments["padding"] != "valid":
            wrong_padding = f"padding is {arguments['padding']!r}"
        wrong = _first(wrong, wrong_stride, wrong_dilation, wrong_padding)
        if wrong:
            return wrong
        sizes = _shape(arguments["input"])[-count:]
        for size, k, d, p in zip(sizes, kernel, dilation, padding, strict=True):
            if size + 2 * p < d * (k - 1) + 1:
                return f"the kernel {kernel} is larger than the padded input {sizes}"
        return ""

    return (_floats, rule)


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
        wrong = _first(wrong, wrong_stride, wrong_dilation, wrong_padding, wrong_extra)
        if wrong:
            return wrong
        kernel, sizes = _shape(arguments["weight"])[2:], _shape(arguments["input"])[-count:]
        for i in range(count):
            if extra[i] >= max(stride[i], dilation[i]):
                return "output_padding must be smaller than stride or dilation"
            full = (sizes[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 + extra[i]
            if full - 2 * padding[i] < 1:
                return f"padding {padding} leaves nothing of the output"
        return ""

    return (_floats, rule)


def pooling(count: int) -> tuple[Rule, ...]:
    """Return the rules of pooling over `count` dimensions of input [B, C, *sizes], or without B."""

    def rule(arguments: Arguments) -> str:
        data = arguments["self"]
        if data.dim() not in {count + 1, count + 2} or min(_shape(data)) < 1:
            return f"its input must have {count + 2} dimensions and not be empty"
        kernel, wrong = _spatial(arguments, "kernel_size", count, 1)
        wrong_stride = ""
        if arguments["stride"]:
            wrong_stride = _spatial(arguments, "stride", count, 1)[1]
        padding, wrong_padding = _spatial(arguments, "padding", count, 0)
        dilation, wrong_dilation = [1] * count, ""
        if "dilation" in arguments:
            dilation, wrong_dilation = _spatial(arguments, "dilation", count, 1)
        wrong = _first(wrong, wrong_stride, wrong_padding, wrong_dilation)
        if wrong:
            return wrong
        if arguments.get("divisor_override", 1) == 0:
            return "divisor_override is 0"
        sizes = _shape(data)[-count:]
        for size, k, p, d in zip(sizes, kernel, padding, dilation, strict=True):
            if 2 * p > k or size + 2 * p < d * (k - 1) + 1:
                return f"the window {kernel} with padding {padding} does not fit {sizes}"
        return ""

    return (_floats, rule)


def _adaptive(arguments: Arguments) -> str:
    data, wanted = arguments["self"], arguments["output_size"]
    if data.dim() not in {len(wanted) + 1, len(wanted) + 2} or min([*_shape(data), *wanted]) < 1:
        return f"input {_shape(data)} cannot be averaged to {list(wanted)}"
    return ""


ADAPTIVE: Final[tuple[Rule, ...]] = (_floats, _adaptive)


def upsampling(count: int) -> tuple[Rule, ...]:
    """Return the rules of resizing the last `count` dimensions of input [B, C, *sizes].

    One of sizes and factors is given; positions are computed from factors without checks.
    """

    def rule(arguments: Arguments) -> str:
        data, sizes, factors = (arguments[n] for n in ("input", "output_size", "scale_factors"))
        if data.dim() != count + 2 or min(_shape(data)) < 1 or (sizes is None) == (factors is None):
            return f"its input must be [batch, channels] and {count} sizes, with sizes or factors"
        if factors is not None:
            if len(factors) != count or not all(0 < factor <= _LARGEST for factor in factors):
                return f"scale_factors are {factors}: {count} positive numbers are needed"
            sizes = [int(size * f) for size, f in zip(_shape(data)[2:], factors, strict=True)]
        if len(sizes) != count or min(sizes) < 1:
            return f"the output would have the sizes {list(sizes)}"
        return ""

    return (_floats, rule)


def grid_sampling(count: int) -> tuple[Rule, ...]:
    """Return the rules of sampling input [B, C, *sizes] at grid [B, *places, count].

    Modes are 0 to 2 (bilinear, nearest, bicubic), those of padding as well.
    """

    def rule(arguments: Arguments) -> str:
        data, grid = arguments["input"], arguments["grid"]
        if data.dim() != count + 2 or grid.dim() != count + 2 or grid.shape[-1] != count:
            return f"input and grid must have {count + 2} dimensions, the grid's last of {count}"
        if min(*_shape(data), *_shape(grid)) < 1 or data.shape[0] != grid.shape[0]:
            return f"grid {_shape(grid)} does not fit {_shape(data)}"
        most = 2 if count == 2 else 1
        mode, padding = arguments["interpolation_mode"], arguments["padding_mode"]
        if not 0 <= mode <= most or not 0 <= padding <= 2:
            return f"the modes are {mode} and {padding}"
        return ""

    return (_floats, rule)


def _sliding(arguments: Arguments, sizes: list[int]) -> tuple[list[int], list[int], str]:
    """Return the window and how many fit into `sizes` [2] by dimension, and what is wrong."""
    kernel, wrong = _spatial(arguments, "kernel_size", 2, 1)
    stride, wrong_stride = _spatial(arguments, "stride", 2, 1)
    dilation, wrong_dilation = _spatial(arguments, "dilation", 2, 1)
    padding, wrong_padding = _spatial(arguments, "padding", 2, 0)
    wrong = _first(wrong, wrong_stride, wrong_dilation, wrong_padding)
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
    if data.dim() not in {3, 4} or min(_shape(data)) < 1:
        return f"its input must be [batch, channels, height, width], not {_shape(data)}"
    return _sliding(arguments, _shape(data)[-2:])[2]


WINDOWS: Final[tuple[Rule, ...]] = (_floats, _windows)


def _fold(arguments: Arguments) -> str:
    """Input [B, C * window, places] or without B, with a place for each window of the output."""
    data = arguments["self"]
    sizes, wrong = _spatial(arguments, "output_size", 2, 1)
    if wrong or data.dim() not in {2, 3} or min(_shape(data)) < 1:
        return wrong or f"its input must be [batch, windows, places], not {_shape(data)}"
    kernel, places, wrong = _sliding(arguments, sizes)
    if wrong:
        return wrong
    if data.shape[-2] % math.prod(kernel) or data.shape[-1] != math.prod(places):
        return f"input {_shape(data)} does not have {math.prod(places)} windows {kernel}"
    return ""


FOLD: Final[tuple[Rule, ...]] = (_floats, _fold)


def _cdist(arguments: Arguments) -> str:
    """Points [.., P, M] and [.., R, M]; a distance by p >= 0."""
    one, other = arguments["x1"], arguments["x2"]
    if min(one.dim(), other.dim()) < 2 or one.shape[-1] != other.shape[-1]:
        return f"points {_shape(one)} and {_shape(other)} do not fit together"
    if one.shape[:-2] != other.shape[:-2]:
        return f"points {_shape(one)} and {_shape(other)} must have the same batch"
    if not arguments["p"] >= 0 or arguments["compute_mode"] not in {None, 0, 1, 2}:
        return f"p is {arguments['p']}, the mode {arguments['compute_mode']}"
    return ""


CDIST: Final[tuple[Rule, ...]] = (_floats, _cdist)


def _pdist(arguments: Arguments) -> str:
    points = arguments["self"]
    if points.dim() != 2 or not points.numel() or not arguments["p"] >= 0:
        return f"points [n, width] are needed, and p >= 0, not {arguments['p']}"
    return ""


PDIST: Final[tuple[Rule, ...]] = (_floats, _pdist)


def _square(arguments: Arguments) -> str:
    """Matrices [.., n, n]."""
    data = arguments["self"] if "self" in arguments else arguments["A"]
    if data.dim() < 2 or data.shape[-1] != data.shape[-2]:
        return f"a square matrix is needed, not {_shape(data)}"
    return ""


SQUARE: Final[tuple[Rule, ...]] = (_floats, _square)


def _solve(arguments: Arguments) -> str:
    """A [.., n, n] and B [.., n, k] with the same batch, or B [.., k, n] from the right."""
    matrix = arguments["A"] if "A" in arguments else arguments["self"]
    other = arguments["B"]
    if matrix.dim() < 2 or matrix.shape[-1] != matrix.shape[-2]:
        return f"a square matrix is needed, not {_shape(matrix)}"
    left = arguments.get("left", True)
    vectors = "A" in arguments and "upper" not in arguments
    if vectors and _shape(other) == _shape(matrix)[:-1] and left:
        return ""
    if other.dim() != matrix.dim() or other.shape[:-2] != matrix.shape[:-2]:
        return f"{_shape(other)} must have the same batch as {_shape(matrix)}"
    if other.shape[-2 if left else -1] != matrix.shape[-1]:
        return f"{_shape(other)} does not fit {_shape(matrix)}"
    return ""


SOLVE: Final[tuple[Rule, ...]] = (_floats, _solve)


def _householder(arguments: Arguments) -> str:
    """Reflectors [.., m, n], n <= m, and their factors tau [.., k], k <= n."""
    data, tau = arguments["input"], arguments["tau"]
    if data.dim() < 2 or tau.dim() != data.dim() - 1 or tau.shape[:-1] != data.shape[:-2]:
        return f"tau {_shape(tau)} does not fit {_shape(data)}"
    if data.shape[-2] < data.shape[-1] or tau.shape[-1] > data.shape[-1] or 0 in data.shape:
        return f"tau {_shape(tau)} does not fit {_shape(data)}"
    return ""


HOUSEHOLDER: Final[tuple[Rule, ...]] = (_floats, _householder)


def _shaped_norm(arguments: Arguments) -> str:
    """Input [.., *normalized_shape]; weight and bias have exactly that shape."""
    data, shape = arguments["input"], list(arguments["normalized_shape"])
    if not shape or _shape(data)[-len(shape) :] != shape or min(shape) < 1:
        return f"normalized_shape {shape} is not the end of {_shape(data)}"
    names = [name for name in ("weight", "bias") if name in arguments]
    return _first(*(_wrong_shape(arguments, name, shape) for name in names))


SHAPED_NORM: Final[tuple[Rule, ...]] = (_floats, _shaped_norm)


def _group_norm(arguments: Arguments) -> str:
    """Input [B, C, ..]; C is a multiple of the groups; weight and bias are [C]."""
    data, groups = arguments["input"], arguments["num_groups"]
    if data.dim() < 2 or min(_shape(data)) < 1 or groups < 1 or data.shape[1] % groups:
        return f"input {_shape(data)} cannot be split into {groups} groups of channels"
    channels = [int(data.shape[1])]
    return _first(*(_wrong_shape(arguments, name, channels) for name in ("weight", "bias")))


GROUP_NORM: Final[tuple[Rule, ...]] = (_floats, _group_norm)


def _batch_norm(arguments: Arguments) -> str:
    """Input [B, C, ..]; weight, bias, running mean and variance are [C]."""
    data = arguments["input"]
    if data.dim() < 2 or min(_shape(data)) < 1:
        return f"input has the shape {_shape(data)}: [batch, channels, ..] is needed"
    if (arguments["running_mean"] is None) != (arguments["running_var"] is None):
        return "running_mean and running_var belong together"
    channels = [int(data.shape[1])]
    names = ("weight", "bias", "running_mean", "running_var")
    return _first(*(_wrong_shape(arguments, name, channels) for name in names))


BATCH_NORM: Final[tuple[Rule, ...]] = (_floats, _batch_norm)


def _prelu(arguments: Arguments) -> str:
    """One weight for all channels, or one for each of self [B, C, ..]."""
    data, weight = arguments["self"], arguments["weight"]
    channels = int(data.shape[1]) if data.dim() > 1 else 1
    if weight.dim() > 1 or weight.numel() not in {1, channels}:
        return f"weight has the shape {_shape(weight)}, not [1] or [{channels}]"
    return ""


PRELU: Final[tuple[Rule, ...]] = (_floats, _prelu)


def _embedding(arguments: Arguments) -> str:
    """Weight [rows, width]; dense gradients only."""
    weight = arguments["weight"]
    if weight.dim() != 2 or not weight.dtype.is_floating_point or arguments["sparse"]:
        return "weight must be [rows, width], floating point, with dense gradients"
    if not -1 <= arguments["padding_idx"] < max(1, weight.shape[0]):
        return f"padding_idx {arguments['padding_idx']} is no row"
    return _whole(arguments, "indices")


EMBEDDING: Final[tuple[Rule, ...]] = (_embedding,)


def _product(arguments: Arguments) -> str:
    """All operands of one type; the bias of `linear` is [out] for a weight [out, in]."""
    types = {value.dtype for value in arguments.values() if isinstance(value, torch.Tensor)}
    if len(types) > 1:
        return f"its tensors must be of one type, not {_names(types)}"
    bias = arguments.get("bias")
    if bias is not None and _shape(bias) != _shape(arguments["weight"])[:-1]:
        return f"bias has the shape {_shape(bias)}, not {_shape(arguments['weight'])[:-1]}"
    return ""


PRODUCT: Final[tuple[Rule, ...]] = (_product,)


def _einsum(arguments: Arguments) -> str:
    return "its path must not be given" if arguments["path"] is not None else ""


EINSUM: Final[tuple[Rule, ...]] = (_einsum,)


def _dropout(arguments: Arguments) -> str:
    """A probability, and floating point numbers; channels can be dropped of [B, C, ..]."""
    data, probability = arguments["x"], arguments["p"]
    if not data.dtype.is_floating_point or type(arguments["train"]) is not bool:
        return "its input must be floating point numbers"
    if type(probability) not in {int, float} or not 0 <= probability <= 1:
        return f"the probability is {probability}"
    return ""


DROPOUT: Final[tuple[Rule, ...]] = (_dropout,)


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
    return _first(_counts(arguments), f"{count} numbers are too many" if count > _LARGEST else "")


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
    return f"{rows * count} samples are too many" if rows * count > _LARGEST else ""


MULTINOMIAL: Final[tuple[Rule, ...]] = (_multinomial,)


def _attention(arguments: Arguments) -> str:
    """Query [.., T, E], key [.., S, E], value [.., S, V], mask to be broadcast to [.., T, S]."""
    query, key, value = (_shape(arguments[name]) for name in ("query", "key", "value"))
    types = {arguments[name].dtype for name in ("query", "key", "value")}
    if len(types) > 1 or not all(dtype.is_floating_point for dtype in types):
        return f"query, key and value must be floating point numbers, not {_names(types)}"
    if len({len(query), len(key), len(value)}) > 1 or len(query) < 2:
        return "query, key and value must have as many dimensions, at least two"
    if min(*query, *key, *value) < 1 or query[-1] != key[-1] or key[-2] != value[-2]:
        return f"query {query}, key {key} and value {value} do not fit together"
    heads = arguments["enable_gqa"] and len(query) > 2
    if heads and (query[-3] % key[-3] or query[-3] % value[-3]):
        return "the query's heads must be a multiple of those of key and value"
    outer = -3 if heads else -2
    if not query[:outer] == key[:outer] == value[:outer]:
        return f"query {query}, key {key} and value {value} do not fit together"
    probability, scale = arguments["dropout_p"], arguments["scale"]
    if not 0 <= probability <= 1 or not (scale is None or math.isfinite(scale)):
        return f"dropout is {probability}, scale {scale}"
    return _mask(arguments, [*query[:-1], key[-2]])


def _mask(arguments: Arguments, wanted: list[int]) -> str:
    mask = arguments["attn_mask"]
    if mask is None:
        return ""
    shape = _shape(mask)
    fits = zip(reversed(shape), reversed(wanted), strict=False)
    if not 2 <= len(shape) <= len(wanted) or any(have not in {1, want} for have, want in fits):
        return f"attn_mask {shape} cannot be broadcast to {wanted}"
    if mask.dtype not in {torch.bool, arguments["query"].dtype}:
        return f"attn_mask is {mask.dtype}"
    return ""


ATTENTION: Final[tuple[Rule, ...]] = (_attention,)


# -- losses ---------------------------------------------------------------------------------


def _loss(arguments: Arguments) -> str:
    """Both of one shape or to be broadcast; a known reduction."""
    if arguments["reduction"] not in {0, 1, 2}:
        return f"reduction is {arguments['reduction']}"
    names = ("self", "target", "weight", "pos_weight")
    shapes = [_shape(t) for name in names if (t := arguments.get(name)) is not None]
    try:
        torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    except RuntimeError:
        return f"the shapes {shapes} do not fit together"
    return ""


LOSS: Final[tuple[Rule, ...]] = (_floats, _loss)


def _classes(arguments: Arguments) -> str:
    """Scores [C] or [B, C, ..]; classes [] or [B, ..] in int64, or probabilities like the scores.

    The weight is [C]. Classes outside of 0 .. C - 1 are refused by the kernel when it runs.
    """
    scores, target = arguments["self"], arguments["target"]
    if arguments["reduction"] not in {0, 1, 2} or not scores.dtype.is_floating_point:
        return "its scores must be floating point numbers, with a known reduction"
    shape = _shape(scores)
    if not shape or min(shape) < 1:
        return f"its scores have the shape {shape}"
    place = 1 if len(shape) > 1 else 0
    if target.dtype.is_floating_point:
        if "label_smoothing" not in arguments or target.dtype != scores.dtype:
            return f"target is {target.dtype}, not int64"
        wrong = _wrong_shape(arguments, "target", shape)
    elif target.dtype != torch.int64:
        return f"target is {target.dtype}, not int64"
    else:
        wrong = _wrong_shape(arguments, "target", shape[:place] + shape[place + 1 :])
    if not 0 <= arguments.get("label_smoothing", 0) <= 1:
        wrong = wrong or f"label_smoothing is {arguments['label_smoothing']}"
    weight = arguments["weight"]
    if weight is not None and weight.dtype != scores.dtype:
        wrong = wrong or f"weight is {weight.dtype}"
    return wrong or _wrong_shape(arguments, "weight", [shape[place]])


CLASSES: Final[tuple[Rule, ...]] = (_classes,)


def _margin(arguments: Arguments) -> str:
    """Scores [B, C] or [C], classes [B] or [] in int64, weight [C]; p is 1 or 2."""
    scores, target = arguments["self"], arguments["target"]
    if arguments["reduction"] not in {0, 1, 2} or arguments["p"] not in {1, 2}:
        return f"reduction is {arguments['reduction']}, p {arguments['p']}"
    if scores.dim() not in {1, 2} or min(_shape(scores)) < 1 or target.dtype != torch.int64:
        return f"scores {_shape(scores)} and int64 classes are needed"
    wrong = _wrong_shape(arguments, "target", _shape(scores)[:-1])
    weight = arguments["weight"]
    if weight is not None and weight.dtype != scores.dtype:
        return f"weight is {weight.dtype}"
    return wrong or _wrong_shape(arguments, "weight", _shape(scores)[-1:])


MARGIN: Final[tuple[Rule, ...]] = (_margin,)


def _label_margin(arguments: Arguments) -> str:
    """Scores [B, C], and classes of the same shape in int64."""
    scores, target = arguments["self"], arguments["target"]
    if arguments["reduction"] not in {0, 1, 2} or not scores.dtype.is_floating_point:
        return f"reduction is {arguments['reduction']}"
    if scores.dim() != 2 or min(_shape(scores)) < 1 or target.dtype != torch.int64:
        return f"scores {_shape(scores)} and int64 classes are needed"
    return _wrong_shape(arguments, "target", _shape(scores))


LABEL_MARGIN: Final[tuple[Rule, ...]] = (_label_margin,)


# -- indices --------------------------------------------------------------------------------


def _dimension(arguments: Arguments, data: torch.Tensor) -> tuple[int, str]:
    """Return `dim` counted from the front of `data`, of any shape, and what is wrong with it."""
    dim = arguments["dim"]
    if type(dim) is not int or not -data.dim() <= dim < data.dim():
        return 0, f"dim {dim} is none of {_shape(data)}"
    return dim % data.dim(), ""


def _within(inner: torch.Tensor, outer: torch.Tensor, skipped: int | None) -> bool:
    """Whether `inner` has as many dimensions as `outer`, each no larger, but for one."""
    return inner.dim() == outer.dim() and all(
        i == skipped or inner.shape[i] <= outer.shape[i] for i in range(outer.dim())
    )


def _gather(arguments: Arguments) -> str:
    data, index = arguments["self"], arguments["index"]
    dim, wrong = _dimension(arguments, data)
    if wrong or arguments["sparse_grad"] or index.dtype != torch.int64:
        return wrong or "index must be int64, with dense gradients"
    if not _within(index, data, dim):
        return f"index {_shape(index)} is larger than {_shape(data)}"
    return ""


GATHER: Final[tuple[Rule, ...]] = (_gather,)


def _scatter(arguments: Arguments) -> str:
    data, index, source = arguments["self"], arguments["index"], arguments.get("src")
    dim, wrong = _dimension(arguments, data)
    if wrong or index.dtype != torch.int64 or not _within(index, data, dim):
        return wrong or f"index must be int64, and {_shape(index)} no larger than {_shape(data)}"
    if source is not None and (source.dtype != data.dtype or not _within(index, source, None)):
        return f"src {_shape(source)} ({source.dtype}) does not fit"
    return ""


SCATTER: Final[tuple[Rule, ...]] = (_scatter,)


def _index_select(arguments: Arguments) -> str:
    wrong = _dimension(arguments, arguments["self"])[1]
    if arguments["index"].dim() != 1:
        return wrong or "index must be a list"
    return wrong or _whole(arguments, "index")


INDEX_SELECT: Final[tuple[Rule, ...]] = (_index_select,)


def _index_add(arguments: Arguments) -> str:
    """The source has the shape of self, but for dim: as many as index [n]."""
    data, index, source = (arguments[name] for name in ("self", "index", "source"))
    wrong = _index_select(arguments)
    if wrong or source.dtype != data.dtype:
        return wrong or f"source is {source.dtype}, not {data.dtype}"
    wanted = _shape(data)
    wanted[arguments["dim"] % data.dim()] = int(index.shape[0])
    return _wrong_shape(arguments, "source", wanted)


INDEX_ADD: Final[tuple[Rule, ...]] = (_index_add,)


def _index(arguments: Arguments) -> str:
    """Whole numbers, for one dimension each; masks would make shapes depend on values."""
    data, indices = arguments["self"], arguments["indices"]
    given = [index for index in indices if index is not None]
    if not given or len(indices) > data.dim():
        return f"{len(indices)} indices do not fit {_shape(data)}"
    if any(index.dtype not in {torch.int64, torch.int32} for index in given):
        return "indices must be int64: masks make shapes depend on values"
    return ""


INDEX: Final[tuple[Rule, ...]] = (_index,)


def _index_put(arguments: Arguments) -> str:
    """As `_index`, and values of the type of self that can be broadcast to what is indexed."""
    data, values = arguments["self"], arguments["values"]
    wrong = _index(arguments)
    if wrong or values.dtype != data.dtype:
        return wrong or f"values are {values.dtype}, not {data.dtype}"
    return ""


INDEX_PUT: Final[tuple[Rule, ...]] = (_index_put,)


def _take(arguments: Arguments) -> str:
    return "" if arguments["index"].dtype == torch.int64 else "index must be int64"


TAKE: Final[tuple[Rule, ...]] = (_take,)


def _sorted(arguments: Arguments) -> str:
    """Boundaries [n] or [.., n] like self, in one type with it; no other order is given."""
    name = "sorted_sequence" if "sorted_sequence" in arguments else "boundaries"
    edges, data = arguments[name], arguments["self"]
    if arguments.get("sorter") is not None or arguments.get("side") not in {None, "left", "right"}:
        return "sorter must not be given, and side must be left or right"
    if edges.dtype != data.dtype or edges.dtype is torch.bool or edges.dim() < 1:
        return f"{name} are {edges.dtype} {_shape(edges)}, values {data.dtype}"
    if edges.dim() > 1 and (name == "boundaries" or edges.shape[:-1] != data.shape[:-1]):
        return f"{name} {_shape(edges)} do not fit {_shape(data)}"
    return ""


SORTED: Final[tuple[Rule, ...]] = (_sorted,)


def _one_hot(arguments: Arguments) -> str:
    if arguments["num_classes"] < 1 or arguments["self"].dtype != torch.int64:
        return "num_classes must be given, and classes must be int64"
    return ""


ONE_HOT: Final[tuple[Rule, ...]] = (_one_hot,)


# -- shapes ---------------------------------------------------------------------------------


def _padding(arguments: Arguments) -> str:
    """Pairs (before, after) pad the last dimensions; reflection takes less than there is."""
    data, pad, mode = arguments["self"], arguments["pad"], arguments.get("mode", "constant")
    count = len(pad) // 2
    if len(pad) % 2 or count > data.dim():
        return f"pad {list(pad)} does not fit {_shape(data)}"
    pairs = [(pad[2 * i], pad[2 * i + 1], int(data.shape[-1 - i])) for i in range(count)]
    if any(
        before + size + after < 0 or min(before, after) < -size for before, after, size in pairs
    ):
        return f"pad {list(pad)} takes away more than {_shape(data)} has"
    if mode == "constant":
        return ""
    if mode not in {"reflect", "replicate", "circular"} or data.dim() not in {count + 1, count + 2}:
        return f"{mode!r} cannot pad {_shape(data)} by {list(pad)}"
    least = {"reflect": 1, "replicate": -_LARGEST, "circular": 0}[mode]
    for before, after, size in pairs:
        if size < 1 or before + size + after < 1 or max(before, after) > size - least:
            return f"{mode!r} cannot pad {_shape(data)} by {list(pad)}"
    return ""


PADDING: Final[tuple[Rule, ...]] = (_padding,)


def _slice(arguments: Arguments) -> str:
    return "" if arguments["step"] > 0 else f"step is {arguments['step']}"


SLICE: Final[tuple[Rule, ...]] = (_slice,)


def _unfold(arguments: Arguments) -> str:
    data, dim = arguments["self"], arguments["dimension"]
    if not -data.dim() <= dim < data.dim() or arguments["step"] < 1:
        return f"dimension {dim} with step {arguments['step']} does not fit {_shape(data)}"
    if not 1 <= arguments["size"] <= data.shape[dim]:
        return f"windows of {arguments['size']} do not fit {_shape(data)}"
    return ""


UNFOLD: Final[tuple[Rule, ...]] = (_unfold,)
