"""A module's parameters and persistent buffers as the protocol names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import nn

from pleb_shared.errors import InputError
from pleb_shared.protocol.project import TensorSpec

if TYPE_CHECKING:
    from pleb_shared.tensors.layout import Tensors

__all__ = ["DTYPE_NAMES", "canonical_names", "initial_tensors", "tensor_specs"]

DTYPE_NAMES: Final = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.int64: "int64",
    torch.int32: "int32",
    torch.uint8: "uint8",
    torch.bool: "bool",
}
"""The dtypes that versions and data may have, by the names of the protocol."""


def tensor_specs(model: nn.Module) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Return the specs of parameters and persistent buffers, each once, in the model's order.

    Raises:
        InputError: a parameter is not float32, or a buffer's dtype is unknown.
    """
    persistent = model.state_dict().keys()
    parameters = [_spec(name, tensor) for name, tensor in model.named_parameters()]
    buffers = [_spec(name, t) for name, t in model.named_buffers() if name in persistent]
    for spec in parameters:
        if spec.dtype != "float32":
            raise InputError(f"Parameter {spec.name!r} is {spec.dtype}: make it float32.")
    return parameters, buffers


def initial_tensors(model: nn.Module, specs: list[TensorSpec]) -> Tensors:
    """Return copies of the model's tensors by name."""
    state = model.state_dict()
    return {spec.name: np.array(state[spec.name].detach().cpu().numpy()) for spec in specs}


def canonical_names(model: nn.Module) -> dict[str, str]:
    """Return the first name of the tensor behind every name of a parameter or buffer."""
    first: dict[int, str] = {}
    names: dict[str, str] = {}
    for named in (model.named_parameters, model.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            names[name] = first.setdefault(id(tensor), name)
    return names


def _spec(name: str, tensor: torch.Tensor) -> TensorSpec:
    dtype = DTYPE_NAMES.get(tensor.dtype)
    if dtype is None:
        known = ", ".join(DTYPE_NAMES.values())
        raise InputError(f"Tensor {name!r} is {tensor.dtype}: only {known} are carried.")
    return TensorSpec(name=name, dtype=dtype, shape=list(tensor.shape))  # type: ignore[arg-type]
