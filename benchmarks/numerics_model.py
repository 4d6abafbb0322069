"""The `model.py` of the benchmark's projects: ordinary convolutional networks as people write them.

Digits [batch, 8, 8] in, logits [batch, 10] out; the U-Net tells ink from paper [batch, 2, 8, 8].
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from typing_extensions import override

Batch = dict[str, torch.Tensor]


def model(kind: str) -> nn.Module:
    """Return the network of this kind; all take [batch, 8, 8]."""
    return KINDS[kind]()


def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    logits = model(batch["x"])
    target = (batch["x"] > 0.5).long() if logits.dim() == 4 else batch["y"]
    return cross_entropy(logits, target)


def evaluate(model: nn.Module, batch: Batch) -> Batch:
    return {"loss": loss(model, batch)}


def _stage(
    before: int, after: int, *, stride: int = 1, groups: int = 1, size: int = 3
) -> nn.Module:
    """Convolution with a bias that the norm takes back: the usual mistake, and not forbidden."""
    return nn.Sequential(
        nn.Conv2d(before, after, size, stride, padding=size // 2, groups=groups),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )


def _head(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]


def _plain() -> nn.Module:
    image = nn.Unflatten(1, (1, 8))
    return nn.Sequential(image, _stage(1, 16), _stage(16, 32), _stage(32, 32), *_head(32))


class _Residual(nn.Module):
    """A block of ResNet (He et al. 2016)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(
            _stage(before, after, stride=stride),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        same = before == after and stride == 1
        self.aside = nn.Identity() if same else nn.Conv2d(before, after, 1, stride, bias=False)

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.inside(x) + self.aside(x))


def _resnet() -> nn.Module:
    blocks = [_Residual(16, 16, 1), _Residual(16, 32, 2), _Residual(32, 64, 2)]
    return nn.Sequential(nn.Unflatten(1, (1, 8)), _stage(1, 16), *blocks, *_head(64))


class _Inverted(nn.Module):
    """A block of MobileNetV2 (Sandler et al. 2018)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        wide = 4 * before
        self.inside = nn.Sequential(
            nn.Conv2d(before, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride, padding=1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.adds = before == after and stride == 1

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inside(x)
        return x + y if self.adds else y


def _mobilenet() -> nn.Module:
    blocks = [
        _Inverted(16, 16, 1),
        _Inverted(16, 24, 2),
        _Inverted(24, 24, 1),
        _Inverted(24, 32, 2),
    ]
    return nn.Sequential(nn.Unflatten(1, (1, 8)), _stage(1, 16), *blocks, *_head(32))


class _UNet(nn.Module):
    """Ronneberger et al. 2015, with two levels."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.middle = _stage(1, 16), _stage(16, 32)
        self.pool, self.up = nn.MaxPool2d(2), nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.join, self.out = _stage(32, 16), nn.Conv2d(16, 2, 1)

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = self.down(x.unsqueeze(1))
        coarse = self.up(self.middle(self.pool(fine)))
        y: torch.Tensor = self.out(self.join(torch.cat([fine, coarse], 1)))
        return y


KINDS: Final = {
    "conv_bn_relu": _plain,
    "resnet": _resnet,
    "mobilenet_v2": _mobilenet,
    "unet": _UNet,
}
