"""What an entry of the zoo is: a model, examples it can learn from, and its loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Batch", "Entry", "Zoo", "images", "noise", "parts", "relu_mlp", "whole"]

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Entry:
    """A model as a researcher would write it, small; every input is [examples, ...]."""

    make: Callable[[], nn.Module]
    examples: Callable[[], Batch]
    loss: Callable[[Any, Batch], torch.Tensor]
    refusal: str = ""
    """What the sentence says where it cannot be trained; "" if it can."""
    optimizer: str = "adamw"
    batch: int = 8
    """Examples of a step."""


Zoo = dict[str, Entry]
"""Entries of a family, by name."""

EXAMPLES = 48
"""Of each entry, a quarter of them for the holdout."""


def parts(**named: Any) -> nn.Module:
    """Return a module that has layers, lists of layers and parameters by the given names."""
    module = nn.Module()
    for name, part in named.items():
        setattr(module, name, nn.ModuleList(part) if isinstance(part, list) else part)
    return module


def relu_mlp(into: int, out: int, hidden: int = 32) -> nn.Sequential:
    """Return a perceptron with one hidden layer."""
    return nn.Sequential(nn.Linear(into, hidden), nn.ReLU(), nn.Linear(hidden, out))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return normal numbers [examples, *shape], always the same."""
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn((EXAMPLES, *shape), generator=generator)


def whole(below: int, *shape: int, seed: int = 0) -> torch.Tensor:
    """Return whole numbers from 0 [examples, *shape], always the same."""
    generator = torch.Generator().manual_seed(seed + below + sum(shape))
    return torch.randint(0, below, (EXAMPLES, *shape), generator=generator)


def images(channels: int = 3, size: int = 16, classes: int = 4) -> Batch:
    """Return `x` [examples, channels, size, size] and `y` [examples], which shows in `x`."""
    y = whole(classes)
    x = noise(channels, size, size)
    rows = torch.arange(size) % classes
    return {"x": x + 2 * (rows[None, :] == y[:, None]).float()[:, None, :, None], "y": y}
