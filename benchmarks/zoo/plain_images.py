"""Convolutional classifiers of plain torch, small, as papers describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from typing_extensions import override

from benchmarks.zoo.case import Batch, Entry, Zoo, images, parts

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CONVOLUTIONAL"]

Tensor = torch.Tensor


def _classify(model: Any, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch["x"]), batch["y"])


def _classifier(make: Callable[[], nn.Module], channels: int = 3) -> Entry:
    return Entry(make, lambda: images(channels), _classify)


class Sum(nn.Module):
    """x + f(x), or a projection of x + f(x)."""

    def __init__(self, inner: nn.Module, project: nn.Module | None = None) -> None:
        super().__init__()
        self.inner, self.project = inner, project or nn.Identity()

    @override
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.project(x) + self.inner(x)
        return found


class Joined(nn.Module):
    """What several branches give for x, along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    @override
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Excite(nn.Module):
    """Squeeze and excitation (Hu et al. 2018); x is [B, C, H, W]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, 4, 1), nn.ReLU(), nn.Conv2d(4, width, 1)
        )

    @override
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.gate(x))


class Shuffle(nn.Module):
    """A ShuffleNet v2 unit: half of the channels go through `inner`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.inner = nn.Sequential(
            conv_norm(half, half, 1),
            conv_norm(half, half, 3, groups=half, act=None),
            conv_norm(half, half, 1),
        )

    @override
    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, dim=1)
        return F.channel_shuffle(torch.cat([kept, self.inner(changed)], 1), 2)


class Ghost(nn.Module):
    """A Ghost module: half of the channels are cheap copies of the other half (Han 2020)."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.first = conv_norm(into, out // 2, 1)
        self.cheap = conv_norm(out // 2, out // 2, 3, groups=out // 2)

    @override
    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        return torch.cat([first, self.cheap(first)], 1)


class Dropped(nn.Module):
    """Stochastic depth: a block that is left out for some examples (Huang 2016)."""

    def __init__(self, inner: nn.Module, rate: float) -> None:
        super().__init__()
        self.inner, self.rate = inner, rate

    @override
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner(x)
        if self.training:
            kept = torch.empty(len(x), 1, 1, 1).bernoulli_(1 - self.rate)
            found = found * kept / (1 - self.rate)
        return x + found


def conv_norm(
    into: int, out: int, size: int, *, stride: int = 1, groups: int = 1, act: Any = nn.ReLU
) -> nn.Sequential:
    """Return Conv-BN-act, as most backbones are made of."""
    layers = [
        nn.Conv2d(into, out, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
    ]
    return nn.Sequential(*layers, *([act()] if act else []))


def _head(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4)]


def _residual(width: int, *, groups: int = 1, drop: float = 0.0) -> nn.Module:
    inner = nn.Sequential(
        conv_norm(width, width, 3, groups=groups),
        nn.Dropout(drop),
        conv_norm(width, width, 3, act=None),
    )
    return nn.Sequential(Sum(inner), nn.ReLU(inplace=True))


def _bottleneck(width: int, act: Any = nn.ReLU6) -> nn.Module:
    """Return an inverted residual (Sandler 2018)."""
    inner = nn.Sequential(
        conv_norm(width, 4 * width, 1, act=act),
        conv_norm(4 * width, 4 * width, 3, groups=4 * width, act=act),
        conv_norm(4 * width, width, 1, act=None),
    )
    return Sum(inner)


def _mbconv(width: int) -> nn.Module:
    inner = nn.Sequential(
        conv_norm(width, 4 * width, 1, act=nn.SiLU),
        conv_norm(4 * width, 4 * width, 3, groups=4 * width, act=nn.SiLU),
        Excite(4 * width),
        conv_norm(4 * width, width, 1, act=None),
    )
    return Dropped(inner, 0.1)


def _dense_block(width: int, growth: int = 8) -> nn.Module:
    return Joined(nn.Identity(), nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(),
                  nn.Conv2d(width, growth, 3, 1, 1, bias=False)))  # fmt: skip


def _inception(width: int) -> nn.Module:
    return Joined(
        conv_norm(width, 8, 1),
        nn.Sequential(conv_norm(width, 8, 1), conv_norm(8, 8, 3)),
        nn.Sequential(conv_norm(width, 8, 1), conv_norm(8, 8, 5)),
        nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_norm(width, 8, 1)),
    )


def _repvgg(width: int) -> nn.Module:
    both = Sum(conv_norm(width, width, 3, act=None), conv_norm(width, width, 1, act=None))
    return nn.Sequential(Sum(both, nn.BatchNorm2d(width)), nn.ReLU())


def _mixer_conv(width: int) -> nn.Module:
    depthwise = nn.Sequential(
        nn.Conv2d(width, width, 5, padding=2, groups=width), nn.GELU(), nn.BatchNorm2d(width)
    )
    return nn.Sequential(
        Sum(depthwise), nn.Conv2d(width, width, 1), nn.GELU(), nn.BatchNorm2d(width)
    )


class ConvNext(nn.Module):
    """A ConvNeXt block with its layer scale (Liu 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    @override
    def forward(self, x: Tensor) -> Tensor:
        inner = self.depthwise(x).permute(0, 2, 3, 1)
        return x + (self.scale * self.mlp(self.norm(inner))).permute(0, 3, 1, 2)


def _stack(first: nn.Module, *rest: nn.Module, width: int = 32) -> nn.Module:
    return nn.Sequential(first, *rest, *_head(width))


def _lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 3), nn.Tanh(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 4),
    )  # fmt: skip


