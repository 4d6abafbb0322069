"""A diffusion model: it predicts the noise in an image, and so makes images of noise, step by step.

Ho, Jain and Abbeel 2020, "Denoising diffusion probabilistic models", equation 14.
"""

from __future__ import annotations

import torch
from torch import nn

STEPS = 100
"""From an image to pure noise."""


class Denoiser(nn.Module):
    """The noise [batch, 64] in images [batch, 64] at steps t int64 [batch]."""

    signal: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.step = nn.Embedding(STEPS, width)
        self.first = nn.Linear(64, width)
        self.rest = nn.Sequential(
            nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 64)
        )
        left = torch.cumprod(1 - torch.linspace(1e-4, 0.05, STEPS), dim=0)
        self.register_buffer("signal", left)  # the share of the image that is left at each step

    def forward(self, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return the predicted noise."""
        noise: torch.Tensor = self.rest(self.first(noisy) + self.step(t))
        return noise


def model(width: int = 128) -> nn.Module:
    """Return the untrained model."""
    return Denoiser(width)


def loss(model: Denoiser, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the mean squared error of the predicted noise, at a step drawn for each image."""
    images = 2 * batch["x"].flatten(1) - 1
    t = torch.randint(STEPS, (images.shape[0],))
    noise = torch.randn_like(images)
    left = model.signal[t].unsqueeze(1)
    noisy = left.sqrt() * images + (1 - left).sqrt() * noise
    error: torch.Tensor = model(noisy, t) - noise
    return error.square().mean()


def evaluate(model: Denoiser, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return means over the batch."""
    return {"loss": loss(model, batch)}
