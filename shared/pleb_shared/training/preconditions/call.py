"""What a kernel takes for granted about its arguments, as rules that are checked before it runs.

torch checks much by itself, but not alike: the shapes that FakeTensors compute come from other
code than the kernels, which read past tensors that the other code would have broadcast. A rule
gets the arguments of one call by name and returns what is wrong with them, or "". All rules see
shapes and types only, so they hold for every run of a graph that passed its dry run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch

from pleb_shared.protocol.limits import LIMITS
from pleb_shared.training.preconditions.rule import LARGEST, Arguments, Rule, first_problem

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Parameter", "check_call"]

_DTYPES: Final = frozenset({
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
})  # fmt: skip
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
        return first_problem(*(rule(arguments) for rule in rules))
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
    most = 2**63 - 1 if kind == "number" or parameter.name in _UNBOUNDED else LARGEST
    return first_problem(*(_item(item, kind, most) for item in (value if many else [value])))


def _item(item: Any, kind: str, most: int) -> str:
    """Return what is wrong with an argument, or one of a list; `most` bounds a whole number."""
    allowed = _KINDS.get(kind, ())
    if isinstance(item, torch.Tensor):  # [any shape]
        if torch.Tensor not in allowed:
            return f"a tensor, not a {kind}"
        if item.dtype not in _DTYPES or item.layout is not torch.strided:
            return f"{item.dtype}, {item.layout}"
        if item.dim() > LIMITS.tensor_dimensions or item.numel() > LARGEST:
            return f"of the shape {list(item.shape)}, which is too large"
        return ""
    if type(item) not in allowed:
        return f"{str(item)[:40]}, not a {kind}"
    return f"{item}, which is too large" if type(item) is int and abs(item) > most else ""
