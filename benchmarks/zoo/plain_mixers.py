"""Mixers and transformers over patches, of plain torch."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from typing_extensions import override

from benchmarks.zoo.case import Batch, Entry, Zoo, images, parts
from benchmarks.zoo.plain_sequences import LENGTH, WORDS, counting

__all__ = ["MIXERS"]

Tensor = torch.Tensor


class Mixer(nn.Module):
    """An MLP-Mixer block (Tolstikhin 2021); [B, P, C] both ways."""

    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.tokens = nn.Sequential(nn.Linear(patches, 32), nn.GELU(), nn.Linear(32, patches))
        self.channels = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))

    @override
    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norms[0](x).mT).mT
        found: Tensor = x + self.channels(self.norms[1](x))
        return found


class Gated(nn.Module):
    """A gMLP block with its spatial gate (Liu 2021); [B, P, C] both ways."""

    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.norm, self.into = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.space, self.out = nn.Conv1d(patches, patches, 1), nn.Linear(width, width)
        nn.init.ones_(self.space.bias)  # type: ignore[arg-type]

    @override
    def forward(self, x: Tensor) -> Tensor:
        u, v = F.gelu(self.into(self.norm(x))).chunk(2, -1)
        found: Tensor = x + self.out(u * self.space(v))
        return found


def _patched(*blocks: nn.Module) -> nn.Module:
    """Return images [B, 3, 16, 16] -> scores, by blocks over patches [B, 16, 32]."""
    return nn.Sequential(nn.Conv2d(3, 32, 4, 4), nn.Flatten(2), _Swap(), *blocks, _Mean(),
                         nn.Linear(32, 4))  # fmt: skip


class _Swap(nn.Module):
    @override
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class _Mean(nn.Module):
    @override
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class Fourier(nn.Module):
    @override
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x).real


def _classify(model: Any, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch["x"]), batch["y"])


def _attention_block() -> nn.Module:
    return nn.TransformerEncoderLayer(32, 4, 64, 0.1, "gelu", batch_first=True, norm_first=True)


MIXERS: Final[Zoo] = {
    "MLP-Mixer": Entry(lambda: _patched(Mixer(16, 32), Mixer(16, 32)), images, _classify),
    "gMLP": Entry(lambda: _patched(Gated(16, 32), Gated(16, 32)), images, _classify),
    "ViT (nn.TransformerEncoder)": Entry(
        lambda: _patched(_attention_block(), _attention_block()), images, _classify
    ),
    "FNet (Fourier mixing)": Entry(
        lambda: _patched(Fourier()), images, _classify, "[Cc]omplex"
    ),
    "nn.Transformer": Entry(
        lambda: parts(embed=nn.Embedding(WORDS, 16), inner=nn.Transformer(
            16, 2, 1, 1, 32, batch_first=True), last=nn.Linear(16, WORDS)),
        counting,
        lambda m, b: F.cross_entropy(m.last(m.inner(
            m.embed(b["x"]), m.embed(b["x"]),
            tgt_mask=nn.Transformer.generate_square_subsequent_mask(LENGTH),
        )).flatten(0, 1), b["y"].flatten()),
    ),
}  # fmt: skip
