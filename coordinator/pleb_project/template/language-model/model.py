"""A small language model over bytes: it predicts the next byte of a text."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

WINDOW = 64
"""As `window` in project.toml."""


class Block(nn.Module):
    """Attention and a layer, each on its norm; no bias before a norm or in query and key."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.layer = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the next layer's x [batch, time, width]."""
        batch, time, width = x.shape
        parts = self.mix(self.norm(x)).view(batch, time, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, time, width))
        out: torch.Tensor = x + self.layer(x)
        return out


class Bytes(nn.Module):
    """Scores [batch, time, 256] of the byte after each of x int64 [batch, time]."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.byte = nn.Embedding(256, width)
        self.place = nn.Parameter(torch.randn(WINDOW, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 256, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores."""
        scores: torch.Tensor = self.head(self.norm(self.blocks(self.byte(x) + self.place)))
        return scores


def model(width: int = 48, layers: int = 2, heads: int = 4) -> nn.Module:
    """Return the untrained model."""
    return Bytes(width, layers, heads)


def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the mean loss per byte: x int64 [batch, window], y the bytes that follow each."""
    return cross_entropy(model(batch["x"]).flatten(0, 1), batch["y"].flatten())


def evaluate(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return means over the batch."""
    return {"loss": loss(model, batch)}
