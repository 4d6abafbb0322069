"""The model of `manners`: one layer over and over, so that a count sets how long a step takes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from typing_extensions import override

WIDTH = 256


class Repeated(nn.Module):
    """`layers` times the same layer: about 0.1 GFLOP each, forward and backward.

    Each adds a little to what came in. Hundreds of layers without that have gradients of denormal
    numbers, with which a processor is ten times slower than the time of a few layers says.
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.count = layers
        self.first = nn.Linear(64, WIDTH)
        self.layer = nn.Linear(WIDTH, WIDTH)

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [batch, WIDTH] for images `x` [batch, 8, 8]."""
        x = self.first(x.flatten(1))
        for _ in range(self.count):
            x = x + torch.tanh(self.layer(x)) / self.count
        return x


def model(layers: int) -> nn.Module:
    return Repeated(layers)


def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return cross_entropy(model(batch["x"]), batch["y"])


def evaluate(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"loss": loss(model, batch)}
