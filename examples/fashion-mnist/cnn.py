"""A convolutional network of 61,000 parameters for 28 x 28 grey images in ten classes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy


def model(width: int = 16) -> nn.Module:
    """Three smooth convolutions and two linear layers."""

    def block(before: int, after: int) -> list[nn.Module]:
        convolution = nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False)
        return [convolution, nn.GroupNorm(4, after), nn.SiLU(), nn.AvgPool2d(2)]

    return nn.Sequential(
        nn.Unflatten(1, (1, 28)),  # [n, 28, 28] -> [n, 1, 28, 28]
        *block(1, width),
        *block(width, 2 * width),
        *block(2 * width, 4 * width),
        nn.Flatten(),
        nn.Linear(36 * width, 64, bias=False),
        nn.LayerNorm(64),
        nn.SiLU(),
        nn.Linear(64, 10),
    )


def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy in nats; the shards hold bytes from 0 to 255."""
    return cross_entropy(model(batch["x"].float() / 255), batch["y"])


def evaluate(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Loss, and the share of images that are classified correctly."""
    scores = model(batch["x"].float() / 255)
    right = scores.argmax(dim=1) == batch["y"]
    return {"loss": cross_entropy(scores, batch["y"]), "accuracy": right.float().mean()}


def showcase(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Scores of the ten classes, for the project's page."""
    scores: torch.Tensor = model(batch["x"].float() / 255)
    return scores