def _alexnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(),
        nn.Linear(512, 64), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(64, 4),
    )  # fmt: skip


def _vgg() -> nn.Module:
    return _stack(conv_norm(3, 16, 3), conv_norm(16, 16, 3), nn.MaxPool2d(2), conv_norm(16, 32, 3),
                  conv_norm(32, 32, 3), nn.MaxPool2d(2))  # fmt: skip


def _squeezenet() -> nn.Module:
    fire = Joined(nn.Conv2d(8, 16, 1), nn.Conv2d(8, 16, 3, padding=1))
    return _stack(nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.ReLU(), fire,
                  nn.ReLU())  # fmt: skip


def _resnet(**options: Any) -> nn.Module:
    down = Sum(nn.Sequential(conv_norm(16, 32, 3, stride=2), conv_norm(32, 32, 3, act=None)),
               conv_norm(16, 32, 1, stride=2, act=None))  # fmt: skip
    return _stack(conv_norm(3, 16, 3), _residual(16, **options), down, nn.ReLU(),
                  _residual(32, **options))  # fmt: skip


CONVOLUTIONAL: Final[Zoo] = {
    "LeNet": _classifier(_lenet),
    "AlexNet": _classifier(_alexnet),
    "VGG (batch norm)": _classifier(_vgg),
    "ResNet": _classifier(_resnet),
    "ResNeXt": _classifier(lambda: _resnet(groups=4)),
    "Wide ResNet (dropout)": _classifier(lambda: _resnet(drop=0.2)),
    "SE-ResNet": _classifier(
        lambda: _stack(conv_norm(3, 32, 3, stride=2), _residual(32), Excite(32), _residual(32))
    ),
    "SqueezeNet": _classifier(_squeezenet),
    "Inception": _classifier(lambda: _stack(conv_norm(3, 16, 3, stride=2), _inception(16))),
    "DenseNet": _classifier(
        lambda: _stack(nn.Conv2d(3, 16, 3, 2, 1), _dense_block(16), _dense_block(24))
    ),
    "MobileNetV1": _classifier(
        lambda: _stack(conv_norm(3, 16, 3, stride=2), conv_norm(16, 16, 3, groups=16),
                       conv_norm(16, 32, 1))
    ),
    "MobileNetV2": _classifier(
        lambda: _stack(conv_norm(3, 16, 3, stride=2, act=nn.ReLU6), _bottleneck(16),
                       _bottleneck(16), conv_norm(16, 32, 1, act=nn.ReLU6))
    ),
    "MobileNetV3": _classifier(
        lambda: _stack(conv_norm(3, 16, 3, stride=2, act=nn.Hardswish),
                       _bottleneck(16, nn.Hardswish), Excite(16), conv_norm(16, 32, 1))
    ),
    "EfficientNet": _classifier(
        lambda: _stack(conv_norm(3, 16, 3, stride=2, act=nn.SiLU), _mbconv(16), _mbconv(16),
                       conv_norm(16, 32, 1, act=nn.SiLU))
    ),
    "ShuffleNetV2": _classifier(
        lambda: _stack(conv_norm(3, 32, 3, stride=2), Shuffle(32), Shuffle(32))
    ),
    "GhostNet": _classifier(lambda: _stack(conv_norm(3, 16, 3, stride=2), Ghost(16, 32))),
    "RepVGG": _classifier(lambda: _stack(conv_norm(3, 32, 3, stride=2), _repvgg(32), _repvgg(32))),
    "ConvMixer": _classifier(
        lambda: _stack(nn.Conv2d(3, 32, 2, 2), nn.GELU(), _mixer_conv(32), _mixer_conv(32))
    ),
    "ConvNeXt": _classifier(
        lambda: _stack(nn.Conv2d(3, 32, 2, 2), ConvNext(32), ConvNext(32))
    ),
    "stochastic depth": _classifier(
        lambda: _stack(conv_norm(3, 32, 3, stride=2), Dropped(conv_norm(32, 32, 3), 0.2))
    ),
    "group norm, weight standardisation": Entry(
        lambda: parts(first=nn.Conv2d(3, 16, 3), norm=nn.GroupNorm(4, 16), last=nn.Linear(16, 4)),
        images,
        lambda m, b: F.cross_entropy(m.last(F.relu(m.norm(F.conv2d(
            b["x"], _standardised(m.first.weight), m.first.bias))).mean((2, 3))), b["y"]),
    ),
}  # fmt: skip


def _standardised(weight: Tensor) -> Tensor:
    std, mean = torch.std_mean(weight, dim=(1, 2, 3), keepdim=True)
    return (weight - mean) / (std + 1e-5)
