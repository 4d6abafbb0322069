"""The members of an ensemble as one module. This file needs only torch and safetensors.

    from averaged import load
    model = load("folder", make_model)  # make_model() returns an untrained member

`pleb-project export FAMILY FOLDER` writes it beside the members' weights.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import log_softmax

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Averaged", "load"]


class Averaged(nn.Module):
    """Returns the mean of what its members return for the same input.

    `of`: "outputs", or "probabilities": what they return are scores [..., classes], and the mean of
    their softmax comes back as its logarithm, which is a score again.
    """

    def __init__(self, members: Iterable[nn.Module], of: str = "outputs") -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.of = of

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the mean, in the form in which a member returns its part of it."""
        return self._mean([member(*args, **kwargs) for member in self.members])

    def _mean(self, found: list[Any]) -> Any:
        first = found[0]
        if isinstance(first, torch.Tensor):
            if not first.is_floating_point():
                message = f"A model that returns {first.dtype} cannot be averaged."
                raise TypeError(message)
            if self.of == "outputs":
                return torch.stack(found).mean(0)
            scores = torch.stack([log_softmax(one, -1) for one in found])
            return scores.logsumexp(0) - math.log(len(found))
        if isinstance(first, tuple | list):
            parts = [self._mean(list(part)) for part in zip(*found, strict=True)]
            return type(first)(parts)
        if isinstance(first, dict):
            return {name: self._mean([one[name] for one in found]) for name in first}
        message = f"A model that returns {type(first).__name__} cannot be averaged."
        raise TypeError(message)


def load(folder: str | Path, make_model: Callable[[], nn.Module], of: str = "outputs") -> Averaged:
    """Return the average of all members whose weights are in `folder`, in evaluation mode."""
    members = []
    for file in sorted(Path(folder).glob("*.safetensors")):
        member = make_model()
        member.load_state_dict(load_file(file))
        members.append(member)
    if not members:
        message = f"There are no members (*.safetensors) in {folder}."
        raise FileNotFoundError(message)
    return Averaged(members, of).eval()
