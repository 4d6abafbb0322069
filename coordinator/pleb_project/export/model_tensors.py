"""A module's tensors as the protocol names them: those that training changes, and the base."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from pleb_shared.errors import InputError
from pleb_shared.protocol.project import TensorSpec
from pleb_shared.tensors.layout import BFLOAT16_BITS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pleb_shared.tensors.layout import Tensors

__all__ = [
    "BASE_DTYPE_NAMES",
    "DTYPE_NAMES",
    "TensorSpecs",
    "canonical_names",
    "initial_tensors",
    "unchanged",
]

DTYPE_NAMES: Final = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.int64: "int64",
    torch.int32: "int32",
    torch.uint8: "uint8",
    torch.bool: "bool",
}
"""The dtypes that data and changing buffers may have, by the names of the protocol."""
BASE_DTYPE_NAMES: Final = DTYPE_NAMES | {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.int16: "int16",
    torch.int8: "int8",
}
"""The dtypes that the base may have, too."""
_HALF: Final = {"float16", "bfloat16"}


@dataclass(frozen=True)
class TensorSpecs:
    """A model's parameters and persistent buffers, each once, in the model's order."""

    parameters: list[TensorSpec]
    """Those with gradient, as float32 whatever they are in the model."""
    buffers: list[TensorSpec]
    """Those that a graph writes, and frozen parameters that it writes, such as a moving average."""
    base: list[TensorSpec]
    """All others, as they are."""

    @classmethod
    def of(cls, model: nn.Module) -> TensorSpecs:
        """Return what a model's tensors may turn out to be: all that can change, does.

        Raises:
            InputError: a tensor has a dtype that the protocol does not carry.
        """
        persistent = model.state_dict().keys()
        named = list(model.named_parameters())
        frozen = [_spec(name, tensor) for name, tensor in named if not tensor.requires_grad]
        buffers = [_spec(name, t) for name, t in model.named_buffers() if name in persistent]
        return cls(
            [_spec(name, tensor) for name, tensor in named if tensor.requires_grad],
            [*frozen, *buffers],
            [],
        )

    def split(self, trained: Collection[str], written: Collection[str]) -> TensorSpecs:
        """Return the specs with the parameters `trained`, the buffers `written`, the rest as base.

        Raises:
            InputError: no delta can carry the dtype of one that changes.
        """
        parameters = [spec for spec in self.parameters if spec.name in trained]
        buffers = [spec for spec in self.buffers if spec.name in written]
        changing = {spec.name for spec in [*parameters, *buffers]}
        base = [
            spec
            for spec in [*self.parameters, *self.base, *self.buffers]
            if spec.name not in changing
        ]
        for spec in parameters:
            if spec.dtype not in {"float32", *_HALF}:
                raise InputError(
                    f"Parameter {spec.name!r} is {spec.dtype}: make it float32, or freeze it."
                )
        for spec in buffers:
            if spec.dtype not in DTYPE_NAMES.values():
                raise InputError(
                    f"Buffer {spec.name!r} is {spec.dtype} and changes during training: make it "
                    "float32, for example with `module.float()` for its module."
                )
        masters = [TensorSpec(name=s.name, dtype="float32", shape=s.shape) for s in parameters]
        return TensorSpecs(masters, buffers, base)


def initial_tensors(model: nn.Module, specs: Iterable[TensorSpec]) -> Tensors:
    """Return copies of the model's tensors by name, in the dtypes of `specs`."""
    state = model.state_dict()
    tensors: Tensors = {}
    for spec in specs:
        tensor = state[spec.name].detach().cpu().contiguous().clone()
        if spec.dtype == "bfloat16":
            tensors[spec.name] = tensor.view(torch.int16).numpy().view(BFLOAT16_BITS)
        else:
            half = tensor.dtype in {torch.float16, torch.bfloat16} and spec.dtype == "float32"
            tensors[spec.name] = (tensor.float() if half else tensor).numpy()
    return tensors


@contextmanager
def unchanged(model: nn.Module) -> Iterator[nn.Module]:
    """Yield `model` without gradients; put its tensors, gradients and attributes back afterwards.

    A copy of it would not do: hooks and closures of its code keep what they were made for. Lists
    and dicts that the code fills stay filled.
    """
    modules = list(model.modules())
    places = [d for m in modules for d in (vars(m), m._parameters, m._buffers)]  # noqa: SLF001
    before = [(place, dict(place)) for place in places]
    tensors = [t for t in (*model.parameters(), *model.buffers()) if not is_lazy(t)]
    kept = [(t, t.detach().clone(), t.grad, t.requires_grad) for t in tensors]
    for tensor in tensors:
        tensor.grad = None
    try:
        yield model
    finally:
        for place, entries in before:
            place.clear()
            place.update(entries)
        with torch.no_grad():
            for tensor, value, gradient, trained in kept:
                tensor.requires_grad_(trained).copy_(value)
                tensor.grad = gradient


def canonical_names(model: nn.Module) -> dict[str, str]:
    """Return the first name of the tensor behind every name of a parameter or buffer."""
    first: dict[int, str] = {}
    names: dict[str, str] = {}
    for named in (model.named_parameters, model.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            names[name] = first.setdefault(id(tensor), name)
    return names


def _spec(name: str, tensor: torch.Tensor) -> TensorSpec:
    dtype = BASE_DTYPE_NAMES.get(tensor.dtype)
    if dtype is None:
        known = ", ".join(BASE_DTYPE_NAMES.values())
        raise InputError(f"Tensor {name!r} is {tensor.dtype}: only {known} are carried.")
    return TensorSpec(name=name, dtype=dtype, shape=list(tensor.shape))  # type: ignore[arg-type]
