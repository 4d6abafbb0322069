"""A U-Net (Ronneberger, Fischer and Brox 2015): where in a noisy image is ink?"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits


def stage(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.GroupNorm(2, outside), nn.SiLU()
    )


class UNet(nn.Module):
    """Images [batch, 1, 8, 8] to scores of the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.lower, self.bottom = stage(1, 8), stage(8, 16), stage(16, 16)
        self.raise_lower = nn.ConvTranspose2d(16, 16, 2, stride=2)
        self.up_lower = stage(32, 16)
        self.raise_up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.up = stage(16, 8)
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        whole = self.down(x)
        half = self.lower(avg_pool2d(whole, 2))
        quarter = self.bottom(avg_pool2d(half, 2))
        half = self.up_lower(torch.cat([self.raise_lower(quarter), half], dim=1))
        scores: torch.Tensor = self.head(self.up(torch.cat([self.raise_up(half), whole], dim=1)))
        return scores


def model() -> nn.Module:
    return UNet()


def images_and_ink(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    images = batch["x"].unsqueeze(1)
    return images, (images > 0.5).float()


def loss(model: UNet, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    images, ink = images_and_ink(batch)
    noisy = images + 0.2 * torch.randn_like(images)
    return binary_cross_entropy_with_logits(model(noisy), ink)


def evaluate(model: UNet, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    images, ink = images_and_ink(batch)
    scores = model(images)
    right = ((scores > 0).float() == ink).float().mean()
    return {"loss": binary_cross_entropy_with_logits(scores, ink), "accuracy": right}
