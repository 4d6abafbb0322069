"""U-Nets and others that predict every pixel, of plain torch."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from typing_extensions import override

from benchmarks.zoo.case import Batch, Entry, Zoo, noise
from benchmarks.zoo.plain_images import Joined, conv_norm

__all__ = ["DENSE"]

Tensor = torch.Tensor


class UNet(nn.Module):
    """Conv-BN-ReLU down and up again with skips (Ronneberger 2015); [B, 1, 16, 16] both ways."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down1, self.down2 = conv_norm(1, width, 3), conv_norm(width, 2 * width, 3)
        self.middle = conv_norm(2 * width, 2 * width, 3)
        self.up = nn.ConvTranspose2d(2 * width, 2 * width, 2, 2)
        self.up1, self.up2 = conv_norm(4 * width, width, 3), conv_norm(2 * width, width, 3)
        self.last = nn.Conv2d(width, 1, 1)

    @override
    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        y = self.up(self.middle(F.max_pool2d(second, 2)))
        y = self.up1(torch.cat([y, second], 1))
        y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
        found: Tensor = self.last(self.up2(torch.cat([y, first], 1)))
        return found


def _segmentation() -> Batch:
    x = noise(1, 16, 16)
    return {"x": x, "y": (F.avg_pool2d(x, 3, 1, 1) > 0).float()}


def _mask_loss(model: Any, batch: Batch) -> Tensor:
    scores, y = model(batch["x"]), batch["y"]
    p = scores.sigmoid()
    dice = 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
    return F.binary_cross_entropy_with_logits(scores, y) + dice


def _pyramid() -> nn.Module:
    rates = [nn.Conv2d(8, 8, 3, padding=r, dilation=r) for r in (1, 2, 4)]
    return nn.Sequential(conv_norm(1, 8, 3, stride=2), Joined(*rates), nn.ReLU(),
                         nn.Conv2d(24, 1, 1),
                         nn.Upsample(scale_factor=2, mode="bilinear"))  # fmt: skip


def _fcn() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1),
                         nn.ReLU(), nn.ConvTranspose2d(16, 1, 4, 2, 1))  # fmt: skip


def _super_resolution(model: Any, batch: Batch) -> Tensor:
    low = F.interpolate(batch["x"], scale_factor=0.5, mode="bicubic", antialias=True)
    return F.l1_loss(model(low), batch["x"])


def _denoise(model: Any, batch: Batch) -> Tensor:
    e = 0.3 * torch.randn_like(batch["x"])
    return F.mse_loss(model(batch["x"] + e), e)


DENSE: Final[Zoo] = {
    "U-Net": Entry(UNet, _segmentation, _mask_loss),
    "DeepLab (dilated pyramid)": Entry(_pyramid, _segmentation, _mask_loss),
    "FCN": Entry(_fcn, _segmentation, _mask_loss),
    "ESPCN (super-resolution)": Entry(
        lambda: nn.Sequential(nn.Conv2d(1, 16, 5, 1, 2), nn.Tanh(), nn.Conv2d(16, 4, 3, 1, 1),
                              nn.PixelShuffle(2)),
        _segmentation, _super_resolution,
    ),
    "DnCNN (denoising)": Entry(
        lambda: nn.Sequential(conv_norm(1, 16, 3), conv_norm(16, 16, 3), nn.Conv2d(16, 1, 3, 1, 1)),
        _segmentation,
        _denoise,
    ),
}  # fmt: skip
