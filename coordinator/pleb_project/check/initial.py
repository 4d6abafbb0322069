"""Start a project from a file of weights, which must have exactly the model's tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pleb_project.export.model_tensors import canonical_names
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import nn

__all__ = ["load_initial"]

_SHOWN: Final = 3


def load_initial(model: nn.Module, file: Path) -> None:
    """Copy the tensors of a safetensors file into the model.

    Every tensor must have its name and shape in the model; a float may have another precision. A
    tensor that the model knows by several names is in the file under one of them or more.

    Raises:
        InputError: the file cannot be read or does not fit; the message names what differs.
    """
    try:
        given = load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{file}, initial in [model], cannot be read as safetensors ({error}): save one with "
            "`safetensors.torch.save_file(model.state_dict(), ...)`, or name PROJECT@VERSION."
        ) from error
    state, first = model.state_dict(), canonical_names(model)
    named = {first.get(name, name): name for name in given}
    wanted = {first.get(name, name): tensor for name, tensor in state.items()}
    faults = []
    if missing := wanted.keys() - named.keys():
        faults.append(f"it lacks {_some(missing)}")
    if more := named.keys() - wanted.keys():
        faults.append(f"the model has no {_some(more)}")
    faults += [
        f"{name!r} is {_kind(given[named[name]])} there and {_kind(tensor)} in the model"
        for name, tensor in wanted.items()
        if name in named and not _fits(given[named[name]], tensor)
    ]
    if faults:
        hint = _hint(given.keys(), state.keys())
        raise InputError(
            f"{file}, initial in [model], does not fit: {'; '.join(faults[:4])}.{hint}"
        )
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(given[named[name]])


def _fits(given: torch.Tensor, wanted: torch.Tensor) -> bool:
    alike = given.dtype == wanted.dtype or (
        given.is_floating_point() and wanted.is_floating_point()
    )
    return alike and given.shape == wanted.shape


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(map(repr, listed[:_SHOWN])) + more


def _hint(given: Iterable[str], wanted: Iterable[str]) -> str:
    """Return what helps if all names differ by what stands in front of them, else nothing."""
    given, wanted = set(given), set(wanted)
    for prefix in sorted({name.partition(".")[0] + "." for name in given | wanted}):
        if wanted == {name.removeprefix(prefix) for name in given}:
            return f" Without {prefix!r} in front the names are the model's: rename them."
        if given == {name.removeprefix(prefix) for name in wanted}:
            return f" With {prefix!r} in front the names are the model's: rename them."
    return ""
