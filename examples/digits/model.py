"""A small convolutional network for 8 x 8 digits: smooth, so that honest results agree."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy


def model(width: int = 16) -> nn.Module:
    """SiLU instead of ReLU, average pooling, no bias before a norm: see docs/project-file.md."""

    def block(before: int, after: int) -> list[nn.Module]:
        convolution = nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False)
        return [convolution, nn.GroupNorm(4, after), nn.SiLU()]

    return nn.Sequential(
        nn.Unflatten(1, (1, 8)),  # [n, 8, 8] -> [n, 1, 8, 8]
        *block(1, width),
        *block(width, 2 * width),
        nn.AvgPool2d(2),
        *block(2 * width, 2 * width),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, 10),
    )


def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy in nats."""
    return cross_entropy(model(batch["x"]), batch["y"])


def evaluate(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Loss, and the share of digits that are read right."""
    scores = model(batch["x"])
    right = scores.argmax(dim=1) == batch["y"]
    return {"loss": cross_entropy(scores, batch["y"]), "accuracy": right.float().mean()}
