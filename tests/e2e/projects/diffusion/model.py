"""A diffusion model of 8 x 8 digits (Ho, Jain and Abbeel 2020), measured with noise that stays."""

from __future__ import annotations

import torch
from torch import nn

STEPS = 50
MEASURED = (5, 20, 40)


class Denoiser(nn.Module):
    """The noise [batch, 64] in images [batch, 64] at steps t int64 [batch]."""

    signal: torch.Tensor
    noise: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Embedding(STEPS, 64)
        self.first = nn.Linear(64, 64)
        self.rest = nn.Sequential(nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64))
        self.register_buffer("signal", torch.cumprod(1 - torch.linspace(1e-3, 0.1, STEPS), dim=0))
        self.register_buffer("noise", torch.randn(64))

    def forward(self, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.rest(self.first(noisy) + self.step(t))
        return result


def model() -> nn.Module:
    return Denoiser()


def error(
    model: Denoiser, images: torch.Tensor, t: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    left = model.signal[t].unsqueeze(1)
    found: torch.Tensor = model(left.sqrt() * images + (1 - left).sqrt() * noise, t)
    return (found - noise).square().mean()


def loss(model: Denoiser, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    images = 2 * batch["x"].flatten(1) - 1
    t = torch.randint(STEPS, (images.shape[0],))
    return error(model, images, t, torch.randn_like(images))


def evaluate(model: Denoiser, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    images = 2 * batch["x"].flatten(1) - 1
    noise = model.noise.expand_as(images)
    steps = [torch.full((images.shape[0],), t) for t in MEASURED]
    return {"loss": torch.stack([error(model, images, t, noise) for t in steps]).mean()}
