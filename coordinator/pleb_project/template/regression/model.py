"""A regression: a number is predicted from a row of numbers."""

from __future__ import annotations

import torch
from torch import nn

MEAN, SPREAD = 152.0, 77.0
"""Of the target: the model predicts (y - MEAN) / SPREAD, a number near 1, which trains faster."""


def model() -> nn.Module:
    """Return the untrained model."""
    return nn.Sequential(nn.Linear(10, 32), nn.SiLU(), nn.Linear(32, 1))


def predict(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the predictions [batch], in the target's unit."""
    outputs: torch.Tensor = model(batch["x"])
    return outputs.squeeze(1) * SPREAD + MEAN


def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the mean squared error, over SPREAD."""
    return ((predict(model, batch) - batch["y"]) / SPREAD).square().mean()


def evaluate(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return means over the batch: the loss, and the error in the target's unit."""
    error = (predict(model, batch) - batch["y"]).abs().mean()
    return {"loss": loss(model, batch), "absolute_error": error}


def showcase(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return what the project's page shows beside the truth: [batch], in the target's unit."""
    return predict(model, batch)
